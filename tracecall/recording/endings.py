"""How calls end: returned, failed, or left by an exception that no hook heard of."""

from __future__ import annotations

import contextlib
from types import FrameType

import torch

from tracecall.calls import Call, CallError
from tracecall.recording.arguments import outputs
from tracecall.recording.open_calls import OpenCall, Thread
from tracecall.recording.sources import Sources


def innermost(sources: Sources, thread: Thread, frame: FrameType | None) -> OpenCall | None:
    """The open call whose frame is around `frame`; what was opened inside it and left by an exception is closed."""
    while thread.stack:
        wanted = thread.stack[-1].frame
        outer = frame
        while outer is not None and outer is not wanted:
            outer = outer.f_back
        if outer is not None:
            return thread.stack[-1]
        close(sources, thread)
    return None


def unwind(sources: Sources, thread: Thread, frame: FrameType | None) -> OpenCall | None:
    """The open call that runs in exactly this frame, with those inside it closed; None if there is none."""
    if all(opened.frame is not frame for opened in thread.stack):
        return None
    while thread.stack[-1].frame is not frame:
        close(sources, thread)
    return thread.stack[-1]


def returned(sources: Sources, thread: Thread, opened: OpenCall, output: object) -> None:
    """Forward returned something that is no plain tensor, or under a torch-function mode of the user's."""
    opened.returned = True
    thread.busy = True
    try:
        with torch._C.DisableTorchFunction():
            outputs(sources, opened.call, output)
    finally:
        thread.busy = False


def failed(sources: Sources, opened: OpenCall, error: BaseException | None) -> None:
    """The exception left this call: note it, and whether a call inside had raised it."""
    from tracecall.recording.failures import describe, failing_expression

    call = opened.call
    passed = opened.raising is error and opened.raising is not None
    if error is None or call.error is not None:
        return
    call.error = describe(error, raised_here=not passed)
    if not passed:
        # where the model has used up the stack, there is no room left to look around
        with contextlib.suppress(RecursionError):
            failing_expression(opened, error, sources)
    if opened.failures:
        for child in opened.failures[: -1 if passed else None]:
            caught(child)
    opened.failures = opened.body = None
    opened.raising = error


def close(sources: Sources, thread: Thread, error: BaseException | None = None) -> None:
    """Take the innermost open call off the stack; `error` is known where hooks do not run, after an interrupt."""
    opened = thread.stack.pop()
    call = opened.call
    if not opened.returned and call.error is None:
        if error is not None:
            failed(sources, opened, error)
        else:
            call.error = CallError("BaseException", "left by an exception for which torch runs no hook", True)
    if opened.failures and call.error is None:
        for child in opened.failures:
            caught(child)
    above = thread.stack[-1] if thread.stack else thread.adopter
    if above is not None and call.error is not None:
        above.failures = [*(above.failures or []), call]
        if thread.stack:
            above.raising = opened.raising
    if thread.mode is not None and not thread.stack:
        thread.mode.__exit__(None, None, None)
        thread.mode = None


def caught(call: Call) -> None:
    """An exception that came out of this call was caught: so it was for every call inside that it came through."""
    waiting = [call]
    while waiting:
        one = waiting.pop()
        if one.error is not None:
            one.error.caught = True
            waiting.extend(one.children)
