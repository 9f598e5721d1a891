"""What `tracecall diff` prints: the merged tree of two traces with what changed, and a line that says it in short."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from tracecall.comparison import ADDED, FEWEST, REMOVED, Change, Difference, ModuleChange, Pair, model_of
from tracecall.views import labels
from tracecall.views.header import MODULE, NOTE, QUIET
from tracecall.views.merged import STYLES, Column, Line, calls, grid, how, seen, times, tree_lines, type_text

FEW = 3  # unchanged calls in a row that are shown


def diff(
    difference: Difference,
    names: tuple[str, str],
    *,
    width: int = 100,
    everything: bool = False,
    depth: int | None = None,
    operations: str = "forward",
) -> RenderableType:
    """The header, the tree, modules that no call shows, and the sum. Unchanged calls are counted unless `everything`.

    `names` say where the traces come from; `depth` counts module calls below the root, None for all of them.
    """
    lines = list(_lines(difference, everything, depth, operations))
    types = ["" if line.pair is None else type_text(line.pair) for line in lines]
    columns = [
        Column("", types, lambda _: QUIET, right=False, rank=1, least=10),
        *times(lines, ("before", "after")),
    ]
    parts: list[RenderableType] = [*_header(difference, names), Text(), *grid(lines, columns, width)]
    if difference.modules:
        parts += [Text(), *_modules(difference.modules)]
    parts += [Text(), *summary(difference, width, everything=everything, depth=depth, operations=operations)]
    return Group(*parts)


def _lines(difference: Difference, everything: bool, depth: int | None, operations: str) -> Iterator[Line]:
    """The tree's lines, each with its changes under it."""
    told = None if everything else _told(difference)

    def children(pair: Pair, level: int) -> list[Pair | int]:
        if depth is not None and level > depth:
            return []
        if told is not None and pair.sign in (ADDED, REMOVED):
            return []  # what came or went with a call is counted in its line
        shown = [child for child in pair.children if seen(child, operations)]
        return list(shown) if told is None else list(_gathered(shown, told))

    for line in tree_lines(difference.pairs, children, operations):
        yield line
        if line.pair is not None:
            for text in _changes(line.pair.changes):
                yield Line(line.below, "", note=text)


def _told(difference: Difference) -> set[int]:
    """The ids of pairs that are not as they were, with all that they are inside of."""
    found: set[int] = set()
    above: list[Pair] = []
    for depth, pair in difference.walk():
        del above[depth:]
        above.append(pair)
        if pair.sign or (pair.time is not None and pair.time.verdict):
            found.update(map(id, above))
    return found


def _gathered(pairs: list[Pair], told: set[int]) -> Iterator[Pair | int]:
    """Siblings, more than a few unchanged ones in a row as their number; all of them where nothing inside changed."""
    if not any(id(pair) in told for pair in pairs):
        return
    row: list[Pair] = []
    for pair in [*pairs, None]:
        if pair is not None and id(pair) not in told:
            row.append(pair)
            continue
        if len(row) > FEW:
            yield len(row)
        else:
            yield from row
        row = []
        if pair is not None:
            yield pair


def _changes(changes: list[Change]) -> Iterator[Text]:
    """A line for each change: what it is, before → after."""
    room = max((cell_len(change.what) for change in changes), default=0)
    for change in changes:
        what = labels.pad(change.what, room)
        before, after = labels.safe(change.before), labels.safe(change.after)
        yield Text.assemble((f"{what}  ", QUIET), before, (" → ", NOTE), after)


def _header(difference: Difference, names: tuple[str, str]) -> Iterator[Text]:
    """Which traces these are, and what is not the same in how and where they were made."""
    before, after = difference.before, difference.after
    title = Text(labels.safe(model_of(after)), MODULE, overflow="fold")
    title.append("   " + labels.safe(names[0]), QUIET).append(" → ", NOTE).append(labels.safe(names[1]), QUIET)
    yield title
    unlike = [*difference.settings, *difference.environment]
    room = max((cell_len(change.what) for change in unlike), default=0)
    for change in unlike:
        before_text, after_text = labels.safe(change.before), labels.safe(change.after)
        yield Text.assemble(
            (labels.pad(change.what, room) + "  ", QUIET), before_text, (" → ", NOTE), after_text, overflow="fold"
        )
    for which, trace in (("before", before), ("after", after)):
        if trace.error is not None:
            yield Text(f"{which}: the run ended with {labels.safe(trace.error.type)}", NOTE, overflow="fold")


def _modules(modules: list[ModuleChange]) -> Iterator[Text]:
    yield Text("without a call:", QUIET)
    for module in modules:
        count = f"  {labels.count(module.parameters)} parameters" if module.parameters else ""
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(module.sign + " ", STYLES[module.sign]).append(labels.safe(module.path or "the root"), MODULE)
        yield line.append(f"  {labels.safe(module.type)}{count}", QUIET)
        for text in _changes(module.changes):
            yield Text.assemble("    ", text, no_wrap=True, overflow="ellipsis")


def summary(
    difference: Difference,
    width: int,
    *,
    everything: bool = False,
    depth: int | None = None,
    operations: str = "forward",
) -> Iterator[Text]:
    """How many calls changed, how many of them the tree does not show, and how many are slower or faster."""
    counts = Counter(pair.sign for _, pair in difference.walk())
    words = {"+": "added", "−": "removed", "→": "changed"}
    parts = [f"{counts[sign]:,} {word}" for sign, word in words.items() if counts[sign]]
    if difference.changed:
        parts += _hidden(difference, everything, depth, operations)
        said = f"{', '.join(parts) or 'no call changed'}, {calls(counts[''])} as before"
    else:
        said = f"nothing changed: {calls(counts[''])} with the same types, shapes, dtypes, devices and parameters"
    ratios = [pair.time for _, pair in difference.walk() if pair.time is not None]
    verdicts, timed = Counter(one.verdict for one in ratios if one.verdict), bool(ratios)
    if verdicts:
        said += "; " + ", ".join(f"{verdicts[one]:,} {one}" for one in ("slower", "faster") if verdicts[one])
    elif any(one.noisy or one.low is not None or one.high is not None for one in ratios):
        said += "; no time differs beyond noise"
    elif timed:
        said += f"; too few runs to tell a time from noise: {FEWEST} of each are needed"
    yield from _wrapped(said, width, "")
    if timed:
        yield from _wrapped(how("the time after", "that before"), width, QUIET)


def _hidden(difference: Difference, everything: bool, depth: int | None, operations: str) -> list[str]:
    """What of the changes the tree does not show, and what to type for it; a depth is one's own choice."""
    left_out = deep = 0
    inside = False  # any of them in a call that came or went as a whole, which only --all opens
    new: list[bool] = []
    for level, pair in difference.walk():
        del new[level:]
        if pair.sign and depth is not None and level > depth:
            deep += not any(new)  # or counted in the line of what it came with
        elif pair.sign and not seen(pair, operations):
            left_out += 1
            inside = inside or any(new)
        new.append(pair.sign in (ADDED, REMOVED))
    found = []
    if left_out:
        typed = "--ops forward --all" if inside and not everything else "--ops forward"
        verb = "is an operation" if left_out == 1 else "are operations"
        found.append(
            f"{left_out:,} of them {verb} that the tree leaves out ({typed} shows {'it' if left_out == 1 else 'them'})"
        )
    return [*found, f"{deep:,} of them deeper than --depth {depth}"] if deep else found


def _wrapped(text: str, width: int, style: str) -> Iterator[Text]:
    for line in textwrap.wrap(text, max(20, min(width, 100)), break_on_hyphens=False):
        yield Text(line, style, no_wrap=True)
