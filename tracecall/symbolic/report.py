"""`shapes`: run a model on fake tensors and report its shapes as formulas of the named dimensions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sympy import Eq
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils._sympy.functions import FloorDiv, Mod

from tracecall.calls import TensorSpec, Value
from tracecall.demands import Demand, ShapeReport
from tracecall.recording.recorder import Operations
from tracecall.symbolic import fitted
from tracecall.symbolic.demands import Outcome, Sizes, conditions, sort_out
from tracecall.symbolic.dims import SizedInput, candidates
from tracecall.symbolic.formulas import UNKNOWN, Formulas
from tracecall.symbolic.guards import site_of
from tracecall.symbolic.rewriting import (
    as_expected,
    clean,
    expected_shapes,
    keeps_names,
    numbers,
    signature,
    specs,
    what_differs,
)
from tracecall.symbolic.running import Run, Subject, run, telling_sizes
from tracecall.symbolic.solving import condition_text, divisors, origin, sizes_line
from tracecall.symbolic.solving import demands as solved_demands

SEARCH = 20.0  # seconds for finding sizes with which the model runs
TRIALS = 6.0  # seconds for trying the demands
LARGE = 1500  # calls: a model of more is not run again for what is seldom demanded
UNTRIED = 3  # conditions that are listed
LARGER = (4,)  # times the sizes that were found: a second run with these behind the symbols

Progress = Callable[[str], None]


def shapes(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    operations: Operations = "forward",
    examples: Iterable[tuple[int, ...]] = (),
    progress: Progress = lambda text: None,
) -> ShapeReport:
    """Run `model` on fake tensors: no memory, no arithmetic. SizedInputs among the arguments stand for tensors.

    Where a size is a name, shapes are formulas of the names; otherwise they are numbers. `examples` are shapes of
    inputs that the model is known to take, one for each SizedInput. A failed run is told in the Trace's `error`.
    """
    subject = Subject(model, args, kwargs or {}, operations)
    sized = [leaf for leaf in tree_leaves((subject.args, subject.kwargs)) if isinstance(leaf, SizedInput)]
    if not any(one.names() for one in sized):
        plain = run(subject, {}, symbolic=False)
        clean(plain.trace, numbers)
        return _unknown(ShapeReport(plain.trace, signature(plain.trace), notes=_assumptions(plain)))
    until = time.monotonic() + SEARCH
    failed: list[tuple[Run, Sizes]] = []
    mixed: tuple[Run, Sizes] | None = None
    for number, sizes in enumerate(candidates(sized, examples, telling_sizes(model))):
        if (failed or mixed) and time.monotonic() > until:
            break
        progress(f"looking for sizes that fit, {number + 1}: {sizes_line(sizes)}")
        # what fails once will mostly fail again: the plain run tells sooner whether these sizes are the reason
        found = run(subject, sizes, symbolic=True) if not failed else None
        if found is None or found.error is not None:
            concrete = run(subject, sizes, symbolic=False)
            if concrete.error is not None:
                failed.append((concrete, sizes))
                continue
            found = run(subject, sizes, symbolic=True) if found is None else found
            if found.error is not None:
                return _fallen_back(subject, found, concrete, sizes)
        if not _mixes(found, sized):
            return _formulated(subject, found, sizes, progress)
        mixed = mixed or (found, sizes)
    if mixed is not None:
        return _formulated(subject, *mixed, progress)
    return _unrunnable(failed, time.monotonic() > until)


def _mixes(found: Run, sized: list[SizedInput]) -> bool:
    """Whether the output's sizes are quotients of the batch: it was cut up anew, and other sizes may leave it whole."""
    formulas = Formulas(found.names)
    batches = {one.shape[0] for one in sized if isinstance(one.shape[0], str)}
    texts = [size for call in found.trace.calls for value in call.output for size in _symbolic_sizes(value)]
    exprs = [expr for text in texts if (expr := formulas.parse(text)) is not None]
    return any(
        symbol.name in batches for expr in exprs for part in expr.atoms(FloorDiv, Mod) for symbol in part.free_symbols
    )


def _symbolic_sizes(value: Value) -> list[str]:
    return [size for size in value.value.shape if isinstance(size, str)] if isinstance(value.value, TensorSpec) else []


def _unrunnable(failed: list[tuple[Run, Sizes]], late: bool) -> ShapeReport:
    """No sizes were found: the run that came furthest, with numbers."""
    furthest, sizes = max(failed, key=lambda one: sum(1 for _ in one[0].trace.walk()))
    clean(furthest.trace, numbers)
    said = f"with none of {len(failed)} choices of sizes does the model run"
    if late:
        said = (
            f"the time for trying ended after {len(failed)} choice{'s'[: len(failed) > 1]} of sizes, none of which runs"
        )
    note = f"shown for {sizes_line(sizes)}: {said}"
    return ShapeReport(furthest.trace, signature(furthest.trace), notes=[note], sizes=sizes)


@dataclass
class _Tried:
    """A symbolic run, and what was found out about its guards."""

    found: Run
    sizes: Sizes
    formulas: Formulas
    outcome: Outcome
    runs: Callable[[Sizes], bool | None]
    failures: dict[str, Run]
    signatures: dict[str, str]
    kept: dict[str, bool]  # whether the output has the sizes that the names say, by the sizes of a run
    differences: dict[str, str]  # in which way a run is not as the formulas say


def _formulated(subject: Subject, found: Run, sizes: Sizes, progress: Progress) -> ShapeReport:
    """A symbolic run with its shapes in the user's names, and its guards as demands that were tried."""
    until = time.monotonic() + TRIALS
    loose = _loose(subject, found, sizes)
    if loose:
        concrete = run(subject, sizes, symbolic=False)
        if concrete.error is None:
            reason = "; ".join(f"{where} makes {name} a number" for name, where in loose.items())
            fallback = _fitted(subject, concrete, sizes, reason)
            if fallback is not None:
                return fallback
        # a loop over the dimension, say: the tree is that of one size, and a small one is the easier to read
        smaller = {**sizes, **{name: 2 + i for i, name in enumerate(loose)}}
        again = run(subject, smaller, symbolic=True)
        if again.error is None:
            found, sizes = again, smaller
    best = _tried(subject, found, sizes, progress)
    for factor in LARGER if best.outcome.branching and not loose else ():
        # with larger sizes behind the symbols fewer comparisons may go a special way: none is 1 inside, say
        larger = {name: factor * size + i for i, (name, size) in enumerate(sizes.items())}
        if time.monotonic() < until:
            again = run(subject, larger, symbolic=True)
            if again.error is None:
                second = _tried(subject, again, larger, progress)
                if len(second.outcome.branching) < len(best.outcome.branching):
                    best = second
    large = sum(1 for _ in best.found.trace.walk()) > LARGE
    return _reported(best, 0 if large else until + TRIALS)


def _loose(subject: Subject, found: Run, sizes: Sizes) -> dict[str, str]:
    """The names that the run fixed although the model runs with other sizes, with what fixed each."""
    loose = {}
    for one in conditions(found.guards, Formulas(found.names)):
        if isinstance(one.expr, Eq) and len(one.names) == 1 and one.names[0] not in loose:
            (name,) = one.names
            fixed = [size for size in range(1, 2 * sizes[name] + 2) if one.of({name: size})] == [sizes[name]]
            if (
                fixed
                and run(replace(subject, operations="none"), {**sizes, name: sizes[name] + 1}, symbolic=False).error
                is None
            ):
                what, site = origin(one.guard)
                loose[name] = (what or "the model") + (f" at {site.file}:{site.line}" if site is not None else "")
    return loose


def _tried(subject: Subject, found: Run, sizes: Sizes, progress: Progress) -> _Tried:
    formulas = Formulas(found.names)
    expected = expected_shapes(found.trace, formulas)
    failures: dict[str, Run] = {}
    signatures: dict[str, str] = {}
    kept: dict[str, bool] = {}
    differences: dict[str, str] = {}

    def runs(changed: Sizes) -> bool | None:
        other = {**sizes, **changed}
        progress(f"trying {sizes_line(other)}")
        tried = run(replace(subject, operations="none"), other, symbolic=False)
        if tried.error is not None:
            failures[sizes_line(other)] = tried
            return False
        line = sizes_line(other)
        signatures[line] = signature(tried.trace).partition(": ")[2]
        if as_expected(expected, tried.trace, other):
            return True
        kept[line] = keeps_names(expected, found.trace, tried.trace, other)
        differences[line] = what_differs(expected, tried.trace, other)
        return None

    symbolic = {name: size for name, size in sizes.items() if name in found.names.values()}
    outcome = sort_out(conditions(found.guards, formulas), symbolic, runs, seconds=TRIALS)
    return _Tried(found, sizes, formulas, outcome, runs, failures, signatures, kept, differences)


def _reported(tried: _Tried, until: float) -> ShapeReport:
    found, sizes, formulas, outcome = tried.found, tried.sizes, tried.formulas, tried.outcome
    formulas.divisible.update(divisors(outcome.demanded))
    # a demand that sizes break without any harm to what the output's names say is one of the tree that is shown
    refuted = {id(one) for one, other in outcome.despite if tried.kept[sizes_line({**sizes, **other})]}

    def fails(name: str, size: int) -> bool:
        other = {**sizes, name: size}
        if time.monotonic() > until or not all(one.of(other) for one in outcome.demanded):
            return False
        return tried.runs(other) is False

    demands = solved_demands([one for one in outcome.demanded if id(one) not in refuted], formulas, fails)
    notes = _assumptions(found)
    # torch's symbols are at least 2: that a size of 1 fails, no guard says; mostly one run shows that none does
    ones = dict.fromkeys(found.names.values(), 1)
    small = all(one.of(ones) for one in outcome.demanded) and time.monotonic() < until and tried.runs(ones) is not False
    for name in sizes:
        if name not in found.names.values():
            notes.append(f"{name} is {sizes[name]} here: torch treats a size of 1 apart, and no other was found to run")
            continue
        other = {**sizes, name: 1}
        if small or time.monotonic() > until or not all(one.of(other) for one in outcome.demanded):
            continue
        if tried.runs(other) is False:
            demands.append(_two_at_least(name, tried.failures[sizes_line(other)], other))
    notes += _branches(tried)
    notes += _despite(tried, refuted, formulas)
    if outcome.untried:
        texts = [condition_text(one.expr) for one in outcome.untried]
        more = f" and {len(texts) - UNTRIED} more" if len(texts) > UNTRIED else ""
        notes.append(
            f"the time for trying ended before it was tried whether {', '.join(texts[:UNTRIED])}{more} is needed"
        )
    clean(found.trace, formulas.text)
    return _unknown(ShapeReport(found.trace, signature(found.trace), demands, notes, dict(sizes)))


def _two_at_least(name: str, failed: Run, sizes: Sizes) -> Demand:
    """A size of 1 fails: where, says the run that failed."""
    failing = failed.trace.failing()
    error = failed.trace.error
    site = (failing.site if failing is not None else None) or (error.site if error is not None else None)
    what = failing.path if failing is not None and failing.kind == "module" else failing.name if failing else ""
    return Demand(f"{name} ≥ 2", [name], what, site, tried=dict(sizes))


def _fallen_back(subject: Subject, found: Run, concrete: Run, sizes: Sizes) -> ShapeReport:
    """The model runs on these sizes and refuses symbolic ones: formulas that several concrete runs agree on."""
    failing = found.trace.failing()
    where = "" if failing is None else failing.path if failing.kind == "module" else failing.name
    site = None if failing is None else failing.site
    at = "" if site is None else f" at {site.file}:{site.line}"
    reason = f"{where or type(subject.model).__name__}{at} refuses symbolic sizes"
    fallback = _fitted(subject, concrete, sizes, reason)
    if fallback is not None:
        return fallback
    clean(concrete.trace, numbers)
    note = f"{reason}: concrete fake sizes, {sizes_line(sizes)}"
    return ShapeReport(
        concrete.trace, signature(concrete.trace), notes=[note, *_assumptions(concrete)], sizes=dict(sizes)
    )


def _fitted(subject: Subject, concrete: Run, sizes: Sizes, reason: str) -> ShapeReport | None:
    """Formulas that several runs on concrete fake sizes agree on; None where those runs are not alike."""
    runs = fitted.fit(concrete.trace, sizes, lambda other: run(subject, other, symbolic=False))
    if not runs:
        return None
    clean(concrete.trace, _as_it_is)
    note = f"{reason}: the formulas are what {runs} runs on concrete fake sizes agree on"
    unknown = any(UNKNOWN in spec.shape for spec in specs(concrete.trace))
    notes = [note + (", ? where they do not" if unknown else "")]
    notes += _assumptions(concrete)
    return ShapeReport(concrete.trace, signature(concrete.trace), notes=notes, sizes=dict(sizes))


def _as_it_is(size: str) -> str:
    return size


# what a run says beside its shapes


def _assumptions(found: Run) -> list[str]:
    """What depended on values, which fake tensors do not have."""
    notes = []
    for one in found.assumed:
        site = site_of(one.place)
        where = "the model" if site is None else f"{_short(site.text)} at {site.file}:{site.line}"
        notes.append(f"{where} depends on values, which fake tensors do not have: taken to be {one.taken}")
    return notes


def _unknown(report: ShapeReport) -> ShapeReport:
    """Say what "?" is, where it stands in the tree."""
    if any(UNKNOWN in spec.shape for spec in specs(report.trace)):
        report.notes.append(f"{UNKNOWN} is a size that depends on values")
    return report


def _despite(tried: _Tried, refuted: set[int], formulas: Formulas) -> list[str]:
    """Sizes that run although a condition does not hold, one line for each condition."""
    notes: dict[int, str] = {}
    for one, other in tried.outcome.despite:
        line = sizes_line({**tried.sizes, **other})
        if id(one) in notes or (id(one) in refuted and not tried.kept[line]):
            continue
        if id(one) in refuted:
            (told,) = solved_demands([one], formulas)
            name, site = origin(one.guard)
            at = f" at {site.file}:{site.line}" if site is not None else ""
            notes[id(one)] = (
                f"shown for {told.text}, on which {name or 'the model'}{at} depends: {line} runs too,"
                f" {tried.differences[line]}: {tried.signatures[line]}"
            )
        else:
            notes[id(one)] = (
                f"{line} runs too, though {condition_text(one.expr)} does not hold: {tried.signatures[line]}"
            )
    return list(notes.values())


def _branches(tried: _Tried) -> list[str]:
    notes = []
    for one, sizes in tried.outcome.branching:
        name, site = origin(one.guard)
        at = f" at {site.file}:{site.line}" if site is not None else ""
        notes.append(
            f"the tree is that of {condition_text(one.expr)}, on which {name or 'the model'}{at} depends:"
            f" with {sizes_line({key: sizes[key] for key in one.names})} the model runs too,"
            f" {tried.differences[sizes_line({**tried.sizes, **sizes})]}"
        )
    return notes


def _short(text: str | None) -> str:
    text = " ".join((text or "a value").split())
    return text if len(text) <= 60 else text[:59] + "…"
