"""An accelerator as its clocks see it: events, streams, memory; the same code for CUDA, XPU and MPS."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

import torch


class Device(Protocol):
    """An accelerator, as far as its clocks need it. Events are its own; a stream is anything that can be compared."""

    name: str  # "cuda:0", as in TensorSpec

    def new_event(self) -> Any:
        """An event that can be recorded again and again."""

    def record(self, event: Any) -> None:
        """Mark the place in the current stream where its queue ends now."""

    def done(self, event: Any) -> bool:
        """Whether the device has come to the mark; does not wait."""

    def elapsed_ms(self, begun: Any, ended: Any) -> float:
        """Between two marks that the device has passed."""

    def current_stream(self) -> Hashable:
        """Where work that is queued now goes to."""

    def keep_busy(self, ns: int) -> None:
        """Queue work of about that length, with no effect, on the current stream."""

    def synchronize(self) -> None:
        """Wait until everything queued is done."""

    def memory(self) -> tuple[int, int] | None:
        """Bytes allocated now, and the most since `reset_peak`; None where the device does not count them."""

    def reset_peak(self) -> None:
        """Begin a new peak at what is allocated now."""


class TorchDevice:
    """A `Device` by torch.accelerator and torch.Event."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.name = device, str(device)
        self._ns_per_unit = 0.0
        self._filler: tuple[torch.Tensor, torch.Tensor] | None = None

    def new_event(self) -> torch.Event:
        """With timing."""
        return torch.Event(device=self.device, enable_timing=True)

    def record(self, event: torch.Event) -> None:
        """On the stream that is current for this device, which need not be the current device."""
        event.record(torch.accelerator.current_stream(self.device))

    def done(self, event: torch.Event) -> bool:
        """By cudaEventQuery or its like."""
        return bool(event.query())

    def elapsed_ms(self, begun: torch.Event, ended: torch.Event) -> float:
        """A float32 of milliseconds: exact to 8 ns over 100 ms."""
        return float(begun.elapsed_time(ended))

    def current_stream(self) -> Hashable:
        """Its id: torch makes a new object each time."""
        return int(torch.accelerator.current_stream(self.device).stream_id)

    def keep_busy(self, ns: int) -> None:
        """A kernel that spins on CUDA, matrix products elsewhere; how long one takes is measured at the first call."""
        if not self._ns_per_unit:
            self._queue_filler(1)  # loads the kernel
            begun, ended, units = self.new_event(), self.new_event(), 1_000_000 if self._spins() else 4
            self.record(begun)
            self._queue_filler(units)
            self.record(ended)
            self.synchronize()
            self._ns_per_unit = max(self.elapsed_ms(begun, ended) * 1e6, 1.0) / units
        self._queue_filler(max(1, round(ns / self._ns_per_unit)))

    def _spins(self) -> bool:
        return self.device.type == "cuda" and hasattr(torch.cuda, "_sleep")

    def _queue_filler(self, units: int) -> None:
        if self._spins():
            with torch.cuda.device(self.device):
                torch.cuda._sleep(units)
            return
        with torch.inference_mode():
            if self._filler is None:
                self._filler = torch.zeros(1024, 1024, device=self.device), torch.empty(1024, 1024, device=self.device)
            source, out = self._filler
            for _ in range(units):
                torch.mm(source, source, out=out)

    def synchronize(self) -> None:
        """All streams of this device."""
        torch.accelerator.synchronize(self.device)

    def memory(self) -> tuple[int, int] | None:
        """From the caching allocator's own counts."""
        try:
            counts = torch.accelerator.memory_stats(self.device)
        except RuntimeError:  # MPS's allocator keeps no such counts
            return None
        key = "allocated_bytes.all"
        return (counts[f"{key}.current"], counts[f"{key}.peak"]) if f"{key}.peak" in counts else None

    def reset_peak(self) -> None:
        """Torch has one peak a device and cannot put it back: the reader's own max_memory_allocated begins anew."""
        torch.accelerator.reset_peak_memory_stats(self.device)
