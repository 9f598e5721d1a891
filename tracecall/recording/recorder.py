"""One recording: global hooks see every module call, a dispatch mode every operation, and both build the tree.

The hooks are global because a hook on a module changes what runs (nn.TransformerEncoderLayer leaves its fused path);
they keep to calls that happen under the root. Each open call is matched by the frame of torch's `_call_impl` that runs
it, never by order, so that exceptions, interrupts and nested recordings cannot unbalance the tree.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.calls import Call, CallError, Environment, ModelInfo, Trace, Value
from tracecall.recording import user_hooks, values
from tracecall.recording.global_hooks import GlobalHooks
from tracecall.recording.modes import suited
from tracecall.recording.modules import ForwardNames, Modules, forward_names
from tracecall.recording.opaque import Curtain, opaque
from tracecall.recording.recursion import raise_recursion_limit
from tracecall.recording.sites import Place
from tracecall.recording.sources import Source, Sources

Operations = Literal["none", "forward", "all"]

CALL_IMPL = nn.Module._call_impl.__code__
CALL_CODES = frozenset({CALL_IMPL, nn.Module._wrapped_call_impl.__code__, nn.Module._slow_forward.__code__})

_recording_threads: dict[int, int] = {}  # threads in which a recording was started, with how many
_lock = threading.Lock()
_no_torch_function = torch._C.DisableTorchFunction
_functions_watched = torch._C._len_torch_function_stack


class OpenCall:
    """A call that has begun in one thread; the frame is that of `_call_impl`, or of a hook's watcher."""

    __slots__ = ("arguments", "call", "failures", "frame", "group", "module", "names", "number", "raising", "returned")

    def __init__(self, call: Call, module: nn.Module, frame: FrameType, number: int, names: ForwardNames) -> None:
        self.call, self.module, self.frame, self.number, self.names = call, module, frame, number, names
        self.arguments: dict[int, str] = {}  # of tensors, by id: alive as long as the frame
        self.failures: list[Call] | None = None  # calls inside that raised
        self.raising: BaseException | None = None  # what the last of them raised, while it may still pass through
        self.returned = False  # forward did; the module's own hooks may still run
        self.group: tuple[Any, ...] | None = None  # the expression whose operations belong together


class Thread:
    """What one thread has open."""

    def __init__(self) -> None:
        self.stack: list[OpenCall] = []
        self.mode: Any = None  # the dispatch mode that was entered for a thread of the model's own
        self.busy = False


class Recorder:
    """Attach with `start`, detach with `stop`, read with `recording.assembly.trace_of`."""

    def __init__(self, model: nn.Module, operations: Operations = "forward") -> None:
        self.modules = Modules(model)
        self.operations = operations
        self.sources = Sources(self.modules.tensor_labels)
        self.calls: list[Call] = []
        self.places: list[tuple[Call | CallError, Place]] = []
        self.pending: list[tuple[Value, Source]] = []
        self.operation_order: list[tuple[Any, Call | None]] = []
        self.bypasses: dict[str, Place] = {}
        self.names: dict[object, ForwardNames] = {}
        self.output: Any = None  # what the run returned, until it was compared
        self.broken: Exception | None = None
        self.training = model.training
        self._local = threading.local()
        self._owner = threading.get_ident()
        self._owner_thread = Thread()
        self._hooks = GlobalHooks()
        self._watched: list[user_hooks.WatchedHook] = []
        self._mode: Any = None
        self._active = False
        self._curtain = Curtain(list(self.modules.by_path.values()), self._hooks.hidden)

    # lifecycle

    def start(self) -> None:
        """Attach; if anything fails on the way, detach what was attached."""
        self._local.thread = self._owner_thread
        self._active = True
        self._limit = raise_recursion_limit()
        try:
            self._watched = user_hooks.watch(list(self.modules.by_path.values()), self._run_hook, is_own)
            self._hooks.attach(self._before, self._after)
            with _lock:
                _recording_threads[self._owner] = _recording_threads.get(self._owner, 0) + 1
            if self.operations != "none":
                mode = self._new_mode()
                mode.__enter__()
                self._mode = mode
            self._curtain.attach(self._compiled_call)
        except BaseException:
            self.stop()
            raise

    def stop(self, error: BaseException | None = None) -> None:
        """Detach everything, whatever happened, and close what is open; `error` is what ended the recorded code."""
        try:
            if self._mode is not None:
                self._mode.__exit__(None, None, None)
        finally:
            self._mode = None
            self._hooks.remove()
            for watcher in self._watched:
                watcher.put_back()
            self._curtain.put_back()
            self._limit.put_back()
            if self._active:
                self._active = False
                with _lock:
                    _recording_threads[self._owner] = _recording_threads.get(self._owner, 1) - 1
                    if not _recording_threads[self._owner]:
                        del _recording_threads[self._owner]
            while self._owner_thread.stack:
                self._close(self._owner_thread, error)
            for call in self.calls:
                if call.error is not None and error is None:
                    call.error.caught = True
            self._watched = []

    # module calls

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        inner = sys._getframe(1)
        frame = inner.f_back
        thread = self._thread()
        if not self._active or frame is None or thread is None:
            return
        try:
            if _functions_watched():
                with _no_torch_function():
                    self._open(module, args, inner, frame, thread)
            else:
                self._open(module, args, inner, frame, thread)
        except RecursionError:
            raise  # the model's own recursion has used up the stack: it would have raised here too
        except Exception as error:
            self.broke(error)

    def _open(self, module: nn.Module, args: Any, inner: FrameType, frame: FrameType, thread: Thread) -> None:
        caller = frame.f_back
        while caller is not None and caller.f_code in CALL_CODES:
            caller = caller.f_back
        parent = self._innermost(thread, caller) if thread.stack else None
        path = self.modules.paths.get(id(module))
        if path is None and parent is None:
            return  # not under the root
        thread.busy = True
        try:
            names = forward_names(module, self.names)
            call = Call("module", path or "", "", type(module).__name__, opaque=opaque(module))
            above = parent
            if parent is None:
                above = self._adopt(thread, call)
            siblings = self.calls if above is None else above.call.children
            if path is None:
                call.path = self.modules.add(module, above.call.path if above else "")
            opened = OpenCall(call, module, frame, self.sources.next_number(), names)
            kwargs = None if names.full(len(args)) else inner.f_locals.get("kwargs")
            self.bind(call.inputs, args, kwargs, names, above, opened.arguments)
            if caller is not None:
                self.places.append((call, Place(caller.f_code, caller.f_lasti)))
                if parent is not None:
                    self._look_for_bypass(caller, parent)
            siblings.append(call)
            thread.stack.append(opened)
        finally:
            thread.busy = False

    def bind(
        self,
        into: list[Value],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        names: ForwardNames,
        above: OpenCall | None,
        arguments: dict[int, str],
    ) -> None:
        """Arguments as Values under the parameter names of a forward; their tensors are noted in `arguments`."""
        known = len(names.names)
        for i, arg in enumerate(args):
            if i < known:
                where = names.names[i]
            else:
                where = f"{names.starred}[{i - known}]" if names.starred else f"args[{i}]"
            self._value(into, where, arg, above, arguments)
        if kwargs:
            named = {*names.names, *names.keyword_only}
            for key, arg in kwargs.items():
                where = key if key in named or not names.starred_keywords else f"{names.starred_keywords}.{key}"
                self._value(into, where, arg, above, arguments)

    def _value(
        self, into: list[Value], where: str, arg: object, above: OpenCall | None, arguments: dict[int, str]
    ) -> None:
        """One argument as Values, each tensor with what it came from and noted as an input under its name."""
        for name, leaf in values.leaves(where, arg) if not isinstance(arg, torch.Tensor) else ((where, arg),):
            if isinstance(leaf, torch.Tensor):
                value = Value(name, values.spec(leaf))
                source = self.sources.find(leaf, above)
                if source is not None:
                    self.pending.append((value, source))
                arguments.setdefault(id(leaf), name)
            else:
                value = Value(name, leaf if isinstance(leaf, values.More) else values.short(leaf))
            into.append(value)

    def outputs(self, call: Call, output: object) -> None:
        """Set a call's output, and remember it as the maker of each tensor in it."""
        call.output = []
        for name, leaf in values.leaves("", output) if not isinstance(output, torch.Tensor) else (("", output),):
            if isinstance(leaf, torch.Tensor):
                self.sources.made(leaf, call)
                call.output.append(Value(name, values.spec(leaf)))
            else:
                call.output.append(Value(name, leaf if isinstance(leaf, values.More) else values.short(leaf)))

    def _after(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        frame = sys._getframe(1)
        thread = self._thread()
        if not self._active or thread is None or not thread.stack:
            return
        # torch gives (kwargs, output) after a forward that returned, only (output,) after one that raised
        failed = len(rest) == 1
        run = frame if failed else frame.f_back
        try:
            if thread.stack[-1].frame is not run:
                if all(opened.frame is not run for opened in thread.stack):
                    return
                while thread.stack[-1].frame is not run:
                    self._close(thread, None)
            if failed:
                self._failed(thread.stack[-1], sys.exception())
            elif _functions_watched():
                with _no_torch_function():
                    self._returned(thread, rest[1])
            else:
                self._returned(thread, rest[1])
            if not self._hooks_follow(module):
                self._close(thread, None)
        except Exception as error:
            self.broke(error)

    def _returned(self, thread: Thread, output: object) -> None:
        opened = thread.stack[-1]
        opened.returned = True
        thread.busy = True
        try:
            self.outputs(opened.call, output)
        finally:
            thread.busy = False

    def broke(self, error: Exception) -> None:
        """The recorder failed: the model goes on undisturbed, and whoever asked for the trace is told at the end."""
        self._active = False
        self.broken = error

    def _compiled_call(self, module: nn.Module, compiled: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A module that was compiled in place runs its hooks, if any, inside compiled code: the call is recorded here.

        This frame takes the part that `_call_impl`'s has for other calls.
        """
        frame = sys._getframe(0)
        thread = self._thread()
        if not self._active or thread is None:
            return compiled(*args, **kwargs)
        try:
            self._open(module, args, frame, frame, thread)
        except Exception as error:
            self.broke(error)
        with self._hooks.hidden():
            try:
                output = compiled(*args, **kwargs)
            except BaseException as error:
                if thread.stack and thread.stack[-1].frame is frame:
                    self._failed(thread.stack[-1], error)
                    self._close(thread, None)
                raise
        if thread.stack and thread.stack[-1].frame is frame:
            self._returned(thread, output)
            self._close(thread, None)
        return output

    def _new_mode(self) -> Any:
        from tracecall.recording.operations import OperationMode

        return suited(OperationMode)(self)

    def _hooks_follow(self, module: nn.Module) -> bool:
        """Whether user hooks run after the tracer's own."""
        return bool(module._forward_hooks) or len(torch_module._global_forward_hooks) > 1

    def _failed(self, opened: OpenCall, error: BaseException | None) -> None:
        """The exception left this call: note it, and whether a call inside had raised it."""
        from tracecall.recording.failures import describe, failing_expression

        call = opened.call
        passed = opened.raising is error and opened.raising is not None
        if error is None or call.error is not None:
            return
        call.error = describe(error, raised_here=not passed)
        if not passed and call.kind == "module":
            failing_expression(self, opened, error)
        if opened.failures:
            for child in opened.failures[: -1 if passed else None]:
                assert child.error is not None
                child.error.caught = True
        opened.failures = None
        opened.raising = error

    def _close(self, thread: Thread, error: BaseException | None) -> None:
        """Take the innermost open call off the stack; `error` is known where hooks do not run, after an interrupt."""
        opened = thread.stack.pop()
        call = opened.call
        if not opened.returned and call.error is None:
            if error is not None:
                self._failed(opened, error)
            else:
                call.error = CallError("BaseException", "left by an exception for which torch runs no hook", True)
        if call.error is None and opened.failures:
            for child in opened.failures:
                assert child.error is not None
                child.error.caught = True
        if call.error is not None and thread.stack:
            above = thread.stack[-1]
            above.failures = [*(above.failures or []), call]
            above.raising = opened.raising
        if not thread.stack and thread.mode is not None:
            thread.mode.__exit__(None, None, None)
            thread.mode = None

    # places in the tree

    def _thread(self) -> Thread | None:
        """This thread's open calls; None for a thread that belongs to another recording."""
        thread: Thread | None = getattr(self._local, "thread", None)
        if thread is None and threading.get_ident() not in _recording_threads:
            thread = self._local.thread = Thread()
        return thread

    def _adopt(self, thread: Thread, call: Call) -> OpenCall | None:
        """Where a call without an open call around it belongs: in a thread of the model's, under what started it."""
        if thread is self._owner_thread:
            return None
        call.thread = threading.current_thread().name
        if self._mode is not None:
            thread.mode = self._new_mode()
            thread.mode.__enter__()
        stack = self._owner_thread.stack
        return stack[-1] if stack else None

    def _innermost(self, thread: Thread, frame: FrameType | None) -> OpenCall | None:
        """The open call whose frame is around `frame`; what was opened inside it and left by an exception is closed."""
        while thread.stack:
            wanted = thread.stack[-1].frame
            outer = frame
            while outer is not None and outer is not wanted:
                outer = outer.f_back
            if outer is not None:
                return thread.stack[-1]
            self._close(thread, None)
        return None

    def open_call(self, frame: FrameType | None) -> tuple[Thread, OpenCall] | None:
        """This thread's innermost open call around a frame, if it should see operations now."""
        thread = self._thread()
        if not self._active or thread is None or thread.busy or not thread.stack:
            return None
        opened = self._innermost(thread, frame)
        return None if opened is None or opened.call.opaque else (thread, opened)

    def _look_for_bypass(self, frame: FrameType | None, opened: OpenCall) -> None:
        """A frame that runs another module's forward, between a call and the open call around it, was called direct."""
        codes = self.modules.forward_codes
        while frame is not None and frame is not opened.frame:
            if frame.f_code in codes:
                self.bypassed_module(frame, opened)
            frame = frame.f_back

    def bypassed_module(self, frame: FrameType, opened: OpenCall) -> str | None:
        """The path of the module whose forward this frame runs without its `__call__`, noted as a bypass."""
        if not frame.f_code.co_varnames:
            return None
        module = frame.f_locals.get(frame.f_code.co_varnames[0])
        path = self.modules.paths.get(id(module))
        if path is None or module is opened.module:
            return None
        caller = frame.f_back
        if caller is not None and path not in self.bypasses:
            self.bypasses[path] = Place(caller.f_code, caller.f_lasti)
        return path

    def operation_outputs(self, call: Call, output: object, written: list[torch.Tensor]) -> None:
        """What one aten operation returned or changed; the last one of an expression gives the expression's output."""
        self.outputs(call, output)
        for tensor in written:
            self.sources.written(tensor, call)

    # user hooks

    def _run_hook(self, watcher: user_hooks.WatchedHook, module: nn.Module, rest: tuple[Any, ...]) -> Any:
        from tracecall.recording.hook_calls import run_hook

        return run_hook(self, watcher, module, rest)

    def thread_of(self, module: nn.Module, frame: FrameType) -> Thread | None:
        """The thread whose innermost open call is the call of `module` that runs a hook in `frame`."""
        found = self.open_call(frame)
        return found[0] if found is not None and found[1].module is module else None

    def open_hook(self, thread: Thread, call: Call, module: nn.Module, frame: FrameType, hook: object) -> None:
        """A hook begins; calls inside it are its own."""
        opened = OpenCall(call, module, frame, self.sources.next_number(), ForwardNames(user_hooks.plain(hook)))
        thread.stack.append(opened)

    def close_hook(self, thread: Thread, frame: FrameType) -> None:
        """A hook returned."""
        while thread.stack[-1].frame is not frame:
            self._close(thread, None)
        thread.stack[-1].returned = True
        self._close(thread, None)

    def hook_raised(self, thread: Thread, frame: FrameType, error: BaseException) -> None:
        """An exception left a hook, and with it the call that torch ran it for: no other hook of ours will tell."""
        while thread.stack[-1].frame is not frame:
            self._close(thread, None)
        self._failed(thread.stack[-1], error)
        self._close(thread, None)
        opened = thread.stack[-1]
        if opened.returned:
            self._failed(opened, error)
            self._close(thread, None)

    def close_call(self, thread: Thread, opened: OpenCall) -> None:
        """The last hook of a call has run."""
        if thread.stack and thread.stack[-1] is opened:
            self._close(thread, None)

    def empty_trace(self) -> Trace:
        """What a reader holds until the recording ends."""
        return Trace(model=ModelInfo(type(self.modules.root).__name__), environment=Environment("", ""))

    def trace(self) -> Trace:
        """The finished recording as plain data."""
        from tracecall.recording.assembly import trace_of

        return trace_of(self)


def is_own(hook: Any) -> bool:
    """Whether a hook is a recording's own, so that a recording inside a recording does not show it as the user's."""
    return isinstance(getattr(hook, "__self__", None), Recorder)
