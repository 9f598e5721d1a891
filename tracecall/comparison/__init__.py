"""Trace × Trace → what changed: one merged tree of calls, each with its changes and the ratio of its times.

Plain data and no torch. `tracecall diff` shows it of two files; `tracecall compare` pairs the calls of two runs by it.
"""

from __future__ import annotations

from tracecall.comparison.alike import Alike
from tracecall.comparison.changes import Change, ModuleChange, model_of, type_in
from tracecall.comparison.choosing import chosen, merged
from tracecall.comparison.drift import compare_processes
from tracecall.comparison.times import FEWEST, IN_TURN, LEAST_NS, MARGIN, Bounds, Drift, Ratio, taken, together
from tracecall.comparison.trees import ADDED, CHANGED, REMOVED, Difference, Pair, compare

__all__ = [
    "ADDED",
    "CHANGED",
    "FEWEST",
    "IN_TURN",
    "LEAST_NS",
    "MARGIN",
    "REMOVED",
    "Alike",
    "Bounds",
    "Change",
    "Difference",
    "Drift",
    "ModuleChange",
    "Pair",
    "Ratio",
    "chosen",
    "compare",
    "compare_processes",
    "merged",
    "model_of",
    "taken",
    "together",
    "type_in",
]
