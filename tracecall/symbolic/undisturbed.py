"""Run other things with the user's code, and leave what that code can reach as it was.

A copy of a model shares its hooks' closures with the model, and whatever else is no module, list or tensor of it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from torch import nn

from tracecall.recording.preserved import preserved


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run other things with the user's code: silent, and what that code can reach is afterwards as before."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")  # it logs every operation that does not fit
    disabled = logger.disabled
    logger.disabled = True
    try:
        with (
            preserved(model),
            kept(model, hooks=True),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


@contextlib.contextmanager
def kept(model: nn.Module, *, hooks: bool = False) -> Iterator[None]:
    """Put back the attributes of every module: a forward may set some, and lists and dictionaries in them.

    With `hooks` also the lists and dictionaries that its hooks hold in closures: what activations are collected in.
    """
    modules = list(model.modules())
    attributes = [(vars(module), dict(vars(module))) for module in modules]
    held = [value for _, before in attributes for value in before.values()]
    if hooks:
        held += [value for module in modules for hook in _hooks(module) for value in _reached(hook)]
    containers = [(one, _KINDS[kind](one)) for one in held for kind in _KINDS if isinstance(one, kind)]
    try:
        yield
    finally:
        for now, before in attributes:
            now.clear()
            now.update(before)
        for one, before in containers:
            _put_back(one, before)


_KINDS: dict[type, Any] = {list: list, dict: dict, set: set}


def _put_back(one: Any, before: Any) -> None:
    if isinstance(one, list):
        one[:] = before
    else:
        one.clear()
        one.update(before)


def _hooks(module: nn.Module) -> list[Any]:
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def _object(owner: object) -> list[Any]:
    """An object, its attributes, and what is in them; a module's own are kept with the model."""
    own = getattr(owner, "__dict__", {})
    return [] if isinstance(owner, nn.Module) or not isinstance(own, dict) else [owner, own, *own.values()]


def _reached(hook: object) -> list[Any]:
    """What a hook holds: in its closure, in its defaults, in the object that it is a method of, by a global name."""
    if isinstance(hook, MethodType):
        owner = hook.__self__
        return [*_object(owner), *_reached(hook.__func__)]
    if not isinstance(hook, FunctionType):
        return _object(hook)
    cells = []
    for cell in hook.__closure__ or ():
        with contextlib.suppress(ValueError):  # a cell that is still empty
            cells.append(cell.cell_contents)
    named = [hook.__globals__[name] for name in hook.__code__.co_names if name in hook.__globals__]
    return [*cells, *(hook.__defaults__ or ()), *named]
