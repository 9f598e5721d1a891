"""Losses computed inside a forward: targets of another shape, dtype or range than the scores."""

from __future__ import annotations

from tracecall.calls import Call, TensorSpec, Value
from tracecall.diagnosis.expressions import operands, replaced
from tracecall.diagnosis.failure import Answer, Failure, is_torch_module, listed, sizes, spec_of, subject, tensors
from tracecall.diagnosis.inputs import another_shape
from tracecall.diagnosis.origin import root_input
from tracecall.proposals import InputRange, OperandMethod, Proposal

_CLASSES = ("cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss")
_SAME_SHAPE = ("binary_cross_entropy", "BCELoss", "BCEWithLogitsLoss")
_WHOLE = ("int64", "uint8")


def class_loss(failure: Failure) -> Answer | None:
    """cross_entropy or nll_loss whose target does not go with its scores."""
    call = _loss(failure, _CLASSES)
    pair = None if call is None else _scores_and_target(failure, call)
    if call is None or pair is None:
        return None
    scores, target = pair
    shape, wanted = sizes(scores), sizes(target)
    name = subject(failure, call)
    if not shape:
        return None
    classes = shape[1] if len(shape) > 1 else shape[0]
    expected = [shape[0], *shape[2:]] if len(shape) > 1 else []
    if wanted == expected and target.dtype not in _WHOLE:
        sentence = f"{name} takes a target of class numbers (int64), got {target.dtype} {listed(wanted)}"
        return failure.cause("loss-target", sentence), _on_target(failure, call, "long")
    if wanted == expected:
        span = _span(failure)
        if span is None:
            return None
        low, high = span
        if low >= 0 and high < classes:
            return None
        sentence = f"{name}: {classes} classes 0…{classes - 1} in scores {listed(shape)}, got targets {low}…{high}"
        root = _root_target(failure, call, target)
        text = "" if root is None else f"numbers of 0…{classes - 1} in {root.where}"
        proposals = [] if root is None else [Proposal(text, [InputRange(root.where, 0, classes - 1)])]
        return failure.cause("loss-target", sentence), proposals
    sentence = f"{name}: scores {listed(shape)} take a target of {listed(expected)}, got {listed(wanted)}"
    proposals = []
    root = _root_target(failure, call, target)
    if wanted == [*expected, 1]:
        proposals = _on_target(failure, call, "squeeze", -1)
    elif root is not None:
        proposals = [another_shape(failure, root.where, expected)]
    return failure.cause("loss-target", sentence), proposals


def same_shape_loss(failure: Failure) -> Answer | None:
    """binary_cross_entropy, whose target has the shape of its scores."""
    call = _loss(failure, _SAME_SHAPE)
    pair = None if call is None else _scores_and_target(failure, call)
    if call is None or pair is None:
        return None
    shape, wanted = sizes(pair[0]), sizes(pair[1])
    if shape == wanted:
        return None
    sentence = (
        f"{subject(failure, call)} takes a target of the shape of its scores, {listed(shape)}, got {listed(wanted)}"
    )
    proposals = _on_target(failure, call, "unsqueeze", -1) if shape == [*wanted, 1] else []
    return failure.cause("loss-target", sentence), proposals


def _loss(failure: Failure, names: tuple[str, ...]) -> Call | None:
    if is_torch_module(failure, failure.module, *names):
        return failure.module
    call = failure.operation
    return call if call is not None and call.name.startswith(tuple(f"F.{name}" for name in names)) else None


def _scores_and_target(failure: Failure, call: Call) -> tuple[TensorSpec, TensorSpec] | None:
    """The first two tensors of a loss; those of an operation by the names that its expression gives them."""
    found = {value.where: spec for value in tensors(call) if (spec := spec_of(value)) is not None}
    named = [found[name] for name in operands(call) if name in found] if call.kind == "operation" else []
    specs = named if len(named) == 2 else list(found.values())
    return (specs[0], specs[1]) if len(specs) >= 2 else None


def _root_target(failure: Failure, call: Call, target: TensorSpec) -> Value | None:
    """The model's input that is the target."""
    value = next((value for value in reversed(tensors(call)) if value.value == target), None)
    return None if value is None else root_input(failure, call, value)


def _span(failure: Failure) -> tuple[int, int] | None:
    return next((value.span for value in tensors(failure.call) if value.where == "target" and value.span), None)


def _on_target(failure: Failure, call: Call, method: str, *numbers: int) -> list[Proposal]:
    site = failure.written.site
    if site is None or failure.written is not call:
        return []
    text = replaced(call, 1, f".{method}({', '.join(map(str, numbers))})")
    return [] if text is None else [Proposal(text, [OperandMethod(site, 1, method, numbers)])]
