"""Host times: control runs with nothing attached, beside runs with only clocks in the hooks.

The two kinds are interleaved, so that a change of the machine's speed meets both. A clock is read as each hook is
entered and as it is left: what lies between is the tracer's own time and is taken out of every call around it. What the
hooks cost outside of their own bodies (torch's longer way through `_call_impl`) is calibrated on an empty module.
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode

from tracecall.calls import Call, Finding, Timing, Trace

Clock = Callable[[], int]
Progress = Callable[[int, int], None]

BUDGET_NS = 500_000_000  # the runs that fit in half a second,
FEWEST, MOST = 3, 100  # but no fewer and no more than these
WARMUP = 2


@dataclass(frozen=True)
class Overhead:
    """What a pair of clock hooks costs a module call outside of their bodies, in nanoseconds."""

    around: float = 0.0  # added to every call around it
    within: float = 0.0  # between the hooks of the call itself, beyond what the same call costs untraced


@dataclass(frozen=True)
class Timed:
    """One module call of a timing run, in call order; nanoseconds with the tracer's own time taken out."""

    module: object
    total: float
    inside: float  # the totals of the module calls directly inside it


class Clocks:
    """The clock hooks of timing runs; `events` holds (entered, module or None at the end, left) one after another."""

    def __init__(self, clock: Clock = time.perf_counter_ns) -> None:
        self.events: list[Any] = []
        extend, owner, ident = self.events.extend, threading.get_ident(), threading.get_ident

        def before(module: nn.Module, args: object) -> None:
            entered = clock()
            if ident() == owner:
                extend((entered, module, clock()))

        def after(module: nn.Module, args: object, *rest: object) -> None:
            entered = clock()
            if ident() == owner:
                extend((entered, None, clock()))

        self._before, self._after = before, after

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks on every module of the process, gone when the block ends."""
        before = torch_module.register_module_forward_pre_hook(self._before)
        try:
            after = torch_module.register_module_forward_hook(self._after, always_call=True)
        except BaseException:
            before.remove()
            raise
        try:
            yield
        finally:
            before.remove()
            after.remove()


class OperationClocks(TorchDispatchMode):
    """Times every operation where it is dispatched; `events` holds (operation, nanoseconds)."""

    supports_higher_order_operators = True

    def __init__(self, clock: Clock = time.perf_counter_ns) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.events: list[tuple[Any, int]] = []
        self._clock = clock

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begun = self._clock()
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.events.append((func, self._clock() - begun))


def timed_calls(events: list[Any], overhead: Overhead) -> list[Timed] | None:
    """The calls of one timing run with the tracer's time taken out; None if a call never ended (an interrupt)."""
    found: list[Timed | None] = []
    # of each open call: its place in `found`, its module, when it began, the tracer's time inside, its children's time
    stack: list[list[Any]] = []
    for i in range(0, len(events), 3):
        entered, module, left = events[i : i + 3]
        if module is not None:
            found.append(None)
            stack.append([len(found) - 1, module, left, float(left - entered), 0.0, 0.0])
            continue
        if not stack:
            return None
        place, begun_module, begun, own, tracer, children = stack.pop()
        total = max(0.0, entered - begun - tracer - overhead.within)
        found[place] = Timed(begun_module, total, children)
        if stack:
            stack[-1][4] += tracer + own + (left - entered) + overhead.around
            stack[-1][5] += total
    return None if stack else [call for call in found if call is not None]


class _Empty(nn.Module):
    def forward(self, x: object) -> object:
        return x


_overhead: Overhead | None = None


def calibrate(clock: Clock = time.perf_counter_ns, calls: int = 300, rounds: int = 7) -> Overhead:
    """What clock hooks cost outside of their bodies on this machine, from calls of an empty module."""
    global _overhead
    if _overhead is not None:
        return _overhead
    module = _Empty()
    plain, traced, within = [], [], []
    for _ in range(rounds):
        begun = clock()
        for _ in range(calls):
            module(None)
        plain.append((clock() - begun) / calls)
        clocks = Clocks(clock)
        with clocks.attached():
            begun = clock()
            for _ in range(calls):
                module(None)
            ended = clock()
        events = clocks.events
        bodies = sum(events[i + 2] - events[i] for i in range(0, len(events), 3))
        traced.append((ended - begun - bodies) / calls)
        between = sorted(events[i + 3] - events[i + 2] for i in range(0, len(events), 6))
        within.append(between[len(between) // 2])
    bare = statistics.median(plain)
    _overhead = Overhead(max(0.0, statistics.median(traced) - bare), statistics.median(within) - bare)
    return _overhead


@dataclass
class Samples:
    """The whole forward and its parts, one entry a run, in nanoseconds."""

    untraced: list[int]
    traced: list[int]
    calls: list[list[Timed]]
    operations: list[list[tuple[Any, int]]]
    unbalanced: int = 0


def take_samples(
    run: Callable[[], object],
    *,
    prepare: Callable[[], None] = lambda: None,
    operations: bool,
    warmup: int = WARMUP,
    repeat: int | None = None,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
    overhead: Overhead | None = None,
) -> Samples:
    """Interleave control runs, timing runs and, with `operations`, runs that time every operation.

    `prepare` comes before each, untimed. `repeat` None takes as many rounds as fit in
    half a second, at least 3 and at most 100.
    """
    samples = Samples([], [], [], [])
    overhead = calibrate() if overhead is None else overhead
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(warmup):
            prepare()
            run()
        begun = clock()
        done = 0
        while done < (MOST if repeat is None else repeat):
            _one_round(run, prepare, samples, operations, clock, overhead)
            done += 1
            spent = clock() - begun
            if repeat is None and done >= FEWEST and spent + spent / done > BUDGET_NS:
                break
            if progress is not None:
                wanted = repeat if repeat is not None else max(FEWEST, min(MOST, int(BUDGET_NS * done / max(spent, 1))))
                progress(done, wanted)
    finally:
        if collecting:
            gc.enable()
    return samples


def _one_round(
    run: Callable[[], object],
    prepare: Callable[[], None],
    samples: Samples,
    operations: bool,
    clock: Clock,
    overhead: Overhead,
) -> None:
    prepare()
    begun = clock()
    run()
    samples.untraced.append(clock() - begun)
    clocks = Clocks(clock)
    prepare()
    with clocks.attached():
        begun = clock()
        run()
        samples.traced.append(clock() - begun)
    calls = timed_calls(clocks.events, overhead)
    if calls is None:
        samples.unbalanced += 1
    else:
        samples.calls.append(calls)
    if operations:
        mode = OperationClocks(clock)
        prepare()
        with mode:
            run()
        samples.operations.append(mode.events)


def add_times(trace: Trace, samples: Samples, order: list[tuple[Any, Call | None]], modules: dict[int, str]) -> None:
    """Write medians and interquartile ranges into the calls of a recorded Trace.

    Runs that made other calls than the recording are left out and become a finding. `order` is what the recording saw
    of each aten operation; `modules` maps a module's id to its path.
    """
    trace.timing = Timing(
        untraced_ns=round(statistics.median(samples.untraced)),
        traced_ns=round(statistics.median(samples.traced)),
        untraced_spread_ns=spread(samples.untraced),
        traced_spread_ns=spread(samples.traced),
        runs=len(samples.untraced),
    )
    recorded = [call for _, call in trace.walk() if call.kind == "module" and call.thread is None]
    paths = [call.path for call in recorded]
    same = [
        calls
        for calls in samples.calls
        if len(calls) == len(paths)
        and all(modules.get(id(one.module), path) == path for one, path in zip(calls, paths, strict=True))
    ]
    if len(same) < len(samples.untraced):
        different = len(samples.untraced) - len(same)
        trace.findings.append(
            Finding("other-calls", f"{different} of {len(samples.untraced)} timing runs made other calls than this one")
        )
    for i, call in enumerate(recorded if same else ()):
        totals = [calls[i].total for calls in same]
        call.host_ns = round(statistics.median(totals))
        call.host_self_ns = round(statistics.median(calls[i].total - calls[i].inside for calls in same))
        call.samples, call.spread_ns = len(same), spread(totals)
    _add_operation_times(samples, order)


def _add_operation_times(samples: Samples, order: list[tuple[Any, Call | None]]) -> None:
    expected = [func for func, _ in order]
    same = [events for events in samples.operations if [func for func, _ in events] == expected]
    if not same:
        return
    by_call: dict[int, tuple[Call, list[int]]] = {}
    for i, (_, call) in enumerate(order):
        if call is not None:
            by_call.setdefault(id(call), (call, []))[1].append(i)
    for call, places in by_call.values():
        totals = [sum(events[i][1] for i in places) for events in same]
        call.host_ns = call.host_self_ns = round(statistics.median(totals))
        call.samples, call.spread_ns = len(same), spread(totals)


def spread(values: Sequence[float]) -> int:
    """The interquartile range."""
    if len(values) < 2:
        return 0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return round(high - low)
