"""What one run of a user's hook changed: arguments and outputs compared before and after, leaf by leaf."""

from __future__ import annotations

from typing import Any

import torch

from tracecall.calls import TensorSpec
from tracecall.recording import tensor_specs, values
from tracecall.recording.sources import storage_id
from tracecall.recording.user_hooks import WatchedHook


def hook_leaves(watcher: WatchedHook, rest: tuple[Any, ...]) -> list[tuple[str, Any]]:
    """What a hook was given, with names: args[0], kwargs['mask'], output[1].logits."""
    names = ["args"]
    if watcher.info.with_kwargs and len(rest) == (2 if watcher.info.when == "forward pre-hook" else 3):
        names.append("kwargs")
    if watcher.info.when == "forward hook":
        names.append("output")
    return [leaf for name, value in zip(names, rest, strict=False) for leaf in values.leaves(name, value)]


def write_count(leaf: object) -> int | None:
    """How often a tensor was written in place; None where torch does not count (inference tensors)."""
    if not isinstance(leaf, torch.Tensor) or leaf.is_inference():
        return None
    return leaf._version


def hook_changes(
    watcher: WatchedHook,
    before: list[tuple[str, Any]],
    versions: list[int | None],
    written: set[int],
    result: object,
) -> list[str]:
    """What a hook replaced or wrote in place: "args[0] 4,3 → 2,3"; `written` are the storages written inside it."""
    found = [
        f"{where} changed in place"
        for (where, leaf), version in zip(before, versions, strict=True)
        if (version is not None and leaf._version != version)
        or (isinstance(leaf, torch.Tensor) and written and storage_id(leaf) in written)
    ]
    if result is None:
        return found
    if watcher.info.when == "forward hook":
        after = list(values.leaves("output", result))
    elif watcher.info.with_kwargs and isinstance(result, tuple) and len(result) == 2:
        after = [*values.leaves("args", result[0]), *values.leaves("kwargs", result[1])]
    else:
        after = list(values.leaves("args", result if isinstance(result, tuple) else (result,)))
    given = {where: leaf for where, leaf in before if not isinstance(leaf, values.More)}
    for where, leaf in after:
        if isinstance(leaf, values.More):
            continue
        if where not in given:
            found.append(f"{where} added, {_text(leaf)}")
        elif given[where] is not leaf:
            found.append(_change(where, given[where], leaf))
    kinds = ("output",) if watcher.info.when == "forward hook" else ("args", "kwargs")
    kinds = kinds if watcher.info.with_kwargs else kinds[:1]
    seen = {where for where, _ in after}
    found.extend(f"{where} removed" for where in given if where.startswith(kinds) and where not in seen)
    return found


def _change(where: str, old: object, new: object) -> str:
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        a, b = tensor_specs.spec(old), tensor_specs.spec(new)
        if a.shape != b.shape:
            return f"{where} {values.size_text(a.shape)} → {values.size_text(b.shape)}"
        if a.dtype != b.dtype:
            return f"{where} {a.dtype} → {b.dtype}"
        if a.device != b.device:
            return f"{where} {a.device} → {b.device}"
        return f"{where} replaced, {_spec_text(b)}"
    return f"{where} {_text(old)} → {_text(new)}"


def _text(leaf: object) -> str:
    return _spec_text(tensor_specs.spec(leaf)) if isinstance(leaf, torch.Tensor) else values.short(leaf)


def _spec_text(spec: TensorSpec) -> str:
    return f"{spec.dtype}[{values.size_text(spec.shape)}]"
