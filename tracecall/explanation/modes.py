"""Part 6: what else `__call__` does, and what is taken for its work and is not: train and eval, gradients."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tracecall.explanation.code import names_in, names_used, statements
from tracecall.explanation.subject import RunRaisedError, Subject, summary
from tracecall.recording import values
from tracecall.recording.differences import same_output
from tracecall.story import Evidence, Step


def steps(subject: Subject) -> Iterator[Step]:
    """Train and eval, gradients, and what `__call__` asks about torch.jit.trace."""
    yield _training(subject)
    yield _gradients(subject)
    if subject.entered(nn.Module._call_impl):
        yield _tracing(subject)


def _names_in_call(subject: Subject) -> set[str]:
    """What the code that ran as `__call__` uses: the class's own, and nn.Module's where it came to that."""
    functions: list[Any] = [type(subject.model).__call__]
    functions += [one for one in (nn.Module._wrapped_call_impl, nn.Module._call_impl) if subject.entered(one)]
    return set().union(*map(names_used, functions))


@dataclass
class _InMode:
    """One run after `model.train()` or `model.eval()`."""

    asked: bool  # True for train mode
    output: Any
    training: bool  # self.training of the root in that run
    others: list[str]  # submodules that were then in the other mode than the root
    raised: Exception | None = None

    @property
    def name(self) -> str:
        return "train" if self.asked else "eval"


def _training(subject: Subject) -> Step:
    used = _names_in_call(subject)
    looks = "training" in used
    runs = [_in_mode(subject, True), _in_mode(subject, False)]
    readers = [
        f"{path or 'the root'} ({type(module).__name__})"
        for path, module in subject.model.named_modules()
        if "training" in names_used(module.forward)
    ]
    own = sorted({(type(one).__name__, name) for one in subject.model.modules() for name in _of_its_own(type(one))})
    evidence = [Evidence("the code of __call__ looks at self.training", looks)]
    if own:
        owner, method = own[0]
        article = "an" if method == "eval" else "a"
        claim = f"`{owner}` defines {article} `{method}()` of its own: what it does is up to its code. "
        evidence.append(
            Evidence("classes with a train() or eval() of their own", sorted({kind for kind, _ in own})[:8])
        )
    else:
        claim = "`model.train()` and `model.eval()` only set `self.training` on every module. "
    claim += "`__call__` looks at it here" if looks else "`__call__` does not look at it"
    if readers:
        doing = "one module here does" if len(readers) == 1 else f"{len(readers)} modules here do"
        claim += f"; the `forward` of {doing}. "
    elif subject.opaque is not None:
        claim += ". "
    else:
        claim += ", and `forward` does not name it in any module here. "
    for run in runs:
        said, seen = _said(run)
        claim += said
        evidence += seen
    said, seen = _compared(subject, runs, explained=bool(readers) or looks)
    evidence += seen
    if readers:
        shown = readers[:8] + ([f"and {len(readers) - 8} more"] if len(readers) > 8 else [])
        evidence.append(Evidence("modules whose forward looks at self.training", shown))
    title = "__call__ looks at self.training" if looks else "train() and eval() are not the work of __call__"
    return Step("modes", title, (claim + said).strip(), evidence)


def _said(run: _InMode) -> tuple[str, list[Evidence]]:
    """What was out of the ordinary in one of the two runs."""
    if run.raised is not None and run.training is run.asked:
        claim = f"With this input, the model raises {type(run.raised).__name__} in {run.name} mode. "
        return claim, [Evidence(f"in {run.name} mode", summary(run.raised))]
    call = f"model.{run.name}()"
    if run.training is not run.asked:
        claim = f"After `{call}`, `self.training` is {run.training}. "
        return claim, [Evidence(f"self.training after {call}", run.training)]
    if run.others:
        shown = ", ".join(f"`{path}`" for path in run.others[:3])
        more = f" and {len(run.others) - 3} more" if len(run.others) > 3 else ""
        other = "eval" if run.asked else "train"
        claim = f"`{call}` leaves {shown}{more} in {other} mode. "
        return claim, [Evidence(f"modules in {other} mode after {call}", run.others[:8])]
    return "", []


def _compared(subject: Subject, runs: list[_InMode], *, explained: bool) -> tuple[str, list[Evidence]]:
    """Whether the numbers are the same in both modes, where that can be said."""
    if any(run.raised is not None for run in runs) or not subject.tensors:
        return "", []
    if any(run.training is not run.asked for run in runs):
        return "So the two modes cannot be compared.", []
    if not subject.repeats:
        claim = "Two runs in the same mode gave different numbers, so the modes cannot be compared."
        return claim, [Evidence("two equal runs give the same numbers", False)]
    same = same_output(runs[0].output, runs[1].output)
    evidence = [Evidence("train mode and eval mode give the same numbers", same)]
    if same:
        return "The numbers are the same in both modes.", evidence
    claim = "The numbers differ between the modes"
    if explained:
        return claim + ".", evidence
    others = _functions_that_look(subject)
    if not others:
        return claim + ", so something else that runs depends on the mode.", evidence
    evidence.append(Evidence("functions that ran and look at self.training", others[:8]))
    return f"{claim}: `{others[0].partition(',')[0]}`, which runs too, looks at `self.training`.", evidence


def _functions_that_look(subject: Subject) -> list[str]:
    """The functions that ran whose code uses an attribute `training`, with the place where each is written."""
    found = (one for one in subject.watched.entered if one.code is not None and "training" in one.code.co_names)
    return list(dict.fromkeys(f"{one.name}, {one.where()}" for one in found))


def _of_its_own(kind: type[nn.Module]) -> list[str]:
    return [name for name in ("train", "eval") if getattr(kind, name) is not getattr(nn.Module, name)]


def _in_mode(subject: Subject, training: bool) -> _InMode:
    model = subject.model
    run = _InMode(training, None, training, [])
    try:
        with subject.preserved():
            model.train() if training else model.eval()
            run.training = model.training
            run.others = [path for path, one in model.named_modules() if path and one.training is not run.training]
            run.output = model(*subject.args, **subject.kwargs)
    except RunRaisedError as raised:
        subject.call()  # if the model itself cannot run any more, the story ends, and this proves nothing
        run.raised = raised.error
    return run


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
        except RunRaisedError as raised:  # inputs made in inference mode, say, cannot be used outside of it
            subject.call()  # as above
            error = raised.error
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
