"""What device runs found, written into the Trace of a recorded run: times, memory, and what limits the model."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Literal

from torch import nn

from tracecall.calls import Call, Finding, TensorSpec, Trace
from tracecall.recording.device_clocks import DeviceSamples
from tracecall.recording.timing import same_calls, spread, timed_here

BOUND_BY_DEVICE = 0.8  # of the wall time


def bound(device_ns: float, wall_ns: float) -> Literal["launches", "device"]:
    """What limits a forward: the device, if it works for 80 % of the control run's wall time or more.

    Otherwise it has nothing to do for a fifth of the time or longer: the host is what it waits for, as it queues
    ("launches") the work.
    """
    return "device" if device_ns >= BOUND_BY_DEVICE * wall_ns else "launches"


def add_device_times(
    trace: Trace, devices: list[DeviceSamples], modules: dict[int, str], homes: dict[str, set[str]]
) -> None:
    """Write medians over device runs, and memory, into a recorded Trace that has its host times already.

    A call is measured on the one device that its tensors and parameters are on. Runs that made other calls than the
    recording are left out. `modules` maps a module's id to its path, `homes` a path to where its own parameters are.
    """
    recorded = timed_here(trace)
    used = _devices_of(trace, homes)
    same = {one.name: [run for run in one.calls if same_calls(run, recorded, modules)] for one in devices}
    memory = {one.name: one.memory for one in devices if one.memory and same_calls(one.memory, recorded, modules)}
    elsewhere: list[Call] = []
    split: list[Call] = []
    waited: list[Call] = []
    for i, call in enumerate(recorded):
        names = used[id(call)]
        samples = next((one for one in devices if names <= {one.name}), None)
        if samples is None:
            split.append(call)
            continue
        if samples.name in memory:
            one = memory[samples.name][i]
            call.device_allocated, call.device_memory = one.difference, one.peak
        runs = [run[i] for run in same[samples.name]]
        totals = [run.total for run in runs if run.total is not None]
        if len(totals) < len(runs):
            elsewhere.append(call)
        elif totals:
            own = [run.own for run in runs if run.own is not None]
            call.device_ns, call.device_spread_ns = round(statistics.median(totals)), spread(totals)
            call.device_self_ns = round(statistics.median(own)) if len(own) == len(runs) else None
            if i in samples.waited:
                waited.append(call)
    trace.findings.extend(_findings(elsewhere, split, waited))
    passes = [one for one in devices[0].passes if one is not None]
    if trace.timing is not None and len(devices) == 1 and passes:
        trace.timing.device_ns, trace.timing.device_spread_ns = round(statistics.median(passes)), spread(passes)
        trace.timing.bound = bound(trace.timing.device_ns, trace.timing.untraced_ns)


def homes(modules: dict[str, nn.Module]) -> dict[str, set[str]]:
    """Where the own parameters and buffers of each module are, by its path."""
    return {
        path: {
            str(tensor.device)
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        }
        for path, module in modules.items()
    }


def _devices_of(trace: Trace, homes: dict[str, set[str]]) -> dict[int, set[str]]:
    """The accelerators that hold tensors of each call, or of the calls inside it, by the call's id."""
    found: dict[int, set[str]] = {}
    waiting: list[tuple[Call, Call | None]] = [(call, None) for call in trace.calls]
    order = []
    while waiting:
        call, around = waiting.pop()
        order.append((call, around))
        waiting.extend((child, call) for child in call.children)
        values = (value.value for value in (*call.inputs, *call.output))
        names = {value.device for value in values if isinstance(value, TensorSpec)}
        if call.kind == "module":
            names |= homes.get(call.path, set())
        found[id(call)] = {name for name in names if name.partition(":")[0] not in ("cpu", "meta")}
    for call, around in reversed(order):
        if around is not None:
            found[id(around)] |= found[id(call)]
    return found


def _findings(elsewhere: list[Call], split: list[Call], waited: list[Call]) -> Iterator[Finding]:
    """One for each reason, however many calls there are."""
    for calls, message in (
        (elsewhere, "device time of {} was not measured: its work was queued on another stream"),
        (split, "device time of {} was not measured: its work is on more than one device"),
        (
            waited,
            "device time of {} may hold time in which the device had nothing to do: it caught up with the host",
        ),
    ):
        if calls:
            name = calls[0].path or calls[0].type
            more = {call.path for call in calls} - {calls[0].path}
            names = f"{name} and {len(more)} more" if more else name
            yield Finding("device-time", message.format(names), calls[0].path, calls[0].site)
