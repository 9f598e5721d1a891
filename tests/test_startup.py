"""torch takes seconds to import, so only a command that runs a model imports it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def imported_by(*arguments: str) -> set[str]:
    """The top-level modules that a new interpreter imports for `python ARGUMENTS`; it must exit with 0.

    Read from its own import log, which misses a module that importlib.import_module() brings but not that one's parts.
    """
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    log = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in log}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "tracecall", "--help"),
        ("-m", "tracecall", "--version"),
        ("-m", "tracecall", "run", "--help"),
        ("-m", "tracecall", "explain", "--help"),
        ("-c", "import tracecall"),
        ("-c", "import tracecall.calls"),
        ("-c", "import tracecall.cli"),
    ],
    ids=" ".join,
)
def test_torch_is_not_imported(arguments: tuple[str, ...]) -> None:
    """Help, the version and the data types come without torch, and without numpy."""
    modules = imported_by(*arguments)
    assert "tracecall" in modules
    assert not {"torch", "numpy"} & modules


def test_rich_is_not_imported_with_the_data_types() -> None:
    """A trace can be read and searched without the views; rich comes with the first print."""
    assert not {"rich", "typer"} & imported_by("-c", "import tracecall.calls")


@pytest.mark.parametrize(
    "arguments",
    [("-m", "tracecall", "--help"), ("-m", "tracecall", "explain", "--help"), ("-c", "import tracecall.cli")],
    ids=" ".join,
)
def test_the_commands_come_without_rich(arguments: tuple[str, ...]) -> None:
    """However many there are: rich, and the data types that they print, come when something is printed."""
    assert not {"rich", "msgspec"} & imported_by(*arguments)


def test_the_import_log_shows_torch_where_it_is_imported() -> None:
    """The tests above can fail: a command that runs a model does import torch, and the log says so."""
    assert {"torch", "tracecall"} <= imported_by("-m", "tracecall", "run", "linear")


@pytest.mark.parametrize("collects", [True, False])
def test_the_model_is_loaded_with_the_garbage_collector_as_it_was(tmp_path: Path, collects: bool) -> None:
    """It is held only while torch is imported: a model's own file may make garbage, and what follows is measured."""
    file = tmp_path / "net.py"
    file.write_text(
        "import gc\nfrom torch import nn\nprint('while loading', gc.isenabled())\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        print('in forward', gc.isenabled())\n"
        "        return x\n"
    )
    begin = f"import gc; gc.{'enable' if collects else 'disable'}(); import tracecall.cli; tracecall.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", begin, "run", f"{file}:Net", "--input", "2,3", "--repeat", "0"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert f"while loading {collects}" in said
    assert f"in forward {collects}" in said
    assert f"{not collects}" not in said


def test_a_run_without_numpy_writes_nothing_on_stderr() -> None:
    """torch needs no numpy but warns where there is none; the core does without it, so its users never see that."""
    without_numpy = "import sys; sys.modules['numpy'] = None; import tracecall.cli; tracecall.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", without_numpy, "run", "linear"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
