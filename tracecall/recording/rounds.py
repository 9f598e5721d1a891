"""One round of runs: what it leaves behind, and whether another program had the processor meanwhile.

A round is a control run, a timing run and what is run beside them, one after the other.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tracecall.recording.clocks import Clock

Measured = TypeVar("Measured")

FEWEST = 3  # rounds that medians are taken of
LOST = 0.01  # of a run: more makes it an interrupted one


class ForwardRaised(Exception):
    """The model's forward raised, its `__cause__`, in a run like the one that was recorded and did not fail."""


@dataclass(frozen=True)
class Pass:
    """Nanoseconds a call of empty modules, without what passed inside hooks."""

    plain: float  # with nothing attached
    traced: float  # with clocks
    between: float  # the part of `traced` that lies between the two hooks


@dataclass
class Round:
    """What one round of runs left behind."""

    untraced: int = 0
    traced: int = 0
    times: array[int] = field(default_factory=lambda: array("q"))  # of the clocks' events, two each
    modules: list[object] = field(default_factory=list)
    operations: list[tuple[Any, int]] | None = None
    interrupted: bool = False  # the control run or the timing run
    empty: Pass | None = None  # the calls of empty modules beside them
    empty_interrupted: bool = False

    def keep(self, events: list[Any]) -> None:
        """As an array: a thousand ints that stay would make the next run's clocks wait for fresh memory."""
        del self.times[:], self.modules[:]
        self.modules += events[1::3]
        del events[1::3]
        self.times.extend(events)
        events.clear()

    @property
    def events(self) -> list[Any]:
        """The clocks' events as they were."""
        found: list[Any] = [None] * (3 * len(self.modules))
        found[::3], found[1::3], found[2::3] = self.times[::2], self.modules, self.times[1::2]
        return found


Scheduling = Callable[[], tuple[int, int]]


def scheduling() -> tuple[int, int]:
    """How often the system has taken a processor from this process, and for how long this thread has had none, in ns.

    (0, 0) where it does not tell.
    """
    if sys.platform == "win32":
        return 0, 0
    import resource

    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    return switches, time.perf_counter_ns() - time.thread_time_ns()


def timed_run(run: Callable[[], object], clock: Clock, scheduled: Scheduling) -> tuple[int, bool]:
    """How long it lasted, and whether it was interrupted."""
    switches, without = scheduled()
    begun = clock()
    run()
    lasted = clock() - begun
    switches_after, without_after = scheduled()
    return lasted, switches_after > switches and without_after - without > LOST * lasted


def undisturbed(found: list[tuple[Measured, bool]]) -> list[Measured]:
    """Those that were not interrupted; all, if these are too few."""
    quiet = [one for one, interrupted in found if not interrupted]
    return quiet if len(quiet) >= FEWEST else [one for one, _ in found]
