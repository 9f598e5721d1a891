"""What is known of an aten operation by its schema: what its arguments are called, what it writes, if it is a view."""

from __future__ import annotations

from typing import Any

import torch

from tracecall.calls import Call
from tracecall.recording.modes import called, is_composite

_SET_DATA = torch.ops.aten._has_compatible_shallow_copy_type.default  # all that torch asks of `x.data = y`
MOST = 256  # no operation has so many arguments


class Facts:
    """What does not change from one run of an operation to the next."""

    __slots__ = (
        "alone",
        "composite",
        "func",
        "kind",
        "leading",
        "names",
        "others",
        "reshapes",
        "run",
        "sets_data",
        "tensors",
        "view",
        "written",
    )

    def __init__(self, func: Any) -> None:
        self.func = func  # kept, so that its id stays its own
        self.alone = (func, None)  # as it stands in the order of operations where it is shown as none
        self.run = called(func)
        schema = getattr(func, "_schema", None)
        self.kind = str(func) if schema is None else schema.name.replace("::", ".")  # "aten.relu"
        arguments = [] if schema is None else schema.arguments
        self.sets_data = func is _SET_DATA
        self.view = bool(getattr(func, "is_view", False))
        self.composite = is_composite(func)
        self.names = tuple(argument.name for argument in arguments)
        self.reshapes = torch.Tag.inplace_view in getattr(func, "tags", ())  # what it writes: unsqueeze_, resize_
        # so many arguments from the first on may be or hold tensors; without a schema any of them
        self.tensors = _last(arguments, "Tensor") if schema is not None else MOST
        # or texts: those after them can wait for the end of the run
        self.leading = max(_last(arguments, "Tensor"), _last(arguments, "str"))
        self.others = self.names[self.leading :]
        self.written = tuple(
            (i, argument.name)
            for i, argument in enumerate(arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        )


def _last(arguments: Any, word: str) -> int:
    """The place of the last argument with this word in its type, counted from 1; 0 if there is none."""
    return max((i + 1 for i, argument in enumerate(arguments) if word in str(argument.type)), default=0)


known: dict[int, Facts] = {}  # by id: an operation's hash is a Python function


def learn(func: Any) -> Facts:
    """The facts of an operation that is seen for the first time."""
    facts = known[id(func)] = Facts(func)
    return facts


def count_operations(order: list[tuple[Any, Call | None]]) -> None:
    """Note in each operation the aten operations that ran under its expression, in the order of the first of each."""
    for func, call in order:
        if call is not None:
            kind = known[id(func)].kind
            call.operations = counted = call.operations or {}
            counted[kind] = counted.get(kind, 0) + 1
