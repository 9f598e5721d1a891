"""Operations: what a dispatch mode sees, grouped by the expression in a forward that asked for it.

The mode runs below autograd and autocast and leaves torch's fused paths alone, which a torch-function mode would not.
Like module_calls.py it notes what it must while the model runs, and leaves the rest to the end.
"""

from __future__ import annotations

import sys
import weakref
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.autograd import Function

from tracecall.calls import Call, Value
from tracecall.recording import values
from tracecall.recording.direct_calls import bypassed_module, forward_around
from tracecall.recording.failures import add_spans, describe
from tracecall.recording.modes import QuietMode, run_unchanged
from tracecall.recording.open_calls import OpenCall, Thread
from tracecall.recording.sites import Place
from tracecall.recording.sources import storage_id
from tracecall.recording.values import PLAIN_TENSORS, spec

if TYPE_CHECKING:
    from tracecall.recording.recorder import Recorder

_FUNCTION_APPLY: CodeType = Function.apply.__func__.__code__  # type: ignore[attr-defined]  # a classmethod's function
_DETACH = torch.ops.aten.detach.default  # after another operation: autograd keeps its result for the backward pass
_TEXT_LATER = frozenset({int, float, bool, str, type(None), complex})
# by the code object's id, since hashing code is slow; the code is kept, so that its id stays its own
_homes: dict[int, tuple[str, CodeType]] = {}


class OperationMode(QuietMode):
    """Hands every operation of one thread to the recorder, and runs it unchanged."""

    def __init__(self, recorder: Recorder, thread: Thread) -> None:
        super().__init__()
        self._recorder, self._thread = recorder, thread
        self._brief = recorder.operations == "forward"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder, thread = self._recorder, self._thread
        if not recorder.active or thread.busy:
            return run_unchanged(func, args, kwargs)
        frame = sys._getframe(1)
        if self._brief and thread.stack and _is_inner(thread.stack[-1], frame):
            opened = thread.stack[-1]
            facts = _facts.get(id(func)) or _learn(func)
            if not facts.written and _reads_own(recorder, opened.call.path, args):
                try:
                    output = run_unchanged(func, args, kwargs)
                except BaseException as error:
                    call = self._begin(func, args, kwargs, frame)
                    if call is not None:
                        _raised(call, opened, error)
                        add_spans(call, facts.names, args, kwargs)
                    raise
                recorder.operation_order.append((func, None))
                return output
        call = self._begin(func, args, kwargs, frame)
        if call is None:
            return run_unchanged(func, args, kwargs)
        if call is _UNCHANGED:
            output = run_unchanged(func, args, kwargs)
            recorder.sources.pass_on(values.tensors(args), values.tensors((output,)))
            return output
        try:
            output = run_unchanged(func, args, kwargs)
        except BaseException as error:
            if thread.stack:
                _raised(call, thread.stack[-1], error)
                add_spans(call, _facts[id(func)].names, args, kwargs)
            raise
        try:
            thread.busy = True
            _end(recorder, thread, call, func, args, kwargs, output)
        except Exception as error:
            recorder.broke(error)
        finally:
            thread.busy = False
        return output

    def _begin(self, func: Any, args: Any, kwargs: Any, frame: FrameType) -> Call | None:
        thread = self._thread
        try:
            thread.busy = True
            return _begin(self._recorder, thread, func, args, kwargs, frame)
        except RecursionError:
            raise  # the model has used up the stack: the operation would have raised here too
        except Exception as error:
            self._recorder.broke(error)
            return None
        finally:
            thread.busy = False


def _is_inner(opened: OpenCall, frame: FrameType | None) -> bool:
    """Whether an operation is one of those inside torch.nn's own forwards that nobody asked for.

    Not so for the root: then they are what the model does.
    """
    call = opened.call
    if opened.names.home != "torch" or not call.path or call.kind != "module" or call.opaque:
        return False
    wanted = opened.frame
    while frame is not wanted:
        if frame is None or frame.f_code is _FUNCTION_APPLY:
            return False
        frame = frame.f_back
    return True


def _reads_own(recorder: Recorder, path: str, args: Any) -> bool:
    """Whether the parameters that an operation takes are those of the module whose forward runs."""
    owners = recorder.modules.owners
    for arg in args:
        if type(arg) is nn.Parameter:
            owned = owners.get(id(arg))
            if owned is not None and all(owner != path for owner, _ in owned):
                return False
        elif type(arg) is list and not _reads_own(recorder, path, arg):
            return False
    return True


class _Facts:
    """What does not change from one run of an operation to the next."""

    __slots__ = ("func", "kind", "names", "view", "written")

    def __init__(self, func: Any) -> None:
        self.func = func  # kept, so that its id stays its own
        schema = getattr(func, "_schema", None)
        self.kind = str(func) if schema is None else schema.name.replace("::", ".")  # "aten.relu"
        arguments = [] if schema is None else schema.arguments
        self.view = bool(getattr(func, "is_view", False))
        self.names = tuple(argument.name for argument in arguments)
        self.written = tuple(
            (i, argument.name)
            for i, argument in enumerate(arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        )


_facts: dict[int, _Facts] = {}  # by id: an operation's hash is a Python function


def _learn(func: Any) -> _Facts:
    facts = _facts[id(func)] = _Facts(func)
    return facts


_UNCHANGED = Call("operation", "", "", "")  # stands for an operation of torch's own that only passes tensors on


def _begin(recorder: Recorder, thread: Thread, func: Any, args: Any, kwargs: Any, frame: FrameType) -> Call | None:
    """The operation that this aten operation belongs to: the last one, or a new child of the open call."""
    if thread.stack:
        opened = thread.stack[-1]
        if opened.call.opaque:
            return None
        home, path = opened.names.home, opened.call.path
    else:
        found = forward_around(recorder, frame)
        if found is None:
            return None
        opened = recorder.outside
        home, path = recorder.known[id(found[0])].names.home, found[1]
    codes, homes = recorder.modules.forward_codes, _homes
    wanted = opened.frame
    chosen: FrameType | None = None
    bypassed = opaque = None
    last: FrameType = frame
    current: FrameType | None = frame
    inner: FrameType | None = None  # below `current`
    below: FrameType | None = None  # below the chosen one: what its expression calls, if that is Python
    # the innermost frame of the same package as the forward; a library called from it (einops, torch itself) is one
    # expression, and inside torch.nn's own forward it is the forward's own line
    while current is not wanted:
        if current is None:  # the open call was left by an exception that no hook sees
            recorder.innermost(thread, frame)
            return _begin(recorder, thread, func, args, kwargs, frame)
        code = current.f_code
        back = current.f_back
        if id(code) in codes and back is not None and (wanted is None or back.f_back is not wanted):
            outer = bypassed_module(recorder, current, opened)
            bypassed = bypassed or outer
        if code is _FUNCTION_APPLY:
            opaque, chosen = "autograd.Function", None
            if back is not None and back.f_globals.get("__name__") == "torch.utils.hooks":
                return _UNCHANGED  # torch's own: it marks where a full backward hook is to run
        elif chosen is None and home != "torch":
            there = homes.get(id(code))
            if there is None:
                there = homes[id(code)] = (str(current.f_globals.get("__name__", "")).partition(".")[0], code)
            if there[0] == home:
                chosen, below = current, inner
        if back is not None and back is not wanted:
            last = current
            if chosen is None:
                below = inner
        inner, current = current, back
    if chosen is not None:
        last = chosen
    facts = _facts.get(id(func)) or _learn(func)
    # a helper that is called from two lines makes two operations
    key = (id(last.f_code), last.f_lasti, last.f_back.f_lasti if last.f_back else 0)
    children = opened.call.children
    if opened.group == key and children and _goes_on(children[-1], opened, func, facts, below):
        call = children[-1]
        first = False
    else:
        call = Call("operation", path if bypassed is None else bypassed, "", facts.kind, [], [])
        call.operations = {}
        if home == "torch" and opened.call.kind == "module":
            call.internal = True
        if opaque is not None:
            call.opaque = opaque
        children.append(call)
        opened.group, opened.first = key, (func, below.f_lasti if below else -1)
        spot = key[:2]
        place = recorder.places.get(spot)
        if place is None:
            place = recorder.places[spot] = Place(last.f_code, last.f_lasti)
        call.site = place  # type: ignore[assignment]  # a Site is made of it at the end of the run
        first = True
    opened.viewing = facts.view
    operations = call.operations
    assert operations is not None
    operations[facts.kind] = operations.get(facts.kind, 0) + 1
    recorder.operation_order.append((func, call))
    if func is _DETACH and not first:
        return None
    call.type = facts.kind
    for where, arg in zip(facts.names, args):  # noqa: B905  # those with defaults may be left out
        _input(recorder, opened, call, where, arg, first)
    if kwargs:
        for where, arg in kwargs.items():
            _input(recorder, opened, call, where, arg, first)
    return call


def _goes_on(last: Call, opened: OpenCall, func: Any, facts: _Facts, below: FrameType | None) -> bool:
    """Whether an aten operation under the same expression belongs to the same run of it.

    An expression in a loop begins each time with the same aten operation, from the same instruction of the function
    that it calls (F.relu). Views are no beginning while only views have run: a matmul may begin with an expand of each
    side. A function that is not torch's may loop itself, so all its operations are one.
    """
    if last.kind != "operation" or last.error is not None:
        return False
    if last.opaque or (below is not None and not str(below.f_globals.get("__name__")).startswith("torch")):
        return True
    begins = (func, below.f_lasti if below else -1) == opened.first
    return not begins or (facts.view and opened.viewing)


def _input(recorder: Recorder, opened: OpenCall, call: Call, where: str, arg: Any, first: bool) -> None:
    """Add what an aten operation took from outside of its expression."""
    kind = type(arg)
    if kind in PLAIN_TENSORS:
        _tensor_input(recorder, opened, call, where, arg)
    elif kind in _TEXT_LATER or values.plain(arg):
        if first:  # a shape stays one value: size=[-1, 1568]
            value = Value(where, "")
            call.inputs.append(value)
            recorder.texts.append((value, arg))
    else:
        for name, leaf in values.parts(where, arg):
            if isinstance(leaf, torch.Tensor):
                _tensor_input(recorder, opened, call, name, leaf)
            elif first:
                call.inputs.append(Value(name, values.short(leaf)))


def _tensor_input(recorder: Recorder, opened: OpenCall, call: Call, where: str, tensor: torch.Tensor) -> None:
    source = recorder.sources.find(tensor, opened)
    if source is call:
        return  # made by an earlier part of the same expression
    # a label is made of the source at the end of the run
    call.inputs.append(Value(where, spec(tensor), source))  # type: ignore[arg-type]
    owners = recorder.modules.owners.get(id(tensor))
    if owners is not None and isinstance(tensor, nn.Parameter) and all(path != call.path for path, _ in owners):
        for path, name in owners:  # parameters of modules whose forward is not the one that runs
            label = f"{path}.{name}" if path else name
            if label not in (call.reads or ()):
                call.reads = [*(call.reads or []), label]


def _end(recorder: Recorder, thread: Thread, call: Call, func: Any, args: Any, kwargs: Any, output: Any) -> None:
    """The last aten operation of an expression gives the expression's output."""
    sources = recorder.sources
    if type(output) in PLAIN_TENSORS:
        call.output = [Value("", spec(output))]
        sources.number = number = sources.number + 1
        sources.made_by[id(output)] = (weakref.ref(output), call, number)
    else:
        recorder.outputs(call, output)
    for i, name in _facts[id(func)].written:
        for tensor in values.tensors(args[i] if i < len(args) else (kwargs or {}).get(name)):
            sources.written(tensor, call)
            for opened in thread.stack:
                if opened.written is not None:
                    opened.written.add(storage_id(tensor))


def _raised(call: Call, opened: OpenCall, error: BaseException) -> None:
    if call.error is None:
        call.error = describe(error, raised_here=True)
    opened.failures = [*(opened.failures or []), call]
    opened.raising = error
