"""What is open while a model runs: the calls that have begun, a stack of them for each thread."""

from __future__ import annotations

from types import FrameType
from typing import Any

from msgspec import Struct
from torch import nn

from tracecall.calls import Call
from tracecall.recording.modules import ForwardNames


class OpenCall(Struct, eq=False):
    """A call that has begun in one thread; the frame is that of `_call_impl`, or of a hook's watcher.

    One is made for every call, and a Struct is made in half the time of an object of an ordinary class.
    """

    call: Call
    module: nn.Module
    frame: FrameType | None
    number: int
    names: ForwardNames
    arguments: dict[int, str] = {}  # of tensors, by id: alive as long as the frame; msgspec copies the empty dict
    failures: list[Call] | None = None  # calls inside that raised
    raising: BaseException | None = None  # what the last of them raised, while it may still pass through
    returned: bool = False  # forward did; the module's own hooks may still run
    group: tuple[Any, ...] | None = None  # the expression whose operations belong together
    first: Any = None  # the aten operation that began it
    viewing: bool = False  # and whether only views have run since
    written: set[int] | None = None  # storages written in place, where somebody wants to know
    own_forward: FrameType | None = None  # the frame that runs its forward under a decorator, once found


class Thread:
    """What one thread has open."""

    def __init__(self) -> None:
        self.stack: list[OpenCall] = []
        self.mode: Any = None  # the dispatch mode that was entered for a thread of the model's own
        self.adopter: OpenCall | None = None  # the call in whose forward a thread of the model's own was started
        self.busy = False  # the tracer itself is at work: operations are its own
