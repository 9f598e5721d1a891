"""Rows as lines with aligned columns: what fits the width, what is shortened, what is left out."""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from rich.text import Text

from tracecall.calls import Call, Trace
from tracecall.views import labels, names
from tracecall.views.cells import cell_len
from tracecall.views.columns import GAP, LAYOUTS, Column, columns, total_time
from tracecall.views.header import BAD, NOTE, QUIET, TIME
from tracecall.views.rows import Row, guide_below
from tracecall.views.styled import Line, Piece

STYLES = {"device": NOTE, "time": TIME, "device time": TIME, "bar": TIME, "line": QUIET, "from": QUIET}
RIGHT = ("time", "device time", "parameters", "line")
WIDEST_LABEL = 44
WIDEST_NAMES = 30  # with the way to them, of calls that share a row; beyond that their start is cut
SHORTEST_NAME = 12
SHORTEST_GUIDE = 3
SHORTEST_SENTENCE = 30
PROSE = 88  # a longer line of prose is hard to read, however wide the terminal
SHORTEST_SOURCE = 14
HOT = "◂"

Widths = dict[str, int]


def lines(trace: Trace, rows: list[Row], width: int) -> list[Line | Text]:
    """Rows as lines with aligned columns; where room is short, the columns that say least are left out first.

    What one of the calls took that share a row stands at the end of its line, or else on one of its own below it.
    """
    total = total_time(trace)
    hot = _hot_path(trace)
    for row in rows:
        row.hot = id(row.call) in hot
    each = [labels.each(row.call, total) if row.call is not None and row.call.fold is not None else "" for row in rows]
    longest = max(map(cell_len, set(each)), default=0)
    unit = labels.unit(total)[0]
    titles = {"time": unit, "device time": f"device {unit}", "parameters": "params"}
    label, typed = _label_widths(rows)
    written = columns(trace, rows, total, each)
    for layout in LAYOUTS:
        shown = written(layout)
        widths = {name: column.width for name, column in shown.items()}
        if widths["device time"]:
            titles["time"] = f"host {unit}"
        for name, size in widths.items():
            widths[name] = size and max(size, cell_len(titles.get(name, "")))
        widths["type"] = typed
        # what may go without loss: where things came from, and most of the bar and the type
        least = {} if layout.everything else _spare(widths, longest if layout.beside else 0)
        if _needed(label, {**widths, **least}) <= width:
            break
    label = _fit(widths, label, width, longest if layout.beside else 0, _shared(rows))
    title = _title(titles, widths, label)
    below = [""] * len(rows) if layout.beside else _below(rows, each, width)
    return [*([title] if title.plain else []), *_drawn(rows, shown, widths, label, width, total, below)]


def _below(rows: list[Row], each: list[str], width: int) -> list[str]:
    """What one of the calls took that share a row, as a line below it that leads on to what stands inside."""
    following: list[Row | None] = [*rows[1:], None]
    return [
        text and _cut_guide(guide_below(row, then), width - SHORTEST_SENTENCE) + text
        for row, then, text in zip(rows, following, each, strict=True)
    ]


def _label_widths(rows: list[Row]) -> tuple[int, int]:
    """How wide names are, with the lines that lead to them, and types."""
    width_of = functools.cache(cell_len)  # few names are many
    calls = [row for row in rows if row.call is not None]
    typed = max(map(width_of, {row.type for row in calls}), default=0)
    label = max([len(row.guide) + width_of(row.name) for row in calls if row.type], default=0)
    # a row without a type may write its name across that column
    long = max([len(row.guide) + width_of(row.name) for row in calls if not row.type], default=0)
    return max(label, min(long - (len(GAP) + typed if typed else 0), WIDEST_LABEL)), typed


class _Shared(NamedTuple):
    """How wide the label is where it keeps the first and the last index of all calls that share a row."""

    whole: int  # with what their names share
    enough: int  # the same, at most as wide as other columns may suffer for
    least: int  # the indices alone


def _shared(rows: list[Row]) -> _Shared:
    whole = least = 0
    for row in rows:
        if row.call is not None and row.call.fold is not None:
            name, cut = names.least(row.name)
            whole = max(whole, len(row.guide) + name)
            least = max(least, SHORTEST_GUIDE + cut)
    return _Shared(whole, max(least, min(whole, WIDEST_NAMES)), least)


def _title(titles: dict[str, str], widths: Widths, label: int) -> Text:
    title = Text(" " * (label + len(GAP) + widths["type"] if widths["type"] else label), QUIET)
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


def _spare(widths: dict[str, int], each: int) -> dict[str, int]:
    return {"from": each, "bar": min(4, widths["bar"]), "type": min(12, widths["type"])}


def _needed(label: int, widths: dict[str, int]) -> int:
    return label + sum(len(GAP) + size for size in widths.values() if size)


def _fit(widths: dict[str, int], label: int, width: int, each: int, shared: _Shared) -> int:
    """Shrink or drop columns until a line fits; returns the label's width.

    What one of many calls took, `each` cells, stands where others say what they came from, and is not cut.
    """
    wanted = [
        ("label", min(label, shared.whole)),
        ("shapes", widths["shapes"]),
        ("label", label),
        ("type", widths["type"]),
    ]
    enough = shared.enough
    for name, least in (("from", max(24, each)), ("type", 18), ("bar", 4), ("from", max(14, each)), ("type", 12),
                        ("from", each), ("bar", 3), ("label", max(30, enough)), ("type", 9), ("bar", 0),
                        ("label", max(26, enough)), ("shapes", 30), ("parameters", 0), ("label", max(22, enough)),
                        ("shapes", 24), ("type", 0), ("line", 0), ("device", 0),
                        ("label", max(16, shared.least))):  # fmt: skip
        over = _needed(label, widths) - width
        if over <= 0:
            break
        if name == "label":
            label = max(min(label, least), label - over)
        elif least == 0:
            widths[name] = 0
            if name == "type":  # names that were to be written across it need room of their own
                label = max(label, enough)
        else:
            widths[name] = max(min(widths[name], least), widths[name] - over)
    return _widened(widths, label, width, wanted)


def _widened(widths: Widths, label: int, width: int, wanted: list[tuple[str, int]]) -> int:
    """Give the room that a dropped column left to those that were cut; returns the label's width."""
    for name, most in wanted:
        size = label if name == "label" else widths[name]
        more = min(most - size, width - _needed(label, widths))
        if size and more > 0:
            if name == "label":
                label += more
            else:
                widths[name] += more
    return label


def _drawn(
    rows: list[Row], shown: dict[str, Column], widths: Widths, label: int, width: int, total: int, below: list[str]
) -> Iterator[Line | Text]:
    """The rows as lines, their cells in columns, what stands `below` one on the next line.

    A long tree has few texts that differ: each is finished once.
    """
    caught = [row.call is not None and row.call.error is not None and row.call.error.caught for row in rows]
    finished = [
        _bars(rows, size, total) if name == "bar" else _finished(name, size, shown[name].cells, caught)
        for name, size in widths.items()
        if size and name != "type"
    ]
    right = _needed(0, {name: size for name, size in widths.items() if name != "type"})
    labelled = functools.cache(functools.partial(_label, label, widths["type"]))
    for row, under, *pieces in zip(rows, below, *finished, strict=True):
        if row.says:
            yield from _sentence(row, width)
        elif row.note is not None:
            row.note.no_wrap = True
            row.note.overflow = "ellipsis"
            yield row.note
        else:
            folded = row.call is not None and row.call.fold is not None
            left, used = labelled(row.guide, row.name, row.style, row.type, folded)
            yield Line([*left, *pieces], used + right)
            if under:
                yield Line([(under, QUIET)], cell_len(under))


def _label(
    label: int, typed: int, guide: str, name: str, style: str, kind: str, folded: bool
) -> tuple[list[Piece], int]:
    """What stands at the left of a line, the way to a name, the name and its type; and how many cells it takes."""
    with_type = typed and kind
    room = label if with_type or not typed else label + len(GAP) + typed
    least = names.least(name)[1] if folded else SHORTEST_NAME
    guide = _cut_guide(guide, room - min(max(SHORTEST_NAME, least), cell_len(name)))
    name = names.cut_name(name, room - cell_len(guide), folded=folded)
    pieces = [(guide, QUIET), (name, style)]
    if with_type:
        pieces.append((GAP + labels.pad(kind, typed), QUIET))
    return pieces, sum(cell_len(text) for text, _ in pieces)


def _finished(name: str, size: int, column: list[str], caught: list[bool]) -> list[Piece]:
    """The cells of a column, each exactly `size` wide; red where something failed and nothing caught it."""

    @functools.cache
    def finished(cell: str, caught: bool) -> Piece:
        if name == "from" and cell_len(cell) > size:
            cell = _cut_source(cell, size)
        elif name in RIGHT:
            cell = " " * (size - cell_len(cell)) + cell
        elif name == "shapes" and cell_len(cell) > size:
            cell = _cut_shapes(cell, size)
        return GAP + labels.pad(cell, size), BAD if "✗" in cell and not caught else STYLES.get(name, "")

    return list(map(finished, column, caught))


def _bars(rows: list[Row], size: int, total: int) -> list[Piece]:
    """Every call's share of the whole time as a bar; the root's is the whole, and not drawn."""
    found = []
    for row in rows:
        share = (row.call.host_ns or 0) / total if row.call is not None and row.guide and total else 0
        bar = labels.bar(share, size)
        if row.hot:
            bar = bar[: size - 1] + HOT
        found.append((GAP + bar.ljust(size), STYLES["bar"]))
    return found


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
    """The end of it, since the output stands there and says more; cut before a size or a word, never inside one."""
    begin = len(cell) - size + 1
    whole = _MAY_BE_CUT.search(cell, begin)
    return "…" + cell[whole.start() if whole else begin :]


_MAY_BE_CUT = re.compile(r"[\[, →]")


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
