"""The tracer's own pair of global hooks: before the user's, out of sight of compiled code, gone without a trace."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules import module as torch_module

_TABLES: tuple[Any, ...] = (torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks)
_MARKS: tuple[Any, ...] = (
    torch_module._global_forward_hooks_with_kwargs,
    torch_module._global_forward_hooks_always_called,
)


class GlobalHooks:
    """One forward pre-hook and one forward hook on every module of the process, until `remove`."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def attach(self, before: Callable[..., None], after: Callable[..., None]) -> None:
        """Register both, first in line: a user's global hook then runs inside a call that is open already.

        `after` is called as (module, args, kwargs, output), and as (module, args, output) where forward raised.
        """
        self._handles.append(torch_module.register_module_forward_pre_hook(before))
        self._handles.append(torch_module.register_module_forward_hook(after, with_kwargs=True, always_call=True))
        for table, handle in zip(_TABLES, self._handles, strict=True):
            assert isinstance(table, OrderedDict)
            table.move_to_end(handle.id, last=False)

    def remove(self) -> None:
        """Take both out, with the marks that torch 2.13's own handle leaves in its tables."""
        for handle in self._handles:
            handle.remove()
            for marks in _MARKS:
                marks.pop(handle.id, None)
        self._handles = []

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Without the user's global forward hooks for a while; the same ones in the same order afterwards."""
        tables = (*_TABLES, *_MARKS)
        kept = [list(table.items()) for table in tables]
        own = {handle.id for handle in self._handles}
        for table in tables:
            for key in [key for key in table if key not in own]:
                del table[key]
        try:
            yield
        finally:
            for table, items in zip(tables, kept, strict=True):
                table.clear()
                table.update(items)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Out of torch's tables for a while, then back in front."""
        taken = [
            (table, handle.id, table.pop(handle.id))
            for handle in self._handles
            for table in (*_TABLES, *_MARKS)
            if handle.id in table
        ]
        try:
            yield
        finally:
            for table, key, kept in taken:
                table[key] = kept
                table.move_to_end(key, last=False)
