"""An output that is the same whatever the input is, and the call from which on it is."""

from __future__ import annotations

from typing import Any

import torch

from tracecall.calls import Finding
from tracecall.recording.proofs import (
    Inputs,
    changeable,
    changed_inputs,
    other_numbers,
    output_tensors,
    run_again,
    tensors,
)
from tracecall.recording.replays import Calls, Copies, Event, replay, title

_EQUAL = 1e-7  # of the largest number: within rounding
_SHAPES_ONLY = ("empty_like", "zeros_like", "ones_like", "new_zeros", "new_ones", "new_empty", "new_full", "full_like")


def constant_output(calls: Calls, inputs: Inputs, output: object) -> Finding | None:
    """A finding if two runs with other random inputs, of the same shapes, return the same numbers as this one."""
    chosen = changeable(tensors(inputs))
    first = output_tensors(output)
    if not chosen or not first or not all(tensor.numel() for tensor in first):
        return None
    other: list[Inputs] = []
    for seed in (1, 2):
        other.append(_random(inputs, chosen, seed))
        if not _all_new(inputs, other[-1], chosen):
            return None  # the inputs leave no choice: there is nothing to prove
        again = run_again(calls, other[-1])
        if again is None or not _all_same(first, again):
            return None
    found = _last_difference(calls, inputs, other[0])
    count = sum(tensor.numel() for tensor in first)
    what = f"the {count} numbers of the output were" if count > 1 else "the output was"
    message = f"{what} the same for 3 inputs: two runs with other random inputs returned them unchanged"
    if found is None or found.call is None:
        return Finding("constant-output", message)
    call, site = calls.own(found.call)
    zeros = all(not bool(one.any()) for one in found.outputs)
    how = "which returns only zeros" if zeros else "whose input still differed"
    return Finding("constant-output", f"{message}; from {title(call)} on, {how}", found.call.path, site)


def _random(inputs: Inputs, chosen: set[str], seed: int) -> Inputs:
    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return other_numbers(tensor, seed) if name in chosen else tensor

    return changed_inputs(inputs, change)


def _all_new(inputs: Inputs, other: Inputs, chosen: set[str]) -> bool:
    """Whether the numbers of every chosen input are other ones."""
    return all(
        tensor.numel() and not torch.equal(tensor, new)
        for (name, tensor), (_, new) in zip(tensors(inputs), tensors(other), strict=True)
        if name in chosen
    )


def _all_same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(_same(one, other) for one, other in zip(first, second, strict=True))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if torch.equal(one, other):
        return True
    if not one.isfinite().all() or not other.isfinite().all():
        return False
    scale = one.detach().abs().max()
    return bool(((one - other).abs() <= _EQUAL * scale).all())


def _last_difference(calls: Calls, inputs: Inputs, other: Inputs) -> Event | None:
    """The last operation that was given other numbers and returned the same."""
    copies = Copies()
    one = replay(calls, inputs.args, inputs.kwargs, copies)
    two = None if one is None or not copies.fits else replay(calls, other.args, other.kwargs, Copies())
    if one is None or two is None or len(one.events) != len(two.events):
        return None
    found: Event | None = None
    for before, after in zip(one.events, two.events, strict=True):
        if str(before.func).partition(".")[2].partition(".")[0] in _SHAPES_ONLY or not before.outputs:
            continue
        if _differ(before.inputs, after.inputs) and not _differ(before.outputs, after.outputs):
            found = before
    return found


def _differ(one: list[Any], other: list[Any]) -> bool:
    return len(one) != len(other) or not all(map(_equal, one, other))


def _equal(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    return _same(one, other) if one.is_floating_point() else torch.equal(one, other)
