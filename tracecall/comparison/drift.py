"""`compare_processes`: what the times of all calls share is taken out of what is said of one.

The spread of the runs of one process is of half a second. It does not see that the processor was slower when the other
process ran, that it had fewer threads or another torch: then all calls differ, whether they changed or not.
"""

from __future__ import annotations

from tracecall.calls import Trace
from tracecall.comparison.times import APART_NS, MARGIN, Bounds, Clock, Drift, judged
from tracecall.comparison.trees import Difference, compare

ENOUGH = 8  # calls that did not change; of fewer, all times may be the machine's
ALMOST_ALL = 0.9  # of them are on the same side
TOGETHER = 1.5  # the middle half of them: where it is further apart, all but the outermost tenths are the machine's


def compare_processes(before: Trace, after: Trace) -> Difference:
    """`compare` of traces that two processes made: a call is slower or faster beside what all calls share."""
    found = compare(before, after)
    unchanged: dict[Clock, list[float]] = {"host": [], "device": []}
    for _, pair in found.walk():
        time = pair.time
        # with none inside, and longer than the clocks may be off
        if time is not None and not (pair.sign or pair.children) and min(time.before_ns, time.after_ns) >= APART_NS:
            unchanged[time.clock].append(time.ratio)
    drifts = (_drift(sorted(ratios), clock) for clock, ratios in unchanged.items())
    blind = tuple(clock for clock, ratios in unchanged.items() if not ratios)
    found.bounds = Bounds(APART_NS, tuple(drift for drift in drifts if drift is not None), blind)
    for _, pair in found.walk():
        pair.time = pair.time and judged(pair.time, found.bounds)
    return found


def _drift(ratios: list[float], clock: Clock) -> Drift | None:
    """What rising ratios share; None where there are none, or many that are about 1 or on both sides of it."""
    number = len(ratios)
    if not number:
        return None
    # all but the outermost, which may really be slower or faster
    outer = max(number // 10, 1 if number > 2 else 0)
    most = Drift(clock, ratios[number // 2], ratios[outer], ratios[-1 - outer], number)
    if number < ENOUGH:  # too few to tell what they share from what each has: all between them is no difference
        return most
    middle, low, high = (ratios[number * part // 4] for part in (2, 1, 3))
    same_side = max(sum(one > 1 for one in ratios), sum(one < 1 for one in ratios))
    if 1 / MARGIN <= middle <= MARGIN or same_side < ALMOST_ALL * number:
        return None
    # far apart: other programs run beside, and what lasts longer meets more of them
    return most if high > TOGETHER * low else Drift(clock, middle, low, high, number)
