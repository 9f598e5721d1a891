"""One run of a user's hook as a call: what it was given, what it replaced or changed in place."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tracecall.calls import Call, Finding, TensorSpec, Value
from tracecall.recording import values
from tracecall.recording.sources import storage_id
from tracecall.recording.user_hooks import WatchedHook, hook_name, hook_site, is_last, module_hooks, plain

if TYPE_CHECKING:
    from tracecall.recording.open_calls import OpenCall
    from tracecall.recording.recorder import Recorder


def run_hook(recorder: Recorder, watcher: WatchedHook, module: nn.Module, rest: tuple[Any, ...]) -> Any:
    """Run the user's hook and record it under the call that torch runs it for; elsewhere just run it."""
    frame = sys._getframe(0)
    thread = recorder.thread_of(module, frame)
    if thread is None:
        return watcher.hook(module, *rest)
    try:
        opened = thread.stack[-1]
        name = hook_name(watcher.hook)
        call = Call("hook", opened.call.path, name, name, hook=watcher.info, site=hook_site(watcher.hook))
        before = _leaves(watcher, rest)
        call.inputs = [Value(where, values.spec(leaf)) for where, leaf in before if isinstance(leaf, torch.Tensor)]
        versions = [_version(leaf) for _, leaf in before]
        opened.call.children.append(call)
        given = {id(leaf): where for where, leaf in reversed(before) if isinstance(leaf, torch.Tensor)}
        running = recorder.open_hook(thread, call, module, frame, watcher.hook, given)
        last = is_last(watcher, module, raised=opened.call.error is not None)
    except Exception as error:
        recorder.broke(error)
        return watcher.hook(module, *rest)
    try:
        result = watcher.hook(module, *rest)
    except BaseException as error:
        try:
            recorder.hook_raised(thread, frame, error, watcher, module)
        except Exception as own:
            recorder.broke(own)
        raise
    try:
        thread.busy = True
        changed = _changes(watcher, before, versions, running.written or set(), result)
        call.changed = changed or None
        if result is not None:
            _take_over(recorder, opened, watcher, call, result)
    except Exception as error:
        recorder.broke(error)
    finally:
        thread.busy = False
    try:
        recorder.close_hook(thread, frame)
        if last:
            recorder.close_call(thread, opened)
    except Exception as error:
        recorder.broke(error)
    return result


def missed_calls(module: nn.Module, path: str, watchers: list[WatchedHook]) -> list[Call]:
    """Forward pre-hooks of a call that torch had listed before any hook of ours ran: seen to run, not watched.

    So it is in the first call of a module that is no part of the model and had its hooks before the recording began.
    """
    calls = []
    for _, key, hook, info in module_hooks(module):
        if info.when == "forward pre-hook" and any(one.key == key and one.hook is plain(hook) for one in watchers):
            name = hook_name(hook)
            calls.append(Call("hook", path, name, name, hook=info, site=hook_site(hook), changed=["not watched"]))
    return calls


def add_missed(missed: list[tuple[Call, int, list[Call]]]) -> list[Finding]:
    """Put such pre-hooks in their places, (call, number of global ones before them, they): a finding for each."""
    findings: list[Finding] = []
    for call, before, hooks in missed:
        ran = [one for one in call.children if one.hook and one.hook.when == "forward pre-hook" and one.error is None]
        if len([one for one in ran if one.hook and one.hook.scope == "global"]) < before:
            continue  # a global one raised before they were to run
        call.children[before:before] = hooks
        findings.extend(
            Finding(
                "hook-not-watched",
                f"the forward pre-hook {one.name} ran in the first call of {call.path}, which is no part of the model: "
                "what it changed there is not known",
                call.path,
                one.site,
            )
            for one in hooks
        )
    return findings


def _leaves(watcher: WatchedHook, rest: tuple[Any, ...]) -> list[tuple[str, Any]]:
    """What a hook was given, with names: args[0], kwargs['mask'], output[1].logits."""
    names = ["args"]
    if watcher.info.with_kwargs and len(rest) == (2 if watcher.info.when == "forward pre-hook" else 3):
        names.append("kwargs")
    if watcher.info.when == "forward hook":
        names.append("output")
    return [leaf for name, value in zip(names, rest, strict=False) for leaf in values.leaves(name, value)]


def _version(leaf: object) -> int | None:
    """How often a tensor was written in place; None where torch does not count (inference tensors)."""
    if not isinstance(leaf, torch.Tensor) or leaf.is_inference():
        return None
    return leaf._version


def _changes(
    watcher: WatchedHook,
    before: list[tuple[str, Any]],
    versions: list[int | None],
    written: set[int],
    result: object,
) -> list[str]:
    found = [
        f"{where} changed in place"
        for (where, leaf), version in zip(before, versions, strict=True)
        if (version is not None and leaf._version != version)
        or (isinstance(leaf, torch.Tensor) and written and storage_id(leaf) in written)
    ]
    if result is None:
        return found
    if watcher.info.when == "forward hook":
        after = list(values.leaves("output", result))
    elif watcher.info.with_kwargs and isinstance(result, tuple) and len(result) == 2:
        after = [*values.leaves("args", result[0]), *values.leaves("kwargs", result[1])]
    else:
        after = list(values.leaves("args", result if isinstance(result, tuple) else (result,)))
    given = {where: leaf for where, leaf in before if not isinstance(leaf, values.More)}
    for where, leaf in after:
        if isinstance(leaf, values.More):
            continue
        if where not in given:
            found.append(f"{where} added, {_text(leaf)}")
        elif given[where] is not leaf:
            found.append(_change(where, given[where], leaf))
    kinds = ("output",) if watcher.info.when == "forward hook" else ("args", "kwargs")
    kinds = kinds if watcher.info.with_kwargs else kinds[:1]
    seen = {where for where, _ in after}
    found.extend(f"{where} removed" for where in given if where.startswith(kinds) and where not in seen)
    return found


def _change(where: str, old: object, new: object) -> str:
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        a, b = values.spec(old), values.spec(new)
        if a.shape != b.shape:
            return f"{where} {values.size_text(a.shape)} → {values.size_text(b.shape)}"
        if a.dtype != b.dtype:
            return f"{where} {a.dtype} → {b.dtype}"
        if a.device != b.device:
            return f"{where} {a.device} → {b.device}"
        return f"{where} replaced, {_spec_text(b)}"
    return f"{where} {_text(old)} → {_text(new)}"


def _text(leaf: object) -> str:
    return _spec_text(values.spec(leaf)) if isinstance(leaf, torch.Tensor) else values.short(leaf)


def _spec_text(spec: TensorSpec) -> str:
    return f"{spec.dtype}[{values.size_text(spec.shape)}]"


def _take_over(recorder: Recorder, opened: OpenCall, watcher: WatchedHook, call: Call, result: object) -> None:
    """What a hook returned takes the place of the call's arguments, or of its output."""
    if watcher.info.when == "forward hook":
        recorder.outputs(opened.call, result)
        call.output = list(opened.call.output)
        return
    kwargs: dict[str, Any] = {}
    args: object = result
    if watcher.info.with_kwargs and isinstance(result, tuple) and len(result) == 2:
        args, kwargs = result
    given = args if isinstance(args, tuple) else (args,)
    opened.arguments.clear()
    recorder.bind(call.output, given, kwargs, opened.names, None, opened.arguments)
    for _, leaf in values.leaves("args", given):
        if isinstance(leaf, torch.Tensor):
            recorder.sources.made(leaf, call)
            opened.number = recorder.sources.next_number()
