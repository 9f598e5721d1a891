"""Which sizes of some dimensions of an input fit: found by trying them, and told no wider than they were tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from msgspec import Struct

TRIES = 64
STEPS = 12  # sizes one after the other, before the search for the end of a range takes strides
STRIDES = 5
EVERY_PAIR = 6  # sizes: of a longer range only the corners are tried as pairs
USUAL = (
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    14,
    16,
    24,
    28,
    32,
    48,
    56,
    64,
    96,
    112,
    128,
    160,
    192,
    224,
    256,
    299,
    384,
    448,
    512,
    1024,
)

Tried = Callable[[Sequence[int]], bool]  # the sizes of the dimensions, in their order; StopIteration: no more tries


class Sizes(Struct, frozen=True):
    """Sizes that fit. `low` and `high` do, each size between them does if `whole`; `open`: no upper end was found."""

    low: int
    high: int
    best: int  # the one to show as an example
    whole: bool = True
    open: bool = False
    free: bool = True  # the dimensions may differ from each other


def search(given: Sequence[int], hints: Sequence[int], fits: Tried) -> Sizes | None:
    """Sizes for all dimensions together that fit, and how far they go on in both directions; None if none was found.

    `given` are the sizes that do not fit, one for each dimension.
    """
    known: dict[int, bool] = {}
    left = TRIES

    def fit(size: int) -> bool:
        nonlocal left
        if size < 1 or left <= 0:
            return False
        if size not in known:
            left -= 1
            known[size] = fits([size] * len(given))
        return known[size]

    first = next((size for size in _candidates(max(given), hints) if fit(size)), None)
    if first is None:
        return None
    low, high, whole, is_open = first, first, True, False
    for direction in (-1, 1):
        end, unbroken, opened = _end(first, direction, fit)
        whole = whole and unbroken
        if direction < 0:
            low = end
        else:
            high, is_open = end, opened
    # an example of a range is one that looks familiar: 28 of 28…31
    usual = [size for size in USUAL if known.get(size) and low <= size <= high]
    best = first if first in hints or not usual else min(usual, key=_distance(max(given)))
    free = True
    if len(given) > 1 and low < high:
        pairs = range(low, high + 1) if whole and high - low < EVERY_PAIR else (low, high)
        free = all(fits(sizes) for sizes in product(pairs, repeat=len(given)) if len(set(sizes)) > 1)
    return Sizes(low, high, best, whole, is_open, free)


def told(sizes: Sizes, dims: int) -> str:
    """Sizes in words: "28…31 × 28…31", "16 × 16 or more (tried up to 512)"."""

    def side(size: int | str) -> str:
        return " × ".join([str(size)] * dims)

    if sizes.low == sizes.high:
        return side(sizes.low)
    if sizes.open:
        return f"{side(sizes.low)} or more (tried up to {sizes.high})"
    if not sizes.free:
        return f"{side(sizes.low)} … {side(sizes.high)}" + ("" if sizes.whole else " (tried in strides)")
    return side(f"{sizes.low}…{sizes.high}") + ("" if sizes.whole else " (tried in strides)")


def _distance(given: int) -> Callable[[int], int]:
    return lambda size: abs(size - given)


def _candidates(given: int, hints: Sequence[int]) -> Iterator[int]:
    """Hints, neighbours, and sizes that images and sequences usually have, the nearest first."""
    tried = dict.fromkeys(hints)
    for step in range(1, 9):
        tried |= dict.fromkeys((given - step, given + step))
    tried |= dict.fromkeys(sorted({*USUAL, given * 2, given // 2}, key=_distance(given)))
    tried |= dict.fromkeys(range(given - 9, 0, -1))
    return iter(tried)


def _end(first: int, direction: int, fit: Callable[[int], bool]) -> tuple[int, bool, bool]:
    """The last size that fits in a direction, whether each one on the way was tried, whether no end was found."""
    end = first
    for _ in range(STEPS):
        if not fit(end + direction):
            return end, True, False
        end += direction
    # a long range: in strides that double until one fails, then between the last two
    stride = STEPS
    beyond = None
    for _ in range(STRIDES):
        if not fit(end + direction * stride):
            beyond = end + direction * stride
            break
        end, stride = end + direction * stride, stride * 2
    if beyond is None:
        return end, False, True
    while abs(beyond - end) > 1:
        middle = (end + beyond) // 2
        if fit(middle):
            end = middle
        else:
            beyond = middle
    return end, False, False
