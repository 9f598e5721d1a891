"""How much longer a call took in one trace than in the other, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from tracecall.calls import Call
from tracecall.medians import known, median, total

MARGIN = 1.1  # a ratio nearer to 1 is not called a change, however certain it is
FEWEST = 5  # runs of each: the spread of fewer says little
LEAST_NS = 1000  # a difference below a microsecond a call is the clock's
APART_NS = 3000  # of two processes: what the clocks cost is measured in each, and comes out some 1 µs apart

Clock = Literal["host", "device"]
CLOCKS: tuple[Clock, ...] = ("device", "host")  # the first that measured both
Verdict = Literal["faster", "slower"]


class Drift(Struct, frozen=True):
    """What calls that did not change took by what they had taken: the median of all, and the middle half of them."""

    clock: Clock
    ratio: float
    low: float
    high: float
    calls: int


class Bounds(Struct, frozen=True):
    """From where on a time is another one; of two runs in turn in one process, unless told."""

    least_ns: int = LEAST_NS  # a call
    drifts: tuple[Drift, ...] = ()  # what all calls share is no difference of one; at most one of each clock
    blind: tuple[Clock, ...] = ()  # clocks of which no call tells what all share: nothing is slower, or faster

    def drift(self, clock: Clock) -> tuple[float, float]:
        """From where to where ratios are that all share."""
        return next(((drift.low, drift.high) for drift in self.drifts if drift.clock == clock), (1.0, 1.0))


IN_TURN = Bounds()


class Ratio(Struct, frozen=True, omit_defaults=True):
    """Time after over time before. From `low` to `high` it may as well be, None for an end that is not known.

    An end is known where there are enough runs and their spread is smaller than the time that it is taken from.
    """

    before_ns: int
    after_ns: int
    ratio: float
    low: float | None = None
    high: float | None = None
    clock: Clock = "host"
    verdict: Verdict | None = None  # None: no change, or none that can be told from noise
    noisy: bool = False  # enough runs, and neither end is known: both spreads are as large as the times


def ratio(before: Call, after: Call, bounds: Bounds = IN_TURN) -> Ratio | None:
    """The ratio of two calls' medians, of device times where both have them; None where one was not timed.

    The interval takes each median ± its interquartile range, in which the middle half of the runs lies however skewed
    they are. Slower, or faster, is only said if the whole interval is beyond MARGIN, with FEWEST runs of each, and the
    times are further apart than the clocks may be: both beside what all calls share.
    """
    return _by_either_clock(lambda device: (_time(before, device), _time(after, device)), bounds, 1)


def together(
    before: Sequence[Sequence[Call]], after: Sequence[Sequence[Call]], bounds: Bounds = IN_TURN
) -> Ratio | None:
    """The same of several calls that share a line: of those in one list together, of several lists the median."""
    return _by_either_clock(lambda device: (taken(before, device), taken(after, device)), bounds, len(before[0]))


def judged(found: Ratio, bounds: Bounds, calls: int = 1) -> Ratio:
    """The same ratio with what is said of it from these bounds on, where the times are of so many calls."""
    least, most = bounds.drift(found.clock)
    said: Verdict | None = None
    if found.clock not in bounds.blind:
        floor = bounds.least_ns * calls
        if found.low is not None and found.low > MARGIN * most:
            said = "slower" if found.after_ns - most * found.before_ns >= floor else None
        elif found.high is not None and found.high < least / MARGIN:
            said = "faster" if least * found.before_ns - found.after_ns >= floor else None
    return found if said == found.verdict else msgspec.structs.replace(found, verdict=said)


class Time(NamedTuple):
    """What a call took, or several together."""

    ns: int
    spread_ns: int | None  # interquartile range
    samples: int  # runs, the fewest of any


def taken(each: Sequence[Sequence[Call]], device: bool) -> Time | None:
    """What the calls of a list took together, and where there are several lists the median; None if one is not timed.

    The spread is the sum of theirs: what slows one run down slows all of its calls.
    """
    totals: list[Time] = []
    for calls in each:
        times = [_time(call, device) for call in calls]
        found = [time for time in times if time is not None]
        if not found or len(found) < len(times):
            return None
        ns = sum(time.ns for time in found)
        totals.append(Time(ns, total([time.spread_ns for time in found]), _fewest(found)))
    if len(totals) < 2:
        return totals[0] if totals else None
    spreads = known([time.spread_ns for time in totals])
    spread = None if spreads is None else median(spreads)
    return Time(median([time.ns for time in totals]), spread, _fewest(totals))


def _time(call: Call, device: bool) -> Time | None:
    ns, spread = (call.device_ns, call.device_spread_ns) if device else (call.host_ns, call.spread_ns)
    return None if ns is None else Time(ns, spread, call.samples or 0)


def _fewest(times: list[Time]) -> int:
    return min(time.samples for time in times)


def _by_either_clock(
    times: Callable[[bool], tuple[Time | None, Time | None]], bounds: Bounds, calls: int
) -> Ratio | None:
    """The ratio of both times on the device, or else on the host."""
    for clock in CLOCKS:
        one, other = times(clock == "device")
        if one is not None and other is not None:
            found = _ratio(one, other, clock)
            return None if found is None else judged(found, bounds, calls)
    return None


def _ratio(before: Time, after: Time, clock: Clock) -> Ratio | None:
    (was, was_spread, _), (now, now_spread, _) = before, after
    if was <= 0 or now < 0:
        return None
    if was_spread is None or now_spread is None or min(before.samples, after.samples) < FEWEST:
        return Ratio(was, now, now / was, clock=clock)
    low = (now - now_spread) / (was + was_spread) if now > now_spread else None
    high = (now + now_spread) / (was - was_spread) if was > was_spread else None
    return Ratio(was, now, now / was, low, high, clock, noisy=low is None and high is None)
