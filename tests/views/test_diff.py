"""The page of `tracecall diff`, drawn as it looks."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from tests.views.traces import cnn, module, operation, trace
from tracecall.calls import Trace
from tracecall.comparison import compare
from tracecall.views.diff import diff


def drawn(before: Trace, after: Trace, width: int = 80, **options: object) -> list[str]:
    """What is printed, without colours."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False)
    console.print(diff(compare(before, after), ("a.json", "b.json"), width=width, **options))  # type: ignore[arg-type]
    return [line.rstrip() for line in out.getvalue().splitlines()]


def wider() -> Trace:
    """The CNN with 48 channels from conv2, GELU after fc1, and Dropout."""
    made = cnn()
    conv2, relu, pool, view, fc1, last = (made.calls[0].children[i] for i in (3, 4, 5, 6, 7, 8))
    for call, taken, given in ((conv2, 16, 48), (relu, 48, 48), (pool, 48, 48)):
        for value, channels in ((call.inputs[0], taken), (call.output[0], given)):
            value.value = msgspec.structs.replace(value.value, shape=(1, channels, *value.value.shape[2:]))  # type: ignore[union-attr, type-var]
    for value in (view.output[0], fc1.inputs[0]):
        value.value = msgspec.structs.replace(value.value, shape=(1, 2352))  # type: ignore[type-var]
    view.inputs[0].value = pool.output[0].value
    last.name = "F.gelu"
    made.modules["conv2"].parameters, made.modules["fc1"].parameters = 6960, 282_360
    made.model.parameters = 290_978
    made.calls[0].children.insert(9, module("drop", "Dropout", (1, 120), (1, 120)))
    return made


def test_the_merged_tree() -> None:
    """Signs in front, changes under the call that they are of, unchanged calls as they stand."""
    found = drawn(cnn(), wider())
    assert (
        found[: found.index("", 4)]
        == """\
CNN   a.json → b.json
parameters  194,578 → 290,978

                        before µs  after µs  ratio
  CNN                       300.0     300.0   1.00
  ├─ conv1   Conv2d          60.0      60.0   1.00
  ├─ F.relu                  15.2      15.2   1.00
  ├─ pool    MaxPool2d       30.0      30.0   1.00
→ ├─ conv2   Conv2d          90.0      90.0   1.00
  │     output shape  [1, 32, 14, 14] → [1, 48, 14, 14]
  │     parameters    4,640 → 6,960
→ ├─ F.relu                   7.5       7.5   1.00
  │     shape  [1, 32, 14, 14] → [1, 48, 14, 14]
→ ├─ pool    MaxPool2d       20.0      20.0   1.00
  │     input shape   [1, 32, 14, 14] → [1, 48, 14, 14]
  │     output shape  [1, 32, 7, 7] → [1, 48, 7, 7]
→ ├─ x.view                   3.0       3.0   1.00
  │     input shape   [1, 32, 7, 7] → [1, 48, 7, 7]
  │     output shape  [1, 1568] → [1, 2352]
→ ├─ fc1     Linear          40.0      40.0   1.00
  │     input shape  [1, 1568] → [1, 2352]
  │     parameters   188,280 → 282,360
− ├─ F.relu                   2.8
+ ├─ F.gelu                             2.8
+ ├─ drop    Dropout
  └─ fc2     Linear          10.0      10.0   1.00""".splitlines()
    )
    assert any(line.startswith("2 added, 1 removed, 5 changed, 5 calls as before; too few runs to") for line in found)


def test_changes_that_the_tree_does_not_show_are_said() -> None:
    """Operations by what shows them; what is too deep by the depth."""
    said = " ".join(drawn(cnn(), wider(), width=160, operations="none"))
    assert (
        "2 added, 1 removed, 5 changed, 4 of them are operations that the tree leaves out (--ops forward shows them), "
        "5 calls as before"
    ) in said
    assert not any("leaves out" in line for line in drawn(cnn(), wider(), width=160))
    (said,) = [line for line in drawn(cnn(), wider(), width=160, depth=0) if "changed" in line]
    assert said.startswith("2 added, 1 removed, 5 changed, 8 of them deeper than --depth 0, 5 calls as before")


def test_operations_of_a_new_module_are_shown_by_all() -> None:
    """Only --all opens what came as a whole, and then it leaves out none of them."""

    def net(*names: str) -> Trace:
        blocks = [
            module(name, "Block", (1,), (1,), operation("F.relu", "aten.relu", (1,), (1,), path=name)) for name in names
        ]
        return trace(module("Net", "Net", (1,), (1,), *blocks, path=""))

    for everything, typed in ((False, "--ops forward --all"), (True, "--ops forward")):
        found = drawn(net("one"), net("one", "two"), width=160, operations="none", everything=everything)
        said = f"2 added, 1 of them is an operation that the tree leaves out ({typed} shows it), 3 calls as before"
        assert said in " ".join(found)
    shown = drawn(net("one"), net("one", "two"), everything=True)
    assert any(line.startswith("+") and "F.relu" in line for line in shown)
    assert not any("leaves out" in line for line in shown)


def test_nothing_changed_is_one_line_and_the_root() -> None:
    """The tree stays closed: there is nothing to see."""
    found = drawn(cnn(), cnn(), width=100)
    assert [line for line in found if "conv1" in line] == []
    assert any(line.startswith("CNN  (10 calls inside)") for line in found)
    assert any(line.startswith("nothing changed: 11 calls with the same types, shapes, dtypes,") for line in found)


def test_all_shows_what_did_not_change() -> None:
    """Every call, changed or not."""
    assert sum("conv" in line for line in drawn(cnn(), cnn(), everything=True)) == 2


def test_many_unchanged_siblings_are_counted() -> None:
    """More than three in a row are one line."""

    def net(last: str) -> Trace:
        blocks = [module(f"block{i}", "Linear", (1,), (1,)) for i in range(9)]
        return trace(module("Net", "Net", (1,), (1,), *blocks, operation(last, "aten.relu", (1,), (1,)), path=""))

    assert (
        drawn(net("F.relu"), net("F.gelu"))[2:-2]
        == """\
  Net
  ├─ … 9 calls unchanged
− ├─ F.relu
+ └─ F.gelu""".splitlines()
    )


def test_what_came_with_a_new_call_is_counted_in_its_line() -> None:
    """A new block is one line; --all opens it."""

    def net(*names: str) -> Trace:
        blocks = [
            module(name, "Block", (1,), (1,), module("fc", "Linear", (1,), (1,), path=f"{name}.fc")) for name in names
        ]
        return trace(module("Net", "Net", (1,), (1,), *blocks, path=""))

    assert "+ └─ two  (1 call inside)  Block" in drawn(net("one"), net("one", "two"))
    assert sum("fc" in line for line in drawn(net("one"), net("one", "two"), everything=True)) == 2


def test_a_clear_time_stands_out_of_what_did_not_change() -> None:
    """A call that is slower is shown with the calls around it, though nothing else changed."""
    before, slower = cnn(), cnn()
    for one, factor in ((before, 1), (slower, 2)):
        for call in one.find("fc1"):
            call.host_ns, call.samples, call.spread_ns = 40_000 * factor, 50, 1000
    found = drawn(before, slower)
    (line,) = [line for line in found if "fc1" in line]
    assert line.split()[-5:] == ["40.0", "80.0", "2.00", "1.93–2.08", "slower"]
    assert any("1 slower" in line for line in found)


@pytest.mark.parametrize(
    ("spreads", "said"),
    [((0, 40_000), "…–2.00"), ((40_000, 0), "0.50–…"), ((40_000, 50_000), "noisy"), ((39_999, 39_990), "noisy")],
)
def test_no_end_of_a_ratio_is_shown_that_was_not_measured(spreads: tuple[int, int], said: str) -> None:
    """Where the spread is as large as the time, a lower end would be 0: no call takes no time."""
    traces = cnn(), cnn()
    for one, spread in zip(traces, spreads, strict=True):
        for _, call in one.walk():
            call.host_ns, call.samples, call.spread_ns = 40_000, 50, spread
    found = drawn(*traces, everything=True)
    assert any(said in line for line in found)
    assert not any("0.00–" in line or "too few runs" in line for line in found)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Columns go where room is short, names last."""
    assert max(map(len, drawn(cnn(), wider(), width=width))) <= width


def test_a_hostile_name_is_text() -> None:
    """Names come from models: no escape sequence and no markup of theirs is obeyed."""
    hostile = trace(module("Net", "Net", (1,), (1,), module("[red]\x1b[31m", "X", (1,), (1,)), path=""))
    found = "\n".join(drawn(cnn(), hostile))
    assert "\x1b" not in found
    assert r"[red]\x1b[31m" in found
