"""Shapes of two tensors that meet, and other sizes for those that are the model's inputs."""

from __future__ import annotations

from tracecall.calls import Call, TensorSpec, Value
from tracecall.diagnosis.failure import Failure, sizes, spec_of
from tracecall.diagnosis.inputs import another_size
from tracecall.proposals import Proposal


def sizes_of(value: Value) -> list[int]:
    """The sizes of a Value; none where it is no tensor."""
    spec = spec_of(value)
    return sizes(spec) if isinstance(spec, TensorSpec) else []


def broadcasts(left: list[int], right: list[int]) -> bool:
    """Whether two shapes broadcast."""
    backwards = zip(reversed(left), reversed(right), strict=False)
    return all(one == two or 1 in (one, two) for one, two in backwards)


def broadcast_shape(left: list[int], right: list[int]) -> list[int]:
    """The shape that two shapes broadcast to; none where they do not."""
    if not broadcasts(left, right):
        return []
    length = max(len(left), len(right))
    one, two = ([1] * (length - len(shape)) + shape for shape in (left, right))
    return [b if a == 1 else a for a, b in zip(one, two, strict=True)]


def unlike(left: list[int], right: list[int]) -> int:
    """The dimension in which two shapes do not broadcast, counted from the end; 0 where they do."""
    for back in range(1, min(len(left), len(right)) + 1):
        if left[-back] != right[-back] and 1 not in (left[-back], right[-back]):
            return back
    return 0


def sizes_of_inputs(failure: Failure, call: Call, changes: tuple[tuple[Value, int, int], ...]) -> list[Proposal]:
    """Other sizes of the model's inputs that reach a call as they are: (what it took, its dimension, the size)."""
    found = (another_size(failure, call, value, dim, size) for value, dim, size in changes)
    return [proposal for proposal in found if proposal is not None]


def swapped(shape: list[int]) -> list[int]:
    """A shape with its last two dimensions exchanged."""
    return [*shape[:-2], shape[-1], shape[-2]] if len(shape) > 1 else shape
