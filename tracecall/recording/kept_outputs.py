"""An output as it was when its call ended: copies of its tensors on the CPU, and all else that it is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from tracecall.recording import tensor_specs, values


@dataclass(frozen=True)
class Unread:
    """Stands for an object that cannot be compared without running its own code, or that has no end."""

    type: str


Leaves = list[tuple[str, object]]  # of an output, each with the way to it


@dataclass(frozen=True)
class Kept:
    """An output, with its tensors on the CPU."""

    whole: str  # "a tensor", "a dict"
    leaves: Leaves


PLAIN = (type(None), bool, int, str, bytes)  # types, not instances: a subclass may do anything


def kept(output: object) -> Kept:
    """Copies of an output's tensors on the CPU, in their own dtypes, dense; and all else that it is made of."""
    found: Leaves = []
    ways: Counter[str] = Counter()
    with torch.no_grad():
        for where, leaf in (
            (("", output),) if isinstance(output, torch.Tensor) else values.leaves("", output, most=values.MANY)
        ):
            ways[where] += 1
            # long keys of a dict may be shortened to the same text
            found.append((where if ways[where] == 1 else f"{where} #{ways[where]}", _leaf(leaf)))
    one = output is None or isinstance(output, torch.Tensor)
    return Kept(in_words(output) if one else _with_article(type(output).__name__), found)


def _leaf(leaf: object) -> object:
    if isinstance(leaf, torch.Tensor):
        return _plain(leaf).detach().to("cpu", copy=True) if numeric(leaf) else leaf.detach()
    if type(leaf) in (float, complex):
        return torch.tensor(leaf, dtype=torch.float64 if type(leaf) is float else torch.complex128)
    if isinstance(leaf, values.Empty):
        return leaf
    return leaf if type(leaf) in PLAIN else Unread(str(leaf) if isinstance(leaf, values.More) else type(leaf).__name__)


def size(output: Kept) -> int:
    """Bytes that copies take."""
    return sum(
        leaf.numel() * leaf.element_size()
        for _, leaf in output.leaves
        if isinstance(leaf, torch.Tensor) and numeric(leaf)
    )


def numeric(tensor: torch.Tensor) -> bool:
    """Whether a tensor has numbers that can be had as a plain one."""
    return type(tensor) in tensor_specs.PLAIN_TENSORS and not (tensor.is_nested or tensor.is_meta)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    dense = tensor if tensor.layout is torch.strided else tensor.to_dense()
    return dense.dequantize() if dense.is_quantized else dense


def in_words(leaf: object, where: str = "") -> str:
    """A leaf in words, and its place: "a tensor", "a str at ['y']"."""
    if leaf is None or isinstance(leaf, torch.Tensor):
        said = "None" if leaf is None else "a tensor"
    elif isinstance(leaf, values.Empty):
        said = _with_article(leaf)
    else:
        said = _with_article(leaf.type if isinstance(leaf, Unread) else type(leaf).__name__)
    return said + placed(where)


def placed(where: str) -> str:
    """The place of a leaf after what it is: " at ['y']"."""
    return f" at {where}" if where else ""


def _with_article(type: str) -> str:
    """A type with its article; text that stands for what is not listed has none."""
    return f"{'an' if type[0].lower() in 'aeio' else 'a'} {type}" if type.partition(" ")[0].isidentifier() else type
