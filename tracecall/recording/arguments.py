"""What goes into calls and comes out of them, as Values: each tensor with what it came from."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch

from tracecall.calls import Call, Value
from tracecall.recording import tensor_specs, values
from tracecall.recording.modules import ForwardNames
from tracecall.recording.open_calls import OpenCall
from tracecall.recording.sources import Sources
from tracecall.recording.tensor_specs import PLAIN_TENSORS


def bind(
    sources: Sources,
    into: list[Value],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    names: ForwardNames,
    above: OpenCall | None,
    arguments: dict[int, str],
) -> None:
    """Arguments as Values under the parameter names of a forward; their tensors are noted in `arguments`."""
    known = len(names.names)
    for i, arg in enumerate(args):
        if i < known:
            where = names.names[i]
        else:
            where = f"{names.starred}[{i - known}]" if names.starred else f"args[{i}]"
        value(sources, into, where, arg, above, arguments)
    if kwargs:
        for key, arg in kwargs.items():
            where = key if key in names.keywords or not names.starred_keywords else f"{names.starred_keywords}.{key}"
            value(sources, into, where, arg, above, arguments)


def value(
    sources: Sources, into: list[Value], where: str, arg: object, above: OpenCall | None, arguments: dict[int, str]
) -> None:
    """One argument as Values, each tensor with what it came from and noted as an input under its name."""
    for name, leaf in values.parts(where, arg):
        if isinstance(leaf, torch.Tensor):
            source = sources.find(leaf, above)
            value = Value(name, tensor_specs.spec(leaf), source)  # type: ignore[arg-type]  # a label at the end
            arguments.setdefault(id(leaf), name)
        else:
            value = Value(name, values.short(leaf))
        into.append(value)


def outputs(sources: Sources, call: Call, output: object) -> None:
    """Set a call's output, and remember it as the maker of each tensor in it."""
    if isinstance(output, (tuple, list)) and _several(output):
        made, number, row = sources.made_by, sources.next_number(), []
        for where, leaf in zip(_ROW, output):  # noqa: B905  # more names
            shown = tensor_specs.plain_spec(leaf)
            made[id(leaf)] = (weakref.ref(leaf), call, number, shown)
            row.append(Value(where, shown))
        call.output = row
        return
    call.output = [
        Value(name, sources.made(leaf, call) if isinstance(leaf, torch.Tensor) else values.short(leaf))
        for name, leaf in values.parts("", output)
    ]


_ROW = tuple(f"[{i}]" for i in range(values.LEAVES))


def _several(output: tuple[object, ...] | list[object]) -> TypeGuard[Sequence[torch.Tensor]]:
    """Whether this is nothing but tensors in a row, as chunk returns them: there is nothing to look for in it."""
    row = type(output) in (tuple, list) and 0 < len(output) <= values.LEAVES
    return row and PLAIN_TENSORS.issuperset(map(type, output))
