"""What the clocks of timing runs cost a call, beyond what passes inside their hooks: an Overhead.

What hooks cost outside of their own bodies (torch's longer way through `_call_impl`) is calibrated on empty modules,
beside the timing runs: the machine's speed changes from one second to the next. It is calibrated inside the model's own
runs too, by a Probe: where an operation has just run, torch's and the tracer's code and data are out of the processor's
caches, and the same hooks cost twice to four times as much as in a loop. What then still sets timing runs apart from
control runs is shared among the calls (unexplained.py).
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.recording.clocks import Clock, Clocks, OperationClocks, Overhead, Timed, timed_calls
from tracecall.recording.global_hooks import GlobalHooks
from tracecall.recording.modes import QuietMode, run_unchanged, suited
from tracecall.recording.rounds import Pass, Round, Scheduling, timed_run, undisturbed
from tracecall.recording.unexplained import unexplained

FEWEST_EMPTIES, MOST_EMPTIES = 100, 1000
PROBE_EVERY = 4  # rounds
NEGLIGIBLE = 0.001  # of the run


class Calibration:
    """What the clocks cost: from calls of empty modules in each round, and inside the model's run in every fourth."""

    def __init__(
        self,
        run: Callable[[], object],
        prepare: Callable[[], None],
        modules: list[nn.Module],
        clock: Clock,
        scheduled: Scheduling,
    ) -> None:
        self._empties = Empties(len(modules), clock)
        self._run, self._prepare, self._modules = run, prepare, modules
        self._clock, self._scheduled = clock, scheduled
        self._rounds, self._probing = 0, True
        self._probed: list[Probed] = []

    def call_empties(self) -> tuple[Pass, bool]:
        """Once with nothing attached, then with clocks; and whether that was interrupted."""
        found: list[Pass] = []
        _, interrupted = timed_run(lambda: found.append(self._empties.measure()), self._clock, self._scheduled)
        return found[0], interrupted

    def end_round(self, ran: Round) -> None:
        """Probe the model's own run, if this is a round for it and if it can make a difference."""
        if self._probing and self._rounds % PROBE_EVERY == 0 and self._matters(ran):
            found = probe(self._run, self._prepare, self._modules, self._empties, self._clock)
            self._probing = found is not None
            if found is not None:
                self._probed.append(found)
        self._rounds += 1

    def _matters(self, ran: Round) -> bool:
        return _beside([ran]).around * len(ran.modules) / 2 > NEGLIGIBLE * ran.untraced

    def overhead(self, kept: list[Round]) -> Overhead:
        """From the rounds that are kept, and from all probes."""
        found = _beside(kept)
        known = typical(self._probed).mixed_with(found) if self._probed else found
        more = unexplained(kept, known)
        return Overhead(known.around + more, known.within + more)


def _beside(rounds: list[Round]) -> Overhead:
    return from_passes(undisturbed([(one.empty, one.empty_interrupted) for one in rounds if one.empty is not None]))


class _Empty(nn.Module):
    def forward(self, x: object) -> object:
        return x


class Empties(nn.Module):
    """A model of empty modules, run as the user's is: with clocks in hooks and without.

    As many as the user's has (100 to 1,000), since a call of another module reads other memory: hooks cost less on a
    few that stay in the processor's caches.
    """

    def __init__(self, count: int, clock: Clock) -> None:
        super().__init__()
        # in a list, not registered: a user's hook on registrations need not expect them
        self.empty = [_Empty() for _ in range(max(FEWEST_EMPTIES, min(count, MOST_EMPTIES)))]
        self._clock = clock

    def forward(self, x: object) -> object:
        """Nothing but calls."""
        for module in self.empty:
            x = module(x)
        return x

    def measure(self) -> Pass:
        """Run it once with nothing attached and once with clocks."""
        clock, clocks = self._clock, Clocks(self._clock)
        with GlobalHooks().alone():
            self(None)
            begun = clock()
            self(None)
            plain = clock() - begun
            # named, though they have no hooks: to look for some brings a module into the caches, as it does the model's
            with clocks.attached([self, *self.empty]):
                self(None)
        whole, *inside = timed_calls(clocks.events, Overhead()) or [Timed(self, plain, 0)]
        calls = len(self.empty)
        return Pass(plain / calls, whole.total / calls, statistics.median(one.total for one in inside))


def from_passes(passes: list[Pass]) -> Overhead:
    """From the medians of several."""
    around = statistics.median(one.traced - one.plain for one in passes)
    return Overhead(max(0.0, around), statistics.median(one.between - one.plain for one in passes))


class Probe(QuietMode):
    """Calls an empty module after every operation of a run, where the caches are as the operation left them.

    `events` are those of the clocks that are attached meanwhile, None if there are none.
    """

    def __init__(self, modules: list[Any], clock: Clock, events: list[Any] | None = None) -> None:
        super().__init__()
        self.lasted: list[float] = []  # each call, without the bodies of its hooks
        self.between: list[float] = []  # what lay between them
        self.places: set[int] = set()  # how many events there were before the calls
        self._modules, self._clock, self._events = itertools.cycle(modules), clock, events

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = run_unchanged(func, args, kwargs)
        module, events, clock = next(self._modules), self._events, self._clock
        before = 0 if events is None else len(events)
        begun = clock()
        module(None)
        lasted = clock() - begun
        if events is None:
            self.lasted.append(lasted)
        elif len(events) == before + 6:  # not where hooks are hidden, from compiled code
            entered, _, left, entered_last, _, left_last = events[before:]
            del events[before:]
            self.places.add(before)
            self.lasted.append(lasted - (left - entered) - (left_last - entered_last))
            self.between.append(entered_last - left)
        return output


@dataclass(frozen=True)
class Probed:
    """What clock hooks cost inside the model's own runs."""

    after_operations: Overhead
    share: float  # of the run's calls, how many follow an operation

    def mixed_with(self, elsewhere: Overhead) -> Overhead:
        """The mean over all calls of a run; `elsewhere` is what hooks cost a call that follows another at once."""
        cold, hot, share = self.after_operations, elsewhere, self.share
        around = share * cold.around + (1 - share) * hot.around
        return Overhead(around, share * cold.within + (1 - share) * hot.within, hot.operation)


def probe(
    run: Callable[[], object], prepare: Callable[[], None], modules: list[nn.Module], empties: Empties, clock: Clock
) -> Probed | None:
    """Probe one run with nothing attached and one with clocks; None where no operation was seen.

    Nor where a user's global hooks would run for the empty modules, which they need not expect.
    """
    if torch_module._global_forward_pre_hooks or torch_module._global_forward_hooks:
        return None
    try:
        plain = suited(Probe)(empties.empty, clock)
        prepare()
        with plain:
            run()
        clocks = Clocks(clock)
        traced = suited(Probe)(empties.empty, clock, clocks.events)
        prepare()
        with clocks.attached(modules), traced:
            run()
    except Exception:  # the model ran before: it does not bear a dispatch mode
        return None
    if not plain.lasted or not traced.lasted:
        return None
    bare = _undisturbed_mean(plain.lasted)
    around = max(0.0, _undisturbed_mean(traced.lasted) - bare)
    calls = len(clocks.events) // 6
    share = min(1.0, len(traced.places) / calls) if calls else 0.0
    return Probed(Overhead(around, _undisturbed_mean(traced.between) - bare), share)


def typical(found: list[Probed]) -> Probed:
    """The medians of several."""
    return Probed(
        Overhead(
            statistics.median(one.after_operations.around for one in found),
            statistics.median(one.after_operations.within for one in found),
        ),
        statistics.median(one.share for one in found),
    )


def _undisturbed_mean(times: list[float]) -> float:
    """A mean, since the costs of all calls add up; less the longest 2 %, among which are the interrupted ones."""
    return statistics.fmean(sorted(times)[: max(1, len(times) * 49 // 50)])


_operation: float | None = None


def operation_overhead(clock: Clock = time.perf_counter_ns, calls: int = 100, rounds: int = 5) -> float:
    """What running an operation through a dispatch mode costs in ns, from one that does next to nothing; found once."""
    global _operation
    if _operation is None:
        _operation = _calibrate_operation(clock, calls, rounds)
    return _operation


def _calibrate_operation(clock: Clock, calls: int, rounds: int) -> float:
    tensor = torch.zeros(1)
    plain, timed = [], []
    for _ in range(rounds):
        begun = clock()
        for _ in range(calls):
            tensor.view(1)
        plain.append((clock() - begun) / calls)
        mode = suited(OperationClocks)(clock)
        with mode:
            for _ in range(calls):
                tensor.view(1)
        timed.append(statistics.median(time for _, time in mode.events))
    return max(0.0, float(statistics.median(timed)) - statistics.median(plain))
