"""The recorded tree drawn as lines, one a call, so that a test shows what it expects as it looks."""

from __future__ import annotations

import textwrap

from tracecall.calls import Call, TensorSpec, Trace, Value

MARKS = {"module": "", "operation": "· ", "hook": "⚓ "}


def drawn(trace: Trace, *, internal: bool = False) -> str:
    """`name type in → out`, indented by depth; operations after "·", hooks after "⚓", a failed call ends in "✗".

    Operations inside torch.nn's own forwards only with `internal`.
    """
    return "\n".join(
        "  " * depth + MARKS[call.kind] + _line(call)
        for depth, call in trace.walk()
        if internal or call.kind != "operation" or not call.internal
    )


def drawing(expected: str) -> str:
    """A drawing as it stands in a test, without the test's own indentation."""
    return textwrap.dedent(expected).strip("\n")


def _line(call: Call) -> str:
    kind = "" if call.name == call.type else f"{call.type} "
    if call.kind == "hook":
        return call.name
    given = "✗" if call.error else _tensors(call.output)
    return f"{call.name} {kind}{_tensors(call.inputs)} → {given}"


def _tensors(values: list[Value]) -> str:
    shapes = [value.value.shape for value in values if isinstance(value.value, TensorSpec)]
    return " ".join("[" + ",".join(map(str, shape)) + "]" for shape in shapes) or "·"
