"""One run of a user's hook as a call: what it was given, what it replaced or changed in place."""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tracecall.calls import Call, Finding, Value
from tracecall.recording import tensor_specs, values
from tracecall.recording.arguments import bind, outputs
from tracecall.recording.endings import close, failed, innermost, unwind
from tracecall.recording.hook_changes import hook_changes, hook_leaves, write_count
from tracecall.recording.modules import ForwardNames
from tracecall.recording.open_calls import OpenCall, Thread, add
from tracecall.recording.user_hooks import (
    WatchedHook,
    hook_name,
    hook_site,
    is_last,
    module_hooks,
    more_always_called,
    plain,
)

if TYPE_CHECKING:
    from tracecall.recording.recorder import Recorder


def run_hook(recorder: Recorder, watcher: WatchedHook, module: nn.Module, rest: tuple[Any, ...]) -> Any:
    """Run the user's hook and record it under the call that torch runs it for; elsewhere just run it."""
    frame = sys._getframe(0)
    thread = _thread_of(recorder, module, frame)
    if thread is None:
        return watcher.hook(module, *rest)
    try:
        opened = thread.stack[-1]
        name = hook_name(watcher.hook)
        call = Call("hook", opened.call.path, name, name, hook=watcher.info, site=hook_site(watcher.hook))
        before = hook_leaves(watcher, rest)
        call.inputs = [
            Value(where, tensor_specs.spec(leaf)) for where, leaf in before if isinstance(leaf, torch.Tensor)
        ]
        versions = [write_count(leaf) for _, leaf in before]
        add(opened.call, call)
        given = {id(leaf): where for where, leaf in reversed(before) if isinstance(leaf, torch.Tensor)}
        running = _open_hook(recorder, thread, call, module, frame, watcher.hook, given)
        last = is_last(watcher, module, raised=opened.call.error is not None)
    except Exception as error:
        recorder.broke(error)
        return watcher.hook(module, *rest)
    try:
        result = watcher.hook(module, *rest)
    except BaseException as error:
        try:
            _hook_raised(recorder, thread, frame, error, watcher, module)
        except Exception as own:
            recorder.broke(own)
        raise
    try:
        thread.busy = True
        changed = hook_changes(watcher, before, versions, running.written or set(), result)
        call.changed = changed or None
        if result is not None:
            _take_over(recorder, opened, watcher, call, result)
    except Exception as error:
        recorder.broke(error)
    finally:
        thread.busy = False
    try:
        _close_hook(recorder, thread, frame)
        if last:
            _close_call(recorder, thread, opened)
    except Exception as error:
        recorder.broke(error)
    return result


def _thread_of(recorder: Recorder, module: nn.Module, frame: FrameType) -> Thread | None:
    """The thread whose innermost open call is the call of `module` that runs a hook in `frame`."""
    thread = recorder.thread()
    if not recorder.active or thread is None or thread.busy or not thread.stack:
        return None
    opened = innermost(recorder.sources, thread, frame)
    return thread if opened is not None and opened.module is module else None


def _open_hook(
    recorder: Recorder,
    thread: Thread,
    call: Call,
    module: nn.Module,
    frame: FrameType,
    hook: object,
    given: dict[int, str],
) -> OpenCall:
    """A hook begins, with the tensors it was given (by id); calls inside it are its own."""
    names = ForwardNames(plain(hook))
    opened = OpenCall(call, module, frame, recorder.sources.next_number(), names)
    opened.arguments, opened.written = given, set()
    thread.stack.append(opened)
    return opened


def _close_hook(recorder: Recorder, thread: Thread, frame: FrameType) -> None:
    """A hook returned."""
    opened = unwind(recorder.sources, thread, frame)
    if opened is not None:
        opened.returned = True
        close(recorder.sources, thread)


def _hook_raised(
    recorder: Recorder,
    thread: Thread,
    frame: FrameType,
    error: BaseException,
    watcher: WatchedHook,
    module: nn.Module,
) -> None:
    """An exception left a hook, and with it the call that torch ran it for: no other hook of ours will tell."""
    opened = unwind(recorder.sources, thread, frame)
    if opened is None:
        return
    failed(recorder.sources, opened, error)
    close(recorder.sources, thread)
    if thread.stack and thread.stack[-1].returned:
        failed(recorder.sources, thread.stack[-1], error)
        if not more_always_called(watcher, module):
            close(recorder.sources, thread)


def _close_call(recorder: Recorder, thread: Thread, opened: OpenCall) -> None:
    """The last hook of a call has run."""
    if thread.stack and thread.stack[-1] is opened:
        close(recorder.sources, thread)


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


def _take_over(recorder: Recorder, opened: OpenCall, watcher: WatchedHook, call: Call, result: object) -> None:
    """What a hook returned takes the place of the call's arguments, or of its output."""
    if watcher.info.when == "forward hook":
        outputs(recorder.sources, opened.call, result)
        call.output = list(opened.call.output)
        return
    kwargs: dict[str, Any] = {}
    args: object = result
    if watcher.info.with_kwargs and isinstance(result, tuple) and len(result) == 2:
        args, kwargs = result
    given = args if isinstance(args, tuple) else (args,)
    opened.arguments = {}
    bind(recorder.sources, call.output, given, kwargs, opened.names, None, opened.arguments)
    for value in call.output:
        value.source = None  # what a hook gives on came from the hook
    for _, leaf in values.leaves("args", given):
        if isinstance(leaf, torch.Tensor):
            recorder.sources.made(leaf, call)
            opened.number = recorder.sources.next_number()
