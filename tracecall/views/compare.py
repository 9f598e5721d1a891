"""What `tracecall compare` prints: the calls of two runs with the error of each output, and where they part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from tracecall.calls import Call
from tracecall.comparison import ADDED, REMOVED, Difference, Pair, model_of
from tracecall.views import labels
from tracecall.views.compare_summary import verdict
from tracecall.views.compared import Comparison, failing
from tracecall.views.errors import cosine, likeness, nonfinite, odd, small, worst
from tracecall.views.header import BAD, MODULE, NOTE, QUIET, apart, mode
from tracecall.views.merged import KEPT, Column, grid
from tracecall.views.pairs import Line, Pairs, Shared, seen, tree_lines, type_text
from tracecall.views.prose import prose
from tracecall.views.ratios import times

if TYPE_CHECKING:
    from tracecall.recording.output_errors import OutputError

BEYOND = "✗"
LONGEST_NAME = 12
LONGEST_ODD = 32


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
    traces = (found.difference.before, found.difference.after)
    failed = {id(call) for trace in traces for call in trace.failed()}

    def is_failed(pair: Pair) -> bool:
        return id(pair.before) in failed or id(pair.after) in failed

    def is_seen(pair: Pair) -> bool:
        return seen(pair, operations) or is_failed(pair) or (parted is not None and pair.before is parted)

    def said(pair: Pair) -> Hashable:
        """The first that is beyond the tolerance has a line of its own, and so has a call that failed."""
        alone = is_failed(pair) or (parted is not None and pair.before is parted)
        return id(pair) if alone else likeness(found.errors.get(id(pair.before)), found.tolerance)

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
            beyond = error is not None and error.beyond(found.tolerance)
            line.sign = BEYOND if beyond or (line.pair is not None and is_failed(line.pair)) else ""
    tree = grid(lines, _columns(found, lines, errors), width)
    return Group(*_header(found, width), Text(), *tree, Text(), *verdict(found, lines, errors, tree, width))


def _errors(found: Comparison, line: Line) -> list[OutputError]:
    """Those of the calls of a line."""
    pairs = [] if line.pairs is None else line.pairs.all
    return [found.errors[id(pair.before)] for pair in pairs if id(pair.before) in found.errors]


def _columns(found: Comparison, lines: list[Line], errors: list[OutputError | None]) -> list[Column]:
    names = found.names if all(len(name) <= LONGEST_NAME for name in found.names) else ("first", "second")
    failed = (failing(found.difference.before), failing(found.difference.after))
    failures = [_failure(line, failed, names) for line in lines]

    def style(i: int) -> str:
        error = errors[i]
        return BAD if failures[i] or (error is not None and error.beyond(found.tolerance)) else ""

    # what has no number is said instead of the numbers, so that it stays where room is short
    dtypes = _unusual_dtypes(found)
    instead, beside = [_bounded(failure) for failure in failures], [""] * len(lines)
    for i, error in enumerate(errors):
        if error is not None and not failures[i]:
            numbers = error.max_abs is not None
            text = _bounded("; ".join(filter(None, (odd(error, short=numbers), dtypes(error)))))
            (beside if numbers else instead)[i] = text
    counted = [nonfinite(error, short=True) for one, error in zip(instead, errors, strict=True) if error and not one]
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


def _failure(line: Line, failed: tuple[Call | None, Call | None], names: tuple[str, str]) -> str:
    """What the call of a line raised, if a run failed there, and in which: "ValueError in bfloat16"."""
    if line.pair is None or line.in_turn:
        return ""
    types = [
        call.error.type if call is not None and call is one and call.error is not None else ""
        for call, one in zip((line.pair.before, line.pair.after), failed, strict=True)
    ]
    if all(types):
        return labels.safe(f"{types[0]} in both" if types[0] == types[1] else " and ".join(types))
    runs = [f"in the {name}" if names == ("first", "second") else f"in {name}" for name in names]
    return labels.safe("".join(f"{type} {run}" for type, run in zip(types, runs, strict=True) if type))


def _unusual_dtypes(found: Comparison) -> Callable[[OutputError], str]:
    """Tells the dtypes of an output where they are not those of most, nor what sets the runs apart."""
    usual = Counter(error.dtypes for error in found.compared).most_common(1)

    def text(error: OutputError) -> str:
        known = error.dtypes is None or found.asked(error.dtypes) or error.dtypes == usual[0][0]
        return "" if known else " and ".join(error.dtypes or ())

    return text


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
    parts = [
        (labels.safe(model_of(trace)), MODULE),
        (labels.safe(trace.model.origin or ""), QUIET),
        (f"{labels.safe(found.names[0])} against {labels.safe(found.names[1])}", ""),
        (mode(trace), ""),
    ]
    yield from apart(parts, width)
    yield from prose(
        f"tolerance {found.tolerance:g}, {found.why}: of relative, the largest difference by the largest value",
        width,
        QUIET,
    )
    for note in found.notes:
        yield from prose(note, width, NOTE)
