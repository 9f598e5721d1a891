"""Which lines the tree has: the root's chain in full, and below it every call that is to be seen, in call order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.text import Text

from tracecall.calls import Call, Trace
from tracecall.views import labels
from tracecall.views.header import BAD, MODULE, QUIET


@dataclass
class Row:
    """One line of the tree; a row with a `note` has no columns."""

    guide: str
    name: str
    style: str = ""
    type: str = ""
    call: Call | None = None
    sources: list[str] = field(default_factory=list)
    obvious: bool = False  # the only source is the line above
    note: Text | None = None
    hot: bool = False  # on the hot path


def rows(trace: Trace, depth: int | None, operations: str) -> Iterator[Row]:
    """The tree's lines; `depth` counts module calls below the root, `operations` is none, forward or all."""
    for number, call in enumerate(trace.calls):
        if number:
            yield Row("", "", note=Text())
        if call.kind == "module":
            yield from _chain(trace, call, depth, operations)
        else:
            yield Row("", labels.safe(call.name), call=call)


def _chain(trace: Trace, call: Call, depth: int | None, operations: str) -> Iterator[Row]:
    """The root in full: `__call__`, forward pre-hooks, forward with everything inside it, forward hooks."""
    name = call.path or call.type
    mark = "✗ " if call.error else ""
    closed = f"  opaque: {call.opaque}" if call.opaque else ""
    yield Row("", f"{mark}{labels.safe(name)}.__call__{closed}", BAD if call.error else MODULE, call=call)
    before = [child for child in call.children if child.hook and child.hook.when == "forward pre-hook"]
    after = [child for child in call.children if child.hook and child.hook.when == "forward hook"]
    info = trace.modules.get(call.path)
    yield from _hook_rows("forward pre-hooks", before, "├─ ", "│  ", depth, operations)
    where = labels.place(info.source) if info else ""
    refused = before and before[-1].error is not None and not before[-1].error.caught
    note = Text.assemble(("├─ ", QUIET), "forward", ("  " + ("did not run" if refused else where), QUIET))
    yield Row("├─ ", "forward", note=note)
    inside = [child for child in call.children if child.hook is None]
    yield from _children(inside, "│  ", depth, operations, root=True)
    yield from _hook_rows("forward hooks", after, "└─ ", "   ", depth, operations)


def _hook_rows(
    title: str, hooks: list[Call], guide: str, below: str, depth: int | None, operations: str
) -> Iterator[Row]:
    line = Text.assemble((guide, QUIET), title)
    if not hooks:
        line.append("  none", QUIET)
    yield Row(guide, title, note=line)
    yield from _children(hooks, below, None, operations)


def _shown(call: Call, operations: str, root: bool) -> bool:
    """Operations inside torch.nn's own forwards only where they explain something.

    They do if there is nothing else to see (the root is torch.nn's own), if they failed, or did other modules' work.
    """
    if call.kind != "operation":
        return True
    if operations == "none":
        return call.error is not None
    return not call.internal or operations == "all" or root or call.error is not None or bool(call.reads)


def _children(
    calls: list[Call], guide: str, depth: int | None, operations: str, *, root: bool = False
) -> Iterator[Row]:
    """The calls inside a call; iterative, since recursion in a model may be as deep as Python allows."""
    if depth == 0:
        yield from _hidden(calls, guide, operations, root)
        return
    waiting = [(*sibling, guide, 1) for sibling in reversed(_siblings(calls, operations, root))]
    while waiting:
        call, last, previous, before, level = waiting.pop()
        row = _row(call, before + ("└─ " if last else "├─ "), previous, operations)
        inside = _siblings(call.children, operations)
        if depth is not None and level >= depth and call.kind == "module" and inside:
            row.name += f"  +{len(inside)}"
            inside = []
        yield row
        below = before + ("   " if last else "│  ")
        waiting.extend((*sibling, below, level + 1) for sibling in reversed(inside))


def _hidden(calls: list[Call], guide: str, operations: str, root: bool) -> Iterator[Row]:
    hidden = len(_siblings(calls, operations, root))
    if hidden:
        yield Row(guide, "", note=Text(f"{guide}└─ {hidden} call{'' if hidden == 1 else 's'}, not shown", QUIET))


def _siblings(calls: list[Call], operations: str, root: bool = False) -> list[tuple[Call, bool, Call | None]]:
    """The calls that are shown, each with whether it is the last and what stands before it."""
    shown = [call for call in calls if _shown(call, operations, root)]
    return [(call, i == len(shown) - 1, shown[i - 1] if i else None) for i, call in enumerate(shown)]


def _row(call: Call, guide: str, previous: Call | None, operations: str) -> Row:
    if call.hook is not None:
        return Row(guide, labels.safe(call.name), "", labels.registered(call.hook), call)
    mark = "✗ " if call.error else ""
    style = BAD if call.error and not call.error.caught else (MODULE if call.kind == "module" else "")
    kind = labels.safe(call.type) if call.kind == "module" else labels.grouped(call) if operations == "all" else ""
    found = labels.sources(call)
    # where room is short, a chain needs no arrows: what comes from the line above is not said again
    obvious = previous is not None and [one.partition(" #")[0] for one in found] == [labels.safe(previous.name)]
    name = mark + labels.safe(call.name)
    if call.opaque:
        name += f"  opaque: {call.opaque}"
    if call.thread:
        name += f"  in thread {labels.safe(call.thread)}"
    return Row(guide, name, style, kind, call, found, obvious)
