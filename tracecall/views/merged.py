"""The lines of two traces' tree as text: signs, names and columns, aligned to a width."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from tracecall.views import labels
from tracecall.views.header import BAD, MODULE, NOTE, QUIET
from tracecall.views.names import cut_name, least
from tracecall.views.pairs import Line, calls, name

GAP = "  "
STYLES = {"+": "green", "−": BAD, "→": NOTE, "✗": BAD}
LEAST_LABEL = 16
KEPT = 4  # the rank from which on columns stay longer than names
SHORTEST_NAME = 12


@dataclass
class Column:
    """A column of cells, one a line of the tree.

    Those with a rank may go where room is short: all of the lowest, then all of the next.
    """

    title: str
    cells: list[str]
    style: Callable[[int], str] = lambda _: ""
    right: bool = True
    rank: int | None = None
    least: int = 0  # cells that it may shrink to before it goes
    short: str = ""  # the title where all of its rank have no room for theirs
    over: list[str] | None = None  # for each line a text instead of its cells here and in the columns after it
    reach: int = 1  # how many columns such a text goes over

    @property
    def width(self) -> int:
        """As wide as its widest cell, 0 without any."""
        widest = max(map(cell_len, self.cells), default=0)
        return max(widest, cell_len(self.title)) if widest or any(self.over or ()) else 0


def signed(lines: list[Line]) -> bool:
    """Whether any line has a sign, so that there is a column for it."""
    return any(line.sign for line in lines)


def grid(lines: list[Line], columns: list[Column], width: int) -> list[Text]:
    """Lines of at most `width` cells: sign, guide, name, then the columns under their titles."""
    lead = 2 if signed(lines) else 0
    names = ["" if line.pairs is None else name(line.pairs) for line in lines]
    texts = [text + _closed(line) for line, text in zip(lines, names, strict=True)]
    label = max((cell_len(line.guide + text) for line, text in zip(lines, texts, strict=True)), default=0)
    widths = [column.width for column in columns]
    for i, column in enumerate(columns):
        needed = max(map(cell_len, column.over or ()), default=0)
        widths[i] += max(0, needed - _room(widths[i : i + column.reach]))
    label = _fit(columns, widths, lead + label, width) - lead
    title = " " * (lead + label)
    short = {column.rank for column, size in zip(columns, widths, strict=True) if cell_len(column.title) > size}
    for column, size in zip(columns, widths, strict=True):
        shown = column.short if column.short and column.rank in short else column.title
        title += GAP + _aligned(column, shown, size) if size else ""
    made = [Text(title.rstrip(), QUIET, no_wrap=True, overflow="ellipsis")] if title.strip() else []
    for i, (line, text) in enumerate(zip(lines, texts, strict=True)):
        if line.note is not None:
            made.append(Text.assemble(" " * lead, (line.guide, QUIET), line.note, no_wrap=True, overflow="ellipsis"))
            continue
        assert line.pairs is not None
        sign = line.sign
        row = Text(no_wrap=True, overflow="ellipsis")
        row.append(labels.pad(sign, lead) if lead else "", STYLES.get(sign, ""))
        room = max(2, label - min(SHORTEST_NAME, cell_len(text)))
        guide = line.guide if cell_len(line.guide) <= room else "…" + line.guide[1 - room :]
        module = line.pairs.first.call.kind == "module" and not line.in_turn
        style = STYLES[sign] if sign in ("+", "−") else MODULE if module else ""
        row.append(guide, QUIET)
        row.append(_cut(names[i], line, label - cell_len(guide)), style)
        for cell, of in _cells(columns, widths, i):
            row.append(GAP + cell, of)
        row.rstrip()
        made.append(row)
    return made


def _closed(line: Line) -> str:
    """How many calls are inside, where those are not shown, and what of them changed."""
    if not line.inside:
        return ""
    several = line.pairs is not None and line.pairs.count > 1
    inside = f"{line.inside:,} inside each" if several else f"{calls(line.inside)} inside"
    return f"  ({', '.join(filter(None, (inside, line.changed)))})"


def _cut(name: str, line: Line, width: int) -> str:
    """Exactly `width` cells of a name and what is inside; of calls that share a line, their indices stay longest.

    Where not all of that has room, what changed inside stays.
    """
    closed = _closed(line)
    if line.changed and cell_len(name + closed) > width:
        several = line.pairs is not None and line.pairs.count > 1
        closed = f"  ({line.changed}{' inside each' if several else ''})"
    room = width - cell_len(closed)
    if not line.shared or cell_len(name) <= room:
        short = line.changed and room >= SHORTEST_NAME
        return labels.pad((labels.pad(name, room).rstrip() if short else name) + closed, width)
    if closed and room >= least(name)[0]:
        return labels.pad(cut_name(name, room, folded=True).rstrip() + closed, width)
    return cut_name(name, width, folded=True)


def _cells(columns: list[Column], widths: list[int], i: int) -> Iterator[tuple[str, str]]:
    """The cells of a line with their styles; a text instead of several of them has the room of all."""
    over = -1
    for n, (column, size) in enumerate(zip(columns, widths, strict=True)):
        if n <= over or not size:
            continue
        if column.over and column.over[i]:
            over = n + column.reach - 1
            yield labels.pad(column.over[i], _room(widths[n : over + 1])), column.style(i)
        else:
            yield _aligned(column, column.cells[i], size), column.style(i)


def _room(widths: list[int]) -> int:
    """The cells of some columns with the gaps between them."""
    shown = [size for size in widths if size]
    return sum(shown) + len(GAP) * max(0, len(shown) - 1)


def _aligned(column: Column, cell: str, size: int) -> str:
    return " " * (size - cell_len(cell)) + cell if column.right and cell_len(cell) <= size else labels.pad(cell, size)


def _fit(columns: list[Column], widths: list[int], label: int, width: int) -> int:
    """Shrink the label and columns by rank, then drop those, until a line fits; the label's width with the signs'.

    Those that are KEPT go only where the shortest label leaves no room for them.
    """
    whole, full = label, list(widths)

    def over() -> int:
        return max(0, label + sum(len(GAP) + size for size in widths if size) - width)

    ranked = [i for _, i in sorted((column.rank, i) for i, column in enumerate(columns) if column.rank is not None)]
    for i in ranked:
        if columns[i].least:
            widths[i] = max(min(widths[i], columns[i].least), widths[i] - over())
    for shortest, first, end in ((LEAST_LABEL * 2, 0, KEPT), (LEAST_LABEL, KEPT, len(columns))):
        label = max(min(label, shortest), label - over())
        for rank in range(first, end):
            if over():
                widths[:] = [0 if column.rank == rank else size for column, size in zip(columns, widths, strict=True)]
    return label if widths == full else _give_back(columns, widths, full, (label, whole), width)


def _give_back(columns: list[Column], widths: list[int], full: list[int], sizes: tuple[int, int], width: int) -> int:
    """Fill the room that is left, as what went was wider than what was wanted; the label's width.

    It goes to the label, as far as others go for it; to columns that went, the highest rank first; to the rest of the
    label; and to what shrank. Those with a short title have it together.
    """
    label, whole = sizes

    def free() -> int:
        return max(0, width - label - sum(len(GAP) + size for size in widths if size))

    ranks: dict[int, list[int]] = {}
    for i, column in enumerate(columns):
        if column.rank is not None and full[i]:
            ranks.setdefault(column.rank, []).append(i)
    highest_first = [ranks[rank] for rank in sorted(ranks, reverse=True)]
    for group in highest_first:
        if any(columns[i].short and widths[i] < full[i] for i in group):
            for i in group:
                widths[i] = min(widths[i], columns[i].least)
    label += max(0, min(free(), min(whole, LEAST_LABEL * 2) - label))
    for group in highest_first:
        least = [min(full[i], columns[i].least or full[i]) for i in group]
        if not any(widths[i] for i in group) and sum(len(GAP) + size for size in least) <= free():
            for i, size in zip(group, least, strict=True):
                widths[i] = size
    label += min(free(), whole - label)
    for group in highest_first:
        shrunk = [i for i in group if 0 < widths[i] < full[i]]
        if any(columns[i].short for i in shrunk) and sum(full[i] - widths[i] for i in shrunk) > free():
            continue
        for i in shrunk:
            widths[i] += min(free(), full[i] - widths[i])
    return label
