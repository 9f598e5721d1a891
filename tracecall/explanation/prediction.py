"""Part 7: where the numbers of the prediction came from, and a last Linear done again by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.calls import Prediction
from tracecall.explanation.code import line_of, quoted
from tracecall.explanation.subject import Subject
from tracecall.explanation.submodules import made_by_forward
from tracecall.recording import FIRST_VALUES, predictions, tensor_specs, values
from tracecall.recording.differences import same_output
from tracecall.story import Evidence, Source, Step


@dataclass
class _Seen:
    """A module call: the module, its output, how often that had been written by then, and a Linear done by hand."""

    module: nn.Module
    output: torch.Tensor
    state: object
    by_hand: _ByHand | None

    def untouched(self) -> bool:
        """Whether nothing was written into the output since."""
        return _same_state(self.output, self.state)


@dataclass
class _ByHand:
    """A Linear's sum of products, made right after its forward returned: its weights may change afterwards."""

    shape: str  # of its input
    features: int  # how many products make a number
    bias: bool
    output: torch.Tensor


def steps(subject: Subject) -> Iterator[Step]:
    """What was returned, and by which call."""
    if not subject.tensors:
        claim = "There is no tensor in what the model returned."
        yield Step("prediction", "Where the numbers come from", claim, [_shape(subject)])
        return
    found = _last_module(subject)
    if found is None:
        yield _from_an_operation(subject)
    elif found.by_hand is not None:
        yield _by_hand(subject, found.module, found.by_hand, found.output)
    else:
        yield _from_a_module(subject, found.module)


def _plain(value: object) -> TypeGuard[torch.Tensor]:
    """Whether a value is a tensor of plain floating point numbers."""
    return (
        isinstance(value, torch.Tensor)
        and type(value) in tensor_specs.PLAIN_TENSORS
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
            seen.append(_Seen(module, output, _state(output), _products(module, args)))

    with torch_module.register_module_forward_hook(probe), subject.preserved():
        output = subject.model(*subject.args, **subject.kwargs)
        first = next((leaf for _, leaf in values.parts("", output) if isinstance(leaf, torch.Tensor)), None)
        # inner modules return before outer ones
        return next((one for one in seen if one.output is first and one.untouched()), None)


def _products(module: nn.Module, args: tuple[Any, ...]) -> _ByHand | None:
    given = args[0] if args else None
    if type(module) is not nn.Linear or not _plain(given) or not _plain(module.weight):
        return None
    with torch.no_grad():
        try:
            by_hand = given @ module.weight.T
            by_hand = by_hand if module.bias is None else by_hand + module.bias
        except RuntimeError:  # its forward was replaced, and takes what these weights do not fit
            return None
    shape = f"{str(given.dtype).removeprefix('torch.')}[{values.size_text(tuple(given.shape))}]"
    return _ByHand(shape, module.in_features, module.bias is not None, by_hand)


def _shape(subject: Subject) -> Evidence:
    tensors = [one.tensor for one in subject.predictions]
    if not tensors:
        return Evidence("the prediction", values.short(subject.output))
    texts = [f"{one.dtype}[{values.size_text(one.shape)}]" for one in tensors[:4]]
    return Evidence("the prediction", texts if len(texts) > 1 else texts[0])


def _by_hand(subject: Subject, linear: nn.Module, done: _ByHand, output: torch.Tensor) -> Step:
    path = subject.path(linear)
    written = "linear" if path is None else path or "model"
    which = f"`{written}`, a Linear," if path is not None else _which(subject, linear)
    difference, size = _difference(done.output, output), _difference(torch.zeros_like(output), output)
    formula = f"x @ {written}.weight.T" + (f" + {written}.bias" if done.bias else "")
    near = difference <= 10 * torch.finfo(output.dtype).eps * max(1.0, size) * max(1, done.features) ** 0.5
    claim = (
        f"{_what(subject)} is what {which} returned. A Linear computes each number as a sum of "
        f"products: the input times the weights{', plus the bias' if done.bias else ''}. "
    )
    claim += (
        "Done by hand, that gives the same numbers, apart from rounding."
        if near and difference
        else "Done by hand, that gives the same numbers."
        if near
        else "Done by hand, that gives other numbers, so something else had a part in the numbers that came out."
    )
    evidence = [
        _shape(subject),
        Evidence(f"{written} was given x", done.shape),
        Evidence("what came out", _numbers(predictions(output))),
        Evidence(formula, _numbers(predictions(done.output))),
        Evidence("the largest difference", difference),
    ]
    sources = [*_call_line(subject, path), *quoted(nn.Linear.forward, most=8)]
    return Step("prediction", "Where the numbers come from", claim, evidence, sources)


def _from_a_module(subject: Subject, module: nn.Module) -> Step:
    claim = f"{_what(subject)} is the very tensor that {_which(subject, module)} returned."
    evidence = [_shape(subject), Evidence("first numbers", _numbers(subject.predictions))]
    source = _call_line(subject, subject.path(module))
    return Step("prediction", "Where the numbers come from", claim, evidence, source)


def _which(subject: Subject, module: nn.Module) -> str:
    path, kind = subject.path(module), type(module).__name__
    return f"a {kind} that is no part of the model" if path is None else f"`{path or 'model'}` ({kind})"


def _call_line(subject: Subject, path: str | None) -> list[Source]:
    """The line that made the last call of this module."""
    call = next(iter(reversed([] if path is None else subject.trace.find(path))), None)
    return line_of(None if call is None else call.site)


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
    first, second = one.detach().double(), other.detach().double()
    apart = (first - second).abs().masked_fill((first == second) | (first.isnan() & second.isnan()), 0.0)
    return float(apart.nan_to_num(nan=float("inf")).max()) if apart.numel() else 0.0


def _numbers(found: list[Prediction]) -> str:
    """The first numbers of the first tensor."""
    if not found or not found[0].values:
        return "no numbers to show"
    shown = [f"{one:.4g}" if isinstance(one, float) else str(one) for one in found[0].values]
    whole = len(shown) < FIRST_VALUES or found[0].tensor.shape == (FIRST_VALUES,)
    return ", ".join(shown if whole else [*shown, "…"])
