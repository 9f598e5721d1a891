"""What a run of a model may change and tracecall puts back: random state, buffers, train or eval mode, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

SMALL = 64 * 2**20  # bytes


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Leave the model and torch's random number generators as they were found, also after an exception."""
    # without torch-function modes: what is asked of the model here is not for the user's
    with torch._C.DisableTorchFunction():
        modules = list(model.modules())
        training = [(module, module.training) for module in modules]
        gradients = [
            (parameter, parameter.grad, _copy(parameter.grad) if torch.is_grad_enabled() else None)
            for parameter in model.parameters()
        ]
        buffers = [
            (module, name, buffer, _copy(buffer) if module.training or _small(buffer) else None)
            for module in modules
            for name, buffer in module._buffers.items()
            if buffer is None or not torch.nn.parameter.is_lazy(buffer)
        ]
        restore = random_state(model)
    try:
        yield
    finally:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            restore()
            for module, mode in training:
                module.training = mode
            for parameter, gradient, kept in gradients:
                if parameter.grad is not gradient:
                    parameter.grad = gradient
                _put_back(gradient, kept)
            for module, name, buffer, kept in buffers:
                module._buffers[name] = buffer
                _put_back(buffer, kept)


Kept = tuple[torch.Tensor, int | None]  # a copy, and how often the original had been written


def _small(buffer: torch.Tensor | None) -> bool:
    """Whether a copy costs little. In eval mode a large buffer (quantized weights, say) is taken to be read only."""
    return buffer is not None and buffer.numel() * buffer.element_size() <= SMALL


def _copy(tensor: torch.Tensor | None) -> Kept | None:
    return None if tensor is None else (tensor.detach().clone(), _version(tensor))


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _put_back(tensor: torch.Tensor | None, kept: Kept | None) -> None:
    if tensor is None or kept is None:
        return
    copy, version = kept
    # batch_norm writes its running statistics without counting it as a write
    if (version is not None and tensor._version != version) or not torch.equal(tensor, copy):
        tensor.copy_(copy)


def random_state(model: nn.Module) -> Callable[[], None]:
    """Remember torch's random state on the CPU and the model's devices; the function returned puts it back."""
    cpu_state = torch.get_rng_state()
    states = [(device, _generator(device).get_state()) for device in _accelerators(model)]

    def restore() -> None:
        torch.set_rng_state(cpu_state)
        for device, state in states:
            _generator(device).set_state(state)

    return restore


def _accelerators(model: nn.Module) -> list[torch.device]:
    tensors = [*model.parameters(), *model.buffers()]
    return list({tensor.device: None for tensor in tensors if tensor.device.type == "cuda"})


def _generator(device: torch.device) -> torch.Generator:
    return torch.cuda.default_generators[device.index or 0]
