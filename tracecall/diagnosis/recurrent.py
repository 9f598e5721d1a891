"""RNN, LSTM and GRU, and their cells: input and hidden sizes, and dimensions that are missing."""

from __future__ import annotations

from tracecall.calls import Call
from tracecall.diagnosis.building import Argument, arguments, number, rebuilt
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
from tracecall.diagnosis.inputs import another_shape, another_size
from tracecall.diagnosis.origin import origin, root_input
from tracecall.proposals import Proposal

_RECURRENT = ("RNN", "LSTM", "GRU")
_CELLS = ("RNNCell", "LSTMCell", "GRUCell")


def recurrent(failure: Failure) -> Answer | None:
    """An RNN, LSTM or GRU with an input or hidden state of other sizes."""
    call = failure.module
    cell = is_torch_module(failure, call, *_CELLS)
    found = arguments(failure.info(call.path))
    wanted, hidden = number(found, "input_size"), number(found, "hidden_size")
    value, spec = first(call, "input"), spec_of(first(call, "input"))
    if not (cell or is_torch_module(failure, call, *_RECURRENT)) or wanted is None or hidden is None:
        return None
    if value is None or spec is None:
        return None
    shape = sizes(spec)
    dims = (1, 2) if cell else (2, 3)
    if len(shape) not in dims:
        names = "[input_size] or [N, input_size]" if cell else f"[L, input_size] or {_order(found)}"
        sentence = f"{subject(failure, call)} takes {names}, got {counted(len(shape), 'dimension')} {listed(shape)}"
        given = root_input(failure, call, value)
        proposals = []
        if given is not None and len(shape) == dims[0] - 1 and shape[-1:] == [wanted]:
            proposals.append(
                another_shape(failure, given.where, [1, *shape], "add a dimension for the length: {command}")
            )
        elif given is not None and len(shape) == 2 and not cell and wanted == 1:
            proposals.append(another_shape(failure, given.where, [*shape, 1], "add the feature dimension: {command}"))
        return failure.cause("dimensions", sentence), proposals
    if shape[-1] != wanted:
        return _input_size(failure, call, shape, wanted)
    return _hidden(failure, call, shape, found, hidden, cell)


def _order(found: dict[str, Argument]) -> str:
    return "[N, L, input_size]" if found.get("batch_first") is True else "[L, N, input_size]"


def _input_size(failure: Failure, call: Call, shape: list[int], wanted: int) -> Answer:
    value = first(call, "input")
    made = None if value is None else origin(failure, call, value, -1)
    got = str(shape[-1]) if made is None else made.text
    sentence = f"{subject(failure, call)} takes input_size = {wanted}, got {got}"
    proposals = []
    given = None if value is None else another_size(failure, call, value, -1, wanted)
    root = None if value is None else root_input(failure, call, value)
    if wanted == 1 and root is not None and len(shape) == 2:
        proposals.append(another_shape(failure, root.where, [*shape, 1], "add the feature dimension: {command}"))
    elif given is not None:
        proposals.append(given)
    if (built := rebuilt(failure, call.path, input_size=shape[-1])) is not None:
        proposals.append(Proposal(built[0], [built[1]]))
    return failure.cause("recurrent-input", sentence), proposals


def _hidden(
    failure: Failure, call: Call, shape: list[int], found: dict[str, Argument], hidden: int, cell: bool
) -> Answer | None:
    """A hidden state of another shape than [D·num_layers, N, hidden_size]."""
    batched = len(shape) == (2 if cell else 3)
    batch = shape[0] if cell or found.get("batch_first") is True else shape[1]
    count = (number(found, "num_layers") or 1) * (2 if found.get("bidirectional") is True else 1)
    size = number(found, "proj_size") or hidden
    for value in tensors(call):
        spec = spec_of(value)
        if spec is None or not value.where.startswith("hx"):
            continue
        features = hidden if value.where == "hx[1]" else size
        wanted = [*([] if cell else [count]), *([batch] if batched else []), features]
        if sizes(spec) == wanted:
            continue
        names = "[N, hidden_size]" if cell else "[layers·directions, N, hidden_size]"
        if not batched:
            names = names.replace("N, ", "")
        sentence = (
            f"{subject(failure, call)} takes a hidden state of {names} = {listed(wanted)}, got {listed(spec.shape)}"
        )
        root = root_input(failure, call, value)
        proposals = [] if root is None else [another_shape(failure, root.where, wanted)]
        return failure.cause("recurrent-hidden", sentence), proposals
    return None
