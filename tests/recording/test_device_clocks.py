"""Device times are exact: a fake device works off its queues in a time of its own, beside a host that queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import tracecall
from tracecall import recording
from tracecall.calls import Call, Environment, ModelInfo, TensorSpec, Trace, Value
from tracecall.recording import device_clocks, timing
from tracecall.recording.clocks import Overhead
from tracecall.recording.device_clocks import (
    Allocated,
    DeviceRuns,
    DeviceSamples,
    DeviceTimed,
    allocations,
    device_calls,
)
from tracecall.recording.device_times import add_device_times, bound
from tracecall.recording.devices import TorchDevice

US, MS = 1_000, 1_000_000


class FakeEvent:
    """Knows when the device came to it."""

    at: float = -1


class FakeDevice:
    """A host and a device with clocks in nanoseconds: work begins when it is queued and what is before it is done."""

    def __init__(self, name: str = "fake:0", event_ns: int = 0) -> None:
        self.name, self.event_ns = name, event_ns
        self.host = 0
        self.stream: str = "home"
        self.free: dict[str, int] = {}  # when each stream has done its work
        self.events: list[FakeEvent] = []
        self.syncs: list[int] = []  # how many events had been recorded then
        self.recorded = 0
        self.allocated = self.peak = 0
        self.counts_memory = True

    def clock(self) -> int:
        return self.host

    def queue(self, ns: int) -> None:
        self.free[self.stream] = max(self.free.get(self.stream, 0), self.host) + ns

    def new_event(self) -> FakeEvent:
        self.events.append(FakeEvent())
        return self.events[-1]

    def record(self, event: FakeEvent) -> None:
        self.recorded += 1
        self.queue(self.event_ns)
        event.at = self.free[self.stream]

    def done(self, event: FakeEvent) -> bool:
        return event.at <= self.host

    def elapsed_ms(self, begun: FakeEvent, ended: FakeEvent) -> float:
        assert max(begun.at, ended.at) <= self.host, "read before the device was there"
        return (ended.at - begun.at) / 1e6

    def current_stream(self) -> str:
        return self.stream

    def keep_busy(self, ns: int) -> None:
        self.queue(ns)

    def synchronize(self) -> None:
        self.syncs.append(self.recorded)
        self.host = max([self.host, *self.free.values()])

    def memory(self) -> tuple[int, int] | None:
        return (self.allocated, self.peak) if self.counts_memory else None

    def reset_peak(self) -> None:
        self.peak = self.allocated

    def allocate(self, size: int) -> None:
        self.allocated += size
        self.peak = max(self.peak, self.allocated)

    @contextmanager
    def on(self, stream: str) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before


class Work(nn.Module):
    """Takes the host some time and queues some work; runs its children first, in order."""

    def __init__(self, device: FakeDevice, host_ns: int, device_ns: int, *children: nn.Module) -> None:
        super().__init__()
        self.device, self.host_ns, self.device_ns = device, host_ns, device_ns
        for number, child in enumerate(children):
            self.add_module(f"part{number}", child)

    def forward(self, x: Any = None) -> Any:
        for child in self.children():
            child(x)
        self.device.host += self.host_ns
        self.device.queue(self.device_ns)
        return x


class Does(nn.Module):
    """Does whatever it is told to."""

    def __init__(self, what: Callable[[], object], *children: nn.Module) -> None:
        super().__init__()
        self.what = what
        self.parts = nn.ModuleList(children)

    def forward(self, x: Any = None) -> Any:
        self.what()
        return x


def runs_of(device: FakeDevice, model: nn.Module, times: int = 1) -> DeviceRuns:
    """Device runs of a model, done `times` times."""
    runs = DeviceRuns(device, model, lambda: None, list(model.modules()), clock=device.clock)
    device.syncs.clear()
    for _ in range(times):
        runs.time()
    return runs


def ns(calls: list[DeviceTimed]) -> list[tuple[int | None, int | None]]:
    """(total, self) of each, without the last bits of a millisecond."""
    return [
        (None if one.total is None else round(one.total), None if one.own is None else round(one.own)) for one in calls
    ]


# one run


def test_total_and_self_are_the_work_queued_inside():
    """Whole nanoseconds: nothing but the work itself."""
    device = FakeDevice()
    model = Work(device, 10, 5_000, Work(device, 10, 30_000), Work(device, 10, 2_000, Work(device, 10, 400)))
    (calls,) = runs_of(device, model).samples.calls
    assert ns(calls) == [(37_400, 5_000), (30_000, 30_000), (2_400, 2_000), (400, 400)]


@pytest.mark.parametrize("host_ns", [0, 10 * US, 900 * US])
def test_a_host_that_is_slower_than_the_device_does_not_lengthen_device_times(host_ns):
    """Between two marks would lie the host's time as well, were the device not kept busy behind it."""
    device = FakeDevice()
    model = Work(device, host_ns, 1_000, *(Work(device, host_ns, 2_000) for _ in range(20)))
    samples = runs_of(device, model).samples
    assert ns(samples.calls[0]) == [(41_000, 1_000)] + [(2_000, 2_000)] * 20
    assert samples.passes == pytest.approx([41_000])
    assert not samples.waited


def test_what_recording_an_event_costs_the_device_is_taken_out():
    """Of each call, and of those around it for each event inside."""
    device = FakeDevice(event_ns=700)
    model = Work(device, 300 * US, 5_000, *(Work(device, 300 * US, 2_000) for _ in range(9)))
    samples = runs_of(device, model).samples
    assert ns(samples.calls[0]) == [(23_000, 5_000)] + [(2_000, 2_000)] * 9
    assert samples.passes == pytest.approx([23_000])


def test_a_module_that_takes_the_host_long_gets_more_filler_work_and_another_run():
    """The run in which the device caught up is not counted."""
    device = FakeDevice()
    model = Work(device, 0, 1_000, Work(device, 5 * MS, 2_000), Work(device, 0, 3_000))
    runs = runs_of(device, model, times=2)
    assert [ns(calls) for calls in runs.samples.calls] == [[(6_000, 1_000), (2_000, 2_000), (3_000, 3_000)]] * 2
    assert len(device.syncs) == 3
    assert not runs.samples.waited


def test_a_forward_that_waits_for_the_device_is_told_of():
    """No filler work lasts longer than such a wait; the call in which it happened is known."""
    device = FakeDevice()

    def waits() -> None:
        device.queue(1_000)
        device.synchronize()
        device.host += 100

    inner = Does(waits)
    samples = runs_of(device, Work(device, 0, 500, Work(device, 0, 200), inner)).samples
    assert samples.waited == {2}
    assert ns(samples.calls[0])[1] == (200, 200)


def test_one_synchronise_after_the_pass_and_none_inside():
    """All marks of a run lie before it, and none of the next one's."""
    device = FakeDevice()
    model = Work(device, 10, 10, *(Work(device, 10, 10) for _ in range(5)))
    runs = DeviceRuns(device, model, lambda: None, [], clock=device.clock)
    device.syncs.clear()
    before = device.recorded
    runs.time()
    assert device.syncs == [device.recorded]
    runs.time()
    assert len(device.syncs) == 2
    # two events a call, one around the pass at each end
    assert device.recorded - before == 2 * (2 * 6 + 2)


def test_events_come_from_a_pool():
    """As many as one run needs are alive, and no run after the first makes another."""
    device = FakeDevice()
    model = Work(device, 10, 10, *(Work(device, 10, 10) for _ in range(30)))
    runs = runs_of(device, model)
    alive = len(device.events)
    assert alive == 2 * 31 + 2
    for _ in range(5):
        runs.time()
    assert len(device.events) == alive


def test_marks_of_other_threads_are_not_recorded():
    """Their work is on streams of their own, or at a place in this one that is chance."""
    import threading

    device = FakeDevice()

    def run_elsewhere() -> None:
        thread = threading.Thread(target=leaf)
        thread.start()
        thread.join()

    leaf = Work(device, 0, 50)
    (calls,) = runs_of(device, Does(run_elsewhere, leaf)).samples.calls
    assert len(calls) == 1


def test_hooks_of_the_user_are_calls():
    """As in host times: in the same places, so that both match the same recording."""
    device = FakeDevice()
    model = Work(device, 0, 100)
    model.register_forward_hook(lambda *_: device.queue(30))
    (calls,) = runs_of(device, model).samples.calls
    assert ns(calls) == [(130, 100), (30, 30)]


# streams


def test_a_call_that_ends_on_another_stream_is_not_measured():
    """Nor is what the call around it did itself."""
    device = FakeDevice()

    def switch() -> None:
        device.stream = "side"

    def back() -> None:
        device.stream = "home"

    samples = runs_of(device, Work(device, 0, 100, Does(switch), Does(back), Work(device, 0, 20))).samples
    assert ns(samples.calls[0])[1:] == [(None, None), (None, None), (20, 20)]
    assert ns(samples.calls[0])[0][1] is None


def test_a_call_on_a_stream_of_its_own_is_measured_there():
    """Its time is no part of the time of the stream around it."""
    device = FakeDevice()
    side = Work(device, 0, 5_000)

    def call_on_side() -> None:
        with device.on("side"):
            side()
        device.queue(70)

    (calls,) = runs_of(device, Does(call_on_side, side)).samples.calls
    assert ns(calls) == [(70, None), (5_000, 5_000)]


def test_a_pass_that_ends_on_another_stream_has_no_time():
    """None, not a guess."""
    device = FakeDevice()

    def switch() -> None:
        device.stream = "side"

    assert runs_of(device, Does(switch)).samples.passes == [None]


@pytest.mark.parametrize("events", [[0, "a", 0], [0, None, 0]])
def test_a_run_that_does_not_balance_has_no_times(events):
    """An interrupt ended a call without its hook."""
    assert device_calls(events, [0.0], ["home"]) is None
    assert allocations(events, [(0, 0)]) is None


# memory


def test_the_peak_of_a_call_is_the_most_of_its_parts():
    """Readings are (allocated now, most since the reading before)."""
    events = [0, "root", 0, 1, "a", 1, 2, None, 2, 3, "b", 3, 4, None, 4, 5, None, 5]
    readings = [(100, 500), (110, 150), (130, 400), (130, 130), (120, 140), (105, 160)]
    assert allocations(events, readings) == [
        Allocated("root", 5, 300),
        Allocated("a", 20, 290),
        Allocated("b", -10, 10),
    ]


def test_memory_of_nested_calls():
    """The peak deep inside is the peak of all around it, each from its own start."""
    device = FakeDevice()
    device.allocate(1_000)

    def scratch(kept: int, most: int) -> Callable[[], None]:
        def use() -> None:
            device.allocate(most)
            device.allocate(kept - most)

        return use

    leaf, other = Does(scratch(10, 700)), Does(scratch(20, 50))
    inner = Does(lambda: (device.allocate(5), leaf()), leaf)
    model = Does(lambda: (device.allocate(3), inner(), other()), inner, other)
    runs = runs_of(device, model)
    runs.allocate()
    assert [(one.difference, one.peak) for one in runs.samples.memory or []] == [
        (38, 708),
        (15, 705),
        (10, 700),
        (20, 50),
    ]


def test_a_device_that_counts_no_memory_has_none():
    """And no run is spent on it."""
    device = FakeDevice()
    device.counts_memory = False
    runs = runs_of(device, Does(lambda: pytest.fail("ran")), times=0)
    runs.allocate()
    assert runs.samples.memory is None


# a Trace


def recorded(devices: dict[str, str] | None = None) -> Trace:
    """A root with the calls a and b; `devices` says where the tensors of each are."""
    calls = {path: Call("module", path, path or "Net", "Net" if not path else "Linear") for path in ("", "a", "b")}
    for path, name in (devices or {}).items():
        calls[path].output = [Value("", TensorSpec((1,), "float32", name))]
    calls[""].children = [calls["a"], calls["b"]]
    timing_ = tracecall.calls.Timing(untraced_ns=1000, traced_ns=1100, runs=3)
    return Trace(ModelInfo("Net"), Environment("", ""), calls=[calls[""]], timing=timing_)


def samples_of(*runs: list[tuple[float | None, float | None]], name: str = "fake:0", **more: Any) -> DeviceSamples:
    calls = [[DeviceTimed(object(), *one) for one in run] for run in runs]
    return DeviceSamples(name, [run[0][0] for run in runs], calls, **more)


def test_medians_and_spreads_are_written_into_the_calls():
    """As for host times."""
    trace = recorded()
    samples = samples_of(
        [(100, 30), (30, 30), (40, 40)], [(120, 40), (20, 20), (60, 60)], [(104, 30), (34, 34), (40, 40)]
    )
    add_device_times(trace, [samples], {}, {})
    root, a, b = (call for _, call in trace.walk())
    assert (root.device_ns, root.device_self_ns, root.device_spread_ns) == (104, 30, 10)
    assert (a.device_ns, a.device_self_ns, a.device_spread_ns) == (30, 30, 7)
    assert (b.device_ns, b.device_self_ns, b.device_spread_ns) == (40, 40, 10)
    assert trace.timing is not None
    assert (trace.timing.device_ns, trace.timing.device_spread_ns, trace.timing.bound) == (104, 10, "launches")
    assert trace.findings == []


def test_runs_that_made_other_calls_are_in_no_median():
    """Host times say that there were such runs."""
    trace = recorded()
    add_device_times(trace, [samples_of([(9, 9)], [(5, 1), (2, 2), (2, 2)])], {}, {})
    assert [call.device_ns for _, call in trace.walk()] == [5, 2, 2]


def test_what_was_on_another_stream_is_said_once():
    """With the first call, and how many more."""
    trace = recorded()
    add_device_times(trace, [samples_of([(50, None), (None, None), (None, None)])], {}, {})
    assert [call.device_ns for _, call in trace.walk()] == [50, None, None]
    assert trace.calls[0].device_self_ns is None
    assert [finding.message for finding in trace.findings] == [
        "device time of a and 1 more was not measured: its work was queued on another stream"
    ]


def test_each_call_is_measured_on_the_device_that_it_uses():
    """One that uses two, as the root does here, is not measured; nor has the pass a time of its own."""
    trace = recorded({"a": "fake:0"})
    first = samples_of([(50, 1), (40, 40), (0, 0)])
    second = samples_of([(70, 1), (0, 0), (60, 60)], name="fake:1")
    add_device_times(trace, [first, second], {}, {"b": {"fake:1"}, "a": {"cpu"}})
    assert [call.device_ns for _, call in trace.walk()] == [None, 40, 60]
    assert [finding.message for finding in trace.findings] == [
        "device time of Net was not measured: its work is on more than one device"
    ]
    assert trace.timing is not None and trace.timing.bound is None


def test_a_call_that_waited_is_said():
    """Its time is the most that it can be."""
    trace = recorded()
    add_device_times(trace, [samples_of([(5, 1), (2, 2), (2, 2)], waited={2})], {}, {})
    assert [call.device_ns for _, call in trace.walk()] == [5, 2, 2]
    assert trace.findings[0].message == (
        "device time of b may hold time in which the device had nothing to do: it caught up with the host"
    )


def test_memory_is_written_into_the_calls():
    """Peak and difference."""
    trace = recorded()
    memory = [Allocated(object(), 1, 9), Allocated(object(), 2, 5), Allocated(object(), -1, 0)]
    add_device_times(trace, [samples_of([(5, 1), (2, 2), (2, 2)], memory=memory)], {}, {})
    assert [(call.device_allocated, call.device_memory) for _, call in trace.walk()] == [(1, 9), (2, 5), (-1, 0)]


@pytest.mark.parametrize(
    ("device_ns", "verdict"), [(0, "launches"), (799, "launches"), (800, "device"), (1000, "device"), (1200, "device")]
)
def test_the_verdict(device_ns, verdict):
    """The device bounds a forward of which it works for at least 80 %."""
    assert bound(device_ns, 1000) == verdict


# with control and timing runs


def test_device_runs_are_interleaved_and_whole_runs_end_with_the_device():
    """Each round a control run, a timing run and a device run; only a device run does not wait inside."""
    device = FakeDevice()
    model = Work(device, 100 * US, 300 * US)
    runs = DeviceRuns(device, model, lambda: None, [model], clock=device.clock)

    def run() -> None:
        model()
        device.synchronize()

    samples = timing.take_samples(
        run, modules=[model], operations=False, repeat=3, clock=device.clock, overhead=Overhead(), more=runs.time
    )
    assert samples.untraced == samples.traced == [400 * US] * 3
    assert [calls[0].total for calls in samples.calls] == [100 * US] * 3
    assert runs.samples.passes == pytest.approx([300 * US] * 3)


def test_measure_has_host_and_device_times(monkeypatch):
    """End to end, with a model on the CPU whose device is a fake."""
    device = FakeDevice()
    model = Work(device, 0, 3 * MS, Work(device, 0, 7 * MS))
    monkeypatch.setattr(recording, "_accelerators", lambda *_: [device])
    trace = tracecall.measure(model, (torch.zeros(1),), repeat=3)
    root, inner = trace.calls[0], trace.find("part0")[0]
    assert (root.device_ns, root.device_self_ns, inner.device_ns) == (10 * MS, 3 * MS, 7 * MS)
    assert root.host_ns is not None and root.device_memory == 0
    assert trace.timing is not None and (trace.timing.device_ns, trace.timing.bound) == (10 * MS, "device")


def test_nothing_of_it_on_the_cpu(monkeypatch):
    """No device run, no synchronise, no time."""
    monkeypatch.setattr(device_clocks.DeviceRuns, "__init__", lambda *_: pytest.fail("made"))
    trace = tracecall.measure(nn.Linear(2, 2), (torch.zeros(1, 2),), repeat=1)
    assert trace.calls[0].device_ns is None
    assert trace.timing is not None and trace.timing.device_ns is trace.timing.bound is None


def test_no_import_on_the_cpu():
    """Nothing is imported that is not used."""
    import subprocess
    import sys

    code = (
        "import sys, torch, tracecall; tracecall.measure(torch.nn.Linear(2, 2), (torch.zeros(1, 2),), repeat=1);"
        "print(any('.device' in name for name in sys.modules if name.startswith('tracecall.recording')))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# on a real device


class Small(nn.Module):
    """Kernels from some to some hundred microseconds long."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()
        self.other = nn.Conv2d(64, 64, 3, padding=1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(4), nn.Linear(1024, 1024)

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc(self.pool(self.relu(self.other(self.relu(self.conv(x))))).flatten(1))


def kernel_times(model: nn.Module, x: torch.Tensor) -> list[float]:
    """The sum of its kernels, in ns by torch.profiler, for each call of a module without children."""
    from torch.profiler import ProfilerActivity, profile, record_function

    from tracecall.recording.global_hooks import GlobalHooks

    ranges: list[Any] = []
    names: list[str] = []

    def before(module: nn.Module, args: object) -> None:
        ranges.append(record_function(f"call {len(names)} {type(module).__name__}"))
        names.append("" if list(module.children()) else f"call {len(names)} {type(module).__name__}")
        ranges[-1].__enter__()

    hooks = GlobalHooks()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as prof:
        hooks.attach(before, lambda *_: ranges.pop().__exit__(None, None, None))
        try:
            model(x)
        finally:
            hooks.remove()
        torch.accelerator.synchronize()
    averages: Any = {one.key: one for one in prof.key_averages() if one.device_type.name == "CPU"}
    return [averages[name].device_time_total * 1000 for name in names if name]


@pytest.mark.cuda
def test_device_times_are_those_of_the_kernels():
    """Each module's device time is the sum of its kernels by torch.profiler, within 5 % or 3 µs."""
    model, x = Small().cuda().eval(), torch.randn(16, 3, 128, 128, device="cuda")
    trace = tracecall.measure(model, (x,), inference=True, repeat=20)
    with torch.inference_mode():
        for _ in range(3):
            expected = kernel_times(model, x)
    measured = [call for _, call in trace.walk() if call.kind == "module" and call.path]
    assert len(measured) == len(expected)
    for call, kernels in zip(measured, expected, strict=True):
        assert call.device_ns == pytest.approx(kernels, rel=0.05, abs=3 * US), call.path


@pytest.mark.cuda
def test_no_synchronise_in_a_traced_pass(monkeypatch):
    """Ours comes once, after the pass; torch itself raises where anything else waits."""
    model, x = Small().cuda().eval(), torch.randn(2, 3, 32, 32, device="cuda")
    model(x)
    ended: list[bool] = []
    synced: list[bool] = []

    def run() -> None:
        ended.clear()
        model(x)
        ended.append(True)

    runs = DeviceRuns(TorchDevice(x.device), run, lambda: None, list(model.modules()))
    synchronize = torch.accelerator.synchronize
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda *on: (synced.append(bool(ended)), synchronize(*on)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        runs.time()
        synced.clear()
        runs.time()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert synced and all(synced)
    assert len(runs.samples.calls) == 2


@pytest.mark.cuda
def test_launches_bind_a_tiny_model_and_the_device_a_large_one():
    """The verdict, on a real device."""
    tiny = nn.Sequential(*(nn.Linear(8, 8) for _ in range(100))).cuda()
    trace = tracecall.measure(tiny, (torch.randn(1, 8, device="cuda"),), inference=True, repeat=10)
    assert trace.timing is not None and trace.timing.bound == "launches"
    large = nn.Sequential(*(nn.Linear(4096, 4096) for _ in range(8))).cuda()
    trace = tracecall.measure(large, (torch.randn(8192, 4096, device="cuda"),), inference=True, repeat=10)
    assert trace.timing is not None and trace.timing.bound == "device"
    assert all(call.device_memory for _, call in trace.walk() if call.kind == "module")


@pytest.mark.cuda
def test_another_stream_on_cuda():
    """A module that runs on a stream of its own is measured there, and its work is not the root's own."""
    stream = torch.cuda.Stream()

    class Sides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2048, 2048)

        def forward(self, x: torch.Tensor) -> Any:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                x = self.fc(x)
            torch.cuda.current_stream().wait_stream(stream)
            return x

    trace = tracecall.measure(Sides().cuda(), (torch.randn(2048, 2048, device="cuda"),), inference=True, repeat=5)
    (fc,) = trace.find("fc")
    assert fc.device_ns and fc.device_ns > 20 * US
    assert trace.calls[0].device_self_ns is None
