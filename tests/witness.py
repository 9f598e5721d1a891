"""An independent witness: the module calls of a run that nothing watches but torch.profiler, to hold a Trace against.

The profiler hooks into the interpreter and not into any module: what it saw happened without a single hook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tracecall.calls import Trace

NOT_IN_THE_MODEL = "<built inside>"


class Seen(NamedTuple):
    """One module call: how many module calls are open around it in its thread, its class, the module's path."""

    depth: int
    type: str
    path: str  # NOT_IN_THE_MODEL for a module that a forward built

    def __str__(self) -> str:
        return f"{'  ' * self.depth}{self.type} {self.path}".rstrip()


def witness(model: nn.Module, run: Callable[[], object]) -> list[list[Seen]]:
    """The module calls that `run` makes, one list for each thread in which it saw one, the root's first.

    On Python 3.11 the profiler does not see threads that begin while it runs. It knows a module by its address: a path
    is the module's own, whatever others share its class.
    """
    # the event tree is an inside of torch: pyproject's lower bound on torch says where it was seen
    settings = torch._C._profiler._ExperimentalConfig(verbose=True)
    with profile(
        activities=[ProfilerActivity.CPU], with_stack=True, with_modules=True, experimental_config=settings
    ) as profiler:
        run()
    kineto = profiler.profiler
    assert kineto is not None and kineto.kineto_results is not None
    paths = {id(module): path for path, module in model.named_modules()}
    threads: dict[int, list[Seen]] = {}
    roots = sorted(kineto.kineto_results.experimental_event_tree(), key=lambda event: event.start_time_ns)
    waiting: list[tuple[int, Any]] = [(0, root) for root in reversed(roots)]
    while waiting:
        depth, event = waiting.pop()
        kind, fields = event.typed
        if kind == torch._C._profiler._EventType.PyCall and fields.module is not None:
            module = fields.module
            path = paths.get(module.self_ptr, NOT_IN_THE_MODEL)
            threads.setdefault(event.start_tid, []).append(Seen(depth, module.cls_name, path))
            depth += 1
        waiting.extend((depth, child) for child in reversed(event.children))
    return _root_first(threads)


def recorded(model: nn.Module, trace: Trace) -> list[list[Seen]]:
    """The module calls of a Trace in the witness's form."""
    paths = {path for path, _ in model.named_modules()}
    threads: dict[str | None, list[Seen]] = {}
    above: list[tuple[bool, str | None]] = []  # of each open call: is it a module's, and the thread it runs in
    for depth, call in trace.walk():
        del above[depth:]
        outer = above[-1][1] if above else None
        thread = call.thread or outer
        above.append((call.kind == "module", thread))
        if call.kind == "module":
            modules_around = sum(is_module and other == thread for is_module, other in above[:-1])
            path = call.path if call.path in paths else NOT_IN_THE_MODEL
            threads.setdefault(thread, []).append(Seen(modules_around, call.type, path))
    return _root_first(threads)


def _root_first(threads: dict[Any, list[Seen]]) -> list[list[Seen]]:
    return sorted(threads.values(), key=lambda calls: calls[0].path != "")


def drawn(threads: list[list[Seen]]) -> list[str]:
    """Calls as indented lines: pytest shows the difference of two such lists as a reader would want it."""
    return [line for i, calls in enumerate(threads) for line in ([f"thread {i}"] if i else []) + [*map(str, calls)]]
