"""A timeline for ui.perfetto.dev and chrome://tracing: the calls with their measured times, as Chrome trace events.

The format is Google's "Trace Event Format". Every call is a pair of "B" and "E" events on the track of its thread: a
reader may round times, and pairs stay nested where lengths would not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tracecall.calls import Call, TensorSpec, Trace, Value
from tracecall.errors import TracecallError
from tracecall.views.labels import parameters, place, registered, safe, tensor

HOST, DEVICE = 1, 2  # process ids: one group of tracks each
LAYOUT = (
    "Lengths are medians of the timing runs. Starts were not measured: calls are laid out in order inside the call"
    " that made them, with its own time spread evenly between them. Medians do not add up exactly: where the calls"
    " inside one take longer together than it does, it is drawn as long as they are; host_us and device_us are what"
    " was measured."
)


def perfetto(trace: Trace) -> str:
    """Return the trace as one JSON object with `traceEvents`; needs times, and is a TracecallError without them."""
    if not any(call.host_ns is not None for call in trace.calls):
        if trace.error is not None:
            raise TracecallError("--perfetto needs times, and the forward failed before it was timed; mend that first")
        raise TracecallError("--perfetto needs times, and this trace has none; record it without --repeat 0")
    below = parameters(trace)
    events = list(_names(HOST, f"{trace.model.name}: host"))
    events += _events(trace, below, HOST)
    if any(call.device_ns is not None for _, call in trace.walk()):
        events += _names(DEVICE, f"{trace.model.name}: {_device(trace)}")
        events += _events(trace, below, DEVICE)
    about = {
        "made by": "tracecall",
        "model": safe(trace.model.name),
        "torch": safe(trace.environment.torch),
        "layout": LAYOUT,
    }
    if trace.settings.notes:
        about["notes"] = safe("; ".join(trace.settings.notes))
    if trace.timing is not None:
        about["runs"] = str(trace.timing.runs)
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ns", "otherData": about}).decode()


def _device(trace: Trace) -> str:
    others = [f"{device} ({name})" for device, name in trace.environment.devices.items() if device != "cpu"]
    return ", ".join(others) or trace.settings.device


def _names(process: int, name: str) -> Iterator[dict[str, Any]]:
    yield _metadata("process_name", process, 0, {"name": safe(name)})
    yield _metadata("process_sort_index", process, 0, {"sort_index": process})


def _metadata(name: str, process: int, thread: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "ts": 0, "pid": process, "tid": thread, "args": args}


def _time(call: Call, process: int) -> int | None:
    return call.host_ns if process == HOST else call.device_ns


def _lengths(trace: Trace, process: int) -> dict[int, int]:
    """Nanoseconds that each call is drawn with, by its id: its own, or what the calls inside take if that is more."""
    lengths: dict[int, int] = {}
    for call in reversed([call for _, call in trace.walk()]):  # what is inside comes first
        inside = sum(lengths[id(child)] for child in call.children if child.thread is None)
        lengths[id(call)] = max(_time(call, process) or 0, inside)
    return lengths


def _events(trace: Trace, below: dict[str, int], process: int) -> list[dict[str, Any]]:
    """The tracks of one process; iterative, since a model may be as deep as Python allows."""
    lengths = _lengths(trace, process)
    tracks: dict[str | None, int] = {None: 1}  # the thread of the root, then others by name
    free: dict[int, int] = {}  # when the last call of another thread has ended: two may not overlap on one track
    found: list[dict[str, Any]] = []
    waiting: list[tuple[Call | None, int, int]] = []  # a call, its track and start; None: the call there ends then
    start = 0
    for call in trace.calls:
        waiting.append((call, 1, start))
        start += lengths[id(call)]
    waiting.reverse()
    while waiting:
        one, track, start = waiting.pop()
        if one is None:
            found.append({"ph": "E", "ts": start / 1000, "pid": process, "tid": track})
            continue
        length = lengths[id(one)]
        if process == DEVICE and not length and one.device_ns is None:
            continue  # it ran nothing there
        if one.thread is not None:
            track = tracks.setdefault(one.thread, len(tracks) + 1)
            start = max(start, free.get(track, 0))
            free[track] = start + length
        found.append(_begin(one, below, process, track, start))
        waiting.append((None, track, start + length))
        waiting.extend(reversed([(child, track, at) for child, at in _placed(one, start, lengths)]))
    names = [
        _metadata("thread_name", process, track, {"name": "forward" if name is None else f"thread {safe(name)}"})
        for name, track in tracks.items()
    ]
    return names + found


def _placed(call: Call, start: int, lengths: dict[int, int]) -> Iterator[tuple[Call, int]]:
    """The calls inside one with their starts: in order, the call's own time spread evenly between them."""
    here = [lengths[id(child)] for child in call.children if child.thread is None]
    own, before, done = lengths[id(call)] - sum(here), 0, 0
    for child in call.children:
        if child.thread is None:
            before += 1
        yield child, start + done + own * before // (len(here) + 1)
        if child.thread is None:
            done += lengths[id(child)]


def _begin(call: Call, below: dict[str, int], process: int, track: int, start: int) -> dict[str, Any]:
    return {
        "name": safe(call.name) or "(unnamed)",
        "cat": call.kind,
        "ph": "B",
        "ts": start / 1000,
        "pid": process,
        "tid": track,
        "args": dict(_arguments(call, below)),
    }


def _arguments(call: Call, below: dict[str, int]) -> Iterator[tuple[str, Any]]:
    """What Perfetto shows of a call that is clicked on; what is not known is left out."""
    yield "type", safe(call.type)
    if call.path:
        yield "path", safe(call.path)
    if call.inputs:
        yield "inputs", {safe(one.where) or f"input {i}": _text(one) for i, one in enumerate(call.inputs)}
    if call.output:
        yield "output", [_text(one) for one in call.output]
    if call.site is not None:
        yield "site", place(call.site)
        if call.site.text:
            yield "expression", safe(call.site.text)
    if call.kind == "module" and below.get(call.path):
        yield "parameters", below[call.path]
    for name in ("host", "host_self", "spread", "device", "device_self", "device_spread"):
        time = getattr(call, f"{name}_ns")
        if time is not None:
            yield f"{name}_us", time / 1000
    for name in ("samples", "flops", "output_bytes", "device_memory", "device_allocated", "operations"):
        number = getattr(call, name)
        if number is not None:
            yield name, number
    if call.hook is not None:
        yield "hook", registered(call.hook)
    if call.changed:
        yield "changed", [safe(one) for one in call.changed]
    if call.opaque:
        yield "opaque", safe(call.opaque)
    if call.error is not None:
        yield "error", safe(f"{call.error.type}: {call.error.message}")


def _text(value: Value) -> str:
    text = tensor(value.value) if isinstance(value.value, TensorSpec) else safe(value.value)
    return f"{text} ← {safe(value.source)}" if value.source else text
