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
from tracecall.recording.arguments import bind, value
from tracecall.recording.direct_calls import look_for_bypass
from tracecall.recording.endings import close, failed, innermost, returned, unwind
from tracecall.recording.expressions import FUNCTION_APPLY
from tracecall.recording.modules import ForwardNames
from tracecall.recording.opaque import opaque, runs_optimized
from tracecall.recording.open_calls import NOTHING, OpenCall, Thread
from tracecall.recording.sites import Place, local_value, place_of
from tracecall.recording.tensor_specs import PLAIN_TENSORS, plain_spec
from tracecall.recording.user_hooks import always_called

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
def _names(forward: Callable[..., Any] | None, kind: Any) -> ForwardNames:
    return ForwardNames(forward, bound=True, kind=kind)


class Known:
    """What does not change from one call of a module to the next."""

    __slots__ = ("full", "names", "opaque", "ordinary", "own", "parameters", "path", "room", "type")

    def __init__(self, module: nn.Module, path: str, every: bool) -> None:
        self.path = path
        self.type = type(module).__name__
        kind: Any = type(module)
        self.names = (
            ForwardNames(module.forward, kind=kind)
            if "forward" in module.__dict__
            else _names(getattr(kind, "forward", None), kind)
        )
        self.parameters = self.names.names
        self.room = len(self.parameters)  # for so many positional arguments
        self.full = self.names.full  # this many positional arguments leave no room for a keyword argument
        self.opaque = opaque(module)
        self.ordinary = type(module).__call__ is nn.Module.__call__  # it has no `__call__` of its own
        # `every` operation may be asked for, those in torch.nn's own forwards too
        inner = self.names.internal and path != "" and self.opaque is None and not every
        if inner and getattr(module.forward, "__code__", None) is FUNCTION_APPLY:
            inner = False  # written in torch, but what it runs is the user's
        tensors = module._parameters.values()
        self.own = frozenset(id(tensor) for tensor in tensors if tensor is not None) if inner else None


def caller_of(frame: FrameType) -> FrameType | None:
    """The frame that called the module: past torch's own `_wrapped_call_impl` and the like."""
    wrapped, call_impl, slow = CALL_CODES
    caller = frame.f_back
    # a set would hash code objects, which is slow
    while caller is not None and ((code := caller.f_code) is wrapped or code is call_impl or code is slow):
        caller = caller.f_back
    return caller.f_back if caller is not None and runs_optimized(caller) else caller


_RAISED: Any = object()  # stands for the output that torch does not give where forward raised


def make_hooks(recorder: Recorder) -> tuple[Callable[..., None], Callable[..., None]]:
    """A forward pre-hook and a forward hook. The first also opens a call that runs in another `frame`."""
    get_frame, reference = sys._getframe, weakref.ref
    functions_watched, no_torch_function = torch._C._len_torch_function_stack, torch._C.DisableTorchFunction
    local, sources = recorder.local, recorder.sources
    owner = recorder._owner_thread
    # while something is open in it the recording is active: that need not be asked there
    owner_stack, no_thread, nobody = owner.stack, Thread(), recorder.outside
    made, written, find, next_number = sources.made_by, sources.written_by, sources.find, sources.next_number
    labels = sources.labels
    ordinary, watched, missed = recorder.ordinary, recorder.watched, recorder.missed
    tensor_type, plain = torch.Tensor, PLAIN_TENSORS  # mostly the first, and a set would hash the type
    global_hooks = torch_module._global_forward_hooks
    wrapped = CALL_CODES[0]

    def before(module: nn.Module, args: tuple[Any, ...], frame: FrameType | None = None, quiet: bool = False) -> None:
        thread = owner
        try:
            if functions_watched() and not quiet:  # a mode of the user's: what is asked of a tensor here is not for it
                with no_torch_function():
                    recorder.before(module, args, frame or get_frame(2), True)
                return
            stack = owner_stack
            above: OpenCall | None
            known: Any  # a Known, or None until `look_around`
            # mostly the forward that `__call__` runs in the innermost open call asks: no frame further out is looked
            # at, nor need this thread be looked up, since a frame runs in one
            try:
                above = stack[-1]
                asks: Any = get_frame(4)
            except (IndexError, ValueError):  # nothing is open, or a thread of the model's own has only just begun
                above = asks = None
            if above is not None and (asks is above.body or (above.body is None and starts(above, asks))):
                place, known = above.callers.get(asks.f_lasti), ordinary.get(id(module))
            else:
                place = known = None
                found = recorder.thread()
                if found is None or not recorder.active:
                    return
                thread, stack = found, found.stack
                above = stack[-1] if stack else None
            frame = frame or get_frame(2)  # `_call_impl`; 3 is `_wrapped_call_impl`, and 4 what called it
            if place is None or known is None:
                above, known, place = look_around(module, thread, frame)
                if known is None:
                    return  # not under the root
            inputs: list[Value] = []
            # a Site is made of the place at the end
            call = Call("module", known.path, "", known.type, inputs, NOTHING, place, children=NOTHING)
            if known.opaque is not None:
                call.opaque = known.opaque
                recorder.steady = False  # what it changes of a tensor is not heard
            if above is None:
                above = recorder.adopt(thread, call)
            opened = OpenCall(call, module, frame, next_number(), known.names, args, known.own)
            given, names = len(args), known.parameters
            source: Any
            if given <= known.room:
                i = 0  # to count costs half of what zip costs for one argument
                for arg in args:
                    name = names[i]
                    i += 1  # noqa: SIM113  # this is what it is for
                    if type(arg) is tensor_type or type(arg) in plain:
                        entry = made.get(id(arg))
                        if entry is None:
                            source, number, shown = labels.get(id(arg)), 0, plain_spec(arg)
                        else:
                            alive, source, number, shown = entry
                            if alive() is not arg:
                                source, number, shown = labels.get(id(arg)), 0, plain_spec(arg)
                            elif not recorder.steady or arg.requires_grad is not shown.requires_grad:  # type: ignore[union-attr]
                                shown = plain_spec(arg)  # type: ignore[arg-type]  # no None is a tensor
                        if above is None or written:
                            source = find(arg, above)
                        elif number <= above.number:  # as `find` tells it
                            source = above.input_label(arg) or source
                        inputs.append(Value(name, shown, source))  # a Call becomes a label at the end
                    else:
                        thread.busy = True
                        value(recorder.sources, inputs, name, arg, above, opened.named())
                        thread.busy = False
            else:
                thread.busy = True
                bind(recorder.sources, inputs, args, None, known.names, above, opened.named())
                thread.busy = False
            if given != known.full:
                kwargs: Any = local_value(frame, "kwargs")
                if kwargs:
                    thread.busy = True
                    bind(recorder.sources, inputs, (), kwargs, known.names, above, opened.named())
                    thread.busy = False
            # last, when nothing can fail any more: the model may have used up the stack
            if above is None:
                recorder.calls.append(call)
            elif above.call.children is NOTHING:
                above.call.children = [call]
            else:
                above.call.children.append(call)
            stack.append(opened)
            if missed:
                recorder.add_missed(call)
        except RecursionError:
            thread.busy = False
            raise  # the model's own recursion has used up the stack: it would have raised here too
        except Exception as error:
            recorder.broke(error)

    def starts(opened: OpenCall, asks: FrameType) -> bool:
        """Whether this frame, the first to call a module in an open call, runs its forward: it is remembered then."""
        if not opened.runs(asks) or opened.call.opaque is not None:
            return False
        recorder.runs_in(opened, asks)
        return True

    def look_around(
        module: nn.Module, thread: Thread, frame: FrameType
    ) -> tuple[OpenCall | None, Known | None, Place | None]:
        """The open call that a call belongs to, what is known of its module, and where it was made.

        Nothing is known of a module that is not under the root.
        """
        above: OpenCall | None = thread.stack[-1] if thread.stack else None
        known = recorder.known.get(id(module))
        if above is not None and known is not None and (caller := above.body) is not None:
            back = frame.f_back
            if back is not None and back.f_back is caller and back.f_code is wrapped:
                place = above.callers[caller.f_lasti] = place_of(caller, above.places)
                return above, known, place
        caller = caller_of(frame)
        direct = False
        if above is not None:
            direct = caller is not None and above.runs(caller)
            if not direct:
                above = innermost(recorder.sources, thread, caller)
            elif above.call.opaque is None:
                recorder.runs_in(above, caller)  # type: ignore[arg-type]  # not None
        if known is None:
            if above is None and id(module) not in recorder.modules.paths:
                return None, None, None
            known = recorder.know(module, above)
        if not direct:
            look_for_bypass(recorder, caller, above)  # perhaps from a forward that was called directly
        return above, known, None if caller is None else place_of(caller, recorder.places_in(caller.f_code))

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any = _RAISED) -> None:
        thread, stack = owner, owner_stack
        try:
            try:
                opened = stack[-1]
            except IndexError:
                opened = nobody
            # the arguments are a tuple of this one call, so this is it, in this thread; unless there are none
            if opened.args is not args or not args:
                thread = getattr(local, "thread", no_thread)
                stack = thread.stack
                if not stack or not recorder.active:
                    return
                opened = stack[-1]
                if opened.args is not args or not args:  # another call, or a hook has replaced them
                    frame = get_frame(1)
                    # a forward that raised: torch gives (module, args, output), from `_call_impl` itself
                    run = frame if output is _RAISED else frame.f_back
                    if opened.frame is not run:
                        own = unwind(recorder.sources, thread, run)
                        if own is None:
                            return
                        opened = own
            if output is _RAISED:
                failed(recorder.sources, opened, sys.exception())
                if not always_called(module):
                    close(recorder.sources, thread)
                return
            opened.returned = True
            if (type(output) is tensor_type or type(output) in plain) and not functions_watched():
                call = opened.call
                key = id(output)
                entry = made.get(key)
                if entry is None:
                    alive, shown = reference(output), plain_spec(output)
                else:
                    alive, _, _, shown = entry
                    if alive() is not output:
                        alive, shown = reference(output), plain_spec(output)
                    elif not recorder.steady or output.requires_grad is not shown.requires_grad:  # type: ignore[union-attr]
                        shown = plain_spec(output)  # type: ignore[arg-type]  # made inside, or handed through; as above
                call.output = shown  # type: ignore[assignment]  # a list of a Value at the end
                made[key] = (alive, call, next_number() if written else opened.number, shown)
            else:
                returned(recorder.sources, thread, opened, output)
            if watched and (
                module._forward_hooks or (len(global_hooks) > 1 and not all(map(is_own, global_hooks.values())))
            ):
                opened.body = None  # it has ended, and so have its local variables
                return  # the user's hooks follow
            if opened.failures is None and thread.mode is None:
                del stack[-1]
            else:
                close(recorder.sources, thread)
        except RecursionError:
            thread.busy = False  # no room to record the end of this call: it is closed when the stack has room again
        except Exception as error:
            recorder.broke(error)

    setattr(before, _OWN, True)
    setattr(after, _OWN, True)
    return before, after
