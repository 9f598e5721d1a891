"""What a run of a model may change and tracecall puts back: random state, buffers, train or eval mode, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Leave the model and torch's random number generators as they were found, also after an exception."""
    modules = list(model.modules())
    training = [(module, module.training) for module in modules]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None and module.training and not torch.nn.parameter.is_lazy(buffer)
    ]
    restore = random_state(model)
    try:
        yield
    finally:
        restore()
        for module, mode in training:
            module.training = mode
        for parameter, gradient in gradients:
            if parameter.grad is not gradient:
                parameter.grad = gradient
        with torch.no_grad():
            for module, name, buffer, kept in buffers:
                module._buffers[name] = buffer
                buffer.copy_(kept)


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
