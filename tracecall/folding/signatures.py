"""A number for each call, the same for calls that are alike; made bottom-up, once each, so that cost is linear."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tracecall.calls import Call, TensorSpec, Trace

# findings that are about several modules name one path: the modules' own states say which they are
_STATES = {"unused", "weights-used", "bypassed"}
_DIGITS = re.compile(r"\d+")


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
        return self._numbers.setdefault(key, len(self._numbers))

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
        for call in reversed(order):
            self._add(call)

    def _add(self, call: Call) -> None:
        """The calls inside have their numbers already."""
        key = id(call)
        inside = [id(child) for child in call.children]
        self.calls[key] = 1 + sum([self.calls[child] for child in inside]) if inside else 1
        if call.error is not None or call.fold is not None:
            self.exact[key] = self.loose[key] = self._below[key] = self.alone()
            return
        name = self._names.get(call.name)
        if name is None:
            name = self._names[call.name] = _DIGITS.sub("0", call.name)
        same = self.number((
            call.kind, call.type, name, call.internal, call.opaque, call.thread, call.hook, call.closed,
            self._told.get(call.path) if call.kind == "module" else None,
            None if call.operations is None else tuple(call.operations.items()),
        ))  # fmt: skip
        specs = self._specs
        taken = tuple([specs[value.value] for value in call.inputs if isinstance(value.value, TensorSpec)])
        given = tuple([specs[value.value] for value in call.output if isinstance(value.value, TensorSpec)])
        sized, unsized = self._sides.get((taken, given)) or self._new_sides(taken, given)
        self.exact[key] = self.number((same, sized, tuple([self.exact[child] for child in inside])))
        below = self._below[key] = self.number((same, unsized, tuple([self._below[child] for child in inside])))
        self.loose[key] = self.number((call.path, call.name, below))

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
