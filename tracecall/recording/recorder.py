"""One recording: global hooks see every module call, a dispatch mode every operation, and both build the tree.

The hooks are global because a hook on a module changes what runs (nn.TransformerEncoderLayer leaves its fused path);
they keep to calls that happen under the root. Each open call is matched by the frame of torch's `_call_impl` that runs
it, never by order, so that exceptions, interrupts and nested recordings cannot unbalance the tree.
"""

from __future__ import annotations

import sys
import threading
from types import CodeType, FrameType
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.calls import Call, Environment, ModelInfo, Trace
from tracecall.recording import limits, user_hooks
from tracecall.recording.direct_calls import DirectCalls, bypassed_module
from tracecall.recording.endings import caught, close, failed, innermost, returned, unwind
from tracecall.recording.global_hooks import GlobalHooks
from tracecall.recording.modes import suited
from tracecall.recording.module_calls import Known, is_own, make_hooks
from tracecall.recording.modules import ForwardNames, Modules
from tracecall.recording.opaque import Curtain
from tracecall.recording.open_calls import OpenCall, Thread
from tracecall.recording.sites import Place, first_argument
from tracecall.recording.sources import Sources

Operations = Literal["none", "forward", "all"]

_recording_threads: dict[int, int] = {}  # threads in which a recording was started, with how many
_lock = threading.Lock()


class Recorder:
    """Attach with `start`, detach with `stop`, read with `recording.assembly.trace_of`."""

    def __init__(self, model: nn.Module, operations: Operations = "forward") -> None:
        self.modules = Modules(model)
        self.operations = operations
        self.training = model.training
        self.calls: list[Call] = []
        self.sources = Sources(self.modules.tensor_labels)
        # while the model runs, a Call's site is a Place and a Value's source the Call that made it: told at the end
        self.places: dict[int, tuple[CodeType, dict[int, Place]]] = {}  # by the code's id and by the instruction
        self.callers: dict[int, dict[int, Place]] = {}  # those from which a module was called, in the same way
        # the aten operations in their order, each with the operation that it belongs to, if it has one
        self.operation_order: list[tuple[Any, Call | None]] = []
        self.bypasses: dict[str, Place] = {}
        every = operations == "all"
        self.known = {id(module): Known(module, path, every) for path, module in self.modules.by_path.items()}
        self.ordinary = {key: known for key, known in self.known.items() if known.ordinary}
        self.missed: list[Call] = []  # pre-hooks of the call that begins, which could not be watched
        self.missed_before: list[tuple[Call, int, list[Call]]] = []  # (call, its place among the children, pre-hooks)
        self.output: Any = None  # what the run returned, until it was compared
        self.broken: Exception | None = None
        self.active = False
        # what runs in a forward that was called directly, or in a generator's body after its call has ended
        self.outside = OpenCall(Call("module", "", "", ""), model, None, 0, ForwardNames(None))
        self.outside.call.children = self.calls
        self.local = threading.local()
        self._owner = threading.get_ident()
        self._owner_thread = Thread()
        self._hooks = GlobalHooks()
        self.watched: list[user_hooks.WatchedHook] = []
        self._mode: Any = None
        self._direct_calls = DirectCalls(self.modules.by_path.values(), self.modules.forward_codes, self._forward_runs)
        self.forwards_hidden = False  # whether forwards may have been called directly where nobody could see it
        self.steady = False  # a tensor has the shape and dtype that it had when it was made
        self._curtain = Curtain(list(self.modules.by_path.values()), self._hooks.hidden)
        self.before, self._after = make_hooks(self)

    # lifecycle

    def start(self) -> None:
        """Attach; if anything fails on the way, detach what was attached."""
        self.local.thread = self._owner_thread
        # with operations in inference mode, all that changes what a tensor is can be heard, `x.data = y` too
        self.steady = self.operations != "none" and torch.is_inference_mode_enabled()
        limits.lift()
        self.active = True
        with _lock:
            _recording_threads[self._owner] = _recording_threads.get(self._owner, 0) + 1
        try:
            self.watched.extend(user_hooks.watch(list(self.modules.by_path.values()), self._run_hook, is_own))
            self._hooks.attach(self.before, self._after)
            user_hooks.listen(self._heard)
            if self.operations != "none":
                self._mode = self._enter_mode(self._owner_thread)
            self._curtain.attach(self._compiled_call)
            self._direct_calls.attach()
        except BaseException:
            self.stop()
            raise

    def stop(self, error: BaseException | None = None) -> None:
        """Detach everything, whatever happened, and close what is open; `error` is what ended the recorded code."""
        self._direct_calls.remove()
        self.forwards_hidden = self._direct_calls.hidden
        try:
            if self._mode is not None:
                self._mode.__exit__(None, None, None)
        finally:
            self._mode = None
            self._hooks.remove()
            user_hooks.stop_listening(self._heard)
            for watcher in self.watched:
                watcher.put_back()
            self._curtain.put_back()
            limits.put_back()
            self.active = False
            with _lock:
                _recording_threads[self._owner] -= 1
                if not _recording_threads[self._owner]:
                    del _recording_threads[self._owner]
            while self._owner_thread.stack:
                close(self.sources, self._owner_thread, error)
            for call in self.calls:
                if call.error is not None and error is None:
                    caught(call)
            self.watched.clear()
            # the hooks refer to this object and it to them: without this, only the garbage collector would free both
            del self.before, self._after, self._direct_calls

    def broke(self, error: Exception) -> None:
        """The recorder failed: the model goes on undisturbed, and whoever asked for the trace is told at the end."""
        self.active = False
        self.broken = self.broken or error  # the first: another thread may fail because of it
        self._owner_thread.stack.clear()  # of what is open there nothing more is heard

    def empty_trace(self) -> Trace:
        """What a reader holds until the recording ends."""
        return Trace(model=ModelInfo(type(self.modules.root).__name__), environment=Environment("", ""))

    def trace(self) -> Trace:
        """The finished recording as plain data."""
        from tracecall.recording.assembly import trace_of

        with torch._C.DisableTorchFunction():  # what is asked of the model here is not for a mode of the user's
            return trace_of(self)

    def _enter_mode(self, thread: Thread) -> Any:
        from tracecall.recording.operations import OperationMode

        mode = suited(OperationMode)(self, thread)
        mode.__enter__()
        return mode

    # where calls belong

    def places_in(self, code: CodeType) -> dict[int, Place]:
        """The places in some code, by the instruction: hashing code is slow."""
        found = self.places.get(id(code))
        if found is None:
            found = self.places[id(code)] = (code, {})  # the code is kept, so that its id stays its own
        return found[1]

    def runs_in(self, opened: OpenCall, frame: FrameType) -> None:
        """The forward of an open call was seen to run in this frame, with nothing between the two."""
        code = frame.f_code
        opened.body, opened.places = frame, self.places_in(code)
        opened.callers = self.callers.setdefault(id(code), {})

    def thread(self) -> Thread | None:
        """What this thread has open; None for a thread that belongs to another recording."""
        thread: Thread | None = getattr(self.local, "thread", None)
        if thread is None and threading.get_ident() not in _recording_threads:
            thread = self.local.thread = Thread()
        return thread

    def adopt(self, thread: Thread, call: Call) -> OpenCall | None:
        """Where a call without an open call around it belongs: in a thread of the model's, under what started it.

        Only a module of the model begins a call in another thread: by nothing else can the thread be told from others.
        """
        if thread is self._owner_thread:
            return None
        call.thread = threading.current_thread().name
        if self._mode is not None:
            thread.mode = self._enter_mode(thread)
        stack = self._owner_thread.stack
        thread.adopter = stack[-1] if stack else None
        return thread.adopter

    def know(self, module: nn.Module, above: OpenCall | None) -> Known:
        """Facts about a module that is called for the first time; one that a forward built gets a path."""
        path = self.modules.paths.get(id(module))
        if path is None:
            watchers = user_hooks.watch([module], self._run_hook, is_own, scope="module")
            self.watched.extend(watchers)
            path = self.modules.add(module, above.call.path if above else "", self._forget)
            if watchers:
                from tracecall.recording.hook_calls import missed_calls

                self.missed.extend(missed_calls(module, path, watchers))
        known = self.known[id(module)] = Known(module, path, self.operations == "all")
        if known.ordinary:
            self.ordinary[id(module)] = known
        return known

    def _forget(self, key: int) -> None:
        """A module that a forward built is gone, and its id free for another."""
        self.known.pop(key, None)
        self.ordinary.pop(key, None)

    def _forward_runs(self, frame: FrameType) -> None:
        """A forward of the model begins: in the frame that `__call__` runs it in, or called directly."""
        thread = self.thread()
        if not self.active or thread is None or thread.busy:
            return
        try:
            opened = innermost(self.sources, thread, frame.f_back)
            back = frame.f_back
            if opened is None or back is None or back.f_back is not opened.frame:
                bypassed_module(self, frame, opened, first_argument(frame))
        except Exception as error:
            self.broke(error)

    # compiled modules and user hooks

    def _compiled_call(self, module: nn.Module, compiled: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A module that was compiled in place runs its hooks, if any, inside compiled code: the call is recorded here.

        This frame takes the part that `_call_impl`'s has for other calls.
        """
        frame = sys._getframe(0)
        thread = self.thread()
        if not self.active or thread is None:
            return compiled(*args, **kwargs)
        self.before(module, args, frame)
        with self._hooks.hidden():
            try:
                output = compiled(*args, **kwargs)
            except BaseException as error:
                opened = unwind(self.sources, thread, frame)
                if opened is not None:
                    failed(self.sources, opened, error)
                    close(self.sources, thread)
                raise
        opened = unwind(self.sources, thread, frame)
        if opened is not None:
            returned(self.sources, thread, opened, output)
            close(self.sources, thread)
        return output

    def _run_hook(self, watcher: user_hooks.WatchedHook, module: nn.Module, rest: tuple[Any, ...]) -> Any:
        from tracecall.recording.hook_calls import run_hook

        return run_hook(self, watcher, module, rest)

    def _heard(self, module: nn.Module) -> None:
        """A hook was registered on a module while this recording runs."""
        self.watched.extend(user_hooks.watch([module], self._run_hook, is_own, scope="module"))

    def add_missed(self, call: Call) -> None:
        """Pre-hooks that will run unwatched in this call, which has just begun: after the user's global ones."""
        self.missed_before.append((call, len(torch_module._global_forward_pre_hooks) - 1, self.missed[:]))
        self.missed.clear()
