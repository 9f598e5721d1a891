"""A number for each call, the same for calls that are alike; made bottom-up, once each, so that cost is linear."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tracecall.calls import Call, TensorSpec, Trace

# findings that are about several modules name one path: the modules' own states say which they are
_STATES = {"unused", "weights-used", "bypassed"}
_DIGITS = re.compile(r"\d+")
_LONGEST = 4000  # characters of a name whose digits do not count: no longer one was written by hand


class Signatures:
    """Numbers by call. Calls are known by their identity, so those that were numbered are kept alive.

    `exact` is equal where kind, type, name but for its digits, shapes, dtypes, devices, the module's parameters, mode
    and findings and all of it below are. `loose` is equal for calls of one module that differ in sizes alone.
    """

    def __init__(self, trace: Trace) -> None:
        self.exact: dict[int, int] = {}
        self.loose: dict[int, int] = {}
        self.calls: dict[int, int] = {}  # how many calls it is, with those inside
        self._below: dict[int, int] = {}  # as `loose`, of any module
        self._numbers: dict[Any, int] = {}
        self._names: dict[str, str] = {}
        self._specs = _Specs(self.number)
        self._sides: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, int]] = {}
        self._alive: list[list[Call]] = []
        # as numbers: they are part of the key of every call
        self._told = {path: self.number(told) for path, told in _told(trace).items()}

    def number(self, key: Any) -> int:
        """The same number for equal keys."""
        numbers = self._numbers
        return numbers.setdefault(key, len(numbers))

    def alone(self) -> int:
        """A number that no other call has."""
        return self.number(object())

    def add(self, calls: list[Call]) -> None:
        """Number calls and all that is inside them."""
        self._alive.append(calls)
        order: list[Call] = []
        waiting = list(calls)
        while waiting:
            call = waiting.pop()
            order.append(call)
            if call.children:
                waiting.extend(call.children)
        self._number_all(order[::-1])

    def _number_all(self, calls: list[Call]) -> None:
        """Number calls that stand after those inside them. One loop: ten thousand calls are nothing unusual."""
        exact, loose, below, counts = self.exact, self.loose, self._below, self.calls
        names, specs, sides, told, numbers = self._names, self._specs, self._sides, self._told, self._numbers
        for call in calls:
            key = id(call)
            inside = [id(child) for child in call.children] if call.children else ()
            counts[key] = 1 + sum([counts[child] for child in inside]) if inside else 1
            if call.error is not None or call.fold is not None:
                exact[key] = loose[key] = below[key] = self.alone()
                continue
            name = names.get(call.name)
            if name is None:
                name = _DIGITS.sub("0", call.name) if len(call.name) <= _LONGEST else call.name
                names[call.name] = name
            kind = call.kind
            same = (
                kind, call.type, name, call.internal, call.opaque, call.thread, call.hook, call.closed,
                told.get(call.path) if kind == "module" else None,
                None if call.operations is None else tuple(call.operations.items()),
            )  # fmt: skip
            same_number = numbers.setdefault(same, len(numbers))
            taken = tuple([specs[one.value] for one in call.inputs if isinstance(one.value, TensorSpec)])
            given = tuple([specs[one.value] for one in call.output if isinstance(one.value, TensorSpec)])
            sized, unsized = sides.get((taken, given)) or self._new_sides(taken, given)
            alike = (same_number, sized, tuple([exact[child] for child in inside]) if inside else ())
            exact[key] = numbers.setdefault(alike, len(numbers))
            alike = (same_number, unsized, tuple([below[child] for child in inside]) if inside else ())
            number = below[key] = numbers.setdefault(alike, len(numbers))
            loose[key] = numbers.setdefault((call.path, call.name, number), len(numbers))

    def _new_sides(self, taken: tuple[int, ...], given: tuple[int, ...]) -> tuple[int, int]:
        """A number for what goes into a call and what comes out of it, and one for the same of any sizes."""
        unsized = [tuple([self._specs.unsized[one] for one in side]) for side in (taken, given)]
        numbers = self._sides[taken, given] = (self.number((taken, given)), self.number(("unsized", *unsized)))
        return numbers


class _Specs(dict[TensorSpec, int]):
    """A number for each tensor. Neither strides nor requires_grad count, in which the first of many often differs."""

    def __init__(self, number: Callable[[Any], int]) -> None:
        super().__init__()
        self.unsized: dict[int, int] = {}  # that of the same tensor of any sizes, by its number
        self._number = number

    def __missing__(self, spec: TensorSpec) -> int:
        kind = (spec.dtype, spec.device, spec.layout, spec.type)
        found = self[spec] = self._number(("tensor", spec.shape, kind))
        sizes = tuple([None if isinstance(size, int) else size for size in spec.shape])
        self.unsized[found] = self._number(("tensor", sizes, kind))
        return found


def _told(trace: Trace) -> dict[str, Any]:
    """What is known of modules beside their calls: parameters, mode, findings, submodules that were not called."""
    called = _called(trace.calls)
    remarks: dict[str, list[str]] = {}

    def remark(path: str, words: str) -> None:
        """At the module that was called: the path from there is part of it."""
        above = path
        while above and above not in called:
            above = above.rpartition(".")[0]
        remarks.setdefault(above, []).append(f"{words} {_DIGITS.sub('0', path[len(above) :])}")

    for finding in trace.findings:
        if finding.kind not in _STATES:
            remark(finding.path, finding.kind)
    for path, info in trace.modules.items():
        if info.state not in ("called", "unseen") and not info.container and not info.built_inside:
            remark(path, info.state)
    return {
        path: (info.parameters, info.trainable, info.buffers, info.training, tuple(sorted(remarks.get(path, ()))))
        for path, info in trace.modules.items()
    }


def _called(calls: list[Call]) -> set[str]:
    """The paths of all modules that were called."""
    found: set[str] = set()
    waiting = list(calls)
    while waiting:
        call = waiting.pop()
        if call.kind == "module":
            found.add(call.path)
        if call.children:
            waiting.extend(call.children)
    return found
