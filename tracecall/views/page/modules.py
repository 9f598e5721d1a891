"""The modules of a Trace as rows of the page's table: what the calls of each took together."""

from __future__ import annotations

from dataclasses import dataclass

from tracecall.calls import Trace
from tracecall.views import labels


@dataclass
class Module:
    """One module. Times in ns and bytes are sums over its calls; None where one of them was not measured."""

    path: str
    type: str
    state: str  # "called", "bypassed"…
    calls: int = 0
    host: int | None = None
    own: int | None = None
    device: int | None = None
    flops: int | None = None
    output: int | None = None
    parameters: int = 0


def modules(trace: Trace) -> list[Module]:
    """Every module that was called or has something to say, in the model's order.

    A call inside a call of the same module adds to its own time only: nothing is counted twice.
    """
    totals = labels.parameters(trace)
    found = {
        path: Module(path, info.type, info.state, parameters=totals.get(path, 0))
        for path, info in trace.modules.items()
        if not info.container
    }
    above: list[str | None] = []
    for depth, call in trace.walk():
        del above[depth:]
        outermost = call.path not in above
        above.append(call.path if call.kind == "module" else None)
        if call.kind != "module":
            continue
        row = found.setdefault(call.path, Module(call.path, call.type, "called", parameters=totals.get(call.path, 0)))
        first = row.calls == 0
        row.calls += 1
        row.own = _sum(row.own, call.host_self_ns, first)
        if outermost:
            row.host = _sum(row.host, call.host_ns, first)
            row.device = _sum(row.device, call.device_ns, first)
            row.flops = _sum(row.flops, call.flops, first)
            row.output = _sum(row.output, call.output_bytes, first)
    return list(found.values())


def _sum(so_far: int | None, more: int | None, first: bool) -> int | None:
    if first:
        return more
    return None if so_far is None or more is None else so_far + more
