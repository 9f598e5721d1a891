"""What is to be shown of a run, `--only PATH` and `--filter TYPE`, held against the model before it is run.

Only what cannot come up is refused: a forward may build modules, call operations and register hooks, whose types are
not known yet. What is left is refused after the run, in `tracecall.folding`.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

import torch
from torch import nn

from tracecall.calls import Call, Environment, ModelInfo, ModuleInfo, Trace
from tracecall.errors import TracecallError
from tracecall.folding import folded
from tracecall.recording.user_hooks import global_hooks, hook_name, module_hooks

_NAMED = 6  # types that an error lists
_WILD = "*?["
_BUILT = "<"  # in the path of a module that a forward builds: "block.<Linear>"


def check_chosen(model: nn.Module, only: str | None, types: str | None) -> None:
    """Refuse a path that is not in the model, and a type that no module, operation or hook can have."""
    if only is not None:
        _check_path(model, only)
    for one in (types or "").split(","):
        if one.strip():
            _check_type(model, one.strip())


def _check_path(model: nn.Module, only: str) -> None:
    if any(character in only for character in _BUILT + _WILD):
        return
    try:
        model.get_submodule(only)
    except AttributeError:
        name = type(model).__name__
        infos = {path: ModuleInfo(path, type(module).__name__) for path, module in model.named_modules()}
        calls = [Call("module", path, path, info.type) for path, info in infos.items()]
        # all modules as if they had been called: what is left to refuse is the path, in the same words as after a run
        folded(Trace(ModelInfo(name), Environment("", ""), modules=infos, calls=calls), fold=False, only=only)


def _check_type(model: nn.Module, wanted: str) -> None:
    """Operations have a dot in their names, or are torch's higher-order ones; the classes of modules exist by now."""
    if "." in wanted or any(character in wanted for character in _WILD) or wanted in torch._ops._higher_order_ops:
        return
    known = {type(module).__name__.lower(): type(module).__name__ for module in model.modules()}
    if wanted.lower() in known or any(name.lower() == wanted.lower() for name in (*_classes(), *_hooks(model))):
        return
    near = [known[one] for one in get_close_matches(wanted.lower(), known, n=3, cutoff=0.6)]
    listed = ", ".join(list(known.values())[:_NAMED])
    hint = f"did you mean {' or '.join(near)}?" if near else f"type one of {listed}{_more(len(known) - _NAMED)}"
    raise TracecallError(f"--filter {wanted}: {type(model).__name__} has no module of that type; {hint}")


def _more(number: int) -> str:
    return f" … ({number} more)" if number > 0 else ""


def _classes() -> Iterator[str]:
    """The names of all classes of modules that there are: a forward may build any."""
    waiting: list[type[nn.Module]] = [nn.Module]
    while waiting:
        one = waiting.pop()
        yield one.__name__
        waiting.extend(one.__subclasses__())


def _hooks(model: nn.Module) -> Iterator[str]:
    """The names of the functions of hooks that are there by now: a hook's type is its function."""
    for _, _, hook, _ in (*global_hooks(), *(found for module in model.modules() for found in module_hooks(module))):
        yield hook_name(hook)
