"""The terminal view: expected trees are drawn as they look, from Traces made by hand with fixed times."""

from __future__ import annotations

import io
import re
import textwrap
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tests.views.traces import FILE, cnn, hook, module, operation, spec, trace
from tracecall.calls import Call, CallError, Finding, Prediction, Site, Timing, Trace, Value
from tracecall.views.tree import text, tree


def drawing(shown: str) -> str:
    """A drawing as it stands in a test, without the test's own indentation."""
    return textwrap.dedent(shown).strip("\n")


def nested() -> Trace:
    """Two blocks, one of them with a hook of its own, inside a root with two hooks."""

    def block(number: int, line: int, *first: Call) -> Call:
        path = f"layer{number}"
        linear = operation("F.linear", "aten.linear", (2, 8), (2, 8), us=10, internal=True, path=f"{path}.fc")
        inside = module("fc", "Linear", (2, 8), (2, 8), linear, us=20, line=15, path=f"{path}.fc")
        return module(path, "Block", (2, 8), (2, 8), *first, inside, us=30, line=line)

    root = module(
        "Net",
        "Net",
        (2, 8),
        (2, 8),
        hook("check", "forward pre-hook", None, "", 50),
        block(0, 22, hook("halve", "forward pre-hook", ["args[0] replaced, float32[2,8]"], "layer0", 40)),
        block(1, 23, operation("x * 2", "aten.mul", (2, 8), (2, 8), us=4, line=14, path="layer1")),
        hook("log", "forward hook", ["output replaced, float32[2,8]"], "", 51),
        us=100,
        path="",
    )
    return trace(root, {"layer0.fc": 72, "layer1.fc": 72})


def failed() -> Trace:
    """A view that does not fit, below a root that it ends."""
    here = CallError("RuntimeError", "shape '[-1, 8]' is invalid for input of size 9", True)
    here.site = Site(FILE, 22, text="x.view(-1, 8)")
    size = Value("size", "[-1, 8]")
    root = module(
        "Net",
        "Net",
        (1, 9),
        None,
        module("linear", "Linear", (1, 9), (1, 9), line=21, source="input x"),
        operation("x.view", "aten.view", (1, 9), None, size, line=22, source="linear", error=here),
        path="",
        error=CallError("RuntimeError", here.message),
    )
    return trace(root, {"linear": 90}, error=here)


# the whole of it, as it looks


def test_the_cnn_at_80_columns():
    """Where room is short, spaces inside shapes go first, then where things came from, then most of the bar."""
    assert text(cnn(), width=80) == drawing("""
        CNN   models/net.py:8   194,578 parameters   cpu   eval, inference mode
        untraced 290.0 µs   traced 320.0 µs   medians of 100 runs

                                                                µs         params
        CNN.__call__            [1,3,28,28] → [1,10]         300.0        194,578
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  ├─ conv1  Conv2d     [1,3,28,28] → [1,16,28,28]    60.0  ▊         448  :25
        │  ├─ F.relu            [1,16,28,28]                  15.2  ▎              :25
        │  ├─ pool   MaxPool2d  [1,16,28,28] → [1,16,14,14]   30.0  ▍              :25
        │  ├─ conv2  Conv2d     [1,16,14,14] → [1,32,14,14]   90.0  █▎◂     4,640  :26
        │  ├─ F.relu            [1,32,14,14]                   7.5  ▏              :26
        │  ├─ pool   MaxPool2d  [1,32,14,14] → [1,32,7,7]     20.0  ▎              :26
        │  ├─ x.view            [1,32,7,7] → [1,1568]          3.0  ▏              :27
        │  ├─ fc1    Linear     [1,1568] → [1,120]            40.0  ▌     188,280  :28
        │  ├─ F.relu            [1,120]                        2.8  ▏              :28
        │  └─ fc2    Linear     [1,120] → [1,10]              10.0  ▏       1,210  :29
        └─ forward hooks  none

        prediction  float32[1, 10]  0.03125, -0.125, 0.5, 1, 2, -3, …
        """)


WITH_SOURCES = """
    CNN   models/net.py:8   194,578 parameters   cpu   eval, inference mode
    untraced 290.0 µs   traced 320.0 µs   medians of 100 runs

                                                            µs             params
    CNN.__call__            [1,3,28,28] → [1,10]         300.0            194,578
    ├─ forward pre-hooks  none
    ├─ forward  models/net.py:20
    │  ├─ conv1  Conv2d     [1,3,28,28] → [1,16,28,28]    60.0  █▋            448  :25  ← input x
    │  ├─ F.relu            [1,16,28,28]                  15.2  ▍                  :25  ← conv1
    │  ├─ pool   MaxPool2d  [1,16,28,28] → [1,16,14,14]   30.0  ▊                  :25  ← F.relu #1
    │  ├─ conv2  Conv2d     [1,16,14,14] → [1,32,14,14]   90.0  ██▍◂        4,640  :26  ← pool #1
    │  ├─ F.relu            [1,32,14,14]                   7.5  ▎                  :26  ← conv2
    │  ├─ pool   MaxPool2d  [1,32,14,14] → [1,32,7,7]     20.0  ▌                  :26  ← F.relu #2
    │  ├─ x.view            [1,32,7,7] → [1,1568]          3.0  ▏                  :27  ← pool #2
    │  ├─ fc1    Linear     [1,1568] → [1,120]            40.0  █▏        188,280  :28  ← x.view
    │  ├─ F.relu            [1,120]                        2.8  ▏                  :28  ← fc1
    │  └─ fc2    Linear     [1,120] → [1,10]              10.0  ▎           1,210  :29  ← F.relu #3
    └─ forward hooks  none

    prediction  float32[1, 10]  0.03125, -0.125, 0.5, 1, 2, -3, …
    """

ROOMY = """
    CNN   models/net.py:8   194,578 parameters   cpu   eval, inference mode
    untraced 290.0 µs   traced 320.0 µs   medians of 100 runs

                                                                  µs             params
    CNN.__call__            [1, 3, 28, 28] → [1, 10]           300.0            194,578
    ├─ forward pre-hooks  none
    ├─ forward  models/net.py:20
    │  ├─ conv1  Conv2d     [1, 3, 28, 28] → [1, 16, 28, 28]    60.0  █▋            448  :25  ← input x
    │  ├─ F.relu            [1, 16, 28, 28]                     15.2  ▍                  :25  ← conv1
    │  ├─ pool   MaxPool2d  [1, 16, 28, 28] → [1, 16, 14, 14]   30.0  ▊                  :25  ← F.relu #1
    │  ├─ conv2  Conv2d     [1, 16, 14, 14] → [1, 32, 14, 14]   90.0  ██▍◂        4,640  :26  ← pool #1
    │  ├─ F.relu            [1, 32, 14, 14]                      7.5  ▎                  :26  ← conv2
    │  ├─ pool   MaxPool2d  [1, 32, 14, 14] → [1, 32, 7, 7]     20.0  ▌                  :26  ← F.relu #2
    │  ├─ x.view            [1, 32, 7, 7] → [1, 1568]            3.0  ▏                  :27  ← pool #2
    │  ├─ fc1    Linear     [1, 1568] → [1, 120]                40.0  █▏        188,280  :28  ← x.view
    │  ├─ F.relu            [1, 120]                             2.8  ▏                  :28  ← fc1
    │  └─ fc2    Linear     [1, 120] → [1, 10]                  10.0  ▎           1,210  :29  ← F.relu #3
    └─ forward hooks  none

    prediction  float32[1, 10]  0.03125, -0.125, 0.5, 1, 2, -3, …
    """


@pytest.mark.parametrize(("width", "expected"), [(100, WITH_SOURCES), (160, ROOMY)], ids=["100", "160"])
def test_the_cnn_at_100_and_160_columns(width, expected):
    """The chain `__call__` → pre-hooks → forward → hooks, every call in its place with what fed it."""
    assert text(cnn(), width=width) == drawing(expected)


def test_nested_calls_and_hooks():
    """Submodules stand below their caller; each of the user's hooks is a call that says what it changed."""
    assert text(nested(), width=100) == drawing("""
        Net   models/net.py:8   144 parameters   cpu   eval, inference mode

                                                                             µs            params
        Net.__call__                      [2, 8] → [2, 8]                 100.0               144
        ├─ forward pre-hooks
        │  └─ check     forward pre-hook  changed nothing                                          :50
        ├─ forward  models/net.py:20
        │  ├─ layer0    Block             [2, 8] → [2, 8]                  30.0  ██▍◂          72  :22
        │  │  ├─ halve  forward pre-hook  args[0] replaced, float32[2,8]                           :40
        │  │  └─ fc     Linear            [2, 8] → [2, 8]                  20.0  █▋            72  :15
        │  └─ layer1    Block             [2, 8] → [2, 8]                  30.0  ██▍           72  :23
        │     ├─ x * 2                    [2, 8]                            4.0  ▍                 :14
        │     └─ fc     Linear            [2, 8] → [2, 8]                  20.0  █▋            72  :15
        └─ forward hooks
           └─ log       forward hook      output replaced, float32[2,8]                            :51
        """)


def test_a_failed_call():
    """It is marked, the tree ends there, and below stand the line, the error and the shapes that met."""
    assert text(failed(), width=100) == drawing("""
        Net   models/net.py:8   90 parameters   cpu   eval, inference mode

                                                     params
        ✗ Net.__call__        [1, 9]                     90
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  ├─ linear  Linear  [1, 9] → [1, 9]            90  :21  ← input x
        │  └─ ✗ x.view        [1, 9] ✗ size [-1, 8]          :22  ← linear
        └─ forward hooks  none

        ✗ models/net.py:22  x.view(-1, 8)
          RuntimeError: shape '[-1, 8]' is invalid for input of size 9
            self  float32[1, 9]  ← linear
            size  [-1, 8]
        """)


def test_a_caught_error():
    """A call that raised and was caught says so in its own line; the run did not fail."""
    caught = CallError("RuntimeError", "no", raised_here=True, caught=True)
    root = module(
        "Net",
        "Net",
        (1, 8),
        (1, 4),
        module("fast", "Linear", (1, 8), None, line=21, source="input x", error=caught),
        module("slow", "Linear", (1, 8), (1, 4), line=23, source="input x"),
        path="",
    )
    assert text(trace(root, {"fast": 9, "slow": 36}), width=100) == drawing("""
        Net   models/net.py:8   45 parameters   cpu   eval, inference mode

                                                             params
        Net.__call__          [1, 8] → [1, 4]                    45
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  ├─ ✗ fast  Linear  [1, 8] ✗ RuntimeError, caught       9  :21  ← input x
        │  └─ slow    Linear  [1, 8] → [1, 4]                    36  :23  ← input x
        └─ forward hooks  none
        """)


def test_several_roots():
    """`tracing` records whatever the reader's code called: each root is a tree of its own, a blank line between."""
    shown = trace(module("Net", "Net", (1, 8), (1, 4), us=20, path=""))
    shown.calls.append(module("Net", "Net", (2, 8), (2, 4), us=30, path=""))
    assert text(shown, width=100) == drawing("""
        Net   models/net.py:8   0 parameters   cpu   eval, inference mode

                                         µs
        Net.__call__  [1, 8] → [1, 4]  20.0
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        └─ forward hooks  none

        Net.__call__  [2, 8] → [2, 4]  30.0
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        └─ forward hooks  none
        """)


# the header


def header(shown: Trace, width: int = 100) -> list[str]:
    return text(shown, width=width).split("\n\n")[0].splitlines()


def test_the_header_wraps_between_its_parts():
    """Where a line is full, the next part begins a new one."""
    shown = cnn()
    shown.model.name = "ConvolutionalNetwork"
    assert header(shown, 60) == [
        "ConvolutionalNetwork   models/net.py:8   194,578 parameters",
        "  cpu   eval, inference mode",
        "untraced 290.0 µs   traced 320.0 µs   medians of 100 runs",
    ]


def test_a_header_never_begins_with_an_empty_line():
    """Not even where the model's name is wider than the terminal."""
    shown = cnn()
    shown.model.name = "N" * 70
    assert header(shown, 60)[0].strip().startswith("N")


def test_the_header_names_what_is_not_the_default():
    """Train mode, gradients, a dtype, a device, frozen parameters; "parameter" is singular for one."""
    shown = cnn()
    shown.model.parameters, shown.model.trainable, shown.model.training = 1, 0, True
    shown.settings.grad_mode, shown.settings.dtype = "grad", "bfloat16"
    shown.environment.devices = {"cuda:0": "NVIDIA H200"}
    assert header(shown)[0] == (
        "CNN   models/net.py:8   1 parameter, 0 trainable   cuda:0 (NVIDIA H200), bfloat16   train, grad"
    )


def test_both_times_of_the_header_are_in_one_unit():
    """So that what tracing cost can be seen."""
    shown = cnn()
    shown.timing = Timing(untraced_ns=990_000, traced_ns=1_010_000, runs=1)
    assert header(shown)[1] == "untraced 0.990 ms   traced 1.010 ms   one run"


def test_notes_are_in_the_header():
    """What the reader must know comes before the tree."""
    shown = cnn()
    shown.settings.notes = ["input inferred from fc1 (Linear)"]
    assert header(shown)[-1] == "input inferred from fc1 (Linear)"


# which calls are shown


def names(shown: str) -> list[str]:
    """The names in a printed tree, in order."""
    return [found.group(1) for line in shown.splitlines() if (found := re.match(r"[│├└─ ]*[├└]─ (?:✗ )?(\S+)", line))]


def test_operations_of_the_models_own_forwards():
    """--ops forward, the default: F.relu and view stand among the submodules; what is inside torch.nn's own does not."""
    assert names(text(cnn(), width=100))[2:-1] == (
        ["conv1", "F.relu", "pool", "conv2", "F.relu", "pool", "x.view", "fc1", "F.relu", "fc2"]
    )
    assert "F.linear" not in names(text(nested(), width=100))


def test_no_operations():
    """--ops none: submodules and hooks only."""
    assert names(text(cnn(), width=100, operations="none"))[2:-1] == ["conv1", "pool", "conv2", "pool", "fc1", "fc2"]


def test_all_operations():
    """--ops all: those inside torch.nn's own forwards too."""
    assert names(text(nested(), width=100, operations="all")).count("F.linear") == 2


def test_a_failed_operation_is_always_shown():
    """--ops none hides what the reader did not ask for, never the cause."""
    assert "✗ x.view" in text(failed(), width=100, operations="none")


def test_depth_limits_the_levels_below_the_root():
    """--depth 1: the submodules, each with how many calls it hides."""
    shown = text(nested(), width=100, depth=1)
    assert names(shown) == ["forward", "check", "forward", "layer0", "layer1", "forward", "log"]
    assert "layer0  +2" in shown


def test_depth_0_is_the_root_alone():
    """The chain of the root, and how much is hidden."""
    assert "│  └─ 2 calls, not shown" in text(nested(), width=100, depth=0).splitlines()


def test_the_failed_call_is_named_at_every_depth():
    """The lines below the tree do not depend on what the tree shows."""
    assert "✗ models/net.py:22  x.view(-1, 8)" in text(failed(), width=100, depth=0)


def test_a_module_called_twice_counts_its_parameters_each_time_and_the_total_once():
    """Two calls, one module."""
    fc = module("fc", "Linear", (1, 8), (1, 8), line=21)
    shown = text(trace(module("Net", "Net", (1, 8), (1, 8), fc, fc, path=""), {"fc": 72}), width=100)
    assert [line.split()[-2] for line in shown.splitlines() if ":21" in line] == ["72", "72"]
    assert shown.splitlines()[0].split("   ")[2] == "72 parameters"


def test_a_device_column_only_where_something_is_not_on_the_cpu():
    """Named on every call then, with an arrow where it changes."""
    one, other = spec((1, 8), device="cuda:0"), spec((1, 8))
    root = module(
        "Net", "Net", one, other, module("fc", "Linear", one, one), module("back", "ToHost", one, other), path=""
    )
    shown = text(trace(root), width=100)
    assert "[1, 8] → [1, 8]  cuda:0\n" in shown
    assert "[1, 8] → [1, 8]  cuda:0 → cpu\n" in shown
    assert "cpu" not in "".join(text(cnn(), width=100).splitlines()[2:])


# prediction and findings


def prediction(*shown: Prediction, width: int = 100) -> list[str]:
    found = cnn()
    found.prediction = list(shown)
    return text(found, width=width).split("\n\n")[2].splitlines()


def test_a_whole_prediction_has_no_dots():
    """Dots say that there is more."""
    assert prediction(Prediction("", spec((1, 2)), [0.5, 1.0])) == ["prediction  float32[1, 2]  0.5, 1"]
    assert prediction(Prediction("", spec((1, 3)), [0.5, 1.0])) == ["prediction  float32[1, 3]  0.5, 1, …"]


def test_a_prediction_of_several_tensors_names_each():
    """By the way into what forward returned; beyond four they are counted."""
    lines = prediction(*(Prediction(f".part{i}", spec((2,)), [i, i]) for i in range(6)))
    assert lines[0] == "prediction  .part0  float32[2]  0, 0"
    assert lines[4].strip() == "and 2 more tensors"


def test_a_prediction_that_was_not_read_to_its_end_has_no_false_number():
    """What is nested too deep may hold any number of tensors."""
    found = cnn()
    found.prediction = [Prediction(f"[{i}]", spec((2,)), [i, i]) for i in range(6)]
    found.calls[0].output.append(Value("[6]", "<list, nested too deep>"))
    assert "and at least 2 more tensors" in text(found)


def test_a_prediction_of_odd_numbers():
    """nan, inf, integers, booleans and complex numbers as text."""
    values: list[float | int | bool | str] = [float("nan"), float("inf"), True, 3, "(1+2j)"]
    assert prediction(Prediction("", spec((5,)), values)) == ["prediction  float32[5]  nan, inf, True, 3, (1+2j)"]


def test_an_empty_prediction():
    """A tensor without elements has no numbers to show, and needs no dots."""
    assert prediction(Prediction("", spec((0, 4)), [])) == ["prediction  float32[0, 4]"]


def test_a_prediction_without_known_sizes():
    """A shape may be a formula or ragged: text, not a number."""
    from tracecall.calls import TensorSpec

    ragged = TensorSpec((2, "ragged", 4), "float32", "cpu", layout="nested")
    assert prediction(Prediction("", ragged, [])) == ["prediction  nested float32[2, ragged, 4]"]


def test_findings_stand_last():
    """Each with its line of source, indented below the sentence."""
    shown = cnn()
    shown.findings = [
        Finding("unused", "fc3 (Linear) took no part in this run", "fc3", Site(FILE, 13, text="self.fc3"))
    ]
    assert text(shown, width=100).split("\n\n")[3] == drawing("""
        ! fc3 (Linear) took no part in this run
          models/net.py:13  self.fc3
        """)


def shaky(us: float, spread_us: float) -> Trace:
    """A root of 300 µs, whose first module takes `us` and whose runs differ by `spread_us`."""
    shown = cnn()
    shown.calls[0].children[0].host_ns = round(us * 1000)
    shown.calls[0].children[0].spread_ns = round(spread_us * 1000)
    return shown


def test_a_time_that_is_not_to_be_relied_on_says_so():
    """A mark before it, one line below the tree that says what it means; the columns stay where they are."""
    shown = text(shaky(60, 30.5), width=100)
    assert shown.splitlines()[7] == (
        "│  ├─ conv1  Conv2d     [1,3,28,28] → [1,16,28,28]   ~60.0  █▋            448  :25  ← input x"
    )
    assert shown.split("\n\n")[2] == "~ the middle half of its runs spans more than half of its median"


@pytest.mark.parametrize(("us", "spread_us"), [(60, 30), (60, 0), (2.9, 20)], ids=["half", "none", "under 1 %"])
def test_a_time_that_is_steady_or_does_not_matter_is_not_marked(us, spread_us):
    """Half of its median is not more than half; and a call under 1 % of the total matters to nobody."""
    assert text(shaky(us, spread_us), width=100).count("~") == 0


def marked(shown: Trace) -> list[str]:
    return [line.strip("│├└─ ").split()[0] for line in text(shown, width=100).splitlines() if "◂" in line]


def test_the_hot_path_is_the_costliest_module_at_each_level():
    """From the root down, while it takes at least a quarter of the total; operations are not on it."""
    inner = module("c", "C", (1,), (1,), module("d", "D", (1,), (1,), us=24.9, path="c.d"), us=25, path="b.c")
    outer = module("b", "B", (1,), (1,), operation("x * 2", "aten.mul", (1,), (1,), us=40), inner, us=70)
    root = module("Net", "Net", (1,), (1,), module("a", "A", (1,), (1,), us=29), outer, us=100, path="")
    assert marked(trace(root)) == ["b", "c"]


def test_without_times_there_is_no_hot_path():
    """Nor where no module takes a quarter."""
    assert marked(nested()) == ["layer0"]
    assert marked(failed()) == []
    shown = cnn()
    shown.calls[0].host_ns = 1_000_000
    assert marked(shown) == []


# columns, widths, colours


LETTERS = st.text(alphabet="abcxyz卷é", min_size=1, max_size=4) | st.text(alphabet="abcxyz卷é", min_size=1, max_size=30)
SHAPES = st.lists(st.integers(1, 4096), max_size=4).map(tuple)


@st.composite
def calls(draw: st.DrawFn, level: int = 0) -> Call:
    """Any call, with calls inside it."""
    children = draw(st.lists(calls(level + 1), max_size=3)) if level < 3 else []
    us, line = draw(st.one_of(st.none(), st.floats(0, 20_000))), draw(st.one_of(st.none(), st.integers(1, 9999)))
    taken, given_back, name = draw(SHAPES), draw(SHAPES), draw(LETTERS)
    source = draw(st.one_of(st.none(), LETTERS))
    if draw(st.booleans()) and not children:
        return operation(name, "aten.x", taken, given_back, us=us, line=line, source=source)
    return module(name, draw(LETTERS), taken, given_back, *children, us=us, line=line, source=source)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Any trace of one root whose time is known."""
    children = draw(st.lists(calls(), max_size=4))
    root = module("Net", "Net", (1, 8), (1, 8), *children, us=draw(st.floats(1, 1e7)), path="")
    paths = [call.path for call in children if call.kind == "module"]
    return trace(root, {path: draw(st.integers(0, 10**9)) for path in paths})


@settings(max_examples=60, deadline=None)
@given(traces(), st.integers(60, 200))
def test_no_line_is_wider_than_the_terminal(shown, width):
    """Whatever the model, nothing wraps."""
    for line in text(shown, width=width).splitlines():
        assert cell_len(line) <= width


@settings(max_examples=60, deadline=None)
@given(traces(), st.integers(60, 200))
def test_the_decimal_points_of_times_line_up(shown, width):
    """The eye compares digits in one column; in every tree, at every width."""
    columns = columns_of_times(text(shown, width=width))
    assert columns  # the root's is always known
    assert len(set(columns)) == 1


def deep(levels: int) -> Trace:
    """One module inside the other."""
    call = module("a", "A", (1, 8), (1, 8), us=1)
    for _ in range(levels - 1):
        call = module("a", "A", (1, 8), (1, 8), call, us=2)
    return trace(module("Net", "Net", (1, 8), (1, 8), call, us=30, path=""))


def columns_of_times(shown: str) -> list[int]:
    """Where the decimal point of each time stands in a printed tree; no name in it may look like a time."""
    body = shown.split("\n\n")[1]
    times = [found for line in body.splitlines() if (found := re.search(r"\d+\.\d+(?![\dKMBT])(?=\s|$)", line))]
    return [cell_len(found.string[: found.end()]) for found in times]


@pytest.mark.parametrize("name", ["a", "fc", "act", "卷"])
def test_a_short_name_keeps_the_columns(name):
    """Columns line up where every name is shorter than the room beside the guides."""
    root = module("Net", "Net", (1, 8), (1, 8), module(name, "Linear", (1, 8), (1, 8), us=5), us=30, path="")
    assert len(set(columns_of_times(text(trace(root), width=100)))) == 1


@pytest.mark.parametrize(("levels", "width"), [(12, 80), (13, 60), (20, 80), (30, 100)])
def test_deep_nesting_keeps_the_columns(levels, width):
    """Columns line up and no time is cut, however deep the modules are nested."""
    columns = columns_of_times(text(deep(levels), width=width))
    assert len(columns) == levels + 1
    assert len(set(columns)) == 1


@settings(max_examples=30, deadline=None)
@given(traces(), st.integers(60, 200))
def test_no_time_is_ever_cut(shown, width):
    """The time column is the last thing to give way: every measured call shows its whole time."""
    body = text(shown, width=width).split("\n\n")[1]
    measured = sum(call.host_ns is not None for _, call in shown.walk())
    assert len(re.findall(r"(?<=\s)\d+\.\d+(?=\s|$)", body)) == measured


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("[red]x[/red]", "[red]x[/red]"),
        ("\x1b[31mx", r"\x1b[31mx"),
        ("a\nb", r"a\nb"),
        ("a\rb", r"a\rb"),
        (":smile:", ":smile:"),
        ("\u202eabc", r"\u202eabc"),
        ("卷积层", "卷积层"),
        ("a\\[b]", "a\\[b]"),
        ("{x!r}%s", "{x!r}%s"),
    ],
)
def test_a_name_from_a_model_is_text(name, printed):
    """No markup, no escape sequence, no line break, no emoji code; and the columns after it line up."""
    site = Site(f"{name}.py", 3, text=name)
    error = CallError(name, name, raised_here=True, caught=True)
    root = module(
        name,
        name,
        (2, 8),
        (2, 8),
        module(name, name, (2, 8), (2, 8), us=5, source=name),
        module("fc", "Linear", (2, 8), (2, 8), us=15),
        module("raised", "Linear", (2, 8), None, error=error),
        hook(name, "forward hook", [f"output replaced by {name}"]),
        us=30,
        path="",
    )
    root.children[0].site = Site("helpers.py", 3)
    shown = trace(root, {"fc": 3}, findings=[Finding("unused", f"{name} took no part", name, site)])
    shown.model.origin = f"{name}.py:1"
    shown.settings.notes = [name]
    shown.prediction = [Prediction(name, spec((1,)), [name])]
    lines = text(shown, width=160).splitlines()
    assert printed in lines[0]
    assert lines[1] == printed
    assert all(line.isprintable() for line in lines)
    (own,) = (line for line in lines if line.startswith(f"│  ├─ {printed}"))
    (other,) = (line for line in lines if line.startswith("│  ├─ fc"))
    assert own.count(printed) == 3  # its name, its type and where its input came from
    columns = [cell_len(line[: line.index("[2, 8] → [2, 8]")]) for line in (own, other)]
    assert columns[0] == columns[1]


def printed(shown: Trace, **options: object) -> str:
    """What a console with these settings writes."""
    out = io.StringIO()
    console = Console(file=out, width=100, highlight=False, **options)  # type: ignore[arg-type]
    console.print(tree(shown, width=100))
    return out.getvalue()


@pytest.mark.parametrize("make", [cnn, nested, failed])
def test_no_escape_sequence_without_a_terminal(make):
    """A pipe and a file get plain text."""
    assert "\x1b" not in printed(make())
    assert "\x1b" not in text(make())


@pytest.mark.parametrize("make", [cnn, nested, failed])
def test_no_colour_with_NO_COLOR(make, monkeypatch):
    """NO_COLOR asks for no colour: bold and dim may stay on a terminal."""
    monkeypatch.setenv("NO_COLOR", "1")
    codes = {
        code
        for sequence in re.findall(r"\x1b\[([\d;]*)m", printed(make(), force_terminal=True))
        for code in sequence.split(";")
    }
    assert codes <= {"0", "1", "2"}


@pytest.mark.parametrize("make", [cnn, nested, failed])
def test_it_reads_on_a_light_and_on_a_dark_terminal(make):
    """Colours are the terminal's own hues, which its theme makes readable; never black, white, a background or RGB."""
    shown = printed(make(), force_terminal=True, color_system="truecolor", no_color=False)
    codes = {
        code
        for sequence in re.findall(r"\x1b\[([\d;]*)m", shown)
        for code in map(int, sequence.split(";") if sequence else [])
    }
    assert codes  # there is colour
    assert codes <= {0, 1, 2, 31, 32, 33, 34, 35, 36}


@pytest.mark.parametrize("make", [cnn, nested, failed])
def test_colours_say_nothing_that_the_text_does_not(make):
    """Without its escape sequences, the coloured tree is the plain one."""
    coloured = re.sub(r"\x1b\[[\d;]*m", "", printed(make(), force_terminal=True, color_system="truecolor"))
    assert [line.rstrip() for line in coloured.splitlines()] == text(make(), width=100).splitlines()


def test_no_line_ends_in_spaces():
    """A tree can be pasted, and a diff of two shows no invisible change."""
    shown = cnn()
    shown.findings = [Finding("unused", "fc3 took no part", "fc3", Site(FILE, 13, text="self.fc3"))]
    assert [line for line in printed(shown).splitlines() if line != line.rstrip()] == []


def test_a_model_of_a_thousand_levels_is_printed():
    """Neither walking nor printing recurses."""
    call = module("leaf", "Leaf", (1,), (1,))
    for _ in range(1000):
        call = module("a", "A", (1,), (1,), call)
    shown = trace(module("Net", "Net", (1,), (1,), path=""))
    shown.calls[0].children = [call]
    assert len(text(shown, width=100, depth=5).splitlines()) < 20
    assert len(text(shown, width=100).splitlines()) > 1000


def on_a_device(bound: Literal["launches", "device"], untraced: int, device: int) -> Trace:
    """A model of two modules with host and device times."""
    x = spec((8, 8), device="cuda:0")
    fc, out = module("fc", "Linear", x, x, us=20, line=21), module("out", "Linear", x, x, us=15, line=22)
    root = module("Net", "Net", x, x, fc, out, us=60, path="")
    for call, ns in ((root, 31_400), (fc, 21_300), (out, 10_150)):
        call.device_ns = ns
    times = Timing(untraced_ns=untraced, traced_ns=untraced, runs=3, device_ns=device, bound=bound)
    return trace(root, {"fc": 64, "out": 64}, timing=times)


def test_device_time_has_a_column_beside_host_time():
    """Where any call has one; the header says what limits the model."""
    shown = text(on_a_device("launches", 82_000, 31_400), width=120).splitlines()
    assert shown[1] == (
        "untraced 82.0 µs   traced 82.0 µs   medians of 3 runs   "
        "bound by launches: the device worked 31.4 µs of 82.0 µs"
    )
    assert "host µs  device µs" in shown[3]
    (row,) = (line for line in shown if " fc " in line)
    assert re.search(r"cuda:0 +20\.0 +21\.3 ", row)


def test_a_verdict_that_does_not_fit_beside_the_times_has_a_line_of_its_own():
    """And "the device" where that is what limits."""
    shown = text(on_a_device("device", 3_100_000, 3_000_000), width=80).splitlines()
    assert shown[2] == "  bound by the device: the device worked 3.000 ms of 3.100 ms"
    assert all(len(line) <= 80 for line in shown)


# what things are, for who sees a tree for the first time


def test_explain_says_what_each_kind_of_thing_is():
    """Under the first line of each kind, once; below the tree, what its signs mean."""
    assert text(nested(), width=100, explain=True) == drawing("""
        Net   models/net.py:8   144 parameters   cpu   eval, inference mode

                                                                             µs            params
        Net.__call__                      [2, 8] → [2, 8]                 100.0               144
        │  model(x) runs type(model).__call__: the hooks and, between them, forward
        ├─ forward pre-hooks
        │  │  run before forward, and may replace its arguments
        │  └─ check     forward pre-hook  changed nothing                                          :50
        │     a hook: a function that register_forward_pre_hook added; __call__ calls it
        ├─ forward  models/net.py:20
        │  │  the model's own code: the method that __call__ runs between the hooks
        │  ├─ layer0    Block             [2, 8] → [2, 8]                  30.0  ██▍◂          72  :22
        │  │  │  a submodule: this is a __call__ of its own, with its own hooks and forward
        │  │  ├─ halve  forward pre-hook  args[0] replaced, float32[2,8]                           :40
        │  │  └─ fc     Linear            [2, 8] → [2, 8]                  20.0  █▋            72  :15
        │  └─ layer1    Block             [2, 8] → [2, 8]                  30.0  ██▍           72  :23
        │     ├─ x * 2                    [2, 8]                            4.0  ▍                 :14
        │     │  an operation: it runs inside forward, without a __call__ and without hooks
        │     └─ fc     Linear            [2, 8] → [2, 8]                  20.0  █▋            72  :15
        └─ forward hooks
           │  run after forward, and may replace its output
           └─ log       forward hook      output replaced, float32[2,8]                            :51

        →    input shapes → output shapes; one shape alone where both are the same
        █    its share of the whole time
        ◂    the costliest module of its level, a quarter of the whole time or more
        :24  the line of code that made the call
        """)


def test_explain_of_a_failed_call_in_a_narrow_terminal():
    """Sentences wrap beside the tree's lines, which go on."""
    assert (
        text(failed(), width=60, explain=True).split("\n\n")[1].splitlines()[1:]
        == drawing("""
        ✗ Net.__call__        [1,9]                     90
        │  model(x) runs type(model).__call__: the hooks and,
        │  between them, forward
        ├─ forward pre-hooks  none
        │  run before forward, and may replace its arguments
        ├─ forward  models/net.py:20
        │  │  the model's own code: the method that __call__ runs
        │  │  between the hooks
        │  ├─ linear  Linear  [1,9] → [1,9]             90  :21
        │  │  a submodule: this is a __call__ of its own, with its
        │  │  own hooks and forward
        │  └─ ✗ x.view        [1,9] ✗ size [-1, 8]          :22
        │     an operation: it runs inside forward, without a
        │     __call__ and without hooks
        │     ✗ it raised an exception, and so has no output; the
        │     calls around it ended with it
        └─ forward hooks  none
           run after forward, and may replace its output
        """).splitlines()
    )


def test_explain_quotes_the_readers_own_expression():
    """Where it is short; control characters in it stay text."""
    shown = cnn()
    shown.calls[0].children[0].site = Site(FILE, 25, text="self.conv1(x)")
    assert "a submodule: self.conv1(x) is a __call__ of its own" in text(shown, width=100, explain=True)
    shown.calls[0].children[0].site = Site(FILE, 25, text="self.\x1b[31m(x)")
    assert r"a submodule: self.\x1b[31m(x) is a __call__" in text(shown, width=100, explain=True)
    shown.calls[0].children[0].site = Site(FILE, 25, text="self.conv1(" + "x" * 50 + ")")
    assert "a submodule: this is a __call__ of its own" in text(shown, width=100, explain=True)


def test_explain_of_a_caught_error():
    """The run went on, and the sentence says so."""
    caught = CallError("RuntimeError", "no", raised_here=True, caught=True)
    root = module("Net", "Net", (1,), (1,), module("fast", "Linear", (1,), None, error=caught), path="")
    assert "│     ✗ it raised an exception, and so has no output; the code around it caught" in (
        text(trace(root), width=100, explain=True)
    )


@pytest.mark.parametrize("make", [cnn, nested, failed])
@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_explain_only_adds_lines(make, width):
    """Without its sentences, the tree is the one without explain."""
    plain, more = text(make(), width=width).splitlines(), iter(text(make(), width=width, explain=True).splitlines())
    assert all(line in more for line in plain)  # in this order: `in` uses up what it passes


def test_explain_of_a_trace_without_calls():
    """Nothing was called: there is nothing to explain."""
    shown = cnn()
    shown.calls = []
    assert text(shown, width=100, explain=True) == text(shown, width=100)


@settings(max_examples=30, deadline=None)
@given(traces(), st.integers(60, 200))
def test_no_explained_line_is_wider_than_the_terminal(shown, width):
    """Sentences wrap, whatever the model."""
    assert all(cell_len(line) <= width for line in text(shown, width=width, explain=True).splitlines())


# what repeats


def repeated(count: int = 32) -> Trace:
    """Blocks that are alike, but for one that is wider, between an embedding and a head."""

    def block(i: int) -> Call:
        path, width = f"layers.{i}", 16 if i == 20 else 8
        inside = [
            module("attn", "Attention", (2, width), (2, width), us=7 + i % 3, line=12, path=f"{path}.attn"),
            operation("x + attn(…)", "aten.add", (2, width), (2, width), us=1, line=12, path=path, source="attn"),
        ]
        return module(path, "Block", (2, width), (2, width), *inside, us=9 + i % 5, line=24)

    embed = module("embed", "Embedding", spec((2,), "int64"), (2, 8), us=5, line=22, source="input ids")
    head = module("head", "Linear", (2, 8), (2, 100), us=9, line=25, source=f"layers.{count - 1}")
    blocks = [block(i) for i in range(count)]
    root = module("Net", "Net", spec((2,), "int64"), (2, 100), embed, *blocks, head, us=400, path="")
    own = {"embed": 800, "head": 900, **{f"layers.{i}.attn": 64 for i in range(count)}}
    return trace(root, own, timing=Timing(untraced_ns=390_000, traced_ns=400_000, runs=50))


def test_repeats_are_one_line():
    """Their number, their total time and that of one, all their parameters; inside it, one of them."""
    assert text(repeated(), width=120) == drawing("""
        Net   models/net.py:8   3,748 parameters   cpu   eval, inference mode
        untraced 390.0 µs   traced 400.0 µs   medians of 50 runs

                                                                                  µs           params
        Net.__call__                                int64[2] → float32[2,100]  400.0            3,748
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  ├─ embed                      Embedding  int64[2] → float32[2,8]      5.0  ▏           800  :22  ← input ids
        │  ├─ layers.0 … layers.19 ×20   Block      [2,8] → [2,8]              220.0  ███▉◂     1,280  :24  each 11.0 (9.0–13.0)
        │  │  ├─ attn                    Attention  [2,8] → [2,8]                8.0  ▏            64  :12
        │  │  └─ x + attn(…)                        [2,8]                        1.0  ▏                :12
        │  ├─ layers.20                  Block      [2,16] → [2,16]              9.0  ▏            64  :24
        │  │  ├─ attn                    Attention  [2,16] → [2,16]              9.0  ▏            64  :12
        │  │  └─ x + attn(…)                        [2,16]                       1.0  ▏                :12
        │  ├─ layers.21 … layers.31 ×11  Block      [2,8] → [2,8]              120.0  ██▏         704  :24  each 11.0 (9.0–13.0)
        │  │  ├─ attn                    Attention  [2,8] → [2,8]                8.0  ▏            64  :12
        │  │  └─ x + attn(…)                        [2,8]                        1.0  ▏                :12
        │  └─ head                       Linear     [2,8] → [2,100]              9.0  ▏           900  :25
        └─ forward hooks  none

        ×N: N calls alike, with their total time; inside is one, with medians; --no-fold shows all
        """)


def test_of_several_outputs_the_first_stay_with_what_went_in():
    """Where not all have room; the end alone is kept where one output is too long."""
    root = module("Net", "Net", spec((1, 16), "int64"), None, path="")
    root.output = [Value(f"[{i}]", spec((1, 16, 100 + i))) for i in range(3)]
    shown = text(trace(root), width=70).splitlines()
    assert [line for line in shown if "__call__" in line] == [
        "Net.__call__  int64[1,16] → float32[1,16,100], float32[1,16,101], …"
    ]
    root.output = root.output[:1]
    assert "  …[1,16] → float32[1,16,100]" in text(trace(root), width=42)


def test_settings_that_differ_among_calls_on_one_line_are_told():
    """By the argument, once for each module of those that are inside one."""
    made = repeated(12)
    for i in range(12):
        repr = "rate=0.0, heads=4" if i % 2 else f"rate={i / 10}, heads={i + 1}"
        made.modules[f"layers.{i}.attn"] = msgspec.structs.replace(made.modules[f"layers.{i}.attn"], extra_repr=repr)
    assert text(made, width=100).endswith(
        "--no-fold shows all\n\nsettings differ: rate=0.0…1.0, heads=1…11 in layers.0.attn and those like it"
    )


def test_where_room_is_short_what_one_took_stands_below():
    """Whole, with the least and the most, beside the line to what stands inside."""
    assert text(repeated(), width=80) == drawing("""
        Net   models/net.py:8   3,748 parameters   cpu   eval, inference mode
        untraced 390.0 µs   traced 400.0 µs   medians of 50 runs

                                                                                 µs
        Net.__call__                               int64[2] → float32[2,100]  400.0
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  ├─ embed                     Embedding  int64[2] → float32[2,8]      5.0  :22
        │  ├─ layers.0 … layers.19 ×20  Block      [2,8] → [2,8]              220.0  :24
        │  │  │  each 11.0 (9.0–13.0)
        │  │  ├─ attn                   Attention  [2,8] → [2,8]                8.0  :12
        │  │  └─ x + attn(…)                       [2,8]                        1.0  :12
        │  ├─ layers.20                 Block      [2,16] → [2,16]              9.0  :24
        │  │  ├─ attn                   Attention  [2,16] → [2,16]              9.0  :12
        │  │  └─ x + attn(…)                       [2,16]                       1.0  :12
        │  ├─ layers.21 … 31 ×11        Block      [2,8] → [2,8]              120.0  :24
        │  │  │  each 11.0 (9.0–13.0)
        │  │  ├─ attn                   Attention  [2,8] → [2,8]                8.0  :12
        │  │  └─ x + attn(…)                       [2,8]                        1.0  :12
        │  └─ head                      Linear     [2,8] → [2,100]              9.0  :25
        └─ forward hooks  none

        ×N: N calls alike, with their total time; inside is one, with medians; --no-fold
        shows all
        """)


def test_in_a_narrow_terminal_the_first_and_the_last_index_stay():
    """With their number, and what one took."""
    assert text(repeated(), width=60) == drawing("""
        Net   models/net.py:8   3,748 parameters   cpu
          eval, inference mode
        untraced 390.0 µs   traced 400.0 µs   medians of 50 runs

                                                             µs
        Net.__call__            …[2] → float32[2,100]     400.0
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  ├─ embed             int64[2] → float32[2,8]     5.0  :22
        │  ├─ layers.0…19 ×20   [2,8] → [2,8]             220.0  :24
        │  │  │  each 11.0 (9.0–13.0)
        │  │  ├─ attn           [2,8] → [2,8]               8.0  :12
        │  │  └─ x + attn(…)    [2,8]                       1.0  :12
        │  ├─ layers.20         [2,16] → [2,16]             9.0  :24
        │  │  ├─ attn           [2,16] → [2,16]             9.0  :12
        │  │  └─ x + attn(…)    [2,16]                      1.0  :12
        │  ├─ layers.21…31 ×11  [2,8] → [2,8]             120.0  :24
        │  │  │  each 11.0 (9.0–13.0)
        │  │  ├─ attn           [2,8] → [2,8]               8.0  :12
        │  │  └─ x + attn(…)    [2,8]                       1.0  :12
        │  └─ head              [2,8] → [2,100]             9.0  :25
        └─ forward hooks  none

        ×N: N calls alike, with their total time; inside is one,
        with medians; --no-fold shows all
        """)


def test_below_calls_without_anything_inside():
    """What one took stands under the name; with --explain before the sentence."""
    assert text(repeated(), width=80, depth=1, explain=True).split("\n\n")[1] == drawing("""
                                                                                 µs
        Net.__call__                               int64[2] → float32[2,100]  400.0
        │  model(x) runs type(model).__call__: the hooks and, between them, forward
        ├─ forward pre-hooks  none
        │  run before forward, and may replace its arguments
        ├─ forward  models/net.py:20
        │  │  the model's own code: the method that __call__ runs between the hooks
        │  ├─ embed                     Embedding  int64[2] → float32[2,8]      5.0  :22
        │  │  a submodule: this is a __call__ of its own, with its own hooks and forward
        │  ├─ layers.0 … 19 ×20  +2     Block      [2,8] → [2,8]              220.0  :24
        │  │  each 11.0 (9.0–13.0)
        │  │  ×N: N calls that are alike, with their total time; inside is one of them,
        │  │  with medians
        │  ├─ layers.20  +2             Block      [2,16] → [2,16]              9.0  :24
        │  ├─ layers.21 … 31 ×11  +2    Block      [2,8] → [2,8]              120.0  :24
        │  │  each 11.0 (9.0–13.0)
        │  └─ head                      Linear     [2,8] → [2,100]              9.0  :25
        └─ forward hooks  none
           run after forward, and may replace its output
        """)


def test_without_times_none_are_spoken_of():
    """With --repeat 0: neither below the tree nor in it."""
    untimed = repeated()
    for _, call in untimed.walk():
        call.host_ns = None
    shown = text(untimed, width=120, explain=True)
    assert shown.endswith("×N: N calls alike; inside is one; --no-fold shows all")
    assert "×N: N calls that are alike; inside is one of them\n" in shown


def test_no_fold_shows_every_call():
    """As they were called, without a word on folding."""
    shown = text(repeated(), width=100, fold=False)
    assert names(shown).count("attn") == 32
    assert "×N" not in shown


def test_a_folded_line_has_what_a_call_has():
    """Its depth is limited as that of others, and --explain says what it is."""
    assert "layers.0 … layers.19 ×20  +2" in text(repeated(), width=120, depth=1)
    assert "×N: N calls that are alike" in text(repeated(), width=120, explain=True)


def in_turn() -> Trace:
    """A module and an operation that repeat in turn."""
    calls = []
    for i in range(10):
        calls.append(module(f"layers.{i}", "Linear", (2, 8), (2, 8), us=8 + i % 2, line=24))
        calls.append(operation("F.relu", "aten.relu", (2, 8), (2, 8), us=2, line=24, source=f"layers.{i}"))
    root = module("Net", "Net", (2, 8), (2, 8), *calls, us=120, path="")
    return trace(root, {f"layers.{i}": 72 for i in range(10)})


def test_calls_that_repeat_in_turn():
    """A line with their number and time over one of each."""
    assert text(in_turn(), width=100) == drawing("""
        Net   models/net.py:8   720 parameters   cpu   eval, inference mode

                                                                µs        params
        Net.__call__                          [2,8] → [2,8]  120.0           720
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  └─ ×10 in turn                                    105.0  ███▌     720       each 10.5 (10.0–11.0)
        │     ├─ layers.0 … layers.9  Linear  [2,8] → [2,8]    8.5  ▎         72  :24
        │     └─ F.relu                       [2,8]            2.0  ▏             :24  ← layers.0
        └─ forward hooks  none

        ×N: N calls alike, with their total time; inside is one, with medians; --no-fold shows all
        """)


def test_of_those_in_turn_one_is_shown():
    """Without operations there is nothing to take turns with: the modules repeat by themselves."""
    assert text(in_turn(), width=100, operations="none") == drawing("""
        Net   models/net.py:8   720 parameters   cpu   eval, inference mode

                                                                 µs          params
        Net.__call__                           [2,8] → [2,8]  120.0             720
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  └─ layers.0 … layers.9 ×10  Linear  [2,8] → [2,8]   85.0  ████▎      720  :24  each 8.5 (8.0–9.0)
        └─ forward hooks  none

        ×N: N calls alike, with their total time; inside is one, with medians; --no-fold shows all
        """)


def test_roots_that_repeat():
    """A loop around the model: one tree for all rounds, with the sizes that grow."""
    shown = nested()
    shown.calls = [module("", "Net", (1, length), (1, 8), us=10, path="") for length in range(3, 9)]
    assert "Net.__call__ ×6" in text(shown, width=100)
    assert "[1, 3…8] → [1, 8]" in text(shown, width=100)
    pairs = [module(name, name.title(), (1,), (1,), us=5) for _ in range(5) for name in ("encoder", "decoder")]
    shown.calls = pairs
    drawn = text(shown, width=100).splitlines()
    assert [line.split("  ")[0] for line in drawn if "__call__" in line or "turn" in line] == [
        "×5 in turn",
        "encoder.__call__",
        "decoder.__call__",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
@pytest.mark.parametrize("make", [repeated, in_turn])
def test_no_folded_line_is_wider_than_the_terminal(make, width):
    """Whatever the width, and every number of repeats is there, the first and the last, and what one took."""
    shown = text(make(), width=width)
    assert all(cell_len(line) <= width for line in shown.splitlines())
    assert all(f"×{count}" in shown for count in ((20, 11) if make is repeated else (10,)))
    names = [(0, 19), (21, 31)] if make is repeated else [(0, 9)]
    assert all(re.search(rf"\b{first} ?… ?(layers\.)?{last}\b", shown) for first, last in names)
    times = ["each 11.0 (9.0–13.0)"] * 2 if make is repeated else ["each 10.5 (10.0–11.0)"]
    assert re.findall(r"each .*?\)", shown) == times


@pytest.mark.parametrize("width", [50, 60, 80, 100])
def test_deep_calls_that_share_a_line_keep_their_indices(width):
    """The guide is cut rather than they."""
    inside = [module(f"layers.{i}", "Linear", (2, 8), (2, 8), us=8 + i % 2, line=24) for i in range(24)]
    for depth in range(10):
        inside = [module(f"inner{depth}", "Wrapper", (2, 8), (2, 8), *inside, us=240, line=9)]
    shown = text(trace(module("Net", "Net", (2, 8), (2, 8), *inside, us=250, path="")), width=width)
    assert re.search(r"\b0 ?… ?(layers\.)?23 ×24", shown)
    assert "each 8.5 (8.0–9.0)" in shown
    assert all(cell_len(line) <= width for line in shown.splitlines())


@pytest.mark.parametrize(
    ("width", "shapes"),
    [
        (74, "float32[1,64,112,112] → bfloat16[1,128,56,56]"),
        (70, "…[1,64,112,112] → bfloat16[1,128,56,56]"),
        (60, "…,112] → bfloat16[1,128,56,56]"),
        (54, "… → bfloat16[1,128,56,56]"),
        (53, "…→ bfloat16[1,128,56,56]"),
    ],
)
def test_shapes_are_cut_between_sizes(width, shapes):
    """On the left, since the output says more, and never inside a number or a word."""
    call = module("down", "Conv2d", spec((1, 64, 112, 112)), spec((1, 128, 56, 56), "bfloat16"), us=5, line=3)
    assert f"  {shapes}  " in text(trace(module("Net", "Net", (1,), (1,), call, us=9, path="")), width=width)


def two_in_turn(slow: dict[int, float]) -> Trace:
    """A root that calls two submodules in turn, two hundred times; some calls are so much slower than the others."""
    calls = [
        module(name, kind, (2, 8), (2, 8), us=slow.get(i, 1) if name == "attn" else 1, line=21)
        for i in range(200)
        for name, kind in (("attn", "Attention"), ("mlp", "MLP"))
    ]
    return trace(
        module("Net", "Net", (2, 8), (2, 8), *calls, us=sum(call.host_ns or 0 for call in calls) / 1000, path="")
    )


def test_a_slow_one_among_repeats_has_a_line_where_it_was_called():
    """The others share one before it and one after."""
    assert text(two_in_turn({50: 90}), width=100).split("\n\n")[1] == drawing("""
                                                      µs
        Net.__call__              [2, 8] → [2, 8]  489.0
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  ├─ ×50 in turn                          100.0  █▋             each 2.0
        │  │  ├─ attn  Attention  [2, 8] → [2, 8]    1.0  ▏         :21
        │  │  └─ mlp   MLP        [2, 8] → [2, 8]    1.0  ▏         :21
        │  ├─ attn     Attention  [2, 8] → [2, 8]   90.0  █▌        :21
        │  ├─ mlp      MLP        [2, 8] → [2, 8]    1.0  ▏         :21
        │  └─ ×149 in turn                         298.0  ████▉          each 2.0
        │     ├─ attn  Attention  [2, 8] → [2, 8]    1.0  ▏         :21
        │     └─ mlp   MLP        [2, 8] → [2, 8]    1.0  ▏         :21
        └─ forward hooks  none
        """)


def test_many_slow_ones_among_repeats_are_in_their_range():
    """A line for each would hide the loop."""
    assert text(two_in_turn(dict.fromkeys(range(7, 200, 10), 9)), width=100).split("\n\n")[1] == drawing("""
                                                      µs
        Net.__call__              [2, 8] → [2, 8]  560.0
        ├─ forward pre-hooks  none
        ├─ forward  models/net.py:20
        │  └─ ×200 in turn                         560.0  ████████       each 2.0 (2.0–10.0)
        │     ├─ attn  Attention  [2, 8] → [2, 8]    1.0  ▏         :21
        │     └─ mlp   MLP        [2, 8] → [2, 8]    1.0  ▏         :21
        └─ forward hooks  none
        """)
