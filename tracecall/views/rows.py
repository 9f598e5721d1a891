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
    """One line of the tree; a row with a `note` has no columns, nor has one that `says` a sentence."""

    guide: str
    name: str
    style: str = ""
    type: str = ""
    call: Call | None = None
    sources: list[str] = field(default_factory=list)
    obvious: bool = False  # the only source is the line above
    note: Text | None = None
    says: str = ""  # one sentence about the line above
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


def explained(trace: Trace, shown: list[Row]) -> Iterator[Row]:
    """The rows with a sentence under the first one of each kind, for who sees such a tree for the first time."""
    said: set[str] = set()
    failing = trace.failing()
    for i, row in enumerate(shown):
        yield row
        below = row.guide.replace("├─ ", "│  ").replace("└─ ", "   ")
        if i + 1 < len(shown) and len(shown[i + 1].guide) > len(row.guide):
            below += "│  "  # the line to what stands inside goes on
        for kind, sentence in _sentences(row, failing):
            if kind not in said:
                said.add(kind)
                yield Row(below, "", says=sentence)


def _sentences(row: Row, failing: Call | None) -> Iterator[tuple[str, str]]:
    """What there is to say about a row: the kind of thing that it is, and a sentence about that kind."""
    call = row.call
    if call is None:
        if row.name in _CHAIN:
            yield row.name, _CHAIN[row.name]
        return
    if call.hook is not None:
        name = "register_" + ("module_" if call.hook.scope == "global" else "") + call.hook.when.replace(" ", "_")
        yield "hook", f"a hook: a function that {name.replace('pre-hook', 'pre_hook')} added; __call__ calls it"
    elif call.kind == "operation":
        yield "operation", "an operation: it runs inside forward, without a __call__ and without hooks"
    elif not row.guide:
        yield "root", "model(x) runs type(model).__call__: the hooks and, between them, forward"
    else:
        yield "submodule", f"a submodule: {_quoted(call)} is a __call__ of its own, with its own hooks and forward"
    if call.error is not None and call.error.caught:
        yield "caught", "✗ it raised an exception, and so has no output; the code around it caught the exception"
    elif call is failing:
        yield "failed", "✗ it raised an exception, and so has no output; the calls around it ended with it"


def _quoted(call: Call) -> str:
    """The expression that made a call, where the reader may have written it and it is short."""
    written = call.site.text if call.site is not None and not labels.is_torch(call.site) else None
    return labels.safe(written) if written and len(written) <= LONGEST_QUOTE else "this"


LONGEST_QUOTE = 40
_CHAIN = {
    "forward pre-hooks": "run before forward, and may replace its arguments",
    "forward": "the model's own code: the method that __call__ runs between the hooks",
    "forward hooks": "run after forward, and may replace its output",
}


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
        yield Row(
            f"{guide}└─ ", "", note=Text(f"{guide}└─ {hidden} call{'' if hidden == 1 else 's'}, not shown", QUIET)
        )


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
