"""The calls of a Trace as lines of a page: the root's chain in full, every call below it with all that it tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tracecall.calls import Call, Site, TensorSpec, Trace, Value
from tracecall.views import labels
from tracecall.views.columns import total_time, unsteady
from tracecall.views.flows import arrow
from tracecall.views.rows import alone

Pair = tuple[str, str]


@dataclass
class Line:
    """One line of the page's tree. A part of the root's chain ("forward", "forward hooks") has no call."""

    depth: int
    name: str
    kind: str = "part"
    type: str = ""
    path: str = ""
    shapes: str = ""
    place: str = ""  # "models/cnn.py:24"
    near: str = ""  # the same in short: ":24" in the file of the root's forward, "blocks.py:24" elsewhere
    text: str = ""  # the expression
    call: Call | None = None
    hidden: bool = False  # an operation inside torch.nn: shown when asked for
    mark: str = ""  # "raised", "caught" or "failed": where the exception came from
    unsteady: bool = False
    inputs: list[tuple[str, str, str]] = field(default_factory=list)  # where, what, from
    output: list[Pair] = field(default_factory=list)
    facts: list[Pair] = field(default_factory=list)  # whatever else is known, in words


@dataclass
class _Waiting:
    """A call whose line is still to come."""

    depth: int  # of its line
    item: Call | Line
    form: Call | None = None  # what it is in the folded Trace
    within: int = 0  # lines of repeats that it stands below

    def inside(self, calls: list[Call], forms: list[Call] | None, deeper: int) -> Iterator[_Waiting]:
        """Calls inside it; where `forms` has some of them as one, below a line that stands for them all."""
        depth, within = self.depth + deeper, self.within
        if forms is None:
            yield from (_Waiting(depth, call, None, within) for call in calls)
            return
        at = 0
        for form in forms:
            each = [form] if calls[at].fold is not None else _each(form)
            below = int(len(each) > 1)
            if below:
                yield _Waiting(depth, form, within=within)
            for one in each:
                yield _Waiting(depth + below, calls[at], one, within + below)
                at += 1


def lines(trace: Trace, repeats: Trace | None = None) -> Iterator[Line]:
    """Every line in call order, depth first; iterative, since a model may recurse as deep as Python allows.

    With `repeats`, the same Trace folded, calls that repeat stand below a line of kind "repeats", each with all inside
    it; the outermost calls stand on their own.
    """
    total, failing = total_time(trace), trace.failing()
    forms = [None] * len(trace.calls) if repeats is None else [one for form in repeats.calls for one in _each(form)]
    waiting = [_Waiting(0, call, form) for call, form in zip(trace.calls, forms, strict=True)][::-1]
    while waiting:
        one = waiting.pop()
        if isinstance(one.item, Line):
            yield one.item
        elif repeats is not None and one.form is None:
            yield _repeated(trace, one, total)
        else:
            yield _line(trace, one.item, one.depth, total, failing, one.within)
            waiting.extend(_inside(trace, one, one.item)[::-1])


def _inside(trace: Trace, one: _Waiting, call: Call) -> list[_Waiting]:
    if call.closed:
        return []
    if one.depth == 0 and call.kind == "module" and not _grouped(call):
        return _chain(trace, one, call)
    return list(one.inside(call.children, one.form.children if one.form is not None else None, 1))


def _each(form: Call) -> list[Call]:
    """A folded call once for each of those that it stands for; runs within runs are never deep."""
    if form.fold is None:
        return [form]
    one = [form] if form.fold.size == 1 else [each for child in form.children for each in _each(child)]
    return one if form.fold.inside else one * form.fold.count


def _repeated(trace: Trace, one: _Waiting, total: int) -> Line:
    """The line above calls that repeat."""
    assert isinstance(one.item, Call)
    level = one.depth - one.within
    line = _line(trace, alone(one.item, "forward", level <= _SEEN), one.depth, total, None, one.within)
    line.kind, line.path = "repeats", ""
    line.hidden = all(_hidden(form, level) for form in _each(one.item))
    return line


def _chain(trace: Trace, one: _Waiting, root: Call) -> list[_Waiting]:
    """What `__call__` of the root does, in order: forward pre-hooks, forward, forward hooks, each with its calls."""
    before, own, after = _parts(root.children)
    info = trace.modules.get(root.path)
    refused = before and before[-1].error is not None and not before[-1].error.caught
    parts = [
        (Line(1, "forward pre-hooks", shapes="" if before else "none"), before),
        (
            Line(
                1,
                "forward",
                shapes="did not run" if refused else "",
                place=labels.place(info.source) if info else "",
                near=_near(trace, info.source) if info else "",
            ),
            own,
        ),
        (Line(1, "forward hooks", shapes="" if after else "none"), after),
    ]
    forms = _parts(one.form.children) if one.form is not None else (None, None, None)
    found: list[_Waiting] = []
    for (part, calls), folded in zip(parts, forms, strict=True):
        found.append(_Waiting(1, part))
        found.extend(one.inside(calls, folded, 2))
    return found


def _parts(children: list[Call]) -> tuple[list[Call], list[Call], list[Call]]:
    """The forward pre-hooks among what is inside the root, what is inside its forward, the forward hooks."""
    return (
        [child for child in children if child.hook and child.hook.when == "forward pre-hook"],
        [child for child in children if child.hook is None],
        [child for child in children if child.hook and child.hook.when == "forward hook"],
    )


def _line(trace: Trace, call: Call, depth: int, total: int, failing: Call | None, within: int = 0) -> Line:
    root = depth == 0 and call.kind == "module" and call.fold is None
    name = f"{labels.safe(call.path or call.type)}.__call__" if root else labels.named(call)
    if call.closed and call.children:
        name += f"  +{len(call.children)}"
    shapes = "" if _grouped(call) else arrow(call)
    if call.hook is not None:
        shapes = ", ".join(call.changed or ["changed nothing"])
    mark = ""
    if call.error is not None:
        mark = "caught" if call.error.caught else "failed" if call is failing else "raised"
        shapes = f"{call.error.type}" if call.hook is not None else shapes
    site = call.site
    own = site is None or not labels.is_torch(site) or call.kind == "hook"
    return Line(
        depth,
        name,
        "group" if _grouped(call) else call.kind,
        labels.registered(call.hook)
        if call.hook
        else labels.grouped(call)
        if call.kind == "operation"
        else labels.safe(call.type),
        labels.safe(call.path),
        labels.safe(shapes),
        labels.place(site),
        _near(trace, site) if own or mark == "failed" else "",
        labels.safe(site.text or "") if site is not None else "",
        call,
        _hidden(call, depth - within),
        mark,
        unsteady(call, total),
        [(labels.safe(value.where), value_text(value), labels.safe(value.source or "")) for value in call.inputs],
        [(labels.safe(value.where), value_text(value)) for value in call.output],
        list(_facts(call)),
    )


def _grouped(call: Call) -> bool:
    """Whether it is none itself, but stands around several that repeat in turn."""
    return call.fold is not None and call.fold.size > 1


def _near(trace: Trace, site: Site | None) -> str:
    if site is None:
        return ""
    root = trace.modules.get("")
    if root is not None and root.source is not None and site.file == root.source.file:
        return f":{site.line}"
    return labels.safe(f"{site.file.replace(chr(92), '/').rpartition('/')[2]}:{site.line}")


_SEEN = 2  # the depth of the calls in the root's own forward


def _hidden(call: Call, depth: int) -> bool:
    """Operations inside torch.nn's own forwards, unless there is nothing else to see or they explain something."""
    return call.kind == "operation" and call.internal and depth > _SEEN and call.error is None and not call.reads


def value_text(value: Value) -> str:
    """A tensor with all that sets it apart, "float32[1, 3] cuda:0, requires grad"; anything else as it is."""
    spec = value.value
    if not isinstance(spec, TensorSpec):
        return labels.safe(spec)
    parts = [labels.tensor(spec) + ("" if spec.device == "cpu" else f" {labels.safe(spec.device)}")]
    if spec.requires_grad:
        parts.append("requires grad")
    if spec.stride is not None:
        parts.append(f"strides {', '.join(map(str, spec.stride))}")
    if value.span is not None:
        parts.append(f"values {value.span[0]} to {value.span[1]}")
    return ", ".join(parts)


def _facts(call: Call) -> Iterator[Pair]:
    """Everything a call knows beyond the columns, each with its name."""
    if call.error is not None:
        yield "error", labels.safe(f"{call.error.type}: {call.error.message.strip()}")
    if call.fold is not None and (each := labels.each(call, call.host_ns or 0)):
        yield "repeats", f"{call.fold.count}, {each} {labels.unit(call.host_ns or 0)[0]}"
    if call.samples:
        yield "measured", f"median of {call.samples} run{'' if call.samples == 1 else 's'}"
    for name, spread in (("host spread", call.spread_ns), ("device spread", call.device_spread_ns)):
        if spread is not None:
            yield name, f"{labels.duration(spread)}, the middle half of the runs"
    if call.flops:
        yield "FLOPs", labels.count(call.flops)
    if call.output_bytes:
        yield "output", labels.short(call.output_bytes, "B")
    if call.device_memory is not None:
        yield "device memory", f"{labels.short(call.device_memory, 'B')} at the peak"
    if call.device_allocated is not None:
        yield "allocated", labels.short(call.device_allocated, "B")
    if sum((call.operations or {}).values()) > 1 and call.operations:
        yield "operations", labels.safe(", ".join(f"{name} ×{times}" for name, times in call.operations.items()))
    if call.reads:
        yield "reads", labels.safe(", ".join(call.reads))
    if call.hook is not None:
        yield "hook", labels.registered(call.hook)
    if call.changed:
        yield "changed", labels.safe(", ".join(call.changed))
    if call.opaque:
        yield "opaque", labels.safe(f"{call.opaque}: nothing inside it can be seen")
    if call.thread:
        yield "thread", labels.safe(call.thread)
    if call.site is not None and call.site.function:
        yield "called in", labels.safe(call.site.function)
