"""A row's name in the room that it has: of calls that share a row, their number and the first and last index stay."""

from __future__ import annotations

from typing import NamedTuple

from tracecall.views.cells import cell_len
from tracecall.views.labels import apart, pad

SHORTEST = 4
_LONGEST = 24  # cells that the indices may ask for; what is longer is no index


class _Names(NamedTuple):
    """What the name of calls that share a row is made of: "✗ ", "layers.", "0", "23.attn", " ×24", "  +1"."""

    mark: str
    head: str  # what their names begin with
    first: str
    last: str  # "" where they have one name
    number: str
    rest: str  # what is said after it

    @property
    def loose(self) -> str:
        """The first and the last, what they share once: "layers.0 … 23.attn"."""
        return f"{self.mark}{self.head}{self.first}" + (f" … {self.last}" if self.last else "")

    @property
    def tight(self) -> str:
        """The same without spaces, as sizes that differ are written: "layers.0…23.attn"."""
        return self.loose.replace(" … ", "…", 1)

    @property
    def indices(self) -> str:
        """What the two differ in, and what follows: "0…23.attn"."""
        return f"{self.first}…{self.last}"


def cut_name(name: str, width: int, *, folded: bool) -> str:
    """Exactly `width` cells of a row's name; the names of calls that share the row lose first what they share."""
    if not folded or cell_len(name) <= width:
        return pad(name, width)
    names = _names(name)
    for ways in (_with_indices, _without):
        for after, rest in ((names.number + names.rest, ""), (names.number, names.rest)):
            for shown in ways(names, width - cell_len(after)):
                left = width - cell_len(shown + after)
                if left >= 0:
                    return shown + after + (pad(rest, left) if left >= SHORTEST else " " * left)
    return pad(name, width)


def least(name: str) -> tuple[int, int]:
    """The cells that keep the number and the indices of calls that share a row: with their names, and without."""
    names = _names(name)
    after = cell_len(names.number + (names.rest if names.rest.startswith("  +") else ""))
    if not names.last:
        one = (SHORTEST if names.number else cell_len(names.loose)) + after
        return min(one, _LONGEST), min(one, _LONGEST)
    cut = cell_len(names.mark + ("…" if names.head else "") + names.indices)
    return cell_len(names.tight) + after, min(cut + after, _LONGEST)


def _names(name: str) -> _Names:
    body, gap, rest = name.partition("  ")
    both, times, count = body.rpartition(" ×")
    if not times:  # "×12 in turn", or one of those that repeat in turn
        both, count = body, ""
    mark = "✗ " if both.startswith("✗ ") else ""
    first, dots, last = both.removeprefix(mark).partition(" … ")
    if not dots:
        return _Names(mark, "", first, "", times + count, gap + rest)
    head, one, other = apart(first, last)
    if not head:  # "layers.0 … 31", what they share is told once already
        before, dot, one = first.rpartition(".")
        head = before + dot
    return _Names(mark, head, one, other, times + count, gap + rest)


def _with_indices(names: _Names, room: int) -> list[str]:
    """Ways to write both names, the one that says most first; some may not fit."""
    if not names.last:
        return []
    cut = names._replace(head=_end(names.head, room - cell_len(names.mark + names.indices)))
    return [names.loose, names.tight, *((cut.loose, cut.tight) if names.head else ())]


def _without(names: _Names, room: int) -> list[str]:
    """The same of the first name alone."""
    one = names.mark + names.head + names.first
    return [*([f"{one} …"] if names.last else []), *([pad(one, room)] if room >= SHORTEST else [])]


def _end(head: str, width: int) -> str:
    """The end of a path in at most `width` cells, "…" before it: of whole names where one has room, "…layers."."""
    shown = head[max(0, len(head) - width + 1) :] if width > 1 else ""
    while cell_len(shown) >= max(1, width):
        shown = shown[1:]
    begin = shown.find(".", 0, -1) + 1
    return "…" + shown[begin:].removeprefix(".")
