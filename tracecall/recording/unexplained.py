"""What timing runs last longer than the control runs beside them, beyond what is known of the clocks: a share a call.

Hooks push the model's code and data out of the processor's caches, and what runs after them fetches them again. Empty
modules do not show it, since they have nothing to fetch. The runs themselves do: with the clocks' own time taken out,
both last as long, but for this.
"""

from __future__ import annotations

import math
import statistics

from tracecall.recording.clocks import Overhead
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
        calls = sum(1 for module in one.modules if module is not None)
        if calls:
            clocks = (sum(one.times[1::2]) - sum(one.times[::2])) / calls + overhead.around
            found.append((one.traced - one.untraced) / calls - clocks)
            known.append(clocks)
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
