"""Where NaN and Inf begin: the first call whose output has one while its inputs had none."""

from __future__ import annotations

from typing import NamedTuple

import torch

from tracecall.calls import Call, Finding, TensorSpec
from tracecall.recording.proofs import Inputs, output_tensors
from tracecall.recording.replays import Calls, Event, plain, replay, title


class Numbers(NamedTuple):
    """What one tensor holds besides ordinary numbers."""

    nan: bool
    inf: bool


def numbers(tensor: torch.Tensor) -> Numbers:
    """Whether a tensor holds NaN or Inf."""
    if not tensor.is_floating_point() and not tensor.is_complex():
        return Numbers(False, False)
    return Numbers(bool(tensor.isnan().any()), bool(tensor.isinf().any()))


def nonfinite(calls: Calls, inputs: Inputs, output: object, *, look: bool) -> list[Finding]:
    """A finding if what the model returned holds NaN or Inf; with `look` it names the call where that began."""
    found = output_tensors(output)
    nans = sum(int(tensor.isnan().sum()) for tensor in found)
    infs = sum(int(tensor.isinf().sum()) for tensor in found)
    if not nans and (not infs or _infinity_is_written(calls)):
        return []
    total = sum(tensor.numel() for tensor in found)
    what = "NaN" if nans else "Inf"
    holds = f"{nans or infs} of the {total} numbers that the model returned are {what}"
    if not look:
        return [Finding("nonfinite", f"{holds}; run with --nan to see where it began")]
    begun = already_there(calls, inputs, what)
    if begun is not None:
        return [Finding("nonfinite", f"{holds}: {begun} holds {what} already")]
    seen = replay(calls, inputs.args, inputs.kwargs, numbers)
    event = None if seen is None else first(seen.events, what)
    if event is None or event.call is None:
        return [Finding("nonfinite", f"{holds}; where it began cannot be seen")]
    call, site = calls.own(event.call)
    entered = any(one.inf for one in event.inputs)
    given = f", given {_given(event.call)}" if _given(event.call) else ""
    none = "its inputs had Inf and no NaN" if entered and what == "NaN" else f"its inputs had no {what}"
    inside = f" in {title(call)}" if call is not event.call else ""
    return [
        Finding(
            "nonfinite",
            f"{holds}: the first came from {title(event.call)}{inside}{given}; {none}",
            event.call.path,
            site,
        )
    ]


def first(events: list[Event], what: str) -> Event | None:
    """The first event whose output has NaN (or Inf) while no tensor that it took had; one that only makes is none."""
    for event in events:
        if what == "NaN":
            if any(one.nan for one in event.outputs) and not any(one.nan for one in event.inputs):
                return event
        elif (
            event.inputs
            and any(one.inf for one in event.outputs)
            and not any(one.inf or one.nan for one in event.inputs)
            and not (event.call is not None and _written(event.call))
        ):
            return event
    return None


def already_there(calls: Calls, inputs: Inputs, what: str) -> str | None:
    """The first parameter, buffer or input that holds a NaN (or Inf) before anything ran."""
    root = calls.trace.calls[0] if calls.trace.calls else None
    model = calls.recorder.modules.root
    named = [
        *(("parameter " + name, tensor) for name, tensor in model.named_parameters()),
        *(("buffer " + name, tensor) for name, tensor in model.named_buffers() if what == "NaN"),
    ]
    tensors = [tensor for tensor in (*inputs.args, *inputs.kwargs.values()) if isinstance(tensor, torch.Tensor)]
    wheres = [] if root is None else [one.where for one in root.inputs if isinstance(one.value, TensorSpec)]
    if len(tensors) == len(wheres):
        named = [*((f"input {where}", tensor) for where, tensor in zip(wheres, tensors, strict=True)), *named]
    for name, tensor in named:
        if not torch.nn.parameter.is_lazy(tensor) and plain_or_parameter(tensor):
            here = numbers(tensor.detach())
            if here.nan if what == "NaN" else here.inf:
                return name
    return None


def plain_or_parameter(tensor: torch.Tensor) -> bool:
    """Whether a tensor has numbers to look at."""
    return plain(tensor) and tensor.numel() > 0


def _infinity_is_written(calls: Calls) -> bool:
    """Whether the model's own code puts an infinity somewhere: scores of what is masked, say."""
    return any(call.kind == "operation" and _written(call) for _, call in calls.trace.walk())


def _written(call: Call) -> bool:
    return any(not isinstance(one.value, TensorSpec) and one.value in ("inf", "-inf") for one in call.inputs)


def _given(call: Call) -> str:
    tensors = [(one, one.value) for one in call.inputs if isinstance(one.value, TensorSpec)]
    listed = [
        f"{one.where} {spec.dtype}[{', '.join(map(str, spec.shape))}]" + (f" from {one.source}" if one.source else "")
        for one, spec in tensors[:3]
    ]
    return " and ".join(listed)
