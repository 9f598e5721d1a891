"""What stands above every view in the terminal: the model, how it ran, what timing it cost; and the styles of all."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from tracecall.calls import Timing, Trace
from tracecall.views import labels
from tracecall.views.prose import prose

MODULE, QUIET, TIME, BAD, NOTE = "bold", "dim", "cyan", "bold red", "yellow"

FAR = 0.1  # of the total: where self times add up to so much less or more, that is said


def header(trace: Trace, width: int) -> list[Text]:
    """What ran: model, where it was found, parameters, device, mode; then what timing it cost."""
    model, settings = trace.model, trace.settings
    frozen = f", {labels.count(model.trainable)} trainable" if model.trainable != model.parameters else ""
    parts = [
        (labels.safe(model.name), MODULE),
        (labels.safe(model.origin or ""), QUIET),
        (f"{labels.count(model.parameters)} parameter{'' if model.parameters == 1 else 's'}{frozen}", ""),
        (_device(trace) + (f", {settings.dtype}" if settings.dtype else ""), ""),
        (mode(trace), ""),
    ]
    lines = apart(parts, width)
    if trace.timing is not None:
        times = trace.timing
        runs = "one run" if times.runs == 1 else f"medians of {times.runs} runs"
        of = max(times.untraced_ns, times.traced_ns)
        untraced, traced = labels.duration(times.untraced_ns, of), labels.duration(times.traced_ns, of)
        lines += apart([(f"untraced {untraced}   traced {traced}   {runs}", QUIET), (_verdict(times), NOTE)], width)
        lines.extend(prose(_sums(times), width, NOTE))
    lines.extend(line for note in settings.notes for line in prose(note, width, NOTE))
    return lines


def apart(parts: list[tuple[str, str]], width: int) -> list[Text]:
    """Parts with their styles side by side; what has no room begins a line of its own. Empty ones are left out."""
    lines = [Text(overflow="fold")]
    for part, style in parts:
        if part and lines[-1].plain.strip() and lines[-1].cell_len + 3 + cell_len(part) > width:
            lines.append(Text("  ", overflow="fold"))
        if part:
            lines[-1].append("   " if lines[-1].plain.strip() else "").append(part, style)
    return lines


def mode(trace: Trace) -> str:
    """How the model ran: "eval, inference mode"."""
    modes = {"inference": "inference mode", "no_grad": "no_grad", "grad": "grad"}
    return f"{'train' if trace.model.training else 'eval'}, {modes[trace.settings.grad_mode]}"


def _verdict(times: Timing) -> str:
    """What limits the model on its accelerator: "bound by launches: the device worked 0.8 ms of 3.1 ms"."""
    if times.bound is None or times.device_ns is None:
        return ""
    of = max(times.untraced_ns, times.device_ns)
    worked, wall = labels.duration(times.device_ns, of), labels.duration(times.untraced_ns, of)
    name = {"launches": "launches", "device": "the device"}[times.bound]
    return f"bound by {name}: the device worked {worked} of {wall}"


def _sums(times: Timing) -> str:
    """Said where self times do not nearly add up to the total: "self times add up to 2.0 ms, not to 5.9 ms: …"."""
    if times.total_ns is None or times.self_ns is None or abs(times.self_ns - times.total_ns) <= FAR * times.total_ns:
        return ""
    of = max(times.self_ns, times.total_ns)
    added, total = labels.duration(times.self_ns, of), labels.duration(times.total_ns, of)
    return f"self times add up to {added}, not to {total}: each run was slow at other calls"


def _device(trace: Trace) -> str:
    names = [f"{device} ({name})" for device, name in trace.environment.devices.items() if device != "cpu"]
    return labels.safe(", ".join(names)) or trace.settings.device
