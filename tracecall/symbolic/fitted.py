"""Formulas for a model that refuses symbolic sizes: what several runs on concrete fake sizes agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from math import prod

from tracecall.calls import TensorSpec, Trace, Value
from tracecall.symbolic.dims import Sizes
from tracecall.symbolic.formulas import UNKNOWN
from tracecall.symbolic.running import Run

# factors on the sizes of the first run, so that every name changes by itself and all change together
_STEPS = (1, 2, 3, 5, 7)


def fit(trace: Trace, sizes: Sizes, runs: Callable[[Sizes], Run]) -> int:
    """Write formulas of the names in a Trace of numbers; returns how many runs they rest on, 0 where there are none.

    The Trace stays as it is where the model makes other calls with other sizes, or runs with these sizes alone.
    """
    found: list[tuple[Sizes, Trace]] = [(sizes, trace)]
    for other in _others(sizes):
        tried = runs(other)
        if tried.error is None and _calls(tried.trace) == _calls(trace):
            found.append((other, tried.trace))
    changed = {name for name in sizes if len({one[name] for one, _ in found}) > 1}
    if changed != set(sizes) or len(found) <= len(sizes):
        return 0
    columns = [list(_specs(one)) for _, one in found]
    if len({len(column) for column in columns}) > 1:
        return 0
    where = [one for one, _ in found]
    for row in zip(*columns, strict=True):
        call_values, specs = row[0][0], [spec for _, spec in row]
        if len({len(spec.shape) for spec in specs}) > 1:
            continue
        shape = tuple(_formula([spec.shape[i] for spec in specs], where) for i in range(len(specs[0].shape)))
        first = specs[0]
        call_values.value = TensorSpec(shape, first.dtype, first.device, first.requires_grad, type=first.type)
    for _, call in trace.walk():  # those inside torch.nn's forwards may be as many as a sequence is long
        call.children = [child for child in call.children if not child.internal]
    return len(found)


def _others(sizes: Sizes) -> Iterator[dict[str, int]]:
    for step in _STEPS[1:]:
        yield {name: size + step + 2 * i for i, (name, size) in enumerate(sizes.items())}
    for name, size in sizes.items():
        yield {**sizes, name: size + 1}


def _calls(trace: Trace) -> list[tuple[str, str, str]]:
    return [(call.kind, call.path, call.name) for _, call in trace.walk() if not call.internal]


def _specs(trace: Trace) -> Iterator[tuple[Value, TensorSpec]]:
    for _, call in trace.walk():
        for value in () if call.internal else (*call.inputs, *call.output):
            if isinstance(value.value, TensorSpec):
                yield value, value.value


def _formula(values: list[int | str], where: list[Sizes]) -> int | str:
    """A constant, a multiple of a product of names, or one name plus a constant; "?" for anything else."""
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) != len(values):
        return UNKNOWN
    if len(set(numbers)) == 1:
        return numbers[0]
    names = list(where[0])
    for count in range(1, len(names) + 1):
        for some in combinations(names, count):
            products = [prod(one[name] for name in some) for one in where]
            factor = numbers[0] // products[0]
            if factor and all(number == factor * product for number, product in zip(numbers, products, strict=True)):
                return "·".join([*([str(factor)] if factor > 1 else []), *some])
    for name in names:
        differences = {number - one[name] for number, one in zip(numbers, where, strict=True)}
        if len(differences) == 1:
            (more,) = differences
            return f"{name} {'+' if more > 0 else '-'} {abs(more)}"
    return UNKNOWN
