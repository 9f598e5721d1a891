"""The user's own forward pre-hooks and forward hooks, watched where they stand so that each run of one is a call.

A watched hook takes the place of the user's function in torch's own dictionary: nothing is added or moved, so torch
runs the same hooks in the same order, and a module without hooks stays without. Hooks that are registered while a
recording runs are heard of by `listening`, before the module is called: torch lists a call's pre-hooks before it runs
the first of them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, MutableMapping
from types import CodeType
from typing import Any, Literal

from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.calls import Hook, Site
from tracecall.recording.sites import shown_path

Run = Callable[["WatchedHook", nn.Module, tuple[Any, ...]], Any]
Table = MutableMapping[int, Any]
Heard = Callable[[nn.Module], None]

_REGISTERING = ("register_forward_pre_hook", "register_forward_hook")
_listening: list[Heard] = []
_lock = threading.Lock()


class WatchedHook:
    """Stands for one user hook in one dictionary while a recording runs, and for ever calls it if it was copied."""

    __slots__ = ("active", "hook", "info", "key", "run", "table")

    def __init__(self, table: Table, key: int, hook: Callable[..., Any], info: Hook, run: Run) -> None:
        self.table, self.key, self.hook, self.info, self.run = table, key, hook, info, run
        self.active = True

    def __call__(self, module: nn.Module, *rest: Any) -> Any:
        """Run as torch runs a hook."""
        return self.run(self, module, rest) if self.active else self.hook(module, *rest)

    def put_back(self) -> None:
        """Undo: the user's function is in its place again, unless it was removed meanwhile."""
        self.active = False
        if self.table.get(self.key) is self:
            hook = self.hook
            # a recording that began earlier may have ended earlier: do not put its watcher back
            while isinstance(hook, WatchedHook) and not hook.active:
                hook = hook.hook
            self.table[self.key] = hook


def watch(
    modules: list[nn.Module], run: Run, own: Callable[[Any], bool], scope: Literal["module", "all"] = "all"
) -> list[WatchedHook]:
    """Watch every hook on these modules, and with scope "all" every global one, but not the tracer's `own`."""
    watched = []
    everywhere = list(global_hooks()) if scope == "all" else []
    for table, key, hook, info in [*everywhere, *(found for module in modules for found in module_hooks(module))]:
        if not own(hook) and not _is_watched(hook, run):
            watcher = WatchedHook(table, key, hook, info, run)
            table[key] = watcher
            watched.append(watcher)
    return watched


def _is_watched(hook: Any, run: Run) -> bool:
    """Whether the same recording watches this hook already, perhaps under the watcher of another."""
    while isinstance(hook, WatchedHook):
        if hook.active and hook.run == run:
            return True
        hook = hook.hook
    return False


def module_hooks(module: nn.Module) -> Iterator[tuple[Table, int, Callable[..., Any], Hook]]:
    """The forward pre-hooks and forward hooks on one module, in the order in which torch runs them."""
    for key, hook in list(module._forward_pre_hooks.items()):
        with_kwargs = key in module._forward_pre_hooks_with_kwargs
        yield module._forward_pre_hooks, key, hook, Hook("forward pre-hook", "module", with_kwargs)
    for key, hook in list(module._forward_hooks.items()):
        with_kwargs, always = key in module._forward_hooks_with_kwargs, key in module._forward_hooks_always_called
        yield module._forward_hooks, key, hook, Hook("forward hook", "module", with_kwargs, always)


def global_hooks() -> Iterator[tuple[Table, int, Callable[..., Any], Hook]]:
    """The forward pre-hooks and forward hooks that run for every module, the tracer's own among them."""
    for key, hook in list(torch_module._global_forward_pre_hooks.items()):
        yield torch_module._global_forward_pre_hooks, key, hook, Hook("forward pre-hook", "global")
    for key, hook in list(torch_module._global_forward_hooks.items()):
        with_kwargs = key in torch_module._global_forward_hooks_with_kwargs
        always = key in torch_module._global_forward_hooks_always_called
        yield torch_module._global_forward_hooks, key, hook, Hook("forward hook", "global", with_kwargs, always)


def is_last(watcher: WatchedHook, module: nn.Module, raised: bool) -> bool:
    """Whether torch runs no hook of this call after this one; after an exception only always_call ones run."""
    if watcher.info.when != "forward hook":
        return False
    if raised:
        return _last_always_called(module) == watcher.key
    table = module._forward_hooks or torch_module._global_forward_hooks
    return next(reversed(table), None) == watcher.key


def always_called(module: nn.Module) -> bool:
    """Whether the user has hooks that torch runs for this module though forward raised; the tracer's own is one."""
    return bool(module._forward_hooks_always_called) or len(torch_module._global_forward_hooks_always_called) > 1


def more_always_called(watcher: WatchedHook, module: nn.Module) -> bool:
    """Whether torch still runs a hook of this call after this forward hook has raised."""
    keys = [*torch_module._global_forward_hooks, *module._forward_hooks]
    later = keys[keys.index(watcher.key) + 1 :] if watcher.key in keys else keys
    marks = (torch_module._global_forward_hooks_always_called, module._forward_hooks_always_called)
    return any(key in mark for key in later for mark in marks)


def _last_always_called(module: nn.Module) -> int | None:
    for table, marks in (
        (module._forward_hooks, module._forward_hooks_always_called),
        (torch_module._global_forward_hooks, torch_module._global_forward_hooks_always_called),
    ):
        for key in reversed(table):
            if key in marks:
                return int(key)
    return None


def listen(heard: Heard) -> None:
    """Tell `heard` of every module on which a hook is registered, as soon as it is, until `stop_listening`."""
    with _lock:
        if not _listening:
            for name in _REGISTERING:
                setattr(nn.Module, name, _telling(nn.Module.__dict__[name]))
        _listening.append(heard)


def stop_listening(heard: Heard) -> None:
    """Undo; with nobody listening, nn.Module has torch's own methods again."""
    with _lock:
        if heard not in _listening:
            return
        _listening.remove(heard)
        for name in _REGISTERING:
            register = nn.Module.__dict__[name]
            if not _listening and hasattr(register, _TORCHS_OWN):
                setattr(nn.Module, name, getattr(register, _TORCHS_OWN))


_TORCHS_OWN = "tracecall_torchs_own"


def _telling(register: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(register)
    def telling(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        handle = register(self, *args, **kwargs)
        for heard in tuple(_listening):
            heard(self)
        return handle

    setattr(telling, _TORCHS_OWN, register)
    return telling


def plain(hook: Any) -> Any:
    """The user's function under watchers."""
    while isinstance(hook, WatchedHook):
        hook = hook.hook
    return hook


def hook_name(hook: Any) -> str:
    """The function's name, or the class of a callable object."""
    hook = plain(hook)
    while isinstance(hook, functools.partial):
        hook = hook.func
    return str(getattr(hook, "__qualname__", type(hook).__qualname__)).replace("<locals>.", "")


def hook_site(hook: Any) -> Site | None:
    """Where the hook's function is written."""
    hook = plain(hook)
    while isinstance(hook, functools.partial):
        hook = hook.func
    code = getattr(getattr(hook, "__func__", hook), "__code__", None)
    if code is None:  # an object with a `__call__`
        code = getattr(type(hook).__call__, "__code__", None) if callable(hook) else None
    if not isinstance(code, CodeType):
        return None
    return Site(shown_path(code.co_filename), code.co_firstlineno, function=code.co_qualname)
