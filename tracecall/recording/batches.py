"""Which dimension is the batch, as the documentation of torch's own modules says of the inputs that they take."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tracecall.calls import Call, TensorSpec
from tracecall.recording.proofs import differs
from tracecall.recording.replays import Calls, Replay

_RECURRENT = (nn.RNNBase,)
_ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_IMAGES = tuple(
    (getattr(nn, f"{kind}{dims}d"), dims + 2)
    for kind in ("Conv", "ConvTranspose", "MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "InstanceNorm")
    for dims in (1, 2, 3)
)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def says_batch(module: nn.Module) -> bool:
    """Whether a module's documentation names the first dimension of its input the batch."""
    if isinstance(module, _RECURRENT):
        return bool(module.batch_first)
    if isinstance(module, _ATTENTION):
        return _batch_first(module) is True
    return isinstance(module, (*(kind for kind, _ in _IMAGES), *_NORMS[1:]))


def _batch_first(module: nn.Module) -> bool | None:
    """None where the attention inside was replaced by one that does not say."""
    attention: Any = getattr(module, "self_attn", module)
    return getattr(attention, "batch_first", None)


def takes_second(module: nn.Module) -> bool:
    """Whether a module takes the second of three dimensions for the batch."""
    if isinstance(module, _RECURRENT):
        return not module.batch_first
    return isinstance(module, _ATTENTION) and _batch_first(module) is False


def _dimensions(module: nn.Module) -> int:
    """How many dimensions the batched input of a module has, that says where its batch is."""
    if isinstance(module, (*_RECURRENT, *_ATTENTION)):
        return 3
    listed = [dims for kind, dims in _IMAGES if isinstance(module, kind)]
    if listed:
        return listed[0]
    return 4 if isinstance(module, nn.BatchNorm2d) else 5 if isinstance(module, nn.BatchNorm3d) else 0


def tells(module: nn.Module) -> bool:
    """Whether a module says, of an input that it takes, which dimension is the batch."""
    return says_batch(module) or takes_second(module)


def evidence(one: Replay, two: Replay, size: int, out: torch.Tensor) -> str | None:
    """What says that the first dimension is the batch: a module given a tensor of which one row changed."""
    for before, after in zip(one.events, two.events, strict=True):
        module = before.module
        if module is None or not first_row_alone(before.inputs[0], after.inputs[0], size):
            continue
        given = before.inputs[0]
        if given.dim() != _dimensions(module):
            continue
        if says_batch(module):
            return f"{type(module).__name__} takes dimension 0 for the batch"
        # what such a module takes for the batch is no longer in the output, and what it takes for the length is
        if given.shape[1] != size and given.shape[1] > 1 and given.shape[1] not in out.shape:
            return (
                f"{type(module).__name__} has batch_first=False and takes dimension 1 of "
                f"[{', '.join(map(str, given.shape))}] for the batch"
            )
    return None


def first_row_alone(before: torch.Tensor | None, after: torch.Tensor | None, size: int) -> bool:
    """Whether two tensors of `size` rows differ in the first and in no other."""
    if before is None or after is None or before.shape != after.shape or not before.dim() or before.shape[0] != size:
        return False
    rows = differs(before, after).reshape(size, -1).any(dim=1)
    return bool(rows[0]) and not bool(rows[1:].any())


def unbatched(calls: Calls, call: Call | None) -> bool:
    """Whether a call is inside an LSTM or attention that was given two dimensions: a sequence without a batch."""
    while call is not None:
        module = calls.recorder.modules.by_path.get(call.path)
        first = next((one.value for one in call.inputs if isinstance(one.value, TensorSpec)), None)
        if isinstance(module, (*_RECURRENT, *_ATTENTION)) and call.kind == "module":
            return first is None or len(first.shape) < 3
        call = calls.above.get(id(call))
    return False
