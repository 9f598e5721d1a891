"""tracecall shows what a PyTorch `model(x)` really does: `__call__`, hooks, forward and submodules, as a tree.

    trace = tracecall.trace(model, x)             run the model once and record it
    with tracecall.tracing(model) as trace: …     record the reader's own code
    trace = tracecall.measure(model, (x,))        record it, then time it
    trace = tracecall.load("trace.json.gz")       read what trace.save("trace.json.gz") has written
    story = tracecall.explain(model, x)           tell what model(x) does, each step with its evidence
    tracecall.assert_shapes(model, x, {"fc": …})  in a test: the shapes of modules, by path

Each name is imported on first use, so that importing tracecall costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracecall.asserting import assert_shapes
    from tracecall.calls import Call, ModuleInfo, TensorSpec, Trace
    from tracecall.errors import TracecallError
    from tracecall.explanation import explain
    from tracecall.recording import last_trace, measure
    from tracecall.running import trace, tracing
    from tracecall.tracefile import load

__all__ = [
    "Call",
    "ModuleInfo",
    "TensorSpec",
    "Trace",
    "TracecallError",
    "assert_shapes",
    "explain",
    "last_trace",
    "load",
    "measure",
    "trace",
    "tracing",
]

_HOMES = {
    **dict.fromkeys(("Call", "ModuleInfo", "TensorSpec", "Trace"), "tracecall.calls"),
    **dict.fromkeys(("last_trace", "measure"), "tracecall.recording"),
    **dict.fromkeys(("trace", "tracing"), "tracecall.running"),
    "TracecallError": "tracecall.errors",
    "load": "tracecall.tracefile",
    "assert_shapes": "tracecall.asserting",
    "explain": "tracecall.explanation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
