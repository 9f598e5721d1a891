"""view, reshape, unflatten and expand: sizes that a tensor's values do not fill, or a layout that view cannot use."""

from __future__ import annotations

import math

from tracecall.calls import Call, Value
from tracecall.diagnosis.building import arguments, number, rebuilt
from tracecall.diagnosis.expressions import constant, factored, runs, with_sizes
from tracecall.diagnosis.failure import Answer, Failure, first, listed, sizes, spec_of, subject
from tracecall.diagnosis.inputs import another_image, another_size
from tracecall.diagnosis.origin import elements, times, way_back
from tracecall.proposals import Edit, OperandMethod, OperationArgument, Proposal

_VIEWS = {"aten.view": "size", "aten.reshape": "shape", "aten._unsafe_view": "size", "aten._reshape_alias": "size"}


def view(failure: Failure) -> Answer | None:
    """A view or reshape to sizes that hold another number of values."""
    call = failure.operation
    if call is None or call.type not in _VIEWS or call.internal or runs(call) > 1:
        return None
    value, wanted = first(call), constant(call, _VIEWS[call.type])
    spec = spec_of(value)
    if value is None or spec is None or not isinstance(wanted, list):
        return None
    shape = sizes(spec)
    total = math.prod(shape)
    fixed = [size for size in wanted if size != -1]
    rest = math.prod(fixed)
    if wanted.count(-1) > 1 or len(shape) != len(spec.shape):
        return None
    fits = rest != 0 and total % rest == 0 if -1 in wanted else total == rest
    if fits:
        return _stride(failure, call, value, wanted)
    proposals = _resized(failure, call, shape, wanted)
    if (image := another_image(failure)) is not None:
        proposals.insert(0, image)
    split = _split(shape, wanted)
    if split is not None:
        heads, each = split
        sentence = (
            f"{subject(failure, call)}: the last dimension of {listed(shape)} does not split into "
            f"{heads}·{each} = {heads * each}"
        )
        given = another_size(failure, call, value, -1, heads * each)
        proposals += [given] if given else []
        return failure.cause("view-size", sentence), proposals
    made = elements(failure, call, value)
    told = f"{total} values"
    if made.label is not None:
        told += f" ({times(made.factors)}, from {made.maker})"
    elif len(shape) > 1:
        told += f" ({times(shape)})"
    if -1 in wanted:
        row = factored(call, -1, rest) if len(fixed) == 1 and wanted[-1] != -1 else None
        rows = row or (f"{rest} = {times(fixed)}" if len(fixed) > 1 else str(rest))
        sentence = f"{subject(failure, call)}: {told} do not divide into rows of {rows}"
        given = another_size(failure, call, value, -1, rest) if len(shape) == len(wanted) == 2 else None
        proposals += [given] if given else []
    else:
        sentence = f"{subject(failure, call)}: {told} do not fill {listed(wanted)}, which holds {rest}"
    return failure.cause("view-size", sentence), proposals


def _split(shape: list[int], wanted: list[int]) -> tuple[int, int] | None:
    """The two sizes that the last dimension was to be split into: heads and features of each."""
    if len(wanted) == len(shape) + 1 and len(shape) > 1 and wanted[-1] > 0 and wanted[-2] > 0:
        before = zip(shape[:-1], wanted[:-2], strict=True)
        if all(new in (old, -1) for old, new in before):
            return wanted[-2], wanted[-1]
    return None


def _resized(failure: Failure, call: Call, shape: list[int], wanted: list[int]) -> list[Proposal]:
    """The same view with a last (or last but one) size that fits, and with it the Linear that waits for the old one."""
    total, site = math.prod(shape), call.site
    found: list[Proposal] = []
    if site is None or not wanted:
        return found
    for position in (-1, -2) if len(wanted) > 2 else (-1,):
        others = [size for i, size in enumerate(wanted) if i != len(wanted) + position]
        known = math.prod(size for size in others if size != -1)
        if -1 in others:
            known *= shape[0] if shape else 1  # what -1 stands for: the batch stays what it is
        if wanted[position] == -1 or known == 0 or total % known:
            continue
        size = total // known
        new = list(wanted)
        new[position] = size
        text = with_sizes(call, new)
        if text is None:
            continue
        edits: list[Edit] = [OperationArgument(site, _VIEWS[call.type], tuple(new))]
        waiting = _waiting(failure, wanted[-1]) if position == -1 else None
        if waiting is not None and (built := rebuilt(failure, waiting, in_features=size)):
            text, edits = f"{text} and {built[0]}", [*edits, built[1]]
        found.append(Proposal(text, edits))
    return found


def _waiting(failure: Failure, features: int) -> str | None:
    """The one Linear that takes this many features and was not called yet."""
    called = {call.path for _, call in failure.trace.walk() if call.kind == "module"}
    found = [
        path
        for path, info in failure.trace.modules.items()
        if info.type == "Linear" and path not in called and number(arguments(info), "in_features") == features
    ]
    return found[0] if len(found) == 1 else None


def _stride(failure: Failure, call: Call, value: Value, wanted: list[int]) -> Answer | None:
    """A view of a tensor whose values do not lie one after another."""
    spec = spec_of(value)
    if spec is None or spec.stride is None or call.type != "aten.view" or call.site is None:
        return None
    maker = next((stop.label for stop in way_back(failure, call, value)), None)
    made = f", made by {maker}," if maker and not maker.startswith("input ") else ""
    sentence = (
        f"{subject(failure, call)}: {listed(sizes(spec))}{made} is not contiguous (strides {listed(spec.stride)}), "
        "and view copies nothing"
    )
    text = with_sizes(call, wanted)
    if text is None:
        return failure.cause("view-stride", sentence), []
    reshaped = (
        text.replace(".view(", ".reshape(") if text.count(".view(") == 1 else f"{subject(failure, call)} as reshape"
    )
    return failure.cause("view-stride", sentence), [Proposal(reshaped, [OperandMethod(call.site, 0, "contiguous")])]


def expand(failure: Failure) -> Answer | None:
    """An expand to sizes that are not the tensor's own, where those are not 1."""
    call = failure.operation
    if call is None or call.type != "aten.expand" or runs(call) > 1:
        return None
    value, wanted = first(call), constant(call, "size")
    spec = spec_of(value)
    if spec is None or not isinstance(wanted, list) or call.internal:
        return None
    shape = sizes(spec)
    if len(wanted) < len(shape):
        sentence = (
            f"{subject(failure, call)}: {len(wanted)} sizes for {listed(shape)}, which has {len(shape)} dimensions"
        )
        return failure.cause("expand-size", sentence), []
    for back in range(1, len(shape) + 1):
        if shape[-back] not in (1, wanted[-back]) and wanted[-back] != -1:
            sentence = (
                f"{subject(failure, call)}: dimension {len(shape) - back} of {listed(shape)} is {shape[-back]}, "
                f"and only a dimension of 1 expands to {wanted[-back]}"
            )
            return failure.cause("expand-size", sentence), []
    return None


def unflatten(failure: Failure) -> Answer | None:
    """A dimension that does not split into the sizes of an Unflatten."""
    call = failure.module
    if call.type != "Unflatten":
        return None
    value = first(call)
    spec = spec_of(value)
    given = arguments(failure.info(call.path))
    dim, into = number(given, "dim"), given.get("unflattened_size")
    shape = [] if spec is None else sizes(spec)
    if dim is None or not isinstance(into, tuple) or not -len(shape) <= dim < len(shape):
        return None
    if math.prod(into) == shape[dim] or -1 in into:
        return None
    sentence = (
        f"{subject(failure, call)} splits dimension {dim} into {times(into)} = {math.prod(into)}, "
        f"that of {listed(shape)} is {shape[dim]}"
    )
    given_size = None if value is None else another_size(failure, call, value, dim, math.prod(into))
    return failure.cause("unflatten-size", sentence), [given_size] if given_size else []


def split(failure: Failure) -> Answer | None:
    """A split whose sizes do not sum up to the dimension."""
    call = failure.operation
    if call is None or call.type != "aten.split_with_sizes":
        return None
    value, parts, dim = first(call), constant(call, "split_sizes"), constant(call, "dim")
    spec = spec_of(value)
    shape = [] if spec is None else sizes(spec)
    dim = 0 if dim is None else dim
    if not isinstance(parts, list) or not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
        return None
    if sum(parts) == shape[dim]:
        return None
    sentence = (
        f"{subject(failure, call)}: {' + '.join(map(str, parts))} = {sum(parts)}, "
        f"dimension {dim % len(shape)} of {listed(shape)} is {shape[dim]}"
    )
    proposals = []
    last = shape[dim] - sum(parts[:-1])
    if call.site is not None and last > 0:
        new = (*parts[:-1], last)
        proposals.append(
            Proposal(f"{call.name} into {listed(new)}", [OperationArgument(call.site, "split_sizes", new)])
        )
    return failure.cause("split-sizes", sentence), proposals
