"""Operations: what a dispatch mode sees, grouped by the expression in a forward that asked for it.

The mode runs below autograd and autocast and leaves torch's fused paths alone, which a torch-function mode would not.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function

from tracecall.calls import Call, Value
from tracecall.recording import values
from tracecall.recording.failures import describe
from tracecall.recording.modes import QuietMode
from tracecall.recording.sites import Place

if TYPE_CHECKING:
    from tracecall.recording.recorder import OpenCall, Recorder

_FUNCTION_APPLY: CodeType = Function.apply.__func__.__code__  # type: ignore[attr-defined]  # a classmethod's function
_DETACH = torch.ops.aten.detach.default  # after another operation: autograd keeps its result for the backward pass
_homes: dict[CodeType, str] = {}


class OperationMode(QuietMode):
    """Hands every operation of one thread to the recorder, and runs it unchanged."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder, frame = self._recorder, sys._getframe(1)
        try:
            found = recorder.open_call(frame)
            if found is None:
                seen = None
            else:
                thread, opened = found
                thread.busy = True
                try:
                    seen = _begin(recorder, opened, func, args, kwargs, frame)
                finally:
                    thread.busy = False
        except Exception as error:
            recorder.broke(error)
            seen = None
        if seen is None:
            return func(*args, **(kwargs or {}))
        call, opened = seen
        try:
            output = func(*args, **(kwargs or {}))
        except BaseException as error:
            _raised(call, opened, error)
            raise
        try:
            thread.busy = True
            recorder.operation_outputs(call, output, _written(func, args, kwargs))
        except Exception as error:
            recorder.broke(error)
        finally:
            thread.busy = False
        return output


def _begin(
    recorder: Recorder, opened: OpenCall, func: Any, args: Any, kwargs: Any, frame: FrameType
) -> tuple[Call, OpenCall] | None:
    """The operation that this aten operation belongs to: the last one, or a new child of the open call."""
    where = _locate(recorder, opened, frame)
    children = opened.call.children
    kind = _kind(func)
    call = children[-1] if children and opened.group == where.key else None
    if call is None or call.kind != "operation" or call.error is not None:
        internal = where.home == "torch" and opened.call.kind == "module"
        path = opened.call.path if where.bypassed is None else where.bypassed
        call = Call("operation", path, "", kind, internal=internal, operations={}, opaque=where.opaque)
        children.append(call)
        opened.group = where.key
        recorder.places.append((call, where.place))
    assert call.operations is not None
    kept_by_autograd = func is _DETACH and bool(call.operations)
    call.operations[kind] = call.operations.get(kind, 0) + 1
    recorder.operation_order.append((func, call))
    if kept_by_autograd:
        return None
    call.type = kind
    _inputs(recorder, opened, call, func, args, kwargs)
    return call, opened


@dataclass
class _Located:
    """The expression that an operation runs for, and what was learned on the way to it."""

    place: Place
    key: tuple[CodeType, int, int]
    home: str
    bypassed: str | None
    opaque: str | None


def _locate(recorder: Recorder, opened: OpenCall, frame: FrameType) -> _Located:
    """The expression in the open call's code for which this operation runs.

    That is the innermost frame of the same package as the forward; a library called from it (einops, torch itself)
    is one expression. Inside torch.nn's own forward it is the forward's own line.
    """
    codes = recorder.modules.forward_codes
    home = opened.names.home
    chosen: FrameType | None = None
    bypassed = opaque = None
    last = frame
    current: FrameType | None = frame
    while current is not None and current is not opened.frame:
        back = current.f_back
        outermost = back is None or back.f_back is opened.frame  # the forward that `__call__` itself runs
        if bypassed is None and not outermost and current.f_code in codes:
            bypassed = recorder.bypassed_module(current, opened)
        if current.f_code is _FUNCTION_APPLY:
            opaque, chosen = "autograd.Function", None
        elif chosen is None and home != "torch" and _home(current) == home:
            chosen = current
        if back is not None and back is not opened.frame:
            last = current
        current = back
    place = chosen or last
    # a helper that is called from two lines makes two operations
    key = (place.f_code, place.f_lasti, place.f_back.f_lasti if place.f_back else 0)
    return _Located(Place(place.f_code, place.f_lasti), key, home, bypassed, opaque)


def _home(frame: FrameType) -> str:
    """The top-level package of the code that a frame runs."""
    home = _homes.get(frame.f_code)
    if home is None:
        home = _homes[frame.f_code] = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return home


def _kind(func: Any) -> str:
    """`aten::relu.default` is "aten.relu"; a higher-order operator keeps its own name."""
    schema = getattr(func, "_schema", None)
    return str(func) if schema is None else schema.name.replace("::", ".")


def _inputs(recorder: Recorder, opened: OpenCall, call: Call, func: Any, args: Any, kwargs: Any) -> None:
    """Add what this aten operation took from outside of its expression."""
    first = len(call.operations or ()) == 1
    names = [argument.name for argument in func._schema.arguments] if hasattr(func, "_schema") else []
    named = [(names[i] if i < len(names) else f"args[{i}]", arg) for i, arg in enumerate(args)]
    for where, arg in [*named, *(kwargs or {}).items()]:
        if isinstance(arg, torch.Tensor):
            parts: Any = ((where, arg),)
        elif values.plain(arg):
            parts = ((where, arg),)  # a shape stays one value: size=[-1, 1568]
        else:
            parts = values.leaves(where, arg)
        for name, leaf in parts:
            if isinstance(leaf, torch.Tensor):
                source = recorder.sources.find(leaf, opened)
                if source is call:
                    continue  # made by an earlier part of the same expression
                value = Value(name, values.spec(leaf))
                if source is not None:
                    recorder.pending.append((value, source))
                call.inputs.append(value)
                _reads(recorder, call, leaf)
            elif first:
                call.inputs.append(Value(name, leaf if isinstance(leaf, values.More) else values.short(leaf)))


def _reads(recorder: Recorder, call: Call, tensor: torch.Tensor) -> None:
    """Note a parameter of a module whose forward is not the one that runs."""
    owners = recorder.modules.owners.get(id(tensor))
    if owners and isinstance(tensor, torch.nn.Parameter) and all(path != call.path for path, _ in owners):
        path, name = owners[0]
        label = f"{path}.{name}" if path else name
        if label not in (call.reads or ()):
            call.reads = [*(call.reads or []), label]


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The arguments that an in-place operation changed."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    found: list[torch.Tensor] = []
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else (kwargs or {}).get(argument.name)
            values.tensors(value, found)
    return found


def _raised(call: Call, opened: OpenCall, error: BaseException) -> None:
    if call.error is None:
        call.error = describe(error, raised_here=True)
    opened.failures = [*(opened.failures or []), call]
    opened.raising = error
