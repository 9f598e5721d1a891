"""Input shapes → output shapes of a call, as one short text; with dtypes where the call changes them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tracecall.calls import Call, TensorSpec
from tracecall.views.labels import bounded, shape, sizes, tensor


def arrow(call: Call) -> str:
    """Input shapes → output shapes, with dtypes where the call changes them."""
    return arrows(call)[0]


def arrows(call: Call) -> tuple[str, str]:
    """The same as it is written with room, and where room is short."""
    if (texts := _one_to_one(call)) is not None:
        return texts
    inputs = tuple([value.value for value in call.inputs if isinstance(value.value, TensorSpec)])
    if call.kind == "operation":
        # its parameters say nothing about the data's shapes, unless there is nothing else
        data = [value.value for value in call.inputs if (value.source or "").partition(" ")[0] not in _OWN]
        inputs = tuple([one for one in data if isinstance(one, TensorSpec)]) or inputs
    given = tuple([value.value for value in call.output])
    if call.error is None:
        return _flow(call.kind, inputs, given)
    (left, short), _ = _sides(inputs, given)
    plain = next((f"{v.where} {v.value}" for v in call.inputs if not isinstance(v.value, TensorSpec)), "")
    if call.kind == "operation":
        return f"{left} ✗ {bounded(plain)}".strip(), f"{short} ✗ {bounded(plain)}".strip()
    return (f"{left} ✗".strip(), f"{short} ✗".strip()) if call.error.caught else (left, short)


_OWN = ("parameter", "buffer")
Given = tuple[TensorSpec | str, ...]


def _one_to_one(call: Call) -> tuple[str, str] | None:
    """The same as `_flow`, at once, of one ordinary tensor in and one out of the same dtype; None of others."""
    if len(call.inputs) != 1 or len(call.output) != 1 or call.error is not None:
        return None
    one, other = call.inputs[0].value, call.output[0].value
    if isinstance(one, str) or isinstance(other, str) or one.dtype != other.dtype:
        return None
    if one.layout or one.type or other.layout or other.type:
        return None
    (left, short), (right, tight) = sizes(one.shape), sizes(other.shape)
    if call.kind == "operation" and left == right:
        return left, short
    return f"{left} → {right}", f"{short} → {tight}"


@functools.lru_cache(maxsize=1024)
def _flow(kind: str, inputs: tuple[TensorSpec, ...], given: Given) -> tuple[str, str]:
    lefts, rights = _sides(inputs, given)
    if not rights[0]:  # no tensor
        right = bounded(", ".join(map(str, given[:2]))) or "None"
        rights = right, right
    if not inputs:
        return f"→ {rights[0]}", f"→ {rights[1]}"
    texts = [
        left if kind == "operation" and left == right else f"{left} → {right}"
        for left, right in zip(lefts, rights, strict=True)
    ]
    return texts[0], texts[1]


def _sides(inputs: tuple[TensorSpec, ...], given: Given) -> tuple[tuple[str, str], tuple[str, str]]:
    """What goes in and what comes out, each as it is written with room, and where room is short."""
    outputs = tuple([one for one in given if isinstance(one, TensorSpec)])
    dtypes = {spec.dtype for spec in inputs} != {spec.dtype for spec in outputs} and bool(inputs) and bool(outputs)
    return _groups(inputs, dtypes), _groups(outputs, dtypes)


@functools.lru_cache(maxsize=1024)  # where no two calls have the same shapes, what one gives the next one takes
def _groups(specs: tuple[TensorSpec, ...], dtypes: bool) -> tuple[str, str]:
    return _group(specs, dtypes, roomy=True), _group(specs, dtypes, roomy=False)


def _group(specs: Sequence[TensorSpec], dtypes: bool, *, roomy: bool) -> str:
    """Some tensors' shapes; equal neighbours are counted, more than three kinds are cut."""
    texts: list[str] = []
    counts: list[int] = []
    for spec in specs:
        odd = dtypes or spec.layout is not None or spec.type is not None
        text = tensor(spec, roomy=roomy) if odd else shape(spec, roomy=roomy)
        if not dtypes and odd:
            text = text.replace(spec.dtype + "[", "[", 1)
        if texts and texts[-1] == text:
            counts[-1] += 1
        else:
            texts.append(text)
            counts.append(1)
    shown = [text if times == 1 else f"{text} ×{times}" for text, times in zip(texts, counts, strict=True)]
    more = [f"+{sum(counts[3:])}"] if len(shown) > 3 else []
    return ", ".join([*shown[:3], *more])
