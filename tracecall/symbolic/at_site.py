"""Other arguments for the operation, or the module call, at one line of the model's code, while a copy of it runs."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from tracecall.calls import Site
from tracecall.proposals import MoveTo, OperandMethod, OperationArgument
from tracecall.recording.sites import Place, site

AtSite = OperationArgument | OperandMethod | MoveTo

_TORCH = str(Path(torch.__file__).parent) + os.sep
_WRAPPED = nn.Module._wrapped_call_impl.__code__
_CALLS = (nn.Module._call_impl.__code__, _WRAPPED)  # what runs between a module call and its forward


class EditCalls:
    """A context in which operations and module calls at the sites of some edits get what the edits say.

    The model's hooks are part of it: only a copy of the user's model is to be run like this.
    """

    def __init__(self, model: nn.Module, edits: Iterable[AtSite]) -> None:
        self._model, self._edits = model, list(edits)
        self._stack = ExitStack()

    def __enter__(self) -> None:
        movable: list[AtSite] = [edit for edit in self._edits if not isinstance(edit, OperationArgument)]
        for module in self._model.modules() if movable else ():
            hook = module.register_forward_pre_hook(_module_hook(movable), prepend=True, with_kwargs=True)
            self._stack.callback(hook.remove)
        self._stack.enter_context(_EditOperations(self._edits))

    def __exit__(self, *raised: object) -> None:
        self._stack.close()


class _EditOperations(TorchFunctionMode):
    def __init__(self, edits: list[AtSite]) -> None:
        super().__init__()
        self._edits = edits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        for edit in self._edits:
            if _operation_at(sys._getframe(1), edit.site):
                args, kwargs = _edited(edit, func, tuple(args), kwargs)
        return func(*args, **kwargs)


def _module_hook(edits: list[AtSite]) -> Any:
    def edit_arguments(module: nn.Module, args: Any, kwargs: Any) -> Any:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not _WRAPPED:
            frame = frame.f_back
        frame = None if frame is None else frame.f_back
        for edit in edits:
            if frame is not None and _is_at(frame, edit.site):
                args, kwargs = _edited(edit, module, tuple(args), dict(kwargs))
        return args, kwargs

    return edit_arguments


def _operation_at(frame: FrameType | None, wanted: Site) -> bool:
    """Whether an operation was called at a site: by the model's code, or by torch's Python code called from there."""
    while frame is not None and frame.f_code not in _CALLS:
        if _is_at(frame, wanted):
            return True
        if not frame.f_code.co_filename.startswith(_TORCH):
            return False
        frame = frame.f_back
    return False


def _is_at(frame: FrameType, wanted: Site) -> bool:
    here = site(Place(frame.f_code, frame.f_lasti))
    same_line = (here.file, here.line) == (wanted.file, wanted.line)
    return same_line and (wanted.column is None or (here.column, here.text) == (wanted.column, wanted.text))


def _edited(edit: AtSite, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if isinstance(edit, OperationArgument):
        return _with_argument(edit, func, args, kwargs)
    if isinstance(edit, OperandMethod):
        return _with_method(edit, args, kwargs)
    return pytree.tree_map_only(torch.Tensor, lambda tensor: _moved(edit, tensor), (args, kwargs))


def _moved(edit: MoveTo, tensor: torch.Tensor) -> torch.Tensor:
    # a bool is a mask, never one of the numbers
    dtype = getattr(torch, edit.dtype) if edit.dtype is not None and tensor.dtype is not torch.bool else None
    return tensor.to(device=edit.device, dtype=dtype)


def _with_method(edit: OperandMethod, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    leaves, shape = pytree.tree_flatten((args, kwargs))
    tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    i = tensors[edit.operand]
    leaves[i] = getattr(leaves[i], edit.method)(*edit.arguments)
    return pytree.tree_unflatten(leaves, shape)


def _with_argument(edit: OperationArgument, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name, value = edit.argument, _value(edit.value)
    if isinstance(name, str):
        # view's sizes are called "size" where it was recorded, "shape" by Tensor.reshape
        if name in ("size", "shape") and name not in kwargs:
            name = next((other for other in ("size", "shape") if other in kwargs), name)
        if name in kwargs:
            return args, {**kwargs, name: value}
        position = _position(func, name)
        if position is None or position >= len(args):
            return args, {**kwargs, name: value}
    else:
        position = name + 1
    if isinstance(value, tuple) and all(type(item) is int for item in args[position:]):
        return (*args[:position], *value), kwargs  # x.view(-1, 8): sizes one by one
    return (*args[:position], value, *args[position + 1 :]), kwargs


def _value(value: int | tuple[int, ...] | str) -> Any:
    dtype = getattr(torch, value, None) if isinstance(value, str) else None
    return dtype if isinstance(dtype, torch.dtype) else value


def _position(func: Any, name: str) -> int | None:
    """Where a function of torch takes an argument of this name."""
    try:
        return list(inspect.signature(func).parameters).index(name)
    except (TypeError, ValueError):  # built in: the operation of the same name tells
        pass
    packet = getattr(torch.ops.aten, getattr(func, "__name__", ""), None)
    for overload in packet.overloads() if packet is not None else ():
        names = [argument.name for argument in getattr(packet, overload)._schema.arguments]
        if name in names:
            return names.index(name)
    return 1 if name in ("size", "shape") else None
