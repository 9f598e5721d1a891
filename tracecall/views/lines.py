"""Rows as lines with aligned columns: what fits the width, what is shortened, what is left out."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Iterator

from rich.text import Text

from tracecall.calls import Call, Trace
from tracecall.views import labels
from tracecall.views.cells import cell_len
from tracecall.views.columns import GAP, LAYOUTS, Column, columns, total_time
from tracecall.views.header import BAD, NOTE, QUIET, TIME
from tracecall.views.rows import Row
from tracecall.views.styled import Line, Piece

STYLES = {"device": NOTE, "time": TIME, "device time": TIME, "bar": TIME, "line": QUIET, "from": QUIET}
RIGHT = ("time", "device time", "parameters", "line")
WIDEST_LABEL = 44
SHORTEST_NAME = 12
SHORTEST_SENTENCE = 30
PROSE = 88  # a longer line of prose is hard to read, however wide the terminal
SHORTEST_SOURCE = 14
HOT = "◂"

Widths = dict[str, int]


def lines(trace: Trace, rows: list[Row], width: int) -> list[Line | Text]:
    """Rows as lines with aligned columns; where room is short, the columns that say least are left out first."""
    total = total_time(trace)
    hot = _hot_path(trace)
    for row in rows:
        row.hot = id(row.call) in hot
    each = [labels.each(row.call, total) for row in rows if row.call is not None and row.call.fold is not None]
    unit = labels.unit(total)[0]
    titles = {"time": unit, "device time": f"device {unit}", "parameters": "params"}
    label, typed = _label_widths(rows)
    written = columns(trace, rows, total)
    for layout in LAYOUTS:
        shown = written(layout)
        widths = {name: column.width for name, column in shown.items()}
        if widths["device time"]:
            titles["time"] = f"host {unit}"
        for name, size in widths.items():
            widths[name] = size and max(size, cell_len(titles.get(name, "")))
        widths["type"] = typed
        # what may go without loss: where things came from, and most of the bar and the type
        if _needed(label, {**widths, **({} if layout.everything else _spare(widths, each))}) <= width:
            break
    label = _fit(widths, label, width, each)
    title = _title(titles, widths, label)
    return [*([title] if title.plain else []), *_drawn(rows, shown, widths, label, width, total)]


def _label_widths(rows: list[Row]) -> tuple[int, int]:
    """How wide names are, with the lines that lead to them, and types."""
    width_of = functools.cache(cell_len)  # few names are many
    calls = [row for row in rows if row.call is not None]
    typed = max(map(width_of, {row.type for row in calls}), default=0)
    label = max([len(row.guide) + width_of(row.name) for row in calls if row.type], default=0)
    # a row without a type may write its name across that column
    long = max([len(row.guide) + width_of(row.name) for row in calls if not row.type], default=0)
    return max(label, min(long - (len(GAP) + typed if typed else 0), WIDEST_LABEL)), typed


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


def _spare(widths: dict[str, int], each: list[str]) -> dict[str, int]:
    return {"from": max(map(cell_len, each), default=0), "bar": min(4, widths["bar"]), "type": min(12, widths["type"])}


def _needed(label: int, widths: dict[str, int]) -> int:
    return label + sum(len(GAP) + size for size in widths.values() if size)


def _brief_each(cell: str) -> str:
    """Without the range: "each 0.37"."""
    return cell.partition(" (")[0]


def _fit(widths: dict[str, int], label: int, width: int, each: list[str]) -> int:
    """Shrink or drop columns until a line fits; returns the label's width.

    What one of many calls took, `each`, stands where others say what they came from, and stays longer.
    """
    whole, brief = (max(map(cell_len, cells), default=0) for cells in (each, map(_brief_each, each)))
    for name, least in (("from", max(24, whole)), ("type", 18), ("bar", 4), ("from", max(14, whole)), ("type", 12),
                        ("from", whole), ("bar", 3), ("label", 30), ("type", 9), ("from", brief), ("bar", 0),
                        ("label", 26), ("shapes", 30), ("from", 0), ("parameters", 0), ("label", 22), ("shapes", 24),
                        ("type", 0), ("line", 0), ("device", 0), ("label", 16)):  # fmt: skip
        over = _needed(label, widths) - width
        if over <= 0:
            break
        if name == "label":
            label = max(min(label, least), label - over)
        elif least == 0:
            widths[name] = 0
        else:
            widths[name] = max(min(widths[name], least), widths[name] - over)
    return label


def _drawn(
    rows: list[Row], shown: dict[str, Column], widths: Widths, label: int, width: int, total: int
) -> Iterator[Line | Text]:
    """The rows as lines, their cells in columns. A long tree has few texts that differ: each is finished once."""
    caught = [row.call is not None and row.call.error is not None and row.call.error.caught for row in rows]
    finished = [
        _bars(rows, size, total) if name == "bar" else _finished(name, size, shown[name].cells, caught)
        for name, size in widths.items()
        if size and name != "type"
    ]
    right = _needed(0, {name: size for name, size in widths.items() if name != "type"})
    labelled = functools.cache(functools.partial(_label, label, widths["type"]))
    for row, *pieces in zip(rows, *finished, strict=True):
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


def _label(
    label: int, typed: int, guide: str, name: str, style: str, kind: str, folded: bool
) -> tuple[list[Piece], int]:
    """What stands at the left of a line, the way to a name, the name and its type; and how many cells it takes."""
    with_type = typed and kind
    room = label if with_type or not typed else label + len(GAP) + typed
    guide = _cut_guide(guide, room - min(SHORTEST_NAME, cell_len(name)))
    name = labels.cut_name(name, room - cell_len(guide), folded=folded)
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
            cell = "…" + cell[len(cell) - size + 1 :]  # the output stands at the end, and says more
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
    room = max(3, room)
    return guide if len(guide) <= room else "…" + guide[1 - room :]


def _cut_source(cell: str, size: int) -> str:
    """What of it fits: a time whole or not at all, and a source where something of it can be read."""
    each, _, source = cell.partition("← ") if cell.startswith("each ") else ("", "", cell)
    if not each:
        return source if size >= SHORTEST_SOURCE else ""
    each = each.rstrip()
    room = size - cell_len(each + GAP)
    if source and room >= SHORTEST_SOURCE:
        return each + GAP + labels.pad("← " + source, room)
    return each if cell_len(each) <= size else _brief_each(each)
