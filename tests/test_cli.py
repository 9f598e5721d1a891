"""The command: exit statuses, one-line messages, and what is written where. In-process, except where a process is meant."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from tracecall import cli
from tracecall.calls import Trace
from tracecall.cli import output
from tracecall.story import TOPICS

ROOT = Path(__file__).resolve().parent.parent
DEMOS = ["linear", "feedforward", "mlp", "cnn", "rnn", "transformer"]


class Done(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def tracecall(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `tracecall ARGUMENTS` in this process, in the checkout, at 100 columns, with few timing runs."""
    from tracecall.recording import timing

    monkeypatch.setattr(timing, "BUDGET_NS", 5_000_000)
    monkeypatch.setattr(timing, "MOST", 3)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["tracecall", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return Done(stopped.value.code, out, err)

    return run


def process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The same as a process of its own."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "tracecall", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        check=False,
        **{"capture_output": True, **options},
    )


# done: 0


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_runs(tracecall, name):
    """Exit status 0, a header, the chain of the root, the prediction; nothing on stderr."""
    done = tracecall("run", name)
    assert (done.status, done.err) == (0, "")
    header, tree = done.out.split("\n\n")[:2]
    file = {"mlp": "feedforward"}.get(name, name)
    assert re.match(rf"\w+   models/{file}\.py:\d+   [\d,]+ parameters   cpu   eval, inference mode\nuntraced ", header)
    lines = tree.splitlines()
    assert ".__call__ " in lines[1]
    assert lines[2] == "├─ forward pre-hooks  none"
    assert lines[3].startswith(f"├─ forward  models/{file}.py:")
    assert lines[-1] == "└─ forward hooks  none"
    assert "\nprediction  float32[1, " in done.out


@pytest.mark.parametrize(
    ("model", "options", "name"),
    [
        ("models/cnn.py", [], "CNN"),
        ("models/cnn.py:CNN", ["--input", "4,3,28,28"], "CNN"),
        ("models/feedforward.py:FeedforwardNetwork(20, 64, 3)", [], "FeedforwardNetwork"),
        ("torch.nn:Linear(10,5)", [], "Linear"),
        ("torch.nn:Linear(10, 5)", ["--input", "3,10"], "Linear"),
        ("torch.nn:Embedding(10, 4)", ["--input", "1,16:int64"], "Embedding"),
        ("cnn", ["--input", "x=2,3,28,28", "--dtype", "float64", "--seed", "3"], "CNN"),
        ("rnn", ["--train"], "SequenceClassifier"),
        ("cnn", ["--depth", "0", "--ops", "none", "--device", "cpu"], "CNN"),
        ("cnn", ["--device", "auto"], "CNN"),
    ],
)
def test_a_model_is_named_in_each_way(tracecall, model, options, name):
    """By file, by file and name, with arguments, by package."""
    done = tracecall("run", model, *options)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(name + " ")


def test_one_module_called_twice_is_two_lines_and_one_module(tracecall):
    """The CNN's pool, and the function and the view among the submodules, with their lines."""
    done = tracecall("run", "cnn")
    rows = [line.strip("│├└─ ").split() for line in done.out.splitlines() if line.startswith("│  ")]
    assert [row[0] for row in rows] == (
        ["conv1", "F.relu", "pool", "conv2", "F.relu", "pool", "x.view", "fc1", "F.relu", "fc2"]
    )
    assert [next(cell for cell in row if re.fullmatch(r":\d+", cell)) for row in rows] == (
        [":25", ":25", ":25", ":26", ":26", ":26", ":27", ":28", ":28", ":29"]
    )
    assert list(decoded(tracecall("run", "cnn", "--json").out).modules).count("pool") == 1


def test_what_is_shown_can_be_limited(tracecall):
    """--ops none drops the operations, --depth 0 everything below the root."""
    assert "F.relu" not in tracecall("run", "cnn", "--ops", "none").out
    assert "conv1" not in tracecall("run", "cnn", "--depth", "0").out.split("prediction")[0]
    assert "_transformer_encoder_layer_fwd" in tracecall("run", "transformer", "--ops", "all").out


def test_the_same_seed_gives_the_same_prediction(tracecall):
    """And another one another; the seed decides weights and inputs."""
    predictions = [tracecall("run", "cnn", "--seed", seed).out.split("prediction")[1] for seed in "334"]
    assert predictions[0] == predictions[1] != predictions[2]


def test_train_is_in_the_header(tracecall):
    """With gradients, in train mode."""
    assert "train, grad\n" in tracecall("run", "cnn", "--train").out


def test_the_process_is_left_as_it_was(tracecall):
    """torch's modes and gc, for those who call the command from Python."""
    import gc

    import torch

    tracecall("run", "rnn", "--train")
    tracecall("run", "cnn", "--input", "1,3,32,32")
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert torch._C._len_torch_dispatch_stack() == 0
    assert gc.isenabled()


# how often it is run, and the flat list


def test_repeat_is_how_many_runs_are_timed(tracecall):
    """The header says so; without timing runs there is no line of times."""
    assert "   medians of 2 runs\n" in tracecall("run", "cnn", "--repeat", "2", "--warmup", "0").out
    untimed = tracecall("run", "cnn", "--repeat", "0")
    assert (untimed.status, untimed.err) == (0, "")
    assert "untraced" not in untimed.out
    assert decoded(tracecall("run", "cnn", "--repeat", "0", "--json").out).timing is None


def test_warmup_is_how_often_it_runs_before(tracecall, monkeypatch):
    """Given to measure as it is; its own default if not given."""
    from tracecall import recording

    told: list[object] = []
    measure = recording.measure
    monkeypatch.setattr(
        recording, "measure", lambda *args, **more: told.append(more["warmup"]) or measure(*args, **more)
    )
    tracecall("run", "linear", "--repeat", "1", "--warmup", "7")
    tracecall("run", "linear", "--repeat", "1")
    assert told == [7, 2]


@pytest.mark.parametrize("sort", ["time", "self", "flops", "memory", "params"])
def test_sort_lists_the_costliest_modules(tracecall, sort):
    """The header, then a table instead of the tree."""
    done = tracecall("run", "cnn", "--sort", sort)
    assert (done.status, done.err) == (0, "")
    header, table = done.out.split("\n\n")[:2]
    assert header.startswith("CNN   models/cnn.py:12   194,578 parameters   cpu   eval, inference mode\nuntraced ")
    assert table.count("▾") == 1
    assert {line.split()[0] for line in table.splitlines()[1:]} == {"CNN", "conv1", "conv2", "pool", "fc1", "fc2"}
    assert "__call__" not in done.out


def test_sort_of_a_failed_forward_shows_where_it_failed(tracecall):
    """Exit status 1 and the tree: nothing was measured."""
    done = tracecall("run", "cnn", "--input", "1,3,32,32", "--sort", "time")
    assert done.status == 1
    assert "✗ models/cnn.py:27" in done.out


def test_json_has_flops_and_bytes(tracecall):
    """Of every module call."""
    trace = decoded(tracecall("run", "cnn", "--json").out)
    assert {call.path: (call.flops, call.output_bytes) for _, call in trace.walk() if call.kind == "module"} == {
        "": (2_862_432, 40),
        "conv1": (677_376, 50_176),
        "conv2": (1_806_336, 25_088),
        "pool": (0, 6272),
        "fc1": (376_320, 480),
        "fc2": (2400, 40),
    }


# the Trace as JSON


def decoded(out: str) -> Trace:
    return msgspec.json.decode(out.encode(), type=Trace)


@pytest.mark.parametrize("name", DEMOS)
def test_json_is_the_trace_and_nothing_else(tracecall, name):
    """One line on stdout that decodes; nothing on stderr."""
    done = tracecall("run", name, "--json")
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith("\n") and done.out.count("\n") == 1
    trace = decoded(done.out)
    assert trace.calls[0].name == trace.model.name
    assert trace.timing is not None
    assert trace.settings.seed == 0


def test_json_of_a_failed_forward(tracecall):
    """Exit status 1, and the Trace until then with its error."""
    done = tracecall("run", "cnn", "--input", "1,3,32,32", "--json")
    assert (done.status, done.err) == (1, "")
    trace = decoded(done.out)
    assert trace.error is not None
    assert trace.error.site is not None
    assert (trace.error.site.file, trace.error.site.line) == ("models/cnn.py", 27)


def test_json_has_one_format(tracecall):
    """What another program relies on: the fields that the design fixes."""
    trace = json.loads(tracecall("run", "linear", "--json").out)
    assert {"format_version", "model", "environment", "settings", "modules", "calls", "findings", "error"} <= set(trace)
    (call,) = trace["calls"]
    assert {"kind", "path", "name", "type", "inputs", "output", "host_ns", "children"} <= set(call)
    assert call["inputs"] == [{"where": "x", "value": call["inputs"][0]["value"]}]


# the model's forward failed: 1


def test_a_view_that_does_not_fit_is_named_with_its_line(tracecall):
    """Exit status 1; the tree ends at the view; below stand its line, why it does not fit, and what would."""
    done = tracecall("run", "cnn", "--input", "1,3,32,32")
    assert (done.status, done.err) == (1, "")
    tree, failure = done.out.split("\n\n")[1:3]
    assert re.match(
        r"│  └─ ✗ x\.view +\[1, ?32, ?8, ?8\] ✗ size \[-1, 1568\] +:27( +← pool #2)?$", tree.splitlines()[-2]
    )
    assert failure.splitlines() == [
        "✗ models/cnn.py:27  x.view(-1, 32 * 7 * 7)",
        "  2048 values (32·8·8, from pool) do not divide into rows of 1568 = 32·7·7",
        "  fits: an input of 28…31 × 28…31   --input 1,3,28,28",
        "  or:   x.view(-1, 2048) and fc1 = nn.Linear(2048, 120)",
        "  RuntimeError: shape '[-1, 1568]' is invalid for input of size 2048",
    ]
    assert "Traceback" not in done.out


def test_what_fits_a_failed_forward_really_does(tracecall):
    """What it says to type ends with exit status 0; the cause is in the JSON too."""
    done = tracecall("run", "cnn", "--input", "1,3,32,32", "--json")
    assert done.status == 1
    cause = decoded(done.out).cause
    assert cause.kind == "view-size"
    (typed,) = filter(None, [fit.command for fit in cause.fits])
    assert typed == "--input 1,3,28,28"
    assert tracecall("run", "cnn", "--repeat", "0", *typed.split()).status == 0


def test_a_module_that_does_not_fit_is_named_with_the_line_that_called_it(tracecall):
    """The line is in the user's own file, not somewhere in torch."""
    done = tracecall("run", "linear", "--input", "1,7")
    assert (done.status, done.err) == (1, "")
    failure = done.out.split("\n\n")[2]
    assert failure.startswith("✗ models/linear.py:19  self.linear(x)\n")
    assert "mat1 and mat2 shapes cannot be multiplied (1x7 and 10x1)" in failure


def test_a_failed_forward_of_any_kind_is_no_traceback(tracecall, tmp_path, monkeypatch):
    """An exception of the model's own; its message may be long, empty, or full of markup."""
    file = tmp_path / "odd.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Odd(nn.Module):\n    def forward(self, x):\n"
        "        raise ValueError('[red]no[/red]\\x1b[31m')\n\n\ndef example_input():\n    return torch.ones(1)\n"
    )
    done = tracecall("run", str(file))
    assert (done.status, done.err) == (1, "")
    assert r"ValueError: [red]no[/red]\x1b[31m" in done.out
    assert "\x1b" not in done.out
    assert ":7" in done.out


# the command cannot be carried out: 2

LINES = [
    (
        ["run", "nosuch"],
        "MODEL 'nosuch' is neither a demo nor a file; the demos are linear, feedforward, mlp, cnn, rnn, transformer; "
        "or type path/to/file.py or package.module:Name",
    ),
    (
        ["run", "models/cnn.py:Nope"],
        "models/cnn.py has no 'Nope'; its models: CNN, build_model; type for example models/cnn.py:CNN",
    ),
    (
        ["run", "cnn", "--input", "1,x"],
        "--input '1,x' has the size x: sizes are whole numbers of at least 1, with commas between them; "
        "type for example --input 1,1",
    ),
    (
        ["run", "cnn", "--input", "0,3,28,28"],
        "--input '0,3,28,28' has the size 0: sizes are whole numbers of at least 1, with commas between them; "
        "type for example --input 1,3,28,28",
    ),
    (
        ["run", "cnn", "--warmup", "-1"],
        "--warmup '-1' is no whole number of at least 0; for example: --warmup 5",
    ),
    (
        ["run", "cnn", "--repeat", "1.5"],
        "--repeat '1.5' is no whole number of at least 0; 0 skips timing: --repeat 0",
    ),
    (
        ["run", "cnn", "--sort", "speed"],
        "--sort 'speed' is unknown; possible: time, self, flops, memory, params; type --sort time",
    ),
    (
        ["run", "cnn", "--sort", "time", "--explain"],
        "--sort time lists modules in a table, and --explain says what is in the tree; "
        "type --sort time alone, or --explain",
    ),
    (
        ["run", "cnn", "--sort", "time", "--no-fold"],
        "--sort time adds up the calls of each module, and --no-fold shows each call in the tree; "
        "type --sort time alone, or --no-fold",
    ),
    (
        ["run", "cnn", "--sort", "flops", "--repeat", "0"],
        "--sort flops needs timing runs and --repeat 0 makes none; type --repeat 1, or --sort memory",
    ),
    (
        ["run", "cnn", "--depth", "-1"],
        "--depth '-1' is no whole number of at least 0; 0 shows the root alone, 1 its submodules: --depth 1",
    ),
    (
        ["run", "cnn", "--depth", "x"],
        "--depth 'x' is no whole number of at least 0; 0 shows the root alone, 1 its submodules: --depth 1",
    ),
    (["run", "cnn", "--seed", "1.5"], "--seed '1.5' is no whole number of at least 0; for example: --seed 1"),
    (["run", "cnn", "--ops", "bogus"], "--ops 'bogus' is unknown; possible: none, forward, all; type --ops all"),
    (
        ["run", "cnn", "--device", "gpu"],
        "--device 'gpu' is none of cpu, cuda, cuda:N, mps, auto; type for example --device cpu",
    ),
    (
        ["run", "cnn", "--dtype", "int64"],
        "--dtype 'int64' names no dtype that can be used here: type one of float32, float64, float16, bfloat16",
    ),
    (
        ["explain", "--topic", "bogus"],
        "--topic 'bogus' is unknown; possible: call, hooks, submodules, forward, modes, prediction; type --topic hooks",
    ),
    (["explain", "cnn", "--seed", "x"], "--seed 'x' is no whole number of at least 0; for example: --seed 1"),
    (["explain", "linear", "more"], "Got unexpected extra argument(s) (more)  (see: tracecall explain --help)"),
    (["explain", "--input"], "Option '--input' requires an argument.  (see: tracecall explain --help)"),
    (["--nosuch", "run"], "No such option: --nosuch  (see: tracecall --help)"),
    (["nosuch"], "No such command 'nosuch'.  (see: tracecall --help)"),
    (["run"], "Missing argument 'MODEL'.  (see: tracecall run --help)"),
    (["run", "cnn", "more"], "Got unexpected extra argument(s) (more)  (see: tracecall run --help)"),
    (["run", "cnn", "--input"], "Option '--input' requires an argument.  (see: tracecall run --help)"),
]


@pytest.mark.parametrize(("arguments", "line"), LINES, ids=[" ".join(arguments) for arguments, _ in LINES])
def test_what_cannot_be_done_is_one_line(tracecall, arguments, line):
    """What was given, what is possible, what to type; exit status 2, nothing on stdout, no traceback."""
    done = tracecall(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err == "tracecall: " + " ".join(line.split()) + "\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "cnn", "--nosuch"], "No such option: --nosuch"),
        (["run", "nosuch.py"], "nosuch.py"),
        (["explain", "nosuch.py"], "nosuch.py"),
        (["explain", "cnn", "--device", "gpu"], "--device 'gpu'"),
        (["run", "models"], "models"),
        (["run", "torch.nn:NoSuch"], "NoSuch"),
        (["run", "no.such.package:Net"], "no.such.package"),
        (["run", "models/cnn.py:CNN(1, 2, 3)"], "CNN"),
        (["run", "torch.nn:Dropout"], "--input"),
        (["run", "cnn", "--input", "1,3,28,28", "--input", "1"], "2 --input were given"),
        (["run", "cnn", "--input", "y=1"], "has no parameter 'y'"),
        (["run", "cnn", "--device", "cuda:99"], "--device cuda:99"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_other_slip_is_one_line_too(tracecall, arguments, words):
    """That names what was given."""
    done = tracecall(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("tracecall: ") and done.err.count("\n") == 1
    assert words in done.err
    assert "Traceback" not in done.err


def test_no_cuda_is_one_line(tracecall, monkeypatch):
    """What was asked for, why not, what is available."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    done = tracecall("run", "cnn", "--device", "cuda")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"tracecall: --device cuda: CUDA is not available here, and torch {torch.__version__} is built without it; "
        "available: cpu; type --device cpu\n"
    )


@pytest.mark.cuda
def test_on_cuda(tracecall):
    """The tree names CUDA on every call."""
    done = tracecall("run", "cnn", "--device", "cuda")
    assert (done.status, done.err) == (0, "")
    rows = [line for line in done.out.splitlines() if line.startswith("│  ") or "__call__" in line]
    assert rows and all("cuda:" in line for line in rows)


def test_a_refusal_needs_no_torch():
    """A slip in what was typed is told at once, not after seconds of import."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tracecall", "run", "nosuch"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


def test_without_a_command_there_is_help(tracecall):
    """`tracecall` alone shows what there is, in lines that can be read."""
    done = tracecall()
    lines = (done.out + done.err).splitlines()
    assert len(lines) > 5
    assert any(line.strip().startswith("run ") for line in lines)


def test_help_and_version(tracecall):
    """On stdout, exit status 0."""
    for arguments in (["--help"], ["run", "--help"], ["explain", "--help"], ["--version"]):
        done = tracecall(*arguments)
        assert (done.status, done.err) == (0, "")
        assert done.out
    assert re.fullmatch(r"tracecall \d+\.\d+\.\d+\n", tracecall("--version").out)


def test_the_help_of_topic_names_every_topic(tracecall):
    """It is written out there, so that help imports nothing."""
    told = " ".join(tracecall("explain", "--help").out.split())
    assert f"Tell one part alone: {', '.join(TOPICS[:-1])} or {TOPICS[-1]}." in told


# where things are written


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "arguments", [["run", "cnn"], ["run", "cnn", "--input", "1,3,32,32"], ["run", "models/cnn.py:Nope"]]
)
def test_progress_is_on_a_terminal_only_and_leaves_nothing(tracecall, monkeypatch, arguments):
    """One line that is overwritten and at the end erased."""
    monkeypatch.setattr(output, "PROGRESS_AFTER", -1.0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    tracecall(*arguments)
    written = terminal.getvalue()
    assert written
    progress, erased, rest = written.rpartition("\r\x1b[2K")
    if "Nope" in arguments[1]:
        assert rest.startswith("tracecall: models/cnn.py has no 'Nope'")
    else:
        assert rest == ""
        assert "\r\x1b[2Krunning CNN …" in progress
    assert "\n" not in progress
    assert erased or not progress


def test_no_progress_where_stderr_is_no_terminal(tracecall, monkeypatch):
    """A log file gets nothing."""
    monkeypatch.setattr(output, "PROGRESS_AFTER", -1.0)
    assert tracecall("run", "cnn").err == ""


def test_no_progress_for_what_takes_no_time(tracecall, monkeypatch):
    """A line that flashes up helps no one."""
    monkeypatch.setattr(output, "PROGRESS_AFTER", 1e9)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    tracecall("run", "linear")
    assert terminal.getvalue() == ""


def test_what_a_model_prints_does_not_break_json(tracecall, tmp_path):
    """--json: the Trace on stdout and nothing else, whatever forward prints; it goes to stderr instead."""
    file = tmp_path / "talks.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\nprint('importing')\n\n\nclass Talks(nn.Module):\n"
        "    def forward(self, x):\n        print('in forward')\n        return x\n\n\n"
        "def example_input():\n    return torch.ones(1)\n"
    )
    done = tracecall("run", str(file), "--json")
    assert done.status == 0
    assert decoded(done.out).model.name == "Talks"


def test_a_warning_of_the_model_is_in_the_tree_and_not_on_stderr(tracecall, tmp_path):
    """stderr is for progress."""
    file = tmp_path / "warns.py"
    file.write_text(
        "import warnings\nimport torch\nfrom torch import nn\n\n\nclass Warns(nn.Module):\n    def forward(self, x):\n"
        "        warnings.warn('look out')\n        return x\n\n\ndef example_input():\n    return torch.ones(1)\n"
    )
    done = tracecall("run", str(file))
    assert (done.status, done.err) == (0, "")
    assert done.out.count("UserWarning: look out") == 1


def test_plain_text_where_stdout_is_no_terminal(tracecall):
    """No escape sequence in a pipe."""
    assert "\x1b" not in tracecall("run", "cnn").out


def test_NO_COLOR_on_a_terminal(tracecall, monkeypatch):
    """No colour even where colours are forced on."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert re.search(r"\x1b\[[\d;]*3\dm", tracecall("run", "cnn").out)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*3\dm", tracecall("run", "cnn").out)


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_it_fits_the_terminal(tracecall, monkeypatch, columns):
    """At 80, 100 and 160 columns, for every demo; the failed one too."""
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", str(columns))
    for arguments in (["cnn"], ["rnn"], ["transformer", "--train"], ["cnn", "--input", "1,3,32,32"]):
        for line in tracecall("run", *arguments).out.splitlines():
            assert cell_len(line) <= columns


def test_columns_line_up_in_a_real_tree(tracecall, monkeypatch):
    """The line numbers of the CNN's calls stand in one column, at 80 as at 160."""
    for columns in ("80", "100", "160"):
        monkeypatch.setenv("COLUMNS", columns)
        rows = [line for line in tracecall("run", "cnn").out.splitlines() if re.search(r" :\d\d\b", line)]
        assert len(rows) == 10
        assert len({line.index(" :2") for line in rows}) == 1


def test_a_broken_pipe_is_quiet():
    """`tracecall run cnn | head -1`: the reader has what it wants."""
    reading, writing = os.pipe()
    running = subprocess.Popen(
        [sys.executable, "-m", "tracecall", "run", "linear"],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    os.close(reading)
    _, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line():
    """What cannot be written is told without a traceback."""
    with Path("/dev/full").open("w") as full:
        done = process("run", "linear", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("tracecall: ") and len(done.stderr.splitlines()) == 1


def test_a_terminal_that_lacks_characters_is_no_reason_to_fail():
    """LANG=C: what cannot be shown becomes a question mark."""
    done = process("run", "linear", env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "LinearRegressionModel.__call__" in done.stdout
