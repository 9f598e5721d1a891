"""Which lines the tree has: the root's chain in full, and below it every call that is to be seen, in call order."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field, structs
from rich.text import Text

from tracecall.calls import Call, Trace
from tracecall.views import labels
from tracecall.views.header import BAD, MODULE, QUIET


class Row(Struct):
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


def rows(trace: Trace, operations: str) -> Iterator[Row]:
    """The tree's lines; `operations` is none, forward or all. What is inside a closed call is counted, not shown."""
    for number, call in enumerate(_roots(trace)):
        if number:
            yield Row("", "", note=Text())
        if call.kind == "module":
            yield from _chain(trace, call, operations)
        else:
            yield Row("", labels.named(call), call=call)


def _roots(trace: Trace) -> Iterator[Call]:
    """The outermost calls; those that repeat in turn follow the line that counts them."""
    for call in trace.calls:
        yield call
        if call.fold is not None and call.fold.size > 1:
            yield from call.children


def explained(trace: Trace, shown: list[Row]) -> Iterator[Row]:
    """The rows with a sentence under the first one of each kind, for who sees such a tree for the first time."""
    said: set[str] = set()
    failing = trace.failing()
    for i, row in enumerate(shown):
        yield row
        for kind in _kinds(row, failing):
            if kind not in said:
                said.add(kind)
                yield Row(guide_below(row, shown[i + 1] if i + 1 < len(shown) else None), "", says=_said(kind, row))


def guide_below(row: Row, following: Row | None) -> str:
    """The guide of what is said about a row on the line below it, where `following` stands below that."""
    below = row.guide.replace("├─ ", "│  ").replace("└─ ", "   ")
    deeper = following is not None and len(following.guide) > len(row.guide)
    return below + "│  " if deeper else below  # the line to what stands inside goes on


def _kinds(row: Row, failing: Call | None) -> Iterator[str]:
    """What a row is an example of, each of which there is a sentence about."""
    call = row.call
    if call is None:
        if row.name in SENTENCES:
            yield row.name
        return
    if call.fold is not None:
        yield "fold"
        if call.fold.size > 1:
            return
    if call.hook is not None:
        yield "hook"
    elif call.kind == "operation":
        yield "operation"
    else:
        yield "submodule" if row.guide else "root"
    if call.error is not None and call.error.caught:
        yield "caught"
    elif call is failing:
        yield "failed"


SENTENCES = {  # of each kind of row, named after what was called
    "forward pre-hooks": "run before forward, and may replace its arguments",
    "forward": "the model's own code: the method that __call__ runs between the hooks",
    "forward hooks": "run after forward, and may replace its output",
    "fold": "×N: N calls that are alike, with their total time; inside is one of them, with medians",
    "untimed fold": "×N: N calls that are alike; inside is one of them",
    "hook": "a hook: a function that {registrar} added; __call__ calls it",
    "operation": "an operation: it runs inside forward, without a __call__ and without hooks",
    "root": "model(x) runs type(model).__call__: the hooks and, between them, forward",
    "submodule": "a submodule: {expression} is a __call__ of its own, with its own hooks and forward",
    "caught": "✗ it raised an exception, and so has no output; the code around it caught the exception",
    "failed": "✗ it raised an exception, and so has no output; the calls around it ended with it",
}
LONGEST_QUOTE = 40


def _said(kind: str, row: Row) -> str:
    call = row.call
    if call is None:
        return SENTENCES[kind]
    if kind == "fold" and call.host_ns is None:
        kind = "untimed fold"
    return SENTENCES[kind].format(expression=_quoted(call), registrar=_registrar(call))


def _quoted(call: Call) -> str:
    """The expression that made a call, where the reader may have written it and it is short."""
    written = call.site.text if call.site is not None and not labels.is_torch(call.site) else None
    return labels.safe(written) if written and len(written) <= LONGEST_QUOTE else "this"


def _registrar(call: Call) -> str:
    """The method that registers such a hook: "register_forward_pre_hook"."""
    if call.hook is None:
        return ""
    when = call.hook.when.replace(" ", "_").replace("pre-hook", "pre_hook")
    return "register_" + ("module_" if call.hook.scope == "global" else "") + when


def _chain(trace: Trace, call: Call, operations: str) -> Iterator[Row]:
    """The root in full: `__call__`, forward pre-hooks, forward with everything inside it, forward hooks."""
    mark = "✗ " if call.error else ""
    name = call.path or call.type
    if call.fold is not None and call.fold.first != call.fold.last:
        name = f"{call.fold.first} … {call.fold.last}"
    closed = f"  opaque: {labels.bounded(call.opaque)}" if call.opaque else ""
    times = f" ×{call.fold.count}" if call.fold is not None and not call.fold.inside else ""
    yield Row("", f"{mark}{labels.bounded(name)}.__call__{times}{closed}", BAD if call.error else MODULE, call=call)
    before = [child for child in call.children if child.hook and child.hook.when == "forward pre-hook"]
    after = [child for child in call.children if child.hook and child.hook.when == "forward hook"]
    info = trace.modules.get(call.path)
    yield from _hook_rows("forward pre-hooks", before, "├─ ", "│  ", operations)
    where = labels.place(info.source) if info else ""
    refused = before and before[-1].error is not None and not before[-1].error.caught
    said = "did not run" if refused else where  # a forward that is none of Python's has no place
    note = Text.assemble(("├─ ", QUIET), "forward", (f"  {said}" if said else "", QUIET))
    yield Row("├─ ", "forward", note=note)
    inside = [child for child in call.children if child.hook is None]
    if call.closed:
        yield from _hidden(inside, "│  ", operations)
    else:
        yield from _children(inside, "│  ", operations, root=True)
    yield from _hook_rows("forward hooks", after, "└─ ", "   ", operations)


def _hook_rows(title: str, hooks: list[Call], guide: str, below: str, operations: str) -> Iterator[Row]:
    line = Text.assemble((guide, QUIET), title)
    if not hooks:
        line.append("  none", QUIET)
    yield Row(guide, title, note=line)
    yield from _children(hooks, below, operations)


def _shown(call: Call, operations: str, root: bool) -> bool:
    """Operations inside torch.nn's own forwards only where they explain something.

    They do if there is nothing else to see (the root is torch.nn's own), if they failed, or did other modules' work.
    """
    if call.kind != "operation":  # a group of several in turn is an operation too
        return True
    if call.fold is not None and call.fold.size > 1:
        return any(_shown(child, operations, root) for child in call.children)
    if operations == "none":
        return call.error is not None
    return not call.internal or operations == "all" or root or call.error is not None or bool(call.reads)


def _children(calls: list[Call], guide: str, operations: str, *, root: bool = False) -> Iterator[Row]:
    """The calls inside a call; iterative, since recursion in a model may be as deep as Python allows."""
    waiting = [(*sibling, guide) for sibling in reversed(_siblings(calls, operations, root))]
    while waiting:
        call, last, previous, before = waiting.pop()
        row = _row(call, before + ("└─ " if last else "├─ "), previous, operations)
        if not call.children:
            yield row
            continue
        # those that repeat in turn are the root's own where their group is
        grouped = root and call.fold is not None and call.fold.size > 1
        inside = _siblings(call.children, operations, grouped)
        if call.closed and inside:
            row.name += f"  +{_number(inside)}"
            inside = []
        yield row
        below = before + ("   " if last else "│  ")
        waiting.extend((*sibling, below) for sibling in reversed(inside))


def _hidden(calls: list[Call], guide: str, operations: str) -> Iterator[Row]:
    hidden = _number(_siblings(calls, operations, root=True))
    if hidden:
        yield Row(
            f"{guide}└─ ", "", note=Text(f"{guide}└─ {hidden} call{'' if hidden == 1 else 's'}, not shown", QUIET)
        )


def _number(siblings: list[Sibling]) -> int:
    """How many calls these are, each of those that repeat counted."""
    return sum(
        1 if call.fold is None else call.fold.count * (len(call.children) if call.fold.size > 1 else 1)
        for call, _, _ in siblings
    )


Sibling = tuple[Call, bool, Call | None]


def _siblings(calls: list[Call], operations: str, root: bool = False) -> list[Sibling]:
    """The calls that are shown, each with whether it is the last and what stands before it."""
    if not calls:
        return []
    shown = [
        call if call.fold is None else alone(call, operations, root)
        for call in calls
        if call.kind != "operation" or _shown(call, operations, root)
    ]
    last = len(shown) - 1
    return [(call, i == last, shown[i - 1] if i else None) for i, call in enumerate(shown)]


def alone(call: Call, operations: str, root: bool) -> Call:
    """Instead of a group of which one call is shown, that call, as if it alone repeated."""
    if call.fold is None or call.fold.size == 1:
        return call
    shown = [child for child in call.children if _shown(child, operations, root)]
    fold = shown[0].fold
    if len(shown) > 1 or fold is None or not fold.inside:
        return call
    return structs.replace(
        shown[0],
        host_ns=fold.host.total_ns if fold.host else None,
        device_ns=fold.device.total_ns if fold.device else None,
        spread_ns=(shown[0].spread_ns or 0) * fold.count,
        fold=structs.replace(fold, inside=False),
    )


def _row(call: Call, guide: str, previous: Call | None, operations: str) -> Row:
    if call.hook is not None:
        return Row(guide, labels.bounded(call.name), "", labels.registered(call.hook), call)
    mark = "✗ " if call.error else ""
    style = BAD if call.error and not call.error.caught else (MODULE if call.kind == "module" else "")
    kind = labels.bounded(call.type) if call.kind == "module" else labels.grouped(call) if operations == "all" else ""
    found = labels.sources(call)
    # where room is short, a chain needs no arrows: what comes from the line above is not said again
    obvious = False
    if previous is not None and len(found) == 1:
        above = previous.name if previous.fold is None else previous.fold.last
        obvious = found[0].partition(" #")[0] == labels.bounded(above)
    name = mark + labels.named(call)
    if call.opaque:
        name += f"  opaque: {labels.bounded(call.opaque)}"
    if call.thread:
        name += f"  in thread {labels.bounded(call.thread)}"
    return Row(guide, name, style, kind, call, found, obvious)
