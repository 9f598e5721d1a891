"""Inputs whose sizes are names, and the sizes that are tried for those names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

Size = int | str
Sizes = Mapping[str, int]

COMMON = (64, 224, 28, 32, 16, 128, 256, 96, 512, 8, 12, 4, 2)
BATCHES = (3, 5, 6, 7, 9)
CANDIDATES = 40


@dataclass(frozen=True)
class SizedInput:
    """A tensor that is still to be made: sizes are numbers or names, equal names are one dimension."""

    shape: tuple[Size, ...]
    dtype: Any  # torch.dtype; this file is read without torch
    device: Any = "cpu"

    def names(self) -> list[str]:
        """The names among the sizes, each once, in order."""
        return list(dict.fromkeys(size for size in self.shape if isinstance(size, str)))


def candidates(
    inputs: Iterable[SizedInput], examples: Iterable[tuple[int, ...]] = (), telling: Iterable[int] = ()
) -> Iterator[dict[str, int]]:
    """Yield sizes for the names, the most promising first.

    `examples` are shapes of inputs that the model is known to take; `telling` are sizes that its modules speak of
    (in_features and the like). The first name of an input that stands first in it is taken to be the batch.
    """
    yield from islice(_distinct(_all(list(inputs), list(examples), list(telling))), CANDIDATES)


def _all(inputs: list[SizedInput], examples: list[tuple[int, ...]], telling: list[int]) -> Iterator[dict[str, int]]:
    names = list(dict.fromkeys(name for one in inputs for name in one.names()))
    batch = {one.shape[0] for one in inputs if len(one.shape) > 1 and isinstance(one.shape[0], str)}
    batches = [name for name in names if name in batch]
    others = [name for name in names if name not in batch]
    known = _from_examples(inputs, examples)
    rest = [name for name in others if name not in known]
    for spread in (True, False):  # equal sizes only where different ones fail: they hide which is which
        yield {
            **_batch(batches, known, rest, spread),
            **_example_sizes(known, others, spread),
            **_around(64, rest, spread),
        }
    usual = [*dict.fromkeys([*COMMON, *(size for size in telling if size > 1)])]
    for base in usual[:4]:
        for spread in (True, False):
            yield {**_batch(batches, {}, others, spread), **_around(base, others, spread)}
    for name in others:  # one of them is a number of features, say; the others are free
        free = [other for other in others if other != name]
        for size in dict.fromkeys(telling):
            if size > 1:
                yield {**_batch(batches, {}, others, True), **_around(13, free, True), name: size}
    for base in usual[4:]:
        for spread in (False, True):
            yield {**_batch(batches, {}, others, spread), **_around(base, others, spread)}
    for name in batches:  # the first dimension was no batch, or it must be 1
        for size in [*dict.fromkeys(telling), 1]:
            yield {**_batch(batches, {}, others, True), **known, **_around(13, rest, True), name: size}


def _from_examples(inputs: list[SizedInput], examples: list[tuple[int, ...]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one, example in zip(inputs, examples, strict=False):
        if len(one.shape) == len(example):
            for name, size in zip(one.shape, example, strict=True):
                if isinstance(name, str):
                    found.setdefault(name, size)
    return found


def _batch(names: list[str], known: Sizes, others: list[str], spread: bool) -> dict[str, int]:
    """Sizes of at least 3 for the batch: 0 and 1 are sizes that torch treats apart."""
    return dict(zip(names, BATCHES, strict=False)) | {name: 11 + 2 * i for i, name in enumerate(names[len(BATCHES) :])}


def _example_sizes(known: Sizes, others: list[str], spread: bool) -> dict[str, int]:
    """An example's sizes, equal ones made a little different with `spread`, and none of them 1."""
    found: dict[str, int] = {}
    for name in others:
        if name in known:
            size = max(2, known[name])
            while spread and size in found.values():
                size += 1
            found[name] = size
    return found


def _around(base: int, names: list[str], spread: bool) -> dict[str, int]:
    return {name: base + (i if spread else 0) for i, name in enumerate(names)}


def _distinct(found: Iterator[dict[str, int]]) -> Iterator[dict[str, int]]:
    seen: set[tuple[tuple[str, int], ...]] = set()
    for one in found:
        key = tuple(sorted(one.items()))
        if key not in seen:
            seen.add(key)
            yield one
