"""Part 7: where the numbers of the prediction came from, and a last Linear done again by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.calls import Prediction
from tracecall.explanation.code import line_of, quoted
from tracecall.explanation.subject import Subject
from tracecall.explanation.submodules import made_by_forward
from tracecall.recording import FIRST_VALUES, predictions, values
from tracecall.recording.differences import same_output
from tracecall.story import Evidence, Step


@dataclass
class _Seen:
    """A module call: the module, its first argument, its output, and how often each had been written by then."""

    module: nn.Module
    given: Any
    output: torch.Tensor
    states: tuple[object, object]

    def untouched(self) -> bool:
        """Whether nothing was written into the output since."""
        return _same_state(self.output, self.states[1])


def steps(subject: Subject) -> list[Step]:
    """What was returned, and by which call."""
    if not subject.tensors:
        claim = "There is no tensor in what the model returned."
        return [Step("prediction", "Where the numbers come from", claim, [_shape(subject)])]
    found = _last_module(subject)
    if found is None:
        return [_from_an_operation(subject)]
    if type(found.module) is nn.Linear and _plain(found.given) and _same_state(found.given, found.states[0]):
        return [_by_hand(subject, found.module, found.given, found.output)]
    return [_from_a_module(subject, found.module)]


def _plain(value: object) -> bool:
    """Whether a value is a tensor of plain floating point numbers."""
    return (
        isinstance(value, torch.Tensor)
        and type(value) in values.PLAIN_TENSORS
        and value.is_floating_point()
        and value.layout is torch.strided
        and not (value.is_nested or value.is_meta)
    )


def _state(value: object) -> object:
    """Something that changes when the tensor is written; inference tensors do not count, so a copy of those."""
    if not isinstance(value, torch.Tensor):
        return None
    return value.detach().clone() if value.is_inference() else value._version


def _same_state(value: object, before: object) -> bool:
    if isinstance(value, torch.Tensor) and isinstance(before, torch.Tensor):
        return same_output(value, before)
    return _state(value) == before


def _last_module(subject: Subject) -> _Seen | None:
    """The innermost module call that returned the very tensor that came out of the model, if it is as it was then."""
    if subject.opaque is not None:
        return None
    seen: list[_Seen] = []

    def probe(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, torch.Tensor) and (module is not subject.model or type(module) is nn.Linear):
            given = args[0] if args else None
            seen.append(_Seen(module, given, output, (_state(given), _state(output))))

    with torch_module.register_module_forward_hook(probe), subject.preserved():
        output = subject.model(*subject.args, **subject.kwargs)
        first = next(leaf for _, leaf in values.parts("", output) if isinstance(leaf, torch.Tensor))
        # inner modules return before outer ones
        return next((one for one in seen if one.output is first and one.untouched()), None)


def _shape(subject: Subject) -> Evidence:
    tensors = [one.tensor for one in subject.predictions]
    if not tensors:
        return Evidence("the prediction", values.short(subject.output))
    texts = [f"{one.dtype}[{values.size_text(one.shape)}]" for one in tensors[:4]]
    return Evidence("the prediction", texts if len(texts) > 1 else texts[0])


def _by_hand(subject: Subject, linear: nn.Linear, given: torch.Tensor, output: torch.Tensor) -> Step:
    path = subject.paths.get(id(linear)) or "model"
    with torch.no_grad():
        by_hand = given @ linear.weight.T
        if linear.bias is not None:
            by_hand = by_hand + linear.bias
        difference, size = _difference(by_hand, output), _difference(torch.zeros_like(output), output)
    formula = f"x @ {path}.weight.T" + (f" + {path}.bias" if linear.bias is not None else "")
    near = difference <= 10 * torch.finfo(output.dtype).eps * max(1.0, size) * max(1, linear.in_features) ** 0.5
    claim = (
        f"{_what(subject)} is what `{path}`, a Linear, returned. A Linear computes each number as a sum of products: "
        f"the input times the weights{', plus the bias' if linear.bias is not None else ''}. "
    )
    claim += (
        "Done by hand, that gives the same numbers, apart from rounding."
        if near and difference
        else "Done by hand, that gives the same numbers."
        if near
        else f"Done by hand, that gives other numbers: something more happens in the call of `{path}`."
    )
    evidence = [
        _shape(subject),
        Evidence(
            f"{path} was given x", f"{str(given.dtype).removeprefix('torch.')}[{values.size_text(tuple(given.shape))}]"
        ),
        Evidence("what came out", _numbers(predictions(output))),
        Evidence(formula, _numbers(predictions(by_hand))),
        Evidence("the largest difference", difference),
    ]
    call = next(iter(reversed(subject.trace.find(subject.paths.get(id(linear), "")))), None)
    sources = line_of(call.site if call is not None else None)
    return Step(
        "prediction", "Where the numbers come from", claim, evidence, [*sources, *quoted(nn.Linear.forward, most=8)]
    )


def _from_a_module(subject: Subject, module: nn.Module) -> Step:
    path = subject.paths.get(id(module)) or type(module).__name__
    kind = type(module).__name__
    claim = f"{_what(subject)} is the very tensor that `{path}` ({kind}) returned."
    evidence = [_shape(subject), Evidence("first numbers", _numbers(subject.predictions))]
    call = next(iter(reversed(subject.trace.find(path))), None)
    return Step(
        "prediction", "Where the numbers come from", claim, evidence, line_of(call.site if call is not None else None)
    )


def _what(subject: Subject) -> str:
    return "The prediction" if len(subject.tensors) == 1 else "The first tensor of the prediction"


def _from_an_operation(subject: Subject) -> Step:
    title = "Where the numbers come from"
    evidence = [_shape(subject), Evidence("first numbers", _numbers(subject.predictions))]
    given = {id(leaf) for one in (*subject.args, *subject.kwargs.values()) for _, leaf in values.parts("", one)}
    if id(subject.tensors[0]) in given:
        claim = f"{_what(subject)} is one of the tensors that you passed."
        return Step("prediction", title, claim, evidence)
    last = next((call for call in reversed(made_by_forward(subject)) if call.kind != "hook"), None)
    if subject.opaque is not None or last is None or subject.watched.forward is None:
        why = f": this module is {subject.opaque}." if subject.opaque else "."
        return Step("prediction", title, "What computed the prediction was not seen" + why, evidence)
    kind = "operation" if last.kind == "operation" else "submodule call"
    claim = (
        f"{_what(subject)} is not what a submodule returned, as it stands. The last call that `forward` made was the "
        f"{kind} `{last.name}`."
    )
    evidence.append(Evidence("that ran as", last.type))
    return Step("prediction", title, claim, evidence, line_of(last.site))


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two numbers; those that are both NaN, or the same infinity, do not differ."""
    if one.shape != other.shape:
        return float("inf")
    first, second = one.double(), other.double()
    apart = (first - second).abs().masked_fill((first == second) | (first.isnan() & second.isnan()), 0.0)
    return float(apart.nan_to_num(nan=float("inf")).max()) if apart.numel() else 0.0


def _numbers(found: list[Prediction]) -> str:
    """The first numbers of the first tensor."""
    if not found or not found[0].values:
        return "no numbers to show"
    shown = [f"{one:.4g}" if isinstance(one, float) else str(one) for one in found[0].values]
    whole = len(shown) < FIRST_VALUES or found[0].tensor.shape == (FIRST_VALUES,)
    return ", ".join(shown if whole else [*shown, "…"])
