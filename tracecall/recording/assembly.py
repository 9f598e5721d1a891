"""From a stopped recording to a Trace: names and sites of the calls, labels of what fed them, states, findings."""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import torch

from tracecall import recording
from tracecall.calls import Call, CallError, Environment, Settings, Site, TensorSpec, Trace, Value
from tracecall.recording import values
from tracecall.recording.aten import count_operations
from tracecall.recording.hook_calls import add_missed
from tracecall.recording.open_calls import NOTHING
from tracecall.recording.recorder import Recorder
from tracecall.recording.sites import Place, assignment_name, callee_text, expression_name, site
from tracecall.recording.states import find_states
from tracecall.recording.user_hooks import hook_name, hook_site, module_hooks

_OWN_FILES = (recording.__file__,)


def trace_of(recorder: Recorder) -> Trace:
    """The recording as plain data; it holds no tensor, module, frame or exception."""
    modules = recorder.modules
    _complete(recorder)
    missed = add_missed(recorder.missed_before)
    assignments = _tell_sites(recorder)
    infos = modules.infos()
    devices = modules.devices()
    trace = Trace(
        model=modules.model_info(infos, recorder.training),
        environment=Environment(str(torch.__version__), platform.python_version(), _device_names(devices)),
        settings=Settings(grad_mode=grad_mode(), operations=recorder.operations, device=", ".join(devices)),
        modules=infos,
        calls=recorder.calls,
    )
    for path, module in modules.by_path.items():
        infos[path].hooks = [
            f"{info.when} {hook_name(hook)}" + (f" ({where.file}:{where.line})" if (where := hook_site(hook)) else "")
            for _, _, hook, info in module_hooks(module)
        ]
    _name(recorder, trace, assignments)
    _label_sources(trace)
    _weigh(trace)
    trace.error = _error(trace)
    if trace.error is not None:
        from tracecall.recording.failures import add_signature

        add_signature(trace, modules.by_path)
    find_states(recorder, trace)
    trace.findings.extend(missed)
    return trace


def _complete(recorder: Recorder) -> None:
    """What was left for the end of the run: lists of none or one, the texts of plain arguments, the aten operations."""
    waiting = list(recorder.calls)
    while waiting:
        call = waiting.pop()
        if call.children is NOTHING:
            call.children = []
        output: object = call.output  # until here, one tensor may stand for itself
        if output is NOTHING:
            call.output = []
        elif isinstance(output, TensorSpec):
            call.output = [Value("", output)]
        if call.kind == "operation":
            call.inputs = list(_values(call.inputs))
        waiting.extend(call.children)
    count_operations(recorder.operation_order)


def _values(inputs: list[Value]) -> Iterator[Value]:
    """Inputs of an operation with texts: until here plain arguments stand for theirs, and several in one Value."""
    for value in inputs:
        where: object = value.where
        plain: object = value.value
        if isinstance(where, tuple) and isinstance(plain, tuple):
            for name, one in zip(where, plain, strict=False):  # those with defaults may be left out
                yield Value(name, values.short(one))
        else:
            if not isinstance(plain, (str, TensorSpec)):
                value.value = values.short(plain)
            yield value


def _tell_sites(recorder: Recorder) -> dict[int, str]:
    """Make Sites of places; returns the names of assignments to an index, by the operation's id."""
    # by the place's id: there is one of each, and hashing code objects is slow
    sites: dict[int, Site | None] = {}
    names: dict[int, str | None] = {}
    for place in (place for _, places in recorder.places.values() for place in places.values()):
        sites[id(place)] = None if place.code.co_filename in _OWN_FILES else site(place)
        names[id(place)] = assignment_name(place)
    assignments: dict[int, str] = {}
    waiting = list(recorder.calls)
    while waiting:
        call = waiting.pop()
        waiting.extend(call.children)
        for owner in (call, call.error):
            where: object = None if owner is None else owner.site
            if owner is not None and isinstance(where, Place):
                if name := names.get(id(where)):
                    assignments[id(call)] = name
                owner.site = sites[id(where)] if id(where) in sites else site(where)
    return assignments


def _weigh(trace: Trace) -> None:
    """The bytes of the tensors that module calls and operations gave back."""
    sizes: dict[str, int | None] = {}
    for _, call in trace.walk():
        if call.kind != "hook" and call.error is None:
            call.output_bytes = _bytes(call.output, sizes)


def _bytes(output: list[Value], sizes: dict[str, int | None]) -> int | None:
    """Elements × bytes of one; None where either is not known. `sizes` remembers the bytes of each dtype."""
    total = 0
    for one in output:
        spec = one.value
        if isinstance(spec, TensorSpec):
            if spec.dtype not in sizes:
                sizes[spec.dtype] = getattr(getattr(torch, spec.dtype, None), "itemsize", None)
            size = sizes[spec.dtype]
            dense = spec.layout in (None, "quantized")
            if size is None or not dense or not all(isinstance(length, int) for length in spec.shape):
                return None
            total += size * math.prod(length for length in spec.shape if isinstance(length, int))
    return total


def _error(trace: Trace) -> CallError | None:
    """The exception that ended the run, with the site that raised it."""
    for _, call in trace.walk():
        if call.error is not None and call.error.raised_here and call.error.site is None:
            call.error.site = call.site
    raising = trace.failing()
    return None if raising is None else raising.error


def grad_mode() -> Literal["grad", "no_grad", "inference"]:
    """The mode that operations run in here."""
    if torch.is_inference_mode_enabled():
        return "inference"
    return "grad" if torch.is_grad_enabled() else "no_grad"


def _device_names(devices: list[str]) -> dict[str, str]:
    names = {}
    for device in devices:
        kind = torch.device(device).type
        if kind == "cuda" and torch.cuda.is_available():
            names[device] = torch.cuda.get_device_name(device)
        elif kind == "cpu":
            names[device] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"
        else:
            names[device] = kind
    return names


def _name(recorder: Recorder, trace: Trace, assignments: dict[int, str]) -> None:
    """Names as the caller wrote them: a module by its path from the caller's module, an operation by its expression."""
    above: list[Call] = []
    for depth, call in trace.walk():
        del above[depth:]
        parent = above[-1] if above else None
        above.append(call)
        text = call.site.text if call.site else None
        if call.kind == "module":
            call.name = _module_name(recorder, call, parent, text)
        elif call.kind == "operation":
            call.name = assignments.get(id(call)) or expression_name(text) or call.type


def _module_name(recorder: Recorder, call: Call, parent: Call | None, text: str | None) -> str:
    if parent is None and not call.path:
        return call.type
    module = recorder.modules.by_path.get(call.path)
    paths = [call.path, *(recorder.modules.aliases.get(id(module), []) if module is not None else [])]
    if parent is None:
        return call.path
    prefix = parent.path + "." if parent.path else ""
    relative = [path.removeprefix(prefix) for path in paths if path.startswith(prefix) and path != parent.path]
    if len(relative) > 1 and (written := callee_text(text)) in relative:
        return str(written)
    return relative[0] if relative else (callee_text(text) or call.path or call.type)


def _label_sources(trace: Trace) -> None:
    """A source beside the call that it feeds is its name ("conv1", "pool #2" if that stands twice), else its path."""
    parents: dict[int, Call | None] = {}
    ordinal: dict[int, str] = {}
    for siblings, parent in [(trace.calls, None), *((call.children, call) for _, call in trace.walk())]:
        totals = Counter(call.name for call in siblings)
        seen: Counter[str] = Counter()
        for call in siblings:
            seen[call.name] += 1
            parents[id(call)] = parent
            ordinal[id(call)] = call.name if totals[call.name] == 1 else f"{call.name} #{seen[call.name]}"
    for _, user in trace.walk():
        for value in user.inputs:
            source: Call | str | None = value.source  # until here, the call itself
            if isinstance(source, Call):
                if parents[id(user)] is parents.get(id(source)):
                    value.source = ordinal[id(source)]
                elif source.kind == "module":
                    value.source = source.path or source.name
                else:
                    value.source = f"{source.path}: {source.name}" if source.path else source.name
