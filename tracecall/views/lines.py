"""Rows as lines with aligned columns: every cell exactly as wide as its column, what is too long cut."""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from rich.text import Text

from tracecall.calls import Call, Trace
from tracecall.views import labels, names
from tracecall.views.cells import cell_len, narrow
from tracecall.views.columns import GAP, LAYOUTS, Column, columns, total_time
from tracecall.views.fitting import SHORTEST_GUIDE, Fitted, fitted, needed
from tracecall.views.header import BAD, NOTE, QUIET, TIME
from tracecall.views.rows import Row, guide_below
from tracecall.views.styled import Line

STYLES = {"device": NOTE, "time": TIME, "device time": TIME, "bar": TIME, "line": QUIET, "from": QUIET}
RIGHT = ("time", "device time", "parameters", "line")
SHORTEST_NAME = 12
SHORTEST_SENTENCE = 30
PROSE = 88  # a longer line of prose is hard to read, however wide the terminal
SHORTEST_SOURCE = 14
HOT = "◂"


class Drawn(NamedTuple):
    """The tree as lines, and the cells that they have in each column; in "closed" names that tell what is hidden."""

    lines: list[Line | Text]
    columns: dict[str, list[str]]


class Cells(NamedTuple):
    """A column as it is drawn: for each row its text, of one width in all, and its style."""

    texts: list[str]
    styles: list[str]


def lines(trace: Trace, rows: list[Row], width: int) -> Drawn:
    """Rows as lines with aligned columns; where room is short, the columns that say least are left out first.

    What one of the calls took that share a row stands at the end of its line, or else on one of its own below it.
    """
    total = total_time(trace)
    hot = _hot_path(trace)
    for row in rows:
        row.hot = id(row.call) in hot
    each = [labels.each(row.call, total) if row.call is not None and row.call.fold is not None else "" for row in rows]
    longest = max(map(cell_len, set(each)), default=0)
    written = columns(trace, rows, total, each)
    titles = _titles(total, launched=written(LAYOUTS[0])["device time"].width > 0)
    fits = fitted(rows, written, titles, longest, width)
    title = _title(titles, fits)
    below = [""] * len(rows) if fits.layout.beside else _below(rows, each, width)
    finished = _columns(rows, fits, total)
    drawn = _drawn(rows, fits, width, finished, below)
    texts = {name: cells.texts for name, cells in finished.items()}
    closed = [row.name for row in rows if row.call is not None and row.call.closed and row.call.children]
    return Drawn([*([title] if title.plain else []), *drawn], {**texts, "closed": closed})


def _below(rows: list[Row], each: list[str], width: int) -> list[str]:
    """What one of the calls took that share a row, as a line below it that leads on to what stands inside."""
    following: list[Row | None] = [*rows[1:], None]
    return [
        text and _cut_guide(guide_below(row, then), width - SHORTEST_SENTENCE) + text
        for row, then, text in zip(rows, following, each, strict=True)
    ]


def _titles(total: int, *, launched: bool) -> dict[str, str]:
    """What stands above columns whose cells do not say what they are; the host's times say so beside a device's."""
    unit = labels.unit(total)[0]
    return {"time": f"host {unit}" if launched else unit, "device time": f"device {unit}", "parameters": "params"}


def _title(titles: dict[str, str], fits: Fitted) -> Text:
    widths = fits.widths
    title = Text(" " * (fits.label + len(GAP) + widths["type"] if widths["type"] else fits.label), QUIET)
    for name, size in widths.items():
        if size and name != "type":
            cell = titles.get(name, "")
            title.append(GAP + (cell.rjust(size) if name in RIGHT else labels.pad(cell, size)), QUIET)
    title.rstrip()
    return title


def _hot_path(trace: Trace) -> set[int]:
    """The ids of calls on the way to where time goes: the costliest at each level, if it takes at least a quarter."""
    found: set[int] = set()
    total = total_time(trace)
    for root in trace.calls if total else ():
        inside = root.children
        while modules := [call for call in _ungrouped(inside) if call.kind == "module" and call.host_ns is not None]:
            costliest = max(modules, key=lambda call: call.host_ns or 0)
            if (costliest.host_ns or 0) * 4 < total:
                break
            found.add(id(costliest))
            inside = costliest.children
    return found


def _ungrouped(calls: list[Call]) -> list[Call]:
    """Calls, those that repeat in turn each for itself; where groups hold groups, the outer ones are opened."""
    return [
        one for call in calls for one in (call.children if call.fold is not None and call.fold.size > 1 else (call,))
    ]


def _columns(rows: list[Row], fits: Fitted, total: int) -> dict[str, Cells]:
    """The cells of those columns that have room, each as it is drawn; equal ones are one object."""
    caught = [row.call is not None and row.call.error is not None and row.call.error.caught for row in rows]
    return {
        name: _bars(rows, size, total) if name == "bar" else _finished(name, size, fits.columns[name], caught)
        for name, size in fits.widths.items()
        if size and name != "type"
    }


def _drawn(
    rows: list[Row], fits: Fitted, width: int, finished: dict[str, Cells], below: list[str]
) -> Iterator[Line | Text]:
    """The rows as lines, their cells in columns, what stands `below` one on the next line."""
    columns = [*_labels(rows, fits.label, fits.widths["type"]), *finished.values()]
    texts = zip(*[column.texts for column in columns], strict=True)
    styles = zip(*[column.styles for column in columns], strict=True)
    cells = needed(fits.label, fits.widths)  # of every line, since each text is as wide as its column
    for row, under, text, style in zip(rows, below, texts, styles, strict=True):
        if row.says:
            yield from _sentence(row, width)
        elif row.note is not None:
            row.note.no_wrap = True
            row.note.overflow = "ellipsis"
            yield row.note
        else:
            yield Line(text, style, cells)
            if under:
                yield Line([under], [QUIET], cell_len(under))


def _labels(rows: list[Row], label: int, typed: int) -> tuple[Cells, Cells, Cells]:
    """What stands at the left of each line: the way to a name, the name and its type, where types have room.

    A name without a type is written across that column, which is then empty there.
    """
    whole = narrow("".join([row.name for row in rows]))
    types = {kind: GAP + labels.pad(kind, typed) if typed and kind else "" for kind in {row.type for row in rows}}
    kinds = [types[row.type] for row in rows]
    across = label + len(GAP) + typed if typed else label
    guides, shown = [], []
    for row, kind in zip(rows, kinds, strict=True):
        guide, name = row.guide, row.name
        room = label if kind else across
        left = room - len(guide)
        if whole and len(name) <= left:
            name = name.ljust(left)
        else:
            guide, name = _cut_label(row, room)
        guides.append(guide)
        shown.append(name)
    quiet = [QUIET] * len(rows)
    return Cells(guides, quiet), Cells(shown, [row.style for row in rows]), Cells(kinds, quiet)


def _cut_label(row: Row, room: int) -> tuple[str, str]:
    """The way to a name and the name in `room` cells."""
    guide, name = row.guide, row.name
    folded = row.call is not None and row.call.fold is not None
    least = max(SHORTEST_NAME, names.least(name)[1]) if folded else SHORTEST_NAME
    if len(guide) + least > room:
        guide = _cut_guide(guide, room - min(least, cell_len(name)))
    return guide, names.cut_name(name, room - len(guide), folded=folded)


def _finished(name: str, size: int, column: Column, caught: list[bool]) -> Cells:
    """The cells of a column, each exactly `size` wide; red where something failed and nothing caught it."""
    style, right = STYLES.get(name, ""), name in RIGHT
    styles = [style] * len(column.cells)
    different = set(column.cells)
    if column.narrow and column.width <= size:
        fill = str.rjust if right else str.ljust
        texts = {cell: GAP + fill(cell, size) for cell in different}
    else:
        texts = {cell: GAP + _cut_cell(name, cell, size) for cell in different}
    if any("✗" in cell for cell in different):
        styles = [BAD if "✗" in cell and not fine else style for cell, fine in zip(column.cells, caught, strict=True)]
    return Cells([texts[cell] for cell in column.cells], styles)


def _cut_cell(name: str, cell: str, size: int) -> str:
    """A cell of whatever width, in `size` cells."""
    left = size - cell_len(cell)
    if left < 0 and name in _CUT:
        cell = _CUT[name](cell, size)
    elif left >= 0 and name in RIGHT:
        cell, left = " " * left + cell, 0
    # characters without width may be many more than cells
    return cell + " " * left if left >= 0 and len(cell) <= size else labels.pad(cell, size)


def _bars(rows: list[Row], size: int, total: int) -> Cells:
    """Every call's share of the whole time as a bar; the root's is the whole, and not drawn."""

    @functools.cache
    def bar(eighths: int, hot: bool) -> str:
        drawn = labels.bar(eighths / (size * 8), size)
        return GAP + (drawn[: size - 1] + HOT if hot else drawn).ljust(size)

    found = []
    for row in rows:
        took = row.call.host_ns or 0 if row.call is not None and row.guide and total else 0
        # the least that is drawn is an eighth
        found.append(bar(max(1, round(min(1.0, took / total) * size * 8)) if took > 0 else 0, row.hot))
    return Cells(found, [STYLES["bar"]] * len(rows))


def _sentence(row: Row, width: int) -> list[Text]:
    """What is said about the line above: wrapped beside the tree's lines, which go on."""
    guide = _cut_guide(row.guide, width - SHORTEST_SENTENCE)
    wrapped = textwrap.wrap(row.says, max(1, min(width, PROSE) - cell_len(guide)), break_on_hyphens=False)
    return [Text(guide + line, QUIET, no_wrap=True, overflow="ellipsis") for line in wrapped]


def _cut_guide(guide: str, room: int) -> str:
    """The lines that lead to a name: of a deep nesting only the last, so that a name of some length has room."""
    room = max(SHORTEST_GUIDE, room)
    return guide if len(guide) <= room else "…" + guide[1 - room :]


def _cut_shapes(cell: str, size: int) -> str:
    """What goes in and the first of several that come out, where both have room.

    Else the end of it, since the output stands there and says more; cut before a size or a word, never inside one.
    """
    left, arrow, right = cell.partition(" → ")
    for end in reversed([found.end() for found in _ANOTHER.finditer(right)]):
        if len(left + arrow) + end < size:
            return f"{left}{arrow}{right[:end]}…"
    begin = len(cell) - size + 1
    whole = _MAY_BE_CUT.search(cell, begin)
    return "…" + cell[whole.start() if whole else begin :]


_MAY_BE_CUT = re.compile(r"[\[, →]")
_ANOTHER = re.compile(r"\](?: ×\d+)?, ")  # after a shape, before the next one


def _cut_source(cell: str, size: int) -> str:
    """What of it fits: what one of many took whole, and a source where something of it can be read."""
    each, _, source = cell.partition("← ") if cell.startswith("each ") else ("", "", cell)
    if not each:
        return source if size >= SHORTEST_SOURCE else ""
    each = each.rstrip()
    room = size - cell_len(each + GAP)
    if source and room >= SHORTEST_SOURCE:
        return each + GAP + labels.pad("← " + source, room)
    return each


_CUT = {"from": _cut_source, "shapes": _cut_shapes}
