"""What feeds what: for every tensor, the call that it came from.

Tensors are followed by identity, and through views that are written in place by their storage; nothing is kept alive:
the table holds weak references, and a dead entry is overwritten when its address is used again.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Protocol

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from tracecall.calls import Call, TensorSpec
from tracecall.recording.tensor_specs import spec

Source = Call | str  # the call that made a tensor, or a label: "input x", "parameter pos_embed"


class Enclosing(Protocol):
    """The open call in whose forward a tensor is used."""

    number: int

    def input_label(self, tensor: torch.Tensor) -> str | None:
        """The label of a tensor that the call was given, "input x"; None for any other."""


class Sources:
    """Answers `find` from what `made` and `written` were told, in call order."""

    def __init__(self, labels: dict[int, str]) -> None:
        self.labels = labels  # of parameters and buffers, by id; the model keeps those alive
        self.made_by: dict[int, tuple[weakref.ref[torch.Tensor], Call, int, TensorSpec]] = {}
        # a StorageWeakRef keeps the storage's address from being used again, not its memory
        self.written_by: dict[int, tuple[StorageWeakRef, Call, int]] = {}
        self.next_number = itertools.count(1).__next__  # a number later than all before it

    def made(self, tensor: torch.Tensor, call: Call) -> TensorSpec:
        """`call` returned this tensor, of which the spec is given back."""
        made = spec(tensor)
        self.made_by[id(tensor)] = (weakref.ref(tensor), call, self.next_number(), made)
        return made

    def written(self, tensor: torch.Tensor, call: Call) -> None:
        """`call` changed this tensor in place, and with it every view of the same storage."""
        self.made(tensor, call)
        storage = storage_of(tensor)
        if storage is not None and is_shared(storage):
            self.written_by[storage._cdata] = (StorageWeakRef(storage), call, self.next_number())

    def pass_on(self, before: list[torch.Tensor], after: list[torch.Tensor]) -> None:
        """These tensors are those under another identity: they came from where those came from."""
        for old, new in zip(before, after, strict=False):
            entry = self.made_by.get(id(old))
            if entry is not None and entry[0]() is old:
                self.made(new, entry[1])

    def find(self, tensor: torch.Tensor, enclosing: Enclosing | None) -> Source | None:
        """Where a tensor that is used inside `enclosing` came from."""
        key = id(tensor)
        entry = self.made_by.get(key)
        call, number = None, 0
        if entry is not None and entry[0]() is tensor:
            call, number = entry[1], entry[2]
        if self.written_by:
            storage = storage_of(tensor)
            change = None if storage is None else self.written_by.get(storage._cdata)
            if change is not None and change[2] > number:
                _, call, number = change
        if enclosing is not None and number <= enclosing.number:
            label = enclosing.input_label(tensor)
            if label is not None:
                return label
        return call if call is not None else self.labels.get(key)


def storage_of(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """A tensor's storage, None where there is none to show."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse, nested or functional tensors have none to show
        return None


def is_shared(storage: torch.UntypedStorage) -> bool:
    """Whether more than one tensor lies in this storage: views that are made later come from what made them."""
    return bool(torch._C._storage_Use_Count(storage._cdata) > _ONE_TENSOR)


_ONE_TENSOR = 2  # users: the tensor, and the Python object that is asked


def storage_id(tensor: torch.Tensor) -> int:
    """What a tensor shares with its views; its own id where it has no storage to show."""
    storage = storage_of(tensor)
    return id(tensor) if storage is None else storage._cdata
