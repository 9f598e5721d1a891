"""Weights from a file into a model: read without running code, unwrapped, and held against what the model has."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tracecall.errors import TracecallError
from tracecall.loading.archives import content_of, weights_file
from tracecall.writing import name_of

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
_LISTED = 6  # keys of one kind that an error names


@dataclass(frozen=True)
class Report:
    """What was loaded. `notes` are for the reader: what was unwrapped, which prefix was taken off, what was cast."""

    path: str
    tensors: int
    notes: tuple[str, ...]


def load_weights(model: nn.Module, path: str | Path) -> Report:
    """Load a checkpoint into the model in place, every parameter and persistent buffer from the file and no key left.

    Takes safetensors and what torch.save wrote: a state dict, or a checkpoint with one inside. Raises TracecallError
    with the keys that are missing, unexpected or of another shape; the model may then be changed in part.
    """
    file = weights_file(str(path))
    found, notes = _unwrapped(_read(file), name_of(file))
    own = model.state_dict(keep_vars=True)
    state, prefix = _without_prefix(found, set(own))
    if prefix:
        notes.append(f"the keys' prefix {prefix!r} was taken off")
    shapes = [
        f"{name} is {list(given.shape)} and the model's is {list(own[name].shape)}"
        for name, given in state.items()
        if isinstance(own.get(name), Tensor) and not is_lazy(own[name]) and given.shape != own[name].shape
    ]
    wrong = {text.partition(" is ")[0] for text in shapes}
    fitting = {name: given for name, given in state.items() if name not in wrong}
    try:
        result = model.load_state_dict(fitting, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise TracecallError(f"--weights {name_of(file)} cannot be loaded into {_name(model)}: {reason}") from error
    missing = [name for name in result.missing_keys if name not in wrong]
    if missing or result.unexpected_keys or shapes:
        raise _misfit(file, model, missing, list(result.unexpected_keys), shapes)
    casts = sorted(
        {
            f"{_dtype(given.dtype)} weights became {_dtype(own[name].dtype)}"
            for name, given in state.items()
            if isinstance(own.get(name), Tensor) and given.dtype != own[name].dtype
        }
    )
    text = f"weights from {path}: {len(state)} tensor{'' if len(state) == 1 else 's'}"
    return Report(str(path), len(state), ("; ".join([text, *notes, *casts]),))


def _read(file: Path) -> Any:
    if content_of(file) == "safetensors":
        return _read_safetensors(file)
    zipped = _is_zip(file)
    try:
        # mmap: the file's pages are read as they are copied, and never all at once
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _unsafe(file, error) from error
    except Exception as error:  # a damaged pickle may raise anything
        reason = " ".join(str(error).split())[:200]
        raise TracecallError(
            f"--weights {name_of(file)} is damaged or was cut off: {type(error).__name__}: {reason};"
            " save or download it again"
        ) from error


def _read_safetensors(file: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise TracecallError(
            f"--weights {name_of(file)} needs the package safetensors; type pip install safetensors"
        ) from error
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TracecallError(
            f"--weights {name_of(file)} is damaged or was cut off: {reason}; save or download it again"
        ) from error


def _is_zip(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2) == b"PK"


def _unsafe(file: Path, error: Exception) -> TracecallError:
    """Refuse what is not weights alone, with the name that asks for code where torch tells it."""
    text = " ".join(str(error).split())
    named = re.search(r"GLOBAL (\S+)|class (\S+) was not|Unsupported (?:global|class) (\S+)", text)
    if named is None:
        text = text.partition("WeightsUnpickler error: ")[2].partition(" Check the documentation")[0] or text
        return TracecallError(
            f"--weights {name_of(file)} cannot be read as weights alone: {text[:160]}; save it again with"
            " torch.save(model.state_dict(), path)"
        )
    name = next(one for one in named.groups() if one)
    return TracecallError(
        f"--weights {name_of(file)} holds more than tensors ({name}), and reading that could run code from the file;"
        " save it again with torch.save(model.state_dict(), path)"
    )


def _unwrapped(found: Any, name: str) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict in a checkpoint, and a note on where it was."""
    way: list[str] = []
    while isinstance(found, Mapping):
        tensors = {str(key): one for key, one in found.items() if isinstance(one, Tensor)}
        if tensors or not found:
            break
        key = next((one for one in _WRAPPERS if isinstance(found.get(one), Mapping)), None)
        if key is None:
            keys = ", ".join(str(one) for one in list(found)[:_LISTED])
            raise TracecallError(
                f"--weights {name} holds no state dict: its keys are {keys}; save it with"
                " torch.save(model.state_dict(), path)"
            )
        way.append(repr(key))
        found = found[key]
    else:
        raise TracecallError(
            f"--weights {name} holds a {type(found).__name__}, not a state dict; save it with"
            " torch.save(model.state_dict(), path)"
        )
    return tensors, [f"found under {' → '.join(way)}"] if way else []


def _without_prefix(state: dict[str, Tensor], known: set[str]) -> tuple[dict[str, Tensor], str]:
    """Take off what a wrapper put before every key: "module." of DataParallel, "_orig_mod." of torch.compile."""
    taken = ""
    while state and not known & set(state):
        first = next(iter(state)).partition(".")[0] + "."
        if not all(name.startswith(first) and len(name) > len(first) for name in state):
            break
        state = {name[len(first) :]: one for name, one in state.items()}
        taken += first
    return state, taken


def _misfit(
    file: Path, model: nn.Module, missing: list[str], unexpected: list[str], shapes: list[str]
) -> TracecallError:
    groups = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    counts = ", ".join(f"{len(keys)} {what}" for what, keys in groups if keys)
    listed = [f"{what}: {', '.join(keys[:_LISTED])}{_more(keys)}" for what, keys in groups if keys]
    return TracecallError(
        f"--weights {name_of(file)} does not fit {_name(model)}: {counts} (of its {len(model.state_dict())} tensors);"
        " type weights that were saved from this model, or the MODEL that they were saved from",
        listed,
    )


def _more(keys: list[str]) -> str:
    return f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""


def _name(model: nn.Module) -> str:
    return type(model).__name__


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
