"""Findings that further runs prove: an output that no input changes, examples that are mixed, NaN and Inf.

Each run has the same random state, and changes the inputs only: if one example is another and the output of the
others changes, the model has mixed them. The batch is claimed only where a module of torch says which dimension it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tracecall.calls import Finding, TensorSpec, Trace
from tracecall.recording import values
from tracecall.recording.preserved import preserved
from tracecall.recording.recorder import Recorder
from tracecall.recording.replays import Calls, compiled, plain

SLOW_NS = 2_000_000_000  # a forward that takes longer is not run again for a proof
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_UNCHANGEABLE = ("mask", "position", "type", "length", "label", "index", "size")  # in the names of integer inputs


class Inputs(NamedTuple):
    """What a model is called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


Change = Callable[[str, torch.Tensor], torch.Tensor]


def changed_inputs(inputs: Inputs, change: Change) -> Inputs:
    """The same nested inputs with other tensors; only plain tensors are changed."""

    def one(path: Any, leaf: Any) -> Any:
        return change(pytree.keystr(path), leaf) if isinstance(leaf, torch.Tensor) and plain(leaf) else leaf

    made = pytree.tree_map_with_path(one, (inputs.args, inputs.kwargs))
    return Inputs(made[0], made[1])


def tensors(inputs: Inputs) -> list[tuple[str, torch.Tensor]]:
    """The plain tensors among nested inputs, with their names."""
    found, _ = pytree.tree_flatten_with_path((inputs.args, inputs.kwargs))
    return [(pytree.keystr(path), leaf) for path, leaf in found if isinstance(leaf, torch.Tensor) and plain(leaf)]


def other_numbers(tensor: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Random numbers of the same shape and range; whole numbers are chosen among those that are there."""
    here = torch.Generator().manual_seed(seed)
    if tensor.is_floating_point():
        low, high = tensor.detach().float().aminmax() if tensor.numel() else (torch.zeros(()), torch.zeros(()))
        if not (low.isfinite() and high.isfinite()) or low == high:
            return torch.randn(tensor.shape, generator=here).to(tensor)
        uniform = torch.rand(tensor.shape, generator=here) * (high - low).cpu() + low.cpu()
        return uniform.to(tensor.device, tensor.dtype)
    chosen = torch.randint(max(tensor.numel(), 1), (tensor.numel(),), generator=here).to(tensor.device)
    return tensor.detach().reshape(-1)[chosen].reshape(tensor.shape)


def changeable(listed: list[tuple[str, torch.Tensor]]) -> set[str]:
    """The names of the inputs to change: the floating-point ones, or else the whole numbers that are no masks."""
    floating = {name for name, tensor in listed if tensor.is_floating_point() and "mask" not in name}
    return floating or {
        name
        for name, tensor in listed
        if not (tensor.dtype is torch.bool or tensor.is_complex() or any(word in name for word in _UNCHANGEABLE))
    }


def output_tensors(output: object) -> list[torch.Tensor]:
    """The floating-point tensors that a model returned."""
    return [
        leaf
        for _, leaf in values.leaves("", output)
        if isinstance(leaf, torch.Tensor) and plain(leaf) and leaf.is_floating_point()
    ]


def differs(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Where two tensors of one shape differ by more than rounding; a NaN equals a NaN."""
    if not one.is_floating_point():
        return one != other
    a, b = one.detach(), other.detach()
    finite = torch.where(a.isfinite(), a, torch.zeros_like(a)).abs()
    room = ROUNDING.get(one.dtype, 0.1) * (finite.max() if finite.numel() else 0)
    return ((a - b).abs() > room) | (a.isfinite() != b.isfinite())


def proofs(
    trace: Trace,
    recorder: Recorder,
    given: tuple[tuple[Any, ...], dict[str, Any]],
    output: object,
    *,
    nan: bool,
    compare: bool,
) -> list[Finding]:
    """What further runs prove of a recorded run that was `given` args and kwargs and returned `output`.

    Without `compare` there are none with other inputs: where a forward takes long, or answers differently each time.
    With `nan` one more run looks at the tensors of every call, if the output holds NaN or Inf.
    """
    from tracecall.recording import constant, mixing, nonfinite

    calls, inputs = Calls(trace, recorder), Inputs(*given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what these runs warn of is not what the reader's run warns of
        found = nonfinite.nonfinite(calls, inputs, output, look=nan)
        if found or not compare or not _comparable(calls):
            return found
        # rows that are all the same need no second finding
        finding = constant.constant_output(calls, inputs, output) or mixing.mixed_examples(calls, inputs, output)
    return [] if finding is None else [finding]


def _comparable(calls: Calls) -> bool:
    """Whether runs with other inputs can be compared: nothing on the meta device, nothing compiled."""
    root = calls.trace.calls[0] if calls.trace.calls else None
    return (
        root is not None
        and not compiled(calls)
        and all(
            not isinstance(value.value, TensorSpec) or value.value.device != "meta"
            for value in (*root.inputs, *root.output)
        )
    )


def run_again(calls: Calls, inputs: Inputs) -> list[torch.Tensor] | None:
    """The floating-point tensors that one more run returns, nothing attached; None if the model raises."""
    model: nn.Module = calls.recorder.modules.root
    with preserved(model):
        try:
            return [tensor.detach().clone() for tensor in output_tensors(model(*inputs.args, **inputs.kwargs))]
        except Exception:  # the model's own
            return None
