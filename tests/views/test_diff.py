"""The page of `tracecall diff`, drawn as it looks."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from tests.views.traces import cnn, module, operation, spec, trace
from tracecall.calls import Call, Finding, ModuleInfo, Trace, Value
from tracecall.comparison import Difference, compare, compare_processes
from tracecall.views.diff import diff


def drawn(before: Trace, after: Trace, width: int = 80, **options: Any) -> list[str]:
    """What is printed, without colours."""
    return page(compare(before, after), width, **options)


def page(found: Difference, width: int = 80, **options: Any) -> list[str]:
    """The same of what was compared before."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, highlight=False)
    console.print(diff(found, ("a.json", "b.json"), width=width, **options))
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
    (said,) = [line for line in drawn(cnn(), wider(), width=160, depth=0) if "deeper" in line]
    assert said.startswith("2 added, 1 removed, 5 changed, 8 of them deeper than --depth 0, 5 calls as before")


def nested(*names: str) -> Trace:
    """A net with a stage, in it blocks by their names, and a Linear in each."""
    blocks = [
        module(
            name, "Block", (1,), (1,), module("fc", "Linear", (1,), (1,), path=f"stage.{name}.fc"), path=f"stage.{name}"
        )
        for name in names
    ]
    stage = module("stage", "Stage", (1,), (1,), *blocks)
    return trace(module("Net", "Net", (1,), (1,), module("head", "Linear", (1,), (1,)), stage, path=""))


def test_every_change_below_a_depth_is_counted_and_marked_above() -> None:
    """What came with a call that is shown is in its line; without that line it is hidden, too."""
    both = nested("one"), nested("one", "two", "three")
    assert (
        drawn(*both, depth=1)[2:]
        == """\
Net
├─ head                              Linear
└─ stage  (6 calls inside, 4 added)  Stage

4 added, 4 of them deeper than --depth 1, 5 calls as before""".splitlines()
    )
    assert (
        drawn(*both, depth=2)[2:]
        == """\
  Net
  ├─ head                       Linear
  └─ stage                      Stage
     ├─ one  (1 call inside)    Block
+    ├─ two  (1 call inside)    Block
+    └─ three  (1 call inside)  Block

4 added, 5 calls as before""".splitlines()
    )
    assert "4 added, 4 of them deeper than --depth 0, 5 calls as before" in drawn(*both, depth=0)


def test_the_mark_of_what_changed_inside_stays_where_room_is_short() -> None:
    """The number of all inside goes for it."""
    both = nested("one"), nested("one", "two", "three")
    for made in both:
        made.calls[0].children[1].name = "a_stage_with_a_long_name"
    assert "└─ a_stage_with_a_long…  (4 added)" in "\n".join(drawn(*both, width=34, depth=1))


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
    legend = " ".join(found)
    assert ("; …: an end that is not known;" in legend) is (said != "noisy")
    assert ("; noisy: neither end is known;" in legend) is (said == "noisy")
    assert not any("0.00–" in line or "too few runs" in line for line in found)


# calls that are alike


def layers(number: int, size: int = 8, us: float = 10, slow: int | None = None) -> Trace:
    """Blocks of a Linear and a ReLU, each made by the same line; the one that is `slow` takes three times as long."""

    def block(i: int) -> Call:
        path, took = f"layers.{i}", us * 3 if i == slow else us
        fc = module("fc", "Linear", (2, size), (2, size), us=took / 2, line=12, path=f"{path}.fc")
        relu = operation("F.relu", "aten.relu", (2, size), (2, size), us=took / 4, line=13, path=path)
        return module(path, "Block", (2, size), (2, size), fc, relu, us=took, line=24)

    made = trace(module("Net", "Net", (2, 8), (2, 8), *map(block, range(number)), us=200, path=""))
    for _, call in made.walk():
        call.samples, call.spread_ns = 30, 200
    return made


def tree(lines: list[str]) -> list[str]:
    """What stands between the header and the sum."""
    first = lines.index("") + 1
    return lines[first : lines.index("", first)]


def test_the_same_change_of_many_is_told_once() -> None:
    """One line for the layers, with their times together; inside it is what changed in each, with the times of one."""
    found = drawn(layers(24), layers(24, size=6, us=11))
    assert tree(found) == """\
                                       before µs  after µs  ratio
  Net                                      200.0     200.0   1.00  1.00–1.00
→ └─ layers.0 … layers.23 ×24  Block       240.0     264.0   1.10  1.06–1.14
     │  shape  [2, 8] → [2, 6]
→    ├─ fc                     Linear        5.0       5.5   1.10  1.02–1.19
     │     shape  [2, 8] → [2, 6]
→    └─ F.relu                               2.5       2.8   1.10  0.94–1.28
           shape  [2, 8] → [2, 6]""".splitlines()  # fmt: skip
    assert "72 changed, 1 call as before; no time differs beyond noise" in found
    said = " ".join(found)
    assert "×N: N calls alike before and after, with their total times; inside, times are medians of one" in said


def test_no_fold_has_a_line_for_every_call() -> None:
    """And says nothing of lines that are shared."""
    found = drawn(layers(24), layers(24, size=6), fold=False)
    assert sum("layers." in line for line in found) == 24
    assert not any("×N" in line for line in found)


def test_a_layer_that_is_slower_where_the_others_are_not_stands_alone() -> None:
    """By what its ratio may as well be: with what is slower inside it."""
    found = tree(drawn(layers(8), layers(8, size=6, us=11, slow=4), width=100))
    assert [line.split("─ ")[1].split("  ")[0] for line in found if "─ " in line] == [
        "layers.0 … layers.3 ×4",
        "fc",
        "F.relu",
        "layers.4",
        "fc",
        "F.relu",
        "layers.5 … layers.7 ×3",
        "fc",
        "F.relu",
    ]
    assert sum(line.endswith("slower") for line in found) == 3


def test_a_layer_whose_change_is_another_stands_alone() -> None:
    """One of them got another size."""
    after = layers(8, size=6)
    odd = after.calls[0].children[4].children[1]
    odd.type = "aten.gelu"
    found = [line for line in tree(drawn(layers(8), after, width=100)) if "layers." in line]
    assert [line.split()[2:-1][0] for line in found] == ["layers.0", "layers.4", "layers.5"]


def test_what_some_of_them_are_is_counted() -> None:
    """Some are slower for sure and the others might be: they share a line, which says how many are."""
    before, after = layers(8), layers(8, size=6, us=14)
    for call in after.calls[0].children[3:]:
        call.spread_ns = 3000
    found = drawn(before, after, width=100)
    (line,) = [line for line in found if "layers." in line]
    assert line.endswith("1.40  1.18–1.63  slower")
    for call in after.calls[0].children[1:]:
        call.spread_ns = 4000
    found = drawn(before, after, width=100)
    (line,) = [line for line in found if "layers." in line]
    assert line.endswith("1.40  1.03–1.79  1 slower")
    assert '"1 slower": so many of the N;' in " ".join(found)


def test_added_layers_share_a_line() -> None:
    """With what each of them holds, as long as that is not opened."""
    found = tree(drawn(layers(8), layers(12), width=100))
    assert found[-2:] == [
        "  ├─ … 8 calls unchanged",
        "+ └─ layers.8 … layers.11 ×4  (2 inside each)  Block                 40.0",
    ]
    assert sum("layers.8 … layers.11" in line for line in drawn(layers(8), layers(12), everything=True)) == 1


def test_modules_without_a_call_share_a_line() -> None:
    """As those of torch's fused layers: the same change at paths that differ in a number alone."""
    before, after = cnn(), cnn()
    for one, parameters in ((before, 64), (after, 48)):
        for i in range(5):
            one.modules[f"layers.{i}.fc"] = ModuleInfo(f"layers.{i}.fc", "Linear", parameters=parameters)
    after.modules["layers.3.fc"].parameters = 32
    found = drawn(before, after)
    assert found[found.index("without a call:") :][1:5] == [
        "→ layers.0.fc … layers.4.fc ×4  Linear  48 parameters each",
        "    parameters  64 → 48",
        "→ layers.3.fc  Linear  32 parameters",
        "    parameters  64 → 32",
    ]
    assert "×4" not in " ".join(drawn(before, after, fold=False))


def test_a_change_without_room_on_one_line_has_two() -> None:
    """What it is now is never cut for what it was."""
    before, after = layers(1), layers(1)
    for one, size in ((before, 1024), (after, 2048)):
        one.modules["layers.0.fc"].extra_repr = f"in_features={size}, out_features={size}"
    assert any(
        "made with  in_features=1024, out_features=1024 → in_features=2048, out_features=2048" in line
        for line in drawn(before, after, width=100)
    )
    found = drawn(before, after, width=60)
    at = next(i for i, line in enumerate(found) if "made with" in line)
    assert found[at : at + 2] == [
        "     │     made with  in_features=1024, out_features=1024",
        "     │              → in_features=2048, out_features=2048",
    ]


def test_long_lists_of_shapes_begin_where_they_differ() -> None:
    """Equal ones are counted; what is the same on both sides goes where the first difference had no room."""

    def net(*sizes: int) -> Trace:
        more = [Value("tensors", spec((1, size))) for size in sizes]
        cat = operation("torch.cat", "aten.cat", (1, 1), (1, 9), *more)
        return trace(module("Net", "Net", (1,), (1,), cat, path=""))

    assert "        input shape  [1, 1] ×40 → [1, 1] ×41" in drawn(net(*[1] * 39), net(*[1] * 40))
    many = list(range(2, 40))
    found = drawn(net(*many, 50, 7), net(*many, 51, 7), width=60)
    at = next(i for i, line in enumerate(found) if "input shape" in line)
    assert [line.split()[-4:] for line in found[at : at + 2]] == [
        ["…[1,", "50],", "[1,", "7]"],
        ["…[1,", "51],", "[1,", "7]"],
    ]
    assert found[at + 1].lstrip().startswith("→ ")


def test_a_change_to_nothing_says_so() -> None:
    """Also from nothing: arguments that are left out."""
    before, after = layers(1), layers(1)
    before.modules["layers.0.fc"].extra_repr = "approximate='none'"
    assert any(line.endswith("made with  approximate='none' → nothing") for line in drawn(before, after))
    assert any(line.endswith("made with  nothing → approximate='none'") for line in drawn(after, before))


def test_a_part_is_shown_and_the_sum_is_of_all() -> None:
    """What is not in the part is counted."""
    found = compare(layers(3), layers(3, size=6))
    (root,) = found.pairs
    part = msgspec.structs.replace(found, pairs=[msgspec.structs.replace(root, children=root.children[1:2])])
    lines = drawn(layers(3), layers(3, size=6), width=100, part=part)
    assert sum("layers." in line for line in lines) == 1
    assert "9 changed, 6 of them not in this part of the tree, 1 call as before; no time differs beyond noise" in lines


def test_a_small_difference_of_some_is_counted_in_the_line_of_all() -> None:
    """Noise sets none apart: less than a hundredth of the whole time."""
    before, after = layers(12), layers(12)
    for i in (3, 8):
        after.calls[0].children[i].children[0].host_ns = 6_900
    assert tree(drawn(before, after, width=100)) == """\
                                     before µs  after µs  ratio
Net                                      200.0     200.0   1.00  1.00–1.00
└─ layers.0 … layers.11 ×12  Block       120.0     120.0   1.00  0.96–1.04
   ├─ fc                     Linear        5.0       5.0   1.00  0.92–1.08  2 slower
   └─ F.relu                               2.5       2.5   1.00  0.85–1.17""".splitlines()  # fmt: skip
    for i in (3, 8):
        after.calls[0].children[i].children[0].host_ns = 7_900
    found = tree(drawn(before, after, width=100))
    assert [line.split("─ ")[1].split("  ")[0] for line in found if line[1:].startswith("─ ")] == [
        "layers.0 … layers.2 ×3",
        "layers.3",
        "… 4 calls unchanged",
        "layers.8",
        "layers.9 … layers.11 ×3",
    ]


def test_what_all_calls_share_is_told_below_the_tree() -> None:
    """Once, and no call is slower for it."""
    before, after = layers(12, us=100), layers(12, us=160)
    before.calls[0].host_ns, after.calls[0].host_ns = 1_200_000, 1_920_000
    found = page(compare_processes(before, after), width=100)
    assert (
        found[found.index("") :]
        == """\

                        before ms  after ms  ratio
Net  (36 calls inside)      1.200     1.920   1.60  1.60–1.60

nothing changed: 37 calls with the same types, shapes, dtypes, devices and parameters; no time
differs beyond noise
what did not change took 1.60 times as long (24 calls): another state of the machine, its threads or
torch; slower and faster are beside that
ratio: the time after by that before, and what it may as well be by the spread of both; slower or
faster where all of that is beyond 1.1 and 3 µs a call, by 5 runs or more of each""".splitlines()
    )
    assert not any("what did not change took" in line for line in page(compare_processes(before, before)))


def test_another_name_of_many_is_told_once() -> None:
    """From the first and the last to the first and the last."""

    def net(name: str) -> Trace:
        inside = [module(f"{name}.{i}", "Linear", (1,), (1,)) for i in range(4)]
        return trace(module("Net", "Net", (1,), (1,), *inside, path=""))

    assert (
        drawn(net("blocks"), net("layers"))[2:5]
        == """\
  Net
→ └─ layers.0 … layers.3 ×4  Linear
        name  blocks.0 … blocks.3 → layers.0 … layers.3""".splitlines()
    )


def test_a_layer_that_went_from_a_sequential_moves_the_others() -> None:
    """They are what they were, under another index."""

    def net(*types: str) -> Trace:
        inside = [module(f"net.{i}", kind, (1,), (1,)) for i, kind in enumerate(types)]
        return trace(module("Net", "Net", (1,), (1,), *inside, path=""))

    assert (
        drawn(net("Dropout", "Linear", "ReLU"), net("Linear", "ReLU"))[2:8]
        == """\
  Net
− ├─ net.0  Dropout
→ ├─ net.0  Linear
  │     name  net.1 → net.0
→ └─ net.1  ReLU
        name  net.2 → net.1""".splitlines()
    )


def test_findings_of_one_alone_are_said() -> None:
    """A few of each trace."""
    before, after = cnn(), cnn()
    before.findings = [Finding("dtype", "a dtype grows")]
    after.findings = [Finding("unused", f"fc{i} took no part") for i in range(9)]
    found = [line for line in drawn(before, after) if line.startswith("only ")]
    assert found == [
        "only before: a dtype grows",
        *[f"only after: fc{i} took no part" for i in range(6)],
        "only after: 3 findings more",
    ]


def test_only_what_is_shown_is_explained() -> None:
    """Columns that had no room are not; the criterion is."""
    long = layers(8)
    for call in long.calls[0].children:
        call.name = call.path = "encoder." * 5 + call.path
    legends = {
        width: " ".join(line for line in drawn(long, long, width=width, everything=True) if "─ " not in line)
        for width in (30, 60, 160)
    }
    assert "×N: N calls alike before and after, with their total times; inside, times are medians" in legends[160]
    assert "×N: N calls alike before and after; the ratio is of their total times; inside, of medians" in legends[60]
    for width in (60, 160):
        assert (
            "ratio: the time after by that before, and what it may as well be by the spread of both;" in legends[width]
        )
        assert "slower or faster where all of that is beyond 1.1 and 1 µs a call, by 5 runs or more" in legends[width]
    assert "ratio: the time after by that before; slower or faster where what it may as well be by the" in legends[30]


@pytest.mark.parametrize("width", [80, 100])
def test_the_ratio_keeps_its_spread(width: int) -> None:
    """Types go first where room is short, then both times; never what keeps noise from being called a change."""
    long = layers(8)
    for call in long.calls[0].children:
        call.name = call.path = "encoder." * 5 + call.path
    found = drawn(long, long, width=width, everything=True)
    assert all("–" in line for line in found if "─ " in line)
    assert any("layers.0 … 7 ×8" in line for line in found)


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
