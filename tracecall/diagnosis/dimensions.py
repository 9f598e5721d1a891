"""A dimension that a tensor does not have, and shapes that are unpacked into another number of names."""

from __future__ import annotations

import re

from tracecall.calls import Call
from tracecall.diagnosis.expressions import constant
from tracecall.diagnosis.failure import Answer, Failure, listed, sizes, spec_of, subject, tensors
from tracecall.diagnosis.inputs import another_shape
from tracecall.diagnosis.origin import root_input

_RANGE = re.compile(r"Dimension out of range \(expected to be in range of \[(-?\d+), (-?\d+)\], but got (-?\d+)\)")
_UNPACK = re.compile(
    r"not enough values to unpack \(expected (\d+), got (\d+)\)|too many values to unpack \(expected (\d+)"
)


def missing_dimension(failure: Failure) -> Answer | None:
    """A dim= beyond the dimensions of a tensor."""
    call = failure.operation
    found = _RANGE.search(failure.error.message)
    if call is None or found is None:
        return None
    _, high, got = (int(number) for number in found.groups())
    value = next((value for value in tensors(call) if (spec := spec_of(value)) and len(spec.shape) == high + 1), None)
    spec = spec_of(value)
    if value is None or spec is None:
        return None
    count = len(spec.shape)
    sentence = f"{subject(failure, call)}: no dimension {got} in {listed(spec.shape)}, which has {count}"
    proposals = []
    root = root_input(failure, call, value)
    if root is not None and got == count:
        proposals.append(another_shape(failure, root.where, [1, *sizes(spec)], "add the batch dimension: {command}"))
    return failure.cause("dimension", sentence), proposals


def permute(failure: Failure) -> Answer | None:
    """A permute that orders another number of dimensions than the tensor has."""
    call = failure.operation
    if call is None or call.type != "aten.permute":
        return None
    order = constant(call, "dims")
    value = next(iter(tensors(call)), None)
    spec = spec_of(value)
    if value is None or spec is None or not isinstance(order, list) or len(order) == len(spec.shape):
        return None
    sentence = f"{subject(failure, call)}: orders {len(order)} dimensions, {listed(spec.shape)} has {len(spec.shape)}"
    proposals = []
    root = root_input(failure, call, value)
    if root is not None and len(order) == len(spec.shape) + 1:
        proposals.append(another_shape(failure, root.where, [1, *sizes(spec)], "add the batch dimension: {command}"))
    return failure.cause("dimension", sentence), proposals


def unpacked(failure: Failure) -> Answer | None:
    """`B, C, H, W = x.shape` on a tensor with another number of dimensions."""
    found = _UNPACK.search(failure.error.message)
    call = failure.operation
    if found is None or call is None or failure.error.type != "ValueError":
        return None
    wanted = int(found.group(1) or found.group(3))
    given = [(value, sizes(spec)) for value in tensors(failure.module) if (spec := spec_of(value)) is not None]
    got = int(found.group(2)) if found.group(2) else None
    fitting = [(value, shape) for value, shape in given if len(shape) == got or (got is None and len(shape) > wanted)]
    names = _names(call)
    if len(given) != 1 or len(fitting) != 1:
        return None
    value, shape = fitting[0]
    sentence = (
        f"{wanted} values are unpacked as {names}, and {subject(failure, failure.module)} got "
        f"{value.where} {listed(shape)} with {len(shape)} dimensions"
    )
    proposals = []
    root = root_input(failure, failure.module, value)
    if root is not None and wanted == len(shape) + 1:
        proposals.append(another_shape(failure, root.where, [1, *shape], "add the batch dimension: {command}"))
    return failure.cause("unpack", sentence), proposals


def _names(call: Call) -> str:
    return call.site.text if call.site and call.site.text else call.name
