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
# (dtype, requires_grad, device, spec) of the last dense tensor of each shape, and of each shape and strides where it is
# not contiguous: faster to compare than to hash. The device is None for the CPU, which a tensor tells in half the time.
_latest: dict[tuple[Any, ...], tuple[torch.dtype, bool, torch.device | None, TensorSpec]] = {}


def spec(tensor: torch.Tensor) -> TensorSpec:
    """Shape, dtype and device of any tensor (dense, sparse, quantized, nested, meta or a subclass)."""
    if type(tensor) in PLAIN_TENSORS:
        return plain_spec(tensor)
    with torch._C.DisableTorchFunctionSubclass():
        return _odd_spec(tensor)


def plain_spec(tensor: torch.Tensor) -> TensorSpec:
    """The same of a tensor whose type is one of PLAIN_TENSORS."""
    try:
        extent = tensor.shape if tensor.is_contiguous() else (tensor.shape, tensor.stride())
        latest = _latest.get(extent)
        if latest is not None:
            dtype, requires_grad, device, known = latest
            if (
                tensor.dtype is dtype
                and tensor.requires_grad is requires_grad
                and tensor.layout is _DENSE
                and (tensor.is_cpu if device is None else tensor.device == device)
            ):
                return known
        return _interned(tensor, extent)
    except (RuntimeError, TypeError):  # nested and CSR tensors lack some of these, symbolic sizes cannot be hashed
        return _odd_spec(tensor)


def _interned(tensor: torch.Tensor, extent: tuple[Any, ...]) -> TensorSpec:
    """The one object for all specs that are equal to this tensor's; `extent` is its shape, or that and its strides."""
    dtype, device, requires_grad = tensor.dtype, tensor.device, tensor.requires_grad
    key = (extent, dtype, device, requires_grad, tensor.layout)
    found = _specs.get(key)
    if found is None:
        if len(_specs) > _MOST:
            _specs.clear()
            _latest.clear()
        found = _specs[key] = _odd_spec(tensor)
    if tensor.layout is _DENSE:
        _latest[extent] = (dtype, requires_grad, None if tensor.is_cpu else device, found)
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
