"""Run a recorded model again with other inputs and look at the tensors of every call, as far as memory allows.

Each aten operation is matched with the Call that it belonged to in the recording: by its place in the order of
operations, or, inside torch.nn's own forwards, by the module call around it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tracecall.calls import Call, Site, Trace
from tracecall.recording import tensor_specs, values
from tracecall.recording.global_hooks import GlobalHooks
from tracecall.recording.modes import QuietMode, run_unchanged, suited
from tracecall.recording.opaque import COMPILED, opaque
from tracecall.recording.preserved import preserved
from tracecall.recording.recorder import Recorder
from tracecall.recording.sources import storage_id

MOST_BYTES = 256 * 2**20  # of copies that one replay keeps; a larger run is not looked into

Note = Callable[[torch.Tensor], Any]


@dataclass
class Event:
    """One aten operation of a replay, or one input of a module that was asked for; notes are of its plain tensors."""

    func: Any
    call: Call | None
    inputs: list[Any]
    outputs: list[Any]
    module: nn.Module | None = None  # of a module's input


@dataclass
class Replay:
    """What a replay saw, in order, and what the model returned."""

    events: list[Event] = field(default_factory=list)
    output: Any = None
    bytes: int = 0


class Copies:
    """A Note that copies tensors, until they take more than MOST_BYTES."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """A copy; None where there is no room left."""
        self.bytes += tensor.numel() * tensor.element_size()
        return tensor.detach().clone() if self.fits else None

    @property
    def fits(self) -> bool:
        """Whether every tensor was copied."""
        return self.bytes <= MOST_BYTES


class Calls:
    """Where the calls of a recording stand: the call around each, and the calls of each module in order."""

    def __init__(self, trace: Trace, recorder: Recorder) -> None:
        self.trace, self.recorder = trace, recorder
        self.above: dict[int, Call] = {}
        self.of_module: dict[str, list[Call]] = {}
        self.order = {id(call): number for number, (_, call) in enumerate(trace.walk())}
        for _, call in trace.walk():
            if call.kind == "module":
                self.of_module.setdefault(call.path, []).append(call)
            for child in call.children:
                self.above[id(child)] = call

    def own(self, call: Call) -> tuple[Call, Site | None]:
        """A call and its line in the model's own code: the call around it, where the line is torch's."""
        found: Call | None = call
        while found is not None:
            if found.site is not None and not found.site.file.startswith("torch/"):
                return found, found.site
            found = self.above.get(id(found))
        info = self.trace.modules.get(call.path)
        return call, call.site or (info.source if info is not None else None)


def title(call: Call) -> str:
    """A call in a sentence: "F.relu", "fc1 (Linear)"."""
    return f"{call.path} ({call.type})" if call.kind == "module" and call.path else call.name


def plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor has ordinary numbers that can be compared."""
    if type(tensor) not in tensor_specs.PLAIN_TENSORS or tensor.layout is not torch.strided:
        return False
    return not (tensor.is_nested or tensor.is_quantized or tensor.is_meta)


def compiled(calls: Calls) -> bool:
    """Whether a part of the model is compiled: another size, or a hook, would make torch compile it anew."""
    return any(opaque(module) == COMPILED for module in calls.recorder.modules.by_path.values())


def replay(
    calls: Calls,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    note: Note,
    *,
    inputs_of: Callable[[nn.Module], bool] = lambda module: False,
) -> Replay | None:
    """Run the model and note the inputs and outputs of every operation, and the inputs of the modules asked for.

    None if the model raises, or if it does other operations than it did in the recording.
    """
    recorder = calls.recorder
    model = recorder.modules.root
    if compiled(calls):
        return None  # hooks would make torch compile it anew
    found = Replay()
    here = _Here(calls, found, note, inputs_of)
    hooks = GlobalHooks()
    with preserved(model):
        try:
            hooks.attach(here.before, here.after)
            with suited(_Watch)(here):
                found.output = model(*args, **kwargs)
        except Exception:  # the model's own: it does not take these inputs
            return None
        finally:
            hooks.remove()
    done = [event for event in found.events if event.module is None]
    order = recorder.operation_order
    if order and [event.func for event in done] != [func for func, _ in order]:
        return None
    for event, (_, call) in zip(done, order, strict=False):
        event.call = event.call if call is None else call
    return found


class _Here:
    """Where a replay is: the modules that are open."""

    def __init__(self, calls: Calls, found: Replay, note: Note, inputs_of: Callable[[nn.Module], bool]) -> None:
        self.calls, self.found, self.note, self.inputs_of = calls, found, note, inputs_of
        self.open: list[tuple[nn.Module, Call | None]] = []
        self.counts: Counter[str] = Counter()
        # they are the same in every run, and the largest tensors of many
        parameters = calls.recorder.modules.root.parameters()
        self.parameters = {storage_id(one) for one in parameters if not torch.nn.parameter.is_lazy(one)}

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        path = self.calls.recorder.modules.paths.get(id(module))
        if path is None:
            return
        listed = self.calls.of_module.get(path, [])
        call = listed[self.counts[path]] if self.counts[path] < len(listed) else None
        self.counts[path] += 1
        self.open.append((module, call))
        if self.inputs_of(module) and args and isinstance(args[0], torch.Tensor) and plain(args[0]):
            with torch.no_grad(), torch.utils._python_dispatch._disable_current_modes():
                self.found.events.append(Event(None, call, [self.note(args[0])], [], module))

    def after(self, module: nn.Module, *rest: Any) -> None:
        if any(one is module for one, _ in self.open):
            while self.open.pop()[0] is not module:
                pass


class _Watch(QuietMode):
    """Notes the tensors of every operation before and after it."""

    def __init__(self, here: _Here) -> None:
        super().__init__()
        self._here = here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        unset = "empty" in str(func)  # what such an operation returns is whatever was in memory
        inputs = [] if unset else self._notes((args, kwargs or {}))
        output = run_unchanged(func, args, kwargs)
        here = self._here
        call = here.open[-1][1] if here.open else None
        here.found.events.append(Event(func, call, inputs, [] if unset else self._notes((output,))))
        return output

    def _notes(self, tensors: Any) -> list[Any]:
        here = self._here
        with torch.no_grad():
            return [
                here.note(one)
                for one in values.tensors(tensors)
                if plain(one) and storage_id(one) not in here.parameters
            ]
