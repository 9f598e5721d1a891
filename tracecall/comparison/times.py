"""How much longer a call took in one trace than in the other, and whether that is more than noise."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tracecall.calls import Call

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
    if before.device_ns is not None and after.device_ns is not None:
        old, new = (before.device_ns, before.device_spread_ns), (after.device_ns, after.device_spread_ns)
        return _ratio(old, new, before, after, "device")
    if before.host_ns is None or after.host_ns is None:
        return None
    return _ratio((before.host_ns, before.spread_ns), (after.host_ns, after.spread_ns), before, after, "host")


Time = tuple[int, int | None]


def _ratio(old: Time, new: Time, before: Call, after: Call, clock: Literal["host", "device"]) -> Ratio | None:
    (was, was_spread), (now, now_spread) = old, new
    if was <= 0 or now < 0:
        return None
    if was_spread is None or now_spread is None or min(before.samples or 0, after.samples or 0) < FEWEST:
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
