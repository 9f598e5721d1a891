"""The error of a call's output as text; of several calls that share a line, the worst."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from tracecall.views import labels

if TYPE_CHECKING:
    from tracecall.recording.output_errors import OutputError

Number = TypeVar("Number", int, float)


def likeness(error: OutputError | None, tolerance: float) -> Hashable:
    """What a line says of an error but for how large it is: the same for those that may share one."""
    if error is None:
        return None
    return (
        error.beyond(tolerance),
        None if error.max_abs is None else error.max_abs > 0,  # the same to the last bit, or not
        bool(error.nonfinite),
        bool(error.nonfinite_both),
        error.elements == 0,
        error.differing is None,
        bool(error.differing),
        error.shapes,
        error.structures,
        error.dtypes,
        tuple(error.left_out),
        error.compared,
    )


def worst(errors: Sequence[OutputError]) -> OutputError | None:
    """The largest of each number, the smallest cosine, and together what is counted; None of none."""
    if len(errors) < 2:
        return errors[0] if errors else None
    return msgspec.structs.replace(
        errors[0],
        elements=sum(error.elements for error in errors),
        max_abs=_of(max, [error.max_abs for error in errors]),
        relative=_of(max, [error.relative for error in errors]),
        cosine=_of(min, [error.cosine for error in errors]),
        nonfinite=sum(error.nonfinite for error in errors),
        nonfinite_unlike=sum(error.nonfinite_unlike for error in errors),
        nonfinite_both=sum(error.nonfinite_both for error in errors),
        differing=_of(sum, [error.differing for error in errors]),
    )


def _of(what: Callable[[list[Number]], Number], numbers: Sequence[Number | None]) -> Number | None:
    """Of those that there are."""
    known = [number for number in numbers if number is not None]
    return what(known) if known else None


def small(value: float | None) -> str:
    """A distance in two digits, 3.1e-05."""
    return "" if value is None else "0" if value == 0 else f"{value:.1e}"


def cosine(error: OutputError | None) -> str:
    """The cosine of both outputs; 1 only where they are the same."""
    if error is None or error.cosine is None:
        return ""
    return "1" if not error.max_abs else f"{error.cosine:.6f}"


SHORT = "NaN/Inf"  # as it is written beside numbers


def odd(error: OutputError | None, *, short: bool = False) -> str:
    """What has no such numbers; `short` where it stands beside those, NaN first."""
    if error is None:
        return ""
    parts = [nonfinite(error, short=short)]
    if error.shapes is not None:
        parts.append(f"shapes {' and '.join(error.shapes)}")
    if error.structures is not None:
        parts.append(" and ".join(error.structures))
    if error.differing is not None:
        parts.append(
            f"{labels.count(error.differing)} of {labels.count(error.elements)} differ" if error.differing else "same"
        )
    if error.empty and not error.elements:
        parts.append("empty")
    if error.left_out:
        nothing = not (error.compared or error.uncompared)
        parts.append(f"not compared: {'no tensor in it' if nothing else ', '.join(error.left_out)}")
    return labels.safe("; ".join(filter(None, parts)))


def nonfinite(error: OutputError, *, short: bool = False) -> str:
    """How many are NaN or Inf in one run, and in both: "2 NaN or Inf in one, 3 in both"."""
    of = SHORT if short else "NaN or Inf"
    one, both = labels.count(error.nonfinite), labels.count(error.nonfinite_both)
    where = "unlike" if error.nonfinite_unlike else "in one"
    if not error.nonfinite_both:
        return f"{one} {of}{'' if short and where == 'in one' else f' {where}'}" if error.nonfinite else ""
    if error.nonfinite:
        return f"{one} {of} {where}, {both} in both"
    return f"{'all' if error.nonfinite_both == error.elements else both} {of} in both"
