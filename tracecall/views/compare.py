"""What `tracecall compare` prints: the calls of two runs with the error of each output, and where they part."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from tracecall.calls import Call
from tracecall.comparison import ADDED, REMOVED, Difference, Pair, model_of, type_in
from tracecall.views import labels
from tracecall.views.errors import SHORT, cosine, likeness, odd, small, worst
from tracecall.views.header import BAD, MODULE, NOTE, QUIET
from tracecall.views.merged import KEPT, Column, folded, grid, how, times
from tracecall.views.pairs import Line, Pairs, Shared, calls, seen, tree_lines, type_text

if TYPE_CHECKING:
    from tracecall.recording.output_errors import OutputError

BEYOND = "✗"
LONGEST_NAME = 12
MOST_TYPES = 4  # of objects that could not be compared
LONGEST_ERROR = 300
LONGEST_ODD = 32


@dataclass
class Comparison:
    """All that the page says: both runs, the error of each pair's output in the order in which the calls ended."""

    difference: Difference
    errors: dict[int, OutputError]  # by the id of the first run's call
    names: tuple[str, str]  # what sets the runs apart: "float32", "bfloat16"
    tolerance: float  # of `OutputError.relative`
    why: str  # where it comes from: "the default for bfloat16", "--tolerance"
    uncompared: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def parted(self) -> Call | None:
        """The first call whose outputs are further apart than the tolerance."""
        first = next((one for one, error in self.errors.items() if error.beyond(self.tolerance)), None)
        return None if first is None else self._calls[first]

    @property
    def failed(self) -> bool:
        """Whether anything is beyond the tolerance, a forward raised, or there was nothing to compare."""
        traces = (self.difference.before, self.difference.after)
        return self.parted is not None or not self.compared or any(trace.error is not None for trace in traces)

    @property
    def compared(self) -> list[OutputError]:
        """The errors of outputs of which anything could be compared."""
        return [error for error in self.errors.values() if error.compared]

    def named(self, first: int) -> str:
        """A call by the id of the first run's: a module by its path, an operation with that of its module."""
        call = self._calls[first]
        if call.kind == "module":
            return call.path or "the root"
        return f"{call.name} in {call.path}" if call.path else call.name

    @property
    def _calls(self) -> dict[int, Call]:
        return {id(pair.before): pair.before for _, pair in self.difference.walk() if pair.before is not None}


def compare(
    found: Comparison,
    *,
    part: Difference | None = None,
    width: int = 100,
    depth: int | None = None,
    operations: str = "forward",
    fold: bool = True,
) -> RenderableType:
    """The header, the tree, where the runs part.

    `part` is what the tree shows, all if not given; `depth` counts module calls below the root, None for all of them;
    `fold` makes one line of calls that are alike. What is said below the tree is about the whole runs in any case.
    """
    parted = found.parted

    def is_seen(pair: Pair) -> bool:
        return seen(pair, operations) or (parted is not None and pair.before is parted)

    def said(pair: Pair) -> Hashable:
        """The first that is beyond the tolerance has a line of its own."""
        first = parted is not None and pair.before is parted
        return id(parted) if first else likeness(found.errors.get(id(pair.before)), found.tolerance)

    shared = Shared(part or found.difference, fold=fold, seen=is_seen, said=said)

    def children(pairs: Pairs, level: int) -> list[Pairs | int]:
        if depth is not None and level > depth:
            return []
        gone = pairs.first.sign in (ADDED, REMOVED) and not pairs.members
        return [] if gone else list(shared.inside(pairs))

    lines = list(tree_lines(shared, children))
    errors = [None if line.in_turn else worst(_errors(found, line)) for line in lines]
    for line, error in zip(lines, errors, strict=True):
        if line.sign not in (ADDED, REMOVED):  # another dtype or device is what was asked for
            line.sign = BEYOND if error is not None and error.beyond(found.tolerance) else ""
    tree = grid(lines, _columns(found, lines, errors), width)
    return Group(*_header(found, width), Text(), *tree, Text(), *_verdict(found, lines, errors, tree, width))


def _errors(found: Comparison, line: Line) -> list[OutputError]:
    """Those of the calls of a line."""
    pairs = [] if line.pairs is None else line.pairs.all
    return [found.errors[id(pair.before)] for pair in pairs if id(pair.before) in found.errors]


def _columns(found: Comparison, lines: list[Line], errors: list[OutputError | None]) -> list[Column]:
    def style(i: int) -> str:
        error = errors[i]
        return BAD if error is not None and error.beyond(found.tolerance) else ""

    names = found.names if all(len(name) <= LONGEST_NAME for name in found.names) else ("first", "second")
    # what has no number is said instead of the numbers, so that it stays where room is short
    instead = [_bounded(odd(error)) if error is not None and error.max_abs is None else "" for error in errors]
    beside = ["" if one else _bounded(odd(error, short=True)) for one, error in zip(instead, errors, strict=True)]
    counted = (beside[i].partition(";")[0] for i, error in enumerate(errors) if error is not None and error.nonfinite)
    return [
        Column("", [_types(line) for line in lines], lambda _: QUIET, right=False, rank=1, least=10),
        Column(
            "max abs",
            [small(None if error is None else error.max_abs) for error in errors],
            style,
            over=instead,
            reach=3,
        ),
        Column("relative", [small(None if error is None else error.relative) for error in errors], style),
        Column("cosine", [cosine(error) for error in errors], style, rank=KEPT),
        Column("", beside, style, right=False, rank=KEPT + 1, least=max([10, *(len(text) + 1 for text in counted)])),
        *times(lines, names, ("1st", "2nd"), spread=3),
    ]


def _bounded(text: str) -> str:
    return labels.pad(text, LONGEST_ODD).rstrip()


def _types(line: Line) -> str:
    """The type of a module; both, where the runs have another one at that place."""
    pair = line.pair
    if pair is None or pair.before is None or pair.after is None or pair.types[0] == pair.types[1]:
        return type_text(line.pairs)
    return labels.safe(" → ".join(pair.types)) if pair.call.kind == "module" and not line.in_turn else ""


def _header(found: Comparison, width: int) -> Iterator[Text]:
    """What ran, how, and by what it is judged."""
    trace = found.difference.before
    mode = {"inference": "inference mode", "no_grad": "no_grad", "grad": "grad"}[trace.settings.grad_mode]
    lines = [Text(labels.safe(model_of(trace)), MODULE, overflow="fold")]
    for part, style in (
        (labels.safe(trace.model.origin or ""), QUIET),
        (f"{labels.safe(found.names[0])} against {labels.safe(found.names[1])}", "not bold"),
        (f"{'train' if trace.model.training else 'eval'}, {mode}", "not bold"),
    ):
        if part and lines[-1].cell_len + 3 + len(part) > width:
            lines.append(Text("  ", overflow="fold"))
        if part:
            lines[-1].append("   " if lines[-1].plain.strip() else "").append(part, f"not bold {style}".strip())
    yield from lines
    yield from _wrapped(
        f"tolerance {found.tolerance:g}, {found.why}: of relative, the largest difference by the largest value",
        width,
        QUIET,
    )
    for note in found.notes:
        yield from _wrapped(note, width, NOTE)


def _verdict(
    found: Comparison, lines: list[Line], errors: list[OutputError | None], tree: list[Text], width: int
) -> Iterator[Text]:
    """Where they part, or that they do not; what could not be compared; how `tree`, which shows the lines, is read."""
    each = list(zip(lines, errors, strict=True))
    traces = (found.difference.before, found.difference.after)
    for name, trace in zip(found.names, traces, strict=True):
        if trace.error is not None:
            message = " ".join(trace.error.message.split())[:LONGEST_ERROR]
            yield from _wrapped(f"✗ {name}: {trace.error.type}: {message}", width, BAD)
    first = found.parted
    if first is not None:
        error = found.errors[id(first)]
        far = f"relative {error.relative:.2g} > {found.tolerance:g}" if (error.relative or 0) > found.tolerance else ""
        by = "; ".join(part for part in (far, odd(error)) if part)
        where = f", {labels.place(first.site)}" if first.site is not None and not labels.is_torch(first.site) else ""
        beyond = sum(error.beyond(found.tolerance) for error in found.errors.values())
        what = f"{first.path or 'the root'} ({type_in(traces[0], first)})" if first.kind == "module" else first.name
        yield from _wrapped(f"✗ they part first at {what}{where}: {by}", width, BAD)
        largest = _largest(found)
        worse = f"; {largest}" if largest and (error.relative or 0) < _most(found) else ""
        yield from _wrapped(f"{calls(beyond)} of {len(found.compared):,} beyond the tolerance{worse}", width, "")
        if not any(line.pair is not None and line.pair.before is first for line in lines):
            yield from _wrapped("the first of them is not in this part of the tree", width, NOTE)
    elif not found.compared:
        yield from _wrapped("✗ no output could be compared", width, BAD)
    else:
        same = all(error.identical for error in found.compared)
        said = "identical" if same else "within the tolerance"
        said += ", as far as they were compared" if any(error.left_out for error in found.compared) else ""
        far = "to the last bit" if same else _largest(found)
        yield from _wrapped(f"{said}: the outputs of {calls(len(found.compared))}, {far}", width, "")
    yield from _wrapped(_same_before(found), width, "")
    yield from _left_out(found, width)
    for name, sign in zip(found.names, (REMOVED, ADDED), strict=True):
        only = sum(pair.sign == sign for _, pair in found.difference.walk())
        if only:
            yield from _wrapped(f"{sign} {calls(only)} only in {name}", width, "")
    if found.uncompared:
        yield from _wrapped(
            f"{calls(found.uncompared)} of both could not be compared: a second run made other calls", width, NOTE
        )
    what = "largest errors and lowest cosine"
    if any(line.shared and error is not None and (error.nonfinite or error.differing) for line, error in each):
        what = f"{what}, counted together what is NaN, Inf or differs"
    yield from _wrapped(folded(lines, f", with their {what}", f", with their total times, {what}"), width, QUIET)
    if any(error is not None and error.nonfinite and error.max_abs is not None for _, error in each):
        yield from _wrapped(f"{SHORT}: NaN or Inf in one of both; the numbers are of what is finite", width, QUIET)
    if any(pair.time is not None for _, pair in found.difference.walk()):
        yield from _wrapped(how("the second time", "the first", tree), width, QUIET)


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
        if error.compared and not error.identical:
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
            yield from _wrapped(
                f"not compared: {of} ({listed})" if whole else f"not compared: {listed} in {of}", width, NOTE
            )


def _wrapped(text: str, width: int, style: str) -> Iterator[Text]:
    for line in textwrap.wrap(labels.safe(text), max(20, min(width, 100)), break_on_hyphens=False):
        yield Text(line, style, no_wrap=True, overflow="ellipsis")
