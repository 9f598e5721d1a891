"""Arguments and results as plain data: nested structures flattened to named leaves, tensors to TensorSpecs.

Nothing here runs the model's code: no `__repr__` of an unknown object, no operation on a tensor.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType

import torch
from torch.utils import _pytree as pytree

LEAVES = 64  # of one structure; what is beyond is counted, not listed
MANY = 4096  # where all are wanted: containers that hold each other may have any number
DEPTH = 16  # of nested containers
TEXT = 60  # characters of a short repr

_EXACT = (type(None), bool, int, float, complex, type(Ellipsis), slice, range)
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)  # sizes of fake tensors
_NUMBERS = frozenset((*_EXACT, *_SYMBOLIC))
_TORCH_WORDS = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)


def size_text(shape: tuple[int | str, ...]) -> str:
    """A shape as torch writes it on the command line: "1,3,28,28"; "scalar" without dimensions."""
    return ",".join(map(str, shape)) or "scalar"


def short(value: object) -> str:
    """A repr of at most TEXT characters that runs none of the value's own code; "<Normal>" for other objects."""
    if isinstance(value, More):
        return str(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if type(value) in _EXACT or isinstance(value, (*_TORCH_WORDS, *_SYMBOLIC)) or plain(value):
        text = repr(value)
    elif type(value) in (str, bytes, bytearray):
        text = repr(value[: TEXT + 1])  # type: ignore[index]  # the three types above can be sliced
    elif isinstance(value, (type, FunctionType, MethodType)):
        text = value.__qualname__
    elif isinstance(value, BuiltinFunctionType):
        text = value.__name__
    else:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"


def plain(value: object) -> bool:
    """Whether a value is a list or tuple of nothing but numbers."""
    return type(value) in (list, tuple) and all(type(item) in _NUMBERS for item in value[:LEAVES])  # type: ignore[index]


def leaves(where: str, value: object, most: int | None = LEAVES) -> Iterator[tuple[str, object]]:
    """The leaves of nested tuples, lists, dicts, dataclasses and pytree nodes, each with the way to it.

    Tensors are leaves; so is anything that is no container. Yields (where, a leaf); a structure of more than `most`
    leaves ends with one (where, More(n)), and None is for all of them.
    """
    for listed, leaf in enumerate(_walk(where, value, (), 0, None if most is None else most + 1)):
        if listed == most:
            yield where, More(f"more than {most} values")
            return
        yield leaf


def parts(where: str, value: object) -> Iterable[tuple[str, object]]:
    """The leaves of a value; a tensor is its own only leaf."""
    return ((where, value),) if isinstance(value, torch.Tensor) else leaves(where, value)


class More(str):
    """Text that stands for leaves which are not listed."""


class Empty(More):
    """Text that stands for a container without any."""


def _walk(
    where: str, value: object, above: tuple[int, ...], depth: int, most: int | None
) -> Iterator[tuple[str, object]]:
    if isinstance(value, torch.Tensor) or value is None or type(value) in _EXACT or isinstance(value, (str, bytes)):
        yield where, value
        return
    items = _items(value, most)
    if items is None:
        yield where, value
    elif id(value) in above or depth == DEPTH:
        yield where, More(f"<{type(value).__name__}, nested too deep>")
    elif not items:
        yield where, Empty(f"empty {type(value).__name__}")
    else:
        for step, item in items:
            yield from _walk(where + step, item, (*above, id(value)), depth + 1, most)


def _items(value: object, most: int | None) -> list[tuple[str, object]] | None:
    """The parts of one container with the text that selects each; None if it is none, or fails to tell them."""
    try:
        return _listed(value, most)
    except Exception:  # a container's own code: then it is shown as one object
        return None


def _listed(value: object, most: int | None) -> list[tuple[str, object]] | None:
    if isinstance(value, torch.Size):
        return None
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f".{name}", item) for name, item in zip(value._fields, value, strict=False)]
    if type(value) in (tuple, list):
        return [(f"[{i}]", item) for i, item in enumerate(value[:most])]  # type: ignore[index]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
        # a ModelOutput has a field for everything that it might hold
        return [(f".{name}", item) for name, item in named if item is not None]
    if isinstance(value, Mapping):
        return [(f"[{short(key)}]", item) for key, item in islice(value.items(), most)]
    if isinstance(value, (tuple, list)):
        return [(f"[{i}]", item) for i, item in enumerate(value)]
    if type(value) in pytree.SUPPORTED_NODES:
        found, _ = pytree.tree_flatten_with_path(value)
        return [(pytree.keystr(path), item) for path, item in found]
    return None


def tensors(value: object, found: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
    """Every tensor in nested arguments of an operation (tuples, lists and dicts; operations take no others)."""
    found = [] if found is None else found
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, (tuple, list)):
        for item in value:
            tensors(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            tensors(item, found)
    return found
