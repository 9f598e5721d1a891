"""The closing lines of `tracecall compare`: where two runs part or that they do not, and how the tree is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from tracecall.calls import Call, Trace
from tracecall.comparison import ADDED, REMOVED, type_in
from tracecall.views import labels
from tracecall.views.compared import Comparison, failing
from tracecall.views.errors import SHORT, nonfinite, odd
from tracecall.views.header import BAD, NOTE, QUIET
from tracecall.views.pairs import Line, calls
from tracecall.views.prose import prose
from tracecall.views.ratios import folded, how

if TYPE_CHECKING:
    from tracecall.recording.output_errors import OutputError

MOST_TYPES = 4  # of objects that could not be compared
LONGEST_ERROR = 300


def verdict(
    found: Comparison, lines: list[Line], errors: list[OutputError | None], tree: list[Text], width: int
) -> Iterator[Text]:
    """Where they part, or that they do not; what could not be compared; how `tree`, which shows the lines, is read."""
    known = [error for error in errors if error is not None]
    traces = (found.difference.before, found.difference.after)
    for who, how_failed in _failures(found):
        yield from prose(f"✗ {who} failed{how_failed}", width, BAD)
    first = found.parted
    if first is not None:
        error = found.errors[id(first)]
        far = f"relative {error.relative:.2g} > {found.tolerance:g}" if (error.relative or 0) > found.tolerance else ""
        near = ""
        if error.structures is not None and error.max_abs is not None and not far:
            near = f"the numbers compared are {'within the tolerance' if error.max_abs else 'the same'}"
        by = "; ".join(part for part in (far, odd(error), near) if part)
        beyond = sum(error.beyond(found.tolerance) for error in found.errors.values())
        yield from prose(f"✗ they part first at {_placed(traces[0], first)}: {by}", width, BAD)
        largest = _largest(found)
        worse = f"; {largest}" if largest and (error.relative or 0) < _most(found) else ""
        yield from prose(f"{calls(beyond)} of {len(found.compared):,} beyond the tolerance{worse}", width, "")
        if not any(line.pair is not None and line.pair.before is first for line in lines):
            yield from prose("the first of them is not in this part of the tree", width, NOTE)
    elif not found.compared:
        yield from prose("✗ no output could be compared", width, BAD)
    else:
        yield from prose(_agreement(found), width, "")
    yield from prose(_same_before(found), width, "")
    yield from _without_numbers(found, width)
    yield from _other_dtypes(found, width)
    yield from _left_out(found, width)
    for name, sign in zip(found.names, (REMOVED, ADDED), strict=True):
        only = sum(pair.sign == sign for _, pair in found.difference.walk())
        if only:
            yield from prose(f"{sign} {calls(only)} only in {name}", width, "")
    if found.uncompared:
        yield from prose(
            f"{calls(found.uncompared)} of both could not be compared: a second run made other calls", width, NOTE
        )
    what = "largest errors and lowest cosine"
    each = zip(lines, errors, strict=True)
    if any(line.shared and error is not None and (nonfinite(error) or error.differing) for line, error in each):
        what = f"{what}, counted together what is NaN, Inf or differs"
    yield from prose(folded(lines, f", with their {what}", f", with their total times, {what}", tree), width, QUIET)
    if any(error.nonfinite and error.max_abs is not None for error in known):
        also = ", where both are not named" if any(error.nonfinite_both for error in known) else ""
        another = ", or another in each" if any(error.nonfinite_unlike for error in known) else ""
        yield from prose(
            f"{SHORT}: NaN or Inf in one of both{another}{also}; the numbers are of what is finite", width, QUIET
        )
    if any(pair.time is not None for _, pair in found.difference.walk()):
        yield from prose(how("the second time", "the first", tree), width, QUIET)


def _failures(found: Comparison) -> list[tuple[str, str]]:
    """Which run failed, or both in the same way; where, and what it raised."""
    failed: list[tuple[str, str]] = []
    for name, trace in zip(found.names, (found.difference.before, found.difference.after), strict=True):
        if trace.error is not None:
            message = " ".join(trace.error.message.split())[:LONGEST_ERROR]
            call = failing(trace)
            where = f" at {_placed(trace, call)}" if call is not None else ""
            failed.append((name, f"{where}: {trace.error.type}: {message}"))
    return [("both", failed[0][1])] if len(failed) == 2 and failed[0][1] == failed[1][1] else failed


def _placed(trace: Trace, call: Call) -> str:
    """A call with its type and its line; a root, which no line of the model's calls, with the line that raised."""
    what = f"{call.path or 'the root'} ({type_in(trace, call)})" if call.kind == "module" else call.name
    sites = (call.site, call.error.site if call.error is not None else None)
    site = next((site for site in sites if site is not None and not labels.is_torch(site)), None)
    return what if site is None else f"{what}, {labels.place(site)}"


def _agreement(found: Comparison) -> str:
    """How far the outputs are the same, where none is beyond the tolerance."""
    errors = found.compared
    of = f"the outputs of {calls(len(errors))}"
    said, far = "within the tolerance", _largest(found)
    if not any(error.measured for error in errors):
        said, far = "nothing to measure", "all of them NaN, Inf or empty in both runs alike"
    elif all(error.identical for error in errors):
        said, far = "the same" if found.raised else "identical", "to the last bit"
    elif all(error.same for error in errors):
        said, far = "the same numbers", "" if any(_not_asked(found)) else "in other dtypes"
    said += ", as far as they were compared" if any(error.left_out for error in errors) else ""
    return f"{'before that, ' if found.raised else ''}{said}: {of}{', ' if far else ''}{far}"


def _without_numbers(found: Comparison, width: int) -> Iterator[Text]:
    """Outputs that have nothing to measure, or not everywhere, though they are alike."""
    both = [one for one, error in found.errors.items() if error.nonfinite_both]
    if both:
        have = f"{_outputs(len(both))} ha{'s' if len(both) == 1 else 've'} NaN or Inf"
        first = f"first at {found.named(both[0])}"
        yield from prose(f"{have} in both runs, {first}: errors are of what is finite", width, NOTE)
    empty = [one for one, error in found.errors.items() if error.empty and not error.elements]
    if empty:
        are = f"{_outputs(len(empty))} {'is' if len(empty) == 1 else 'are'} empty"
        yield from prose(f"{are} in both runs, first at {found.named(empty[0])}", width, NOTE)


def _other_dtypes(found: Comparison, width: int) -> Iterator[Text]:
    """Those of outputs that are not what sets the runs apart by name."""
    other = _not_asked(found)
    if other:
        have = f"{_outputs(len(other))} ha{'s' if len(other) == 1 else 've'} another dtype in each run"
        first, dtypes = other[0]
        yield from prose(f"{have}, first {' and '.join(dtypes)} at {found.named(first)}", width, NOTE)


def _not_asked(found: Comparison) -> list[tuple[int, tuple[str, str]]]:
    """Calls whose outputs have other dtypes, which the names of the runs do not tell."""
    each = [(one, error.dtypes) for one, error in found.errors.items()]
    return [(one, dtypes) for one, dtypes in each if dtypes is not None and not found.asked(dtypes)]


def _outputs(number: int) -> str:
    return f"{number:,} output{'' if number == 1 else 's'}"


def _most(found: Comparison) -> float:
    return max((error.relative or 0 for error in found.errors.values()), default=0)


def _largest(found: Comparison) -> str:
    """The largest relative error, and the first call that has it; "" where none has one."""
    most = _most(found)
    first = next((one for one, error in found.errors.items() if most and error.relative == most), None)
    return "" if first is None else f"largest relative error {most:.2g} at {found.named(first)}"


def _same_before(found: Comparison) -> str:
    """Where the first difference is, if calls before it are identical to the last bit."""
    before = 0
    for one, error in found.errors.items():
        if error.compared and not error.same:
            known = not before or (found.parted is not None and id(found.parted) == one)
            return "" if known else f"first difference at {found.named(one)}, after {calls(before)} without any"
        before += error.compared
    return ""


def _left_out(found: Comparison, width: int) -> Iterator[Text]:
    """Outputs, and parts of such, that are neither tensors with numbers, nor numbers, nor texts."""
    for whole in (True, False):
        errors = [error for error in found.errors.values() if error.left_out and error.compared is not whole]
        what = dict.fromkeys(word for error in errors for word in error.left_out)
        if errors:
            of = f"the output{'' if len(errors) == 1 else 's'} of {calls(len(errors))}"
            listed = ", ".join([*list(what)[:MOST_TYPES], *(["…"] if len(what) > MOST_TYPES else [])])
            yield from prose(
                f"not compared: {of} ({listed})" if whole else f"not compared: {listed} in {of}", width, NOTE
            )
