"""What a model's call lasts longer in timing runs than in the control runs beside them: a share for each call inside.

Hooks push the model's code and data out of the processor's caches, and what runs after them fetches them again. Empty
modules do not show it, since they have nothing to fetch. The runs themselves do: with all that is known of the clocks
taken out, the model's call lasts as long in both, but for this.
"""

from __future__ import annotations

import math
import statistics

from tracecall.recording.clocks import Overhead, timed_calls
from tracecall.recording.rounds import Round

ENOUGH = 8  # rounds, to tell it from noise
SURE = 2  # standard errors


def unexplained(rounds: list[Round], overhead: Overhead) -> float:
    """Nanoseconds a call; 0 where it cannot be told from noise.

    It is never less than 0, since no hook makes a model faster, and never more than what the clocks cost by themselves:
    where it seems so, the machine has changed its speed between two runs.
    """
    found, known = [], []
    for one in rounds:
        calls = timed_calls(one.events, overhead)
        if calls:
            # not the whole timing run: of the outermost call's hooks, a part is run before the call and after it
            outermost = sum(call.total - call.inside for call in calls)
            found.append((outermost - one.untraced) / len(calls))
            known.append((sum(one.times[1::2]) - sum(one.times[::2])) / len(calls) + overhead.around)
    if len(found) < ENOUGH:
        return 0.0
    middle = statistics.median(found)
    return min(middle, statistics.median(known)) if middle > SURE * standard_error(found) else 0.0


def standard_error(values: list[float]) -> float:
    """Of their median, from the interquartile range: a few runs that were interrupted do not count."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    deviation = (high - low) / _QUARTILES
    return math.sqrt(math.pi / 2) * deviation / math.sqrt(len(values))


_QUARTILES = 1.349  # how many standard deviations apart they lie in a normal distribution
