"""The two hooks that every module call of a recorded run goes through: what they cost, the run pays a thousand times.

So they are closures over local names, look each module up once, and leave to the end of the run what can be told then
(names, sites, labels). Anything out of the ordinary goes to the Recorder's slower methods.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.calls import Call, Value
from tracecall.recording.direct_calls import look_for_bypass
from tracecall.recording.modules import ForwardNames
from tracecall.recording.opaque import opaque
from tracecall.recording.open_calls import OpenCall, Thread
from tracecall.recording.sites import Place, local_value
from tracecall.recording.user_hooks import always_called
from tracecall.recording.values import PLAIN_TENSORS, spec

if TYPE_CHECKING:
    from tracecall.recording.recorder import Recorder

CALL_CODES = tuple(
    function.__code__ for function in (nn.Module._wrapped_call_impl, nn.Module._call_impl, nn.Module._slow_forward)
)
_OWN = "tracecall_own_hook"


def is_own(hook: Any) -> bool:
    """Whether a hook is a recording's own, so that a recording inside a recording does not show it as the user's."""
    return hasattr(hook, _OWN)


@functools.lru_cache(maxsize=4096)
def _names(forward: Callable[..., Any] | None) -> ForwardNames:
    return ForwardNames(forward, bound=True)


class Known:
    """What does not change from one call of a module to the next."""

    __slots__ = ("full", "names", "opaque", "parameters", "path", "place", "type")

    def __init__(self, module: nn.Module, path: str) -> None:
        self.path = path
        self.type = type(module).__name__
        self.names = (
            ForwardNames(module.forward)
            if "forward" in module.__dict__
            else _names(getattr(type(module), "forward", None))
        )
        self.parameters = self.names.names
        self.full = self.names.full  # this many positional arguments leave no room for a keyword argument
        self.opaque = opaque(module)
        self.place: Place | None = None  # where it was called last


def make_hooks(recorder: Recorder) -> tuple[Callable[..., None], Callable[..., None], Callable[..., None]]:
    """A forward pre-hook, a forward hook, and the function in the first that opens a call."""
    get_frame, reference = sys._getframe, weakref.ref
    functions_watched, no_torch_function = torch._C._len_torch_function_stack, torch._C.DisableTorchFunction
    local, sources = recorder.local, recorder.sources
    made, written, find = sources.made_by, sources.written_by, sources.find
    known_modules = recorder.known
    wrapped, call_impl, slow = CALL_CODES
    plain = PLAIN_TENSORS
    places = recorder.places
    global_hooks = torch_module._global_forward_hooks

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not recorder.active:
            return
        inner = get_frame(1)
        try:
            thread = local.thread
        except AttributeError:
            thread = recorder.thread()
        if thread is None:
            return
        try:
            if functions_watched():
                with no_torch_function():
                    open_call(module, args, inner, inner.f_back, thread)  # type: ignore[arg-type]  # `_call_impl`
            else:
                open_call(module, args, inner, inner.f_back, thread)  # type: ignore[arg-type]  # `_call_impl`
        except RecursionError:
            thread.busy = False
            raise  # the model's own recursion has used up the stack: it would have raised here too
        except Exception as error:
            recorder.broke(error)

    def open_call(module: nn.Module, args: tuple[Any, ...], inner: FrameType, frame: FrameType, thread: Thread) -> None:
        caller = frame.f_back
        # the frames of torch's own `_wrapped_call_impl` and the like; a set would hash code objects, which is slow
        while caller is not None and ((code := caller.f_code) is wrapped or code is call_impl or code is slow):
            caller = caller.f_back
        stack = thread.stack
        above: OpenCall | None = stack[-1] if stack else None
        # mostly the forward that `__call__` runs in the innermost open call: its frame, `inner`, `_call_impl`
        direct = False
        if above is not None:
            outer = None if caller is None else caller.f_back
            direct = outer is not None and outer.f_back is above.frame
            if not direct:
                above = recorder.innermost(thread, caller)
        known = known_modules.get(id(module))
        if known is None:
            if above is None and id(module) not in recorder.modules.paths:
                return  # not under the root
            known = recorder.know(module, above)
        call = Call("module", known.path, "", known.type, [], [])
        if known.opaque is not None:
            call.opaque = known.opaque
        if above is None:
            look_for_bypass(recorder, caller, None)
            above = recorder.adopt(thread, call)
        elif not direct:
            look_for_bypass(recorder, caller, above)  # perhaps from a forward that was called directly
        sources.number += 1
        opened = OpenCall(call, module, frame, sources.number, known.names)
        names, arguments = known.parameters, opened.arguments
        if len(args) <= len(names):
            for name, arg in zip(names, args):  # noqa: B905  # a forward may be given fewer than it has
                if type(arg) in plain:
                    value = Value(name, spec(arg))
                    call.inputs.append(value)
                    key = id(arg)
                    entry = made.get(key)
                    if entry and above and not written and entry[2] > above.number and entry[0]() is arg:
                        value.source = entry[1]  # type: ignore[assignment]  # a label is made of it at the end
                    else:
                        value.source = find(arg, above)  # type: ignore[assignment]  # likewise
                    if key not in arguments:
                        arguments[key] = name
                else:
                    thread.busy = True
                    recorder.value(call.inputs, name, arg, above, arguments)
                    thread.busy = False
        else:
            thread.busy = True
            recorder.bind(call.inputs, args, None, known.names, above, arguments)
            thread.busy = False
        if known.full != len(args):
            kwargs: Any = local_value(inner, "kwargs")
            if kwargs:
                thread.busy = True
                recorder.bind(call.inputs, (), kwargs, known.names, above, arguments)
                thread.busy = False
        if caller is not None:
            place, lasti = known.place, caller.f_lasti
            if place is None or place.lasti != lasti or place.code is not caller.f_code:
                spot = (id(caller.f_code), lasti)
                place = known.place = places.get(spot) or places.setdefault(spot, Place(caller.f_code, lasti))
            call.site = place  # type: ignore[assignment]  # a Site is made of it at the end
        # last, when nothing can fail any more: the model may have used up the stack
        (recorder.calls if above is None else above.call.children).append(call)
        stack.append(opened)
        if recorder.missed:
            recorder.add_missed(call)

    def after(module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        if not recorder.active:
            return
        frame = get_frame(1)
        try:
            thread = local.thread
        except AttributeError:
            return
        if thread is None or not thread.stack:
            return
        # torch gives (kwargs, output) after a forward that returned, only (output,) after one that raised
        run = frame if len(rest) == 1 else frame.f_back
        opened = thread.stack[-1]
        try:
            if opened.frame is not run:
                found = recorder.unwind(thread, run)
                if found is None:
                    return
                opened = found
            if len(rest) == 1:
                recorder.failed(opened, sys.exception())
                if not always_called(module):
                    recorder.close(thread)
                return
            opened.returned = True
            output = rest[1]
            if type(output) in plain and not functions_watched():
                call = opened.call
                call.output = [Value("", spec(output))]
                sources.number = number = sources.number + 1
                made[id(output)] = (reference(output), call, number)
            else:
                recorder.returned(thread, opened, output)
            if module._forward_hooks or len(global_hooks) > 1:
                return  # the user's hooks follow
            if opened.failures is None and opened.returned and len(thread.stack) > 1:
                del thread.stack[-1]
            else:
                recorder.close(thread)
        except RecursionError:
            thread.busy = False  # no room to record the end of this call: it is closed when the stack has room again
        except Exception as error:
            recorder.broke(error)

    setattr(before, _OWN, True)
    setattr(after, _OWN, True)
    return before, after, open_call
