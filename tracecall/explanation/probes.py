"""One run with a hook of each kind on the root, to see in which order they run and what becomes of what they return."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.explanation.subject import Subject
from tracecall.explanation.watching import watch

ORDER = ("global forward pre-hook", "forward pre-hook", "global forward hook", "forward hook")


class Probed(NamedTuple):
    """What was seen in that run."""

    ran: list[str]  # for the root, in order: names of ORDER, and "forward"
    given: bool | None  # whether forward got what the pre-hook returned; None where there was nothing to copy
    kept: bool  # whether the model returned what the forward hook returned


def probed(subject: Subject) -> Probed:
    """Run once with four probe hooks: the root's own pass on copies, of the arguments and of the output."""
    model = subject.model
    log: list[str] = []
    passed: list[Any] = []
    returned: list[Any] = []

    def probe(what: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def hook(module: nn.Module, *rest: Any) -> Any:
            if module is not model:
                return None
            log.append(what)
            return act(*rest)

        return hook

    def replace(args: tuple[Any, ...]) -> Any:
        copies = tuple(_copy(one) for one in args)
        passed.append(copies)
        return copies

    def renew(args: Any, output: Any) -> Any:
        returned.append(_copy(output))
        return returned[-1]

    def began(arguments: tuple[Any, ...]) -> None:
        log.append("forward")
        got.append(arguments)

    nothing: Callable[..., None] = lambda *rest: None  # noqa: E731
    before = torch_module.register_module_forward_pre_hook
    after = torch_module.register_module_forward_hook
    got: list[Any] = []
    with ExitStack() as stack, subject.preserved():
        stack.enter_context(before(probe(ORDER[0], nothing)))
        stack.enter_context(model.register_forward_pre_hook(probe(ORDER[1], replace)))
        stack.enter_context(after(probe(ORDER[2], nothing)))
        stack.enter_context(model.register_forward_hook(probe(ORDER[3], renew)))
        watched = watch(
            lambda: model(*subject.args, **subject.kwargs),
            subject.forward_function,
            began=began,
        )
    first = next((copy for copy in (passed[-1] if passed else ()) if isinstance(copy, torch.Tensor)), None)
    seen = None if first is None or not got else any(first is one for one in got[0])
    kept = bool(returned) and returned[-1] is watched.output
    return Probed(log, seen, kept)


def _copy(value: Any) -> Any:
    return value.clone() if type(value) in (torch.Tensor, nn.Parameter) else value
