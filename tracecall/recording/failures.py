"""What raised: the exception as data, and the expression in the model's code that raised it."""

from __future__ import annotations

import ast
import inspect
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from tracecall.calls import Call, CallError, Trace, Value
from tracecall.recording import tensor_specs, values
from tracecall.recording.open_calls import add
from tracecall.recording.sites import Place, local_names, parsed, site

if TYPE_CHECKING:
    from tracecall.recording.open_calls import OpenCall
    from tracecall.recording.sources import Sources

LONGEST_MESSAGE = 2000
LARGEST_SPAN = 10_000_000  # elements: beyond, the smallest and largest are not looked for
_INTEGERS = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8})


def describe(error: BaseException, raised_here: bool) -> CallError:
    """An exception's type and message; the exception itself is not kept, it would keep tensors alive."""
    try:
        message = str(error)
    except Exception:  # the exception's own `__str__` failed
        message = "<no message>"
    return CallError(type(error).__name__, message[:LONGEST_MESSAGE], raised_here)


def failing_expression(opened: OpenCall, error: BaseException, sources: Sources) -> None:
    """Find where an open module call raised, and add the operation that failed if the dispatch mode never saw it.

    Arguments that torch refuses before it dispatches (a wrong type, say) leave no operation, only a traceback.
    """
    found = _frame(error.__traceback__, opened)
    if found is None or opened.call.error is None:
        return
    frame, lasti = found
    place = Place(frame.f_code, lasti)
    opened.call.error.site = place  # type: ignore[assignment]  # a Site is made of it at the end of the run
    text = site(place).text
    tree = None if text is None else parsed(text)
    if tree is None:
        return  # `raise` or `assert`: the code refused, no operation failed
    call = Call("operation", opened.call.path, "", "", internal=opened.names.home == "torch")
    opened.call.error.raised_here = False
    call.error = describe(error, raised_here=True)
    call.inputs = _named_tensors(tree, frame, sources, opened)
    call.site = call.error.site = place  # type: ignore[assignment]  # as above
    add(opened.call, call)


def _frame(traceback: TracebackType | None, opened: OpenCall) -> tuple[FrameType, int] | None:
    """The innermost frame of a traceback that runs code of the same package as the open call's forward."""
    chosen = first = None
    inside = False
    while traceback is not None:
        frame = traceback.tb_frame
        if inside and frame.f_code.co_name != "inner":
            place = (frame, traceback.tb_lasti)
            first = first or place
            home = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            if home in opened.names.homes:
                chosen = place
        inside = inside or frame is opened.frame
        traceback = traceback.tb_next
    return chosen or first


def _named_tensors(tree: ast.expr, frame: FrameType, sources: Sources, opened: OpenCall) -> list[Value]:
    """The tensors that the failing expression names: its local variables, and parameters and buffers of `self`."""
    found: dict[str, Value] = {}
    local = local_names(frame)
    for part in ast.walk(tree):
        tensor: object = None
        if isinstance(part, ast.Name):
            tensor = local.get(part.id)
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            owner = local.get(part.value.id)
            if isinstance(owner, nn.Module):
                tensor = owner._parameters.get(part.attr, owner._buffers.get(part.attr))
        if isinstance(tensor, torch.Tensor):
            where = ast.unparse(part)
            # a label is made of the source at the end of the run
            found[where] = Value(where, tensor_specs.spec(tensor), sources.find(tensor, opened))  # type: ignore[arg-type]
    return list(found.values())


def add_spans(call: Call, names: tuple[str, ...], args: Any, kwargs: Any) -> None:
    """Note the smallest and largest number of each integer tensor that a failed operation took: one may be an index.

    Only of plain tensors on the CPU: an accelerator that has just failed may fail again when it is asked.
    """
    given = [*zip(names, args), *(kwargs or {}).items()]  # noqa: B905  # those with defaults may be left out
    for where, tensor in given:
        if (
            type(tensor) not in tensor_specs.PLAIN_TENSORS
            or tensor.dtype not in _INTEGERS
            or tensor.device.type != "cpu"
        ):
            continue
        if not 0 < tensor.numel() <= LARGEST_SPAN or tensor.layout is not torch.strided or tensor.is_nested:
            continue
        try:
            with torch.no_grad(), _disable_current_modes():
                span = (int(tensor.min()), int(tensor.max()))
        except RuntimeError:  # a tensor that holds no numbers after all (of a functional transform, say)
            continue
        for value in call.inputs:
            if value.where == where and value.value == tensor_specs.spec(tensor):
                value.span = span


def add_signature(trace: Trace, modules: dict[str, nn.Module]) -> None:
    """Note the signature of the forward whose call ended the run without having begun: its arguments do not fit."""
    failing = trace.failing()
    if failing is None or failing.kind != "module" or failing.error is None or failing.error.type != "TypeError":
        return
    module, info = modules.get(failing.path), trace.modules.get(failing.path)
    if module is None or info is None:
        return
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # built in, or a ScriptMethod
        return
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    shown = [one if one.default is one.empty else one.replace(default=_Shown(one.default)) for one in plain]
    info.signature = str(signature.replace(parameters=shown, return_annotation=inspect.Signature.empty))


class _Shown:
    """A default whose repr is short and runs none of its own code."""

    def __init__(self, value: object) -> None:
        self.text = values.short(value)

    def __repr__(self) -> str:
        return self.text
