"""A tensor as a TensorSpec: read through torch's getters, remembered by shape.

TensorGuards of torch._C._dynamo would compare all in one call, but it ends the process on nested and CSR tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from tracecall.calls import TensorSpec

PLAIN_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter})  # types, not instances: a subclass may do anything
_DENSE = torch.strided
_MOST = 10_000  # specs that are remembered

_specs: dict[tuple[Any, ...], TensorSpec] = {}  # equal specs are one object: a Trace repeats few of them many times
# (dtype, requires_grad, device, strides, spec) of the last dense tensor of each shape, contiguous (its strides are then
# None) and not: faster to compare than to hash. The device is None for the CPU, which a tensor tells in half the time.
_Latest = dict[torch.Size, tuple[torch.dtype, bool, torch.device | None, tuple[int, ...] | None, TensorSpec]]
_contiguous: _Latest = {}
_strided: _Latest = {}


def spec(tensor: torch.Tensor) -> TensorSpec:
    """Shape, dtype and device of any tensor (dense, sparse, quantized, nested, meta or a subclass)."""
    if type(tensor) is torch.Tensor or type(tensor) in PLAIN_TENSORS:  # mostly the first; a set hashes the type
        try:
            contiguous = tensor.is_contiguous()
            latest = (_contiguous if contiguous else _strided).get(tensor.shape)
            if latest is not None:
                dtype, requires_grad, device, strides, known = latest
                if (
                    tensor.dtype is dtype
                    and tensor.requires_grad is requires_grad
                    and (contiguous or tensor.stride() == strides)
                    and tensor.layout is _DENSE
                    and (tensor.is_cpu if device is None else tensor.device == device)
                ):
                    return known
            return _interned(tensor, contiguous)
        except (RuntimeError, TypeError):  # nested and CSR tensors lack some of these, symbolic sizes cannot be hashed
            return _odd_spec(tensor)
    with torch._C.DisableTorchFunctionSubclass():
        return _odd_spec(tensor)


def _interned(tensor: torch.Tensor, contiguous: bool) -> TensorSpec:
    """The one object for all specs that are equal to this tensor's."""
    shape, dtype, device, requires_grad = tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad
    strides = None if contiguous else tensor.stride()
    key = (shape, dtype, device, requires_grad, tensor.layout, strides)
    found = _specs.get(key)
    if found is None:
        if len(_specs) > _MOST:
            for known in (_specs, _contiguous, _strided):
                known.clear()
        found = _specs[key] = _odd_spec(tensor)
    if tensor.layout is _DENSE:
        latest = _contiguous if contiguous else _strided
        latest[shape] = (dtype, requires_grad, None if tensor.is_cpu else device, strides, found)
    return found


def _odd_spec(tensor: torch.Tensor) -> TensorSpec:
    layout = None if tensor.layout is torch.strided else str(tensor.layout).removeprefix("torch.")
    if tensor.is_quantized:
        layout = "quantized"
    elif tensor.is_nested and layout is None:
        layout = "nested"
    return TensorSpec(
        shape=_shape(tensor),
        dtype=str(tensor.dtype).removeprefix("torch."),
        device=str(tensor.device),
        requires_grad=tensor.requires_grad,
        stride=_stride(tensor) if layout in (None, "quantized") else None,
        layout=layout,
        type=None if type(tensor) in PLAIN_TENSORS else type(tensor).__name__,
    )


def _shape(tensor: torch.Tensor) -> tuple[int | str, ...]:
    if tensor.is_nested and tensor.layout is torch.strided:  # `shape` raises where rows differ in length
        sizes: list[int | str] = []
        for dim in range(tensor.dim()):
            try:
                sizes.append(tensor.size(dim))
            except RuntimeError:
                sizes.append("ragged")
        return tuple(sizes)
    try:
        return tuple(size if type(size) is int else str(size) for size in tensor.shape)
    except RuntimeError:  # a lazy module's parameter before its first run
        return ("?",)


def _stride(tensor: torch.Tensor) -> tuple[int | str, ...] | None:
    if isinstance(tensor, FakeTensor):  # it has no memory to lie in, and symbolic sizes answer slowly, with a guard
        return None
    try:
        if tensor.is_contiguous():
            return None
    except RuntimeError:
        return None
    return tuple(step if type(step) is int else str(step) for step in tensor.stride())
