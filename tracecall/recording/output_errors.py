"""How far one output is from another: the largest difference, that by the largest value, and the angle between them.

All of an output is compared, however many tensors it has, and the plain numbers and texts among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from msgspec import Struct

from tracecall.recording import tensor_specs, values
from tracecall.recording.kept_outputs import PLAIN, Kept, Leaves, Unread, in_words, numeric, placed

CHUNK = 2**21  # elements that are taken to float64 at a time


class OutputError(Struct, omit_defaults=True):
    """The error of one call's output in the second run; of several tensors, the worst of each number.

    `relative` is the largest difference by the largest value in either output. NaN equals NaN, and Inf the same Inf;
    elements that are such on one side or on both are counted, and stay out of the other numbers: where no others are
    left, there are none. A float or a complex number counts as a tensor of it; an int, a bool, a text or None is the
    same, or is not.
    """

    elements: int = 0  # that were compared
    max_abs: float | None = None  # None: no finite number was compared
    relative: float | None = None
    cosine: float | None = None
    nonfinite: int = 0  # NaN or Inf on one side, or another Inf
    nonfinite_unlike: int = 0  # of those: NaN or Inf on both sides, but not the same
    nonfinite_both: int = 0  # NaN or the same Inf on both
    empty: int = 0  # tensors without elements, of the same shape on both sides
    differing: int | None = None  # elements that have no distance: integers, texts; None where there are none
    shapes: tuple[str, str] | None = None  # two that are not the same, so that nothing could be compared there
    structures: tuple[str, str] | None = None  # what else does not belong together: "a tensor", "a dict"
    dtypes: tuple[str, str] | None = None  # of the first two tensors where they are not the same
    uncompared: list[str] = []  # tensors without plain numbers: "nested", "meta"
    objects: list[str] = []  # types of what is neither tensor, number nor text

    def beyond(self, tolerance: float) -> bool:
        """Whether the outputs part: by more than the tolerance, or in what no tolerance is for."""
        odd = self.nonfinite or self.differing or self.shapes or self.structures
        return bool((self.relative or 0) > tolerance or odd)

    @property
    def same(self) -> bool:
        """Whether something was compared, and every element of it is the same, in whatever dtypes."""
        return self.compared and not self.max_abs and not self.beyond(0)

    @property
    def identical(self) -> bool:
        """Whether it is the same to the last bit."""
        return self.same and self.dtypes is None

    @property
    def measured(self) -> bool:
        """Whether anything was compared that is neither NaN nor Inf on both sides, nor empty."""
        return self.nonfinite > 0 or any(
            one is not None for one in (self.max_abs, self.differing, self.shapes, self.structures)
        )

    @property
    def compared(self) -> bool:
        """Whether anything of the outputs could be compared."""
        return self.measured or self.nonfinite_both > 0 or self.empty > 0

    @property
    def left_out(self) -> list[str]:
        """What could not be compared, each once."""
        return list(dict.fromkeys([*self.uncompared, *self.objects]))


def output_error(first: Kept, second: Kept) -> OutputError:
    """The error of the second; leaves belong together by the way to them, tensors that are left over by their order."""
    found = OutputError()
    others = dict(second.leaves)
    alone: Leaves = []
    for where, one in first.leaves:
        if where in others:
            _pair(found, where, one, others.pop(where))
        else:
            alone.append((where, one))
    nothing_shared = len(alone) == len(first.leaves)
    # None is how some outputs, and some devices' operations, leave out a part
    ours, theirs = ([one for one in side if one[1] is not None] for side in (alone, others.items()))
    if ours or theirs:
        _apart(found, ours, theirs, (first.whole, second.whole) if nothing_shared else None)
    return found


def _pair(found: OutputError, where: str, one: object, other: object) -> None:
    """Two leaves at the same place."""
    typed = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    if isinstance(one, int) and isinstance(other, torch.Tensor) and other.dim() == 0:
        one = _like(one, other)
    elif isinstance(other, int) and isinstance(one, torch.Tensor) and one.dim() == 0:
        other = _like(other, one)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        _add(found, one, other, typed=typed)
    elif isinstance(one, Unread) and one == other:
        found.objects = [*found.objects, one.type]
    elif isinstance(one, PLAIN) and isinstance(other, PLAIN):
        found.elements += 1
        found.differing = (found.differing or 0) + (one != other)
    else:
        found.structures = found.structures or (in_words(one), in_words(other, where))


def _apart(found: OutputError, ours: Leaves, theirs: Leaves, wholes: tuple[str, str] | None) -> None:
    """What has no partner at its place; `wholes` are both outputs in words, where nothing of them has one."""
    one, other = ([(where, leaf) for where, leaf in side if isinstance(leaf, torch.Tensor)] for side in (ours, theirs))
    in_order = bool(one) and all(numeric(leaf) for _, leaf in (*one, *other))
    in_order = in_order and [leaf.shape for _, leaf in one] == [leaf.shape for _, leaf in other]
    if in_order:
        for (_, a), (_, b) in zip(one, other, strict=True):
            _add(found, a, b)
    if wholes is not None and wholes[0] != wholes[1]:
        apart = wholes
    elif in_order:
        apart = (one[0][0], other[0][0])
    else:
        # that a list is empty says less than what the other has in it
        whole = [leaf for leaf in ours if not isinstance(leaf[1], values.Empty)]
        where, leaf = (whole or theirs or ours)[0]
        apart = ("none", in_words(leaf, where)) if theirs and not whole else (in_words(leaf), f"none{placed(where)}")
    found.structures = found.structures or apart


def _add(found: OutputError, one: torch.Tensor, other: torch.Tensor, *, typed: bool = True) -> None:
    """Two tensors; both are the model's own where they are `typed`, so that their dtypes tell something."""
    odd = next((_kind(tensor) for tensor in (one, other) if not numeric(tensor)), None)
    if odd is not None:
        found.uncompared = [*found.uncompared, odd]
        return
    if typed and one.dtype != other.dtype:
        found.dtypes = found.dtypes or (_dtype(one), _dtype(other))
    if one.shape != other.shape:
        found.shapes = found.shapes or (_shape(one), _shape(other))
        return
    found.elements += one.numel()
    if not one.numel():
        found.empty += 1
    elif not (_continuous(one) or _continuous(other)):
        found.differing = (found.differing or 0) + sum(int((a != b).sum()) for a, b in _chunks(one, other, None))
    else:
        _measure(found, one, other)


def _measure(found: OutputError, one: torch.Tensor, other: torch.Tensor) -> None:
    """The numbers, in float64; sums are of values by the largest, so that none is too large for it."""
    wide = torch.complex128 if one.is_complex() or other.is_complex() else torch.float64
    scale = largest = 0.0
    finite_pairs = False
    for a, b in _chunks(one, other, wide):
        finite = a.isfinite() & b.isfinite()
        same = (a == b) | (a.isnan() & b.isnan())
        found.nonfinite += int((~finite & ~same).sum())
        found.nonfinite_unlike += int((~a.isfinite() & ~b.isfinite() & ~same).sum())
        found.nonfinite_both += int((~finite & same).sum())
        finite_pairs = finite_pairs or bool(finite.any())
        a, b = a.where(finite, 0), b.where(finite, 0)
        scale = max(scale, a.abs().max().item(), b.abs().max().item())
        largest = max(largest, (a - b).abs().max().item())
    if not finite_pairs:
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


def _shape(tensor: torch.Tensor) -> str:
    return values.size_text(tensor_specs.spec(tensor).shape)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
