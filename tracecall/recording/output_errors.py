"""How far one output is from another: the largest difference, that by the largest value, and the angle between them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from msgspec import Struct

from tracecall.recording import values

CHUNK = 2**21  # elements that are taken to float64 at a time


class OutputError(Struct, omit_defaults=True):
    """The error of one call's output in the second run; of several tensors, the worst of each number.

    `relative` is the largest difference by the largest value in either output. NaN equals NaN, and Inf the same Inf;
    elements where only one side is such are counted in `nonfinite`, and stay out of the other numbers.
    """

    elements: int = 0  # that were compared
    max_abs: float | None = None  # None: no floating tensor was compared
    relative: float | None = None
    cosine: float | None = None
    nonfinite: int = 0
    differing: int | None = None  # elements of integer and bool tensors; None where there are none
    shapes: tuple[str, str] | None = None  # two that are not the same, so that nothing could be compared there
    uncompared: list[str] = []  # tensors without plain numbers: "nested", "meta"

    def beyond(self, tolerance: float) -> bool:
        """Whether the outputs part: by more than the tolerance, or in what no tolerance is for."""
        return bool((self.relative or 0) > tolerance or self.nonfinite or self.differing or self.shapes)

    @property
    def identical(self) -> bool:
        """Whether every element that was compared is the same."""
        return not (self.max_abs or self.nonfinite or self.differing or self.shapes)


Kept = list[tuple[str, torch.Tensor]]  # the tensors of an output, each with the way to it, on the CPU


def kept(output: object) -> Kept:
    """Copies of an output's tensors on the CPU, in their own dtypes; others than plain ones are made dense."""
    found: Kept = []
    with torch.no_grad():
        for where, leaf in values.parts("", output):
            if isinstance(leaf, torch.Tensor):
                found.append((where, _plain(leaf).detach().to("cpu", copy=True) if _numbers(leaf) else leaf.detach()))
    return found


def size(tensors: Kept) -> int:
    """Bytes that copies take."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors if _numbers(tensor))


def output_error(first: Kept, second: Kept) -> OutputError:
    """The error of the second; tensors belong together by the way to them in the output."""
    found = OutputError()
    others = dict(second)
    for where, one in first:
        other = others.pop(where, None)
        if other is None:
            found.shapes = found.shapes or (_shape(one), "none")
        else:
            _add(found, one, other)
    for other in others.values():
        found.shapes = found.shapes or ("none", _shape(other))
    return found


def _add(found: OutputError, one: torch.Tensor, other: torch.Tensor) -> None:
    odd = next((_kind(tensor) for tensor in (one, other) if not _numbers(tensor)), None)
    if odd is not None:
        found.uncompared = [*found.uncompared, odd]
    elif one.shape != other.shape:
        found.shapes = found.shapes or (_shape(one), _shape(other))
    elif not (_continuous(one) or _continuous(other)):
        found.elements += one.numel()
        found.differing = (found.differing or 0) + sum(int((a != b).sum()) for a, b in _chunks(one, other, None))
    else:
        found.elements += one.numel()
        _measure(found, one, other)


def _measure(found: OutputError, one: torch.Tensor, other: torch.Tensor) -> None:
    """The numbers, in float64; sums are of values by the largest, so that none is too large for it."""
    wide = torch.complex128 if one.is_complex() or other.is_complex() else torch.float64
    scale = largest = 0.0
    for a, b in _chunks(one, other, wide):
        finite = a.isfinite() & b.isfinite()
        same = (a == b) | (a.isnan() & b.isnan())
        found.nonfinite += int((~finite & ~same).sum())
        a, b = a.where(finite, 0), b.where(finite, 0)
        if a.numel():
            scale = max(scale, a.abs().max().item(), b.abs().max().item())
            largest = max(largest, (a - b).abs().max().item())
    dot, ours, theirs = 0.0, 0.0, 0.0
    for a, b in _chunks(one, other, wide) if scale else ():
        finite = a.isfinite() & b.isfinite()
        a, b = a.where(finite, 0) / scale, b.where(finite, 0) / scale
        dot += (a.conj() * b).real.sum().item() if wide.is_complex else (a * b).sum().item()
        ours, theirs = ours + a.abs().square().sum().item(), theirs + b.abs().square().sum().item()
    # of two outputs of zeros, and of one that is the other, the angle is none
    cosine = 1.0 if largest == 0 else dot / math.sqrt(ours * theirs) if ours and theirs else 0.0
    found.max_abs = max(found.max_abs or 0.0, largest)
    found.relative = max(found.relative or 0.0, largest / scale if scale else 0.0)
    found.cosine = min(1.0 if found.cosine is None else found.cosine, max(-1.0, min(1.0, cosine)))


def _chunks(
    one: torch.Tensor, other: torch.Tensor, dtype: torch.dtype | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Both, some elements at a time."""
    flat, other_flat = one.reshape(-1), other.reshape(-1)
    for begin in range(0, flat.numel(), CHUNK):
        a, b = flat[begin : begin + CHUNK], other_flat[begin : begin + CHUNK]
        yield (a, b) if dtype is None else (a.to(dtype), b.to(dtype))


def _continuous(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _numbers(tensor: torch.Tensor) -> bool:
    """Whether a tensor has numbers that can be had as a plain one."""
    return type(tensor) in values.PLAIN_TENSORS and not (tensor.is_nested or tensor.is_meta)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    dense = tensor if tensor.layout is torch.strided else tensor.to_dense()
    return dense.dequantize() if dense.is_quantized else dense


def _kind(tensor: torch.Tensor) -> str:
    if type(tensor) not in values.PLAIN_TENSORS:
        return type(tensor).__name__
    return "nested" if tensor.is_nested else "meta"


def _shape(tensor: torch.Tensor) -> str:
    return values.size_text(values.spec(tensor).shape)
