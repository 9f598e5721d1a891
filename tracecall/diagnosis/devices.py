"""Tensors on different devices: a buffer, a parameter or a tensor made inside forward that stayed elsewhere."""

from __future__ import annotations

from collections import Counter

from tracecall.calls import Call, TensorSpec, Value
from tracecall.diagnosis.expressions import operands, replaced
from tracecall.diagnosis.failure import Answer, Failure, maker_name, spec_of, subject, tensors
from tracecall.diagnosis.origin import maker_of, root_input, way_back
from tracecall.proposals import MoveTo, Proposal


def devices(failure: Failure) -> Answer | None:
    """An operation whose tensors are on several devices. A scalar on the CPU goes with any device."""
    call = failure.operation or failure.module
    found = [
        (value, spec)
        for value in tensors(call)
        if (spec := spec_of(value)) is not None and (spec.shape or spec.device != "cpu")
    ]
    names = list(dict.fromkeys(spec.device for _, spec in found))
    if len(names) < 2 or "device" not in failure.error.message.lower():
        return None
    main = _main(failure, names)
    stray = [(value, spec) for value, spec in found if spec.device != main]
    told = [_described(failure, call, value, spec) for value, spec in stray]
    where = failure.module if call.internal else call
    sentence = f"{subject(failure, where)}: {' and '.join(dict.fromkeys(told))}, the rest on {main}"
    return failure.cause("device", sentence), _moved(failure, call, stray, main)


def _main(failure: Failure, names: list[str]) -> str:
    """The device that the others should be on: where the model's inputs are, else where most parameters are."""
    given = Counter(spec.device for value in tensors(failure.root) if (spec := spec_of(value)) is not None)
    known = failure.trace.settings.device.split(", ")
    parameters = [name for name in known if name in names]
    if len(known) == 1 and parameters and parameters[0] != "cpu":
        return parameters[0]
    inputs = [name for name, _ in given.most_common() if name in names and name != "cpu"]
    other = next((name for name in names if name != "cpu"), names[0])
    return inputs[0] if inputs else other


def _described(failure: Failure, call: Call, value: Value, spec: TensorSpec) -> str:
    stop = next((stop for stop in way_back(failure, call, value) if stop.value is None), None)
    names = [] if call.internal else operands(call)
    at = next((at for at, one in enumerate(tensors(call)) if one is value), len(names))
    label = (names[at] if at < len(names) else value.where) if stop is None else stop.label
    made = None if stop is None or value.source is None else maker_of(failure, call, value.source)
    if made is not None and made.kind == "operation" and not tensors(made) and made.site is not None:
        return f"{label}, made at {made.site.file}:{made.site.line}, is on {spec.device}"
    if label == "input input":
        label = "the input"
    elif stop is not None and stop.call.kind == "module" and not label.startswith(("input ", "parameter ", "buffer ")):
        label = maker_name(stop.call)
    return f"{label} is on {spec.device}"


def _moved(failure: Failure, call: Call, stray: list[tuple[Value, TensorSpec]], main: str) -> list[Proposal]:
    site = failure.written.site
    if site is None:
        return []
    edit = MoveTo(site, device=main)
    value = stray[0][0]
    if call.internal:
        label = value.source or ""
        root = root_input(failure, call, value)
        if root is not None:
            text: str | None = f"{root.where}.to('{main}')"
        elif label.startswith(("parameter ", "buffer ")):
            text = f"model.to('{main}')"
        else:
            text = replaced(failure.written, 0, f".to('{main}')")
        return [] if text is None else [Proposal(text, [edit])]
    names = operands(call)
    at = next((at for at, one in enumerate(tensors(call)) if one is value), 0)
    if value.where in names:
        at = names.index(value.where)
    moved = replaced(call, at, f".to('{main}')") or f"{value.where}.to('{main}')"
    return [Proposal(moved, [edit])]
