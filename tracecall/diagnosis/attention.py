"""Attention: embedding sizes, keys and values that do not go together, masks of another shape."""

from __future__ import annotations

import re
from itertools import takewhile

from tracecall.calls import Call, Value
from tracecall.diagnosis.expressions import function_name
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
from tracecall.diagnosis.inputs import another_shape, another_size
from tracecall.diagnosis.origin import origin, root_input
from tracecall.proposals import OperandMethod, Proposal

_EMBEDDING = re.compile(r"embedding dimension of (\d+)")


def multihead(failure: Failure) -> Answer | None:
    """An nn.MultiheadAttention whose query, key, value or masks do not fit."""
    call = failure.module
    if not is_torch_module(failure, call, "MultiheadAttention"):
        return None
    query, key, value = (_shape(call, name) for name in ("query", "key", "value"))
    if not query or not key or not value:
        return None
    weight = _shape(failure.call, "self.in_proj_weight", "in_proj_weight")
    told = _EMBEDDING.search(failure.error.message)
    wanted = weight[-1] if len(weight) == 2 else int(told.group(1)) if told else None
    if wanted is not None and query[-1] != wanted:
        given = first(call, "query")
        made = None if given is None else origin(failure, call, given, -1)
        got = str(query[-1]) if made is None else made.text
        sentence = f"{subject(failure, call)} takes embed_dim = {wanted} features, got {got}"
        other = None if given is None else another_size(failure, call, given, -1, wanted)
        return failure.cause("attention-features", sentence), [other] if other else []
    inside = _shape(failure.call, "query")
    masked = any(value.where in ("attn_mask", "key_padding_mask") for value in tensors(call))
    batch_first = _batch_first(failure, query, key, inside, masked)
    if batch_first is None or len({len(query), len(key), len(value)}) > 1:
        sentence = f"{subject(failure, call)} got query {listed(query)}, key {listed(key)}, value {listed(value)}"
        return failure.cause("attention-shapes", f"{sentence}: {failure.error.message.splitlines()[0]}"), []
    batch, length = (0, 1) if batch_first else (1, 0)
    if len(query) == 3:
        sentence = f"{subject(failure, call)}: query {listed(query)}, key {listed(key)}, value {listed(value)}"
        order = "batch first" if batch_first else "batch second: batch_first=False"
        if query[batch] != key[batch]:
            sentence += f" ({order}): batches of {query[batch]} and {key[batch]}"
            return failure.cause("attention-shapes", sentence), _resized(failure, call, "key", batch, query[batch])
        if key[:2] != value[:2]:
            return failure.cause("attention-shapes", f"{sentence}: key and value differ in length or batch"), []
        return _masks(failure, call, query[batch], query[length], key[length])
    return _masks(failure, call, 1, query[0], key[0])


def _batch_first(failure: Failure, query: list[int], key: list[int], inside: list[int], masked: bool) -> bool | None:
    """Whether the batch is the first dimension: told by what reached torch's function; None where nothing tells."""
    found = re.search(r"batch_first=(True|False)", failure.info(failure.module.path).extra_repr)
    if found is not None:
        return found.group(1) == "True"
    if len(query) != 3:
        return False
    if len(inside) == 3:
        if query[0] == query[1]:
            inside, query = _shape(failure.call, "key"), key
        if inside and query[0] != query[1]:
            return inside[:2] == [query[1], query[0]]
    if not masked and (query[0] == key[0]) != (query[1] == key[1]):
        return query[0] != key[0]  # without masks, only a batch that differs fails
    # with as many examples as positions, both readings are the same
    return True if query[0] == query[1] == key[0] == key[1] else None


def _resized(failure: Failure, call: Call, name: str, dim: int, size: int) -> list[Proposal]:
    """One input of an attention with another size, where it is the model's."""
    value = first(call, name)
    other = None if value is None else another_size(failure, call, value, dim, size)
    return [] if other is None else [other]


def _masks(failure: Failure, call: Call, batch: int, queries: int, keys: int) -> Answer | None:
    padding, mask = _shape(call, "key_padding_mask"), _shape(call, "attn_mask")
    name = subject(failure, call)
    proposals = []
    if padding and padding not in ([batch, keys], [keys] if batch == 1 else []):
        given = first(call, "key_padding_mask")
        sentence = f"{name} takes a key_padding_mask of [batch, keys] = [{batch}, {keys}], got {listed(padding)}"
        root = None if given is None else root_input(failure, call, given)
        if root is not None:
            proposals.append(another_shape(failure, root.where, [batch, keys]))
        return failure.cause("attention-mask", sentence), proposals
    if len(mask) == 2 and mask != [queries, keys]:
        given = first(call, "attn_mask")
        sentence = f"{name} takes an attn_mask of [queries, keys] = [{queries}, {keys}], got {listed(mask)}"
        root = None if given is None else root_input(failure, call, given)
        if root is not None:
            proposals.append(another_shape(failure, root.where, [queries, keys]))
        return failure.cause("attention-mask", sentence), proposals
    if len(mask) == 3 and (mask[1:] != [queries, keys] or mask[0] % max(batch, 1)):
        sentence = (
            f"{name} takes an attn_mask of [batch·heads, queries, keys], here [{batch}·heads, {queries}, {keys}], "
            f"got {listed(mask)}"
        )
        return failure.cause("attention-mask", sentence), []
    return None


def scaled_dot_product(failure: Failure) -> Answer | None:
    """F.scaled_dot_product_attention with tensors or a mask that do not go together."""
    call = failure.operation
    name = None if call is None else function_name(call)
    if call is None or name is None or not name.endswith("scaled_dot_product_attention") or call.internal:
        return None
    # torch may run it in parts: all of them are this expression
    parent = failure.parents.get(id(call))
    siblings = parent.children if parent else [call]
    parts = list(takewhile(lambda one: one.kind == "operation" and one.site == call.site, reversed(siblings)))[::-1]
    found = [
        (value, sizes(spec))
        for part in parts
        for value in tensors(part)
        if (spec := spec_of(value)) is not None and not (value.source or "").startswith(call.name)
    ]
    # a mask of bools is looked at first
    shapes = [shape for value, shape in found if len(shape) > 1 and _dtype(value) != "bool"]
    if len(shapes) < 2:
        return None
    query, key = shapes[0], shapes[1]
    if query[-1] != key[-1]:
        sentence = f"{name}: query {listed(query)} has {query[-1]} features a head, key {listed(key)} has {key[-1]}"
        value = next(value for value, shape in found if shape is key)
        other = another_size(failure, call, value, -1, query[-1])
        return failure.cause("attention-shapes", sentence), [other] if other else []
    grouped = call.site is not None and "enable_gqa" in (call.site.text or "")
    if (
        not grouped
        and query[:-2] != key[:-2]
        and any(a != b and 1 not in (a, b) for a, b in zip(query[:-2], key[:-2], strict=False))
    ):
        sentence = f"{name}: query {listed(query)} and key {listed(key)} differ in batch or heads"
        return failure.cause("attention-shapes", sentence), []
    wanted = (query[-2], key[-2])
    mask = next(
        (
            shape
            for value, shape in found
            if len(shape) > 1
            and shape is not query
            and shape is not key
            and (_dtype(value) == "bool" or not _may_be_value(shape, key))
            if any(size not in (one, 1) for size, one in zip(shape[-2:], wanted, strict=True))
        ),
        None,
    )
    if mask is None:
        return None
    sentence = f"{name} takes a mask that ends in [queries, keys] = [{query[-2]}, {key[-2]}], got {listed(mask)}"
    proposals: list[Proposal] = []
    value = next(value for value, shape in found if shape == mask)
    root = root_input(failure, call, value)
    if root is not None:
        proposals.append(another_shape(failure, root.where, [*mask[:-2], query[-2], key[-2]]))
    if mask[-2:] == [key[-2], query[-2]] and call.site is not None:
        proposals.append(Proposal("attn_mask.transpose(-2, -1)", [OperandMethod(call.site, 3, "transpose", (-2, -1))]))
    return failure.cause("attention-mask", sentence), proposals


def _dtype(value: Value) -> str:
    spec = spec_of(value)
    return "" if spec is None else spec.dtype


def _may_be_value(shape: list[int], key: list[int]) -> bool:
    """Whether a tensor may be the value that goes with a key."""
    return shape[:-1] == key[:-1]


def _shape(call: Call, *names: str) -> list[int]:
    spec = spec_of(first(call, *names))
    return [] if spec is None else sizes(spec)
