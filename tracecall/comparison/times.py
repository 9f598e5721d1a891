"""How much longer a call took in one trace than in the other, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from tracecall.calls import Call
from tracecall.medians import known, median, total

MARGIN = 1.1  # a ratio nearer to 1 is not called a change, however certain it is
FEWEST = 5  # runs of each: the spread of fewer says little
LEAST_NS = 1000  # a difference below a microsecond is the clock's


class Ratio(Struct, frozen=True, omit_defaults=True):
    """Time after over time before. From `low` to `high` it may as well be, None for an end that is not known.

    An end is known where there are enough runs and their spread is smaller than the time that it is taken from.
    """

    before_ns: int
    after_ns: int
    ratio: float
    low: float | None = None
    high: float | None = None
    clock: Literal["host", "device"] = "host"
    verdict: Literal["faster", "slower"] | None = None  # None: no change, or none that can be told from noise
    noisy: bool = False  # enough runs, and neither end is known: both spreads are as large as the times


def ratio(before: Call, after: Call) -> Ratio | None:
    """The ratio of two calls' medians, of device times where both have them; None where one was not timed.

    The interval takes each median ± its interquartile range, in which the middle half of the runs lies however skewed
    they are. Slower, or faster, is only said if the whole interval is beyond MARGIN, with FEWEST runs of each.
    """
    return together([[before]], [[after]])


def together(before: Sequence[Sequence[Call]], after: Sequence[Sequence[Call]]) -> Ratio | None:
    """The same of several calls that share a line: of those in one list together, of several lists the median."""
    for device in (True, False):
        one, other = taken(before, device), taken(after, device)
        if one is not None and other is not None:
            return _ratio(one, other, device)
    return None


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


def _ratio(before: Time, after: Time, device: bool) -> Ratio | None:
    clock: Literal["host", "device"] = "device" if device else "host"
    (was, was_spread, _), (now, now_spread, _) = before, after
    if was <= 0 or now < 0:
        return None
    if was_spread is None or now_spread is None or min(before.samples, after.samples) < FEWEST:
        return Ratio(was, now, now / was, clock=clock)
    low = (now - now_spread) / (was + was_spread) if now > now_spread else None
    high = (now + now_spread) / (was - was_spread) if was > was_spread else None
    verdict: Literal["faster", "slower"] | None = None
    if abs(now - was) >= LEAST_NS:
        if low is not None and low > MARGIN:
            verdict = "slower"
        elif high is not None and high < 1 / MARGIN:
            verdict = "faster"
    return Ratio(was, now, now / was, low, high, clock, verdict, low is None and high is None)
