"""Two lists of siblings as one: which belong together, a common subsequence of their keys.

The exact longest one where that is cheap. Longer lists are cut at the keys that both have once (as in patience diff,
https://bramcohen.livejournal.com/73318.html), so that the cost of each sibling is bounded, however many there are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

EXACT = 40_000  # entries of the table that finds the longest common subsequence: 200 siblings against 200

Key = Hashable


def match(before: Sequence[Key], after: Sequence[Key]) -> list[tuple[int | None, int | None]]:
    """Indices of both lists in one order; (i, j) belong together, (i, None) is only before, (None, j) only after."""
    merged: list[tuple[int | None, int | None]] = []
    i = j = 0
    for one, other in [*_common(before, after), (len(before), len(after))]:
        merged.extend((k, None) for k in range(i, one))
        merged.extend((None, k) for k in range(j, other))
        if one < len(before):
            merged.append((one, other))
        i, j = one + 1, other + 1
    return merged


def _common(before: Sequence[Key], after: Sequence[Key]) -> list[tuple[int, int]]:
    """Pairs of indices with equal keys, rising in both lists."""
    start, end = 0, 0
    shorter = min(len(before), len(after))
    while start < shorter and before[start] == after[start]:
        start += 1
    while end < shorter - start and before[-1 - end] == after[-1 - end]:
        end += 1
    stop, other_stop = len(before) - end, len(after) - end
    return [
        *((k, k) for k in range(start)),
        *_between(before, after, (start, stop), (start, other_stop)),
        *((stop + k, other_stop + k) for k in range(end)),
    ]


Span = tuple[int, int]


def _between(before: Sequence[Key], after: Sequence[Key], span: Span, other: Span) -> Iterator[tuple[int, int]]:
    """The middle, where the first and the last differ."""
    if (span[1] - span[0]) * (other[1] - other[0]) <= EXACT:
        yield from _longest(before, after, span, other)
        return
    # first by keys that stand once in both; what lies between two such is short, or else told by how often it has been
    i, j = span[0], other[0]
    anchors = _rising(_once(before, span), _once(after, other))
    for one, two in [*anchors, (span[1], other[1])]:
        if (one - i) * (two - j) <= EXACT:
            yield from _longest(before, after, (i, one), (j, two))
        else:
            yield from _rising(_counted(before, (i, one)), _counted(after, (j, two)))
        if one < span[1]:
            yield one, two
        i, j = one + 1, two + 1


def _longest(before: Sequence[Key], after: Sequence[Key], span: Span, other: Span) -> Iterator[tuple[int, int]]:
    """The longest common subsequence, by the table of lengths of those of all endings."""
    one, two = before[span[0] : span[1]], after[other[0] : other[1]]
    if not one or not two:
        return
    lengths = [[0] * (len(two) + 1)]
    for key in reversed(one):
        below, row = lengths[-1], [0] * (len(two) + 1)
        for j in range(len(two) - 1, -1, -1):
            row[j] = below[j + 1] + 1 if key == two[j] else max(below[j], row[j + 1])
        lengths.append(row)
    lengths.reverse()
    i = j = 0
    while i < len(one) and j < len(two):
        if one[i] == two[j]:
            yield span[0] + i, other[0] + j
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            i += 1
        else:
            j += 1


def _once(keys: Sequence[Key], span: Span) -> dict[Key, int]:
    """Where the keys are that stand in a span once."""
    part = keys[span[0] : span[1]]
    counts = Counter(part)
    return {key: span[0] + k for k, key in enumerate(part) if counts[key] == 1}


def _counted(keys: Sequence[Key], span: Span) -> dict[Key, int]:
    """Where the first of a key is, the second of it, and so on."""
    counts: Counter[Key] = Counter()
    found: dict[Key, int] = {}
    for k in range(*span):
        found[keys[k], counts[keys[k]]] = k
        counts[keys[k]] += 1
    return found


def _rising(before: dict[Key, int], after: dict[Key, int]) -> list[tuple[int, int]]:
    """The longest part of what both have that rises in both: a longest increasing subsequence."""
    both = [(i, after[key]) for key, i in before.items() if key in after]  # `before` is in rising order
    ends: list[int] = []  # the smallest last index of a rising run of each length
    tails: list[int] = []
    previous: list[int | None] = []
    for k, (_, j) in enumerate(both):
        place = bisect_left(ends, j)
        previous.append(tails[place - 1] if place else None)
        if place == len(ends):
            ends.append(j)
            tails.append(k)
        else:
            ends[place], tails[place] = j, k
    found: list[tuple[int, int]] = []
    at = tails[-1] if tails else None
    while at is not None:
        found.append(both[at])
        at = previous[at]
    return found[::-1]
