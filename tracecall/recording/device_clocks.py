"""Device time and device memory of every call, by events on an accelerator; the same code for CUDA, XPU and MPS.

The hooks are those of host times (clocks.py): each reading of their clock marks the stream that is current with an
event, and after the pass one synchronise makes all of them readable.

Two marks with work between them measure that work only while the device never waits for the next launch: where the
host is slower, they measure the host. So a device run keeps the device behind the host: before the pass, and whenever
it might catch up, it queues filler work, whose time, measured by events too, is taken out. Where a model makes the
host wait for the device, as `.item()` does, or uses other streams (no filler there: it could hold up the first), the
device may catch up all the same, and a finding says so.

Not seen: work that a forward queues on a stream of its own while no module call begins or ends on that stream.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tracecall.recording.clocks import Clock, Clocks
from tracecall.recording.devices import Device

BUSY_NS, MOST_BUSY_NS = 2_000_000, 32_000_000  # one piece of filler work: it grows where the device catches up with it


class Marks:
    """The clock of device runs: `mark` records an event from a pool and returns its number, `times` reads them all."""

    def __init__(self, device: Device, clock: Clock = time.perf_counter_ns) -> None:
        self.device, self.busy = device, BUSY_NS
        self.streams: list[Hashable] = []  # of each mark
        self.caught_up: list[int] = []  # marks before which the device may have had nothing to do
        self._clock = clock
        self._pool: list[Any] = []
        self._used: list[Any] = []  # of this run, in the order of their recording
        self._fillers: set[int] = set()  # places in `_used` of events that end filler work
        self._places: list[int] = []  # of each mark, its place in `_used`
        self._last: dict[Hashable, Any] = {}  # the last event of each stream
        self._busy_until = 0
        self._owner = 0
        self._cost = self._cost_of_an_event()

    def begin(self) -> None:
        """A new run: the events of the last one are free again, and the device gets something to do first."""
        self._pool.extend(reversed(self._used))
        for kept in (self._used, self._fillers, self._places, self._last, self.streams, self.caught_up):
            kept.clear()
        self._owner, self._busy_until = threading.get_ident(), self._clock()
        self._fill()

    def mark(self) -> int:
        """Mark the current stream, and keep the device busy; from another thread, only the number of the last mark."""
        if threading.get_ident() != self._owner:
            return self.last()
        stream = self.device.current_stream()
        caught_up = stream in self._last and self.device.done(self._last[stream])
        if caught_up:
            self.caught_up.append(len(self._places))
        self._places.append(len(self._used))
        self.streams.append(stream)
        self._last[stream] = self._record()
        # filler on another stream could hold up the first one, where no event would tell it from work
        if stream == self.streams[0] and (caught_up or self._clock() > self._busy_until - self.busy // 2):
            self._fill()
            self._fillers.add(len(self._used))
            self._last[stream] = self._record()
        return self.last()

    def last(self) -> int:
        """The number of the last mark."""
        return len(self._places) - 1

    def times(self) -> list[float]:
        """Of each mark the nanoseconds of work on its stream before it; to be called after a synchronise.

        They count from the stream's first mark. Filler work, and what recording events costs the device, is left out.
        """
        found = []
        places = dict.fromkeys(self._places)
        streams = iter(self.streams)
        origins: dict[Hashable, Any] = {}
        left_out: dict[Hashable, float] = {}
        for place, event in enumerate(self._used):
            if place in places:
                stream = next(streams)
                origin = origins.setdefault(stream, event)
                elapsed = self.device.elapsed_ms(origin, event) * 1e6 if origin is not event else 0.0
                found.append(elapsed - left_out.get(stream, 0.0))
                left_out[stream] = left_out.get(stream, 0.0) + self._cost
            elif place in self._fillers:
                left_out[self.streams[0]] += self.device.elapsed_ms(self._used[place - 1], event) * 1e6
        return found

    def _record(self) -> Any:
        event = self._pool.pop() if self._pool else self.device.new_event()
        self.device.record(event)
        self._used.append(event)
        return event

    def _fill(self) -> None:
        self.device.keep_busy(self.busy)
        self._busy_until = max(self._busy_until, self._clock()) + self.busy

    def _cost_of_an_event(self, events: int = 20) -> float:
        """The median time from one event to the next with nothing between them."""
        self.device.keep_busy(self.busy)
        for _ in range(events):
            self._record()
        self.device.synchronize()
        pairs = zip(self._used, self._used[1:], strict=False)
        cost = statistics.median(self.device.elapsed_ms(one, other) for one, other in pairs) * 1e6
        self._pool, self._used = self._used[::-1], []
        return cost


@dataclass(frozen=True)
class DeviceTimed:
    """One call of a device run, in call order; nanoseconds of the stream on which it began and ended, None if two."""

    module: object
    total: float | None
    own: float | None  # without the calls inside; None where one of them was on another stream


@dataclass(frozen=True)
class Allocated:
    """One call of a memory run, in call order; bytes, both over what was allocated as it began."""

    module: object
    difference: int  # as it ended
    peak: int


@dataclass
class DeviceSamples:
    """What the runs on one device wrote down, one entry a run."""

    name: str
    passes: list[float | None] = field(default_factory=list)  # of the whole forward
    calls: list[list[DeviceTimed]] = field(default_factory=list)
    waited: set[int] = field(default_factory=set)  # calls, by their place, in which the device had nothing to do
    memory: list[Allocated] | None = None


class DeviceRuns:
    """Runs of a model that measure it on one device; `samples` has what they found."""

    def __init__(
        self,
        device: Device,
        run: Callable[[], object],
        prepare: Callable[[], None],
        modules: list[nn.Module],
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        """`run` calls the model and does not wait for the device; `prepare` and `modules` as in take_samples."""
        self.device, self.samples = device, DeviceSamples(device.name)
        self._run, self._prepare, self._modules = run, prepare, modules
        self._marks = Marks(device, clock)

    def time(self) -> None:
        """One run more, and others before it while the device catches up with more and more filler work."""
        marks = self._marks
        while True:
            self._prepare()
            clocks = Clocks(marks.mark, marks.last)
            marks.begin()
            with clocks.attached(self._modules):
                first = marks.mark()
                self._run()
                last = marks.mark()
            self.device.synchronize()
            if marks.busy >= MOST_BUSY_NS or not any(marks.streams[i] == marks.streams[0] for i in marks.caught_up):
                break
            marks.busy *= 4
        times, streams = marks.times(), marks.streams
        calls = device_calls(clocks.events, times, streams)
        if calls is None:
            return
        self.samples.passes.append(max(0.0, times[last] - times[first]) if streams[first] == streams[last] else None)
        self.samples.calls.append(calls)
        self.samples.waited.update(_open_at(clocks.events, marks.caught_up))

    def allocate(self) -> None:
        """One run that only reads how much memory is allocated: a run of its own, since reading takes long."""
        if self.device.memory() is None:
            return
        readings: list[tuple[int, int]] = []
        owner = threading.get_ident()

        def read() -> int:
            if threading.get_ident() == owner:
                readings.append(self.device.memory() or (0, 0))
                self.device.reset_peak()
            return len(readings) - 1

        self._prepare()
        self.device.reset_peak()
        clocks = Clocks(read, lambda: len(readings) - 1)
        with clocks.attached(self._modules):
            self._run()
        self.samples.memory = allocations(clocks.events, readings)


def device_calls(events: list[Any], times: list[float], streams: list[Hashable]) -> list[DeviceTimed] | None:
    """The calls of one device run; None if a call never ended. Of `events` the marks are places in the other two."""
    found: list[DeviceTimed | None] = []
    # of each open call: its place in `found`, its module, its first mark, its children's time (None once one has none)
    stack: list[list[Any]] = []
    for mark, module, _ in _rows(events):
        if module is not None:
            found.append(None)
            stack.append([len(found) - 1, module, mark, 0.0])
            continue
        if not stack:
            return None
        place, begun_module, begun, inside = stack.pop()
        same_stream = streams[begun] == streams[mark]
        total = max(0.0, times[mark] - times[begun]) if same_stream else None
        own = None if total is None or inside is None else max(0.0, total - inside)
        found[place] = DeviceTimed(begun_module, total, own)
        if stack:
            around = stack[-1]
            part = total is not None and around[3] is not None and streams[around[2]] == streams[mark]
            around[3] = around[3] + total if part else None
    return None if stack else [call for call in found if call is not None]


def allocations(events: list[Any], readings: list[tuple[int, int]]) -> list[Allocated] | None:
    """The calls of one memory run; None if a call never ended.

    Each reading is (allocated now, most since the reading before it). What lies between two readings belongs to the
    innermost call that was open, and the most of a call is the most of its parts, so that no call hides it from
    those around it.
    """
    found: list[Allocated | None] = []
    stack: list[list[Any]] = []  # of each open call: its place in `found`, its module, allocated at its start, its most
    for reading, module, _ in _rows(events):
        now, most = readings[reading]
        if stack:
            stack[-1][3] = max(stack[-1][3], most)
        if module is not None:
            found.append(None)
            stack.append([len(found) - 1, module, now, now])
            continue
        if not stack:
            return None
        place, begun_module, start, most = stack.pop()
        found[place] = Allocated(begun_module, now - start, most - start)
        if stack:
            stack[-1][3] = max(stack[-1][3], most)
    return None if stack else [call for call in found if call is not None]


def _rows(events: list[Any]) -> Iterator[tuple[int, Any, int]]:
    return ((events[i], events[i + 1], events[i + 2]) for i in range(0, len(events), 3))


def _open_at(events: list[Any], marks: list[int]) -> set[int]:
    """The innermost calls, by their place in call order, that were open just before these marks."""
    found: set[int] = set()
    wanted, count = set(marks), 0
    stack: list[int] = []
    for mark, module, _ in _rows(events):
        if mark in wanted and stack:
            found.add(stack[-1])
        if module is None:
            stack.pop()
        else:
            stack.append(count)
            count += 1
    return found
