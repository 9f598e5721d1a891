"""A recorded tree drawn as lines with what feeds what, so that a test of the zoo shows what it expects as it looks."""

from __future__ import annotations

import textwrap

from tracecall.calls import Call, TensorSpec, Trace, Value

MARKS = {"module": "", "operation": "· ", "hook": "⚓ "}


def drawn(trace: Trace, *, sources: bool = True, operations: bool = True, internal: bool = False) -> str:
    """`name Type in → out ← sources` of every call, indented by depth; "·" is an operation, "⚓" a hook.

    A failed call ends in the exception's type: "✗ raised" where it was raised, "✗ caught" where it was caught.
    Operations inside torch.nn's own forwards are drawn only with `internal`.
    """
    return "\n".join(
        "  " * depth + MARKS[call.kind] + _line(call, sources)
        for depth, call in trace.walk()
        if call.kind != "operation" or (operations and (internal or not call.internal))
    )


def drawing(expected: str) -> str:
    """A drawing as it stands in a test, without the test's own indentation."""
    return textwrap.dedent(expected).strip("\n")


def names(trace: Trace, kind: str = "operation") -> list[str]:
    """The names of all calls of a kind in call order."""
    return [call.name for _, call in trace.walk() if call.kind == kind]


def only(trace: Trace, name: str) -> Call:
    """The one call with that name."""
    (found,) = [call for _, call in trace.walk() if call.name == name]
    return found


def given(call: Call) -> dict[str, object]:
    """A call's inputs by name: shapes of tensors, text of the rest."""
    return {value.where: _shown(value) for value in call.inputs}


def returned(call: Call) -> dict[str, object]:
    """A call's output in the same way."""
    return {value.where: _shown(value) for value in call.output}


def _shown(value: Value) -> object:
    return value.value.shape if isinstance(value.value, TensorSpec) else value.value


def _line(call: Call, sources: bool) -> str:
    name = call.name if call.kind != "module" or call.name == call.type else f"{call.name} {call.type}"
    if call.kind == "hook":
        return " ".join([name, *([f"✗ {call.error.type}"] if call.error else [", ".join(call.changed or [])])]).strip()
    outcome = _tensors(call.output)
    if call.error is not None:
        outcome = f"✗ {call.error.type}"
        outcome += (" raised" if call.error.raised_here else "") + (" caught" if call.error.caught else "")
    found = list(dict.fromkeys(value.source for value in call.inputs if value.source))
    return f"{name} {_tensors(call.inputs)} → {outcome}" + (f" ← {', '.join(found)}" if found and sources else "")


def _tensors(values: list[Value]) -> str:
    shapes = [value.value.shape for value in values if isinstance(value.value, TensorSpec)]
    return " ".join("[" + ",".join(map(str, shape)) + "]" for shape in shapes) or "·"
