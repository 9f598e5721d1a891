"""Where a number came from: back through views, transposes and element-wise calls to what made it, in factors."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from tracecall.calls import Call, Value
from tracecall.diagnosis.expressions import constant
from tracecall.diagnosis.failure import Failure, first, maker_name, of_torch, sizes, spec_of

_SHAPING = {
    "aten.view", "aten.reshape", "aten._unsafe_view", "aten.flatten", "aten._reshape_alias", "aten.unflatten",
    "aten.squeeze", "aten.unsqueeze", "aten.ravel",
}  # fmt: skip
_SHAPING_MODULES = {"Flatten", "Unflatten"}
_MOVING = {"aten.transpose", "aten.permute", "aten.t"}
_KEEPING = {
    "aten.relu", "aten.relu_", "aten.gelu", "aten.silu", "aten.silu_", "aten.sigmoid", "aten.tanh", "aten.dropout",
    "aten.native_dropout", "aten.leaky_relu", "aten.elu", "aten.clone", "aten.contiguous", "aten._to_copy", "aten.to",
    "aten.detach", "aten.softmax", "aten._softmax", "aten.hardtanh", "aten.alias",
}  # fmt: skip
_KEEPING_MODULES = {
    "ReLU", "GELU", "SiLU", "Sigmoid", "Tanh", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "Identity",
    "LeakyReLU", "ELU", "Hardtanh", "ReLU6", "Hardswish", "Softmax", "Mish", "PReLU", "BatchNorm1d", "BatchNorm2d",
    "BatchNorm3d",
}  # fmt: skip
_CONTAINERS = {"Sequential"}


@dataclass(frozen=True)
class Stop:
    """One call on the way back: what the tensor went through, or was made by."""

    call: Call
    value: Value | None  # what went into a call that it only went through; None for the call that made it
    label: str


@dataclass(frozen=True)
class Origin:
    """A number with the sizes that it is a product of, and where it is from."""

    number: int
    factors: tuple[int, ...]
    label: str | None  # "pool", "input x"
    merged_at: str | None = None  # what made one dimension of several: a line, or a module
    root_input: tuple[str, int] | None = None  # the input of the model and its dimension, where it is that very size

    @property
    def product(self) -> str:
        """The number and its factors: "2048 = 32·8·8"."""
        return f"{self.number} = {times(self.factors)}" if len(self.factors) > 1 else str(self.number)

    @property
    def maker(self) -> str:
        """What made it, as a sentence has it; a parameter that is called "input" is not said twice."""
        return "the input" if self.label == "input input" else str(self.label)

    @property
    def text(self) -> str:
        """The product, and from where: "2048 = 32·8·8 from pool, flattened at models/cnn.py:31"."""
        told = self.product if self.label is None else f"{self.product} from {self.maker}"
        if self.merged_at is not None:
            told += f", flattened {self.merged_at}"
        return told


def times(factors: tuple[int, ...] | list[int]) -> str:
    """Factors as text: "32·8·8"."""
    return "·".join(map(str, factors))


def origin(failure: Failure, call: Call, value: Value, dim: int) -> Origin | None:
    """Where the size of dimension `dim` of a call's input came from."""
    spec = spec_of(value)
    shape = sizes(spec) if spec is not None else []
    if not -len(shape) <= dim < len(shape):
        return None
    dims = [dim % len(shape)]
    number = shape[dims[0]]
    merged: str | None = None
    label: str | None = None
    for stop in way_back(failure, call, value):
        label = stop.label
        if stop.value is None:
            break
        before = _sizes_of(stop.value)
        after = shape
        moved = _order(stop.call, len(after))
        if moved is not None:
            dims, shape = [moved[dim] for dim in dims], before
            continue
        found = [one for dim in dims for one in (source_dims(before, after, dim) or [-1])]
        if -1 in found:
            break  # a size that mixes several: its maker is this call
        if len(found) > len(dims):
            merged = merged or _place(stop.call)
        dims, shape = found, before
    factors = tuple(shape[one] for one in dims if shape[one] != 1) or (number,)
    root = root_input(failure, call, value) if len(dims) == 1 and merged is None else None
    exact = None if root is None or _sizes_of(root) != shape else (root.where, dims[0])
    return Origin(number, factors, label, merged if len(factors) > 1 else None, exact)


def _place(call: Call) -> str:
    """Where a call flattened: its line, or the module that torch.nn's own code called."""
    if call.site is None or of_torch(call.site):
        return f"by {maker_name(call)}"
    return f"at {call.site.file}:{call.site.line}"


def _order(call: Call, count: int) -> list[int] | None:
    """The dimensions of the input that a transpose or permute put where; None for any other call."""
    if call.type == "aten.permute":
        dims = constant(call, "dims")
        return [dim % count for dim in dims] if isinstance(dims, list) and len(dims) == count else None
    if call.type in ("aten.t", "aten.transpose"):
        one, two = constant(call, "dim0"), constant(call, "dim1")
        one, two = (0, 1) if call.type == "aten.t" else (one, two)
        if isinstance(one, int) and isinstance(two, int) and count > 1:
            order = list(range(count))
            order[one], order[two] = order[two], order[one]
            return order
    return None


def elements(failure: Failure, call: Call, value: Value) -> Origin:
    """Where the number of elements of a call's input came from: as the sizes of what made it."""
    shape = _sizes_of(value)
    number = math.prod(shape)
    label = None
    for stop in way_back(failure, call, value):
        label = stop.label
        if stop.value is None:
            break
        before = _sizes_of(stop.value)
        if math.prod(before) != number:
            break
        if stop.call.type not in _MOVING:
            shape = before
    return Origin(number, tuple(size for size in shape if size != 1) or (number,), label)


def root_input(failure: Failure, call: Call, value: Value) -> Value | None:
    """The input of the model that reaches a call unchanged, or only through calls that keep its shape."""
    for stop in way_back(failure, call, value):
        if stop.value is None:
            name = stop.label.removeprefix("input ") if stop.call is failure.root else None
            return next((given for given in failure.root.inputs if given.where == name), None)
        if _sizes_of(stop.value) != _sizes_of(value) or stop.call.type in _MOVING:
            return None
    return None


def way_back(failure: Failure, call: Call, value: Value) -> list[Stop]:
    """The calls that a tensor went through before this one, nearest first; the last one made it."""
    found: list[Stop] = []
    current: Call | None = call
    while current is not None and len(found) < 1000:
        label = value.source
        if label is None or label.startswith(("parameter ", "buffer ")):
            if label is not None:
                found.append(Stop(current, None, label))
            elif failure.parents.get(id(current)) is None:
                found.append(Stop(current, None, f"input {value.where}"))
            break
        if label.startswith("input "):
            parent = failure.parents.get(id(current))
            given = None if parent is None else first(parent, label.removeprefix("input "))
            if parent is None or given is None:
                break
            current, value = parent, given
            continue
        maker = maker_of(failure, current, label)
        if maker is None:
            break
        went_in = first(maker)
        if went_in is None or not _passes_on(maker, went_in):
            found.append(Stop(maker, None, maker_name(maker)))
            break
        found.append(Stop(maker, went_in, maker_name(maker)))
        current, value = maker, went_in
    return found


def maker_of(failure: Failure, user: Call, label: str) -> Call | None:
    """The call that a source's label means; inside a Sequential, the submodule that made what it returned."""
    parent = failure.parents.get(id(user))
    siblings = failure.trace.calls if parent is None else parent.children
    totals = Counter(call.name for call in siblings)
    seen: Counter[str] = Counter()
    found: Call | None = None
    for call in siblings:
        if call is user:
            break
        seen[call.name] += 1
        if label == (call.name if totals[call.name] == 1 else f"{call.name} #{seen[call.name]}"):
            found = call
    if found is None:
        for _, call in failure.trace.walk():
            if call is user:
                break
            if call.kind == "module" and call.path == label and call.output:
                found = call
    while found is not None and found.kind == "module" and found.type in _CONTAINERS and found.children:
        found = found.children[-1]
    return found


def _passes_on(call: Call, went_in: Value) -> bool:
    """Whether a call gives back the elements of its input one by one, in their order."""
    if not call.output or spec_of(call.output[0]) is None:
        return False
    if call.kind == "operation" and set(call.operations or ()) - (_SHAPING | _KEEPING | _MOVING):
        return False  # something else runs under the same expression
    if call.kind == "operation" and call.type in _MOVING:
        return len(call.operations or ()) == 1 and sum((call.operations or {}).values()) == 1
    kept = call.type in (_KEEPING if call.kind == "operation" else _KEEPING_MODULES)
    if kept:
        return _sizes_of(call.output[0]) == _sizes_of(went_in)
    return call.type in (_SHAPING if call.kind == "operation" else _SHAPING_MODULES)


def source_dims(before: list[int], after: list[int], dim: int) -> list[int] | None:
    """The dimensions of `before` that a reshape made into dimension `dim` of `after`; None where it mixes them."""
    if before == after:
        return [dim]
    i = j = 0
    while i < len(before) and j < len(after):
        old, new = [i], [j]
        left, right = before[i], after[j]
        while left != right:
            if left < right:
                i += 1
                if i == len(before):
                    return None
                old.append(i)
                left *= before[i]
            else:
                j += 1
                if j == len(after):
                    return None
                new.append(j)
                right *= after[j]
        i, j = i + 1, j + 1
        if dim in new:
            if j == len(after):  # ones at the end belong to the last
                old.extend(range(i, len(before)))
            wanted = [one for one in new if after[one] != 1]
            return old if [dim] == wanted or (not wanted and len(new) == 1) else None
    return None


def _sizes_of(value: Value) -> list[int]:
    spec = spec_of(value)
    return [] if spec is None else sizes(spec)
