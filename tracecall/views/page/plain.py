"""The tree without a script, for notebooks and for readers whose scripts are off."""

from __future__ import annotations

from typing import Any

from tracecall.calls import Trace
from tracecall.views import labels
from tracecall.views.columns import total_time
from tracecall.views.page.calls import Line

MOST = 2000  # lines: without a script they are all there from the start
OPEN = 40  # lines that stand open at first
# HTML parsers nest no more than 512 elements; what lies deeper stands beside what is above it.
DEEPEST = 150


def plain(trace: Trace, every: list[Line]) -> dict[str, Any]:
    """The tree as what opens, stands and closes, so that a template of any depth is one loop."""
    shown = [line for line in every if not line.hidden]
    more, shown = max(0, len(shown) - MOST), shown[:MOST]
    levels = [0] * (max((line.depth for line in shown), default=0) + 2)
    for line in shown:
        levels[line.depth] += 1
    levels[0] = 0  # its inside, the root's chain, is what one wants to see
    open_below = next((i for i in range(2, len(levels)) if sum(levels[: i + 2]) > OPEN), len(levels))
    open_below, total = max(2, open_below), total_time(trace)
    events: list[dict[str, Any]] = []
    nested: list[int] = []
    for i, line in enumerate(shown):
        while nested and nested[-1] >= line.depth:
            nested.pop()
            events.append({"close": True})
        inside = i + 1 < len(shown) and shown[i + 1].depth > line.depth and len(nested) < DEEPEST
        ns = line.call.host_ns if line.call is not None else None
        each = labels.each(line.call, total) if line.call is not None else ""
        time = "" if ns is None else labels.duration(ns, total)
        opens = (line.depth < open_below and line.kind != "repeats") or line.mark in ("raised", "failed")
        events.append({"line": line, "inside": inside, "open": opens, "time": time, "each": each})
        if inside:
            nested.append(line.depth)
    events.extend({"close": True} for _ in nested)
    return {"events": events, "more": more}
