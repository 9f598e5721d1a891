"""The little language of expected shapes: "B,16,H//2,_" is a Shape, "B,3,H,W → B,16,H,W" what goes in and comes out."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tracecall.errors import TracecallError

LONGEST = 200  # characters of one size: Python's parser is recursive
ANY = ("_", "*")
REST = "..."
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class Size:
    """One size: a number, a name, or a formula of both; without a tree it is any size."""

    text: str
    tree: ast.expr | None

    @property
    def name(self) -> str | None:
        """The name, where the size is nothing else: such a size binds it."""
        return self.tree.id if isinstance(self.tree, ast.Name) else None

    def names(self) -> set[str]:
        """Every name in it."""
        return {one.id for one in ast.walk(self.tree) if isinstance(one, ast.Name)} if self.tree is not None else set()

    def value(self, bound: Mapping[str, int | str]) -> int | str:
        """What it comes to; ValueError says why it comes to nothing, KeyError which name is not bound."""
        if self.name is not None:
            return bound[self.name]
        assert self.tree is not None
        return _number(self.tree, bound)


def _number(tree: ast.expr, bound: Mapping[str, int | str]) -> int:
    if isinstance(tree, ast.BinOp):
        left, right = _number(tree.left, bound), _number(tree.right, bound)
        if isinstance(tree.op, ast.FloorDiv) and right == 0:
            raise ValueError("it divides by 0")
        return _OPERATORS[type(tree.op)](left, right)
    if isinstance(tree, ast.Name):
        size = bound[tree.id]
        if not isinstance(size, int):
            raise ValueError(f"{tree.id} = {size} is no number")
        return size
    assert isinstance(tree, ast.Constant) and isinstance(tree.value, int)
    return tree.value


@dataclass(frozen=True)
class Shape:
    """The sizes of one tensor. `rest` is where among them any number of further sizes may stand, None for nowhere."""

    sizes: tuple[Size, ...]
    rest: int | None = None

    def __str__(self) -> str:
        texts = [size.text for size in self.sizes]
        if self.rest is not None:
            texts.insert(self.rest, REST)
        return "[" + ", ".join(texts) + "]"

    def pairs(self, shape: tuple[int | str, ...]) -> list[tuple[Size, int | str]] | None:
        """Each size beside the one that was seen; None where there are too few or too many dimensions."""
        if len(shape) < len(self.sizes) or (self.rest is None and len(shape) > len(self.sizes)):
            return None
        if self.rest is not None:
            shape = shape[: self.rest] + shape[len(shape) - (len(self.sizes) - self.rest) :]
        return list(zip(self.sizes, shape, strict=True))


@dataclass(frozen=True)
class Wanted:
    """What one call should take and give: a shape for each tensor, by its place or by the key that it stands under."""

    output: dict[int | str, Shape]
    inputs: dict[int | str, Shape] | None = None  # None: nothing is said

    def sizes(self) -> Iterator[Size]:
        """Every size in it."""
        for shape in (*(self.inputs or {}).values(), *self.output.values()):
            yield from shape.sizes


def wanted(path: str, given: object) -> Wanted:
    """Read what stands beside a path: text, a tuple of sizes, a tuple of shapes, or a dictionary of named ones.

    TracecallError where it cannot be read.
    """
    if isinstance(given, dict):
        return Wanted({_key(path, key): _shape(path, one) for key, one in given.items()})
    if isinstance(given, str):
        before, arrow, after = given.replace("->", "→").partition("→")
        if not arrow:
            return Wanted(_shapes(path, given))
        if "→" in after:
            raise _unreadable(path, given, "it has more than one arrow")
        return Wanted(_shapes(path, after), _shapes(path, before))
    if isinstance(given, (tuple, list)) and given and not _is_sizes(given):
        return Wanted(dict(enumerate(_shape(path, one) for one in _flat(given))))
    return Wanted({0: _shape(path, given)})


def _key(path: str, key: object) -> str:
    if not isinstance(key, str):
        raise _unreadable(path, key, "a key of an output is text")
    return key


def _is_sizes(given: tuple[object, ...] | list[object]) -> bool:
    """Whether it is one shape, (4, 10) or ("B", 10), and not several."""
    return any(isinstance(one, int) for one in given)


def _flat(given: tuple[object, ...] | list[object]) -> Iterator[object]:
    """Nested as outputs are: ("S,B,H", ("1,B,H", "1,B,H")) is what an LSTM returns."""
    for one in given:
        if isinstance(one, (tuple, list)) and one and not _is_sizes(one):
            yield from _flat(one)
        else:
            yield one


def _shapes(path: str, text: str) -> dict[int | str, Shape]:
    """One shape, or several in brackets: "[B,S,E], [2,B,H]"."""
    stripped = text.strip()
    if not stripped.startswith("["):
        return {0: _shape(path, stripped)}
    found: list[Shape] = []
    while stripped:
        inside, closed, stripped = stripped.removeprefix("[").partition("]")
        stripped = stripped.strip()
        separated = not stripped or (stripped.startswith(",") and stripped[1:].strip().startswith("["))
        if not closed or not separated or "[" in inside:
            raise _unreadable(path, text, "its brackets do not fit")
        found.append(_shape(path, inside))
        stripped = stripped.removeprefix(",").strip()
    return dict(enumerate(found))


def _shape(path: str, given: object) -> Shape:
    if isinstance(given, (tuple, list)):
        texts = [str(one) if isinstance(one, int) else one for one in given]
    elif isinstance(given, str):
        if given.strip().startswith("[") and given.strip().endswith("]"):
            given = given.strip()[1:-1]
        texts = [one.strip() for one in given.split(",")] if given.strip() else []
    else:
        raise _unreadable(path, given, "a shape is text or a tuple of sizes")
    rest: int | None = None
    sizes: list[Size] = []
    for text in texts:
        if not isinstance(text, str):
            raise _unreadable(path, given, "a size is a number or text")
        text = text.strip()
        if text in (REST, "…"):
            if rest is not None:
                raise _unreadable(path, given, "it has ... twice")
            rest = len(sizes)
        else:
            sizes.append(_size(path, given, text))
    return Shape(tuple(sizes), rest)


def _size(path: str, given: object, text: str) -> Size:
    if text in ANY:
        return Size(text, None)
    if not text:
        raise _unreadable(path, given, "a size is missing")
    try:
        if len(text) > LONGEST:
            raise ValueError
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _unreadable(path, given, f"{text[:LONGEST]!r} is no size") from None
    for one in ast.walk(tree):
        number = isinstance(one, ast.Constant) and type(one.value) is int
        name = isinstance(one, ast.Name) and one.id not in ANY
        formula = isinstance(one, ast.BinOp) and type(one.op) in _OPERATORS
        if not (number or name or formula or isinstance(one, (ast.operator, ast.expr_context))):
            raise _unreadable(path, given, f"{text!r} is no size")
    return Size(text, tree)


def _unreadable(path: str, given: object, why: str) -> TracecallError:
    shown = repr(given) if isinstance(given, (str, int, float, tuple, list, type(None))) else type(given).__name__
    return TracecallError(
        f"the shape {shown[:LONGEST]} of {path!r} cannot be read: {why}; a size is a number, a name, _ for any, ... "
        'for any number of them, or a formula with + - * //; type for example "B,16,H//2,_"'
    )
