"""Which expression of a forward asked for an operation: the frames from torch's dispatch to the open call around it.

What lies between is looked at once; after that, most operations are told by the forward's own frame.
"""

from __future__ import annotations

from types import CodeType, FrameType
from typing import TYPE_CHECKING

from torch.autograd import Function

from tracecall.calls import Call
from tracecall.recording.aten import Facts
from tracecall.recording.direct_calls import bypassed_module, forward_around
from tracecall.recording.endings import innermost
from tracecall.recording.open_calls import OpenCall, Thread

if TYPE_CHECKING:
    from tracecall.recording.recorder import Recorder

FUNCTION_APPLY: CodeType = Function.apply.__func__.__code__  # type: ignore[attr-defined]  # a classmethod's function
# by the code object's id, since hashing code is slow; the code is kept, so that its id stays its own
_homes: dict[int, tuple[str, CodeType]] = {}

UNCHANGED = Call("operation", "", "", "")  # stands for an operation of torch's own that only passes tensors on

# (the open call, the frame of the expression that an operation is named after, the frame that this expression calls if
# that is Python, the instruction from which the first was called or -1 in the forward itself, the path of the module
# whose forward runs if that was called directly, why nothing inside is seen)
Spot = tuple[OpenCall, FrameType, FrameType | None, int, str | None, str | None]


def near(
    recorder: Recorder, opened: OpenCall, body: FrameType, frame: FrameType
) -> tuple[FrameType, FrameType | None, int] | None:
    """The part of Spot that most operations need, where at most two functions are between the forward and them.

    Each of them is known to be ordinary: not a forward, nor that of an autograd.Function. Else None: look around.
    """
    homes, codes = opened.names.homes, recorder.modules.forward_codes
    key = id(frame.f_code)
    there, back = _homes.get(key), frame.f_back
    if there is None or key in codes or back is None:
        return None
    own = there[0] in homes
    if back is body:
        return (frame, None, back.f_lasti) if own else (body, frame, -1)
    key = id(back.f_code)
    there, further = _homes.get(key), back.f_back
    if there is None or key in codes or further is not body:
        return None
    if own:
        return frame, None, back.f_lasti
    return (back, frame, body.f_lasti) if there[0] in homes else (body, back, -1)


def look_around(recorder: Recorder, thread: Thread, frame: FrameType) -> Spot | Call | None:
    """Walk from an operation to the open call around it; None if it is nobody's, UNCHANGED if it is torch's own."""
    found = None
    if thread.stack:
        opened = thread.stack[-1]
        if opened.call.opaque:
            return None
        homes = opened.names.homes
    else:
        found = forward_around(recorder, frame)
        if found is None:
            return None
        opened = recorder.outside
        homes = recorder.known[id(found[0])].names.homes
    codes = recorder.modules.forward_codes
    wanted = opened.frame
    chosen: FrameType | None = None
    opaque = None
    forwards: list[FrameType] = []  # of other modules, called directly
    last: FrameType = frame
    current: FrameType | None = frame
    inner: FrameType | None = None  # below `current`
    below: FrameType | None = None  # below the chosen one: what its expression calls, if that is Python
    # the innermost frame of the same package as the forward, or as a class that the module inherits from; a library
    # called from it (einops, torch itself) is one expression, and in torch.nn's own forward it is the forward's line
    while current is not wanted:
        if current is None:  # the open call was left by an exception that no hook sees
            innermost(recorder.sources, thread, frame)
            return look_around(recorder, thread, frame)
        code = current.f_code
        back = current.f_back
        if id(code) in codes and back is not None and (wanted is None or back.f_back is not wanted):
            forwards.append(current)
        if code is FUNCTION_APPLY:
            opaque, chosen = "autograd.Function", None
            if back is not None and back.f_globals.get("__name__") == "torch.utils.hooks":
                return UNCHANGED  # torch's own: it marks where a full backward hook is to run
        elif chosen is None and _home(current) in homes:
            chosen, below = current, inner
        if back is not None and back is not wanted:
            last = current
            if chosen is None:
                below = inner
        inner, current = current, back
    paths = [path for one in forwards if (path := bypassed_module(recorder, one, opened)) is not None]
    bypassed = next(iter(paths), None) if found is None else found[1]
    if wanted is not None and opened.call.kind == "module" and bypassed is None and opaque is None:
        recorder.runs_in(opened, last)
    whole = last if chosen is None else chosen
    asked = -1 if whole is last or whole.f_back is None else whole.f_back.f_lasti
    return opened, whole, below, asked, bypassed, opaque


def _home(frame: FrameType) -> str:
    """The top-level package of the code that a frame runs."""
    code = frame.f_code
    there = _homes.get(id(code))
    if there is None:
        there = _homes[id(code)] = (str(frame.f_globals.get("__name__", "")).partition(".")[0], code)
    return there[0]


def goes_on(last: Call, opened: OpenCall, facts: Facts, below: FrameType | None) -> bool:
    """Whether an aten operation under the same expression belongs to the same run of it.

    An expression in a loop begins each time with the same aten operation, from the same instruction of the function
    that it calls (F.relu). Views are no beginning while only views have run: a matmul may begin with an expand of each
    side. A function that is not torch's may loop itself, so all its operations are one.
    """
    if last.kind != "operation" or last.error is not None:
        return False
    if last.opaque or (below is not None and not str(below.f_globals.get("__name__")).startswith("torch")):
        return True
    _, _, first, asked = opened.began
    begins = facts is first and asked == (-1 if below is None else below.f_lasti)
    return not begins or (facts.view and opened.viewing)
