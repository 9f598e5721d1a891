"""README.md says nothing that does not work: its commands and examples run as they stand on the page."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts import readme

ROOT = Path(__file__).resolve().parent.parent


def lines(name: str) -> list[str]:
    """Every command of the blocks called `name`."""
    return [line for block in readme.blocks() if block.name == name for line in block.text.splitlines()]


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A folder as a reader has it: `models/`, net.py, and `tracecall` on PATH."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "net.py").write_text(readme.named("net"))
    command = tmp_path / "bin" / "tracecall"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tracecall "$@"\n')
    command.chmod(0o755)
    return tmp_path


def as_reader(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_a_set_up_command_is_one_line_that_starts_from_nothing(name: str) -> None:
    """Each makes its own environment and installs the pinned versions, so it works first and alone."""
    (command,) = lines(name)
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ")


def test_the_set_up_commands_use_what_exists() -> None:
    """The extras, the script and the check script that they name are there."""
    (demo,) = lines("demo")
    (tests,) = lines("tests")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert demo.endswith("/tracecall run cnn")
    assert "tracecall" in project["scripts"]
    extras = tests.partition("'.[")[2].partition("]'")[0].split(",")
    assert extras
    assert set(extras) <= set(project["optional-dependencies"])
    assert (ROOT / tests.split()[-1]).is_file()


def test_ci_runs_the_set_up_commands_and_no_copy_of_them() -> None:
    """.ci/run takes both from the page, so the page cannot go stale."""
    script = (ROOT / ".ci" / "run").read_text()
    assert 'scripts/readme.py "$name"' in script
    assert "for name in demo tests;" in script
    assert "pip install" not in script


def test_every_dependency_is_pinned() -> None:
    """constraints.txt names a version of each requirement, so that the set-up commands install what the tests passed on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {requirement.partition(">")[0] for requirement in wanted}
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert names <= pinned


def test_the_pictures_are_there() -> None:
    """Each picture on the page is one that scripts/pictures.py draws."""
    from scripts.pictures import PICTURES

    text = readme.README.read_text()
    for name in PICTURES:
        assert f"(docs/{name}.svg)" in text
        assert (ROOT / "docs" / f"{name}.svg").is_file()


@pytest.mark.parametrize("command", lines("run"))
def test_a_command_works(command: str, reader: Path) -> None:
    """Each exits 0; one that asks for CUDA says in one line that there is none where there is none."""
    done = as_reader(reader, "sh", "-c", command)
    import torch

    if "cuda" in command and not torch.cuda.is_available():
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", lines("fails"))
def test_a_command_that_should_fail_does_so_at_the_view(command: str, reader: Path) -> None:
    """Exit status 1, and the failing expression is on the screen."""
    done = as_reader(reader, "sh", "-c", command)
    assert done.returncode == 1, done.stderr
    assert "x.view(" in done.stdout


def test_the_python_examples_run(reader: Path) -> None:
    """The page's Python, run as one script."""
    script = "\n".join(block.text for block in readme.blocks() if block.name == "python")
    done = as_reader(reader, sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    assert "Linear" in done.stdout


def test_every_block_is_named() -> None:
    """A block without a name would be one that nobody runs."""
    assert {block.name for block in readme.blocks()} == {"demo", "tests", "run", "fails", "net", "python"}
