"""A module built anew by its class with other arguments: the rest are taken from its attributes of the same name."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
_SAME = {"kdim": "embed_dim", "vdim": "embed_dim"}  # that follow another argument unless they were given


class Unbuildable(Exception):
    """The arguments that the module was made with cannot be told."""


def rebuilt(module: nn.Module, arguments: dict[str, Any]) -> nn.Module:
    """A module of the same class, device, dtype and mode; raises Unbuildable, or what its `__init__` raises."""
    kind = type(module)
    if parametrize.is_parametrized(module):
        raise Unbuildable("its weights are parametrized")
    given = dict(arguments)
    for name, parameter in _parameters(kind).items():
        if name in given:
            continue
        found = _argument(module, name, arguments)
        if found is not _MISSING:
            if type(found) is not type(parameter.default) or found != parameter.default:  # nn.GRU refuses proj_size=0
                given[name] = found
        elif parameter.default is inspect.Parameter.empty or not _is_torch(kind):
            raise Unbuildable(f"what {name} was cannot be told")
    if isinstance(module, nn.RNN):
        given.setdefault("nonlinearity", module.nonlinearity)  # that RNNBase does not take
    made = kind(**given)
    made.train(module.training)
    for name in _HOOKS:
        made.__dict__[name] = module.__dict__[name]
    old = dict(module.named_parameters())
    for name, one in made.named_parameters():
        if name in old:
            one.requires_grad_(old[name].requires_grad)
    return made


def replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another, under every name that it has."""
    for module in list(root.modules()):
        for name, child in list(module._modules.items()):
            if child is old:
                module._modules[name] = new


_MISSING = object()


def _argument(module: nn.Module, name: str, changed: dict[str, Any]) -> Any:
    if name in ("device", "dtype"):
        first = next(iter(module.parameters()), None)
        return _MISSING if first is None else getattr(first, name)
    if name == "bias" and isinstance(module, nn.MultiheadAttention):
        return module.in_proj_bias is not None
    if name == "add_bias_kv":
        return getattr(module, "bias_k", None) is not None
    value = getattr(module, name, _MISSING)
    if name == "bias" and (value is None or isinstance(value, torch.Tensor)):
        return value is not None
    if name in _SAME and _SAME[name] in changed and value == getattr(module, _SAME[name], None):
        return _MISSING
    return _MISSING if isinstance(value, (torch.Tensor, nn.Module)) or inspect.ismethod(value) else value


def _parameters(kind: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The arguments of the class's `__init__`; where that only hands them on (nn.LSTM), of the next class's."""
    for cls in kind.__mro__:
        if "__init__" not in vars(cls) or cls is nn.Module:
            continue
        found = list(inspect.signature(vars(cls)["__init__"]).parameters.values())[1:]
        if any(one.kind is one.VAR_POSITIONAL for one in found):
            continue
        if any(one.kind is one.VAR_KEYWORD for one in found):
            break
        # nn.LSTM and its like tell RNNBase their mode themselves
        return {one.name: one for one in found if not (cls is nn.RNNBase and cls is not kind and one.name == "mode")}
    raise Unbuildable("its arguments have no names")


def _is_torch(kind: type[nn.Module]) -> bool:
    return kind.__module__.partition(".")[0] == "torch"
