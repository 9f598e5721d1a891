"""Times of two runs side by side: columns, their ratio, whether that is a change, and how to read it."""

from __future__ import annotations

import re
from collections import Counter

from rich.cells import cell_len
from rich.text import Text

from tracecall.comparison import FEWEST, IN_TURN, MARGIN, Bounds, Ratio, taken
from tracecall.views import labels
from tracecall.views.header import QUIET
from tracecall.views.merged import Column
from tracecall.views.pairs import Line, Pairs, sides

NOISY = "noisy"
OPEN = 100  # a ratio that may be larger may be anything
LEAST = 0.005  # and one that may be smaller: it would read 0.00


def times(lines: list[Line], names: tuple[str, str], short: tuple[str, str], *, spread: int) -> list[Column]:
    """Columns of both times, their ratio, what it may as well be, and whether that is a change.

    `short` are the names where room is short, `spread` is the rank of what the ratio may as well be.
    """
    if not any(line.time for line in lines):
        return []
    device = any(line.time is not None and line.time.clock == "device" for line in lines)
    before, after = ([_taken(line.pairs, side, device) for line in lines] for side in (0, 1))
    unit, size, decimals = labels.unit(max(ns or 0 for ns in [*before, *after]))

    def column(side: int, each: list[int | None]) -> Column:
        cells = ["" if ns is None else f"{ns / size:.{decimals}f}" for ns in each]
        title, brief = (f"{name} {clock}{unit}" for name in (names[side], short[side]))
        return Column(title, cells, rank=2, least=max(map(cell_len, [*cells, brief])), short=brief)

    def style(i: int) -> str:
        time = lines[i].time
        return VERDICTS.get((time and time.verdict) or "", QUIET)

    clock = "device " if device else ""
    return [
        column(0, before),
        column(1, after),
        Column("ratio", ["" if line.time is None else f"{line.time.ratio:.2f}" for line in lines], style),
        Column("", [_interval(line.time) for line in lines], lambda _: QUIET, right=False, rank=spread),
        Column("", [_verdict(line) for line in lines], style, right=False),
    ]


def how(second: str, first: str, tree: list[Text], bounds: Bounds = IN_TURN) -> str:
    """How a ratio is made, when a call is said to be slower or faster, and what the signs in the drawn tree mean."""
    drawn = "\n".join(line.plain for line in tree)
    open_end, noisy = re.search(r"…–\d|\d–…", drawn), re.search(rf"\d  {NOISY}\b", drawn)
    spread = "what it may as well be by the spread of both"
    if open_end or noisy or re.search(r"\d–\d", drawn):
        parts = [f"ratio: {second} by {first}, and {spread}"]
        beyond = "all of that"
    else:
        parts = [f"ratio: {second} by {first}"]
        beyond = spread
    if open_end:
        parts.append("…: an end that is not known")
    if noisy:
        parts.append(f"{NOISY}: neither end is known")
    least = f"{bounds.least_ns / 1000:g} µs a call"
    parts.append(f"slower or faster where {beyond} is beyond {MARGIN:g} and {least}, by {FEWEST} runs or more of each")
    return "; ".join(parts)


def folded(lines: list[Line], what: str, timed: str, tree: list[Text]) -> str:
    """How a line is read that several calls share, with `timed` where there are times; "" where there is none.

    Where the drawn `tree` has no room for times, only their ratio is told.
    """
    if not any(line.pairs is not None and line.pairs.count > 1 for line in lines):
        return ""
    times = any(line.time is not None for line in lines)
    drawn = any(re.search(r" (s|ms|µs)\b", line.plain) for line in tree[:1])  # the titles
    parts = [f"×N: N calls alike{timed if times and drawn else what}"]
    if times and not drawn:
        parts.append("the ratio is of their total times")
    if times and any(line.pairs is not None and len(line.pairs.each) > 1 for line in lines):
        parts.append("inside, times are medians of one" if drawn else "inside, of medians of one")
    if some := next((_verdict(line) for line in lines if _some(line)), ""):
        parts.append(f'"{some}": so many of the N')
    return "; ".join([*parts, "--no-fold shows all"])


def _taken(line: Pairs | None, side: int, device: bool) -> int | None:
    """What the calls of a line took in one of the traces."""
    if line is None:
        return None
    each = [[one for one in calls if one is not None] for calls in sides(line, side)]
    found = (device and taken(each, True)) or taken(each, False)
    return found.ns if found else None


VERDICTS = {"slower": "bold red", "faster": "bold green"}


def _interval(ratio: Ratio | None) -> str:
    if ratio is None or not (ratio.noisy or ratio.low is not None or ratio.high is not None):
        return ""
    low = "…" if ratio.low is None or ratio.low < LEAST else f"{ratio.low:.2f}"
    high = "…" if ratio.high is None or ratio.high >= OPEN else f"{ratio.high:.2f}"
    return NOISY if low == high == "…" else f"{low}–{high}"


def _verdict(line: Line) -> str:
    """Of all together; where that is none, how many of them are slower or faster."""
    if line.time is not None and line.time.verdict is not None:
        return line.time.verdict
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(_some(line).items()))


def _some(line: Line) -> Counter[str]:
    """How many of those that share a line are slower, and faster, where that is not said of all."""
    if line.pairs is None or line.pairs.members or len(line.pairs.all) == 1:
        return Counter()
    if line.time is not None and line.time.verdict is not None:
        return Counter()
    return Counter(pair.time.verdict for pair in line.pairs.all if pair.time is not None and pair.time.verdict)
