"""`compare_processes`: what the times of all calls share is taken out of what is said of one.

The spread of the runs of one process is of half a second. It does not see that the processor was slower when the other
process ran, that it had fewer threads or another torch: then all calls differ, whether they changed or not.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracecall.calls import Trace
from tracecall.comparison.times import APART_NS, MARGIN, Bounds, Clock, Drift, ratio
from tracecall.comparison.trees import Difference, compare

ENOUGH = 8  # calls that did not change; of fewer, all times may be the machine's
ALMOST_ALL = 0.9  # of them are on the same side
TOGETHER = 1.5  # the middle half of them: what is further apart is not shared


def compare_processes(before: Trace, after: Trace) -> Difference:
    """`compare` of traces that two processes made: a call is slower or faster beside what all calls share."""
    found = compare(before, after)
    clocks: tuple[Clock, ...] = ("host", "device")
    drifts = (_drift(sorted(_unchanged(found, clock)), clock) for clock in clocks)
    known = tuple(drift for drift in drifts if drift is not None)
    blind = tuple(clock for clock in clocks if not any(True for _ in _unchanged(found, clock)))
    found.bounds = Bounds(APART_NS, known, blind)
    for _, pair in found.walk():
        if pair.time is not None and pair.before is not None and pair.after is not None:
            pair.time = ratio(pair.before, pair.after, found.bounds)
    return found


def _unchanged(found: Difference, clock: Clock) -> Iterator[float]:
    """The ratios of calls that did not change, with none inside, and that take longer than the clocks may be off."""
    for _, pair in found.walk():
        time = pair.time
        if time is None or time.clock != clock or pair.sign or pair.children:
            continue
        if min(time.before_ns, time.after_ns) >= APART_NS:
            yield time.ratio


def _drift(ratios: list[float], clock: Clock) -> Drift | None:
    """What rising ratios share; None where there are none, or many that are about 1 or do not agree."""
    number = len(ratios)
    if not number:
        return None
    if number < ENOUGH:  # too few to tell what they share from what each has: all between them is no difference
        outer = 1 if number > 2 else 0  # one of them may really be slower
        return Drift(clock, ratios[number // 2], ratios[outer], ratios[-1 - outer], number)
    middle, low, high = (ratios[number * part // 4] for part in (2, 1, 3))
    same_side = max(sum(one > 1 for one in ratios), sum(one < 1 for one in ratios))
    if 1 / MARGIN <= middle <= MARGIN or high > TOGETHER * low or same_side < ALMOST_ALL * number:
        return None
    return Drift(clock, middle, low, high, number)
