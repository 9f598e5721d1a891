"""A few lines of the tree around one call, as text: what a message has room for."""

from __future__ import annotations

import msgspec
from rich.text import Text

from tracecall.calls import Call, Trace
from tracecall.views.lines import lines
from tracecall.views.rows import Row, rows

ABOVE = 3  # of the calls that it is in, beside the root
BEFORE, INSIDE, AFTER = 4, 4, 2  # lines; of those inside the last, where its output is made
MARK = "> "


def excerpt(trace: Trace, call: Call, width: int = 92) -> list[str]:
    """The lines around `call`, at most 16, itself marked with ">".

    The calls that it is in, what ran before it, and what ran last inside it or else after it. "…" stands for lines
    that are left out; what is inside the calls around it goes without saying.
    """
    every = list(rows(trace, "forward"))
    at = next(i for i, row in enumerate(every) if row.call is call)
    above = _above(every, at)
    inside = _inside(every, at)
    last = inside[-INSIDE:] or [*range(at + 1, at + AFTER + 1)]
    near = [*range(at - (BEFORE // 2 if inside else BEFORE), at + 1), *last]
    near += [i for i in _above(every, min(last[-1], len(every) - 1)) if i > at]
    kept = {*above[-1:], *above[:ABOVE], *(i for i in near if 0 <= i < len(every) and _tells(every[i]))}
    shown: list[Row] = []
    marked = previous = -1
    for i in sorted(kept):
        level = max(len(every[i].guide), len(every[previous].guide) if shown else 0)
        if any(row.call is not None and len(row.guide) <= level for row in every[previous + 1 : i]):
            shown.append(_left_out(every[i]))
        if i == at:
            marked = len(shown)
        shown.append(every[i])
        previous = i
    if any(row.call is not None and len(row.guide) <= len(every[previous].guide) for row in every[previous + 1 :]):
        shown.append(Row("", "…", note=Text("…")))
    # how many parameters a module has says nothing about a shape
    bare = {path: msgspec.structs.replace(info, parameters=0) for path, info in trace.modules.items()}
    drawn = lines(msgspec.structs.replace(trace, modules=bare), shown, width - len(MARK)).lines
    titles = len(drawn) - len(shown)
    return [(MARK if i - titles == marked else " " * len(MARK)) + line.plain.rstrip() for i, line in enumerate(drawn)]


def _tells(row: Row) -> bool:
    """Whether it is a call or the line over those of forward; that there are no hooks says nothing about a shape."""
    return row.call is not None or row.name == "forward"


def _above(every: list[Row], at: int) -> list[int]:
    """The lines that a line is inside of, innermost first."""
    found: list[int] = []
    depth = len(every[at].guide)
    for i in range(at - 1, -1, -1):
        if len(every[i].guide) < depth:
            depth = len(every[i].guide)
            found.append(i)
    return found


def _inside(every: list[Row], at: int) -> list[int]:
    """The calls right inside a call."""
    depth = len(every[at].guide)
    end = next((i for i in range(at + 1, len(every)) if len(every[i].guide) <= depth), len(every))
    calls = [i for i in range(at + 1, end) if every[i].call is not None]
    level = min((len(every[i].guide) for i in calls), default=0)
    return [i for i in calls if len(every[i].guide) == level]


def _left_out(below: Row) -> Row:
    guide = below.guide[:-3] + "│  " if below.guide else ""
    return Row(below.guide, "…", note=Text(f"{guide}…"))
