"""Medians and sums of whole numbers, some of which may not have been measured; without the import of statistics."""

from __future__ import annotations

from collections.abc import Sequence


def median(numbers: Sequence[int]) -> int:
    """The middle one, or the mean of the two in the middle."""
    ordered = sorted(numbers)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2


def known(numbers: Sequence[int | None]) -> list[int] | None:
    """Numbers, or None where one of them was not measured, and of none."""
    found = [one for one in numbers if one is not None]
    return found if len(found) == len(numbers) and found else None


def total(numbers: Sequence[int | None]) -> int | None:
    """Their sum; None where one of them was not measured."""
    found = known(numbers)
    return None if found is None else sum(found)
