"""Tensors that do not go together side by side: element-wise operations, cat and stack."""

from __future__ import annotations

import ast
import re

from tracecall.calls import Call
from tracecall.diagnosis.building import arguments, number, rebuilt
from tracecall.diagnosis.expressions import constant, replaced, runs, written
from tracecall.diagnosis.failure import Answer, Failure, listed, subject, tensors
from tracecall.diagnosis.inputs import another_image
from tracecall.diagnosis.origin import Origin, origin
from tracecall.diagnosis.shapes import broadcast_shape, broadcasts, sizes_of, sizes_of_inputs, swapped, unlike
from tracecall.proposals import OperandMethod, OperationArgument, Proposal

_ELEMENTWISE = {
    f"aten.{name}{suffix}"
    for name in (
        "add", "sub", "mul", "div", "maximum", "minimum", "pow", "eq", "ne", "lt", "le", "gt", "ge", "where",
        "masked_fill", "bitwise_and", "bitwise_or", "logical_and", "logical_or", "atan2", "lerp", "addcmul",
        "remainder", "mse_loss", "l1_loss", "smooth_l1_loss",
    )
    for suffix in ("", "_")
}  # fmt: skip


_TOLD = re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)")


def elementwise(failure: Failure) -> Answer | None:
    """An element-wise operation on shapes that do not broadcast."""
    call = failure.operation
    if call is None or call.internal:
        return None
    if call.type not in _ELEMENTWISE and "must match the size of tensor" not in failure.error.message:
        return None
    found = tensors(call)
    shapes = [sizes_of(value) for value in found]
    told = _TOLD.search(failure.error.message)
    if told is None and runs(call) > 1:
        return None  # one of several operations of an expression, and nobody says which tensors met
    pair = next(
        ((i, j) for j in range(len(found)) for i in range(j) if not broadcasts(shapes[i], shapes[j])),
        None,
    )
    if pair is None:
        return _in_place(failure, call, shapes)
    i, j = pair
    left, right = shapes[i], shapes[j]
    back = unlike(left, right)
    if told is not None and {left[-back], right[-back]} != {int(told[1]), int(told[2])}:
        return None
    made = [origin(failure, call, found[at], -back) for at in (i, j)]
    texts = [one.text if one else str(shape[-back]) for one, shape in zip(made, (left, right), strict=True)]
    name = "the last dimension" if back == 1 else f"dimension -{back}"
    sentence = (
        f"{subject(failure, call)}: {listed(left)} and {listed(right)} do not broadcast: "
        f"{name} is {texts[0]}, and {texts[1]}"
    )
    proposals = _widened(call, left, right) if (i, j) == (0, 1) else []
    of_model = any((found[at].source or "").startswith(("parameter ", "buffer ")) for at in (i, j))
    if of_model and (image := another_image(failure)) is not None:
        proposals.append(image)
    # a side that the model makes of its input may change with it
    given = all(one and (one.label or "").startswith(("input ", "parameter ", "buffer ")) for one in made)
    if not proposals and given:
        proposals += sizes_of_inputs(failure, call, ((found[j], -back, left[-back]), (found[i], -back, right[-back])))
    for one, wanted in ((made[0], right[-back]), (made[1], left[-back])):
        proposals += _made_otherwise(failure, one, wanted)
    return failure.cause("broadcast", sentence), proposals


def _made_otherwise(failure: Failure, made: Origin | None, wanted: int) -> list[Proposal]:
    """The Linear or convolution that made a size, making another."""
    if made is None or made.label not in failure.trace.modules or len(made.factors) > 1:
        return []
    given = arguments(failure.info(made.label))
    name = next((name for name in ("out_features", "out_channels") if number(given, name) == made.number), None)
    built = None if name is None else rebuilt(failure, made.label, **{name: wanted})
    return [] if built is None else [Proposal(built[0], [built[1]])]


def _in_place(failure: Failure, call: Call, shapes: list[list[int]]) -> Answer | None:
    """An in-place operation whose result would be larger than the tensor that it is written to."""
    if not call.type.endswith("_") or len(shapes) < 2:
        return None
    result = broadcast_shape(shapes[0], shapes[1])
    if result == shapes[0]:
        return None
    sentence = (
        f"{subject(failure, call)} writes into {listed(shapes[0])}, and with {listed(shapes[1])} "
        f"the result is {listed(result)}"
    )
    return failure.cause("broadcast", sentence), []


def _widened(call: Call, left: list[int], right: list[int]) -> list[Proposal]:
    """The smaller side with a dimension of 1 where that makes it fit, or transposed."""
    if call.site is None or call.type.endswith("_"):
        return []
    found = []
    small = 0 if len(left) < len(right) else 1
    shape, other = (left, right) if small == 0 else (right, left)
    if len(shape) < len(other):
        for dim in range(1, len(shape) + 1):
            if broadcast_shape([*shape[:dim], 1, *shape[dim:]], other) == other and len(shape) + 1 <= len(other):
                text = replaced(call, small, f".unsqueeze({dim})")
                if text is not None:
                    found.append(Proposal(text, [OperandMethod(call.site, small, "unsqueeze", (dim,))]))
                break
    elif len(shape) > 1 and swapped(right) == left:
        text = replaced(call, 1, ".transpose(-2, -1)")
        if text is not None:
            found.append(Proposal(text, [OperandMethod(call.site, 1, "transpose", (-2, -1))]))
    return found


def cat(failure: Failure) -> Answer | None:
    """torch.cat of tensors that differ in another dimension than the one they are joined in, or torch.stack of any."""
    call = failure.operation
    if call is None or call.type not in ("aten.cat", "aten.stack") or call.internal or runs(call) > 1:
        return None
    shapes = [shape for value in tensors(call) if (shape := sizes_of(value)) and shape != [0]]
    unlike = next((shape for shape in shapes if shape != shapes[0]), None)
    if unlike is None:
        return None
    one, two = shapes[0], next((shape for shape in shapes if len(shape) != len(shapes[0])), unlike)
    name = subject(failure, call)
    if call.type == "aten.stack":
        sentence = f"{name} takes tensors of one shape, got {listed(one)} and {listed(two)}"
        return failure.cause("cat", sentence), _alike(failure, call, one, two) if len(one) == len(two) else []
    if len(one) != len(two):
        sentence = f"{name} joins tensors with equally many dimensions, got {listed(one)} and {listed(two)}"
        return failure.cause("cat", sentence), []
    dim = constant(call, "dim")
    dim = dim if isinstance(dim, int) else 0
    if not -len(one) <= dim < len(one):
        return None
    unlikes = [
        (at, shape) for shape in shapes for at in range(len(one)) if at != dim % len(one) and shape[at] != one[at]
    ]
    if not unlikes:
        return None
    at, shape = unlikes[0]
    sentence = (
        f"{name} joins in dimension {dim % len(one)}: {listed(one)} and {listed(shape)} differ in dimension {at} too"
        if one[dim] != shape[dim]
        else f"{name} joins in dimension {dim % len(one)}, {listed(one)} and {listed(shape)} differ in dimension {at}"
    )
    proposals = []
    if call.site is not None and len({found for found, _ in unlikes}) == 1 and one[dim] == shape[dim]:
        tree = written(call)
        if tree is not None and tree.args:
            text = f"{ast.unparse(tree.func)}({ast.unparse(tree.args[0])}, dim={at})"
            proposals.append(Proposal(text, [OperationArgument(call.site, "dim", at)]))
    if not proposals:
        proposals = _alike(failure, call, [*one[:dim], shape[dim], *one[dim:][1:]], shape)
    return failure.cause("cat", sentence), proposals


def _alike(failure: Failure, call: Call, wanted: list[int], shape: list[int]) -> list[Proposal]:
    """The first input of this shape with the wanted size in the one dimension that differs."""
    value = next((value for value in tensors(call) if sizes_of(value) == shape), None)
    dims = [dim for dim, size in enumerate(wanted) if size != shape[dim]]
    return (
        [] if value is None or len(dims) != 1 else sizes_of_inputs(failure, call, ((value, dims[0], wanted[dims[0]]),))
    )
