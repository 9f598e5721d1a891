"""Siblings of any tree → groups of those that share a line, as `tracecall diff` and `tracecall compare` show them.

Where repeats are is found as in one trace, but nothing is merged: a group holds all that its line stands for, and who
shows it says what they are together. What is inside is grouped when it is asked for: a tree costs what is shown of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from tracecall.folding.lines import SAVED, WRITTEN_OUT
from tracecall.folding.repeats import FEWEST, Item, begins, repeats

T = TypeVar("T")
Seen = TypeVar("Seen", contravariant=True)


@dataclass
class Group(Generic[T]):
    """One line: of one sibling, of `count` that are alike, or of `count` times `width` siblings that repeat in turn.

    `each` has a list for each repeat of the line above, of all that this line stands for in it: one list where nothing
    above repeats.
    """

    each: list[list[T]]
    count: int = 1
    width: int = 1
    members: list[Group[T]] = field(default_factory=list)  # with a width above 1: those that repeat in turn
    inside: bool = False  # one of several that repeat in turn: their line has the count

    @property
    def first(self) -> T:
        """The first of all."""
        return self.each[0][0]

    @property
    def last(self) -> T:
        """The last that it stands for where the first is: in the first repeat of the line above."""
        return self.each[-1][-1] if self.inside else self.each[0][-1]

    @property
    def all(self) -> list[T]:
        """All that it stands for."""
        return [one for repeat in self.each for one in repeat]


class Likeness(Protocol[Seen]):
    """What makes siblings alike."""

    def keys(self, siblings: Sequence[Seen]) -> list[tuple[int, int]] | None:
        """Two numbers for each; None where none are alike.

        The first is the same for those that are alike with all that is inside them, the second for those of one module
        that are so but for sizes.
        """

    def number(self, key: object) -> int:
        """The same number for equal keys, another one than those of siblings."""

    def lines(self, one: Seen) -> int:
        """How many lines it is, with those inside it."""

    def leads(self, one: Seen) -> bool:
        """Whether a repeat rather begins with it than with what comes before: whether it is a module's call."""

    def written(self, one: Seen) -> tuple[str, int] | None:
        """The line of code that made it."""


def grouped(each: list[list[T]], alike: Likeness[T]) -> list[Group[T]]:
    """Siblings as groups; one list of siblings for each repeat of the line above, alike one by one."""
    siblings = each[0]
    keys = alike.keys(siblings) if len(siblings) >= FEWEST else None
    if keys is None:
        return single(each)

    def worth(start: int, width: int, count: int) -> bool:
        second = siblings[min(start + width, len(siblings) - 1)]
        looped = alike.written(siblings[start]) == alike.written(second)
        if count < (FEWEST if looped else WRITTEN_OUT):
            return False
        return width == 1 or (count - 1) * sum(map(alike.lines, siblings[start : start + width])) - 1 >= SAVED

    lines = [None, *map(alike.written, siblings)]  # from the one before the first
    items = [
        Item(i, *key, begins(lines[i], lines[i + 1], alike.leads(one)))
        for i, (key, one) in enumerate(zip(keys, siblings, strict=True))
    ]
    return [_group(item, each, 0) for item in repeats(items, worth, alike.number)]


def single(each: list[list[T]]) -> list[Group[T]]:
    """The same with every sibling on its own."""
    return [Group([[siblings[i]] for siblings in each]) for i in range(len(each[0]))]


def _group(item: Item, each: list[list[T]], shift: int) -> Group[T]:
    """An item as a group. `siblings[shift]` is the one that it counts from; it calls itself for runs within runs."""
    start = item.start + shift
    if item.width == 1:
        return Group([siblings[start : start + item.count] for siblings in each], item.count)
    turns = [
        siblings[start + i * item.width : start + (i + 1) * item.width] for siblings in each for i in range(item.count)
    ]
    members = [_group(part, turns, -item.start) for part in item.body]
    for member in members:
        member.inside = member.count == 1
    return Group([siblings[start : start + item.all] for siblings in each], item.count, item.width, members)
