"""Two models side by side: each is recorded, and the outputs of the calls that both made are compared one by one.

The first runs and its outputs are kept on the CPU; the second runs and compares its own as they come, so each kept
output goes as soon as its partner is there. Where they would take more than MOST_BYTES, both run again for the rest:
the limit is of memory, never of what is compared. Every run starts from the same random state and its own copy of the
inputs, and leaves the model and torch as they were.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tracecall.calls import Call, CallError, Trace
from tracecall.recording import _record
from tracecall.recording.global_hooks import GlobalHooks
from tracecall.recording.kept_outputs import Kept, kept, size
from tracecall.recording.modes import QuietMode, run_unchanged, suited
from tracecall.recording.opaque import COMPILED, opaque
from tracecall.recording.output_errors import OutputError, output_error
from tracecall.recording.preserved import preserved
from tracecall.recording.recorder import Operations, Recorder
from tracecall.recording.sides import Side, copied

MOST_BYTES = 2**30  # of outputs that are kept at a time; one that is larger is kept alone

Pairing = Callable[[Trace, Trace], Iterable[tuple[Call, Call]]]  # the calls that both made
Progress = Callable[[str], None]


@dataclass
class Lockstep:
    """Both recordings, and the error of each pair's output, as the calls ended; pairs by the first's call, by id."""

    traces: tuple[Trace, Trace]
    errors: dict[int, OutputError] = field(default_factory=dict)
    uncompared: int = 0  # pairs of calls whose outputs could not be had again
    passes: int = 0


def lockstep(
    first: Side,
    second: Side,
    pairing: Pairing,
    *,
    inference: bool = True,
    operations: Operations = "forward",
    seed: int = 0,
    progress: Progress = lambda _: None,
    most_bytes: int = MOST_BYTES,
) -> Lockstep:
    """Record both models, pair their calls and compare the outputs of each pair.

    A forward that raises ends its side: the exception is in that Trace's `error`, and the calls before it are compared.
    Outputs are those of `forward`; the root's is what the model returned.
    """
    with torch.inference_mode() if inference else nullcontext(), preserved(first.model), preserved(second.model):
        runs = []
        for side in (first, second):
            progress(f"recording {side.name}")
            runs.append(_Run(side, seed, operations))
        found = Lockstep((runs[0].trace, runs[1].trace))
        pairs = [pair for pair in pairing(*found.traces) if all(call.output and not call.error for call in pair)]
        waiting = {id(one): id(other) for one, other in pairs}
        while waiting:
            found.passes += 1
            progress(f"comparing {len(waiting)} outputs")
            keep = _Keep(waiting, most_bytes)
            runs[0].again(keep)
            if not keep.outputs:
                break
            runs[1].again(_Compare(keep, waiting, found.errors))
            for one in keep.taken:
                waiting.pop(one)
        missing = sum(one not in found.errors for one, _ in ((id(a), b) for a, b in pairs))
        found.uncompared = missing
    return found


class _Keep:
    """Takes the outputs of the first run, by its call's id, while there is room."""

    def __init__(self, wanted: dict[int, int], most_bytes: int) -> None:
        self.wanted, self.room = wanted, most_bytes
        self.outputs: dict[int, Kept] = {}
        self.taken: list[int] = []

    def __call__(self, call: int, output: object) -> None:
        if call not in self.wanted or call in self.outputs or self.room <= 0:
            return
        copies = kept(output)
        self.room -= size(copies)
        if self.room >= 0 or not self.outputs:
            self.outputs[call] = copies
            self.taken.append(call)


class _Compare:
    """Holds the outputs of the second run against the kept ones, and lets go of both."""

    def __init__(self, keep: _Keep, pairs: dict[int, int], errors: dict[int, OutputError]) -> None:
        self.outputs, self.errors = keep.outputs, errors
        self.partner = {pairs[one]: one for one in keep.taken}

    def __call__(self, call: int, output: object) -> None:
        one = self.partner.get(call)
        if one is not None and one in self.outputs:
            self.errors[one] = output_error(self.outputs.pop(one), kept(output))


class _Run:
    """One side: its recording, and the way to run it again and be told the output of each recorded call."""

    def __init__(self, side: Side, seed: int, operations: Operations) -> None:
        self.side, self.seed = side, seed
        recorder = Recorder(side.model, operations)
        torch.manual_seed(seed)
        args, kwargs = copied(side.args, side.kwargs)
        self.trace = _record(recorder, args, kwargs, reraise=False)
        recorder.output = None
        self.paths = recorder.modules.paths
        self.order = [(func, None if call is None else id(call)) for func, call in recorder.operation_order]
        self.last = {call: i for i, (_, call) in enumerate(self.order) if call is not None}
        self.calls: dict[str, list[int]] = {}
        for call in _in_this_thread(self.trace):
            self.calls.setdefault(call.path, []).append(id(call))
        # hooks and modes would make torch compile it anew: then only what the model returns is looked at
        self.compiled = any(opaque(module) == COMPILED for module in side.model.modules())

    def again(self, note: Callable[[int, object], None]) -> None:
        """Run once more, from the same random state, and hand over the output of each call as it ends."""
        args, kwargs = copied(self.side.args, self.side.kwargs)
        watch = _Watch(self, note)
        hooks = GlobalHooks()
        with preserved(self.side.model):
            torch.manual_seed(self.seed)
            try:
                if not self.compiled:
                    hooks.attach(watch.before, watch.after)
                with nullcontext() if self.compiled else suited(_Operations)(watch):
                    output = self.side.model(*args, **kwargs)
                roots = self.calls.get("", [])
                if roots:
                    note(roots[0], output)
            except Exception as error:
                # as in the recording: the calls before it were compared
                if self.trace.error is None:
                    self.trace.error = CallError(type(error).__name__, str(error))
            finally:
                hooks.remove()


class _Watch:
    """Where a run is, in terms of the recording: which of its calls the open modules and the operations are."""

    def __init__(self, run: _Run, note: Callable[[int, object], None]) -> None:
        self.run, self.note = run, note
        self.thread = threading.get_ident()
        self.open: list[tuple[nn.Module, int | None]] = []
        self.counts: Counter[str] = Counter()
        self.operations = 0
        self.lost = False  # this run does other operations than the recording

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module is called."""
        if threading.get_ident() != self.thread:
            return
        path = self.run.paths.get(id(module))
        call = None
        if path is not None:
            listed = self.run.calls.get(path, [])
            call = listed[self.counts[path]] if self.counts[path] < len(listed) else None
            self.counts[path] += 1
        self.open.append((module, call))

    def after(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        """Its forward has ended; those inside it that an exception left have, too."""
        if threading.get_ident() != self.thread or not any(one is module for one, _ in self.open):
            return
        while True:
            one, call = self.open.pop()
            if one is module:
                break
        # of the root, what it returns is compared, after its own hooks
        if len(rest) == 2 and call is not None and self.open:
            self._told(call, rest[1])

    def operated(self, func: Any, output: object) -> None:
        """An aten operation has ended."""
        if self.lost or (self.open and opaque(self.open[-1][0])):
            return
        if self.operations >= len(self.run.order) or self.run.order[self.operations][0] is not func:
            self.lost = True
            return
        call = self.run.order[self.operations][1]
        if call is not None and self.run.last[call] == self.operations:
            self._told(call, output)
        self.operations += 1

    def _told(self, call: int, output: object) -> None:
        # what is done with the output is no operation of the model's
        with torch.no_grad(), torch.utils._python_dispatch._disable_current_modes():
            self.note(call, output)


class _Operations(QuietMode):
    """Tells a watch of every operation."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = run_unchanged(func, args, kwargs)
        self._watch.operated(func, output)
        return output


def _in_this_thread(trace: Trace) -> list[Call]:
    """The module calls, in call order, without those of the model's own threads."""
    found: list[Call] = []
    waiting = list(reversed(trace.calls))
    while waiting:
        call = waiting.pop()
        if call.thread is None:
            if call.kind == "module":
                found.append(call)
            waiting.extend(reversed(call.children))
    return found
