"""The pairs of two traces as the lines of one tree: siblings that are alike share one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

import msgspec
from rich.text import Text

from tracecall.calls import Call, Fold
from tracecall.comparison import Alike, Bounds, Difference, Pair, Ratio, together
from tracecall.folding.groups import Group, grouped, single
from tracecall.folding.naming import ends
from tracecall.folding.signatures import Signatures
from tracecall.views import labels
from tracecall.views.header import QUIET

Pairs = Group[Pair]


class Shared:
    """Pairs as lines: siblings that are alike share one, unless every pair is to have its own."""

    def __init__(
        self,
        difference: Difference,
        *,
        fold: bool,
        seen: Callable[[Pair], bool],
        shown: Callable[[Pair], bool] = lambda _: True,
        said: Callable[[Pair], Hashable] = lambda _: None,
    ) -> None:
        """`seen`: which pairs there are; for `shown` and `said` see `Alike`."""
        self.bounds = difference.bounds
        self._roots = difference.pairs
        self._seen = seen
        signs = (Signatures(trace) for trace in (difference.before, difference.after))
        self._alike = Alike(*signs, roots=difference.pairs, shown=shown, said=said) if fold else None

    def roots(self) -> list[Pairs]:
        """The lines of the root calls."""
        return self._grouped([self._roots])

    def inside(self, line: Pairs) -> list[Pairs]:
        """The lines inside one: of the siblings that repeat in turn, or of the calls that its call made."""
        if line.members:
            return line.members
        return self._grouped([[child for child in pair.children if self._seen(child)] for pair in line.all])

    def hidden(self, line: Pairs) -> list[Pair]:
        """All inside one of those that share a line."""
        found, waiting = [], [line.first]
        while waiting:
            pair = waiting.pop()
            found.append(pair)
            waiting.extend(child for child in pair.children if self._seen(child))
        return found[1:]

    def _grouped(self, each: list[list[Pair]]) -> list[Pairs]:
        return single(each) if self._alike is None else grouped(each, self._alike)


@dataclass
class Line:
    """One line of the tree. `note` stands for several pairs, or for a change of the pair above."""

    guide: str
    below: str  # the guide of what stands under it
    pairs: Pairs | None = None
    sign: str = ""  # in front of the line
    note: Text | None = None
    inside: int = 0  # calls that are not shown
    changed: str = ""  # of those, in words
    time: Ratio | None = None

    @property
    def pair(self) -> Pair | None:
        """The pair of the line; the first, where several share it."""
        return None if self.pairs is None else self.pairs.first

    @property
    def shared(self) -> bool:
        """Whether it stands for several pairs."""
        return self.pairs is not None and len(self.pairs.all) > 1

    @property
    def in_turn(self) -> bool:
        """Whether it stands over calls that repeat in turn, and is none."""
        return self.pairs is not None and bool(self.pairs.members)


Children = Callable[[Pairs, int], list[Pairs | int]]  # what is shown inside at a depth; a number stands for many


def tree_lines(shared: Shared, children: Children) -> Iterator[Line]:
    """The lines of a tree; iterative, as deep as a model's recursion may be."""
    waiting: list[tuple[Pairs | int, str, str, int]] = [(line, "", "", 0) for line in reversed(shared.roots())]
    while waiting:
        item, guide, below, depth = waiting.pop()
        if isinstance(item, int):
            yield Line(guide, below, note=Text(f"… {calls(item)} unchanged", QUIET))
            continue
        inner = depth if item.members else depth + 1  # what repeats in turn are siblings
        shown = children(item, inner)
        line = Line(guide, below + ("│  " if shown else "   "), item, _sign(item), time=_ratio(item, shared.bounds))
        if not shown:
            line.inside = len(shared.hidden(item))
        yield line
        for i, child in reversed(list(enumerate(shown))):
            last = i == len(shown) - 1
            waiting.append((child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), inner))


def _sign(line: Pairs) -> str:
    """That of all its pairs; those that repeat in turn may have several, and their line then none."""
    signs = {_sign(member) for member in line.members} or {line.first.sign}
    return signs.pop() if len(signs) == 1 else ""


def _ratio(line: Pairs, bounds: Bounds) -> Ratio | None:
    if len(line.each) == len(line.each[0]) == 1:
        return line.first.time
    before, after = ([[one for one in side if one is not None] for side in sides(line, i)] for i in (0, 1))
    return together(before, after, bounds)


def sides(line: Pairs, side: int) -> list[list[Call | None]]:
    """The calls of one trace."""
    return [[(pair.before, pair.after)[side] for pair in repeat] for repeat in line.each]


def calls(number: int) -> str:
    """A number of calls: "1 call", "12 calls"."""
    return f"{number:,} call{'' if number == 1 else 's'}"


def seen(pair: Pair, operations: str) -> bool:
    """Whether an operation is to be shown: as in the tree of one trace; but for "none", where it is not as it was."""
    call = pair.call
    if call.kind != "operation" or call.error is not None or pair.asked:
        return True
    if operations == "none":
        return False
    return operations == "all" or not call.internal or bool(call.reads) or bool(pair.sign)


def name(line: Pairs) -> str:
    """A call by what the model's code calls it, the root by its class; the first and the last of those on a line."""
    if len(line.all) == 1 or (line.count == 1 and not line.inside):
        return labels.bounded(_own_name(line.first))
    named = line.all if line.inside else line.each[0]  # those of the first repeat of the line above
    fold = Fold(line.count, *ends([_own_name(pair) for pair in named]), size=line.width, inside=line.inside)
    return labels.named(msgspec.structs.replace(line.first.call, fold=fold))


def _own_name(pair: Pair) -> str:
    call = pair.call
    return call.name if call.path or call.kind != "module" else pair.type


def type_text(line: Pairs | None) -> str:
    """The type of a module's call."""
    if line is None or line.members:
        return ""
    return labels.safe(line.first.type) if line.first.call.kind == "module" and line.first.call.path else ""
