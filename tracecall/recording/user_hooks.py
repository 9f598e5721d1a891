"""The user's own forward pre-hooks and forward hooks, watched where they stand so that each run of one is a call.

A watched hook takes the place of the user's function in torch's own dictionary: nothing is added or moved, so torch
runs the same hooks in the same order, and a module without hooks stays without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, MutableMapping
from types import CodeType
from typing import Any, Literal

from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.calls import Hook, Site
from tracecall.recording.sites import shown_path

Run = Callable[["WatchedHook", nn.Module, tuple[Any, ...]], Any]
Table = MutableMapping[int, Any]


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
    everywhere = list(_global_hooks()) if scope == "all" else []
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


def _global_hooks() -> Iterator[tuple[Table, int, Callable[..., Any], Hook]]:
    for key, hook in list(torch_module._global_forward_pre_hooks.items()):
        yield torch_module._global_forward_pre_hooks, key, hook, Hook("forward pre-hook", "global")
    for key, hook in list(torch_module._global_forward_hooks.items()):
        with_kwargs = key in torch_module._global_forward_hooks_with_kwargs
        always = key in torch_module._global_forward_hooks_always_called
        yield torch_module._global_forward_hooks, key, hook, Hook("forward hook", "global", with_kwargs, always)


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
