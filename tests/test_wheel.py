"""What `pip install tracecall` gives: the command, the demos, and no package called `models`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, run as someone outside this checkout; it must exit with 0."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | {"COLUMNS": "120", "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no build folder stays in the checkout. Needs no network."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("tracecall", "models"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", source / "wheels", source),
        cwd=source,
    )
    (built,) = (source / "wheels").iterdir()
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment: the wheel, and from this environment all that it depends on."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    run(
        *(sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--quiet", "--no-index", "--no-deps"),
        wheel,
        cwd=environment,
    )
    # A .pth only lengthens sys.path: an editable install's own .pth in there is not read, so that cannot stand in.
    folder = run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=environment)
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(folder.strip(), "dependencies.pth").write_text("\n".join(here))
    return scripts / "python"


def test_the_wheel_holds_the_package_its_types_and_the_demos(wheel: Path) -> None:
    """`models/` is in it as tracecall/models, and nothing else is at its top."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {"tracecall/py.typed", "tracecall/cli/__init__.py", "tracecall/models/cnn.py"} <= set(names)
    top = {name.partition("/")[0] for name in names}
    assert {one for one in top if not one.endswith(".dist-info")} == {"tracecall"}
    assert not [name for name in names if name.startswith("tracecall/") and name.count("tests")]


def test_every_package_is_in_the_wheel(wheel: Path) -> None:
    """pyproject.toml lists packages one by one: a new folder must not be forgotten there."""
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tracecall").rglob("*.py")}
    files |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "tracecall/views/page").glob("*.*")}
    demos = {f"tracecall/models/{path.name}" for path in (ROOT / "models").glob("*.py")}
    assert files | demos <= names


def test_the_wheel_runs_the_cnn_from_another_folder(python: Path, tmp_path: Path) -> None:
    """The command that pip puts beside Python, in a folder where no checkout is near."""
    tree = run(python.with_name("tracecall"), "run", "cnn", cwd=tmp_path)
    assert "CNN.__call__" in tree
    assert "conv1" in tree


def test_the_wheel_installs_one_package(python: Path, tmp_path: Path) -> None:
    """tracecall and its demos come from the wheel; a package called `models` does not exist."""
    look = (
        "import importlib.util, tracecall, tracecall.models.cnn as cnn;"
        "print(tracecall.__file__, cnn.__file__, importlib.util.find_spec('models'), sep='\\n')"
    )
    package, demo, models = run(python, "-c", look, cwd=tmp_path).splitlines()
    assert Path(package).is_relative_to(python.parent.parent)
    assert Path(demo).is_relative_to(python.parent.parent)
    assert models == "None"
