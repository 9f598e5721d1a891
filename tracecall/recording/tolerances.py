"""How far outputs may be apart by default: as the dtypes that both sides compute in allow."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from tracecall.recording import values
from tracecall.recording.sides import Side

# of `OutputError.relative`: a few hundred roundings for wide dtypes, a few for narrow ones, as deep models make them
DEFAULTS = {"float64": 1e-10, "float32": 1e-4, "TF32": 1e-2, "float16": 1e-2, "bfloat16": 5e-2}
OTHERS = 0.25  # float8 and narrower


def default_tolerance(sides: Iterable[Side]) -> tuple[float, str]:
    """The tolerance for the floating dtype of parameters, buffers and inputs that tells least apart, and its name.

    float32 on CUDA counts as TF32 where torch may take it for that: ten bits of the fraction, as float16 has.
    """
    found: dict[str, None] = {}
    for side in sides:
        inputs = (leaf for _, leaf in values.leaves("", (side.args, side.kwargs)) if isinstance(leaf, torch.Tensor))
        for tensor in (*side.model.parameters(), *side.model.buffers(), *inputs):
            if tensor.is_complex():
                found[str(tensor.dtype.to_real()).removeprefix("torch.")] = None
            elif tensor.is_floating_point():
                found[str(tensor.dtype).removeprefix("torch.")] = None
                if tensor.dtype is torch.float32 and tensor.device.type == "cuda" and _tf32():
                    found["TF32"] = None
    name = max(found, key=lambda one: DEFAULTS.get(one, OTHERS), default="float32")
    return DEFAULTS.get(name, OTHERS), name


def _tf32() -> bool:
    return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
