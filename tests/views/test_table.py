"""The flat view: expected tables are drawn as they look, from Traces made by hand."""

from __future__ import annotations

import io
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tests.views.traces import cnn, module, trace
from tracecall.calls import Call, Finding, Trace
from tracecall.views.table import Sort, table

FLOPS = {"": 2_862_432, "conv1": 677_376, "conv2": 1_806_336, "fc1": 376_320, "fc2": 2400, "pool": 0}
SORTS: list[Sort] = ["time", "self", "flops", "memory", "params"]


def measured() -> Trace:
    """The CNN with what runs measure: self times, FLOPs and the bytes of outputs."""
    shown = cnn()
    for _, call in shown.walk():
        if call.kind == "module":
            inside = sum(child.host_ns or 0 for child in call.children if child.kind == "module")
            call.host_self_ns = (call.host_ns or 0) - inside
            call.flops = FLOPS[call.path]
            call.output_bytes = 4 * elements(call)
    return shown


def elements(call: Call) -> int:
    total = 1
    for size in call.output[0].value.shape:  # type: ignore[union-attr]
        total *= int(size)
    return total


def text(shown: Trace, sort: Sort = "time", width: int = 100, depth: int | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False)
    console.print(table(shown, sort=sort, width=width, depth=depth))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def drawing(shown: str) -> str:
    return textwrap.dedent(shown).strip("\n")


def modules(shown: Trace, sort: Sort, depth: int | None = None) -> list[str]:
    """The first column."""
    return [line.split()[0] for line in text(shown, sort, depth=depth).split("\n\n")[1].splitlines()[1:]]


def test_the_cnn_by_time():
    """The header of the tree, then one line for each module: both calls of the pool are added up."""
    assert text(measured()) == drawing("""
        CNN   models/net.py:8   194,578 parameters   cpu   eval, inference mode
        untraced 290.0 µs   traced 320.0 µs   medians of 100 runs

        module             calls  ▾ total µs  self µs   share  FLOPs  FLOP/s  output  params
        CNN     CNN            1       300.0     50.0  100.0%  2.9 M   9.5 G    40 B    195K
        conv2   Conv2d         1        90.0     90.0   30.0%  1.8 M    20 G   25 kB   4.64K
        conv1   Conv2d         1        60.0     60.0   20.0%  677 k    11 G   50 kB     448
        pool    MaxPool2d      2        50.0     50.0   16.7%                  19 kB
        fc1     Linear         1        40.0     40.0   13.3%  376 k   9.4 G   480 B    188K
        fc2     Linear         1        10.0     10.0    3.3%  2.4 k   240 M    40 B   1.21K

        FLOPs: matrix products, convolutions and attention; a multiply-add is two
        """)


def test_times_that_differ_much_from_run_to_run_are_marked():
    """As in the tree, and not those under 1 % of the whole."""
    shown = measured()
    for _, call in shown.walk():
        call.spread_ns = 40_000 if call.path in ("conv2", "conv1") else 0
    listed = text(shown, "time", width=80)
    assert [line.split()[2] for line in listed.split("\n\n")[1].split("\n")[1:4]] == ["300.0", "90.0", "~60.0"]
    assert "\n\n~ the middle half of its runs spans more than half of its median\n\n" in listed


def test_why_there_are_no_times_is_said():
    """A list by time that has none tells what the tree tells."""
    shown = measured()
    shown.findings += [
        Finding("other-calls", "3 of 3 timing runs made other calls than this one"),
        Finding("bypassed", "conv1 was used directly"),
    ]
    assert text(shown, "time").endswith("\n\n! 3 of 3 timing runs made other calls than this one")


@pytest.mark.parametrize("added", [269_000, 331_000])
def test_self_times_that_are_far_from_the_total_are_said_to_be(added):
    """Whoever sorts by them would look for the rest."""
    shown = measured()
    assert shown.timing is not None
    shown.timing.total_ns, shown.timing.self_ns = 300_000, added
    assert text(shown, "self", width=80).split("\n\n")[0] == drawing(f"""
        CNN   models/net.py:8   194,578 parameters   cpu   eval, inference mode
        untraced 290.0 µs   traced 320.0 µs   medians of 100 runs
        self times add up to {added / 1000} µs, not to 300.0 µs: each run was slow at other calls
        """)


@pytest.mark.parametrize("added", [None, 270_000, 300_000, 330_000])
def test_self_times_that_nearly_add_up_need_no_word(added):
    """A tenth is what medians may be apart; nor is there one for times that an older trace does not tell."""
    shown = measured()
    assert shown.timing is not None
    shown.timing.total_ns, shown.timing.self_ns = 300_000, added
    assert "add up" not in text(shown, "self")


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (0, ["Net"]),
        (1, ["Net", "encoder", "head"]),
        (2, ["Net", "encoder", "encoder.fc", "head", "encoder.norm"]),
        (None, ["Net", "encoder", "encoder.fc", "encoder.fc.act", "head", "encoder.norm"]),
    ],
)
def test_as_deep_as_the_tree(depth, expected):
    """What a deeper module took is in the ones that called it; a module counts at each level that it is called at."""
    shape = (2, 8)
    act = module("act", "ReLU", shape, shape, us=30, path="encoder.fc.act")
    fc = module("fc", "Linear", shape, shape, act, us=60, path="encoder.fc")
    norm = module("norm", "Norm", shape, shape, us=5, path="encoder.norm")
    encoder = module("encoder", "Encoder", shape, shape, fc, norm, us=70)
    head = module("head", "Head", shape, shape, us=20)
    shown = trace(module("Net", "Net", shape, shape, encoder, head, us=100, path=""))
    assert modules(shown, "time", depth) == expected


def test_where_room_is_short_columns_that_say_least_go():
    """Never the one that is sorted by."""
    assert text(measured(), "self", width=80) == drawing("""
        CNN   models/net.py:8   194,578 parameters   cpu   eval, inference mode
        untraced 290.0 µs   traced 320.0 µs   medians of 100 runs

        module             total µs  ▾ self µs  share  FLOPs  FLOP/s  output  params
        conv2   Conv2d         90.0       90.0  30.0%  1.8 M    20 G   25 kB   4.64K
        conv1   Conv2d         60.0       60.0  20.0%  677 k    11 G   50 kB     448
        CNN     CNN           300.0       50.0  16.7%  2.9 M   9.5 G    40 B    195K
        pool    MaxPool2d      50.0       50.0  16.7%                  19 kB
        fc1     Linear         40.0       40.0  13.3%  376 k   9.4 G   480 B    188K
        fc2     Linear         10.0       10.0   3.3%  2.4 k   240 M    40 B   1.21K

        FLOPs: matrix products, convolutions and attention; a multiply-add is two
        """)


def test_a_wide_terminal_changes_nothing():
    """Columns do not drift apart."""
    assert text(measured(), width=160) == text(measured(), width=100)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("time", ["CNN", "conv2", "conv1", "pool", "fc1", "fc2"]),
        ("self", ["conv2", "conv1", "CNN", "pool", "fc1", "fc2"]),
        ("flops", ["CNN", "conv2", "conv1", "fc1", "fc2", "pool"]),
        ("memory", ["conv1", "conv2", "pool", "fc1", "CNN", "fc2"]),
        ("params", ["CNN", "fc1", "conv2", "fc2", "conv1", "pool"]),
    ],
)
def test_the_costliest_come_first(sort, expected):
    """Ties stay in call order."""
    assert modules(measured(), sort) == expected


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_sorted_column_is_marked_and_there(sort, width):
    """At every width, by a mark that needs no colour."""
    title = text(measured(), sort, width).split("\n\n")[1].splitlines()[0]
    names = {"time": "total", "self": "self", "flops": "FLOPs", "memory": "output", "params": "params"}
    assert title.count("▾") == 1
    assert f"▾ {names[sort]}" in title


def test_what_was_not_measured_has_no_column():
    """A trace without times and FLOPs."""
    shown = cnn()
    shown.timing = None
    for _, call in shown.walk():
        call.host_ns = None
    assert text(shown, "params").split("\n\n")[1] == drawing("""
        module             calls  ▾ params
        CNN     CNN            1      195K
        fc1     Linear         1      188K
        conv2   Conv2d         1     4.64K
        fc2     Linear         1     1.21K
        conv1   Conv2d         1       448
        pool    MaxPool2d      2
        """)


def test_a_number_that_is_not_known_is_a_question_mark():
    """And what that means is said below; it comes last when FLOPs are sorted by."""
    shown = measured()
    shown.calls[0].flops = shown.find("conv2")[0].flops = None
    lines = text(shown, "flops").splitlines()
    assert modules(shown, "flops")[-2:] == ["CNN", "conv2"]
    assert lines[-1] == "? torch has no formula for what runs inside"
    assert sum("  ?  " in line for line in lines) == 2


def test_a_module_that_calls_itself_is_not_counted_twice():
    """Its inner calls lie within the time of the outer one; its own times add up."""
    inner = module("again", "Again", (1,), (1,), us=40, path="again")
    outer = module("again", "Again", (1,), (1,), inner, us=100)
    inner.host_self_ns, outer.host_self_ns = 40_000, 60_000
    root = module("Net", "Net", (1,), (1,), outer, us=110, path="")
    root.host_self_ns = 10_000
    row = text(trace(root)).splitlines()[-1].split()
    assert row == ["again", "Again", "2", "100.0", "100.0", "90.9%"]


def many(count: int) -> Trace:
    children = [module(f"m{i:02}", "Linear", (1,), (1,), us=i + 1) for i in range(count)]
    return trace(module("Net", "Net", (1,), (1,), *children, us=1000, path=""))


def test_twenty_rows_and_how_many_more():
    """The rest is counted."""
    body = text(many(30)).split("\n\n")[1].splitlines()
    assert len(body) == 1 + 20 + 1
    assert body[-1] == "and 11 more"
    assert "more" not in text(many(19))


def test_on_an_accelerator_its_own_time_is_compared():
    """The host's is that of launching."""
    shown = measured()
    for _, call in shown.walk():
        if call.kind == "module":
            call.device_ns, call.device_self_ns = (call.host_ns or 0) * 10, (call.host_self_ns or 0) * 10
    title, root = text(shown).split("\n\n")[1].splitlines()[:2]
    assert "▾ device ms" in title
    assert root.split()[3] == "3.000"


@pytest.mark.parametrize("name", ["[red]x[/red]", "\x1b[31mx", "a\nb", ":smile:", "\u202eabc", "卷积层"])
def test_a_name_from_a_model_is_text(name):
    """No markup, no escape sequence, no line break; and the columns after it line up."""
    root = module("Net", name, (1,), (1,), module(name, name, (1,), (1,), us=5), us=30, path="")
    lines = text(trace(root)).splitlines()
    assert all(line.isprintable() for line in lines)
    ends = {cell_len(line[: line.index("%")]) for line in lines if "%" in line}
    assert len(ends) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text("ab.卷", min_size=1, max_size=60), st.floats(0, 1e7)), max_size=30),
    st.integers(60, 200),
    st.sampled_from(SORTS),
)
def test_no_line_is_wider_than_the_terminal(calls, width, sort):
    """Whatever the model, nothing wraps."""
    children = [module(name, name, (1,), (1,), us=us) for name, us in calls]
    shown = trace(module("Net", "Net", (1,), (1,), *children, us=1e7, path=""))
    for line in text(shown, sort, width).splitlines():
        assert cell_len(line) <= width
