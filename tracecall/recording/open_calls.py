"""What is open while a model runs: the calls that have begun, a stack of them for each thread."""

from __future__ import annotations

from collections.abc import Collection
from types import FrameType
from typing import Any

import torch
from msgspec import Struct
from torch import nn

from tracecall.calls import Call
from tracecall.recording.aten import Facts
from tracecall.recording.modules import ForwardNames
from tracecall.recording.sites import Place

NOTHING: Any = ()  # stands for the empty lists of Calls while the model runs: most have no calls inside


class OpenCall(Struct, eq=False):
    """A call that has begun in one thread; the frame is that of `_call_impl`, or of a hook's watcher.

    One is made for every call, and a Struct is made in half the time of an object of an ordinary class.
    """

    call: Call
    module: nn.Module
    frame: FrameType | None
    number: int
    names: ForwardNames
    args: tuple[Any, ...] | None = None  # of a module's call: the very object that torch gives to all its hooks
    # of a forward of torch.nn's own, below the root, whose operations nobody asked for: the ids of its parameters
    own: Collection[int] | None = None
    arguments: dict[int, str] | None = None  # names of tensors, by id: alive as long as the frame; see `named`
    body: FrameType | None = None  # the frame of its forward, once it was seen to be that; nothing is between the two
    places: Any = None  # dict[int, Place]: those in the code of that frame, by the instruction
    callers: Any = None  # and those of them from which a module's `__call__` was seen to run, with nothing between
    failures: list[Call] | None = None  # calls inside that raised
    raising: BaseException | None = None  # what the last of them raised, while it may still pass through
    returned: bool = False  # forward did; the module's own hooks may still run
    # the expression whose operations belong together, the instruction from which its function was called (-1 in the
    # forward itself), the aten operation that began it, and the instruction, of the function that the expression
    # calls, that asked for it
    began: tuple[Place | None, int, Facts | None, int] = (None, -1, None, -1)
    viewing: bool = False  # and whether only views have run since
    written: set[int] | None = None  # storages written in place, where somebody wants to know
    own_forward: FrameType | None = None  # the frame that runs its forward under a decorator, once found

    def runs(self, frame: FrameType) -> bool:
        """Whether this is the frame of its forward: torch calls that in a function inside of `_call_impl`."""
        outer = frame.f_back
        return outer is not None and outer.f_back is self.frame

    def named(self) -> dict[int, str]:
        """The names of the tensors that it was given, by id; made where some of them are parts of arguments."""
        if self.arguments is None:
            given = zip(self.names.names, self.args or ())  # noqa: B905  # a forward may be given fewer than it has
            self.arguments = {id(arg): name for name, arg in reversed(list(given)) if isinstance(arg, torch.Tensor)}
        return self.arguments

    def input_label(self, tensor: torch.Tensor) -> str | None:
        """The label of a tensor that it was given, "input x", by the first of its names; None for any other."""
        if self.arguments is not None:
            name = self.arguments.get(id(tensor))
            return None if name is None else f"input {name}"
        i = 0
        for given in self.args or ():
            if given is tensor:
                return f"input {self.names.names[i]}" if i < len(self.names.names) else None
            i += 1  # noqa: SIM113  # to count costs half of what enumerate costs for one argument
        return None


def add(around: Call, call: Call) -> None:
    """Put a call last inside another one."""
    if around.children is NOTHING:
        around.children = [call]
    else:
        around.children.append(call)


class Thread:
    """What one thread has open."""

    def __init__(self) -> None:
        self.stack: list[OpenCall] = []
        self.mode: Any = None  # the dispatch mode that was entered for a thread of the model's own
        self.adopter: OpenCall | None = None  # the call in whose forward a thread of the model's own was started
        self.busy = False  # the tracer itself is at work: operations are its own
