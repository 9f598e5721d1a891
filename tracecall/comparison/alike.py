"""Which pairs may share a line: siblings that are alike in both traces, and as far apart.

Numbers are made bottom-up and once for each pair, of those siblings alone of which enough look alike from outside; so
the cost is linear, and small where nothing repeats.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from tracecall.calls import Call
from tracecall.comparison.changes import Change
from tracecall.comparison.times import MARGIN, Ratio, taken
from tracecall.comparison.trees import Pair

FEWEST = 3  # fewer share no line
FAR, SHARE = 1.5, 0.01  # times the ratio in the middle of those alike; of the time of all


class Signs(Protocol):
    """Numbers for the calls of one trace, by the id of the call."""

    @property
    def exact(self) -> dict[int, int]:
        """The same for calls that are alike with all that is inside them."""

    @property
    def unsized(self) -> dict[int, int]:
        """The same for calls that are alike but for sizes."""

    def add(self, calls: list[Call]) -> None:
        """Number these calls and all inside them."""


class Alike:
    """What makes pairs alike: their calls on both sides, their changes, and what is inside them.

    Those of one module may differ in sizes, as the rounds of a loop do that grow: no line tells the sizes of a pair,
    but where they changed, and then they are part of what makes it alike.
    One that is slower or faster by far where those alike are not is not alike, nor what it is in.
    """

    def __init__(
        self,
        before: Signs,
        after: Signs,
        *,
        roots: Sequence[Pair] = (),
        shown: Callable[[Pair], bool] = lambda _: True,
        said: Callable[[Pair], Hashable] = lambda _: None,
    ) -> None:
        """`roots` have the time of all; `shown`: whether a pair may have a line, `said`: what else it says there."""
        self._before, self._after = before, after
        self._whole = {"device": _whole(roots, device=True), "host": _whole(roots, device=False)}
        self._shown, self._said = shown, said
        self._keys: dict[int, tuple[int, int]] = {}  # the second for any sizes
        self._lines: dict[int, int] = {}
        self._numbers: dict[Hashable, int] = {}

    def keys(self, siblings: Sequence[Pair]) -> list[tuple[int, int]] | None:
        """Two numbers for each, for those that are alike and for those that are so but for sizes; None of no others."""
        seen = [_from_outside(pair) for pair in siblings]
        counts = Counter(one for one, pair in zip(seen, siblings, strict=True) if self._shown(pair))
        if not any(times >= FEWEST for times in counts.values()):
            return None
        self._add([pair for pair in siblings if id(pair) not in self._keys])
        return [(exact, self._loose(pair, unsized)) for pair in siblings for exact, unsized in (self._keys[id(pair)],)]

    def number(self, key: Hashable) -> int:
        """The same number for equal keys."""
        return self._numbers.setdefault(key, len(self._numbers))

    def lines(self, pair: Pair) -> int:
        """How many pairs it is, with those inside."""
        return self._lines[id(pair)]

    def leads(self, pair: Pair) -> bool:
        """A module's call: what is done with its output follows it."""
        return pair.call.kind == "module"

    def written(self, pair: Pair) -> tuple[str, int] | None:
        """The line of code that made the call."""
        site = pair.call.site
        return None if site is None else (site.file, site.line)

    def _add(self, siblings: list[Pair]) -> None:
        """Number siblings and all inside them, each after those inside it."""
        pairs: list[Pair] = []
        waiting = list(siblings)
        while waiting:
            pair = waiting.pop()
            pairs.append(pair)
            if pair.children:
                waiting.extend(pair.children)
        self._before.add([pair.before for pair in siblings if pair.before is not None])
        self._after.add([pair.after for pair in siblings if pair.after is not None])
        signs = [_sign(pair, self._before.exact, self._after.exact) for pair in pairs]
        apart = _apart(pairs, signs, self._whole)
        for pair, sign in zip(reversed(pairs), reversed(signs), strict=True):
            inside = [self._keys[id(child)] for child in pair.children] if pair.children else []
            told = _same_for_all(pair.changes), pair.asked, bool(pair.call.reads), self._said(pair), apart.get(id(pair))
            exact = self.number((sign, told, tuple([one for one, _ in inside])))
            sign = _sign(pair, self._before.unsized, self._after.unsized)
            unsized = self.number((sign, told, tuple([one for _, one in inside]), "unsized"))
            self._keys[id(pair)] = exact, unsized
            self._lines[id(pair)] = 1 + sum([self._lines[id(child)] for child in pair.children or ()])

    def _loose(self, pair: Pair, unsized: int) -> int:
        """A number for calls of one module that are alike but for sizes."""
        return self.number((pair.call.path, pair.call.name, unsized, "loose"))


def _sign(pair: Pair, before: dict[int, int], after: dict[int, int]) -> tuple[int | None, int | None]:
    return (
        None if pair.before is None else before[id(pair.before)],
        None if pair.after is None else after[id(pair.after)],
    )


def _same_for_all(changes: list[Change]) -> tuple[Change, ...]:
    """Changes, but for the index in a name: `blocks.0 → layers.0` is one with `blocks.1 → layers.1`."""
    return tuple(
        Change(one.what, _DIGITS.sub("0", one.before), _DIGITS.sub("0", one.after)) if one.what == "name" else one
        for one in changes
    )


_DIGITS = re.compile(r"\d+")


def _from_outside(pair: Pair) -> Hashable:
    return (pair.types, pair.before is None, pair.after is None, len(pair.children), len(pair.changes))


def _whole(roots: Sequence[Pair], *, device: bool) -> int:
    """What the root calls took, in the trace where that was more."""
    sides = [pair.before for pair in roots], [pair.after for pair in roots]
    times = [taken([[call for call in side if call is not None]], device) for side in sides]
    return max(0 if time is None else time.ns for time in times)


def _apart(pairs: list[Pair], signs: list[tuple[int | None, int | None]], whole: dict[str, int]) -> dict[int, str]:
    """What is slower or faster by far where most calls alike are not, and matters beside the time of all.

    A smaller difference is left to the line of all, which counts such: else noise would part it again and again.
    """
    timed: defaultdict[tuple[int | None, int | None], list[tuple[Pair, Ratio]]] = defaultdict(list)
    for pair, sign in zip(pairs, signs, strict=True):
        if pair.time is not None:
            timed[sign].append((pair, pair.time))
    found: dict[int, str] = {}
    for same in timed.values():
        verdicts = Counter(time.verdict for _, time in same)
        if len(verdicts) == 1:
            continue
        usual = verdicts.most_common(1)[0][0]
        ratios = sorted(time.ratio for _, time in same)
        middle = ratios[len(ratios) // 2]
        for pair, time in same:
            if time.verdict == usual or abs(time.after_ns - middle * time.before_ns) < SHARE * whole[time.clock]:
                continue
            if time.ratio > FAR * middle and time.low is not None and time.low > MARGIN * middle:
                found[id(pair)] = "slower"
            elif time.ratio * FAR < middle and time.high is not None and time.high * MARGIN < middle:
                found[id(pair)] = "faster"
    return found
