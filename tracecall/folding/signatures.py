"""A number for each call, the same for calls that are alike; made bottom-up, once each, so that cost is linear.

Only of calls that are asked for, with all inside them: most calls of a model that repeats nowhere need none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from tracecall.calls import Call, TensorSpec, Trace
from tracecall.folding.settings import unnumbered

# findings that are about several modules name one path: the modules' own states say which they are
_STATES = {"unused", "weights-used", "bypassed"}
_DIGITS = re.compile(r"\d+")
_LONGEST = 4000  # characters of a name whose digits do not count: no longer one was written by hand

Specs = tuple[TensorSpec, ...]


class Signatures:
    """Numbers by call. Calls are known by their identity, so those that were numbered are kept alive.

    `exact` is equal where kind, type, name but for its digits, shapes, dtypes, devices and all of it below are, and the
    module's parameters, mode, findings and settings but for their numbers. `unsized` is equal where that is so but for
    sizes, and `loose` where those are calls of one module.
    """

    def __init__(self, trace: Trace) -> None:
        self.exact: dict[int, int] = {}
        self.loose: dict[int, int] = {}
        self.unsized: dict[int, int] = {}
        self._numbers: dict[Any, int] = {}
        self._names: dict[str, str] = {}
        self._specs = _Specs(self.number)
        self._sides: dict[tuple[Specs, Specs], tuple[int, int]] = {}
        self._alive: list[list[Call]] = []
        self._told = _Told(trace, self.number)

    def number(self, key: Any) -> int:
        """The same number for equal keys."""
        numbers = self._numbers
        return numbers.setdefault(key, len(numbers))

    def alone(self) -> int:
        """A number that no other call has."""
        return self.number(object())

    def add(self, calls: list[Call]) -> None:
        """Number calls and all that is inside them, but for those that have their numbers."""
        self._alive.append(calls)
        exact = self.exact
        order: list[Call] = []
        waiting = list(calls)
        while waiting:
            call = waiting.pop()
            if id(call) in exact:  # so has all that is inside it
                continue
            order.append(call)
            if call.children:
                waiting.extend(call.children)
        self._number_all(order[::-1])

    def _number_all(self, calls: list[Call]) -> None:
        """Number calls that stand after those inside them. One loop: ten thousand calls are nothing unusual."""
        exact, loose, unsized = self.exact, self.loose, self.unsized
        names, sides, told, numbers = self._names, self._sides, self._told, self._numbers
        for call in calls:
            key = id(call)
            inside = [id(child) for child in call.children] if call.children else ()
            if call.error is not None or call.fold is not None:
                exact[key] = loose[key] = unsized[key] = self.alone()
                continue
            name = names.get(call.name)
            if name is None:
                name = _DIGITS.sub("0", call.name) if len(call.name) <= _LONGEST else call.name
                names[call.name] = name
            kind = call.kind
            same = (
                kind, call.type, name, call.internal, call.opaque, call.thread, call.hook, call.closed,
                told[call.path] if kind == "module" else None,
                None if call.operations is None else tuple(call.operations.items()),
            )  # fmt: skip
            same_number = numbers.setdefault(same, len(numbers))
            taken = tuple([one.value for one in call.inputs if isinstance(one.value, TensorSpec)])
            given = tuple([one.value for one in call.output if isinstance(one.value, TensorSpec)])
            sides_sized, sides_any = sides.get((taken, given)) or self._new_sides(taken, given)
            alike = (same_number, sides_sized, tuple([exact[child] for child in inside]) if inside else ())
            exact[key] = numbers.setdefault(alike, len(numbers))
            alike = (same_number, sides_any, tuple([unsized[child] for child in inside]) if inside else ())
            number = unsized[key] = numbers.setdefault(alike, len(numbers))
            loose[key] = numbers.setdefault((call.path, call.name, number), len(numbers))

    def _new_sides(self, taken: Specs, given: Specs) -> tuple[int, int]:
        """A number for what goes into a call and what comes out of it, and one for the same of any sizes."""
        specs = self._specs
        sized, unsized = [
            self.number(
                ("sides", tuple([specs[one][which] for one in taken]), tuple([specs[one][which] for one in given]))
            )
            for which in (0, 1)
        ]
        self._sides[taken, given] = sized, unsized
        return sized, unsized


class _Specs(dict[TensorSpec, tuple[int, int]]):
    """A number for each tensor, and one for the same of any sizes.

    Neither strides nor requires_grad count, in which the first of many often differs.
    """

    def __init__(self, number: Callable[[Any], int]) -> None:
        super().__init__()
        self._number = number

    def __missing__(self, spec: TensorSpec) -> tuple[int, int]:
        kind = (spec.dtype, spec.device, spec.layout, spec.type)
        sizes = tuple([None if isinstance(size, int) else size for size in spec.shape])
        found = self[spec] = self._number(("tensor", spec.shape, kind)), self._number(("tensor", sizes, kind))
        return found


class _Told(dict[str, int | None]):
    """What is known of modules beside their calls: parameters, mode, findings, submodules that were not called.

    A number for each path, None where no module is: it is part of the key of every call.
    """

    def __init__(self, trace: Trace, number: Callable[[Any], int]) -> None:
        super().__init__()
        self._trace = trace
        self._number = number

    @functools.cached_property
    def _said(self) -> dict[str, list[str]]:
        return _remarks(self._trace)

    def __missing__(self, path: str) -> int | None:
        info = self._trace.modules.get(path)
        if info is None:
            told = None
        else:
            remarks = tuple(sorted(self._said.get(path, ())))
            made = unnumbered(info.extra_repr)  # eps or p may differ, and is told; GELU's approximation may not
            told = self._number((info.parameters, info.trainable, info.buffers, info.training, made, remarks))
        self[path] = told
        return told


def _remarks(trace: Trace) -> dict[str, list[str]]:
    """What is said of modules, at the nearest one that was called: the path from there is part of it."""
    said = [(finding.path, finding.kind) for finding in trace.findings if finding.kind not in _STATES]
    said += [
        (path, info.state)
        for path, info in trace.modules.items()
        if info.state not in ("called", "unseen") and not info.container and not info.built_inside
    ]
    called = _called(trace.calls) if said else set()
    lengths = set(map(len, called))
    remarks: dict[str, list[str]] = {}
    for path, words in said:
        above = _nearest(path, called, lengths)
        remarks.setdefault(above, []).append(f"{words} {_DIGITS.sub('0', path[len(above) :])}")
    return remarks


def _nearest(path: str, called: set[str], lengths: set[int]) -> str:
    """The path itself or the nearest above it that was called; "" where none was.

    A path may have ten thousand names: its starts are made only where one of them can have been called.
    """
    at = len(path)
    while at > 0 and not (at in lengths and path[:at] in called):
        at = path.rfind(".", 0, at)
    return path[: max(at, 0)]


def _called(calls: list[Call]) -> set[str]:
    """The paths of all modules that were called."""
    found: set[str] = set()
    while calls:  # a level at a time
        found.update([call.path for call in calls if call.kind == "module"])
        calls = [child for call in calls if call.children for child in call.children]
    return found
