"""The times of two models, measured in turns: a machine that is busy for a while meets both, or shows as spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracecall.calls import Trace
from tracecall.recording import measure, timing
from tracecall.recording.recorder import Operations
from tracecall.recording.sides import Side, copied


def take_turns(
    sides: tuple[Side, Side],
    *,
    inference: bool,
    operations: Operations,
    warmup: int | None,
    repeat: int | None,
    progress: Callable[[str], None],
) -> tuple[list[Trace], list[Trace]]:
    """Each side's measured recordings: the first, the second, and both again; `repeat` runs of each in all.

    `repeat` None is as many as `measure` makes, in each turn; 1 is one turn, and 0 none.
    """
    shares = [None, None] if repeat is None else [(repeat + 1) // 2, repeat // 2]
    found: tuple[list[Trace], list[Trace]] = ([], [])
    for share in shares:
        if share == 0:
            continue
        for side, into in zip(sides, found, strict=True):
            progress(f"timing {side.name}")
            into.append(
                measure(
                    side.model,
                    *copied(side.args, side.kwargs),
                    operations=operations,
                    inference=inference,
                    warmup=timing.WARMUP if warmup is None else warmup,
                    repeat=share,
                )
            )
    return found


def add_times(trace: Trace, timed: Sequence[Trace]) -> bool:
    """Take over the times of other recordings of the same model; False if one of them made other calls.

    Of two recordings, made with those of the other model between them, the medians' mean; what lies between the
    medians is spread, too: a machine that was busy for a while is noise.
    """
    ours = [call for _, call in trace.walk()]
    others = [[call for _, call in one.walk()] for one in timed]
    if any([(a.kind, a.path) for a in ours] != [(b.kind, b.path) for b in theirs] for theirs in others):
        return False
    for one, *measured in zip(ours, *others, strict=True):
        for time, spread in _TIMES:
            times = [ns for call in measured if (ns := getattr(call, time)) is not None]
            spreads = [ns for call in measured if (ns := getattr(call, spread)) is not None]
            if len(times) == len(measured):
                setattr(one, time, sum(times) // len(times))
                setattr(one, spread, max([max(times) - min(times), *spreads]))
        one.samples = sum(call.samples or 0 for call in measured) or None
    return True


_TIMES = (("host_ns", "spread_ns"), ("device_ns", "device_spread_ns"))
