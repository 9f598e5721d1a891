"""BatchNorm, InstanceNorm, LayerNorm, RMSNorm and GroupNorm: channels, shapes, and one value a channel."""

from __future__ import annotations

import math

from tracecall.calls import Call, Value
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
)
from tracecall.diagnosis.inputs import another_shape, another_size
from tracecall.diagnosis.origin import origin, root_input
from tracecall.proposals import Edit, ModelMode, OperandMethod, Proposal

_DIMENSIONS = {1: (2, 3), 2: (4,), 3: (5,)}  # that a BatchNorm takes


def batch_norm(failure: Failure) -> Answer | None:
    """A BatchNorm with an input of other dimensions or channels, or in train mode with one value a channel."""
    call = failure.module
    dims = next((dims for dims in (1, 2, 3) if is_torch_module(failure, call, f"BatchNorm{dims}d")), None)
    value, spec = first(call), spec_of(first(call))
    wanted = number(arguments(failure.info(call.path)), "num_features")
    if dims is None or value is None or spec is None or wanted is None:
        return None
    shape = sizes(spec)
    if len(shape) not in _DIMENSIONS[dims]:
        return _dimensions(failure, call, value, dims, shape, wanted)
    if shape[1] != wanted:
        return _channels(failure, call, value, shape, 1, wanted, "num_features")
    if math.prod(shape) // max(shape[1], 1) != 1 or failure.error.type != "ValueError":
        return None
    sentence = f"{subject(failure, call)} in train mode needs more than one value per channel, got {listed(shape)}"
    proposals = [Proposal("model.eval()", [ModelMode(False)])]
    batch = origin(failure, call, value, 0)
    if batch is not None and batch.number == 1:
        root = next(
            (given for given in failure.root.inputs if (found := spec_of(given)) and sizes(found)[:1] == [1]), None
        )
        given_spec = spec_of(root)
        if root is not None and given_spec is not None:
            proposals.append(another_shape(failure, root.where, [2, *sizes(given_spec)[1:]]))
    return failure.cause("one-value-per-channel", sentence), proposals


def instance_norm(failure: Failure) -> Answer | None:
    """An InstanceNorm with an input of other channels."""
    call = failure.module
    dims = next((dims for dims in (1, 2, 3) if is_torch_module(failure, call, f"InstanceNorm{dims}d")), None)
    value, spec = first(call), spec_of(first(call))
    wanted = number(arguments(failure.info(call.path)), "num_features")
    shape = [] if spec is None else sizes(spec)
    if dims is None or value is None or wanted is None or len(shape) not in (dims + 1, dims + 2):
        return None
    at = len(shape) - dims - 1
    return None if shape[at] == wanted else _channels(failure, call, value, shape, at, wanted, "num_features")


def _dimensions(failure: Failure, call: Call, value: Value, dims: int, shape: list[int], wanted: int) -> Answer:
    takes = " or ".join(str(one) for one in _DIMENSIONS[dims])
    sentence = f"{subject(failure, call)} takes {takes} dimensions, got {len(shape)}: {listed(shape)}"
    given = root_input(failure, call, value)
    proposals = []
    if given is not None and len(shape) + 1 in _DIMENSIONS[dims] and shape[:1] == [wanted]:
        proposals.append(another_shape(failure, given.where, [1, *shape], "add the batch dimension: {command}"))
    return failure.cause("dimensions", sentence), proposals


def _channels(
    failure: Failure, call: Call, value: Value, shape: list[int], at: int, wanted: int, argument: str
) -> Answer:
    made = origin(failure, call, value, at)
    got = str(shape[at]) if made is None else made.text
    sentence = f"{subject(failure, call)} takes {counted(wanted, 'channel')}, got {got}"
    proposals = []
    site = failure.written.site
    if shape[-1] == wanted and len(shape) > 2:
        sentence += f"; {listed(shape)} has {wanted} in its last dimension"
        if len(shape) == 3 and site is not None and failure.written is call:
            text = replaced(call, 0, ".transpose(1, 2)")
            if text is not None:
                proposals.append(Proposal(text, [OperandMethod(site, 0, "transpose", (1, 2))]))
    elif (given := another_size(failure, call, value, at, wanted)) is not None:
        proposals.append(given)
    if (built := rebuilt(failure, call.path, **{argument: shape[at]})) is not None:
        proposals.append(Proposal(built[0], [built[1]]))
    return failure.cause("norm-channels", sentence), proposals


def group_norm(failure: Failure) -> Answer | None:
    """A GroupNorm with an input of other channels."""
    call = failure.module
    value, spec = first(call), spec_of(first(call))
    found = arguments(failure.info(call.path))
    wanted, groups = number(found, "num_channels"), number(found, "num_groups")
    if value is None or spec is None or wanted is None or not is_torch_module(failure, call, "GroupNorm"):
        return None
    shape = sizes(spec)
    if len(shape) < 2 or shape[1] == wanted:
        return None
    answer = _channels(failure, call, value, shape, 1, wanted, "num_channels")
    if groups and shape[1] % groups:
        answer[1][:] = [one for one in answer[1] if not any(_builds(edit) for edit in one.edits)]
    return answer


def _builds(edit: Edit) -> bool:
    return type(edit).__name__ == "ModuleArguments"


def layer_norm(failure: Failure) -> Answer | None:
    """A LayerNorm or RMSNorm whose normalized_shape is not how its input ends."""
    call = failure.module
    value, spec = first(call), spec_of(first(call))
    wanted = arguments(failure.info(call.path)).get("normalized_shape")
    if value is None or spec is None or not isinstance(wanted, tuple):
        return None
    if not is_torch_module(failure, call, "LayerNorm", "RMSNorm"):
        return None
    shape = sizes(spec)
    ends = shape[-len(wanted) :]
    if list(wanted) == ends:
        return None
    made = origin(failure, call, value, -1) if len(wanted) == 1 else None
    got = listed(ends) if made is None else made.text
    over = str(wanted[0]) if len(wanted) == 1 else listed(wanted)
    sentence = f"{subject(failure, call)} normalizes over {over}, {listed(shape)} ends in {got}"
    proposals = []
    site = failure.written.site
    if len(wanted) == 1 and wanted[0] in shape[:-1] and site is not None and failure.written is call:
        dim = shape.index(wanted[0])
        swapped = replaced(call, 0, f".transpose({dim}, -1)")
        if swapped is not None:
            proposals.append(Proposal(swapped, [OperandMethod(site, 0, "transpose", (dim, -1))]))
    elif len(wanted) == 1 and (given := another_size(failure, call, value, -1, wanted[0])) is not None:
        proposals.append(given)
    if len(ends) == len(wanted) and (built := rebuilt(failure, call.path, normalized_shape=tuple(ends))):
        proposals.append(Proposal(built[0], [built[1]]))
    return failure.cause("normalized-shape", sentence), proposals
