"""The page of `tracecall compare`, drawn as it looks from numbers made by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.views.traces import cnn, module, operation, trace
from tracecall.calls import CallError, Trace
from tracecall.comparison import compare as difference_of
from tracecall.recording.output_errors import OutputError
from tracecall.views.compare import Comparison, compare


def comparison(before: Trace, after: Trace, errors: dict[str, OutputError]) -> Comparison:
    """The errors by the names of calls; the root's is ""."""
    found = difference_of(before, after)
    named = {call.name if call.path or call.kind != "module" else "": id(call) for call, _ in found.both()}
    return Comparison(
        found, {named[name]: error for name, error in errors.items()}, ("float32", "bfloat16"), 0.05, "as given"
    )


def net(*names: str) -> Trace:
    calls = [
        operation(name, "aten.x", (1,), (1,), line=25) if "." in name else module(name, "Linear", (1,), (1,), line=24)
        for name in names
    ]
    return trace(module("Net", "Net", (1,), (1,), *calls, path=""))


def drawn(found: Comparison, width: int = 100, **options: object) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False)
    console.print(compare(found, width=width, **options))  # type: ignore[arg-type]
    return [line.rstrip() for line in out.getvalue().splitlines()]


FINE = OutputError(10, 0.001, 0.004, 0.999998)
FAR = OutputError(10, 0.5, 0.25, 0.75)
SAME = OutputError(10, 0.0, 0.0, 1.0)


def test_the_page() -> None:
    """Signs for what is beyond the tolerance and for what only one of them does; then where they part."""
    before, after = net("one", "F.relu", "two", "x.argmax"), net("one", "F.gelu", "two", "x.argmax")
    errors = {"one": SAME, "two": FAR, "x.argmax": OutputError(10, differing=3), "": FINE}
    assert drawn(comparison(before, after, errors)) == """\
Net   models/net.py:8   float32 against bfloat16   eval, inference mode
tolerance 0.05, as given: of relative, the largest difference by the largest value

                       max abs  relative    cosine
  Net                  1.0e-03   4.0e-03  0.999998
  ├─ one       Linear        0         0         1
− ├─ F.relu
+ ├─ F.gelu
✗ ├─ two       Linear  5.0e-01   2.5e-01  0.750000
✗ └─ x.argmax                                       3 of 10 differ

✗ they part first at two (Linear), models/net.py:24: relative 0.25 > 0.05
2 calls of 4 beyond the tolerance
− 1 call only in float32
+ 1 call only in bfloat16""".splitlines()  # fmt: skip


def test_within_the_tolerance() -> None:
    """No sign, and the largest error that there is."""
    found = comparison(net("one"), net("one"), {"one": SAME, "": FINE})
    assert not found.failed
    assert drawn(found)[-1] == "within the tolerance: the outputs of 2 calls, largest relative error 0.004"


def test_identical_is_said_in_a_word() -> None:
    """To the last bit is more than within a tolerance."""
    found = comparison(net("one"), net("one"), {"one": SAME, "": SAME})
    assert drawn(found)[-1] == "identical: the outputs of 2 calls, to the last bit"


def test_what_has_no_number_is_said() -> None:
    """NaN in one, another shape, a tensor that was left out."""
    errors = {
        "one": OutputError(10, 0.0, 0.0, 1.0, nonfinite=2),
        "two": OutputError(shapes=("1,2", "1,3")),
        "": OutputError(uncompared=["NestedTensor"]),
    }
    lines = drawn(comparison(net("one", "two"), net("one", "two"), errors))
    assert any(line.endswith("2 NaN or Inf in one") for line in lines)
    assert any(line.endswith("shapes 1,2 and 1,3") for line in lines)
    assert any(line.endswith("not compared: NestedTensor") for line in lines)


def test_a_run_that_raised_fails_the_comparison() -> None:
    """With its exception, and which of both it was."""
    broken = net("one")
    broken.error = CallError("RuntimeError", "no such\nkernel")
    found = comparison(net("one"), broken, {"one": SAME})
    assert found.failed
    assert "✗ bfloat16: RuntimeError: no such kernel" in drawn(found)


def test_nothing_compared_is_a_failure() -> None:
    """A model that returns no tensors agrees with nothing."""
    found = comparison(net("one"), net("one"), {})
    assert found.failed
    assert "✗ no output could be compared" in drawn(found)


def test_what_was_not_compared_is_never_identical() -> None:
    """Alone it fails; beside others it is left out of their number, and named."""
    weird = OutputError(objects=["Weird"])
    alone = comparison(net("one"), net("one"), {"": weird})
    assert alone.failed
    assert "Net not compared: no tensor in it" in [" ".join(line.split()) for line in drawn(alone)]
    assert drawn(alone)[-2:] == ["✗ no output could be compared", "not compared: the output of 1 call (Weird)"]
    beside = comparison(net("one"), net("one"), {"one": SAME, "": weird})
    assert not beside.failed
    assert drawn(beside)[-2:] == [
        "identical: the outputs of 1 call, to the last bit",
        "not compared: the output of 1 call (Weird)",
    ]


def test_an_output_that_was_compared_in_part_says_so() -> None:
    """What was left out of it is named."""
    part = OutputError(10, 0.0, 0.0, 1.0, objects=["Cache", "Cache"])
    found = comparison(net("one"), net("one"), {"one": SAME, "": part})
    assert drawn(found)[-2:] == [
        "identical, as far as they were compared: the outputs of 2 calls, to the last bit",
        "not compared: Cache in the output of 1 call",
    ]


def test_depth_and_operations_choose_the_lines() -> None:
    """As for the tree of one trace; what is closed says how many calls it holds."""
    found = comparison(net("one", "F.relu"), net("one", "F.relu"), {"": SAME})
    assert not any("F.relu" in line for line in drawn(found, operations="none"))
    assert any(line.startswith("Net  (2 calls inside)") for line in drawn(found, depth=0))


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Columns go where room is short, the error last."""
    found = comparison(cnn(), cnn(), {"conv1": FAR, "fc1": OutputError(shapes=("1,120", "1,240")), "": FINE})
    lines = drawn(found, width=width)
    assert max(map(len, lines)) <= width
    assert any("5.0e-01" in line for line in lines)
