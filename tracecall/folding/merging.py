"""Calls that are alike as one call: the medians of their times, the ranges of sizes that differ."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import msgspec

from tracecall.calls import Call, Spread, TensorSpec, Value
from tracecall.folding.settings import differences
from tracecall.medians import known, median, total

Shape = tuple[int | str, ...]

# what is added up over calls that share a line, and of which one of them has the median
_NUMBERS = ("host_ns", "host_self_ns", "device_ns", "device_self_ns", "spread_ns", "device_spread_ns", "flops",
            "output_bytes", "device_allocated")  # fmt: skip


def spread(times: Sequence[int | None]) -> Spread | None:
    """What several calls took, if that was measured of each."""
    found = known(times)
    return None if found is None else Spread(sum(found), median(found), min(found), max(found))


def totals(call: Call, repeats: list[Call]) -> Call:
    """The call with what the repeats took together."""
    changed = {name: total([getattr(one, name) for one in repeats]) for name in _NUMBERS}
    return msgspec.structs.replace(call, **changed)


def merged(repeats: list[list[Call]], made: Callable[[str], str], *, sized: bool) -> list[Call]:
    """Several lists of calls, alike call by call, as one list: the first's, with the medians of all.

    `made`: the settings of the module at a path; what differs in them is told.
    `sized`: their tensors may differ in sizes; those that do become ranges as text, "5…204".
    """
    columns = [_flat(repeat) for repeat in repeats]
    found: list[Call] = []
    for i in range(len(columns[0]) - 1, -1, -1):
        call = columns[0][i]
        same = [column[i] for column in columns]
        changed: dict[str, object] = {}
        for name in _NUMBERS:
            if getattr(call, name) is not None and (numbers := known([getattr(one, name) for one in same])):
                changed[name] = median(numbers)
        if call.device_memory is not None:
            changed["device_memory"] = max(one.device_memory or 0 for one in same)
        if call.kind == "module" and (differs := _differs(same, made)):
            changed["differs"] = differs
        if sized:
            changed["inputs"] = _ranges([one.inputs for one in same])
            changed["output"] = _ranges([one.output for one in same])
        inside = len(call.children)
        # the calls inside were built just before, the last of them first
        children = found[len(found) - inside :][::-1]
        del found[len(found) - inside :]
        found.append(msgspec.structs.replace(call, children=children, **changed))
    return found[::-1]


def _differs(same: list[Call], made: Callable[[str], str]) -> str | None:
    """In what settings the modules of these calls differ, where that was not told already."""
    return next((one.differs for one in same if one.differs), None) or differences([made(one.path) for one in same])


def _flat(calls: list[Call]) -> list[Call]:
    """Every call, each before those inside it."""
    found: list[Call] = []
    waiting = calls[::-1]
    while waiting:
        call = waiting.pop()
        found.append(call)
        waiting.extend(reversed(call.children))
    return found


def _ranges(lists: list[list[Value]]) -> list[Value]:
    """The first list with ranges for the sizes that differ; the tensors of all stand in the same order."""
    shapes = [[value.value.shape for value in values if isinstance(value.value, TensorSpec)] for values in lists]
    if all(one == shapes[0] for one in shapes):
        return lists[0]
    every = map(_shape, zip(*shapes, strict=True))
    found: list[Value] = []
    for value in lists[0]:
        spec = value.value
        if isinstance(spec, TensorSpec):
            shape = next(every)
            stride = spec.stride if shape == spec.shape else None
            value = msgspec.structs.replace(value, value=msgspec.structs.replace(spec, shape=shape, stride=stride))
        found.append(value)
    return found


@functools.lru_cache(maxsize=64)  # what one call gives the next one takes: the same shapes again and again
def _shape(shapes: tuple[Shape, ...]) -> Shape:
    """The first shape with ranges for the sizes that differ."""
    return tuple([_range(sizes) for sizes in zip(*shapes, strict=True)])


def _range(sizes: Shape) -> int | str:
    if all(size == sizes[0] for size in sizes):
        return sizes[0]
    whole = [size for size in sizes if isinstance(size, int)]
    # as they grow, or shrink
    return f"{min(whole)}…{max(whole)}" if sizes[0] == min(whole) else f"{max(whole)}…{min(whole)}"
