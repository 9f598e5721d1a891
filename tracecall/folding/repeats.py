"""Where a list of siblings repeats: the shortest repeats first, then those that are made of them."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Hashable, Iterable

from msgspec import Struct

LONGEST = 32  # siblings that repeat in turn
ROUNDS = 4  # repeats within repeats within repeats: one more each
FEWEST = 3


class Item(Struct, frozen=True):
    """One sibling, or a run of repeats: `count` times `body`, which begins at `start` and is `width` siblings wide."""

    start: int
    exact: int  # equal for items that are alike
    loose: int  # equal for items that are alike but for sizes
    leads: int = 0  # how likely a repeat begins with it, from `begins`
    count: int = 1
    width: int = 1
    body: tuple[Item, ...] = ()
    sized: bool = False  # the repeats may differ in sizes

    @property
    def all(self) -> int:
        """How many siblings it is."""
        return self.count * self.width


def repeats(items: list[Item], worth: Callable[[int, int, int], bool], number: Callable[[object], int]) -> list[Item]:
    """Siblings as items, what repeats as runs.

    Args:
        items: One for each sibling.
        worth: Whether a run is to be folded: where it starts, the width of one repeat, how many there are.
        number: The same number for equal keys.
    """
    for sized in (False, True):
        if sized and len({item.loose for item in items}) == len({(item.loose, item.exact) for item in items}):
            break  # none differ in sizes alone
        for _ in range(ROUNDS):
            before = len(items)
            keys = _Keys(_keys(items, sized))
            period = 1
            while period <= min(LONGEST, len(items) // FEWEST):
                if keys.may_repeat(period):
                    found = _runs(items, keys.numbers, period, sized, worth, number)
                    if len(found) < len(items):
                        items = found
                        keys = _Keys(_keys(items, sized))
                period += 1
            if len(items) == before:
                break
    return items


def may_repeat(keys: Iterable[Hashable]) -> bool:
    """Whether siblings with these keys repeat anywhere: seen fast, as most do not."""
    numbers: dict[Hashable, int] = {}
    numbered = _Keys([numbers.setdefault(key, len(numbers)) for key in keys])
    return any(map(numbered.may_repeat, range(1, min(LONGEST, len(numbered.numbers) // FEWEST) + 1)))


def begins(before: tuple[str, int] | None, written: tuple[str, int] | None, module: bool) -> int:
    """How likely a repeat begins with a call: by its line of code, and that of the call before it.

    Most with the first one of a loop's next round, where the code goes on further up; else with a module's call, as
    what is done with its output follows it.
    """
    if before is not None and written is not None and before[0] == written[0] and written[1] < before[1]:
        return 2
    return 1 if module else 0


class _Keys:
    """Numbers, and as one long number with a word for each: so all are compared at once, for every period."""

    def __init__(self, numbers: list[int]) -> None:
        words = array("I", numbers)
        self.numbers = numbers
        self._bits = 8 * words.itemsize
        self._whole = int.from_bytes(words.tobytes(), sys.byteorder)

    def may_repeat(self, period: int) -> bool:
        """Whether somewhere as many numbers as it takes equal the one that is `period` further."""
        unequal = self._whole ^ (self._whole >> period * self._bits)  # words of zeros where they are equal
        size = self._bits // 8
        compared = unequal.to_bytes(len(self.numbers) * size, sys.byteorder)
        return bytes((FEWEST - 1) * period * size) in compared


def _keys(items: list[Item], sized: bool) -> list[int]:
    return [item.loose if sized else item.exact for item in items]


def _runs(
    items: list[Item],
    keys: list[int],
    period: int,
    sized: bool,
    worth: Callable[[int, int, int], bool],
    number: Callable[[object], int],
) -> list[Item]:
    """Runs of `period` items in turn, from left to right."""
    equal = [0] * (len(items) + 1)  # how many items from here on equal the one that is `period` further
    for i in range(len(items) - period - 1, -1, -1):
        equal[i] = equal[i + 1] + 1 if keys[i] == keys[i + period] else 0
    found: list[Item] = []
    i = 0
    while i < len(items):
        count = equal[i] // period + 1
        width = sum(item.all for item in items[i : i + period]) if count >= FEWEST else 0
        if count < FEWEST or not worth(items[i].start, width, count):
            found.append(items[i])
            i += 1
            continue
        # where it may start later without losing a repeat: with what most likely begins one, the second of them
        shift = max(range(equal[i] % period + 1), key=lambda by: items[i + by + period].leads)
        if shift and worth(items[i + shift].start, width, count):
            found.extend(items[i : i + shift])
            i += shift
        body = tuple(items[i : i + period])
        loose = number(("run", count, tuple(item.loose for item in body)))
        exact = number(("run", count, sized or tuple(item.exact for item in body), loose if sized else None))
        found.append(Item(body[0].start, exact, loose, body[0].leads, count, width, body, sized))
        i += count * period
    return found
