"""One proposal's edits carried out on a copy: other inputs, other modules, other arguments of one line's operation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tracecall.calls import ModuleInfo
from tracecall.proposals import (
    Edit,
    InputDtype,
    InputLeftOut,
    InputRange,
    InputShape,
    ModelDtype,
    ModelMode,
    ModuleArguments,
    MoveTo,
    OperandMethod,
    OperationArgument,
    SearchSizes,
)
from tracecall.symbolic.at_site import EditCalls
from tracecall.symbolic.rebuilding import rebuilt, replace


class CannotCarryOut(Exception):
    """An edit does not say what to do here: no such input, no such module, an unknown kind."""


@dataclass
class Attempt:
    """What to run: a model, which inputs are others than the given ones, and what is around the run."""

    model: nn.Module
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    around: list[contextlib.AbstractContextManager[Any]] = field(default_factory=list)


def carried_out(
    edits: Iterable[Edit], model: nn.Module, inputs: dict[str, torch.Tensor], modules: dict[str, ModuleInfo]
) -> Attempt:
    """Edit the model in place (it is a copy) and make the other inputs; a search is left to who searches.

    Raises CannotCarryOut, or what building a module anew raises.
    """
    attempt = Attempt(model)
    at_site: list[OperationArgument | OperandMethod | MoveTo] = []
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    ranges: dict[str, tuple[int, int]] = {}
    for edit in edits:
        match edit:
            case InputShape(where, shape):
                shapes[where] = shape
            case InputDtype(where, dtype):
                dtypes[where] = dtype
            case InputRange(where, low, high):
                ranges[where] = (low, high)
            case InputLeftOut(where):
                attempt.left_out.add(where)
            case ModelDtype(dtype):
                _convert(attempt.model, _dtype(dtype))
            case ModelMode(training):
                attempt.model.train(training)
            case ModuleArguments(path, arguments):
                old = _module(attempt.model, path, modules)
                new = rebuilt(old, arguments)
                if old is attempt.model:
                    attempt.model = new
                else:
                    replace(attempt.model, old, new)
            case OperationArgument() | OperandMethod() | MoveTo():
                at_site.append(edit)
            case SearchSizes():
                pass
            case _:
                raise CannotCarryOut(type(edit).__name__)
    for where in {*shapes, *dtypes, *ranges}:
        if where not in inputs:
            raise CannotCarryOut(f"no input {where}")
        attempt.inputs[where] = _input(inputs[where], shapes.get(where), dtypes.get(where), ranges.get(where))
    if at_site:
        attempt.around.append(EditCalls(attempt.model, at_site))
    return attempt


def resized(tensor: torch.Tensor, sizes: dict[int, int]) -> torch.Tensor:
    """An input like another with other sizes of some dimensions; raises CannotCarryOut where it lacks one of them."""
    shape = list(tensor.shape)
    for dim, size in sizes.items():
        if not -len(shape) <= dim < len(shape):
            raise CannotCarryOut(f"no dimension {dim}")
        shape[dim] = size
    return _input(tensor, tuple(shape), None, None)


def _input(
    old: torch.Tensor, shape: tuple[int, ...] | None, dtype: str | None, numbers: tuple[int, int] | None
) -> torch.Tensor:
    """Another input tensor. Where its numbers cannot be the old ones they are noughts, which every index allows."""
    wanted = old.dtype if dtype is None else _dtype(dtype)
    size = tuple(old.shape) if shape is None else shape
    if numbers is not None:
        low, high = numbers
        made = torch.full(size, low, dtype=wanted, device=old.device)
        made.view(-1)[::2] = high  # both ends of the range
        return made
    as_index = old.is_floating_point() and not wanted.is_floating_point
    if shape is None and not as_index:
        return old.detach().to(wanted)
    make = torch.randn if wanted.is_floating_point else torch.zeros
    made = make(size, dtype=wanted, device=old.device)
    return made.requires_grad_() if old.requires_grad and wanted.is_floating_point else made


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise CannotCarryOut(f"no dtype {name}")
    return found


def _convert(model: nn.Module, dtype: torch.dtype) -> None:
    """What model.to(dtype) does, with new tensors in place of the old: the copy is put back from its dictionaries."""
    made: dict[int, Any] = {}  # shared parameters stay shared
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in list(held.items()):
                if tensor is None or not tensor.is_floating_point():
                    continue
                if id(tensor) not in made:
                    new = tensor.detach().to(dtype)
                    is_parameter = isinstance(tensor, nn.Parameter)
                    made[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if is_parameter else new
                held[name] = made[id(tensor)]
        if isinstance(module, nn.RNNBase):
            module._init_flat_weights()  # it keeps a list of its weights beside them


def _module(root: nn.Module, path: str, modules: dict[str, ModuleInfo]) -> nn.Module:
    """The module at a path of the trace, whose aliases name it too."""
    info = modules.get(path)
    for name in (path, *(info.aliases if info is not None else ())):
        with contextlib.suppress(AttributeError):
            return root.get_submodule(name)
    raise CannotCarryOut(f"no module {path}")
