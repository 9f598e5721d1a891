"""A Mermaid flowchart, which GitHub draws in Markdown: calls as boxes, modules around them, shapes on the edges.

Names come from models: ids are numbers of our own, and in labels each sign that means something to Mermaid is an
entity.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tracecall.calls import Call, TensorSpec, Trace
from tracecall.views.labels import named as folded_name
from tracecall.views.labels import safe

DEPTH = 2
MOST = 200  # boxes that can still be read, and that GitHub still draws
EDGES = 450  # Mermaid itself refuses more than 500
_LONGEST = 60  # characters of a label
_SIGNS = {'"': "quot", "<": "lt", ">": "gt", "&": "amp"}
_MEANS = re.compile(r"""["<>&#`\[\]{}|\\*~$@;%]|__|^[-+_]|^(?=\d+\.)""")


def mermaid(trace: Trace, *, depth: int | None = DEPTH) -> str:
    """Return the flowchart; `depth` counts module calls below the root, 2 for None, less where that would not fit."""
    wanted = DEPTH if depth is None else depth
    drawn, levels = _drawn(trace, wanted), wanted
    while levels > 1 and len(drawn.ids) > MOST:
        levels -= 1
        drawn = _drawn(trace, levels)
    _Edges(trace, drawn).draw()
    note = ""
    if levels < wanted:
        note = f"drawn to depth {levels}: more than {MOST} calls stand at depth {wanted}"
    if len(drawn.ids) > MOST:
        left = len(drawn.ids) - MOST
        note = f"the first {MOST} calls; {left} more are not drawn"
        drawn.cut()
    if len(drawn.edges) > EDGES:
        cut = f"the first {EDGES} edges; {len(drawn.edges) - EDGES} more are not drawn"
        note = f"{note}; {cut}" if note else cut
        drawn.edges = Counter(dict(list(drawn.edges.items())[:EDGES]))
    return "\n".join(_lines(trace, drawn, note)) + "\n"


@dataclass
class _Drawing:
    """Which calls are drawn, as what, and what feeds what."""

    inside: dict[int, list[Call]] = field(default_factory=dict)  # of a drawn call, by id: those drawn inside it
    ids: dict[int, str] = field(default_factory=dict)  # of a drawn call, by id
    labels: dict[int, str] = field(default_factory=dict)
    stands_for: dict[int, Call] = field(default_factory=dict)  # every call → itself, or the drawn one that it is inside
    edges: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # from, to, shape
    inputs: dict[str, str] = field(default_factory=dict)  # the root's inputs → their ids

    def cut(self) -> None:
        """Leave the first calls alone, and the edges between those."""
        kept = dict(list(self.ids.items())[:MOST])
        names = {*kept.values(), *self.inputs.values(), "output"}
        self.ids = kept
        self.inside = {at: [one for one in calls if id(one) in kept] for at, calls in self.inside.items()}
        self.edges = Counter({edge: n for edge, n in self.edges.items() if {edge[0], edge[1]} <= names})


def _drawn(trace: Trace, depth: int) -> _Drawing:
    """The calls that are drawn, still without edges."""
    drawing = _Drawing()
    calls = list(trace.walk())
    parents: list[Call] = []
    modules: list[int] = []  # module calls around, of each parent
    for level, call in calls:
        del parents[level:], modules[level:]
        above = modules[-1] if modules else -1
        here = above + (call.kind == "module")
        seen = call.kind != "hook" and not call.internal
        if not parents or (seen and above < depth and id(parents[-1]) in drawing.ids):
            drawing.ids[id(call)] = f"c{len(drawing.ids)}"
            drawing.inside[id(call)] = []
            drawing.stands_for[id(call)] = call
            if parents:
                drawing.inside[id(parents[-1])].append(call)
        else:
            drawing.stands_for[id(call)] = drawing.stands_for[id(parents[-1])]
        parents.append(call)
        modules.append(here)
    return drawing


class _Edges:
    """Follows every input of a drawn call to the drawn call that made it, through the inputs of the calls around."""

    def __init__(self, trace: Trace, drawing: _Drawing) -> None:
        self.trace, self.drawing = trace, drawing
        self.siblings: dict[int, dict[str, Call]] = {}  # of a call: those inside it, by what a source calls them
        self.ended: dict[str, Call] = {}  # the latest call by its path, or module and expression
        self.used: set[tuple[int, str]] = set()  # inputs of a call that something inside it took

    def draw(self) -> None:
        """Add every edge to the drawing."""
        around: list[Call] = []
        self._name_inside(None, self.trace.calls)
        for depth, call in [*self.trace.walk(), (0, None)]:
            while len(around) > depth:
                self._end(around.pop(), around)
            if call is None:
                break
            self._name_inside(call, call.children)
            if id(call) in self.drawing.ids and not self.drawing.inside[id(call)]:
                self._connect(call, around)
            around.append(call)

    def _name_inside(self, parent: Call | None, calls: list[Call]) -> None:
        """What the sources of siblings call each other; a folded call goes by the names of all its repeats."""
        if parent is not None and _is_group(parent):
            return  # its calls are siblings of those around it, and named with them
        siblings = [one for call in calls for one in (call.children if _is_group(call) else [call])]
        totals: Counter[str] = Counter()
        for call in siblings:
            totals[call.name] += _repeats(call)
        seen: Counter[str] = Counter()
        named = self.siblings.setdefault(id(parent), {})
        for call in siblings:
            first = seen[call.name] + 1
            seen[call.name] += _repeats(call)
            if totals[call.name] == 1:
                names = [call.name]
            else:
                names = [f"{call.name} #{i}" for i in range(first, seen[call.name] + 1)]
            if call.fold is not None:
                inside = f"{parent.path}." if parent is not None and parent.path else ""
                names += [call.fold.first, *(path.removeprefix(inside) for path in call.fold.paths), call.fold.last]
            named.update(dict.fromkeys(names, call))
            self.drawing.labels[id(call)] = names[0]
        for call in calls:
            if _is_group(call):
                self.siblings[id(call)] = named

    def _end(self, call: Call, around: list[Call]) -> None:
        if self.drawing.inside.get(id(call)):
            self._connect(call, around)  # what nothing drawn inside it took
        if call.kind == "module":
            self.ended[call.path or call.name] = call
        else:
            self.ended[f"{call.path}: {call.name}" if call.path else call.name] = call
        if not around and self.drawing.ids.get(id(call)) and call.error is None:
            for spec in _tensors(call):
                self.drawing.edges[self.drawing.ids[id(call)], "output", _shape(spec)] += 1

    def _connect(self, call: Call, around: list[Call]) -> None:
        for value in call.inputs:
            if not isinstance(value.value, TensorSpec) or (id(call), value.where) in self.used:
                continue
            maker = self._maker(value.source if around else f"input {value.where}", call, around)
            if maker is not None and maker != self.drawing.ids[id(call)]:
                self.drawing.edges[maker, self.drawing.ids[id(call)], _shape(value.value)] += 1

    def _maker(self, source: str | None, call: Call, around: list[Call]) -> str | None:
        """The id of what made a tensor; None for parameters and for what was not recorded."""
        level = len(around)
        while source is not None and level > 0:
            parent = around[level - 1]
            if _is_group(parent):  # no call of its own: what is inside it is called from further out
                level -= 1
                continue
            named = self.siblings[id(parent)].get(source)
            if named is None and source.startswith("input "):
                where = source.removeprefix("input ")
                self.used.add((id(parent), where))
                level -= 1
                source = next((one.source for one in parent.inputs if one.where == where), None)
                if level == 0:
                    return self._input(where)
                continue
            named = named or self.ended.get(source)
            drawn = None if named is None else self.drawing.stands_for.get(id(named))
            if drawn is None or any(drawn is one for one in (call, *around)):
                return None
            return self.drawing.ids[id(drawn)]
        if source is not None and source.startswith("input "):
            return self._input(source.removeprefix("input "))
        return None

    def _input(self, where: str) -> str:
        return self.drawing.inputs.setdefault(where, f"input{len(self.drawing.inputs)}")


def _lines(trace: Trace, drawing: _Drawing, note: str) -> Iterator[str]:
    yield "flowchart TD"
    for where, name in drawing.inputs.items():
        yield f'    {name}(["{_label(f"input {where}")}"])'
    # a call and how deep it is in subgraphs; None: the subgraph there ends
    waiting: list[tuple[Call | None, int]] = [(call, 1) for call in reversed(trace.calls) if id(call) in drawing.ids]
    failing = trace.failing()
    failed = None if failing is None else drawing.ids.get(id(drawing.stands_for.get(id(failing))))
    while waiting:
        call, depth = waiting.pop()
        indent = "    " * depth
        if call is None:
            yield f"{indent}end"
            continue
        name, text = drawing.ids[id(call)], _text(call, drawing.labels.get(id(call), call.name))
        inside = drawing.inside[id(call)]
        if inside:
            yield f'{indent}subgraph {name}["{text}"]'
            waiting.append((None, depth))
            waiting.extend((child, depth + 1) for child in reversed(inside))
        else:
            yield f'{indent}{name}["{text}"]' if call.kind == "module" else f'{indent}{name}("{text}")'
    if any(to == "output" for _, to, _ in drawing.edges):
        yield '    output(["output"])'
    for (start, end, shape), times in drawing.edges.items():
        yield f'    {start} -->|"{shape}{f" ×{times}" if times > 1 else ""}"| {end}'
    if failed is not None:
        yield f"    style {failed} stroke:#d33,stroke-width:3px"
    if note:
        yield f'    note["{_label(note)}"]'


def _is_group(call: Call) -> bool:
    """Whether it only holds calls that repeat in turn."""
    return call.fold is not None and call.fold.size > 1 and not call.fold.inside


def _repeats(call: Call) -> int:
    """How many calls of this very name it stands for."""
    return call.fold.count if call.fold is not None and call.fold.first == call.fold.last == call.name else 1


def _text(call: Call, name: str) -> str:
    mark = "✗ " if call.error is not None else ""
    if call.fold is not None:
        name = folded_name(call)
    kind = f" ({call.type})" if call.kind == "module" and call.type != name else ""
    return _label(f"{mark}{name}{kind}")


def _label(text: str) -> str:
    """Text for a quoted label: one line, cut where it is long, with entities for what Mermaid or HTML would read."""
    plain = safe(" ".join(text.split())) or "(unnamed)"
    if len(plain) > _LONGEST:
        plain = plain[: _LONGEST - 1] + "…"
    return _MEANS.sub(_entity, plain)


def _entity(found: re.Match[str]) -> str:
    signs = found[0] or "\u200b"  # "1. x" would be a list: nothing stands before it, but invisibly
    return "".join(f"#{_SIGNS.get(sign, ord(sign))};" for sign in signs)


def _shape(spec: TensorSpec) -> str:
    sizes = ", ".join(map(str, spec.shape)) or "scalar"
    return _label(sizes if spec.dtype == "float32" else f"{spec.dtype} {sizes}")


def _tensors(call: Call) -> list[TensorSpec]:
    return [one.value for one in call.output if isinstance(one.value, TensorSpec)]
