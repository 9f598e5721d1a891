"""The model's own inputs as the way out: another shape, another dtype, a batch dimension, channels in their place."""

from __future__ import annotations

from tracecall.calls import Call, TensorSpec, Value
from tracecall.diagnosis.failure import Answer, Failure, is_torch_module, listed, sizes, spec_of, tensors
from tracecall.diagnosis.origin import root_input
from tracecall.proposals import Edit, InputDtype, InputShape, Proposal, SearchSizes

_DIMS = {f"{kind}{dims}d": dims for kind in ("Conv", "ConvTranspose", "MaxPool", "AvgPool") for dims in (1, 2, 3)}


def command(failure: Failure, where: str, shape: list[int], dtype: str | None = None) -> str | None:
    """The --input options that give one input another shape or dtype; None where the command line cannot say it."""
    given = tensors(failure.root)
    if len(given) != len(failure.root.inputs) or any(not value.where.isidentifier() for value in given):
        return None
    parts = []
    for value in given:
        spec = spec_of(value)
        if spec is None:
            return None
        chosen = shape if value.where == where else sizes(spec)
        named = f"{value.where}=" if len(given) > 1 else ""
        kind = dtype if dtype is not None and value.where == where else spec.dtype
        parts.append(f"--input {named}{','.join(map(str, chosen)) or 'scalar'}{'' if _floating(kind) else ':' + kind}")
    return " ".join(parts)


def _floating(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))


def another_shape(failure: Failure, where: str, shape: list[int], text: str = "{command}") -> Proposal:
    """One input in another shape. `text` may hold {command}, which is "an input x of [2, 5]" where there is none."""
    typed = command(failure, where, shape)
    told = text.replace("{command}", typed or f"an input {where} of {listed(shape)}")
    return Proposal(told, [InputShape(where, tuple(shape))], typed)


def another_dtype(failure: Failure, where: str, dtype: str) -> Proposal:
    """One input in another dtype."""
    spec = next((spec_of(value) for value in failure.root.inputs if value.where == where), None)
    typed = None if spec is None or _floating(dtype) else command(failure, where, sizes(spec), dtype)
    return Proposal(typed or f"an input {where} of {dtype}", [InputDtype(where, dtype)], typed)


def another_size(failure: Failure, call: Call, value: Value, dim: int, size: int) -> Proposal | None:
    """The model's input with another size, where a call's input is the model's."""
    given = root_input(failure, call, value)
    spec = spec_of(given)
    if given is None or spec is None:
        return None
    shape = sizes(spec)
    if not -len(shape) <= dim < len(shape) or shape[dim] == size:
        return None
    shape[dim] = size
    return another_shape(failure, given.where, shape)


def another_image(failure: Failure, hints: tuple[int, ...] = ()) -> Proposal | None:
    """A search for the sizes of an image that fit, where a convolution or pooling takes the model's input."""
    found = _image(failure)
    if found is None:
        return None
    value, first = found
    spec = spec_of(value)
    dims = tuple(range(first, 0 if spec is None else len(spec.shape)))
    return Proposal("an input of {sizes}", [SearchSizes(value.where, dims, hints)]) if dims else None


def _image(failure: Failure) -> tuple[Value, int] | None:
    """The input that a convolution or pooling takes first, with its first spatial dimension."""
    for _, call in failure.trace.walk():
        kind = next((kind for kind in _DIMS if is_torch_module(failure, call, kind)), None)
        if kind is None:
            continue
        value = next(iter(tensors(call)), None)
        given = None if value is None else root_input(failure, call, value)
        spec = spec_of(given)
        if given is not None and spec is not None and len(sizes(spec)) >= _DIMS[kind] + 1:
            return given, len(spec.shape) - _DIMS[kind]
    return None


def unbatched(failure: Failure) -> tuple[Call, Value] | None:
    """The first convolution or pooling, and the model's input, where that went in as one example without a batch."""
    for _, call in failure.trace.walk():
        kind = next((kind for kind in _DIMS if is_torch_module(failure, call, kind)), None)
        if kind is None:
            continue
        value = next(iter(tensors(call)), None)
        given = None if value is None else root_input(failure, call, value)
        spec = spec_of(given)
        if given is None or spec is None or len(spec.shape) != _DIMS[kind] + 1:
            return None
        return call, given
    return None


def with_batch(failure: Failure, answer: Answer) -> Answer:
    """An answer to sizes that do not fit, with what a missing batch dimension has to do with it."""
    found = unbatched(failure)
    cause, proposals = answer
    spec = None if found is None else spec_of(found[1])
    if found is None or spec is None:
        return answer
    call, value = found
    if cause.kind == "dimensions":
        cause.kind = "missing-batch"
    cause.sentence += (
        f"; {call.path or call.type} ({call.type}) took {value.where} {listed(spec.shape)} "
        "as one example without a batch dimension"
    )
    shape = [1, *sizes(spec)]
    return cause, [another_shape(failure, value.where, shape, "add the batch dimension: {command}"), *proposals]


def every_dtype(failure: Failure, old: tuple[str, ...], new: str) -> list[Edit]:
    """Edits that give each input of these dtypes another."""
    found: list[Edit] = []
    for value in tensors(failure.root):
        spec = value.value
        if isinstance(spec, TensorSpec) and spec.dtype in old:
            found.append(InputDtype(value.where, new))
    return found
