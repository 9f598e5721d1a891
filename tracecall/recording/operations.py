"""Operations: what a dispatch mode sees, grouped by the expression in a forward that asked for it.

The mode runs below autograd and autocast and leaves torch's fused paths alone, which a torch-function mode would not.
Like module_calls.py it notes what it must while the model runs, and leaves the rest to the end.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Collection, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import is_inference_mode_enabled, nn

from tracecall.calls import Call, Value
from tracecall.recording import values
from tracecall.recording.arguments import outputs
from tracecall.recording.aten import Facts, known, learn
from tracecall.recording.expressions import FUNCTION_APPLY, UNCHANGED, goes_on, look_around, near
from tracecall.recording.failures import add_spans, describe
from tracecall.recording.modes import QuietMode, run_composite, run_unchanged
from tracecall.recording.open_calls import NOTHING, OpenCall, Thread
from tracecall.recording.sites import place_of
from tracecall.recording.sources import is_shared, storage_id, storage_of
from tracecall.recording.tensor_specs import PLAIN_TENSORS, plain_spec, spec

if TYPE_CHECKING:
    from tracecall.recording.recorder import Recorder

_DETACH = torch.ops.aten.detach.default  # after another operation: autograd keeps its result for the backward pass
_get_frame, _Tensor, _reference = sys._getframe, torch.Tensor, weakref.ref  # looked up at every operation
_TEXT_LATER = frozenset({int, float, bool, type(None), complex})  # their text is made at the end of the run

# (its facts, args, kwargs, the frame that asked for it, the innermost open call) -> the operation
Begin = Callable[[Facts, Any, Any, FrameType, OpenCall | None], Call | None]


class OperationMode(QuietMode):
    """Hands every operation of one thread to the recorder, and runs it unchanged."""

    def __init__(self, recorder: Recorder, thread: Thread) -> None:
        super().__init__()
        self._recorder, self._thread = recorder, thread
        self._made, self._next_number = recorder.sources.made_by, recorder.sources.next_number
        self._order = recorder.operation_order
        self._begin = make_begin(recorder, thread)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder, thread = self._recorder, self._thread
        if not recorder.active or thread.busy:
            return run_unchanged(func, args, kwargs)
        facts = known.get(id(func)) or learn(func)
        if facts.sets_data:
            recorder.steady = False  # from now on a tensor may be another than it was when it was made
        stack = thread.stack
        opened = stack[-1] if stack else None
        brief = opened is not None and opened.own is not None and _is_inner(recorder, opened, facts, args)
        call = None if brief else self._begin(facts, args, kwargs, _get_frame(1), opened)
        try:
            if facts.composite and is_inference_mode_enabled():
                output = run_composite(facts.run, args, kwargs)
            else:
                output = facts.run(*args, **kwargs) if kwargs else facts.run(*args)
        except BaseException as error:
            if brief:
                call = self._begin(facts, args, kwargs, _get_frame(1), opened)
            if call is not None and call is not UNCHANGED and stack:
                _raised(call, stack[-1], error)
                add_spans(call, facts.names, args, kwargs)
            opened = None  # it holds the error, whose traceback holds this frame
            raise
        if brief:
            self._order.append(facts.alone)
        elif call is UNCHANGED:
            recorder.sources.pass_on(values.tensors(args), values.tensors((output,)))
        elif call is not None:
            try:
                if type(output) is _Tensor or type(output) in PLAIN_TENSORS:  # that of the last one is the expression's
                    shown = plain_spec(output)  # asks for no operation
                    call.output = shown  # type: ignore[assignment]  # a list of a Value at the end
                    self._made[id(output)] = (_reference(output), call, self._next_number(), shown)
                else:
                    thread.busy = True
                    outputs(recorder.sources, call, output)
                if facts.written:
                    thread.busy = True
                    _note_written(recorder, thread, call, facts, args, kwargs)
            except Exception as error:
                recorder.broke(error)
            finally:
                thread.busy = False
        return output


def make_begin(recorder: Recorder, thread: Thread) -> Begin:
    """What finds the operation that an aten operation belongs to: the last one, or a new child of the open call."""
    made, written, owners = recorder.sources.made_by, recorder.sources.written_by, recorder.modules.owner_paths
    note, places_in = recorder.operation_order.append, recorder.places_in

    def begin(facts: Facts, args: Any, kwargs: Any, frame: FrameType, opened: OpenCall | None) -> Call | None:
        try:
            odd = None
            if opened is not None and frame is (body := opened.body):
                last, below, back = frame, None, -1  # mostly the forward itself asks
                places = opened.places
            else:
                near_by = None if opened is None or body is None else near(recorder, opened, body, frame)
                if near_by is not None and opened is not None:
                    last, below, back = near_by
                else:
                    found = look_around(recorder, thread, frame)
                    if not isinstance(found, tuple):
                        return found
                    opened, last, below, back, *odd = found
                places = opened.places if last is opened.body else places_in(last.f_code)
            kind, around = facts.kind, opened.call
            place = places.get(last.f_lasti) or place_of(last, places)
            # a helper that is called from two lines makes two operations
            began = opened.began
            if began[0] is place and began[1] == back and goes_on(around.children[-1], opened, facts, below):
                first = False
                call = around.children[-1]
                inputs = call.inputs
            else:
                first, inputs = True, []
                # a Site is made of the place at the end of the run
                call = Call("operation", around.path, "", kind, inputs, NOTHING, place, children=NOTHING)  # type: ignore[arg-type]
                if opened.names.internal and around.kind == "module":
                    call.internal = True
                if odd is not None:
                    bypassed, call.opaque = odd
                    call.path = call.path if bypassed is None else bypassed
                if around.children is NOTHING:
                    around.children = [call]
                else:
                    around.children.append(call)
                opened.began = place, back, facts, -1 if below is None else below.f_lasti
            if opened.viewing is not facts.view:  # to set a field of a Struct takes longer than to read it
                opened.viewing = facts.view
            note((facts.func, call))
            if not first:
                if facts.func is _DETACH:
                    return None
                call.type = kind
            leading = facts.leading
            i = 0  # as in module_calls.py, without zip
            for arg in args[:leading]:
                where = facts.names[i]
                i += 1
                source: Any
                if type(arg) is _Tensor and not written:
                    entry = made.get(id(arg))
                    if entry is not None:
                        alive, source, number, shown = entry
                        if alive() is arg:
                            if source is call:  # made by an earlier part of the same expression
                                continue
                            if number <= opened.number:  # before the open call began: if it was given, it is an input
                                # of a parameter there is more to tell
                                source = None if id(arg) in owners else opened.input_label(arg) or source
                            if source is not None:
                                if not recorder.steady or arg.requires_grad is not shown.requires_grad:
                                    shown = plain_spec(arg)
                                inputs.append(Value(where, shown, source))  # a label at the end
                                continue
                _input(recorder, thread, opened, call, where, arg, first)
            if first and len(args) > leading:
                # all others at once: `assembly` makes a Value of each, with its text, at the end of the run
                inputs.append(Value(facts.others, args[leading:]))  # type: ignore[arg-type]
            if kwargs:
                for where, arg in kwargs.items():
                    if type(arg) not in _TEXT_LATER:
                        _input(recorder, thread, opened, call, where, arg, first)
                    elif first:
                        inputs.append(Value(where, arg))
            return call
        except RecursionError:
            raise  # the model has used up the stack: the operation would have raised here too
        except Exception as error:
            recorder.broke(error)
            return None

    return begin


def _is_inner(recorder: Recorder, opened: OpenCall, facts: Facts, args: Any) -> bool:
    """Whether an operation is one of those inside torch.nn's own forwards that nobody asked for.

    Not so if it reads another module's parameters, writes what others may see, or is in an autograd.Function.
    """
    if facts.written and not _writes_alone(recorder, opened, facts, args):
        return False
    own: Any = opened.own
    for arg in args[: facts.tensors]:
        if id(arg) in own or type(arg) is _Tensor or arg is None:
            continue
        if not _is_own(recorder.modules.owner_paths, opened.call.path, arg):
            return False
    wanted = opened.frame
    try:  # past the mode, the forward and torch's `inner`: mostly the forward itself asks, or a function that it calls
        if _get_frame(4) is wanted:
            return True
        if _get_frame(5) is wanted:
            return _get_frame(2).f_code is not FUNCTION_APPLY
    except ValueError:  # no module runs: an interrupt has left the call that is open
        pass
    frame: FrameType | None = _get_frame(2)
    while frame is not wanted:
        if frame is None or frame.f_code is FUNCTION_APPLY:
            return False
        frame = frame.f_back
    return True


def _writes_alone(recorder: Recorder, opened: OpenCall, facts: Facts, args: Any) -> bool:
    """Whether an operation takes one tensor, which the call was given, and only changes its numbers.

    And shares them with no other tensor, and nobody asks.
    """
    if facts.reshapes or recorder.watched or facts.written[0][0] != 0 or not args or not opened.args:
        return False
    tensor = args[0]
    if type(tensor) is not torch.Tensor or facts.tensors > 1:
        return False
    for given in opened.args:  # not `in`: that would compare numbers
        if given is tensor:
            break
    else:
        return False
    storage = storage_of(tensor)
    return storage is not None and not is_shared(storage)


def _is_own(owners: Mapping[int, Collection[str]], path: str, arg: Any) -> bool:
    """Whether what an operation takes is, or holds, no parameter but those of the module whose forward runs."""
    if type(arg) is list:
        # mostly sizes
        return not arg or type(arg[0]) is int or all(_is_own(owners, path, one) for one in arg)
    return not isinstance(arg, nn.Parameter) or path in owners.get(id(arg), (path,))


def _input(recorder: Recorder, thread: Thread, opened: OpenCall, call: Call, where: str, arg: Any, first: bool) -> None:
    """Add what an aten operation took from outside of its expression."""
    kind = type(arg)
    thread.busy = True  # a container's own code may run
    try:
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
    finally:
        thread.busy = False


def _tensor_input(recorder: Recorder, opened: OpenCall, call: Call, where: str, tensor: torch.Tensor) -> None:
    source = recorder.sources.find(tensor, opened)
    if source is call:
        return  # made by an earlier part of the same expression
    # a label is made of the source at the end of the run
    call.inputs.append(Value(where, spec(tensor), source))  # type: ignore[arg-type]
    owners = recorder.modules.owner_paths.get(id(tensor))
    if owners is not None and call.path not in owners and isinstance(tensor, nn.Parameter):
        for path, name in recorder.modules.owners[id(tensor)]:  # of modules whose forward is not the one that runs
            label = f"{path}.{name}" if path else name
            if label not in (call.reads or ()):
                call.reads = [*(call.reads or []), label]


def _note_written(recorder: Recorder, thread: Thread, call: Call, facts: Facts, args: Any, kwargs: Any) -> None:
    """Remember an operation as the maker of what it wrote in place."""
    for i, name in facts.written:
        for tensor in values.tensors(args[i] if i < len(args) else (kwargs or {}).get(name)):
            recorder.sources.written(tensor, call)
            for opened in thread.stack:
                if opened.written is not None:
                    opened.written.add(storage_id(tensor))


def _raised(call: Call, opened: OpenCall, error: BaseException) -> None:
    if call.error is None:
        call.error = describe(error, raised_here=True)
    opened.failures = [*(opened.failures or []), call]
    opened.raising = error
