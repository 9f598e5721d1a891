"""What raised: the exception as data, and the expression in the model's code that raised it."""

from __future__ import annotations

import ast
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

import torch
from torch import nn

from tracecall.calls import Call, CallError, Value
from tracecall.recording import values
from tracecall.recording.sites import Place, local_names, parsed, site

if TYPE_CHECKING:
    from tracecall.recording.open_calls import OpenCall

LONGEST_MESSAGE = 2000


def describe(error: BaseException, raised_here: bool) -> CallError:
    """An exception's type and message; the exception itself is not kept, it would keep tensors alive."""
    try:
        message = str(error)
    except Exception:  # the exception's own `__str__` failed
        message = "<no message>"
    return CallError(type(error).__name__, message[:LONGEST_MESSAGE], raised_here)


def failing_expression(opened: OpenCall, error: BaseException) -> None:
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
    call.inputs = _named_tensors(tree, frame)
    call.site = call.error.site = place  # type: ignore[assignment]  # as above
    opened.call.children.append(call)


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
            if home == opened.names.home != "torch":
                chosen = place
        inside = inside or frame is opened.frame
        traceback = traceback.tb_next
    return chosen or first


def _named_tensors(tree: ast.expr, frame: FrameType) -> list[Value]:
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
            found[where] = Value(where, values.spec(tensor))
    return list(found.values())
