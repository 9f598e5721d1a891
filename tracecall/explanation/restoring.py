"""What a run may write beyond what `recording.preserved` puts back: parameters, and the tensors that were passed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

import torch
from torch import nn

from tracecall.recording import tensor_specs

MOST = 2**30  # bytes of parameters: a copy of more may not fit beside the model


def comparable(leaf: object) -> TypeGuard[torch.Tensor]:
    """Whether a value is a tensor with plain numbers in it."""
    return (
        type(leaf) in tensor_specs.PLAIN_TENSORS
        and isinstance(leaf, torch.Tensor)
        and leaf.layout is torch.strided
        and not (leaf.is_nested or leaf.is_quantized or leaf.is_meta)
    )


class Kept:
    """Tensors and what was in them when this was made."""

    def __init__(self, tensors: Iterable[object]) -> None:
        self._copies = [(tensor, tensor.detach().clone()) for tensor in tensors if comparable(tensor)]

    def put_back(self) -> bool:
        """Write back what has changed; whether anything had."""
        changed = False
        for tensor, copy in self._copies:
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                if (tensor.shape, tensor.dtype, tensor.device) != (copy.shape, copy.dtype, copy.device):
                    changed = True
                    tensor.data = copy.clone()
                elif not _equal(tensor, copy):  # contents and not versions: a write through `.data` is not counted
                    changed = True
                    tensor.copy_(copy)
        return changed


class Parameters:
    """The parameters of a model: which they are, and what is in them."""

    def __init__(self, model: nn.Module) -> None:
        self._places = [
            (module, name, parameter)
            for module in model.modules()
            if not isinstance(module, torch.jit.ScriptModule)  # its parameters are not in Python's hands
            for name, parameter in module._parameters.items()
        ]
        parameters = list(model.parameters())
        self.too_large = sum(map(_bytes, parameters)) > MOST
        self._kept = Kept([] if self.too_large else parameters)

    def put_back(self) -> bool:
        """Put back what was replaced or written; whether anything was."""
        changed = False
        for module, name, parameter in self._places:
            if module._parameters.get(name) is not parameter:
                changed = True
                module._parameters[name] = parameter
        return self._kept.put_back() or changed


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size() if comparable(tensor) else 0


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """The same numbers, a NaN being equal to a NaN."""
    if torch.equal(one, other):
        return True
    if not (one.is_floating_point() or one.is_complex()):
        return False
    return bool(((one == other) | (one.isnan() & other.isnan())).all())
