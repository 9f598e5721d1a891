"""The page of `tracecall compare`, drawn as it looks from numbers made by hand."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from tests.views.test_diff import layers
from tests.views.traces import cnn, module, operation, trace
from tracecall.calls import Call, CallError, Trace
from tracecall.comparison import compare as difference_of
from tracecall.recording.output_errors import OutputError
from tracecall.views.compare import compare
from tracecall.views.compared import Comparison


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
BAD = OutputError(10, 0.01, 0.04, 0.99)


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
✗ └─ x.argmax          3 of 10 differ

✗ they part first at two (Linear), models/net.py:24: relative 0.25 > 0.05
2 calls of 4 beyond the tolerance
− 1 call only in float32
+ 1 call only in bfloat16""".splitlines()  # fmt: skip


def test_within_the_tolerance() -> None:
    """No sign, and the largest error that there is."""
    found = comparison(net("one"), net("one"), {"one": SAME, "": FINE})
    assert not found.failed
    assert drawn(found)[-2:] == [
        "within the tolerance: the outputs of 2 calls, largest relative error 0.004 at the root",
        "first difference at the root, after 1 call without any",
    ]


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
    assert any(line.endswith("1  2 NaN/Inf") for line in lines)
    assert "NaN/Inf: NaN or Inf in one of both; the numbers are of what is finite" in lines
    assert any(line.endswith("shapes 1,2 and 1,3") for line in lines)
    assert any(line.endswith("not compared: NestedTensor") for line in lines)


def test_what_is_nan_in_both_is_alike_and_has_no_number() -> None:
    """No error is drawn, and the last lines name the first; beside numbers it is counted."""
    errors = {
        "one": FINE,
        "torch.log": OutputError(10, nonfinite_both=10),
        "two": OutputError(10, 0.001, 0.004, 0.999998, nonfinite_both=3),
        "": OutputError(10, 0.0, 0.0, 1.0, nonfinite=2, nonfinite_both=4),
    }
    names = ("one", "torch.log", "two")
    within = comparison(net(*names), net(*names), errors | {"": OutputError(empty=1)})
    assert not within.failed
    assert drawn(within)[3:] == """\
                      max abs  relative    cosine
Net                   empty
├─ one        Linear  1.0e-03   4.0e-03  0.999998
├─ torch.log          all NaN or Inf in both
└─ two        Linear  1.0e-03   4.0e-03  0.999998  3 NaN/Inf in both

within the tolerance: the outputs of 4 calls, largest relative error 0.004 at one
2 outputs have NaN or Inf in both runs, first at torch.log: errors are of what is finite
1 output is empty in both runs, first at the root""".splitlines()  # fmt: skip
    found = drawn(comparison(net(*names), net(*names), errors))
    assert any(line.endswith("0         1  2 NaN/Inf in one, 4 in both") for line in found)
    assert "NaN/Inf: NaN or Inf in one of both, where both are not named; the numbers are of what is finite" in found


def test_where_all_is_nan_or_empty_nothing_is_said_to_be_within_a_tolerance() -> None:
    """It is alike, and that is all."""
    errors = {"one": OutputError(10, nonfinite_both=10), "": OutputError(empty=1)}
    found = comparison(net("one"), net("one"), errors)
    assert not found.failed
    assert drawn(found)[-3:] == [
        "nothing to measure: the outputs of 2 calls, all of them NaN, Inf or empty in both runs alike",
        "1 output has NaN or Inf in both runs, first at one: errors are of what is finite",
        "1 output is empty in both runs, first at the root",
    ]


def test_outputs_of_another_structure() -> None:
    """What each run has is said in words; beside the numbers, where tensors were compared all the same."""
    other = ("a tensor", "a dict")
    for error, near in (
        (OutputError(10, 0.0, 0.0, 1.0, structures=other), "the numbers compared are the same"),
        (OutputError(10, 0.001, 0.004, 0.999998, structures=other), "the numbers compared are within the tolerance"),
    ):
        found = comparison(net("one"), net("one"), {"one": SAME, "": error})
        assert found.failed
        assert any(line.startswith("✗ Net") and line.endswith("  a tensor and a dict") for line in drawn(found))
        assert f"✗ they part first at the root (Net): a tensor and a dict; {near}" in " ".join(drawn(found))
    alone = comparison(net("one"), net("one"), {"": OutputError(structures=("a tensor", "none at [1]"))})
    assert "✗ they part first at the root (Net): a tensor and none at [1]" in drawn(alone)


def test_the_same_numbers_in_other_dtypes_are_not_called_identical() -> None:
    """The dtypes are said, in the line of an output that is not as most are, unless they are what was asked for."""
    other = OutputError(10, 0.0, 0.0, 1.0, dtypes=("float32", "complex64"))
    found = comparison(net("one", "two"), net("one", "two"), {"one": SAME, "two": SAME, "": other})
    assert drawn(found)[3:] == """\
                max abs  relative  cosine
Net                   0         0       1  float32 and complex64
├─ one  Linear        0         0       1
└─ two  Linear        0         0       1

the same numbers: the outputs of 3 calls
1 output has another dtype in each run, first float32 and complex64 at the root""".splitlines()  # fmt: skip
    asked = OutputError(10, 0.0, 0.0, 1.0, dtypes=("float32", "bfloat16"))
    lines = drawn(comparison(net("one"), net("one"), {"one": asked, "": asked}))
    assert lines[-1] == "the same numbers: the outputs of 2 calls, in other dtypes"
    whole = OutputError(10, differing=0, dtypes=("int32", "int64"))
    lines = drawn(comparison(net("one", "two"), net("one", "two"), {"one": asked, "two": asked, "": whole}))
    assert any(line.endswith("same; int32 and int64") for line in lines)


@pytest.mark.parametrize("width", [80, 100])
def test_nan_is_read_in_full_where_room_is_short(width: int) -> None:
    """Instead of numbers where there are none; beside them in few words, which are told only then."""

    def of(call: Call) -> OutputError:
        whole = call.name == "fc"
        return OutputError(16_384, nonfinite=16_384) if whole else OutputError(9, 0.5, 0.25, 0.75, nonfinite=1_024)

    found = drawn(both(24, of), width)
    rows = [line for line in found if "─ " in line]
    assert [line.split("─ ")[1].split()[0] for line in rows] == ["layers.0", "fc", "F.relu", "layers.1", "fc", "F.relu"]
    for line in rows:
        said = ("16,384 NaN or Inf in one", "376,832 NaN or Inf in one", "1,024 NaN/Inf", "23,552 NaN/Inf")
        assert any(f" {text} " in line for text in said)
        assert "0.750000" in line or "or Inf in one" in line
    assert "largest errors and lowest cosine, counted together what is NaN, Inf or differs;" in " ".join(found)
    whole = drawn(both(24, lambda _: OutputError(16_384, nonfinite=16_384)), width)
    assert not any("NaN/Inf" in line for line in whole)


def test_a_run_that_raised_fails_the_comparison() -> None:
    """With its exception, and which of both it was."""
    broken = net("one")
    broken.error = CallError("RuntimeError", "no such\nkernel")
    found = comparison(net("one"), broken, {"one": SAME})
    assert found.failed
    assert "✗ bfloat16 failed: RuntimeError: no such kernel" in drawn(found)
    assert drawn(found)[-1] == "before that, the same: the outputs of 1 call, to the last bit"


def failing(message: str, *names: str) -> Trace:
    """A net whose last call raised."""
    made = net(*names)
    made.error = CallError("ValueError", message)
    made.calls[0].error = CallError("ValueError", message)
    made.calls[0].children[-1].error = CallError("ValueError", message, raised_here=True)
    return made


def test_the_call_that_failed_is_marked_and_named() -> None:
    """With the run that raised; what was the same until then is not called identical."""
    found = comparison(net("one", "two"), failing("no", "one", "two"), {"one": SAME})
    assert found.failed
    assert drawn(found)[3:] == """\
                  max abs  relative  cosine
✗ Net
  ├─ one  Linear        0         0       1
✗ └─ two  Linear  ValueError in bfloat16

✗ bfloat16 failed at two (Linear), models/net.py:24: ValueError: no
before that, the same: the outputs of 1 call, to the last bit""".splitlines()  # fmt: skip
    found.names = ("a", "another_model.py:Net")
    assert any(line.endswith("ValueError in the second") for line in drawn(found))


def test_a_failure_of_both_is_said_once() -> None:
    """Twice, where they failed in other words."""
    found = comparison(failing("no", "one", "two"), failing("no", "one", "two"), {"one": FINE})
    assert drawn(found)[3:] == """\
                  max abs  relative    cosine
✗ Net
  ├─ one  Linear  1.0e-03   4.0e-03  0.999998
✗ └─ two  Linear  ValueError in both

✗ both failed at two (Linear), models/net.py:24: ValueError: no
before that, within the tolerance: the outputs of 1 call, largest relative error 0.004 at one""".splitlines()  # fmt: skip
    apart = drawn(comparison(failing("no", "one", "two"), failing("never", "one", "two"), {"one": FINE}))
    assert "✗ float32 failed at two (Linear), models/net.py:24: ValueError: no" in apart
    assert "✗ bfloat16 failed at two (Linear), models/net.py:24: ValueError: never" in apart


def test_a_call_that_failed_shares_no_line() -> None:
    """One of several that are alike, whichever run it is."""
    for before, after in (
        (net("one", "one"), failing("no", "one", "one")),
        (failing("no", *["one"] * 2), net(*["one"] * 2)),
    ):
        lines = drawn(comparison(before, after, {}))
        assert [line[:12].rstrip() for line in lines if "─ one" in line] == ["  ├─ one  Li", "✗ └─ one  Li"]


def test_an_exception_that_was_caught_is_no_failure() -> None:
    """The run went on."""
    caught = net("one", "two")
    caught.calls[0].children[0].error = CallError("ValueError", "no", caught=True)
    found = comparison(caught, caught, {"two": SAME, "": SAME})
    assert not found.failed
    assert "✗" not in "".join(drawn(found))


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


# calls that are alike


def both(number: int, of: Callable[[Call], OutputError], us: float = 11) -> Comparison:
    """Two runs of as many layers, the error of each output by its call."""
    found = difference_of(layers(number), layers(number, us=us))
    ended: list[Call] = []  # in the order in which they did
    for root, _ in found.both():
        if not root.path:
            ended += [one for block in root.children for one in (*block.children, block)] + [root]
    errors = {id(one): of(one) for one in ended}
    return Comparison(found, errors, ("float32", "bfloat16"), 0.05, "as given")


def test_calls_alike_share_a_line_with_the_worst_of_their_errors() -> None:
    """The largest of each error and the smallest cosine, wherever they are; times together, inside those of one."""

    def of(call: Call) -> OutputError:
        return OutputError(16, 0.002, 0.03, 0.999) if call.path == "layers.5.fc" else FINE

    found = drawn(both(24, of), 80)
    assert found[4:9] == """\
                             max abs  relative    cosine  ratio
Net                          1.0e-03   4.0e-03  0.999998   1.00  1.00–1.00
└─ layers.0 … layers.23 ×24  1.0e-03   4.0e-03  0.999998   1.10  1.06–1.14
   ├─ fc                     2.0e-03   3.0e-02  0.999000   1.10  1.02–1.19
   └─ F.relu                 1.0e-03   4.0e-03  0.999998   1.10  0.94–1.28""".splitlines()  # fmt: skip
    said = " ".join(found)
    assert (
        "×N: N calls alike, with their largest errors and lowest cosine; the ratio is of their total times; inside, of "
        "medians of one; --no-fold" in said
    )
    assert "within the tolerance: the outputs of 73 calls, largest relative error 0.03 at layers.5.fc" in said
    assert sum("─ layers." in line for line in drawn(both(24, of), fold=False)) == 24


def test_what_is_the_same_to_the_last_bit_shares_no_line_with_what_is_not() -> None:
    """Within the tolerance, too; below the tree is where the largest error is, and where the first."""

    def of(call: Call) -> OutputError:
        return SAME if call.path and int(call.path.split(".")[1]) < 11 else FINE if call.path != "layers.12.fc" else BAD

    found = drawn(both(24, of), 100)
    assert [line.split("─ ")[1].split("  ")[0] for line in found if "layers." in line and "─ " in line] == [
        "layers.0 … layers.10 ×11",
        "layers.11 … layers.23 ×13",
    ]
    assert "within the tolerance: the outputs of 73 calls, largest relative error 0.04 at layers.12.fc" in found
    assert "first difference at layers.11.fc, after 33 calls without any" in found


def test_the_largest_error_is_named_beside_the_first_that_parts() -> None:
    """Where it is another one; an operation with the module that it is in."""
    worst = OutputError(10, 2.0, 0.9, 0.5)
    first = {"layers.3.fc": FAR, "layers.5F.relu": worst}
    found = drawn(both(24, lambda call: first.get(call.path + call.name * (call.name == "F.relu"), SAME)), 100)
    assert "2 calls of 73 beyond the tolerance; largest relative error 0.9 at F.relu in layers.5" in found
    assert not any("first difference" in line for line in found)


def test_what_is_beyond_the_tolerance_alone_stands_alone() -> None:
    """With the call inside it that is, which is the one that is named."""
    found = drawn(both(24, lambda call: FAR if call.path.startswith("layers.9") else FINE), 100)
    assert [line[:30].rstrip() for line in found[4:13]] == """\
  Net
  ├─ layers.0 … layers.8 ×9
  │  ├─ fc
  │  └─ F.relu
✗ ├─ layers.9
✗ │  ├─ fc
✗ │  └─ F.relu
  └─ layers.10 … layers.23 ×14
     ├─ fc""".splitlines()  # fmt: skip
    assert "✗ they part first at layers.9.fc (Linear), models/net.py:12: relative 0.25 > 0.05" in found


def test_the_first_that_is_beyond_the_tolerance_has_a_line_of_its_own() -> None:
    """Where all that follow are, too."""
    found = drawn(both(24, lambda call: FAR if call.path and int(call.path.split(".")[1]) >= 4 else FINE), 100)
    assert [line.split("─ ")[1].split("  ")[0] for line in found if "layers." in line and "─ " in line] == [
        "layers.0 … layers.3 ×4",
        "layers.4",
        "layers.5 … layers.23 ×19",
    ]


def test_a_first_that_the_tree_leaves_out_is_said_to_be() -> None:
    """By a depth; an operation inside torch's own modules is shown if it is the first."""
    found = drawn(both(3, lambda call: FAR if call.path == "layers.1.fc" else FINE), 100, depth=1)
    assert "the first of them is not in this part of the tree" in found
    inner = both(3, lambda call: FAR if call.name == "F.relu" and call.path == "layers.1" else FINE)
    for call in (one for pair in inner.difference.both() for one in pair):
        call.internal = call.name == "F.relu"
    found = drawn(inner, 100)
    assert [line[:20].rstrip() for line in found if "F.relu" in line and "─ " in line] == ["✗ │  └─ F.relu"]
    assert not any("not in this part" in line for line in found)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_errors_and_ratio_stay_where_room_is_short(width: int) -> None:
    """All that is asked of a comparison is in every line of 80 cells: names, types and times go first."""
    found = drawn(both(24, lambda _: OutputError(16, 0.25, 0.013, 0.999, nonfinite=3), us=25000), width)
    shown = [line for line in found if "─ " in line]
    assert len(shown) == 6  # the first that parts, and the others
    for line in shown:
        assert {"2.5e-01", "1.3e-02", "0.999000", "2500.00"} <= set(line.split())


def test_times_are_there_where_they_have_room() -> None:
    """Under shorter titles, before types and the rest of names; what went comes back where room is left."""
    found = both(24, lambda _: FINE, us=25000)
    found.names = ("decoder24.py", "decoderslow2")
    for width, title in ((140, "decoder24.py ms  decoderslow2 ms"), (110, "1st ms  2nd ms"), (100, "1st ms  2nd ms")):
        lines = drawn(found, width)
        assert any(line.split("cosine  ")[-1].startswith(title) for line in lines)
        assert all("600.0" in line for line in lines if "─ layers.0" in line)
    for width in range(60, 140):
        lines = drawn(both(24, lambda _: FINE), width, depth=1)
        (line,) = [line for line in lines if "─ layers.0" in line]
        assert "(2 inside each)" in line or max(map(len, lines[4:7])) > width - 2


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Columns go where room is short, the error last."""
    found = comparison(cnn(), cnn(), {"conv1": FAR, "fc1": OutputError(shapes=("1,120", "1,240")), "": FINE})
    lines = drawn(found, width=width)
    assert max(map(len, lines)) <= width
    assert any("5.0e-01" in line for line in lines)
