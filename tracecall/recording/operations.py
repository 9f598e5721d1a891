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
from torch import is_inference_mode_enabled, nn
from torch.autograd import Function

from tracecall.calls import Call, Value
from tracecall.recording import values
from tracecall.recording.direct_calls import bypassed_module, forward_around
from tracecall.recording.failures import add_spans, describe
from tracecall.recording.modes import QuietMode, is_composite, run_composite, run_unchanged
from tracecall.recording.open_calls import NOTHING, OpenCall, Thread
from tracecall.recording.sites import place_of
from tracecall.recording.sources import is_shared, storage_id, storage_of
from tracecall.recording.values import PLAIN_TENSORS, spec

if TYPE_CHECKING:
    from tracecall.recording.recorder import Recorder

_FUNCTION_APPLY: CodeType = Function.apply.__func__.__code__  # type: ignore[attr-defined]  # a classmethod's function
_DETACH = torch.ops.aten.detach.default  # after another operation: autograd keeps its result for the backward pass
_TEXT_LATER = frozenset({int, float, bool, type(None), complex})  # their text is made at the end of the run
# by the code object's id, since hashing code is slow; the code is kept, so that its id stays its own
_homes: dict[int, tuple[str, CodeType]] = {}


class OperationMode(QuietMode):
    """Hands every operation of one thread to the recorder, and runs it unchanged."""

    def __init__(self, recorder: Recorder, thread: Thread) -> None:
        super().__init__()
        self._recorder, self._thread = recorder, thread
        self._made, self._written = recorder.sources.made_by, recorder.sources.written_by
        self._brief = recorder.operations == "forward"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder, thread = self._recorder, self._thread
        if not recorder.active or thread.busy:
            return run_unchanged(func, args, kwargs)
        frame = sys._getframe(1)
        facts = _facts.get(id(func)) or _learn(func)
        stack = thread.stack
        opened = stack[-1] if stack else None
        brief = self._brief and opened is not None and opened.inner and _is_inner(recorder, opened, frame, facts, args)
        call = None if brief else self._begin(facts, args, kwargs, frame, opened)
        try:
            if facts.composite and is_inference_mode_enabled():
                output = run_composite(func, args, kwargs)
            else:
                output = func(*args, **kwargs) if kwargs else func(*args)
        except BaseException as error:
            if brief:
                call = self._begin(facts, args, kwargs, frame, opened)
            if call is not None and stack:
                _raised(call, stack[-1], error)
                add_spans(call, facts.names, args, kwargs)
            opened = None  # it holds the error, whose traceback holds this frame
            raise
        if brief:
            recorder.ran.append(func)
            recorder.ran_in.append(None)
        elif call is _UNCHANGED:
            recorder.sources.pass_on(values.tensors(args), values.tensors((output,)))
        elif call is not None:
            thread.busy = True
            try:
                if type(output) in PLAIN_TENSORS:  # the last aten operation of an expression gives its output
                    shown = spec(output)
                    call.output = [Value("", shown)]
                    self._made[id(output)] = (weakref.ref(output), call, recorder.sources.next_number(), shown)
                else:
                    recorder.outputs(call, output)
                if facts.written:
                    _note_written(recorder, thread, call, facts, args, kwargs)
            except Exception as error:
                recorder.broke(error)
            finally:
                thread.busy = False
        return output

    def _begin(self, facts: _Facts, args: Any, kwargs: Any, frame: FrameType, opened: OpenCall | None) -> Call | None:
        """The operation that this aten operation belongs to: the last one, or a new child of the open call."""
        recorder, thread = self._recorder, self._thread
        thread.busy = True
        try:
            bypassed = opaque = None
            body = None if opened is None else opened.body
            if opened is not None and frame is body:
                last, below, back = frame, None, -1  # mostly the forward itself asks
            elif opened is not None and body is not None and (near := _near(recorder, opened, body, frame)):
                last, below, back = near
            else:
                found = _look_around(recorder, thread, frame)
                if not isinstance(found, tuple):
                    return found
                opened, last, below, back, bypassed, opaque = found
            places = opened.places if last is opened.body else recorder.places_in(last.f_code)
            func, kind, around = facts.func, facts.kind, opened.call
            place = places.get(last.f_lasti) or place_of(last, places)
            # a helper that is called from two lines makes two operations
            same = opened.group is place and opened.back == back
            first = not same or not _goes_on(around.children[-1], opened, facts, below)
            if first:
                inputs: list[Value] = []
                path = around.path if bypassed is None else bypassed
                # a Site is made of the place at the end of the run
                call = Call("operation", path, "", kind, inputs, NOTHING, place, children=NOTHING)  # type: ignore[arg-type]
                if opened.inner or (opened.names.home == "torch" and around.kind == "module"):
                    call.internal = True
                if opaque is not None:
                    call.opaque = opaque
                if around.children is NOTHING:
                    around.children = [call]
                else:
                    around.children.append(call)
                opened.group, opened.back = place, back
                opened.first, opened.asked = func, -1 if below is None else below.f_lasti
            else:
                call = around.children[-1]
                inputs = call.inputs
            opened.viewing = facts.view
            recorder.ran.append(func)
            recorder.ran_in.append(call)
            if func is _DETACH and not first:
                return None
            call.type = kind
            made, written, number = self._made, self._written, opened.number
            # where gradients are recorded, an output's requires_grad is set when the operation that made it has ended
            steady = recorder.steady and not torch.is_grad_enabled()
            for (where, tensors), arg in zip(facts.arguments, args):  # noqa: B905  # those with defaults may be left out
                if not tensors:
                    if first:  # a shape stays one value: size=[-1, 1568]; its text is made at the end of the run
                        inputs.append(Value(where, arg))
                    continue
                if type(arg) is torch.Tensor and not written:
                    entry = made.get(id(arg))
                    if entry is not None and entry[2] > number and entry[0]() is arg:
                        if entry[1] is not call:  # else made by an earlier part of the same expression
                            shown = entry[3] if steady else spec(arg)
                            inputs.append(Value(where, shown, entry[1]))  # type: ignore[arg-type]  # a label at the end
                        continue
                _input(recorder, opened, call, where, arg, first)
            if kwargs:
                for where, arg in kwargs.items():
                    _input(recorder, opened, call, where, arg, first)
            return call
        except RecursionError:
            raise  # the model has used up the stack: the operation would have raised here too
        except Exception as error:
            recorder.broke(error)
            return None
        finally:
            thread.busy = False


# (the open call, the frame of the expression that an operation is named after, the frame that this expression calls if
# that is Python, the instruction from which the first was called or -1 in the forward itself, the path of the module
# whose forward runs if that was called directly, why nothing inside is seen)
Spot = tuple[OpenCall, FrameType, FrameType | None, int, str | None, str | None]


def _is_inner(recorder: Recorder, opened: OpenCall, frame: FrameType | None, facts: _Facts, args: Any) -> bool:
    """Whether an operation is one of those inside torch.nn's own forwards that nobody asked for.

    Not so if it reads another module's parameters, writes what others may see, or is in an autograd.Function.
    """
    if not _reads_own(recorder, opened.call.path, args) or (facts.written and not _writes_alone(recorder, facts, args)):
        return False
    wanted = opened.frame
    while frame is not wanted:
        if frame is None or frame.f_code is _FUNCTION_APPLY:
            return False
        frame = frame.f_back
    return True


def _writes_alone(recorder: Recorder, facts: _Facts, args: Any) -> bool:
    """Whether an operation only changes the numbers of one tensor that shares them with no other, and nobody asks."""
    if facts.reshapes or recorder.watched or len(facts.written) > 1 or facts.written[0][0] >= len(args):
        return False
    tensor = args[facts.written[0][0]]
    if type(tensor) is not torch.Tensor:
        return False
    storage = storage_of(tensor)
    return storage is not None and not is_shared(storage)


def _reads_own(recorder: Recorder, path: str, args: Any) -> bool:
    """Whether the parameters that an operation takes are those of the module whose forward runs."""
    owners = recorder.modules.owner_paths
    for arg in args:
        kind = type(arg)
        if kind is nn.Parameter:
            owned = owners.get(id(arg))
            if owned is not None and path not in owned:
                return False
        elif kind is list and not _reads_own(recorder, path, arg):
            return False
    return True


class _Facts:
    """What does not change from one run of an operation to the next."""

    __slots__ = ("arguments", "composite", "func", "kind", "names", "reshapes", "view", "written")

    def __init__(self, func: Any) -> None:
        self.func = func  # kept, so that its id stays its own
        schema = getattr(func, "_schema", None)
        self.kind = str(func) if schema is None else schema.name.replace("::", ".")  # "aten.relu"
        arguments = [] if schema is None else schema.arguments
        self.view = bool(getattr(func, "is_view", False))
        self.composite = is_composite(func)
        self.names = tuple(argument.name for argument in arguments)
        self.reshapes = torch.Tag.inplace_view in getattr(func, "tags", ())  # what it writes: unsqueeze_, resize_
        # (name, whether it may be or hold a tensor)
        self.arguments = tuple(
            (argument.name, any(word in str(argument.type) for word in ("Tensor", "str"))) for argument in arguments
        )
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


def _near(
    recorder: Recorder, opened: OpenCall, body: FrameType, frame: FrameType
) -> tuple[FrameType, FrameType | None, int] | None:
    """The part of Spot that most operations need, where at most two functions are between the forward and them.

    Each of them is known to be ordinary: not a forward, nor that of an autograd.Function. Else None: look around.
    """
    home, codes = opened.names.home, recorder.modules.forward_codes
    current: FrameType | None = frame
    chosen = inner = below = None
    for _ in range(3):
        if current is body:
            if chosen is None:
                return body, inner, -1
            return chosen, below, chosen.f_back.f_lasti  # type: ignore[union-attr]  # the body is further back
        if current is None or (there := _homes.get(id(current.f_code))) is None or id(current.f_code) in codes:
            return None
        if chosen is None and there[0] == home != "torch":
            chosen, below = current, inner
        inner, current = current, current.f_back
    return None


def _look_around(recorder: Recorder, thread: Thread, frame: FrameType) -> Spot | Call | None:
    """Walk from an operation to the open call around it; None if it is nobody's, _UNCHANGED if it is torch's own."""
    found = None
    if thread.stack:
        opened = thread.stack[-1]
        if opened.call.opaque:
            return None
        home = opened.names.home
    else:
        found = forward_around(recorder, frame)
        if found is None:
            return None
        opened = recorder.outside
        home = recorder.known[id(found[0])].names.home
    codes = recorder.modules.forward_codes
    wanted = opened.frame
    chosen: FrameType | None = None
    opaque = None
    forwards: list[FrameType] = []  # of other modules, called directly
    last: FrameType = frame
    current: FrameType | None = frame
    inner: FrameType | None = None  # below `current`
    below: FrameType | None = None  # below the chosen one: what its expression calls, if that is Python
    # the innermost frame of the same package as the forward; a library called from it (einops, torch itself) is one
    # expression, and inside torch.nn's own forward it is the forward's own line
    while current is not wanted:
        if current is None:  # the open call was left by an exception that no hook sees
            recorder.innermost(thread, frame)
            return _look_around(recorder, thread, frame)
        code = current.f_code
        back = current.f_back
        if id(code) in codes and back is not None and (wanted is None or back.f_back is not wanted):
            forwards.append(current)
        if code is _FUNCTION_APPLY:
            opaque, chosen = "autograd.Function", None
            if back is not None and back.f_globals.get("__name__") == "torch.utils.hooks":
                return _UNCHANGED  # torch's own: it marks where a full backward hook is to run
        elif chosen is None and home != "torch" and _home(current) == home:
            chosen, below = current, inner
        if back is not None and back is not wanted:
            last = current
            if chosen is None:
                below = inner
        inner, current = current, back
    paths = [path for one in forwards if (path := bypassed_module(recorder, one, opened)) is not None]
    bypassed = next(iter(paths), None) if found is None else found[1]
    if wanted is not None and opened.call.kind == "module" and bypassed is None and opaque is None:
        opened.body, opened.places = last, recorder.places_in(last.f_code)
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


def _goes_on(last: Call, opened: OpenCall, facts: _Facts, below: FrameType | None) -> bool:
    """Whether an aten operation under the same expression belongs to the same run of it.

    An expression in a loop begins each time with the same aten operation, from the same instruction of the function
    that it calls (F.relu). Views are no beginning while only views have run: a matmul may begin with an expand of each
    side. A function that is not torch's may loop itself, so all its operations are one.
    """
    if last.kind != "operation" or last.error is not None:
        return False
    if last.opaque or (below is not None and not str(below.f_globals.get("__name__")).startswith("torch")):
        return True
    begins = facts.func is opened.first and opened.asked == (-1 if below is None else below.f_lasti)
    return not begins or (facts.view and opened.viewing)


def _input(recorder: Recorder, opened: OpenCall, call: Call, where: str, arg: Any, first: bool) -> None:
    """Add what an aten operation took from outside of its expression."""
    kind = type(arg)
    if kind in PLAIN_TENSORS:
        _tensor_input(recorder, opened, call, where, arg)
    elif kind in _TEXT_LATER or values.plain(arg):
        if first:  # as above
            call.inputs.append(Value(where, arg))
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
    owners = recorder.modules.owner_paths.get(id(tensor)) if type(tensor) is nn.Parameter else None
    if owners is not None and call.path not in owners:
        for path, name in recorder.modules.owners[id(tensor)]:  # of modules whose forward is not the one that runs
            label = f"{path}.{name}" if path else name
            if label not in (call.reads or ()):
                call.reads = [*(call.reads or []), label]


def _note_written(recorder: Recorder, thread: Thread, call: Call, facts: _Facts, args: Any, kwargs: Any) -> None:
    """Remember an operation as the maker of what it wrote in place."""
    for i, name in facts.written:
        for tensor in values.tensors(args[i] if i < len(args) else (kwargs or {}).get(name)):
            recorder.sources.written(tensor, call)
            for opened in thread.stack:
                if opened.written is not None:
                    opened.written.add(storage_id(tensor))


def count_operations(order: list[tuple[Any, Call | None]]) -> None:
    """Note in each operation the aten operations that ran under its expression, in the order of the first of each."""
    for func, call in order:
        if call is not None:
            kind = _facts[id(func)].kind
            call.operations = counted = call.operations or {}
            counted[kind] = counted.get(kind, 0) + 1


def _raised(call: Call, opened: OpenCall, error: BaseException) -> None:
    if call.error is None:
        call.error = describe(error, raised_here=True)
    opened.failures = [*(opened.failures or []), call]
    opened.raising = error
