"""--device and --dtype as torch's own objects, where this machine has them."""

from __future__ import annotations

import torch

from tracecall.errors import TracecallError


def resolve_device(name: str) -> torch.device:
    """Return the device; `auto` is the accelerator, else the CPU; `cuda` is the current one, as `cuda:N`.

    Takes what `parse_device` returns. A device that is not here is an error that lists those that are.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu") if found is None else resolve_device(found.type)
    kind, _, index = name.partition(":")
    here = available_devices()
    if kind == "cuda" and torch.cuda.is_available():
        device = torch.device("cuda", int(index) if index else torch.cuda.current_device())
    else:
        device = torch.device(name)
    # Kinds that the list does not know come from `auto`, and torch has just said that they are here.
    if kind in ("cpu", "cuda", "mps") and str(device) not in here:
        raise TracecallError(
            f"--device {name}: {_why_missing(kind, index)}; available: {', '.join(here)}; type --device {here[-1]}"
        )
    return device


def available_devices() -> list[str]:
    """Return what --device can name on this machine: `cpu`, then `mps` or every `cuda:N`."""
    devices = ["cpu"]
    if torch.backends.mps.is_available():
        devices.append("mps")
    if torch.cuda.is_available():
        devices.extend(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return devices


def resolve_dtype(name: str) -> torch.dtype:
    """Return torch's dtype of that name: `float32`, `int64`."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name without "torch."."""
    return str(dtype).removeprefix("torch.")


def _why_missing(kind: str, index: str) -> str:
    if kind == "cuda" and torch.cuda.is_available():
        return f"there is no CUDA device {index} here"
    if kind == "cuda":
        built = (
            "" if torch.version.cuda or torch.version.hip else f", and torch {torch.__version__} is built without it"
        )
        return f"CUDA is not available here{built}"
    return f"{kind.upper()} is not available here"
