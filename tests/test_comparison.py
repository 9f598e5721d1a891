"""Trace × Trace → what changed: which calls belong together, what counts as a change, when a time is another one."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.views.traces import cnn, hook, module, operation, spec, trace
from tracecall.calls import Call, Finding, ModuleInfo, Trace
from tracecall.cli import options
from tracecall.comparison import (
    Bounds,
    Change,
    Difference,
    Drift,
    Pair,
    compare,
    compare_processes,
    matching,
    taken,
    together,
)
from tracecall.comparison.matching import match
from tracecall.comparison.times import Ratio, ratio
from tracecall.errors import TracecallError


def signs(before: Trace, after: Trace) -> list[str]:
    """Every call of the merged tree with its sign."""
    return [f"{pair.sign}{pair.call.name}" for _, pair in compare(before, after).walk()]


def the(before: Trace, after: Trace, name: str) -> Pair:
    """The first pair of that name."""
    return next(pair for _, pair in compare(before, after).walk() if pair.call.name == name)


def net(*names: str) -> Trace:
    """A root with a Linear for each name; one that starts with "." is an operation."""
    inside = [
        operation(name[1:], "aten.relu", (1,), (1,)) if name[0] == "." else module(name, "Linear", (1,), (1,))
        for name in names
    ]
    return trace(module("Net", "Net", (1,), (1,), *inside, path=""))


# which calls belong together


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [("abc", "abc", 3), ("abc", "", 0), ("", "", 0), ("abcabba", "cbabac", 4), ("rarbr", "rrarbr", 5), ("ab", "ba", 1)],
)
def test_siblings_are_matched_by_a_longest_common_subsequence(before: str, after: str, kept: int) -> None:
    """Short lists exactly: as many pairs as can be."""
    assert sum(i is not None and j is not None for i, j in match(before, after)) == kept


def test_a_match_has_every_sibling_once_and_in_order() -> None:
    """Whatever the lists are, long ones too: both can be read off it again, and only equal ones are together."""
    chosen = random.Random(0)
    for size in (3, 30, 300, 700):
        before = [chosen.choice("abcdefgh") for _ in range(size)]
        after = [chosen.choice("abcdefgh") for _ in range(size + 20)]
        merged = match(before, after)
        assert [i for i, _ in merged if i is not None] == list(range(len(before)))
        assert [j for _, j in merged if j is not None] == list(range(len(after)))
        assert all(before[i] == after[j] for i, j in merged if i is not None and j is not None)


def test_ten_thousand_siblings_are_matched_without_a_table_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few that are gone are found among 20,000 and the rest stays together; no table is larger than EXACT."""
    tables: list[int] = []
    exact = matching._longest

    def counted(one: list[str], two: list[str], span: tuple[int, int], other: tuple[int, int]) -> object:
        tables.append((span[1] - span[0]) * (other[1] - other[0]))
        return exact(one, two, span, other)

    monkeypatch.setattr(matching, "_longest", counted)
    before = [name for i in range(10_000) for name in (f"block{i}", "relu")]
    after = [name for i in range(10_000) if i not in (0, 5000, 9999) for name in (f"block{i}", "relu")]
    gone = [before[i] for i, j in match(before, after) if j is None and i is not None]
    assert sorted(gone) == ["block0", "block5000", "block9999", "relu", "relu", "relu"]
    assert max(tables) <= matching.EXACT
    assert sum(tables) <= 10 * len(before)


def test_modules_belong_together_by_path_and_operations_by_name() -> None:
    """What is new stands where it runs; what is gone stands where it ran."""
    assert signs(net("conv1", ".F.relu", "fc"), net("conv1", ".F.gelu", "drop", "fc")) == [
        "Net", "conv1", "−F.relu", "+F.gelu", "+drop", "fc",
    ]  # fmt: skip


def test_what_is_inside_a_new_call_is_new() -> None:
    """And what was inside a removed one is removed."""
    block = module("block", "Block", (1,), (1,), module("fc", "Linear", (1,), (1,), path="block.fc"))
    with_block = trace(module("Net", "Net", (1,), (1,), block, path=""))
    assert signs(net(), with_block) == ["Net", "+block", "+fc"]
    assert signs(with_block, net()) == ["Net", "−block", "−fc"]


def test_a_recursion_of_any_depth_is_compared() -> None:
    """A tree deeper than Python's stack is walked without it."""

    def deep(count: int) -> Trace:
        made = net()
        call = made.calls[0]
        for _ in range(count):
            call.children = [Call("module", "", "self", "Net")]
            call = call.children[0]
        return made

    assert not compare(deep(5000), deep(5000)).changed
    assert compare(deep(5000), deep(5001)).changed


# what is a change


def test_a_trace_has_not_changed_from_itself() -> None:
    """The same calls and modules: nothing."""
    assert not compare(cnn(), cnn()).changed


def test_times_alone_are_no_change() -> None:
    """However much slower it is."""
    slow = cnn()
    for _, call in slow.walk():
        call.host_ns, call.samples, call.spread_ns = (call.host_ns or 0) * 9, 50, 0
    assert not compare(cnn(), slow).changed


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (module("fc", "Linear", (1, 2), (1, 3)), module("fc", "Bilinear", (1, 2), (1, 3)), Change("type", "Linear", "Bilinear")),
        (module("fc", "Linear", (1, 2), (1, 3)), module("fc", "Linear", (1, 2), (1, 4)), Change("output shape", "[1, 3]", "[1, 4]")),
        (module("fc", "Linear", (1, 2), (1, 3)), module("fc", "Linear", (1, 5), (1, 3)), Change("input shape", "[1, 2]", "[1, 5]")),
        (module("fc", "ReLU", (1, 2), (1, 2)), module("fc", "ReLU", (1, 5), (1, 5)), Change("shape", "[1, 2]", "[1, 5]")),
        (
            module("fc", "ReLU", (2,), (2,)),
            module("fc", "ReLU", spec((2,), "float16"), spec((2,), "float16")),
            Change("dtype", "float32", "float16"),
        ),
        (
            module("fc", "ReLU", (2,), (2,)),
            module("fc", "ReLU", (2,), spec((2,), device="cuda:0")),
            Change("output device", "cpu", "cuda:0"),
        ),
    ],
    ids=lambda value: value.what if isinstance(value, Change) else "",
)  # fmt: skip
def test_a_call_changed(before: Call, after: Call, change: Change) -> None:
    """Type, shapes, dtypes and devices, once where input and output changed alike."""
    old, new = (trace(module("Net", "Net", (1,), (1,), call, path="")) for call in (before, after))
    assert the(old, new, "fc").changes == [change]


def test_parameters_are_of_the_first_call_of_a_module() -> None:
    """A module that is called twice has changed once."""
    before, after = net("fc", ".F.relu", "fc"), net("fc", ".F.relu", "fc")
    after.modules["fc"].parameters = after.modules["fc"].trainable = 1234
    changes = [pair.changes for _, pair in compare(before, after).walk() if pair.call.name == "fc"]
    assert changes == [[Change("parameters", "0", "1,234")], []]


def test_how_a_module_was_made_is_a_change_in_the_parts_that_differ() -> None:
    """A dilation changes neither shapes nor parameters."""
    before, after = net("conv"), net("conv")
    before.modules["conv"].extra_repr, after.modules["conv"].extra_repr = "3, 16, dilation=1", "3, 16, dilation=2"
    assert the(before, after, "conv").changes == [Change("made with", "dilation=1", "dilation=2")]


def test_modules_without_calls_are_listed() -> None:
    """Added, removed or changed, though nothing calls them; a container without parameters is its children's path."""
    before, after = net("fc"), net("fc")
    before.modules["old"] = ModuleInfo("old", "Linear", parameters=3)
    after.modules["blocks"] = ModuleInfo("blocks", "ModuleList", container=True)
    after.modules["new"] = ModuleInfo("new", "Linear", parameters=4)
    found = compare(before, after)
    assert [(one.sign, one.path, one.parameters) for one in found.modules] == [("−", "old", 3), ("+", "new", 4)]
    assert found.changed


def test_settings_are_a_change_and_the_environment_is_none() -> None:
    """Train mode is another run; another torch is another machine's."""
    other = cnn()
    other.environment.torch = "2.14.0"
    assert [change.what for change in compare(cnn(), other).environment] == ["torch"]
    assert not compare(cnn(), other).changed
    other.model.training = True
    assert compare(cnn(), other).settings == [Change("mode", "eval", "train")]
    assert compare(cnn(), other).changed


def test_a_hook_that_replaces_something_else_has_changed() -> None:
    """What a user's hook does is seen, too."""
    before, after = (
        trace(module("Net", "Net", (1,), (1,), hook("crop", "forward pre-hook", [what]), path=""))
        for what in ("args[0] 4,3 → 2,3", "args[0] 4,3 → 1,3")
    )
    assert [change.what for change in the(before, after, "crop").changes] == ["replaced"]


# times


def timed(us: float, spread_us: float = 0.0, samples: int = 50) -> Call:
    return Call(
        "module", "fc", "fc", "Linear", host_ns=round(us * 1e3), spread_ns=round(spread_us * 1e3), samples=samples
    )


def verdict(before: Call, after: Call) -> str | None:
    found = ratio(before, after)
    assert found is not None
    return found.verdict


def test_a_clear_difference_is_slower_or_faster() -> None:
    """Twice as long, with little spread: certain."""
    assert verdict(timed(100, 2), timed(200, 2)) == "slower"
    assert verdict(timed(200, 2), timed(100, 2)) == "faster"


def test_noise_is_no_change() -> None:
    """Not where the spreads meet, not below 10 %, not within a microsecond, not with few runs."""
    assert verdict(timed(100, 40), timed(150, 40)) is None
    assert verdict(timed(100, 0), timed(109, 0)) is None
    assert verdict(timed(1.0, 0), timed(1.9, 0)) is None
    assert verdict(timed(100, 0, samples=3), timed(200, 0)) is None


def test_the_interval_is_of_medians_and_their_spreads() -> None:
    """From the least after by the most before, to the most after by the least before."""
    assert ratio(timed(100, 20), timed(180, 12)) == Ratio(100_000, 180_000, 1.8, 168 / 120, 192 / 80, "host", "slower")


def test_a_spread_as_wide_as_the_time_leaves_the_interval_open() -> None:
    """Then it may be any multiple."""
    assert ratio(timed(100, 100), timed(100, 0)) == Ratio(100_000, 100_000, 1.0, 0.5, None)
    assert ratio(timed(100, 0), timed(100, 100)) == Ratio(100_000, 100_000, 1.0, None, 2.0)
    assert ratio(timed(100, 100), timed(100, 130)) == Ratio(100_000, 100_000, 1.0, noisy=True)


def test_an_open_interval_may_still_be_beyond_noise() -> None:
    """Its known end tells."""
    assert verdict(timed(100, 100), timed(1000, 10)) == "slower"
    assert verdict(timed(1000, 10), timed(100, 100)) == "faster"


def test_a_call_that_was_not_timed_has_no_ratio() -> None:
    """Nor has one of no time at all."""
    assert ratio(timed(1), Call("module", "fc", "fc", "Linear")) is None
    assert ratio(timed(0), timed(1)) is None


def test_device_times_are_compared_where_both_have_them() -> None:
    """The host only launches."""
    before, after = timed(100), timed(100)
    before.device_ns, before.device_spread_ns, after.device_ns, after.device_spread_ns = 50_000, 0, 25_000, 0
    found = ratio(before, after)
    assert found is not None
    assert (found.clock, found.verdict) == ("device", "faster")


# several calls together


def test_together_is_the_sum_of_a_list_and_the_median_of_lists() -> None:
    """Of times and of their spreads alike; the fewest runs of any."""
    calls = [timed(100, 10), timed(300, 30), timed(200, 20)]
    assert taken([calls], device=False) == (600_000, 60_000, calls[0].samples)
    assert taken([[call] for call in calls], device=False) == (200_000, 20_000, calls[0].samples)
    assert taken([calls[:2], calls[1:]], device=False) == (450_000, 45_000, calls[0].samples)
    found = together([calls], [[timed(200, 0), timed(600, 0), timed(400, 0)]])
    assert found is not None
    assert (found.ratio, found.verdict) == (2.0, "slower")


def test_together_with_a_call_that_was_not_timed_is_not_known() -> None:
    """A sum without it would be less than they took."""
    assert taken([[timed(100), Call("module", "fc", "fc", "Linear")]], device=False) is None
    assert taken([[]], device=False) is None


# times of two processes


def steady(*times: float, size: int = 1, spread: float = 2) -> Trace:
    """A root with a Linear for each time in microseconds, 50 runs each."""
    inside = [module(f"fc.{i}", "Linear", (size,), (size,), us=us) for i, us in enumerate(times)]
    made = trace(module("Net", "Net", (1,), (1,), *inside, us=sum(times), path=""))
    for _, call in made.walk():
        call.samples, call.spread_ns = 50, round(spread * 1000)
    return made


def verdicts(found: Difference) -> dict[str, str]:
    """What is slower or faster."""
    return {pair.call.name: pair.time.verdict for _, pair in found.walk() if pair.time and pair.time.verdict}


def test_what_all_calls_share_is_told_once_and_makes_none_slower() -> None:
    """The ratios are as they were measured; two runs in one process share nothing."""
    before, after = steady(*[100] * 8), steady(*[150] * 8)
    found = compare_processes(before, after)
    assert found.bounds.drifts == (Drift("host", 1.5, 1.5, 1.5, 8),)
    assert verdicts(found) == {}
    assert {pair.time.ratio for _, pair in found.walk() if pair.time} == {1.5}
    assert not found.changed
    assert len(verdicts(compare(before, after))) == 9


def test_a_call_is_slower_or_faster_beside_what_all_share() -> None:
    """By its whole interval and MARGIN."""
    after = steady(*[150] * 9, 320, 100, 162)
    assert verdicts(compare_processes(steady(*[100] * 12), after)) == {"fc.9": "slower", "fc.10": "faster"}


def test_what_calls_share_may_differ_from_one_to_the_other() -> None:
    """A slower processor is not as much slower in everything: the middle half of the ratios tells how much."""
    after = steady(*[130] * 6, *[165] * 6)
    found = compare_processes(steady(*[100] * 12), after)
    assert found.bounds.drifts == (Drift("host", 1.65, 1.3, 1.65, 12),)
    assert verdicts(found) == {}


@pytest.mark.parametrize(
    "after",
    [[*[150] * 6, *[100] * 6], [108] * 12, [93] * 12],
    ids=["half of them", "about 1", "about 1, less"],
)
def test_what_only_some_calls_share_is_no_drift(after: list[float]) -> None:
    """Then each of them is slower."""
    found = compare_processes(steady(*[100] * len(after)), steady(*after))
    assert found.bounds.drifts == ()
    assert [name for name in verdicts(found) if name != "Net"] == [f"fc.{i}" for i, us in enumerate(after) if us > 110]


def test_where_all_are_slower_by_unlike_ratios_only_the_outermost_stand_out() -> None:
    """A machine under load is slower by more in one call than in the next, and nothing of them changed."""
    after = steady(110, *[150] * 6, *[200] * 4, *[300] * 7, 390, 900)
    found = compare_processes(steady(*[100] * 20), after)
    assert found.bounds.drifts == (Drift("host", 2.0, 1.5, 3.0, 20),)
    assert [name for name in verdicts(found) if name != "Net"] == ["fc.0", "fc.18", "fc.19"]


@pytest.mark.parametrize(
    ("after", "slower"),
    [
        ([150] * 7, []),
        ([214, 233], []),
        ([200], []),
        ([90, 150, 190], ["fc.0", "fc.2"]),
        ([100, 100, 500], ["Net", "fc.2"]),
        ([100, 130, 150, 170, 400], ["Net", "fc.0", "fc.4"]),
    ],
)
def test_of_a_few_calls_all_but_the_outermost_is_the_machines(after: list[float], slower: list[str]) -> None:
    """They may all be as far apart as two processes are."""
    assert sorted(verdicts(compare_processes(steady(*[100] * len(after)), steady(*after)))) == slower


def test_what_changed_and_what_is_short_tells_no_drift() -> None:
    """Other shapes take other times, and short calls those of the clocks: without others, nothing is slower."""
    for before, after in (
        (steady(*[100] * 12), steady(*[150] * 12, size=2)),
        (steady(*[2] * 12, spread=0.1), steady(*[9] * 12, spread=0.1)),
    ):
        found = compare_processes(before, after)
        assert (found.bounds.drifts, found.bounds.blind) == ((), ("host", "device"))
        assert verdicts(found) == {}


def test_the_device_has_a_drift_of_its_own() -> None:
    """The host may be slower while it is not."""
    both = steady(*[100] * 20), steady(*[150] * 20)
    for one, device_ns in zip(both, (50_000, 30_000), strict=True):
        for call in one.calls[0].children[10:]:
            call.device_ns, call.device_spread_ns = device_ns, 0
    found = compare_processes(*both)
    assert [(drift.clock, drift.ratio, drift.calls) for drift in found.bounds.drifts] == [
        ("host", 1.5, 10),
        ("device", 0.6, 10),
    ]
    assert verdicts(found) == {}


def test_clocks_of_two_processes_are_microseconds_apart() -> None:
    """A difference below 3 µs a call is theirs, of a line that stands for several so many times that."""
    before = steady(*[2] * 4, spread=0.1)
    assert verdicts(compare(before, steady(4, 0.5, 2, 2, spread=0.1))) == {"fc.0": "slower", "fc.1": "faster"}
    long = [50] * 8
    found = compare_processes(steady(*[2] * 4, *long, spread=0.1), steady(4, 0.5, 2, 6, *long, spread=0.1))
    assert verdicts(found) == {"fc.3": "slower"}
    for us, said in ((4.5, None), (5.5, "slower")):
        several = together([[timed(2)] * 10], [[timed(us)] * 10], Bounds(3000))
        each = together([[timed(2)]] * 10, [[timed(us)]] * 10, Bounds(3000))
        assert several is not None
        assert each is not None
        assert (several.verdict, each.verdict) == (said, said)


def test_findings_that_only_one_has_are_no_change() -> None:
    """The same one may be about a line that has moved."""
    before, after = cnn(), cnn()
    gone, new = Finding("nonfinite", "3 are NaN"), Finding("nonfinite", "4 are NaN", path="fc1")
    before.findings = [gone, Finding("dtype", "a dtype grows", site=before.calls[0].children[0].site)]
    after.findings = [Finding("dtype", "a dtype grows", site=before.calls[0].children[5].site), new]
    found = compare(before, after)
    assert found.findings == ([gone], [new])
    assert not found.changed


# a part of what changed


def part(found: Difference, only: str | None = None, types: str | None = None) -> list[str]:
    """The pairs that are chosen, with their signs."""
    return [pair.sign + pair.call.name for _, pair in _part(found, only, types).walk()]


def _part(found: Difference, only: str | None = None, types: str | None = None) -> Difference:
    """What the commands show."""
    return options.part(found, only, types) or found


def test_a_module_with_another_name_is_the_same_at_the_same_place() -> None:
    """If its type and shapes are the same; what is inside it is as it was. An operation has no more than its name."""
    inside = module("fc", "Linear", (1,), (1,), path="mlp.fc")
    before = trace(module("Net", "Net", (1,), (1,), module("mlp", "MLP", (1,), (1,), inside), path=""))
    inside = module("fc", "Linear", (1,), (1,), path="ff.fc")
    after = trace(module("Net", "Net", (1,), (1,), module("ff", "MLP", (1,), (1,), inside), path=""))
    found = compare(before, after)
    assert [pair.sign + pair.call.name for _, pair in found.walk()] == ["Net", "→ff", "fc"]
    assert found.pairs[0].children[0].changes == [Change("name", "mlp", "ff")]
    assert found.modules == []
    assert part(found, only="mlp.fc") == ["Net", "→ff", "fc"]
    assert signs(net("a"), net("b")) == ["Net", "→b"]
    assert signs(net("a", "one"), net("one", "b")) == ["Net", "−a", "one", "+b"]
    wide = trace(module("Net", "Net", (1,), (1,), module("ff", "MLP", (1,), (2,)), path=""))
    assert signs(before, wide) == ["Net", "−mlp", "−fc", "+ff"]
    assert signs(net(".x.relu"), net(".F.relu")) == ["Net", "−x.relu", "+F.relu"]
    again = net("a", "a", "a"), net("a", "b", "a")  # another module, as a is still there
    for made, also in zip(again, (["a"], ["a", "b"]), strict=True):
        made.modules.update({path: ModuleInfo(path, "Linear", state="called") for path in also})
    assert sorted(signs(*again)) == ["+b", "Net", "a", "a", "−a"]


def test_a_path_of_either_trace_chooses_its_pairs() -> None:
    """With the way to them; the pairs hold the very calls."""
    found = compare(net("one", ".x.relu", "two", "last"), net("new", "one", "three", "last"))
    assert part(found, only="one") == ["Net", "one"]
    assert part(found, only="new") == ["Net", "+new"]
    assert part(found, only="two") == part(found, only="three") == ["Net", "→three"]
    gone = compare(net("one", "two"), net("one"))
    assert part(gone, only="two") == ["Net", "−two"]
    assert _part(found, only="one").pairs[0].children[0].before is found.pairs[0].children[1].before


def test_a_type_of_either_trace_chooses_its_pairs() -> None:
    """Of a call that has another type now, both."""
    before, after = net("one", ".x.relu", "two"), net("one", ".x.relu", "two")
    after.calls[0].children[0].type = "Identity"
    found = compare(before, after)
    assert part(found, types="linear") == ["Net", "→one", "two"]
    assert part(found, types="Identity") == ["Net", "→one"]
    assert part(found, types="aten.relu") == ["Net", "x.relu"]


def test_an_operation_inside_torchs_own_modules_is_asked_for_by_its_type() -> None:
    """It is shown then, as in one trace."""
    both = net(".x.relu"), net(".x.relu")
    for one in both:
        one.calls[0].children[0].internal = True
    found = compare(*both)
    assert [pair.asked for _, pair in _part(found, types="aten.relu").walk()] == [False, True]
    assert not any(pair.asked for _, pair in _part(found, only="").walk())


def test_what_neither_trace_has_is_refused_as_of_one() -> None:
    """In the same words."""
    found = compare(net("one"), net("two"))
    with pytest.raises(TracecallError, match="--only tow: Net has no module at that path; did you mean two"):
        part(found, only="tow")
    with pytest.raises(TracecallError, match="--filter Lineal: no call of that type in this run; did you mean Linear"):
        part(found, types="Lineal")


def test_a_changed_module_without_a_call_is_chosen_with_what_it_is_in() -> None:
    """By its path, by that of the call around it, or by its type."""
    before, after = net("one", "two"), net("one", "two")
    for one, parameters in ((before, 8), (after, 6)):
        one.modules["one.drop"] = ModuleInfo("one.drop", "Dropout", parameters=parameters)
    found = compare(before, after)
    for chosen_by, expected in (
        ({"only": "one"}, ["one.drop"]),
        ({"only": "one.drop"}, ["one.drop"]),
        ({"types": "Dropout"}, ["one.drop"]),
        ({"only": "two"}, []),
    ):
        assert [module.path for module in _part(found, **chosen_by).modules] == expected


def test_comparing_leaves_the_traces_as_they_were() -> None:
    """Data in, data out."""
    before, after = cnn(), net("fc")
    kept = msgspec.json.encode((before, after))
    compare(before, after)
    assert msgspec.json.encode((before, after)) == kept
