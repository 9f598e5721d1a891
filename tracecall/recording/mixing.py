"""Examples of a batch that are mixed, proved by changing one and looking at the rows of the others.

The first dimension is taken for the batch only where a module of torch says so of a tensor in which nothing but that
example's row changed: a Conv2d given four dimensions, an LSTM with batch_first. Sequences before the batch, unbatched
inputs and video frames without such a module give no finding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tracecall.calls import Call, Finding
from tracecall.recording.batches import evidence, first_row_alone, says_batch, takes_second, tells, unbatched
from tracecall.recording.proofs import (
    Inputs,
    changeable,
    changed_inputs,
    differs,
    other_numbers,
    output_tensors,
    run_again,
    tensors,
)
from tracecall.recording.replays import Calls, Copies, Event, Replay, replay, title

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def mixed_examples(calls: Calls, inputs: Inputs, output: object) -> Finding | None:
    """A finding if rows of the output depend on more than one example, with the call that mixed them."""
    root = calls.recorder.modules.root
    if any(isinstance(module, _NORMS) and module.training for module in root.modules()):
        return None  # BatchNorm in train mode mixes by design
    size = _batch(inputs)
    if size is None or not any(says_batch(module) or takes_second(module) for module in root.modules()):
        return None
    pair = _two_examples(inputs) if size == 1 else inputs
    size = max(size, 2)
    first = output_tensors(output) if pair is inputs else run_again(calls, pair)
    if first is None:
        return None
    one = _change_example(pair, 0, size)
    changed = None if one is None else run_again(calls, one)
    if one is None or changed is None or [t.shape for t in changed] != [t.shape for t in first]:
        return None
    for before, after in zip(first, changed, strict=True):
        if not before.dim() or not before.shape[0] or not (before.isfinite().all() and after.isfinite().all()):
            continue
        rows = before.shape[0]
        if rows == size:
            if not confined(differs(before, after), size, 0) and _follows_batch(calls, inputs, pair, first, before):
                return _same_size(calls, pair, one, size, before, after)
        elif rows % size and size % rows:
            return _other_size(calls, pair, one, size, first)
    return None


def _batch(inputs: Inputs) -> int | None:
    """The first size of the first tensor that is to be changed, unless another such tensor has another one."""
    listed = tensors(inputs)
    chosen = changeable(listed)
    sizes = {tensor.shape[0] if tensor.dim() else 0 for name, tensor in listed if name in chosen}
    return sizes.pop() if len(sizes) == 1 and min(sizes) > 0 else None


def _two_examples(inputs: Inputs) -> Inputs:
    """A batch of two made from a batch of one: each tensor that begins with it twice."""
    return changed_inputs(
        inputs, lambda _, tensor: torch.cat([tensor, tensor]) if tensor.dim() and tensor.shape[0] == 1 else tensor
    )


def _change_example(inputs: Inputs, example: int, size: int) -> Inputs | None:
    """The same inputs with other numbers in one example; None if there are no others to choose."""
    chosen = changeable(tensors(inputs))
    new = False

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        nonlocal new
        if name not in chosen or tensor.shape[0] != size:
            return tensor
        made = tensor.detach().clone()
        made[example] = other_numbers(tensor, 1 + example)[example]
        new = new or not torch.equal(made, tensor)
        return made

    made = changed_inputs(inputs, change)
    return made if new else None


def _follows_batch(calls: Calls, inputs: Inputs, pair: Inputs, first: list[torch.Tensor], out: torch.Tensor) -> bool:
    """Whether a batch of another size gives the output as many rows: it is no coincidence that it has them."""
    another = inputs if inputs is not pair else _one_more(inputs)
    returned, size = run_again(calls, another), _batch(another)
    place = next(number for number, one in enumerate(first) if one is out)
    if returned is None or len(returned) != len(first) or not returned[place].dim():
        return False
    return returned[place].shape[0] == size


def _one_more(inputs: Inputs) -> Inputs:
    """The same batch with its first example once more at the end."""
    size = _batch(inputs)
    return changed_inputs(
        inputs,
        lambda _, tensor: torch.cat([tensor, tensor[:1]]) if tensor.dim() and tensor.shape[0] == size else tensor,
    )


def confined(changed: torch.Tensor, size: int, example: int) -> bool:
    """Whether changes keep to one example of a batch of `size`, along whichever dimensions may hold the batch.

    Along a dimension of `size` · k they may keep to the k rows of the example, or to every `size`-th. Scores of all
    pairs, [size, size], may change in the row and in the column of the example.
    """
    if not bool(changed.any()):
        return True
    pairs = changed
    for dim, length in enumerate(changed.shape):
        if length == size:
            own = torch.arange(size, device=changed.device) == example
            pairs = pairs & ~own.reshape([-1 if other == dim else 1 for other in range(changed.dim())])
        if length % size:
            continue
        rest = [other for other in range(changed.dim()) if other != dim]
        rows = changed.any(dim=rest) if rest else changed
        blocks = rows.reshape(size, -1).any(dim=1)
        turns = rows.reshape(-1, size).any(dim=0)
        if any(int(found.sum()) == 1 and bool(found[example]) for found in (blocks, turns)):
            return True
    return not bool(pairs.any())


def _replays(calls: Calls, pair: Inputs, one: Inputs) -> tuple[Replay, Replay] | None:
    copies = Copies()
    before = replay(calls, pair.args, pair.kwargs, copies, inputs_of=tells)
    if before is None or not copies.fits:
        return None
    after = replay(calls, one.args, one.kwargs, Copies(), inputs_of=tells)
    if after is None or [event.func for event in before.events] != [event.func for event in after.events]:
        return None
    return before, after


def _same_size(
    calls: Calls, pair: Inputs, one: Inputs, size: int, out: torch.Tensor, after: torch.Tensor
) -> Finding | None:
    """As many rows as examples, but rows of other examples changed."""
    seen = _replays(calls, pair, one)
    told = None if seen is None else evidence(*seen, size, out)
    if seen is None or told is None:
        return None
    mixing = _mixing_event(*seen, size)
    if mixing is None or mixing.call is None or unbatched(calls, mixing.call):
        return None
    rows = differs(out, after).reshape(size, -1).any(dim=1).tolist()
    others = [row for row, changed in enumerate(rows) if changed and row]
    call, site = calls.own(mixing.call)
    listed = _listed(others)
    return Finding(
        "batch-mixed",
        f"the examples of the batch are mixed: with only example 0 of {size} changed, "
        f"row{'s' if len(others) > 1 else ''} {listed} of the output changed too, from {title(call)} on; {told}",
        mixing.call.path,
        site,
    )


def _mixing_event(one: Replay, two: Replay, size: int) -> Event | None:
    """The first operation whose inputs changed in one example only, and whose output changed in others."""
    for before, after in zip(one.events, two.events, strict=True):
        if before.module is not None or not before.inputs or not before.outputs:
            continue
        if _keeps(before.inputs, after.inputs, size) and not _keeps(before.outputs, after.outputs, size):
            return before
    return None


def _keeps(before: list[Any], after: list[Any], size: int) -> bool:
    return len(before) == len(after) and all(
        a is not None and b is not None and a.shape == b.shape and confined(differs(a, b), size, 0)
        for a, b in zip(before, after, strict=True)
    )


def _other_size(calls: Calls, pair: Inputs, one: Inputs, size: int, first: list[torch.Tensor]) -> Finding | None:
    """More or fewer rows than examples, no multiple of them: a reshape cut through examples."""
    two = _change_example(pair, 1, size)
    found = None if two is None else _replays(calls, pair, one)
    if two is None or found is None or evidence(*found, size, first[0]) is None:
        return None
    again = replay(calls, two.args, two.kwargs, Copies())
    operations = [event for event in found[0].events if event.module is None]
    changed = [event for event in found[1].events if event.module is None]
    if again is None or [event.func for event in again.events] != [event.func for event in operations]:
        return None
    for before, first_changed, second_changed in zip(operations, changed, again.events, strict=True):
        if len(before.outputs) != 1 or len(before.inputs) != 1 or before.call is None:
            continue
        given, made = before.inputs[0], before.outputs[0]
        if given is None or made is None or not given.dim() or not made.dim() or given.shape[0] != size:
            continue
        rows = made.shape[0]
        if not (rows % size and size % rows) or made.numel() != given.numel():
            continue
        if not first_row_alone(given, first_changed.inputs[0], size):
            return None
        zero, other = (
            differs(made, event.outputs[0]).reshape(rows, -1).any(dim=1) for event in (first_changed, second_changed)
        )
        both = (zero & other).nonzero().flatten().tolist()
        if not both:
            continue
        call, site = calls.own(before.call)
        return Finding("batch-size", _cut(size, rows, given, made, zero, other, both, call), before.call.path, site)
    return None


def _cut(
    size: int,
    rows: int,
    given: torch.Tensor,
    made: torch.Tensor,
    zero: torch.Tensor,
    other: torch.Tensor,
    both: list[int],
    call: Call,
) -> str:
    def shape(tensor: torch.Tensor) -> str:
        return "[" + ", ".join(map(str, tensor.shape)) + "]"

    zeros, others = (_listed(one.nonzero().flatten().tolist()) for one in (zero, other))
    return (
        f"{size} examples became {rows} rows: {title(call)} made {shape(made)} of {shape(given)} and mixed them; "
        f"changing only example 0 changes rows {zeros}, changing only example 1 rows {others}: "
        f"row {_listed(both)} holds parts of both"
    )


def _listed(rows: list[int]) -> str:
    """Row numbers in a sentence: "1", "0 and 1", "1, 2, 3 and 45 more"."""
    if len(rows) > 4:
        return ", ".join(map(str, rows[:3])) + f" and {len(rows) - 3} more"
    return " and ".join([", ".join(map(str, rows[:-1])), str(rows[-1])]) if len(rows) > 1 else "".join(map(str, rows))
