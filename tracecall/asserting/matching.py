"""Expected shapes held against a Trace: which names are bound where, and what does not match."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tracecall.asserting.patterns import Shape, Wanted
from tracecall.calls import Call, TensorSpec, Trace, Value

Side = Literal["input", "output"]


@dataclass
class Bound:
    """A size that a name stands for, and the call and side where it was first seen."""

    size: int | str
    origin: str


@dataclass
class Mismatch:
    """One tensor, or a call's tensors, that are not as expected."""

    call: Call
    about: str  # "conv1 (Conv2d): output"
    expected: str
    seen: str
    why: str


@dataclass
class Matching:
    """All that was found: names as they were bound, in the order of the run, and mismatches in that order."""

    bound: dict[str, Bound] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)


@dataclass
class _Moment:
    """One side of one call that something is expected of."""

    call: Call
    side: Side
    number: int | None  # of the call, where its module has several
    shapes: dict[int | str, Shape]

    def values(self) -> list[Value]:
        return self.call.inputs if self.side == "input" else self.call.output

    def tensors(self) -> list[tuple[str, TensorSpec]]:
        return [(one.where, one.value) for one in self.values() if isinstance(one.value, TensorSpec)]

    def matched(self) -> list[tuple[str, Shape, TensorSpec | None]]:
        """Each expected shape beside the tensor that is under its key; None where there is none."""
        found = self.tensors()
        result: list[tuple[str, Shape, TensorSpec | None]] = []
        for key, shape in self.shapes.items():
            if isinstance(key, int):
                where, spec = found[key] if key < len(found) else ("", None)
            else:
                names = (key, f".{key}", f"[{key!r}]")
                where, spec = next((one for one in found if one[0] in names), (f"[{key!r}]", None))
            result.append((where, shape, spec))
        return result

    def complete(self) -> bool:
        """Whether each place has a tensor and no tensor is without one; with keys, others may be there."""
        keyed = any(isinstance(key, str) for key in self.shapes)
        return keyed or len(self.tensors()) == len(self.shapes)

    def origin(self) -> str:
        name = (self.call.path or self.call.type) + (f", call {self.number}" if self.number else "")
        return f"the input of {name}" if self.side == "input" else name

    def named(self, where: str) -> str:
        """One of its tensors: "x", "output[0]"."""
        return f"output{where}" if self.side == "output" else where

    def about(self, where: str = "") -> str:
        name = f"{self.call.path} ({self.call.type})" if self.call.path else self.call.type
        tensor = f"output{where}" if self.side == "output" else f"input {where}".rstrip()
        return f"{name}{f', call {self.number}' if self.number else ''}: {tensor}"


def match(trace: Trace, expected: dict[str, Wanted]) -> Matching:
    """Bind every name where it is first seen in the run, then hold every size against what was seen.

    Binding comes first, so that a formula may stand before the name that it needs.
    """
    moments = list(_moments(trace, expected))
    found = Matching()
    for moment in moments:
        if moment.complete():
            for _, shape, spec in moment.matched():
                for size, seen in (shape.pairs(spec.shape) if spec is not None else None) or ():
                    if size.name is not None and size.name not in found.bound:
                        found.bound[size.name] = Bound(seen, moment.origin())
    for moment in moments:
        found.mismatches.extend(_mismatches(moment, found.bound))
    return found


def _moments(trace: Trace, expected: dict[str, Wanted]) -> Iterator[_Moment]:
    """What is expected, in the order of the run: a call's input as it begins, its output as it ends."""
    asked: dict[int, list[tuple[int | None, Wanted]]] = {}
    for path, one in expected.items():
        calls = trace.find(path)
        for i, call in enumerate(calls):
            asked.setdefault(id(call), []).append((i + 1 if len(calls) > 1 else None, one))
    open_calls: list[Call] = []

    def ended(call: Call) -> Iterator[_Moment]:
        for number, one in asked.get(id(call), ()):
            yield _Moment(call, "output", number, one.output)

    for depth, call in trace.walk():
        while len(open_calls) > depth:
            yield from ended(open_calls.pop())
        for number, one in asked.get(id(call), ()):
            if one.inputs is not None:
                yield _Moment(call, "input", number, one.inputs)
        open_calls.append(call)
    while open_calls:
        yield from ended(open_calls.pop())


def _mismatches(moment: _Moment, bound: dict[str, Bound]) -> Iterator[Mismatch]:
    error = moment.call.error
    if moment.side == "output" and error is not None:
        expected = ", ".join(map(str, moment.shapes.values()))
        yield Mismatch(moment.call, moment.about(), expected, "nothing", f"it raised {error.type}, which was caught")
        return
    if not moment.complete():
        tensors = moment.tensors()
        names = ", ".join(moment.named(where) for where, _ in tensors)
        got = f"{_tensors(len(tensors))}{f' ({names})' if len(tensors) > 1 else ''}"
        yield Mismatch(
            moment.call,
            moment.about(),
            ", ".join(map(str, moment.shapes.values())),
            ", ".join(_sizes(spec) for _, spec in tensors) or ", ".join(str(one.value) for one in moment.values()[:3]),
            f"{_tensors(len(moment.shapes))} expected, got {got}",
        )
        return
    for where, shape, spec in moment.matched():
        if spec is None:
            names = ", ".join(moment.named(where) for where, _ in moment.tensors()) or "none"
            yield Mismatch(moment.call, moment.about(where), str(shape), "nothing", f"the tensors there are: {names}")
        elif why := _why(shape, spec, bound):
            yield Mismatch(moment.call, moment.about(where), str(shape), _sizes(spec), why)


def _why(shape: Shape, spec: TensorSpec, bound: dict[str, Bound]) -> str:
    """Why a shape is not the one expected; "" if it is."""
    pairs = shape.pairs(spec.shape)
    if pairs is None:
        least = "" if shape.rest is None else "at least "
        one = "" if len(shape.sizes) == 1 else "s"
        return f"{least}{len(shape.sizes)} dimension{one} expected, got {len(spec.shape)}"
    known = {name: one.size for name, one in bound.items()}
    wrong: list[str] = []
    for size, seen in pairs:
        if size.tree is None or not size.names() <= known.keys():
            continue  # a name is not bound only where the shape that has it does not match, which is said there
        try:
            value = size.value(known)
        except ValueError as error:
            wrong.append(f"{size.text}: {error}")
            continue
        if value != seen:
            wrong.append(f"{size.text} {'' if str(value) == size.text else f'= {value} '}expected, got {seen}")
    return "; ".join(wrong)


def _tensors(number: int) -> str:
    return "1 tensor" if number == 1 else f"{number or 'no'} tensors"


def _sizes(spec: TensorSpec) -> str:
    return "[" + ", ".join(map(str, spec.shape)) + "]"
