"""Times are exact: with a fake clock, every number is known beforehand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

import tracecall
from tracecall.calls import Call, Environment, ModelInfo, Trace
from tracecall.recording import timing
from tracecall.recording.calibration import Empties, Probed, from_passes, probe, typical
from tracecall.recording.clocks import Clocks, Overhead, Timed, timed_calls
from tracecall.recording.global_hooks import GlobalHooks
from tracecall.recording.rounds import ForwardRaised, Pass, Round
from tracecall.recording.timing import Samples, add_times, spread, take_samples
from tracecall.recording.unexplained import unexplained

MS = 1_000_000
FREE = Overhead()


class FakeClock:
    """Stands still unless told to move; each reading costs `step` nanoseconds."""

    def __init__(self, step: int = 0) -> None:
        self.now, self.step, self.reads = 0, step, 0

    def __call__(self) -> int:
        self.now += self.step
        self.reads += 1
        return self.now

    def passes(self, ns: int) -> None:
        self.now += ns


# timed_calls: events are (hook entered, module or None at a call's end, hook left)


def test_a_call_lasts_from_the_end_of_one_hook_to_the_start_of_the_other():
    """What lies inside the hooks is the tracer's own."""
    assert timed_calls([0, "a", 10, 110, None, 140], FREE) == [Timed("a", 100, 0)]


def test_calls_are_in_call_order_though_they_end_in_another():
    """The outer one first."""
    events = [0, "root", 0, 10, "a", 10, 30, None, 30, 40, "b", 40, 90, None, 90, 100, None, 100]
    assert timed_calls(events, FREE) == [Timed("root", 100, 70), Timed("a", 20, 0), Timed("b", 50, 0)]


def test_the_hooks_of_inner_calls_are_no_time_of_the_outer_one():
    """At every depth: 7 and 5 ns inside the hooks of each inner call."""
    events = [
        *(0, "root", 0),
        *(10, "block", 17),
        *(20, "fc", 27),
        *(37, None, 42),  # fc: 10
        *(50, None, 55),  # block: 33, less 12 in fc's hooks: 21
        *(60, None, 65),  # root: 60, less 2 × 12: 36
    ]
    assert timed_calls(events, FREE) == [Timed("root", 36, 21), Timed("block", 21, 10), Timed("fc", 10, 0)]


def test_what_hooks_cost_outside_of_themselves_is_taken_out():
    """`within` of each call itself, `around` of every call around it."""
    events = [0, "root", 0, 10, "a", 10, 30, None, 30, 40, "b", 40, 90, None, 90, 100, None, 100]
    times = timed_calls(events, Overhead(around=3, within=2))
    assert times == [Timed("root", 100 - 2 - 2 * 3, 18 + 48), Timed("a", 18, 0), Timed("b", 48, 0)]


def test_no_time_is_negative():
    """The correction is a median: for one call it may be more than the call took."""
    assert timed_calls([0, "a", 0, 1, None, 1], Overhead(within=5)) == [Timed("a", 0, 0)]


@pytest.mark.parametrize("events", [[0, "a", 1], [0, None, 1], [0, "a", 1, 2, "b", 3, 4, None, 5]])
def test_a_run_that_does_not_balance_has_no_times(events):
    """An interrupt ended a call without its hook."""
    assert timed_calls(events, FREE) is None


def test_no_call_no_time():
    """A run that called no module is balanced."""
    assert timed_calls([], FREE) == []


def test_the_totals_inside_never_exceed_the_total():
    """self = total − inside is not negative, for hooks that cost the same each."""
    events = [0, "root", 0]
    for start in range(0, 100, 10):
        events += [start, "a", start + 2, start + 6, None, start + 8]
    events += [100, None, 100]
    root, *inner = timed_calls(events, FREE) or []
    assert (root.total, root.inside) == (60, 40)
    assert len(inner) == 10


# take_samples


class Run:
    """A model's run of `ns` nanoseconds, counted."""

    def __init__(self, clock: FakeClock, ns: int) -> None:
        self.clock, self.ns, self.count = clock, ns, 0

    def __call__(self) -> None:
        self.count += 1
        self.clock.passes(self.ns)


def sampled(ns: int, **options: Any) -> tuple[Samples, Run]:
    clock = FakeClock()
    run = Run(clock, ns)
    options = {"operations": False, "modules": [], "scheduled": lambda: (0, 0), **options}
    return take_samples(run, clock=clock, overhead=FREE, **options), run


@pytest.mark.parametrize(
    ("ns", "rounds"),
    [
        (0, 100),  # no more than 100
        (1 * MS, 100),
        (10 * MS, 25),  # 25 rounds of two runs are 500 ms
        (50 * MS, 5),
        (1000 * MS, 3),  # no fewer than 3
    ],
)
def test_as_many_rounds_as_fit_in_half_a_second(ns, rounds):
    """Of a control run and a timing run each: at least 3, at most 100."""
    samples, run = sampled(ns)
    assert samples.untraced == [ns] * rounds
    assert samples.traced == [ns] * rounds
    assert len(samples.calls) == rounds
    assert run.count == timing.WARMUP + 2 * rounds


def test_runs_that_time_operations_count_towards_the_half_second():
    """Three runs a round then."""
    samples, run = sampled(20 * MS, operations=True)
    assert (len(samples.untraced), len(samples.operations)) == (8, 8)
    assert run.count == timing.WARMUP + 3 * 8


@pytest.mark.parametrize("repeat", [0, 1, 2, 200])
def test_repeat_is_exact(repeat):
    """Whatever it costs."""
    samples, run = sampled(100 * MS, repeat=repeat, warmup=0)
    assert len(samples.untraced) == len(samples.traced) == repeat
    assert run.count == 2 * repeat


def test_warm_up_runs_are_not_counted():
    """They come first and are in no sample."""
    samples, run = sampled(MS, repeat=1, warmup=5)
    assert (run.count, len(samples.untraced)) == (5 + 2, 1)


def test_prepare_comes_before_every_run_and_is_not_timed():
    """Each run meets the same random state."""
    clock = FakeClock()
    run, prepare = Run(clock, 7), Run(clock, 1000)
    samples = take_samples(
        run, prepare=prepare, clock=clock, overhead=FREE, operations=True, repeat=2, modules=[], warmup=1
    )
    assert prepare.count == run.count == 1 + 2 * 3
    assert samples.untraced == samples.traced == [7, 7]


def test_progress_is_told_how_far_it_is():
    """(rounds done, rounds wanted); wanted is within the limits."""
    told: list[tuple[int, int]] = []
    sampled(100 * MS, progress=lambda done, wanted: told.append((done, wanted)))
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert all(3 <= wanted <= 100 for _, wanted in told)
    told.clear()
    sampled(100 * MS, repeat=4, progress=lambda done, wanted: told.append((done, wanted)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_clocks_see_module_calls_only_while_attached():
    """And each reading's own cost is taken out: five readings of 1 ns lie around and between two 100 ns modules."""
    clock = FakeClock(step=1)

    class Sleep(nn.Module):
        def forward(self) -> None:
            clock.passes(100)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Sleep(), Sleep()

        def forward(self) -> None:
            self.one()
            self.other()

    model = Two()
    samples = take_samples(
        model, clock=clock, overhead=FREE, operations=False, repeat=1, warmup=0, modules=list(model.modules())
    )
    (calls,) = samples.calls
    assert [one.module for one in calls] == [model, model.one, model.other]
    # a reading costs its step before it is taken: one lies inside each span
    assert [one.total for one in calls[1:]] == [101, 101]
    assert calls[0].inside == 202
    assert calls[0].total == 100 + 100 + 1 + 2 * 2
    assert samples.untraced == [201]


def test_a_global_hook_that_a_forward_registers_does_not_end_the_timing():
    """Nobody is told of it, so no clock waits for it: the call ends at the tracer's own hook."""

    class Registers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            handle = torch_module.register_module_forward_hook(lambda *given: None)
            x = self.inner(x)
            handle.remove()
            return x

    model = Registers()
    clocks = Clocks(FakeClock(step=1))
    with clocks.attached(list(model.modules())):
        model(torch.zeros(1))
    timed = timed_calls(clocks.events, FREE)
    assert timed is not None
    assert [call.module for call in timed] == [model, model.inner]


@pytest.mark.parametrize("begun", ["before", "inside"])
def test_calls_of_another_thread_are_no_events(begun):
    """Neither one that is open as the clocks are attached, nor one of a thread that the forward starts itself."""
    entered, leave = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def forward(self) -> None:
            entered.set()
            leave.wait(10)

    class Meanwhile(nn.Module):
        def forward(self) -> None:
            if begun == "inside":
                thread.start()
                entered.wait(10)
            leave.set()
            thread.join(10)

    waits, model = Waits(), Meanwhile()
    waits.register_forward_hook(lambda *given: None)  # a call that began without any hooks runs none that come later
    thread = threading.Thread(target=waits)
    if begun == "before":
        thread.start()
        entered.wait(10)
    clocks = Clocks(FakeClock(step=1))
    with clocks.attached([model]):
        model()
    timed = timed_calls(clocks.events, FREE)
    assert timed is not None
    assert [call.module for call in timed] == [model]


class Scheduler:
    """Takes the processor away for `lost` ns in each run whose number is in `of`; tells before and after each run."""

    def __init__(self, of: set[int], lost: int) -> None:
        self.of, self.lost, self.told, self.sum, self.switches = of, lost, 0, 0, 0

    def __call__(self) -> tuple[int, int]:
        self.told += 1
        if self.told % 2 == 0:
            # there is always one: a switch alone, for no time, is no interruption
            self.switches += 1
            self.sum += self.lost if self.told // 2 - 1 in self.of else 0
        return self.switches, self.sum


def test_rounds_that_were_interrupted_are_left_out():
    """Whichever of its two runs it was: runs 0 and 1 are those of round 0."""
    samples, _ = sampled(50 * MS, scheduled=Scheduler({0, 5}, 1 * MS))
    assert len(samples.untraced) == len(samples.traced) == len(samples.calls) == 5 - 2


def test_less_than_a_hundredth_of_a_run_is_no_interruption():
    """A switch of threads is over at once."""
    samples, _ = sampled(50 * MS, scheduled=Scheduler({0, 5}, MS // 2))
    assert len(samples.untraced) == 5


def test_all_rounds_count_where_too_few_were_quiet():
    """3 are needed."""
    samples, _ = sampled(50 * MS, scheduled=Scheduler({0, 2, 4}, 1 * MS))
    assert len(samples.untraced) == 5


def test_all_rounds_count_that_were_asked_for():
    """`repeat` is exact."""
    samples, _ = sampled(50 * MS, repeat=5, scheduled=Scheduler({0, 5}, 1 * MS))
    assert len(samples.untraced) == 5


def test_methods_of_modules_are_replaced_once_for_all_runs():
    """Each time Python would forget the attributes of all modules, which slows down the run that follows."""
    torchs_own = nn.Module.__dict__["register_forward_hook"]
    seen: list[object] = []
    take_samples(
        lambda: seen.append(nn.Module.__dict__["register_forward_hook"]),
        modules=[],
        operations=False,
        overhead=FREE,
        repeat=3,
    )
    assert len(seen) == timing.WARMUP + 2 * 3
    assert set(map(id, seen)) == {id(seen[0])}
    assert seen[0] is not torchs_own
    assert nn.Module.__dict__["register_forward_hook"] is torchs_own


# what clocks cost


def test_empty_calls_tell_what_lies_outside_of_the_hooks():
    """Each reading costs 1: of a call's four, two lie inside the hooks' bodies, one between them, one before."""
    found = Empties(100, FakeClock(step=1)).measure()
    # one reading more ends the whole
    assert found == Pass(plain=1 / 100, traced=(2 * 100 + 1) / 100, between=1)
    assert from_passes([found]).around == pytest.approx(2)


@pytest.mark.parametrize(("modules", "empty"), [(0, 100), (100, 100), (300, 300), (1000, 1000), (5000, 1000)])
def test_as_many_empty_modules_as_the_model_has(modules, empty):
    """Between 100 and 1,000: those of a large model are in no cache as it calls them."""
    assert len(Empties(modules, FakeClock()).empty) == empty


def test_the_cost_is_the_median_of_what_each_pass_adds():
    """A machine that slows down slows both halves of a pass."""
    passes = [Pass(1, 3, 2), Pass(10, 30, 20), Pass(2, 5, 3)]
    assert from_passes(passes) == Overhead(around=3, within=1)


def test_no_cost_is_negative():
    """Noise may say so."""
    assert from_passes([Pass(3, 1, 1)]).around == 0


def test_the_cost_after_operations_is_mixed_with_that_of_calls_in_a_row():
    """By how many calls of the run follow an operation; that of an operation itself is left alone."""
    inside = Probed(Overhead(around=8, within=4), share=0.75)
    assert inside.mixed_with(Overhead(around=4, within=0, operation=9)) == Overhead(around=7, within=3, operation=9)


def test_several_probes_are_their_medians():
    """One may have been interrupted."""
    found = [Probed(Overhead(around, around / 2), share) for around, share in ((1, 0.5), (90, 0.5), (3, 0.75))]
    assert typical(found) == Probed(Overhead(3, 1.5), 0.5)


class Operates(nn.Module):
    """Runs `count` operations."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.count):
            x = x.neg()
        return x


def probed(model: nn.Module) -> Probed | None:
    clock = FakeClock(step=1)
    with torch.inference_mode():
        x = torch.zeros(1)
        return probe(lambda: model(x), lambda: None, list(model.modules()), Empties(0, clock), clock)


def test_a_probe_tells_how_many_calls_follow_an_operation():
    """Of the root and its three: two run operations, one of them several. The clock's readings are the costs."""
    found = probed(nn.Sequential(Operates(1), Operates(0), Operates(5)))
    # untraced the call's end is the only reading; with clocks there are four more, two inside the bodies
    assert found == Probed(Overhead(around=(1 + 4 - 2) - 1, within=0), share=2 / 4)


def test_the_calls_of_a_probe_are_none_of_the_models():
    """Nor does anything stay behind."""
    model = nn.Sequential(Operates(1), Operates(2))
    tables = [dict(table) for table in (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks)]
    assert probed(model) == probed(model)
    assert tables == [dict(t) for t in (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks)]


def test_nothing_to_probe_without_operations():
    """Calls in a row are as the empty ones."""
    assert probed(nn.Sequential(nn.Identity(), nn.Identity())) is None


def test_no_probe_calls_hooks_of_the_users():
    """A global hook need not expect the tracer's empty module."""
    ran: list[nn.Module] = []
    with torch_module.register_module_forward_pre_hook(lambda module, args: ran.append(module)):
        assert probed(Operates(1)) is None
    assert ran == []


def test_a_model_that_bears_no_probe_is_timed_without():
    """An exception under the mode is no reason to give up."""

    class Refuses(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
                raise RuntimeError("no modes, please")
            return x.neg()

    assert probed(Refuses()) is None


# add_times


def module_call(path: str, *children: Call) -> Call:
    return Call("module", path, path or "Net", "Net" if not path else "Linear", children=list(children))


def recorded(*roots: Call) -> Trace:
    return Trace(ModelInfo("Net"), Environment("", ""), calls=list(roots))


def runs(*totals: list[tuple[object, float, float]]) -> list[list[Timed]]:
    return [[Timed(*one) for one in run] for run in totals]


@pytest.fixture
def two() -> tuple[Trace, dict[int, str], list[object]]:
    """A recorded root with two calls inside, the ids of its modules, and the modules."""
    modules = [object(), object(), object()]
    trace = recorded(module_call("", module_call("a"), module_call("b")))
    return trace, {id(one): path for one, path in zip(modules, ("", "a", "b"), strict=True)}, modules


def test_medians_and_spreads_are_written_into_the_calls(two):
    """Total, self, interquartile range and how many runs they come from."""
    trace, paths, (root, a, b) = two
    samples = Samples(
        untraced=[100, 120, 110],
        traced=[130, 150, 140],
        calls=runs(
            [(root, 100, 70), (a, 30, 0), (b, 40, 0)],
            [(root, 120, 80), (a, 20, 0), (b, 60, 0)],
            [(root, 104, 74), (a, 34, 0), (b, 40, 0)],
        ),
        operations=[],
    )
    add_times(trace, samples, [], paths)
    (call,) = trace.calls
    first, second = call.children
    assert (call.host_ns, call.host_self_ns, call.samples, call.spread_ns) == (104, 30, 3, 10)
    assert (first.host_ns, first.host_self_ns, first.spread_ns) == (30, 30, 7)
    assert (second.host_ns, second.host_self_ns, second.spread_ns) == (40, 40, 10)
    assert trace.findings == []


def test_medians_of_parts_need_not_add_up_to_that_of_the_whole(two):
    """Each run was held up in another call: both sums are kept, so that a reader can be told."""
    trace, paths, (root, a, b) = two
    calls = runs(
        [(root, 190, 180), (a, 120, 0), (b, 60, 0)],
        [(root, 190, 180), (a, 20, 0), (b, 160, 0)],
        [(root, 100, 80), (a, 20, 0), (b, 60, 0)],
    )
    add_times(trace, Samples([90] * 3, [95] * 3, calls, []), [], paths)
    assert trace.timing is not None
    assert (trace.timing.total_ns, trace.timing.self_ns) == (190, 10 + 20 + 60)


def test_in_one_run_self_times_add_up_to_the_total(two):
    """Exactly."""
    trace, paths, (root, a, b) = two
    add_times(trace, Samples([90], [95], runs([(root, 190, 150), (a, 90, 0), (b, 60, 0)]), []), [], paths)
    assert trace.timing is not None
    assert trace.timing.total_ns == trace.timing.self_ns == 190


def test_the_whole_forward_has_its_own_medians(two):
    """Control runs and timing runs are never mixed."""
    trace, paths, (root, a, b) = two
    calls = runs(*[[(root, 1, 1), (a, 0, 0), (b, 0, 0)]] * 3)
    add_times(trace, Samples([100, 120, 110], [130, 160, 140], calls, []), [], paths)
    assert trace.timing is not None
    assert (trace.timing.untraced_ns, trace.timing.untraced_spread_ns) == (110, 10)
    assert (trace.timing.traced_ns, trace.timing.traced_spread_ns) == (140, 15)
    assert trace.timing.runs == 3


def test_runs_that_made_other_calls_are_a_finding_and_in_no_median(two):
    """Another number of calls, or other modules."""
    trace, paths, (root, a, b) = two
    samples = Samples(
        untraced=[1, 1, 1],
        traced=[1, 1, 1],
        calls=runs(
            [(root, 100, 70), (a, 30, 0), (b, 40, 0)],
            [(root, 900, 800), (a, 800, 0)],
            [(root, 900, 800), (b, 400, 0), (a, 400, 0)],
        ),
        operations=[],
    )
    add_times(trace, samples, [], paths)
    assert [call.host_ns for _, call in trace.walk()] == [100, 30, 40]
    assert trace.calls[0].samples == 1
    (finding,) = trace.findings
    assert (finding.kind, finding.message) == (
        "other-calls",
        "2 of 3 timing runs made other calls than this one",
    )


def test_no_run_that_made_the_same_calls_no_times(two):
    """None, not a guess; the whole forward still has its time."""
    trace, paths, (root, _, _) = two
    add_times(trace, Samples([5], [6], runs([(root, 5, 0)]), []), [], paths)
    assert [call.host_ns for _, call in trace.walk()] == [None, None, None]
    assert trace.timing is not None and trace.timing.untraced_ns == 5
    assert trace.findings[0].message == "1 of 1 timing runs made other calls than this one"


def test_an_operation_has_the_sum_of_its_parts(two):
    """Several aten operations of one expression are one call; its time is the median over runs of their sum."""
    trace, paths, (root, a, b) = two
    call = Call("operation", "", "x + y * z", "aten.add")
    trace.calls[0].children.append(call)
    order = [("mul", call), ("other", None), ("add", call)]
    operations: list[list[tuple[Any, int]]] = [
        [("mul", 10), ("other", 99), ("add", 1)],
        [("mul", 20), ("other", 99), ("add", 2)],
        [("mul", 30), ("other", 99), ("add", 3)],
        [("mul", 1000)],  # another run than the recorded one
    ]
    calls = runs(*[[(root, 50, 0), (a, 0, 0), (b, 0, 0)]] * 4)
    add_times(trace, Samples([1] * 4, [1] * 4, calls, operations), order, paths)
    assert (call.host_ns, call.samples, call.spread_ns) == (22, 3, 11)


@pytest.mark.parametrize(
    ("numbers", "range_"),
    [([], 0), ([5], 0), ([1, 2], 0), ([1, 2, 3, 4, 5], 2), ([10, 10, 10, 1000], 248)],
)
def test_spread_is_the_interquartile_range(numbers, range_):
    """The inclusive quartiles, rounded; one number has no spread."""
    assert spread(numbers) == range_


# measure


class Alternates(nn.Module):
    """Makes another call every second run."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.extra, self.count = nn.Linear(4, 4), nn.Linear(4, 4), 0

    def forward(self, x: Any) -> Any:
        self.count += 1
        x = self.fc(x)
        return self.extra(x) if self.count % 2 else x


def test_measure_tells_of_runs_that_made_other_calls():
    """End to end."""
    trace = tracecall.measure(Alternates(), (torch.randn(2, 4),), repeat=4, operations="none")
    kinds = {finding.kind for finding in trace.findings}
    assert "other-calls" in kinds


class Cache(nn.Module):
    """Has room for so many runs."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.fc, self.room = nn.Linear(4, 4), room

    def forward(self, x: Any) -> Any:
        if not self.room:
            raise ValueError("the cache is full")
        self.room -= 1
        return self.fc(x)


@pytest.mark.parametrize("repeat", [None, 0])
def test_a_forward_that_does_not_run_twice_is_shown_without_times(repeat):
    """What was recorded is not lost; nothing stays attached."""
    trace = tracecall.measure(Cache(1), (torch.randn(2, 4),), repeat=repeat, prove=True)
    (finding,) = trace.findings
    assert finding.message == (
        "another run with the same inputs raised ValueError: the cache is full, so nothing could be timed; a forward that "
        "changes its inputs, or something that it keeps between calls, may not run twice"
    )
    assert finding.site is not None and finding.site.text == 'raise ValueError("the cache is full")'
    assert trace.error is None and trace.timing is None and trace.prediction
    assert [call.path for _, call in trace.walk()] == ["", "fc"]
    assert not torch.nn.modules.module._global_forward_hooks


@pytest.mark.parametrize(("room", "said"), [(7, "the one before it"), (11, "the 2 before it")])
def test_the_rounds_before_the_one_that_raised_have_times(room, said):
    """Two runs come first; the first round has three, and two more if it probes; the second has four."""
    trace = tracecall.measure(Cache(room), (torch.randn(2, 4),), warmup=0, operations="none")
    (finding,) = trace.findings
    assert f"so times are of {said};" in finding.message
    assert trace.timing is not None and trace.calls[0].host_ns is not None
    assert trace.calls[0].samples == trace.timing.runs == (2 if "2" in said else 1)


def test_rounds_end_with_the_first_run_that_raises():
    """With what it raised; those before it count."""
    clock, error, runs = FakeClock(), ValueError("full"), iter(range(1, 10))

    def run() -> None:
        clock.passes(10)
        if next(runs) == 6:
            raise ForwardRaised from error

    samples = take_samples(run, warmup=0, repeat=9, operations=False, modules=[], clock=clock, overhead=FREE)
    assert (samples.untraced, samples.raised) == ([10, 10], error)
    assert not torch.nn.modules.module._global_forward_hooks


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"repeat": -1}, "repeat=-1: it is a number of runs, 0 or more, or None for as many as fit; write repeat=3"),
        ({"repeat": "x"}, "repeat='x': it is a number of runs, 0 or more, or None for as many as fit; write repeat=3"),
        ({"warmup": 1.5}, "warmup=1.5: it is a number of runs, 0 or more; write warmup=3"),
        ({"warmup": None}, "warmup=None: it is a number of runs, 0 or more; write warmup=3"),
    ],
)
def test_what_is_no_number_of_runs_is_refused_before_the_model_runs(given, said):
    """In one line."""
    with pytest.raises(tracecall.TracecallError) as refused:
        tracecall.measure(Cache(0), (torch.randn(2, 4),), **given)
    assert str(refused.value) == said


def test_lazy_modules_have_times_though_their_own_hooks_ran_but_once():
    """torch takes off the hook that makes the parameters as it has run: it is in the recorded run, and in no other."""
    trace = tracecall.measure(nn.Sequential(nn.LazyLinear(4), nn.ReLU()), (torch.randn(2, 3),), repeat=3)
    assert [finding.kind for finding in trace.findings] == []
    timed = {call.name: call.host_ns is not None for _, call in trace.walk() if call.kind != "operation"}
    assert timed == {"Sequential": True, "0": True, "LazyModuleMixin._infer_parameters": False, "1": True}
    assert next(call.flops for _, call in trace.walk() if call.path == "0" and call.kind == "module") == 2 * 2 * 3 * 4


class Hides(GlobalHooks):
    """Takes 50 ns to hide hooks and 70 to show them."""

    clock: FakeClock

    @contextmanager
    def hidden(self) -> Iterator[None]:
        with super().hidden():
            self.clock.passes(50)
            yield
            self.clock.passes(70)


@pytest.mark.parametrize("way", ["torch.compile", "module.compile"])
def test_what_hides_the_hooks_from_compiled_code_is_no_time_of_the_model_s(way, monkeypatch):
    """Neither of the compiled call nor of the one around it."""
    clock = FakeClock()
    Hides.clock = clock
    monkeypatch.setattr("tracecall.recording.clocks.GlobalHooks", Hides)

    class Inner(nn.Module):
        def forward(self, x: Any) -> Any:
            clock.passes(100)
            return x

    inner = Inner()
    if way == "torch.compile":
        monkeypatch.setattr("tracecall.recording.opaque.is_optimized", lambda module: module is inner)
        inner.__dict__["forward"] = inner.forward
    else:
        inner._compiled_call_impl = inner.forward
    model = nn.Sequential(inner)
    clocks = Clocks(clock)
    with clocks.attached([model, inner]):
        model(torch.zeros(1))
    assert timed_calls(clocks.events, FREE) == [Timed(model, 100, 100), Timed(inner, 100, 0)]


def test_operations_are_never_more_than_the_call_that_runs_them(two):
    """They are timed in other runs, under a mode that slows them: what exceeds the call's own time is scaled down."""
    trace, paths, (root, a, b) = two
    first, second = (Call("operation", "", name, "aten.add") for name in ("x + y", "x * y"))
    trace.calls[0].children += [first, second]
    order = [("add", first), ("mul", second)]
    operations: list[list[tuple[Any, int]]] = [[("add", 90), ("mul", 30)]]
    calls = runs([(root, 100, 40), (a, 20, 0), (b, 20, 0)])
    add_times(trace, Samples([1], [1], calls, operations), order, paths)
    assert trace.calls[0].host_self_ns == 60
    assert (first.host_ns, second.host_ns) == (45, 15)


# what is left of the difference


def a_round(untraced: int, *, more: int, outside: int = 0) -> Round:
    """A root that calls one module: what it lasts longer than the control run, and what the timing run does beyond that.

    Each of the two calls has 10 ns in its hooks.
    """
    end = 10 + untraced + 10 + more
    found = Round(untraced=untraced, traced=end + outside)
    found.keep([0, "root", 10, 100, "a", 110, 200, None, 200, end, None, end])
    return found


def test_what_the_clocks_do_not_explain_is_shared_among_the_calls():
    """Of 18 ns, 5 are known to be around the call inside and 3 in the root; 10 are left for 2 calls."""
    rounds = [a_round(1000 + i, more=18) for i in range(8)]
    assert unexplained(rounds, Overhead(around=5, within=3)) == 5


def test_what_passes_before_the_first_call_and_after_it_is_no_call_s():
    """A part of the root's own hooks, to be run, takes longest: for a model of one call it is most of what they cost."""
    assert unexplained([a_round(1000, more=0, outside=500)] * 8, FREE) == 0


def test_noise_is_not_shared_among_the_calls():
    """As often longer as shorter, by more than it is at the median."""
    rounds = [a_round(1000, more=more) for more in (-40, 50, -35, 45, -30, 40, -25, 30, 4)]
    assert unexplained(rounds, FREE) == 0


def test_a_few_rounds_are_not_enough():
    """Seven that agree may do so by chance."""
    assert unexplained([a_round(1000, more=18)] * 7, FREE) == 0


def test_no_hook_makes_a_model_faster():
    """Timing runs that are shorter: the machine was slower in the others, or the device's work hides the hooks'."""
    assert unexplained([a_round(1000, more=-18)] * 8, FREE) == 0


def test_not_more_is_left_than_the_clocks_cost():
    """1 µs a call beside 15 ns: that is the machine's."""
    assert unexplained([a_round(1000, more=2000)] * 8, Overhead(around=5)) == 10 + 5


def test_rounds_without_calls_leave_nothing():
    """As where the recorded code calls no module."""
    assert unexplained([Round(untraced=1000, traced=1018)] * 8, FREE) == 0
