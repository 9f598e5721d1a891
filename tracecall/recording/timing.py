"""Host times: control runs with nothing attached, interleaved with runs that only read clocks (see clocks.py).

Interleaved, so that a change of the machine's speed meets both kinds, and the calls of empty modules by which the cost
of the clocks is known (calibration.py). Nothing here touches a recorded run: its calls get their times from the medians
of other runs that made the same calls.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import nn

from tracecall.calls import Call, Finding, Timing, Trace
from tracecall.recording.calibration import Calibration, operation_overhead
from tracecall.recording.clocks import Clock, Clocks, OperationClocks, Overhead, Timed, timed_calls
from tracecall.recording.modes import suited
from tracecall.recording.rounds import FEWEST, ForwardRaised, Round, Scheduling, scheduling, timed_run, undisturbed
from tracecall.recording.user_hooks import WatchedHook, listen, stop_listening

Progress = Callable[[int, int], None]

BUDGET_NS = 500_000_000  # the runs that fit in half a second,
MOST = 100  # but no more than these, and no fewer than FEWEST
WARMUP = 2
FREE = Overhead()
_ONCE = "LazyModuleMixin._infer_parameters"  # a lazy module's own hook, which torch takes off as it has run


class Ran(Protocol):
    """One call of a run, whatever was measured of it."""

    @property
    def module(self) -> object:
        """The module, or the hook's WatchedHook."""


@dataclass
class Samples:
    """The whole forward and its parts, one entry a run, in nanoseconds."""

    untraced: list[int]
    traced: list[int]
    calls: list[list[Timed]]
    operations: list[list[tuple[Any, int]]]
    operation_overhead: float = 0.0  # of each operation, to be taken out
    raised: BaseException | None = None  # what ended the rounds before their time


def take_samples(
    run: Callable[[], object],
    *,
    prepare: Callable[[], None] = lambda: None,
    modules: list[nn.Module],
    operations: bool,
    warmup: int = WARMUP,
    repeat: int | None = None,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
    overhead: Overhead | None = None,
    more: Callable[[], None] | None = None,
    scheduled: Scheduling = scheduling,
) -> Samples:
    """Interleave control runs, timing runs and, with `operations`, runs that time every operation.

    `prepare` comes before each, untimed; `modules` are those whose own hooks are timed too.
    `more` is one run more of another kind in each round, which prepares itself.
    `repeat` None takes as many rounds as fit in half a second, at least 3 and at most 100. It leaves out those in which
    another program had the processor (`scheduled` tells), as long as 3 are left: a run of a few ms that is interrupted
    lasts twice as long, and the longer of two kinds is interrupted more often.
    `overhead` None measures what the clocks cost beside the runs.
    Where `run` is ended by a ForwardRaised, the rounds before it are what there is.
    """
    raised: BaseException | None = None
    rounds: list[Round] = []
    beside = Calibration(run, prepare, modules, clock, scheduled) if overhead is None else None
    collecting = gc.isenabled()
    gc.disable()
    # for all runs: clocks that replaced methods of nn.Module one by one would each time make Python forget what it
    # knows of the attributes of every module, and slow down the control run that follows
    listen(_nobody)
    try:
        for _ in range(warmup):
            prepare()
            run()
        begun = clock()
        while len(rounds) < (MOST if repeat is None else repeat):
            before = 1 + len(rounds) % 2  # not an even number of runs in each round: some models take turns
            one = _one_round(run, prepare, modules, operations, clock, scheduled, beside, before)
            if more is not None:
                more()
            rounds.append(one)
            done, spent = len(rounds), clock() - begun
            if repeat is None and done >= FEWEST and spent + spent / done > BUDGET_NS:
                break
            if progress is not None:
                wanted = repeat if repeat is not None else max(FEWEST, min(MOST, int(BUDGET_NS * done / max(spent, 1))))
                progress(done, wanted)
    except ForwardRaised as error:
        raised = error.__cause__
    finally:
        stop_listening(_nobody)
        if collecting:
            gc.enable()
    kept = rounds if repeat is not None else undisturbed([(one, one.interrupted) for one in rounds])
    if overhead is None:
        overhead = FREE if beside is None or not rounds else beside.overhead(kept)
    calls = [timed_calls(one.events, overhead) for one in kept]
    if operations and beside is not None:
        overhead = replace(overhead, operation=operation_overhead(clock))
    return Samples(
        untraced=[one.untraced for one in kept],
        traced=[one.traced for one in kept],
        calls=[found for found in calls if found is not None],
        operations=[one.operations for one in kept if one.operations is not None],
        operation_overhead=overhead.operation,
        raised=raised,
    )


def _nobody(module: nn.Module) -> None:
    """Hears of hooks and does nothing."""


def _one_round(
    run: Callable[[], object],
    prepare: Callable[[], None],
    modules: list[nn.Module],
    operations: bool,
    clock: Clock,
    scheduled: Scheduling,
    beside: Calibration | None,
    before: int,
) -> Round:
    found = Round()
    # empty modules in the same order as the model: each run finds the caches as the model's find them
    if beside is not None:
        found.empty, found.empty_interrupted = beside.call_empties()
        # what was done between two rounds has taken the model out of the caches: the run with clocks follows another
        # one of the model's, and so must the run without
        for _ in range(before):
            prepare()
            run()
    prepare()
    found.untraced, interrupted = timed_run(run, clock, scheduled)
    clocks = Clocks(clock)
    prepare()
    with clocks.attached(modules):
        found.traced, found.interrupted = timed_run(run, clock, scheduled)
    found.interrupted |= interrupted
    found.keep(clocks.events)
    if operations:
        mode = suited(OperationClocks)(clock)
        prepare()
        with mode:
            run()
        found.operations = mode.events
    if beside is not None:
        beside.end_round(found)
    return found


def add_times(trace: Trace, samples: Samples, order: list[tuple[Any, Call | None]], modules: dict[int, str]) -> None:
    """Write medians and interquartile ranges into the calls of a recorded Trace.

    Runs that made other calls than the recording are left out and become a finding. Without runs, nothing is written.
    `order` is what the recording saw
    of each aten operation; `modules` maps a module's id to its path.
    """
    if not samples.untraced:
        return
    trace.timing = Timing(
        untraced_ns=round(statistics.median(samples.untraced)),
        traced_ns=round(statistics.median(samples.traced)),
        untraced_spread_ns=spread(samples.untraced),
        traced_spread_ns=spread(samples.traced),
        runs=len(samples.untraced),
    )
    recorded = timed_here(trace)
    same = [calls for calls in samples.calls if same_calls(calls, recorded, modules)]
    if len(same) < len(samples.untraced):
        different = len(samples.untraced) - len(same)
        trace.findings.append(
            Finding("other-calls", f"{different} of {len(samples.untraced)} timing runs made other calls than this one")
        )
    for i, call in enumerate(recorded if same else ()):
        totals = [calls[i].total for calls in same]
        call.host_ns = round(statistics.median(totals))
        own = statistics.median(calls[i].total - calls[i].inside for calls in same)
        call.host_self_ns = max(0, round(own))  # what was taken out for the clocks may be a little too much
        call.samples, call.spread_ns = len(same), spread(totals)
    if same:
        roots = (call for call in trace.calls if call.thread is None and call.kind != "operation")
        trace.timing.total_ns = sum(call.host_ns or 0 for call in roots)
        trace.timing.self_ns = sum(call.host_self_ns or 0 for call in recorded)
    _add_operation_times(samples, order)
    for call in recorded:
        _fit_operations(call)


def _fit_operations(call: Call) -> None:
    """A dispatch mode slows operations: those of a call that take longer than its own time are scaled down to it."""
    inside = [one for one in call.children if one.kind == "operation" and one.host_ns is not None]
    total = sum(one.host_ns or 0 for one in inside)
    if call.host_self_ns is not None and total > max(call.host_self_ns, 0):
        for one in inside:
            one.host_ns = one.host_self_ns = (one.host_ns or 0) * max(call.host_self_ns, 0) // total


def timed_here(trace: Trace) -> list[Call]:
    """The calls of modules and hooks in the thread which called the model, in call order: what each run makes."""
    found: list[Call] = []
    waiting = list(reversed(trace.calls))
    while waiting:
        call = waiting.pop()
        if call.thread is None and call.name != _ONCE:
            if call.kind != "operation":
                found.append(call)
            waiting.extend(reversed(call.children))
    return found


def same_calls(calls: Sequence[Ran], recorded: list[Call], modules: dict[int, str]) -> bool:
    """Whether another run made the calls of the recorded one; `modules` maps a module's id to its path."""
    return len(calls) == len(recorded) and all(
        isinstance(one.module, WatchedHook) == (call.kind == "hook")
        and (call.kind == "hook" or modules.get(id(one.module), call.path) == call.path)
        for one, call in zip(calls, recorded, strict=True)
    )


def _add_operation_times(samples: Samples, order: list[tuple[Any, Call | None]]) -> None:
    overhead = samples.operation_overhead
    expected = [func for func, _ in order]
    same = [events for events in samples.operations if [func for func, _ in events] == expected]
    if not same:
        return
    by_call: dict[int, tuple[Call, list[int]]] = {}
    for i, (_, call) in enumerate(order):
        if call is not None:
            by_call.setdefault(id(call), (call, []))[1].append(i)
    for call, places in by_call.values():
        totals = [max(0.0, sum(events[i][1] - overhead for i in places)) for events in same]
        call.host_ns = call.host_self_ns = round(statistics.median(totals))
        call.samples, call.spread_ns = len(same), spread(totals)


def spread(values: Sequence[float]) -> int:
    """The interquartile range."""
    if len(values) < 2:
        return 0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return round(high - low)
