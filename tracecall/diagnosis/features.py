"""A Linear (or Bilinear) and an input with another number of features."""

from __future__ import annotations

from tracecall.diagnosis.building import arguments, number, rebuilt
from tracecall.diagnosis.expressions import replaced
from tracecall.diagnosis.failure import (
    Answer,
    Failure,
    counted,
    first,
    is_torch_module,
    listed,
    sizes,
    spec_of,
    subject,
    tensors,
)
from tracecall.diagnosis.inputs import another_image, another_size
from tracecall.diagnosis.origin import origin
from tracecall.proposals import OperandMethod, Proposal


def linear(failure: Failure) -> Answer | None:
    """A Linear whose input has not `in_features` in its last dimension."""
    call = failure.module
    value = first(call)
    spec = spec_of(value)
    wanted = number(arguments(failure.info(call.path)), "in_features")
    if value is None or spec is None or wanted is None or not is_torch_module(failure, call, "Linear"):
        return None
    shape = sizes(spec)
    if not shape or shape[-1] == wanted:
        return None
    found = origin(failure, call, value, -1)
    got = str(shape[-1]) if found is None else found.text
    sentence = f"{subject(failure, call)} takes {counted(wanted, 'feature')}, got {got}"
    proposals = []
    if found is not None and found.merged_at is not None and (image := another_image(failure)):
        proposals.append(image)
    site = failure.written.site
    if wanted in shape[:-1] and site is not None and failure.written is call:
        dim = max(i for i, size in enumerate(shape[:-1]) if size == wanted)
        sentence += f"; {listed(shape)} has {wanted} in dimension {dim}"
        text = replaced(call, 0, f".transpose({dim}, -1)")
        if text is not None:
            proposals.append(Proposal(text, [OperandMethod(site, 0, "transpose", (dim, -1))]))
    elif (given := another_size(failure, call, value, -1, wanted)) is not None:
        proposals.append(given)
    if (other := rebuilt(failure, call.path, in_features=shape[-1])) is not None:
        proposals.append(Proposal(other[0], [other[1]]))
    return failure.cause("linear-features", sentence), proposals


def functional_linear(failure: Failure) -> Answer | None:
    """F.linear in the model's own code, with an input of other features than its weight has."""
    call = failure.operation
    if call is None or call.internal or call.name.rpartition(".")[2] != "linear":
        return None
    # torch may run it whole, or as weight.t() and a product
    found = tensors(call)
    if call.type == "aten.linear":
        value, weight = first(call, "input"), first(call, "weight")
    elif call.type == "aten.addmm" and first(call, "mat1") is not None:
        value, weight = first(call, "mat1"), first(call, "self")
    elif call.type == "aten.addmm" and len(found) == 3:
        value, weight, _ = found  # with more than two dimensions, what goes in is viewed as two
    elif call.type == "aten.mm" and len(found) == 2:
        weight, value = found
    else:
        return None
    spec, weight_spec = spec_of(value), spec_of(weight)
    if value is None or spec is None or weight_spec is None or len(weight_spec.shape) != 2:
        return None
    shape, wanted = sizes(spec), sizes(weight_spec)[-1:]
    if not shape or shape[-1:] == wanted or not wanted:
        return None
    made = origin(failure, call, value, -1)
    got = str(shape[-1]) if made is None else made.text
    sentence = f"{subject(failure, call)} takes {counted(wanted[0], 'feature')}, got {got}"
    given = another_size(failure, call, value, -1, wanted[0])
    return failure.cause("linear-features", sentence), [given] if given else []


def bilinear(failure: Failure) -> Answer | None:
    """A Bilinear, one of whose inputs has another number of features."""
    call = failure.module
    found = arguments(failure.info(call.path))
    if not is_torch_module(failure, call, "Bilinear"):
        return None
    for name, argument in (("input1", "in1_features"), ("input2", "in2_features")):
        value, wanted = first(call, name), number(found, argument)
        spec = spec_of(value)
        shape = [] if spec is None else sizes(spec)
        if value is None or wanted is None or not shape or shape[-1] == wanted:
            continue
        where = origin(failure, call, value, -1)
        got = str(shape[-1]) if where is None else where.text
        sentence = f"{subject(failure, call)} takes {wanted} features as {name}, got {got}"
        other = rebuilt(failure, call.path, **{argument: shape[-1]})
        given = another_size(failure, call, value, -1, wanted)
        proposals = [*([given] if given else []), *([Proposal(other[0], [other[1]])] if other else [])]
        return failure.cause("linear-features", sentence), proposals
    return None
