"""What is shortened and what is dropped where room is short: how wide each column of the tree may be."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from tracecall.views import names
from tracecall.views.cells import cell_len
from tracecall.views.columns import GAP, LAYOUTS, Column, Layout
from tracecall.views.rows import Row

WIDEST_LABEL = 44
WIDEST_NAMES = 30  # with the way to them, of calls that share a row; beyond that their start is cut
SHORTEST_GUIDE = 3

Widths = dict[str, int]


class Fitted(NamedTuple):
    """The columns, and what a line of some width has room for of each."""

    layout: Layout
    columns: dict[str, Column]
    widths: Widths  # from left to right, "type" last; 0 of a column that is left out
    label: int  # how wide the names are, with the lines that lead to them


def fitted(
    rows: list[Row], written: Callable[[Layout], dict[str, Column]], titles: dict[str, str], longest: int, width: int
) -> Fitted:
    """The columns in the layout that says most of those that fit into `width` cells, or else the last one, cut.

    What one of the calls took that share a row takes `longest` cells at most.
    """
    label, typed = _label_and_type(rows)
    for layout in LAYOUTS:
        shown = written(layout)
        widths = {
            name: column.width and max(column.width, cell_len(titles.get(name, ""))) for name, column in shown.items()
        }
        widths["type"] = typed
        each = longest if layout.beside else 0
        least = {} if layout.everything else _spare(widths, each)
        if needed(label, {**widths, **least}) <= width:
            break
    label = _shrunk(widths, label, width, each, _shared(rows))
    return Fitted(layout, shown, widths, label)


def needed(label: int, widths: Widths) -> int:
    """The cells that a line takes with a label and columns of some widths."""
    return label + sum(len(GAP) + size for size in widths.values() if size)


def _label_and_type(rows: list[Row]) -> tuple[int, int]:
    """How wide names are, with the lines that lead to them, and types."""
    width_of = functools.cache(cell_len)  # few names are many
    calls = [row for row in rows if row.call is not None]
    typed = max(map(width_of, {row.type for row in calls}), default=0)
    label = max([len(row.guide) + width_of(row.name) for row in calls if row.type], default=0)
    # a row without a type may write its name across that column
    long = max([len(row.guide) + width_of(row.name) for row in calls if not row.type], default=0)
    return max(label, min(long - (len(GAP) + typed if typed else 0), WIDEST_LABEL)), typed


def _spare(widths: Widths, each: int) -> Widths:
    """How little some columns may keep without loss: of where things came from `each`, what one of many took."""
    return {"from": each, "bar": min(4, widths["bar"]), "type": min(12, widths["type"])}


def _shrunk(widths: Widths, label: int, width: int, each: int, shared: _Shared) -> int:
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
        over = needed(label, widths) - width
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
        more = min(most - size, width - needed(label, widths))
        if size and more > 0:
            if name == "label":
                label += more
            else:
                widths[name] += more
    return label


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
