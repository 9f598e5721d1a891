"""From the guards of a symbolic run to what the model demands of its input.

torch guards on more than a model needs: which kernel is the faster one, which sizes are 1. So each guard is put to the
test: the model runs on concrete fake sizes that break it. Where it runs, the guard was no demand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import sympy
from sympy.logic.boolalg import And

from tracecall.recording.sites import Place
from tracecall.symbolic.formulas import Formulas, evaluator
from tracecall.symbolic.guards import Guard

Sizes = dict[str, int]
MOST = 4096
TRIES = 2  # different sizes with which the model must fail before a guard is a demand
_REACH = 40  # of the sizes around a hint that are looked at two at a time


@dataclass
class Condition:
    """A guard in the user's names that can be asked of sizes."""

    expr: sympy.Basic
    guard: Guard
    names: tuple[str, ...]
    holds: Callable[..., Any]
    tried: Sizes = field(default_factory=dict)  # sizes that break it, with which the model failed

    def of(self, sizes: Mapping[str, int]) -> bool:
        """Whether it holds; a division by nothing breaks it."""
        try:
            return bool(self.holds(*[sizes[name] for name in self.names]))
        except (ZeroDivisionError, ValueError, OverflowError):
            return False


@dataclass
class Outcome:
    """The guards, sorted by what running the model said about them."""

    demanded: list[Condition] = field(default_factory=list)
    branching: list[tuple[Condition, Sizes]] = field(default_factory=list)  # no demand: other shapes with these sizes
    despite: list[tuple[Condition, Sizes]] = field(default_factory=list)  # a demand, and yet these sizes ran
    untried: list[Condition] = field(default_factory=list)


def conditions(guards: list[Guard], formulas: Formulas) -> list[Condition]:
    """The guards as conditions, each once; those about values are left out."""
    found: dict[str, Condition] = {}
    for guard in guards:
        named = formulas.named(guard.expr)
        if named is None:
            continue
        for part in named.args if isinstance(named, And) else (named,):
            names = tuple(sorted(symbol.name for symbol in part.free_symbols))
            if names and str(part) not in found:
                found[str(part)] = Condition(part, guard, names, evaluator(part, names))
    return list(found.values())


def sort_out(
    waiting: list[Condition],
    hints: Sizes,
    runs: Callable[[Sizes], bool | None],
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Try each condition. `runs` says of sizes: False, the model failed; None, it ran with other shapes; True, as said.

    Conditions that are left when the time is up are counted, and claimed of no model.
    """
    outcome = Outcome()
    until = clock() + seconds
    answers: dict[tuple[int, ...], bool | None] = {}

    def ask(sizes: Sizes) -> bool | None:
        key = tuple(sizes[name] for name in hints)
        if key not in answers:
            answers[key] = runs(sizes)
        return answers[key]

    order = {id(one): i for i, one in enumerate(waiting)}
    waiting = sorted(waiting, key=lambda one: _strength(one.expr))
    otherwise: list[Sizes] = []
    for sizes in _probes(hints):
        if clock() > until:
            break
        broken = [one for one in waiting if not one.of(sizes)]
        answer = ask(sizes) if broken else False
        if answer is None:
            otherwise.append(sizes)
        elif answer:
            waiting = [one for one in waiting if one not in broken]
    for one in waiting:
        if clock() > until:
            outcome.untried.append(one)
        else:
            _try(one, waiting, outcome, hints, ask)
    outcome.demanded = _without_implied(outcome.demanded, hints)
    outcome.demanded.sort(key=lambda one: order[id(one)])
    for one in outcome.demanded:
        outcome.despite.extend((one, sizes) for sizes in otherwise if not one.of(sizes))
    outcome.branching = _each_once(outcome.branching)
    return outcome


def _try(
    one: Condition, all_of_them: list[Condition], outcome: Outcome, hints: Sizes, ask: Callable[[Sizes], bool | None]
) -> None:
    """Run the model with sizes that break this condition, and as few others as can be."""
    breaking = [
        sizes
        for sizes in _around(one.names, hints)
        if not one.of(sizes) and all(two.of(sizes) for two in outcome.demanded)
    ]
    # the nearest sizes are what a reader would try; but what breaks other conditions too proves less, and an equality
    # is what the others follow from
    equality = isinstance(one.expr, sympy.Eq)

    def order(sizes: Sizes) -> tuple[int, tuple[int, int]]:
        return 0 if equality else sum(not two.of(sizes) for two in all_of_them), _distance(sizes, hints)

    breaking.sort(key=order)
    answers = [ask(sizes) for sizes in breaking[:TRIES]]
    if not answers or True in answers:
        return
    if answers[0] is None:
        outcome.branching.append((one, breaking[0]))
    else:
        one.tried = breaking[0]
        outcome.demanded.append(one)


def _strength(expr: sympy.Basic) -> tuple[int, int, bool, int]:
    """Equalities first, of fewer dimensions first: what they demand explains much of the rest."""
    order = 0 if isinstance(expr, sympy.Eq) else 2 if isinstance(expr, sympy.Ne) else 1
    divides = any("Mod" in type(part).__name__ for part in sympy.preorder_traversal(expr))
    return order, len(expr.free_symbols), divides, len(str(expr))


def _probes(hints: Sizes) -> Iterator[Sizes]:
    """A few runs that clear most guards: each size alone and all together, small, large and a little different."""
    for change in (lambda n: n + 1, lambda n: 2 * n, lambda n: 1, lambda n: 16 * n + 3):
        yield {name: change(size) for name, size in hints.items()}
    for name, size in hints.items():
        for other in (size + 1, 2 * size, 1, 2, 16 * size + 3):
            yield {**hints, name: other}


def _around(names: tuple[str, ...], hints: Sizes) -> Iterator[Sizes]:
    """Sizes near the hints: each name alone over its whole range, then two names together."""
    for name in names:
        for size in sorted(range(1, MOST + 1), key=lambda n: abs(n - hints[name])):
            yield {**hints, name: size}
    for first, second in combinations(names, 2):
        for a, b in product(_near(hints[first]), _near(hints[second])):
            yield {**hints, first: a, second: b}


def _near(size: int) -> range:
    return range(max(1, size - _REACH), size + _REACH)


def _distance(sizes: Sizes, hints: Sizes) -> tuple[int, int]:
    """Fewer changed names first, then smaller changes; 1 is a special size and comes late."""
    changed = [name for name in hints if sizes[name] != hints[name]]
    return len(changed), sum(abs(sizes[name] - hints[name]) + 10_000 * (sizes[name] == 1) for name in changed)


def _without_implied(demanded: list[Condition], hints: Sizes) -> list[Condition]:
    """Without those that the others say already."""
    kept = list(demanded)
    for one in reversed(demanded):
        others = [two for two in kept if two is not one]
        about = [two for two in others if set(two.names) & set(one.names)]
        if about and not any(
            not one.of(sizes) and all(two.of(sizes) for two in about)
            for sizes in _around(tuple(sorted({*one.names, *(n for two in about for n in two.names)})), hints)
        ):
            kept.remove(one)
    return kept


def _each_once(found: list[tuple[Condition, Sizes]]) -> list[tuple[Condition, Sizes]]:
    """Of several at one place in the code, the first."""
    kept: dict[Place | None, tuple[Condition, Sizes]] = {}
    for condition, sizes in found:
        kept.setdefault(condition.guard.place, (condition, sizes))
    return list(kept.values())
