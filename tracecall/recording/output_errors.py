"""How far one output is from another: the largest difference, that by the largest value, and the angle between them.

All of an output is compared, however many tensors it has, and the plain numbers and texts among them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from msgspec import Struct

from tracecall.recording import tensor_specs, values

CHUNK = 2**21  # elements that are taken to float64 at a time


class OutputError(Struct, omit_defaults=True):
    """The error of one call's output in the second run; of several tensors, the worst of each number.

    `relative` is the largest difference by the largest value in either output. NaN equals NaN, and Inf the same Inf;
    elements where only one side is such are counted in `nonfinite`, and stay out of the other numbers: where no others
    are left, there are none. A float or a complex number counts as a tensor of it; an int, a bool, a text or None is
    the same, or is not.
    """

    elements: int = 0  # that were compared
    max_abs: float | None = None  # None: no finite number was compared
    relative: float | None = None
    cosine: float | None = None
    nonfinite: int = 0
    differing: int | None = None  # elements that have no distance: integers, texts; None where there are none
    shapes: tuple[str, str] | None = None  # two that are not the same, so that nothing could be compared there
    uncompared: list[str] = []  # tensors without plain numbers: "nested", "meta"
    objects: list[str] = []  # types of what is neither tensor, number nor text

    def beyond(self, tolerance: float) -> bool:
        """Whether the outputs part: by more than the tolerance, or in what no tolerance is for."""
        return bool((self.relative or 0) > tolerance or self.nonfinite or self.differing or self.shapes)

    @property
    def identical(self) -> bool:
        """Whether something was compared, and every element of it is the same."""
        return self.compared and not (self.max_abs or self.nonfinite or self.differing or self.shapes)

    @property
    def compared(self) -> bool:
        """Whether anything of the outputs could be compared."""
        return any(one is not None for one in (self.max_abs, self.differing, self.shapes)) or self.nonfinite > 0

    @property
    def left_out(self) -> list[str]:
        """What could not be compared, each once."""
        return list(dict.fromkeys([*self.uncompared, *self.objects]))


@dataclass(frozen=True)
class Unread:
    """Stands for an object that cannot be compared without running its own code, or that has no end."""

    type: str


Kept = list[tuple[str, object]]  # the leaves of an output, each with the way to it, tensors on the CPU

_PLAIN = (type(None), bool, int, str, bytes)  # types, not instances: a subclass may do anything


def kept(output: object) -> Kept:
    """Copies of an output's tensors on the CPU, in their own dtypes, dense; and all else that it is made of."""
    found: Kept = []
    ways: Counter[str] = Counter()
    with torch.no_grad():
        for where, leaf in (
            (("", output),) if isinstance(output, torch.Tensor) else values.leaves("", output, most=values.MANY)
        ):
            ways[where] += 1
            # long keys of a dict may be shortened to the same text
            found.append((where if ways[where] == 1 else f"{where} #{ways[where]}", _leaf(leaf)))
    return found


def _leaf(leaf: object) -> object:
    if isinstance(leaf, torch.Tensor):
        return _plain(leaf).detach().to("cpu", copy=True) if _numbers(leaf) else leaf.detach()
    if type(leaf) in (float, complex):
        return torch.tensor(leaf, dtype=torch.float64 if type(leaf) is float else torch.complex128)
    if isinstance(leaf, values.Empty):
        return str(leaf)
    return leaf if type(leaf) in _PLAIN else Unread(str(leaf) if isinstance(leaf, values.More) else type(leaf).__name__)


def size(output: Kept) -> int:
    """Bytes that copies take."""
    return sum(
        leaf.numel() * leaf.element_size() for _, leaf in output if isinstance(leaf, torch.Tensor) and _numbers(leaf)
    )


def output_error(first: Kept, second: Kept) -> OutputError:
    """The error of the second; leaves belong together by the way to them in the output."""
    found = OutputError()
    others = dict(second)
    for where, one in first:
        if where not in others:
            _alone(found, one, (_shape(one), "none"))
            continue
        other = others.pop(where)
        if isinstance(one, int) and isinstance(other, torch.Tensor) and other.dim() == 0:
            one = _like(one, other)
        elif isinstance(other, int) and isinstance(one, torch.Tensor) and one.dim() == 0:
            other = _like(other, one)
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            _add(found, one, other)
        elif isinstance(one, Unread) and one == other:
            found.objects = [*found.objects, one.type]
        elif isinstance(one, _PLAIN) and isinstance(other, _PLAIN):
            found.elements += 1
            found.differing = (found.differing or 0) + (one != other)
        else:
            found.shapes = found.shapes or (_shape(one), _shape(other))
    for other in others.values():
        _alone(found, other, ("none", _shape(other)))
    return found


def _alone(found: OutputError, leaf: object, shapes: tuple[str, str]) -> None:
    if leaf is not None:  # None is how some outputs, and some devices' operations, leave out a part
        found.shapes = found.shapes or shapes


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
    nonfinite, finite_pairs = 0, False
    for a, b in _chunks(one, other, wide):
        finite = a.isfinite() & b.isfinite()
        same = (a == b) | (a.isnan() & b.isnan())
        nonfinite += int((~finite & ~same).sum())
        finite_pairs = finite_pairs or bool(finite.any())
        a, b = a.where(finite, 0), b.where(finite, 0)
        if a.numel():
            scale = max(scale, a.abs().max().item(), b.abs().max().item())
            largest = max(largest, (a - b).abs().max().item())
    found.nonfinite += nonfinite
    if nonfinite and not finite_pairs:
        return
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
    return type(tensor) in tensor_specs.PLAIN_TENSORS and not (tensor.is_nested or tensor.is_meta)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    dense = tensor if tensor.layout is torch.strided else tensor.to_dense()
    return dense.dequantize() if dense.is_quantized else dense


def _kind(tensor: torch.Tensor) -> str:
    if type(tensor) not in tensor_specs.PLAIN_TENSORS:
        return type(tensor).__name__
    return "nested" if tensor.is_nested else "meta"


def _like(number: int, tensor: torch.Tensor) -> object:
    """A number as a tensor, where the other run has one; as it is where it is too large for any."""
    try:
        return torch.tensor(number, dtype=torch.float64 if _continuous(tensor) else torch.int64)
    except (OverflowError, RuntimeError):
        return number


def _shape(leaf: object) -> str:
    if isinstance(leaf, torch.Tensor):
        return values.size_text(tensor_specs.spec(leaf).shape)
    return leaf.type if isinstance(leaf, Unread) else "None" if leaf is None else type(leaf).__name__
