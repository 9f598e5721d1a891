"""Clocks in hooks: what one timing run of a model writes down, and the tracer's own time taken out of it.

A clock is read as each hook is entered and as it is left: what lies between is the tracer's own time and is taken out
of every call around it. What hooks cost outside of their own bodies is an Overhead; calibration.py measures it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from tracecall.recording.global_hooks import GlobalHooks
from tracecall.recording.modes import QuietMode, run_unchanged
from tracecall.recording.opaque import Curtain
from tracecall.recording.user_hooks import WatchedHook, always_called, is_last, listen, stop_listening, watch

Clock = Callable[[], int]

_CALL_IMPL = nn.Module._call_impl.__code__


@dataclass(frozen=True)
class Overhead:
    """What a pair of clock hooks costs a module call outside of their bodies, in nanoseconds."""

    around: float = 0.0  # added to every call around it
    within: float = 0.0  # between the hooks of the call itself, beyond what the same call costs untraced
    operation: float = 0.0  # a dispatch mode around one operation, inside of what its clock sees


@dataclass(frozen=True)
class Timed:
    """One module call of a timing run, in call order; nanoseconds with the tracer's own time taken out."""

    module: object
    total: float
    inside: float  # the totals of the module calls directly inside it


class Clocks:
    """The clock hooks of timing runs; `events` holds (entered, module or hook or None at the end, left) in a row.

    `leaving` is the clock that is read as a hook is left, if it is another one.
    """

    def __init__(self, clock: Clock = time.perf_counter_ns, leaving: Clock | None = None) -> None:
        leaving = leaving or clock
        raised = object()
        self.events: list[Any] = []
        self._watched: list[WatchedHook] = []
        extend, owner, ident = self.events.extend, threading.get_ident(), threading.get_ident
        watched = self._watched
        # threads that may call modules: mostly there is none, and then a call's end need not ask which one it runs in
        self._others = others = set[int | None]()
        global_hooks, get_frame = torch_module._global_forward_hooks, sys._getframe

        def before(module: nn.Module, args: object) -> None:
            entered = clock()
            if ident() == owner:
                extend((entered, module, leaving()))
            else:
                others.add(ident())

        def after(module: nn.Module, args: object, kwargs: object, output: object = raised) -> None:
            entered = clock()
            if others and ident() != owner:
                return
            # where forward returned, torch gives kwargs too; if the user's hooks follow, the last of them ends the call
            if watched and (
                always_called(module) if output is raised else module._forward_hooks or len(global_hooks) > 1
            ):
                return
            extend((entered, None, leaving()))

        def user_hook(watcher: WatchedHook, module: nn.Module, rest: tuple[Any, ...]) -> object:
            entered = clock()
            if ident() != owner:
                return watcher.hook(module, *rest)
            # torch runs hooks in `_call_impl` itself only after an exception, else in a function inside of it
            last = is_last(watcher, module, raised=get_frame(2).f_code is _CALL_IMPL)
            extend((entered, watcher, leaving()))
            try:
                return watcher.hook(module, *rest)
            finally:
                entered = clock()
                extend((entered, None, leaving()))
                if last:
                    entered = clock()
                    extend((entered, None, leaving()))

        self._hooks = GlobalHooks()
        self._before, self._after, self._user_hook = before, after, user_hook
        # marks of a device's work are no times to add to; and what hides hooks there is none of the device's work
        self._hiding_clock = clock if leaving is clock else None
        self._owner = owner

    @contextmanager
    def attached(self, modules: list[nn.Module]) -> Iterator[None]:
        """Clocks around every module call and every user hook, gone when the block ends.

        Hooks are those on `modules`, global ones, and those that are registered inside the block.
        """
        self._others |= {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        hooks = self._hooks
        curtain = Curtain(modules, lambda: _Hidden(self))
        watched = self._watched

        def own(hook: Any) -> bool:
            return hook is self._before or hook is self._after

        def heard(module: nn.Module) -> None:
            watched.extend(watch([module], self._user_hook, own, scope="module"))

        try:
            hooks.attach(self._before, self._after)
            watched.extend(watch(modules, self._user_hook, own))
            listen(heard)
            curtain.attach(self._compiled_call)
            yield
        finally:
            hooks.remove()
            stop_listening(heard)
            for watcher in watched:
                watcher.put_back()
            watched.clear()
            curtain.put_back()

    def _compiled_call(self, module: nn.Module, compiled: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._before(module, args)
        try:
            with _Hidden(self):
                return compiled(*args, **kwargs)
        finally:
            self._after(module, args, None)


class _Hidden:
    """Clock hooks out of sight of compiled code; what that takes counts as time of the hook that opened the call."""

    def __init__(self, clocks: Clocks) -> None:
        self._clock = clocks._hiding_clock
        self._begun = self._now()
        self._events, self._owner = clocks.events, clocks._owner
        self._hidden = clocks._hooks.hidden()

    def __enter__(self) -> None:
        self._hidden.__enter__()
        self._count()

    def __exit__(self, *raised: Any) -> None:
        self._begun = self._now()
        self._hidden.__exit__(*raised)
        self._count()

    def _now(self) -> int:
        return 0 if self._clock is None else self._clock()

    def _count(self) -> None:
        # the last event is still the one that opened this call: inside, the hooks were hidden
        if self._clock is not None and self._events and threading.get_ident() == self._owner:
            self._events[-1] += self._clock() - self._begun


class OperationClocks(QuietMode):
    """Times every operation where it is dispatched; `events` holds (operation, nanoseconds)."""

    def __init__(self, clock: Clock = time.perf_counter_ns) -> None:
        super().__init__()
        self.events: list[tuple[Any, int]] = []
        self._clock = clock

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begun = self._clock()
        try:
            return run_unchanged(func, args, kwargs)
        finally:
            self.events.append((func, self._clock() - begun))


def timed_calls(events: list[Any], overhead: Overhead) -> list[Timed] | None:
    """The calls of one timing run with the tracer's time taken out; None if a call never ended (an interrupt)."""
    found: list[Timed | None] = []
    # of each open call: its place in `found`, its module, when it began, the tracer's time inside, its children's time
    stack: list[list[Any]] = []
    for i in range(0, len(events), 3):
        entered, module, left = events[i : i + 3]
        if module is not None:
            found.append(None)
            stack.append([len(found) - 1, module, left, float(left - entered), 0.0, 0.0])
            continue
        if not stack:
            return None
        place, begun_module, begun, own, tracer, children = stack.pop()
        total = max(0.0, entered - begun - tracer - overhead.within)
        found[place] = Timed(begun_module, total, children)
        if stack:
            stack[-1][4] += tracer + own + (left - entered) + overhead.around
            stack[-1][5] += total
    return None if stack else [call for call in found if call is not None]
