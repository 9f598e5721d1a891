"""A Trace of a fake run made readable: formulas for torch's words, the signature, likeness to another run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from tracecall.calls import Call, TensorSpec, Trace, Value
from tracecall.symbolic.dims import Sizes
from tracecall.symbolic.formulas import UNKNOWN, Formulas, evaluator

LISTED = 3  # inputs and outputs in the signature


def specs(trace: Trace) -> Iterable[TensorSpec]:
    """Every tensor of a Trace."""
    for _, call in trace.walk():
        for value in (*call.inputs, *call.output):
            if isinstance(value.value, TensorSpec):
                yield value.value


Shapes = list[tuple[str, list[tuple[Any, ...]]]]


def expected_shapes(trace: Trace, formulas: Formulas) -> Callable[[Sizes], Shapes]:
    """The output shapes of every module call as a function of the sizes; None for a size that depends on values."""
    names = tuple(formulas.symbols)
    made: dict[str, Any] = {}

    def size_of(size: int | str, sizes: Sizes) -> int | None:
        if isinstance(size, int):
            return size
        if size not in made:
            expr = formulas.parse(size)
            made[size] = None if expr is None else evaluator(expr, names)
        try:
            return None if made[size] is None else int(made[size](*[sizes[name] for name in names]))
        except (ZeroDivisionError, ValueError, OverflowError):  # a divisor that is 0 with these sizes
            return None

    raw = _outputs(trace)
    return lambda sizes: [
        (path, [tuple(size_of(size, sizes) for size in shape) for shape in found]) for path, found in raw
    ]


def _outputs(trace: Trace) -> Shapes:
    return [
        (call.path, [value.value.shape for value in call.output if isinstance(value.value, TensorSpec)])
        for _, call in trace.walk()
        if call.kind == "module"
    ]


def as_expected(expected: Callable[[Sizes], Shapes], trace: Trace, sizes: Sizes) -> bool:
    """Whether a run on these sizes made the calls and shapes that the formulas say."""
    wanted, found = expected(sizes), _outputs(trace)
    if len(wanted) != len(found):
        return False
    for (path, shapes), (other, seen) in zip(wanted, found, strict=True):
        if path != other or [len(shape) for shape in shapes] != [len(shape) for shape in seen]:
            return False
        for shape, actual in zip(shapes, seen, strict=True):
            if any(a is not None and isinstance(b, int) and a != b for a, b in zip(shape, actual, strict=True)):
                return False
    return True


def keeps_names(expected: Callable[[Sizes], Shapes], stated: Trace, trace: Trace, sizes: Sizes) -> bool:
    """Whether the output's dimensions that are formulas of the names have the sizes that these say."""
    wanted, formulas, found = expected(sizes)[:1], _outputs(stated)[:1], _outputs(trace)[:1]
    for (_, shapes), (_, texts), (_, seen) in zip(wanted, formulas, found, strict=False):
        for shape, text, actual in zip(shapes, texts, seen, strict=False):
            if any(
                isinstance(c, str) and a is not None and a != b for a, b, c in zip(shape, actual, text, strict=False)
            ):
                return False
    return True


def what_differs(expected: Callable[[Sizes], Shapes], trace: Trace, sizes: Sizes) -> str:
    """In which way a run is not as the formulas say: "with other calls", "with other shapes", or both."""
    wanted, found = expected(sizes), _outputs(trace)
    if [path for path, _ in wanted] == [path for path, _ in found]:
        return "with other shapes"
    roots = zip(wanted[:1], found[:1], strict=False)
    alike = all(
        [len(shape) for shape in shapes] == [len(shape) for shape in seen]
        and all(
            a is None or a == b for one, two in zip(shapes, seen, strict=False) for a, b in zip(one, two, strict=False)
        )
        for (_, shapes), (_, seen) in roots
    )
    return "with other calls" if alike else "with other calls and shapes"


_SYMBOLIC = re.compile(r"\b(?:z?u|s|zuf|zf)\d+\b")


def clean(trace: Trace, text: Callable[[str], str]) -> None:
    """Replace torch's words for sizes in a Trace; a fake tensor is shown as what it stands for, without strides."""
    specs: dict[TensorSpec, TensorSpec] = {}

    def cleaned(spec: TensorSpec) -> TensorSpec:
        if spec not in specs:
            sizes = tuple(_number(text(size)) if isinstance(size, str) else size for size in spec.shape)
            kind = None if spec.type in ("FakeTensor", "Parameter") else spec.type
            specs[spec] = TensorSpec(sizes, spec.dtype, spec.device, spec.requires_grad, None, spec.layout, kind)
        return specs[spec]

    def clean(value: Value) -> None:
        if isinstance(value.value, TensorSpec):
            value.value = cleaned(value.value)
        elif _SYMBOLIC.search(value.value):
            value.value = _argument(value.value, text)

    for _, call in trace.walk():
        for value in (*call.inputs, *call.output):
            clean(value)


def _argument(written: str, text: Callable[[str], str]) -> str:
    """An argument that holds sizes: "s44", "[s44, -1, 32*((s1//4))]"."""
    open_, close = (
        (written[0], written[-1]) if written[:1] + written[-1:] in ("[]", "()") and "," in written else ("", "")
    )
    inside = written[1:-1] if open_ else written
    parts = re.split(r",\s*(?![^()]*\))", inside)
    return open_ + ", ".join(text(part) if _SYMBOLIC.search(part) else part for part in parts) + close


def _number(size: str) -> int | str:
    return int(size) if size.isdecimal() else size


def signature(trace: Trace) -> str:
    """What goes in and what comes out as one line: "CNN: B,3,H,W → B,10"; several by name."""
    root: Call | None = next((call for call in trace.calls if call.kind == "module"), None)
    if root is None:
        return trace.model.name
    left = _side(root.inputs)
    if root.error is not None or trace.error is not None:
        return f"{trace.model.name}: {left} ✗"
    return f"{trace.model.name}: {left} → {_side(root.output)}"


def _side(values: list[Value]) -> str:
    tensors = [(_name(value.where), value.value) for value in values if isinstance(value.value, TensorSpec)]
    texts = [
        (f"{where} " if where and len(tensors) > 1 else "") + (",".join(map(str, spec.shape)) or "scalar")
        for where, spec in tensors
    ]
    more = [f"{len(texts) - LISTED} more"] if len(texts) > LISTED else []
    return "; ".join([*texts[:LISTED], *more]) or "nothing"


def _name(where: str) -> str:
    """The way into an output as a name: "logits" for ".logits" and for "['logits']"."""
    key = re.fullmatch(r"\['(\w+)'\]", where)
    return key[1] if key else where.lstrip(".")


def numbers(size: str) -> str:
    """What a run without symbols says of a size: a number, or "?" for one that depends on values."""
    return size if size.isdecimal() else UNKNOWN
