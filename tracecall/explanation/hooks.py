"""Part 2: what `__call__` does around `forward`: the compiled branch, the short way, the long way with hooks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.explanation.code import names_in, place, quoted, statements
from tracecall.explanation.probes import ORDER, probed
from tracecall.explanation.subject import Subject
from tracecall.explanation.user_hooks import MOST_LINES, own_hooks
from tracecall.recording.user_hooks import global_hooks, hook_name, module_hooks
from tracecall.story import Evidence, Source, Step


def steps(subject: Subject) -> Iterator[Step]:
    """Which way this model takes, and which way it would take with a hook of each kind."""
    if subject.opaque is None and not subject.reaches_module_call:
        yield _not_here(subject)
        return
    if subject.entered(nn.Module._wrapped_call_impl):
        yield _compiled(subject)
    if subject.opaque is None:
        yield _short_or_long(subject)
        yield _in_order(subject)
        yield from own_hooks(subject)


def _not_here(subject: Subject) -> Step:
    claim = (
        f"The `__call__` of `nn.Module` is what runs hooks, and `{subject.name}` did not come to it. A hook "
        "registered on this module does not run."
    )
    evidence = [
        Evidence("nn.Module.__call__ ran for the root", False),
        Evidence("hooks that ran, of four that were registered", sum(one != "forward" for one in probed(subject).ran)),
    ]
    return Step("hooks", "No hook runs for this module", claim, evidence)


def _compiled(subject: Subject) -> Step:
    in_place = subject.model._compiled_call_impl is not None
    if in_place:
        claim = (
            "First `__call__` asks whether the module was compiled with `model.compile()`. This one was: the "
            "compiled code runs, and in it whatever hooks there were when it was compiled."
        )
    elif subject.opaque is not None:
        claim = (
            "First `__call__` asks whether the module was compiled with `model.compile()`. This object was not: it "
            "goes on to `_call_impl`, and its `forward` is what is compiled."
        )
    else:
        claim = (
            "First `__call__` asks whether the module was compiled with `model.compile()`. This one was not, so it "
            "goes on to `_call_impl`, where hooks are looked after."
        )
    evidence = [
        Evidence("self._compiled_call_impl is None", not in_place),
        Evidence("_call_impl ran for the root", subject.entered(nn.Module._call_impl)),
    ]
    wrapped: Any = nn.Module._wrapped_call_impl
    branches = statements(wrapped, lambda one: isinstance(one, ast.Return))
    marked = [line for source in branches for line in source.marked]
    taken = marked[:1] if in_place else marked[-1:]
    return Step("hooks", "A compiled module goes its own way", claim, evidence, quoted(wrapped, taken))


def _short_or_long(subject: Subject) -> Step:
    scopes = {"global": "for every module", "module": "on this module"}
    found = [
        f"{info.when} {hook_name(hook)}, {scopes[info.scope]}, {place(hook)}"
        for _, _, hook, info in [*global_hooks(), *module_hooks(subject.model)]
    ]
    forward = subject.watched.forward
    caller = forward.above.name if forward is not None and forward.above is not None else "nothing that was seen"
    backward = [
        name
        for name, hooks in (
            ("on this module", [*subject.model._backward_hooks, *subject.model._backward_pre_hooks]),
            ("for every module", [*torch_module._global_backward_hooks, *torch_module._global_backward_pre_hooks]),
        )
        if hooks
    ]
    long = bool(found or backward)
    evidence = [
        Evidence("forward hooks and pre-hooks registered", found or "none"),
        Evidence("forward was called from", caller),
    ]
    if backward:
        evidence.insert(1, Evidence("backward hooks registered", backward))
    if long:
        claim = (
            "`_call_impl` asks whether any hook is registered, on this module or for all modules. There is, so "
            "it takes the long way: hooks before `forward`, `forward`, hooks after it."
        )
    else:
        claim = (
            "`_call_impl` asks whether any hook is registered, on this module or for all modules. There is none, so it "
            "takes the short way: it calls `forward` at once and returns what `forward` returns."
        )
    title = "There is a hook: the long way" if long else "No hook: the short way"
    return Step("hooks", title, claim, evidence, _short_way())


def _short_way() -> list[Source]:
    def asks(one: ast.AST) -> bool:
        return isinstance(one, ast.If) and {"_forward_hooks", "_forward_pre_hooks", "forward_call"} <= names_in(one)

    return statements(nn.Module._call_impl, asks)[:1]


def _long_way() -> list[Source]:
    def loops(one: ast.AST) -> bool:
        return isinstance(one, ast.For) and bool({"_forward_pre_hooks", "_forward_hooks"} & names_in(one.iter))

    def calls(one: ast.AST) -> bool:
        return isinstance(one, ast.Assign) and "forward_call" in names_in(one.value) and isinstance(one.value, ast.Call)

    heads = statements(nn.Module._call_impl, loops, heads=True)
    middle = statements(nn.Module._call_impl, calls)
    before = [one for one in heads if middle and one.line < middle[0].line]
    after = [one for one in heads if middle and one.line > middle[0].line]
    return [*before[:1], *middle[:1], *after[:1]]


def _in_order(subject: Subject) -> Step:
    """Probe hooks of each kind: one passes on a copy of the arguments, one a copy of the output."""
    log, given, kept = probed(subject)
    written = subject.written("model")
    claim = f"To see it, a hook of each kind was put on this model for one run: {_sentence(log)}. "
    if given:
        claim += "A forward pre-hook may replace the arguments: this one returned copies, and `forward` got them. "
    if kept:
        claim += "A forward hook may replace the output: this one returned a copy, and the copy is what came out."
    evidence = [Evidence("what ran for the root", [f"{i}. {what}" for i, what in enumerate(log[:MOST_LINES], 1)])]
    if given is not None:
        evidence.append(Evidence("forward got the object that the pre-hook returned", given))
    evidence.append(Evidence(f"{written} returned the object that the forward hook returned", kept))
    return Step("hooks", "With hooks: the long way, in this order", claim.strip(), evidence, _long_way())


def _sentence(log: list[str]) -> str:
    """The order in words, as it was observed."""
    middle = log.index("forward") if "forward" in log else len(log)
    before, after = log[:middle], log[middle + 1 :]
    if before == list(ORDER[:2]) and after == list(ORDER[2:]):
        return (
            "the pre-hooks ran before `forward`, the hooks after it, and both times the one for every module ran "
            "before the one on this module"
        )
    if len(log) > len(ORDER) + 1:
        return f"{len(log)} hooks and calls of `forward` ran: the model was called again while it ran"
    return "this ran: " + ", then ".join(log) if log else "none of them ran"
