"""One side of a comparison: a model with its inputs, moved to where it is to run; weights taken over from the other."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from tracecall.errors import TracecallError
from tracecall.recording.preserved import preserved


@dataclass
class Side:
    """A model and what it is called with."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str  # what sets it apart: "bfloat16", "cuda:0", "other.py"


def copied(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of one run: it may write into its tensors."""
    return pytree.tree_map_only(torch.Tensor, _clone, (args, kwargs))  # type: ignore[no-any-return]


def moved(side: Side, device: torch.device, dtype: torch.dtype | None) -> Side:
    """The same side there: the model in place, the inputs as copies; `dtype` is for what is floating in both."""

    def there(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    try:
        side.model.to(device, dtype)
        args, kwargs = pytree.tree_map_only(torch.Tensor, there, (side.args, side.kwargs))
    except Exception as error:  # out of memory, an operation that the dtype has not, a module's own `_apply`
        words = [str(device), *([] if dtype is None else [str(dtype).removeprefix("torch.")])]
        raise TracecallError(
            f"{type(side.model).__name__} cannot be moved to {', '.join(words)}: {type(error).__name__}: {error}"
        ) from error
    return Side(side.model, args, kwargs, side.name)


def twin(side: Side) -> Side:
    """A copy of a side, its model included, with the same weights; a lazy model gets its own before that."""
    _make_lazy(side)
    try:
        model = copy.deepcopy(side.model)
    except Exception as error:  # a model may hold anything
        raise TracecallError(
            f"{type(side.model).__name__} cannot be copied ({type(error).__name__}: {error}), so there is no second "
            "one with the same weights; type --against with the same MODEL"
        ) from error
    args, kwargs = copied(side.args, side.kwargs)
    return Side(model, args, kwargs, side.name)


def take_weights(model: nn.Module, other: nn.Module) -> tuple[int, int]:
    """Copy parameters and buffers into those of `other` with their names and shapes; how many were, of how many."""
    ours, theirs = model.state_dict(), other.state_dict()
    tensors = {name: tensor for name, tensor in theirs.items() if isinstance(tensor, torch.Tensor)}
    same = {
        name: ours[name]
        for name, tensor in tensors.items()
        if isinstance(ours.get(name), torch.Tensor) and ours[name].shape == tensor.shape
    }
    other.load_state_dict(same, strict=False)
    return len(same), len(tensors)


def _make_lazy(side: Side) -> None:
    """Run a model with lazy modules once: two copies would each make weights of their own."""
    if any(is_lazy(tensor) for tensor in (*side.model.parameters(), *side.model.buffers())):
        args, kwargs = copied(side.args, side.kwargs)
        with torch.no_grad(), preserved(side.model), suppress(Exception):  # what it raises, the recording shows
            side.model(*args, **kwargs)


def _clone(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)
