"""What `tracecall diff` prints: the merged tree of two traces with what changed, and a line that says it in short."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from tracecall.comparison import (
    ADDED,
    REMOVED,
    Change,
    Difference,
    ModuleChange,
    Pair,
    model_of,
)
from tracecall.folding.naming import ends
from tracecall.views import labels
from tracecall.views.diff_summary import BOTH, counted, hidden, summary
from tracecall.views.header import MODULE, NOTE, QUIET
from tracecall.views.merged import KEPT, STYLES, Column, grid
from tracecall.views.pairs import Line, Pairs, Shared, seen, tree_lines, type_text
from tracecall.views.ratios import folded, times

FEW = 3  # unchanged calls in a row that are shown
SEEN = 12  # cells from the first difference on that are to be seen
REPEATS = 3  # modules alike that share a line


def diff(
    difference: Difference,
    names: tuple[str, str],
    *,
    part: Difference | None = None,
    width: int = 100,
    everything: bool = False,
    depth: int | None = None,
    operations: str = "forward",
    fold: bool = True,
) -> RenderableType:
    """The header, the tree, modules that no call shows, and the sum. Unchanged calls are counted unless `everything`.

    `names` say where the traces come from; `part` is what the tree shows, all if not given, while the sum is of all;
    `depth` counts module calls below the root, None for all of them; `fold` makes one line of calls that are alike.
    """
    shown = part or difference
    lines = list(_lines(shown, width, everything, depth, operations, fold))
    columns = [
        Column("", [type_text(line.pairs) for line in lines], lambda _: QUIET, right=False, rank=1, least=10),
        *times(lines, BOTH, BOTH, spread=KEPT),
    ]
    tree = grid(lines, columns, width)
    parts: list[RenderableType] = [*_header(difference, names), Text(), *tree]
    if shown.modules:
        parts += [Text(), *_modules(shown.modules, width, fold)]
    left_out = hidden(difference, shown, everything, depth, operations)
    alike = folded(lines, " before and after", " before and after, with their total times", tree)
    return Group(*parts, Text(), *summary(difference, width, hidden=left_out, alike=alike, tree=tree))


def _lines(
    difference: Difference, width: int, everything: bool, depth: int | None, operations: str, fold: bool
) -> Iterator[Line]:
    """The tree's lines, each with its changes under it."""
    changed = _with(difference, lambda pair: bool(pair.sign))
    slower = _with(difference, lambda pair: pair.time is not None and pair.time.verdict is not None)
    told = None if everything else changed | slower
    # what is told for its time alone may share a line with those like it: that line has how many are slower
    shareable = changed | _with_siblings(difference, slower - changed)
    shared = Shared(
        difference,
        fold=fold,
        seen=lambda pair: seen(pair, operations),
        shown=lambda pair: everything or id(pair) in shareable,
    )

    def children(pairs: Pairs, level: int) -> list[Pairs | int]:
        if depth is not None and level > depth:
            return []
        if told is not None and pairs.first.sign in (ADDED, REMOVED) and not pairs.members:
            return []  # what came or went with a call is counted in its line
        inside = shared.inside(pairs)
        return list(inside) if told is None else list(_gathered(inside, told))

    for line in tree_lines(shared, children):
        if line.pairs is not None and line.sign not in (ADDED, REMOVED):
            line.changed = ", ".join(counted(shared.hidden(line.pairs))) if line.inside else ""
        yield line
        if line.pairs is not None and not line.in_turn:
            for text in _changes(_of_all(line.pairs), width - cell_len(line.below) - 2):  # 2: the signs
                yield Line(line.below, "", note=text)


def _with(difference: Difference, is_one: Callable[[Pair], bool]) -> set[int]:
    """The ids of such pairs, with all that they are inside of."""
    found: set[int] = set()
    above: list[Pair] = []
    for depth, pair in difference.walk():
        del above[depth:]
        above.append(pair)
        if is_one(pair):
            found.update(map(id, above))
    return found


def _with_siblings(difference: Difference, chosen: set[int]) -> set[int]:
    """The ids of pairs and of their siblings."""
    all_siblings = [difference.pairs, *(pair.children for _, pair in difference.walk() if pair.children)]
    return {id(one) for siblings in all_siblings if any(id(pair) in chosen for pair in siblings) for one in siblings}


def _gathered(lines: list[Pairs], told: set[int]) -> Iterator[Pairs | int]:
    """Siblings, more than a few unchanged ones in a row as their number; all of them where nothing inside changed."""
    changed = [any(id(pair) in told for pair in line.all) for line in lines]
    if not any(changed):
        return
    row: list[Pairs] = []
    for line, is_changed in [*zip(lines, changed, strict=True), (None, True)]:
        if line is not None and not is_changed:
            row.append(line)
            continue
        unchanged = sum(len(one.each[0]) for one in row)
        if unchanged > FEW:
            yield unchanged
        else:
            yield from row
        row = []
        if line is not None:
            yield line


def _of_all(line: Pairs) -> list[Change]:
    """The changes of a line's pairs: the first's, with the first and the last name where several have another one."""
    found = list(line.first.changes)
    named = line.all if line.inside else line.each[0]
    for i, change in enumerate(found):
        if change.what == "name" and len(named) > 1:
            names = [pair.changes[i] for pair in named]
            found[i] = Change("name", _range([one.before for one in names]), _range([one.after for one in names]))
    return found


def _range(names: list[str]) -> str:
    first, last = ends(names)
    return first if first == last else f"{first} … {last}"


def _changes(changes: list[Change], width: int) -> Iterator[Text]:
    """A line for each change: what it is, before → after; two where both sides have no room on one."""
    room = max((cell_len(change.what) for change in changes), default=0)
    for change in changes:
        what = labels.pad(change.what, room)
        before, after = labels.safe(change.before), labels.safe(change.after)
        if cell_len(f"{what}  {before} → {after}") <= width:
            yield Text.assemble((f"{what}  ", QUIET), before, (" → ", NOTE), after)
        else:
            before, after = _from_difference(before, after, width - room - 2)
            yield Text.assemble((f"{what}  ", QUIET), before)
            yield Text.assemble(" " * room, ("→ ", NOTE), after)


def _from_difference(before: str, after: str, room: int) -> tuple[str, str]:
    """Both without the parts before the first difference, where that would be out of sight."""
    shorter = min(len(before), len(after))
    same = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    if max(cell_len(before), cell_len(after)) <= room or cell_len(before[:same]) <= room - SEEN:
        return before, after
    start = max(before.rfind("[", 0, same), same - room // 2)  # of the shape that it is in
    return (f"…{before[start:]}", f"…{after[start:]}") if start > 0 else (before, after)


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


def _modules(modules: list[ModuleChange], width: int, fold: bool) -> Iterator[Text]:
    """Modules that no call shows; those alike but for the indices in their paths in one line."""
    yield Text("without a call:", QUIET)
    for same in _alike(modules) if fold else [[module] for module in modules]:
        module, last = same[0], same[-1]
        count = f"  {labels.count(module.parameters)} parameters" if module.parameters else ""
        line = Text(no_wrap=True, overflow="ellipsis")
        name = module.path or "the root"
        if len(same) > 1:
            name, count = f"{name} … {last.path} ×{len(same)}", f"{count} each" if count else ""
        line.append(module.sign + " ", STYLES[module.sign]).append(labels.safe(name), MODULE)
        yield line.append(f"  {labels.safe(module.type)}{count}", QUIET)
        for text in _changes(module.changes, width - 4):
            yield Text.assemble("    ", text, no_wrap=True, overflow="ellipsis")


def _alike(modules: list[ModuleChange]) -> list[list[ModuleChange]]:
    """Modules by what is said of them, where those are enough for a line of their own; in the order of the first."""
    found: dict[Hashable, list[ModuleChange]] = {}
    for module in modules:
        path = ".".join("0" if part.isdecimal() else part for part in module.path.split("."))
        key = (path, module.sign, module.type, module.parameters, tuple(module.changes))
        found.setdefault(key, []).append(module)
    parts = ([same] if len(same) >= REPEATS else [[module] for module in same] for same in found.values())
    return [same for part in parts for same in part]
