"""Embeddings and other look-ups: indices that are not there, or no whole numbers."""

from __future__ import annotations

import re

from tracecall.calls import Call, Value
from tracecall.diagnosis.building import arguments, number, rebuilt
from tracecall.diagnosis.expressions import replaced
from tracecall.diagnosis.failure import (
    Answer,
    Failure,
    first,
    is_torch_module,
    listed,
    sizes,
    spec_of,
    subject,
    tensors,
)
from tracecall.diagnosis.inputs import another_dtype
from tracecall.diagnosis.origin import origin, root_input
from tracecall.proposals import InputRange, OperandMethod, Proposal

_WHOLE = ("int64", "int32")
_OUT_OF_BOUNDS = re.compile(r"index (-?\d+) is out of bounds for dimension (\d+) with size (\d+)")


def embedding(failure: Failure) -> Answer | None:
    """An Embedding (or F.embedding) and indices that are floats, or beyond its rows."""
    call = failure.module if is_torch_module(failure, failure.module, "Embedding") else failure.operation
    if call is None:
        return None
    if call.kind == "module":
        value, rows = first(call), number(arguments(failure.info(call.path)), "num_embeddings")
        spans = [one.span for one in tensors(failure.call) if one.where == "indices" and one.span]
    elif call.type == "aten.embedding":
        value, weight = first(call, "indices"), spec_of(first(call, "weight"))
        rows = sizes(weight)[0] if weight is not None and sizes(weight) else None
        spans = [value.span] if value is not None and value.span else []
    else:
        return None
    spec = spec_of(value)
    if value is None or spec is None or rows is None:
        return None
    given = root_input(failure, call, value)
    if spec.dtype not in _WHOLE:
        return _not_whole(failure, call, given, value, spec.dtype)
    if not spans:
        return None
    low, high = spans[0]
    if low >= 0 and high < rows:
        return None
    made = origin(failure, call, value, -1)
    source = "" if made is None or made.label is None else f" from {made.maker}"
    got = f"index {low}" if low == high else f"indices {low}…{high}"
    sentence = f"{subject(failure, call)} has rows 0…{rows - 1}, got {got}{source}"
    proposals = []
    if given is not None:
        text = f"numbers of 0…{rows - 1} in {given.where}"
        proposals.append(Proposal(text, [InputRange(given.where, 0, rows - 1)]))
    if low >= 0 and (built := rebuilt(failure, call.path, num_embeddings=high + 1)) and call.kind == "module":
        proposals.append(Proposal(built[0], [built[1]]))
    return failure.cause("embedding-index", sentence), proposals


def _not_whole(failure: Failure, call: Call, given: Value | None, value: Value, dtype: str) -> Answer:
    made = origin(failure, call, value, -1)
    source = "" if made is None or made.label is None else f" from {made.maker}"
    sentence = f"{subject(failure, call)} takes indices of int64 or int32, got {dtype}{source}"
    proposals = [] if given is None else [another_dtype(failure, given.where, "int64")]
    site = failure.written.site
    if given is None and failure.written is call and site is not None and call.kind == "module":
        text = replaced(call, 0, ".long()")
        proposals.extend([] if text is None else [Proposal(text, [OperandMethod(site, 0, "long")])])
    return failure.cause("embedding-dtype", sentence), proposals


def indexing(failure: Failure) -> Answer | None:
    """An index or gather beyond the size of its dimension."""
    call = failure.operation
    found = _OUT_OF_BOUNDS.search(failure.error.message)
    if call is None or found is None:
        return None
    index, dim, size = (int(number) for number in found.groups())
    shape = next(
        (shape for value in tensors(call) if (shape := _sizes(value)) and len(shape) > dim and shape[dim] == size), None
    )
    if shape is None:
        return None
    sentence = f"{subject(failure, call)}: index {index}, and dimension {dim} of {listed(shape)} has 0…{size - 1}"
    return failure.cause("index", sentence), []


def _sizes(value: Value) -> list[int]:
    spec = spec_of(value)
    return [] if spec is None else sizes(spec)
