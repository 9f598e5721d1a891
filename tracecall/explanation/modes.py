"""Part 6: what else `__call__` does, and what is taken for its work and is not: train and eval, gradients."""

from __future__ import annotations

import ast
from typing import Any

import torch
from torch import nn

from tracecall.explanation.code import names_in, names_used, statements
from tracecall.explanation.subject import Subject, summary
from tracecall.recording import values
from tracecall.recording.differences import same_output
from tracecall.story import Evidence, Step


def steps(subject: Subject) -> list[Step]:
    """Train and eval, gradients, and what `__call__` asks about torch.jit.trace."""
    asked = [_tracing(subject)] if subject.entered(nn.Module._call_impl) else []
    return [_training(subject), _gradients(subject), *asked]


def _names_in_call(subject: Subject) -> set[str]:
    """What the code that ran as `__call__` uses: the class's own, and nn.Module's where it came to that."""
    functions: list[Any] = [type(subject.model).__call__]
    functions += [one for one in (nn.Module._wrapped_call_impl, nn.Module._call_impl) if subject.entered(one)]
    return set().union(*map(names_used, functions))


def _training(subject: Subject) -> Step:
    model = subject.model
    used = _names_in_call(subject)
    outcomes: list[Any] = []
    raised = ""
    evidence = [Evidence("the code of __call__ looks at self.training", "training" in used)]
    for mode in (True, False):
        try:
            outcomes.append(_in_mode(subject, mode))
        except Exception as error:
            name = "train" if mode else "eval"
            raised += f"With this input, the model raises {type(error).__name__} in {name} mode. "
            evidence.append(Evidence(f"in {name} mode", summary(error)))
    readers = [
        f"{path or 'the root'} ({type(module).__name__})"
        for path, module in model.named_modules()
        if "training" in names_used(module.forward)
    ]
    own = sorted({type(one).__name__ for one in model.modules() if _trains(type(one))})
    if own:
        claim = f"`{own[0]}` defines a `train()` of its own: what that and `model.eval()` do is up to its code. "
        evidence.append(Evidence("classes with a train() of their own", own[:8]))
    else:
        claim = "`model.train()` and `model.eval()` only set `self.training` on every module. "
    claim += "`__call__` does not look at it" if "training" not in used else "`__call__` looks at it here"
    if readers:
        doing = "one module here does" if len(readers) == 1 else f"{len(readers)} modules here do"
        claim += f"; the `forward` of {doing}. "
    elif subject.opaque is not None:
        claim += ". "
    else:
        claim += ", and `forward` does not name it in any module here. "
    claim += raised
    if len(outcomes) == 2 and subject.tensors and subject.repeats:
        same = same_output(*outcomes)
        claim += "The numbers are the same in both modes." if same else "The numbers differ between the modes."
        evidence.append(Evidence("train mode and eval mode give the same numbers", same))
    elif len(outcomes) == 2 and subject.tensors:
        claim += "This model gives other numbers in every run, so the modes cannot be compared."
        evidence.append(Evidence("two equal runs give the same numbers", False))
    if readers:
        shown = readers[:8] + ([f"and {len(readers) - 8} more"] if len(readers) > 8 else [])
        evidence.append(Evidence("modules whose forward looks at self.training", shown))
    title = (
        "train() and eval() are not the work of __call__"
        if "training" not in used
        else "__call__ looks at self.training"
    )
    return Step("modes", title, claim.strip(), evidence)


def _trains(kind: type[nn.Module]) -> bool:
    return kind.train is not nn.Module.train


def _in_mode(subject: Subject, training: bool) -> Any:
    with subject.preserved():
        subject.model.train(training)
        return subject.model(*subject.args, **subject.kwargs)


def _gradients(subject: Subject) -> Step:
    outside = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    inside = subject.watched.gradients
    switched = inside is not None and inside != outside
    title = "__call__ switches gradients" if switched else "Gradients are not the work of __call__"
    claim = ""
    evidence = []
    if switched:
        claim = "On the way from `__call__` to `forward`, gradients were switched on or off. "
    elif inside is not None:
        claim = "`__call__` does not switch gradients on or off either. "
    if inside is not None:
        evidence.append(Evidence("gradients are on or off in forward as they were before the call", not switched))
    outcomes: list[bool | None] = []
    for way, on in (("with gradients on", True), ("under torch.no_grad()", False)):
        try:
            with torch.inference_mode(False), torch.set_grad_enabled(on):
                outcomes.append(_requires_grad(subject))
        except Exception as error:  # inputs made in inference mode, say, cannot be used outside of it
            claim += f"Run {way}, this model raises {type(error).__name__}. "
            evidence.append(Evidence(way, summary(error)))
        else:
            if outcomes[-1] is not None:
                evidence.append(Evidence(f"the output requires a gradient, {way}", outcomes[-1]))
    if outcomes == [True, False]:
        claim += (
            "With gradients on, the output requires a gradient; under `torch.no_grad()` it does not. For predictions, "
            "write `model.eval()` and `with torch.inference_mode():` yourself."
        )
    elif outcomes == [True, True]:
        claim += "Here the output requires a gradient even under `torch.no_grad()`."
    elif outcomes == [False, False]:
        claim += "Here the output requires no gradient in either case."
    elif not subject.tensors:
        claim += "There is no tensor in this output that could require a gradient."
    return Step("modes", title, claim.strip(), evidence)


def _requires_grad(subject: Subject) -> bool | None:
    """Whether a tensor of the output requires a gradient; None if there is no tensor."""
    with subject.preserved():
        output = subject.call()
    tensors = [leaf for _, leaf in values.parts("", output) if isinstance(leaf, torch.Tensor)]
    return any(tensor.requires_grad for tensor in tensors) if tensors else None


def _tracing(subject: Subject) -> Step:
    slow = subject.entered(nn.Module._slow_forward)
    claim = (
        "`torch.jit.trace` is at work, so `__call__` calls `_slow_forward`, and that one calls `forward`."
        if slow
        else "One more thing `__call__` asks: whether `torch.jit.trace` is at work. It is not, so `forward` is called "
        "directly. While it is, `_slow_forward` is called in its place."
    )

    def asks(one: ast.AST) -> bool:
        return isinstance(one, ast.Assign) and {"_get_tracing_state", "_slow_forward"} <= names_in(one.value)

    evidence = [Evidence("_slow_forward ran", slow)]
    sources = statements(nn.Module._call_impl, asks)[:1]
    return Step("modes", "__call__ asks about torch.jit.trace", claim, evidence, sources)
