"""`tracecall show FILE`, and the files that `run` and `show` write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tracecall
from tracecall import tracefile
from tracecall.calls import Call, Environment, ModelInfo, Trace

ROOT = Path(__file__).resolve().parent.parent


def command(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`tracecall ARGUMENTS` in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-m", "tracecall", *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "COLUMNS": "120", "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The CNN's trace with all operations, as `run --save` writes it."""
    file = tmp_path_factory.mktemp("saved") / "cnn.json.gz"
    done = command("run", "cnn", "--repeat", "1", "--warmup", "0", "--ops", "all", "--save", file)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"the trace written to {file}\n"
    file.with_suffix(".txt").write_text(done.stdout, encoding="utf-8")
    return file


def test_what_was_saved_is_shown_as_the_run_showed_it(saved):
    """Letter by letter: times, shapes, lines, the prediction."""
    done = command("show", saved, "--ops", "all")
    assert done.returncode == 0, done.stderr
    assert done.stdout == saved.with_suffix(".txt").read_text(encoding="utf-8")
    assert "conv1" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments", [(), ("--sort", "time"), ("--json",), ("--explain", "--no-fold"), ("--only", "conv1")]
)
def test_torch_is_not_imported(arguments, saved):
    """A trace can be read where there is no torch at all."""
    without = (
        "import sys; sys.modules['torch'] = None; sys.modules['numpy'] = None; import tracecall.cli as c; c.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without, "show", str(saved), *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "conv1" in done.stdout


def test_json_is_the_trace_itself(saved):
    """And nothing else on stdout, so that it can be read by another program."""
    done = command("show", saved, "--json")
    assert json.loads(done.stdout)["model"]["name"] == "CNN"
    assert done.stdout.encode() == tracefile.encoded(tracecall.load(saved)) + b"\n"


def test_a_table_is_shown_of_a_file(saved):
    done = command("show", saved, "--sort", "params")
    assert done.returncode == 0
    assert "▾ params" in done.stdout


def test_a_file_is_saved_again(saved, tmp_path):
    """With another ending: unpacked, to be read by eye."""
    done = command("show", saved, "--depth", "0", "--save", tmp_path / "plain.json")
    assert done.returncode == 0, done.stderr
    assert tracecall.load(tmp_path / "plain.json") == tracecall.load(saved)


@pytest.mark.parametrize(
    ("option", "begins"),
    [("--html", "<!doctype html>"), ("--perfetto", "{"), ("--svg", "<svg"), ("--mermaid", "flowchart")],
)
def test_each_picture_is_a_file_of_its_own(option, begins, saved, tmp_path):
    """One line on stderr says where it is; the tree is printed beside it, or whatever else is asked for."""
    done = command("show", saved, "--depth", "1", option, tmp_path / "made")
    assert done.returncode == 0, done.stderr
    assert begins in (tmp_path / "made").read_text(encoding="utf-8")[:200].lower()
    assert done.stderr.splitlines()[-1].endswith(f"written to {tmp_path / 'made'}")
    assert "CNN.__call__" in done.stdout
    assert [one.name for one in tmp_path.iterdir()] == ["made"]


def test_a_run_that_failed_is_saved_too(tmp_path):
    """With its cause; the exit status is that of the run, and of showing it, 0: the command did what it was asked."""
    file = tmp_path / "failed.json"
    done = command("run", "cnn", "--input", "1,3,20,20", "--save", file)
    assert done.returncode == 1
    shown = command("show", file)
    assert shown.returncode == 0
    assert shown.stdout == done.stdout
    assert "✗" in shown.stdout


def test_a_place_that_cannot_be_written_is_refused_before_the_model_runs(tmp_path):
    """A long run for a file in a folder that is not there would be lost."""
    (tmp_path / "net.py").write_text("raise SystemExit('it ran')\n")
    done = command("run", tmp_path / "net.py", "--save", tmp_path / "missing" / "t.json")
    assert done.returncode == 2
    assert "cannot be written: there is no folder" in done.stderr
    assert "it ran" not in done.stderr


def test_a_file_that_cannot_be_made_takes_nothing_from_the_rest(tmp_path):
    """A run that failed has no times for a timeline: the tree is shown, the trace is saved, and the line says why."""
    file = tmp_path / "t.json"
    done = command("run", "cnn", "--input", "1,3,20,20", "--perfetto", tmp_path / "p", "--save", file)
    assert done.returncode == 2
    assert "✗" in done.stdout
    assert done.stderr.splitlines()[0] == f"the trace written to {file}"
    assert done.stderr.splitlines()[-1].startswith("tracecall: --perfetto needs times")
    assert [one.name for one in tmp_path.iterdir()] == ["t.json"]


def test_a_timeline_without_timing_runs_is_refused_at_once(tmp_path):
    done = command("run", "cnn", "--repeat", "0", "--perfetto", tmp_path / "p")
    assert done.returncode == 2
    assert "--perfetto needs timing runs and --repeat 0 makes none" in done.stderr


def test_one_name_for_two_files_is_refused(saved, tmp_path):
    done = command("show", saved, "--html", tmp_path / "a", "--svg", tmp_path / "a")
    assert done.returncode == 2
    assert "--html and --svg both name" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ops", "all"), "the trace was recorded with --ops forward"),
        (("--sort", "time"), "needs times and the trace has none"),
        (("--sort", "name"), "--sort 'name' is unknown"),
        (("--depth", "x"), "--depth 'x' is no whole number"),
    ],
)
def test_what_the_file_does_not_hold_is_refused(arguments, said, tmp_path):
    Trace(ModelInfo("M"), Environment("2.13.0", "3.11"), calls=[Call("module", "", "M", "M")]).save(tmp_path / "t.json")
    done = command("show", tmp_path / "t.json", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_what_is_no_trace_is_one_line(tmp_path):
    (tmp_path / "t.json").write_text("{")
    for file in (tmp_path / "t.json", tmp_path / "missing.json", tmp_path):
        done = command("show", file)
        assert done.returncode == 2
        assert done.stderr.startswith("tracecall: ")
        assert len(done.stderr.splitlines()) == 1


def test_a_trace_that_is_nested_as_deep_as_a_file_can_hold_is_shown(tmp_path):
    """No view calls itself for the calls inside a call."""
    outer = Call("module", "", "Deep", "Deep")
    trace = Trace(ModelInfo("Deep"), Environment("2.13.0", "3.11"), calls=[outer])
    for i in range(tracefile.DEEPEST - 1):
        outer.children.append(Call("module", f"m{i}", f"m{i}", "Deep"))
        outer = outer.children[0]
    trace.save(tmp_path / "deep.json")
    for arguments in ((), ("--sort", "params"), ("--json",)):
        done = command("show", tmp_path / "deep.json", *arguments)
        assert done.returncode == 0, done.stderr[-500:]
        assert f"m{tracefile.DEEPEST - 2}" in done.stdout or "--sort" in arguments


@pytest.mark.parametrize("width", [20, 60, 120])
@pytest.mark.parametrize("colours", [False, True])
def test_lines_are_written_as_rich_would_write_them(width, colours, saved, capsys, monkeypatch):
    """The tree's lines go by a shorter way than rich's, which is too slow for ten thousand."""
    from rich.console import Console, Group

    from tracecall.cli.showing import Shown, show_trace
    from tracecall.views.tree import tree

    monkeypatch.setenv("COLUMNS", str(width))
    if colours:
        monkeypatch.setenv("FORCE_COLOR", "1")
    trace = tracecall.load(saved)
    trace.settings.notes.append("a note that is longer than any terminal is wide " * 5)
    show_trace(trace, Shown(operations="all", fold=False))
    ours = capsys.readouterr().out
    Console(width=width, highlight=False).print(Group(tree(trace, width=width, operations="all")))
    assert ours == capsys.readouterr().out
    assert ("\x1b[" in ours) is colours
    assert len(ours.splitlines()) > 20


def test_a_table_goes_as_deep_as_the_tree(saved):
    """The modules up to that level; --explain and --no-fold have no meaning for it, and are refused."""
    done = command("show", saved, "--sort", "params", "--depth", "0")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.split("\n\n")[1].splitlines()[1:]] == ["CNN"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--sort", "params", "--explain"),
            "--sort params lists modules in a table, and --explain says what is in the tree; "
            "type --sort params alone, or --explain",
        ),
        (
            ("--no-fold", "--sort", "time"),
            "--sort time adds up the calls of each module, and --no-fold shows each call in the tree; "
            "type --sort time alone, or --no-fold",
        ),
    ],
)
def test_what_a_table_cannot_follow_is_refused(arguments, said, saved):
    done = command("show", saved, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"tracecall: {said}\n")


def test_a_picture_beside_a_table_may_be_unfolded(saved, tmp_path):
    """The option is not without meaning then."""
    done = command("show", saved, "--sort", "params", "--no-fold", "--svg", tmp_path / "tree.svg")
    assert done.returncode == 0, done.stderr
    assert "▾ params" in done.stdout


def test_a_view_never_takes_the_place_of_what_it_shows(saved, tmp_path):
    """By its own name, by another way to it, or through a link."""
    file, link = tmp_path / "trace.json.gz", tmp_path / "link"
    file.write_bytes(saved.read_bytes())
    link.symlink_to(file)
    for name in (file, tmp_path / "." / "trace.json.gz", link):
        done = command("show", file, "--html", name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"tracecall: --html {name} is the file that is shown; type another name for --html\n"
    assert file.read_bytes() == saved.read_bytes()
    done = command("show", file, "--html", tmp_path / "x", "--svg", f"{tmp_path}/./x")
    assert done.returncode == 2
    assert "--html and --svg both name" in done.stderr


def test_what_is_no_ordinary_file_is_not_replaced(saved, tmp_path):
    """A pipe stays a pipe; a device would stay one too."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = command("show", saved, "--svg", pipe)
    assert done.returncode == 2
    assert "it is no ordinary file" in done.stderr
    assert pipe.is_fifo()


def test_names_from_a_file_reach_the_terminal_as_text(tmp_path):
    """Also in what is said when something is refused."""
    trace = Trace(model=ModelInfo("Net"), environment=Environment("2", "3"))
    trace.calls = [Call("module", "", "Net", "Net", children=[Call("module", "a\x1b[2J", "a", "Linear")])]
    trace.save(tmp_path / "t.json")
    done = command("show", tmp_path / "t.json", "--only", "a\x1b[2")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\\x1b" in done.stderr


HOOKED = """
from torch import nn
import torch

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.fc.register_forward_pre_hook(lambda module, args: (args[0] * 2,))

    def forward(self, x):
        return self.fc(x + 1)

class Leaves(nn.Module):
    def forward(self, x):
        raise SystemExit(0)

def example_input():
    return torch.ones(2, 3)
"""


def test_a_trace_with_a_hook_that_replaces_the_input_is_read_again(tmp_path):
    """What a hook gives on has no source but the hook."""
    (tmp_path / "net.py").write_text(HOOKED)
    done = command("run", "net.py:Net", "--input", "2,3", "--repeat", "0", "--save", "t.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert command("show", "t.json", cwd=tmp_path).stdout == done.stdout


def test_a_model_that_ends_python_is_no_success(tmp_path):
    """sys.exit() inside forward: one line, exit status 1, nothing written."""
    (tmp_path / "net.py").write_text(HOOKED)
    done = command("run", "net.py:Leaves", "--input", "2,3", "--save", "t.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "SystemExit(0)" in done.stderr
    assert not (tmp_path / "t.json").exists()
