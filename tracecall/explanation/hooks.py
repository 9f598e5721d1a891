"""Part 2: what `__call__` does around `forward`: the compiled branch, the short way, the long way with hooks."""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.calls import Call
from tracecall.explanation.code import names_in, place, quoted, statements
from tracecall.explanation.subject import Subject
from tracecall.explanation.watching import watch
from tracecall.recording.user_hooks import global_hooks, hook_name, module_hooks
from tracecall.story import Evidence, Source, Step

MOST_LINES = 20  # of one list
_ORDER = ("global forward pre-hook", "forward pre-hook", "global forward hook", "forward hook")


def steps(subject: Subject) -> list[Step]:
    """Which way this model takes, and which way it would take with a hook of each kind."""
    if subject.opaque is None and not subject.reaches_module_call:
        return [_not_here(subject)]
    compiled = [_compiled(subject)] if subject.entered(nn.Module._wrapped_call_impl) else []
    if subject.opaque is not None:
        return compiled
    return [*compiled, _short_or_long(subject), _in_order(subject), *_of_the_users(subject)]


def _not_here(subject: Subject) -> Step:
    claim = (
        f"The `__call__` of `nn.Module` is what runs hooks, and `{subject.name}` did not come to it. A hook "
        "registered on this module does not run."
    )
    evidence = [
        Evidence("nn.Module.__call__ ran for the root", False),
        Evidence("hooks that ran, of four that were registered", sum(one != "forward" for one in _probed(subject)[0])),
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
    log, given, returned, output = _probed(subject)
    written = subject.written("model")
    kept = bool(returned) and returned[-1] is output
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
    if before == list(_ORDER[:2]) and after == list(_ORDER[2:]):
        return (
            "the pre-hooks ran before `forward`, the hooks after it, and both times the one for every module ran "
            "before the one on this module"
        )
    if len(log) > len(_ORDER) + 1:
        return f"{len(log)} hooks and calls of `forward` ran: the model was called again while it ran"
    return "this ran: " + ", then ".join(log) if log else "none of them ran"


def _probed(subject: Subject) -> tuple[list[str], bool | None, list[Any], Any]:
    """(What ran, whether forward got what the pre-hook returned, what the hook returned, what the model returned)."""
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
        stack.enter_context(before(probe(_ORDER[0], nothing)))
        stack.enter_context(model.register_forward_pre_hook(probe(_ORDER[1], replace)))
        stack.enter_context(after(probe(_ORDER[2], nothing)))
        stack.enter_context(model.register_forward_hook(probe(_ORDER[3], renew)))
        watched = watch(
            lambda: model(*subject.args, **subject.kwargs),
            subject.forward_function,
            began=began,
        )
    first = next((copy for copy in (passed[-1] if passed else ()) if isinstance(copy, torch.Tensor)), None)
    seen = None if first is None or not got else any(first is one for one in got[0])
    return log, seen, returned, watched.output


def _copy(value: Any) -> Any:
    return value.clone() if type(value) in (torch.Tensor, nn.Parameter) else value


def _of_the_users(subject: Subject) -> list[Step]:
    """The hooks that the user registered, as they ran, with what each changed."""
    ran: list[Call] = [call for _, call in subject.trace.walk() if call.kind == "hook"]
    if not ran:
        return []
    lines = []
    for call in ran:
        info, where = call.hook, f"{call.site.file}:{call.site.line}" if call.site else "no Python source"
        scope = "for every module" if info is not None and info.scope == "global" else f"on {call.path or 'the root'}"
        kind = info.when if info is not None else "hook"
        lines.append(f"{call.name}, {kind} {scope}, {where}: {', '.join(call.changed or ['changed nothing'])}")
    changing = [call for call in ran if call.changed]
    claim = f"Your own hooks are part of this run: {len(ran)} ran."
    if changing:
        before = any(call.hook is not None and call.hook.when == "forward pre-hook" for call in changing)
        claim += f" `{changing[0].name}` changed something: " + (
            "what `forward` got is not what you passed." if before else "what came out is not what `forward` returned."
        )
    sources = [source for hook in _functions(subject)[:2] for source in quoted(hook, most=12)]
    return [
        Step(
            "hooks", "Your own hooks", claim, [Evidence("in the order in which they ran", lines[:MOST_LINES])], sources
        )
    ]


def _functions(subject: Subject) -> list[Any]:
    found = [hook for _, _, hook, _ in global_hooks()]
    found += [hook for module in subject.model.modules() for _, _, hook, _ in module_hooks(module)]
    return list({id(hook): hook for hook in found}.values())
