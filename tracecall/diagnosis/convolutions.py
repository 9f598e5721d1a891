"""Convolutions and poolings: channels, dimensions, and kernels larger than what they slide over."""

from __future__ import annotations

from tracecall.calls import Call, Value
from tracecall.diagnosis.building import arguments, number, numbers, rebuilt
from tracecall.diagnosis.expressions import replaced
from tracecall.diagnosis.failure import (
    Answer,
    Failure,
    counted,
    crossed,
    first,
    is_torch_module,
    listed,
    sizes,
    spec_of,
    subject,
)
from tracecall.diagnosis.inputs import another_image, another_shape, another_size, command
from tracecall.diagnosis.origin import origin, root_input
from tracecall.proposals import InputShape, OperandMethod, Proposal

_CONVOLUTIONS = {f"Conv{kind}{dims}d": dims for kind in ("", "Transpose") for dims in (1, 2, 3)}
_POOLS = {f"{kind}Pool{dims}d": dims for kind in ("Max", "Avg") for dims in (1, 2, 3)}
_DIMENSIONS = {1: ("C", "L"), 2: ("C", "H", "W"), 3: ("C", "D", "H", "W")}
# from channels-last to channels-first, and from channels-first with a batch back
_LAST_TO_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


def convolution(failure: Failure) -> Answer | None:
    """A Conv or ConvTranspose and an input of other dimensions or channels."""
    call = failure.module
    dims = next((dims for kind, dims in _CONVOLUTIONS.items() if is_torch_module(failure, call, kind)), None)
    value = first(call)
    spec = spec_of(value)
    channels = number(arguments(failure.info(call.path)), "in_channels")
    if dims is None or value is None or spec is None or channels is None:
        return None
    shape = sizes(spec)
    if len(shape) not in (dims + 1, dims + 2):
        return _dimensions(failure, call, value, dims, shape, channels)
    at = len(shape) - dims - 1
    if shape[at] != channels:
        return _channels(failure, call, value, shape, at, channels)
    return _kernel(failure, call, value, dims, shape, "Transpose" in call.type)


def pooling(failure: Failure) -> Answer | None:
    """A pooling whose window is larger than its input."""
    call = failure.module
    dims = next((dims for kind, dims in _POOLS.items() if is_torch_module(failure, call, kind)), None)
    value = first(call)
    spec = spec_of(value)
    if dims is None or value is None or spec is None:
        return None
    shape = sizes(spec)
    if len(shape) not in (dims + 1, dims + 2):
        return _dimensions(failure, call, value, dims, shape, None)
    return _kernel(failure, call, value, dims, shape, False)


def _dimensions(
    failure: Failure, call: Call, value: Value, dims: int, shape: list[int], channels: int | None
) -> Answer:
    names = _DIMENSIONS[dims]
    sentence = (
        f"{subject(failure, call)} takes [{', '.join(names)}] or [N, {', '.join(names)}], "
        f"got {counted(len(shape), 'dimension')} {listed(shape)}"
    )
    proposals = []
    given = root_input(failure, call, value)
    if given is not None and len(shape) == dims and channels in (1, None):
        proposals.append(
            another_shape(failure, given.where, [1, 1, *shape], "add batch and channel dimensions: {command}")
        )
    return failure.cause("dimensions", sentence), proposals


def _channels(failure: Failure, call: Call, value: Value, shape: list[int], at: int, channels: int) -> Answer:
    found = origin(failure, call, value, at)
    got = str(shape[at]) if found is None else found.text
    groups = number(arguments(failure.info(call.path)), "groups")
    proposals = []
    given = root_input(failure, call, value)
    kind = "conv-channels"
    sentence = f"{subject(failure, call)} takes {counted(channels, 'channel')}, got {got}"
    if groups:
        sentence = f"{subject(failure, call)} takes {channels} channels in {groups} groups, got {got}"
    order = _LAST_TO_FIRST.get(len(shape))
    site = failure.written.site
    if at == 1 and order is not None and shape[-1] == channels:
        kind = "channels-last"
        sentence += f"; {listed(shape)} has {channels} in its last dimension"
        sentence += ", as images with their channels last" if len(shape) == 4 else ""
        moved = [shape[dim] for dim in order]
        if given is not None:
            typed = command(failure, given.where, moved)
            text = f"{given.where}.permute{order}"
            told = f"{text}: {typed}" if typed else text
            proposals.append(Proposal(told, [InputShape(given.where, tuple(moved))], typed))
        elif site is not None and failure.written is call and (text := replaced(call, 0, f".permute{order}") or ""):
            proposals.append(Proposal(text, [OperandMethod(site, 0, "permute", order)]))
    elif at == 0 and shape[-1] == channels and given is not None:
        kind = "channels-last"
        sentence += f"; {listed(shape)} has {channels} in its last dimension, and no batch dimension"
        moved = [1, shape[-1], *shape[:-1]]
        proposals.append(
            another_shape(failure, given.where, moved, "channels first, and the batch dimension: {command}")
        )
    elif at == 0 and channels == 1 and given is not None:
        kind = "missing-channel"
        sentence += f"; {listed(shape)} was taken as one example without a batch dimension"
        moved = [shape[0], 1, *shape[1:]]
        proposals.append(another_shape(failure, given.where, moved, "add the channel dimension: {command}"))
    else:
        if at == 0:
            sentence += f"; {listed(shape)} was taken as one example without a batch dimension"
        other = another_size(failure, call, value, at, channels)
        proposals += [] if other is None else [other]
    divides = not groups or shape[at] % groups == 0
    if kind == "conv-channels" and divides and (built := rebuilt(failure, call.path, in_channels=shape[at])):
        proposals.append(Proposal(built[0], [built[1]]))
    return failure.cause(kind, sentence), proposals


def _kernel(failure: Failure, call: Call, value: Value, dims: int, shape: list[int], transposed: bool) -> Answer | None:
    """A kernel that does not fit into the padded input, or an output without elements."""
    given = arguments(failure.info(call.path))
    if "kernel_size" not in given or transposed:
        return None
    kernel, padding = numbers(given, "kernel_size", dims, 1), numbers(given, "padding", dims, 0)
    dilation = numbers(given, "dilation", dims, 1)
    image = shape[-dims:]
    padded = [size + 2 * around for size, around in zip(image, padding, strict=True)]
    reach = [gap * (size - 1) + 1 for size, gap in zip(kernel, dilation, strict=True)]
    if all(size >= needed for size, needed in zip(padded, reach, strict=True)):
        return None
    word = "window" if call.type in _POOLS else "kernel"
    sentence = f"{subject(failure, call)} has a {word} of {crossed(kernel)}, its input is {crossed(image)}"
    if reach != kernel:
        sentence = sentence.replace(",", f" that reaches over {crossed(reach)},", 1)
    if padded != image:
        sentence += f", padded {crossed(padded)}"
    found = origin(failure, call, value, -1)
    if found is not None and found.label is not None and not found.label.startswith("input "):
        sentence += f" from {found.label}"
    proposals = []
    if (search := another_image(failure)) is not None:
        proposals.append(search)
    if reach == kernel and min(padded) > 0 and len(set(padded)) == 1 and word == "kernel":
        built = rebuilt(failure, call.path, kernel_size=min(padded))
        proposals.extend([Proposal(built[0], [built[1]])] if built else [])
    return failure.cause("kernel-size", sentence), proposals
