"""Wrong arguments to a forward: missing, unexpected, too many, or of another type than a tensor."""

from __future__ import annotations

import re

from tracecall.diagnosis.expressions import replaced
from tracecall.diagnosis.failure import Answer, Failure, counted, of_torch, subject, tensors
from tracecall.proposals import Edit, InputLeftOut, OperandMethod, Proposal

_WRONG = re.compile(
    r"forward\(\) (?:missing \d+ required (?:positional|keyword-only) arguments?: (?P<missing>.+)"
    r"|got an unexpected keyword argument '(?P<unexpected>\w+)'"
    r"|got multiple values for argument '(?P<twice>\w+)'"
    r"|takes (?:from \d+ to )?(?P<takes>\d+) positional arguments? but (?P<given>\d+))"
)
_NOT_TENSOR = re.compile(r"argument '?(?P<name>\w+)'? (?:\(position \d+\) )?must be Tensor, not (?P<type>\w+)")


def wrong_arguments(failure: Failure) -> Answer | None:
    """A forward that was called with arguments that its signature does not have."""
    found = _WRONG.search(failure.error.message)
    if found is None or failure.error.type != "TypeError":
        return None
    call = failure.call if failure.call.kind == "module" else None
    name = failure.error.message.partition(" ")[0] if call is None else subject(failure, call)
    signature = "" if call is None else failure.info(call.path).signature
    takes = f"; its forward takes {signature}" if signature else ""
    if found["missing"]:
        names = found["missing"].replace("'", "")
        return failure.cause("arguments", f"{name} is called without {names}{takes}"), []
    given: list[Edit]
    proposals = []
    at_root = call is failure.root
    if found["unexpected"]:
        sentence = f"{name} is called with {found['unexpected']}=, which its forward does not take{takes}"
        given = [InputLeftOut(found["unexpected"])]
        if at_root:
            proposals.append(Proposal(f"without {found['unexpected']}", given))
    elif found["twice"]:
        sentence = f"{name} is given {found['twice']} twice, by position and by name{takes}"
    else:
        # Python counts self
        many, most = int(found["given"]) - 1, int(found["takes"]) - 1
        sentence = f"{name} is given {many} positional arguments, and takes {most}{takes}"
        if at_root and 0 <= most < many:
            given = [InputLeftOut(f"args[{i}]") for i in range(most, many)]
            proposals.append(Proposal(f"only the first {most}" if most else "no arguments", given))
    return failure.cause("arguments", sentence), proposals


def not_a_tensor(failure: Failure) -> Answer | None:
    """A torch.nn module that got a tuple where it takes a tensor: the output of an LSTM, say."""
    found = _NOT_TENSOR.search(failure.error.message)
    call = failure.module
    if found is None or failure.error.type != "TypeError" or found["type"] not in ("tuple", "list", "dict", "NoneType"):
        return None
    parts = [value for value in tensors(call) if value.where.startswith(f"{found['name']}[")]
    source = next((value.source for value in parts if value.source), None)
    made = f" from {source}" if source else ""
    holds = f" that holds {counted(len(parts), 'tensor')}" if parts else ""
    sentence = f"{subject(failure, call)} takes a tensor as {found['name']}, got a {found['type']}{holds}{made}"
    proposals: list[Proposal] = []
    if failure.written is call and call.site is not None and found["type"] in ("tuple", "list") and parts:
        text = replaced(call, 0, "[0]")
        if text is not None:
            proposals.append(Proposal(text, [OperandMethod(call.site, 0, "__getitem__", (0,))]))
    return failure.cause("not-a-tensor", sentence), proposals


def no_tensor(failure: Failure) -> Answer | None:
    """A torch.nn module that got something else where it takes a tensor, and no tensor at all."""
    call = failure.module
    if failure.error.type != "TypeError" or not call.inputs or tensors(call):
        return None
    source = failure.info(call.path).source
    if call is not failure.calls[-1] and not failure.call.internal:
        return None
    if source is None or not of_torch(source):
        return None
    value = call.inputs[0]
    made = f" from {value.source}" if value.source else ""
    sentence = f"{subject(failure, call)} takes a tensor as {value.where}, got {value.value}{made}"
    return failure.cause("not-a-tensor", sentence), []
