"""Both runs of `tracecall compare`: two models with the same weights and inputs, each where and as it is to run."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracecall.cli.loading import Wanted, Watch, check_chosen, load_target
from tracecall.errors import TracecallError

if TYPE_CHECKING:
    import torch

    from tracecall.loading import Target
    from tracecall.recording.sides import Side


@dataclass(frozen=True)
class Asked:
    """What sets the two runs apart, each option as a pair; None where it was not given."""

    device: tuple[str, str]
    dtype: tuple[str | None, str | None]
    weights: tuple[str | None, str | None]
    against: str | None


def sides(
    wanted: Wanted, asked: Asked, watch: Watch, chosen: tuple[str | None, str | None]
) -> tuple[Side, Side, str, list[str]]:
    """Both models with the same weights and inputs, each where it is to run; where MODEL was found; notes.

    `chosen` is what is to be shown, `--only` and `--filter`: refused here if neither model can have it.
    """
    watch.progress("loading torch")
    from tracecall.loading.devices import resolve_dtype

    devices = _devices(asked)  # before anything is built
    target = load_target(wanted, watch.progress)
    from tracecall.recording.sides import Side, moved, take_weights, twin

    notes = list(target.notes)
    names = _names(wanted.model, asked)
    first = Side(target.model, target.args, target.kwargs, names[0])
    if asked.against is None:
        check_chosen(target, *chosen)
        with warnings.catch_warnings():
            # torch's about its own code, as it is copied; the model says its own as it runs
            warnings.simplefilter("ignore")
            second = twin(first)
    else:
        other = load_target(
            Wanted(asked.against, wanted.inputs, "cpu", None, wanted.seed, wanted.train), watch.progress, like=target
        )
        if other.model is target.model:
            raise TracecallError(f"MODEL and --against {asked.against!r} are one and the same object: name another")
        _check_either(target, other, *chosen)
        notes.extend(f"{asked.against}: {note}" for note in other.notes)
        second = Side(other.model, target.args, target.kwargs, names[1])
        if asked.weights[0] is None:
            taken, of = take_weights(target.model, other.model)
            if taken < of:
                own = f"{of - taken} of {of} weights of {asked.against} are its own"
                notes.append(f"{own}: {wanted.model} has none of that name and shape")
    second.name = names[1]
    for side, path in zip((first, second), asked.weights, strict=True):
        if path is not None:
            from tracecall.loading.weights import load_weights

            # a file that both take says the same twice
            notes.extend(note for note in load_weights(side.model, path).notes if note not in notes)
    dtypes = [None if dtype is None else resolve_dtype(_canonical(dtype)) for dtype in asked.dtype]
    sides = [
        moved(side, *there) for side, there in zip((first, second), zip(devices, dtypes, strict=True), strict=True)
    ]
    return sides[0], sides[1], target.origin, notes


def _check_either(one: Target, other: Target, only: str | None, types: str | None) -> None:
    """Refuse a path or a type that neither model has, in the words for the first; either may have one of its own."""
    for path, type in ((only, None), (None, types)):
        try:
            check_chosen(one, path, type)
        except TracecallError as refused:
            try:
                check_chosen(other, path, type)
            except TracecallError:
                raise refused from None


def _devices(asked: Asked) -> list[torch.device]:
    """Both devices; where one is not here and they are all that sets the runs apart, something else that can."""
    from tracecall.loading.devices import available_devices, resolve_device

    try:
        return [resolve_device(device.lower()) for device in asked.device]
    except TracecallError as error:
        if asked.against is not None or any(one != other for one, other in (asked.dtype, asked.weights)):
            raise  # one device will do
        why = str(error).rpartition("; type ")[0]
        here = available_devices()
        kind = next((name for name in asked.device if name.lower() != "cpu"), "").upper().partition(":")[0]
        advice = f"type --device cpu,{here[-1]}"
        if len(here) == 1:
            advice = f"type --dtype float32,bfloat16 instead, or compare where {kind} is"
        raise TracecallError(f"{why}; {advice}") from error


def _canonical(dtype: str) -> str:
    from tracecall.loading.specs import parse_dtype

    return parse_dtype(dtype)


def _names(model: str, asked: Asked) -> tuple[str, str]:
    """What sets the two apart, in few words."""
    found: list[list[str]] = [[], []]
    if asked.against is not None:
        texts = (model, asked.against)
        short = tuple(text if "(" in text else text.replace("\\", "/").rpartition("/")[2] for text in texts)
        for words, text in zip(found, texts if short[0] == short[1] else short, strict=True):
            words.append(text)
    for one, other in (asked.device, asked.dtype, asked.weights):
        if one != other and one is not None and other is not None:
            found[0].append(Path(one).name)
            found[1].append(Path(other).name)
    first, second = (" ".join(words) for words in found)
    return (first, second) if first != second else ("first", "second")
