"""From a frame to the exact expression that it was running, and from an expression to the name that we print.

A frame is remembered as its code object and `f_lasti` (0.3 µs); file, line, column and text are found after the run
through `code.co_positions()`, which tells apart three calls on one line.
"""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import linecache
import os
import re
import sys
import threading
from types import CodeType, FrameType, FunctionType

from msgspec import Struct
from torch import nn

from tracecall.calls import Site

LONGEST_NAME = 40


class Place(Struct, eq=False, gc=False):
    """A spot in running code: what a frame was doing."""

    code: CodeType
    lasti: int


def place_of(frame: FrameType, known: dict[int, Place]) -> Place:
    """The place where a frame is, one object for each: `known` are those in its code, by the instruction."""
    lasti = frame.f_lasti
    place = known.get(lasti)
    if place is None:
        place = known[lasti] = Place(frame.f_code, lasti)
    return place


def local_names(frame: FrameType) -> dict[str, object]:
    """The local variables of a running frame."""
    found = frame.f_locals
    copied = dict(found)
    if sys.version_info < (3, 13):
        found.clear()  # a snapshot that the frame would keep, and with it tensors that the model has let go
    return copied


def first_argument(frame: FrameType) -> object:
    """The first argument of a function that a profile function is told of.

    Python up to 3.12 writes the snapshot of the local variables back when the profile function returns: it stays whole.
    """
    return frame.f_locals.get(frame.f_code.co_varnames[0]) if frame.f_code.co_varnames else None


def local_value(frame: FrameType, name: str) -> object:
    """One local variable of a running frame."""
    return local_names(frame).get(name)


def site(place: Place) -> Site:
    """The Site of a place; its text is None where the source cannot be read (code from a string, say)."""
    return _site(place.code, place.lasti)


@functools.lru_cache(maxsize=4096)
def _site(code: CodeType, lasti: int) -> Site:
    positions = list(code.co_positions())
    start, end, column, end_column = positions[lasti // 2] if lasti >= 0 else (None, None, None, None)
    function = code.co_qualname
    if start is None:
        return Site(shown_path(code.co_filename), code.co_firstlineno, function=function)
    text = None if end is None else source_text(code.co_filename, start, end, column, end_column)
    return Site(
        shown_path(code.co_filename), start, None if column is None else column + 1, text=text, function=function
    )


def source_text(file: str, start: int, end: int, column: int | None, end_column: int | None) -> str | None:
    """The source between two positions (lines from 1, columns in UTF-8 bytes from 0), on one line."""
    lines = [linecache.getline(file, number) for number in range(start, end + 1)]
    if not all(lines):
        return None
    if column is not None and end_column is not None:
        # the end first: both columns may be on one line
        lines[-1] = lines[-1].encode()[:end_column].decode(errors="replace")
        lines[0] = lines[0].encode()[column:].decode(errors="replace")
    text = " ".join(line.strip() for line in lines).strip()
    return text.replace("( ", "(").replace(" )", ")").replace(",)", ")") if end > start else text


@functools.lru_cache(maxsize=4096)
def shown_path(file: str) -> str:
    """A path as a reader wants it: relative to the working folder if below it, else from the package's own folder."""
    if file.startswith("<"):
        return file
    absolute = os.path.abspath(file)
    try:
        relative = os.path.relpath(absolute)
    except ValueError:  # another drive
        relative = os.pardir
    in_packages = "site-packages" + os.sep
    if in_packages in absolute:
        return absolute.rpartition(in_packages)[2]
    if not relative.startswith(os.pardir):
        return relative
    roots = sorted((os.path.abspath(path) for path in sys.path if path), key=len, reverse=True)
    root = next((path for path in roots if absolute.startswith(path + os.sep)), None)
    return absolute if root is None or root == os.sep else os.path.relpath(absolute, root)


@functools.lru_cache(maxsize=1024)
def forward_code(function: object) -> CodeType | None:
    """The code object of a forward under its decorators; None for a forward that is not Python (a ScriptModule's)."""
    function = inspect.unwrap(function) if callable(function) else function
    function = getattr(function, "__func__", function)
    return getattr(function, "__code__", None)


def home_of(function: object) -> str:
    """The top-level package in which a function is written ("torch", "transformers", "__main__"), "" if unknown."""
    function = inspect.unwrap(function) if callable(function) else function
    namespace = getattr(getattr(function, "__func__", function), "__globals__", {})
    return str(namespace.get("__name__", "")).partition(".")[0]


_class_lines: dict[type, tuple[str, int] | None] = {}


def class_line(kind: type) -> tuple[str, int] | None:
    """File and line of `class Name`: the one above its first method, found without parsing the file."""
    if kind not in _class_lines:
        _class_lines[kind] = _find_class_line(kind)
    return _class_lines[kind]


def _find_class_line(kind: type) -> tuple[str, int] | None:
    functions = [value for value in vars(kind).values() if isinstance(value, FunctionType)]
    codes = [inspect.unwrap(function).__code__ for function in functions]
    inside = [code for code in codes if code.co_qualname.startswith(kind.__qualname__ + ".")]
    if not inside:
        return None
    first = min(inside, key=lambda code: code.co_firstlineno)
    begins = re.compile(rf"\s*class\s+{re.escape(kind.__name__)}\b")
    for number in range(first.co_firstlineno, 0, -1):
        if begins.match(linecache.getline(first.co_filename, number)):
            return first.co_filename, number
    return None


def assignment_site(kind: type, name: str) -> Site | None:
    """The first line in a class that assigns `self.name`."""
    found = class_line(kind)
    if found is None:
        return None
    file, first = found
    lines = linecache.getlines(file)
    indent = len(lines[first - 1]) - len(lines[first - 1].lstrip())
    assigns = re.compile(rf"\bself\.{re.escape(name)}\s*(:[^=]+)?=[^=]")
    for number, line in enumerate(lines[first:], first + 1):
        if line.strip() and len(line) - len(line.lstrip()) <= indent and not line.lstrip().startswith(("#", ")")):
            return None  # the class has ended
        if assigns.search(line):
            return Site(shown_path(file), number, text=line.strip())
    return None


def forward_site(module: nn.Module) -> Site | None:
    """Where the forward that this module runs is written."""
    shadow = module.__dict__.get("forward")
    code = forward_code(getattr(type(module), "forward", None) if shadow is None else shadow)
    return None if code is None else Site(shown_path(code.co_filename), code.co_firstlineno, function=code.co_qualname)


_parsing = threading.Lock()


def parsed(text: str) -> ast.expr | None:
    """The expression that a text is, None if it is a statement or does not stand alone.

    One thread at a time: in CPython 3.11, ast.parse in two threads fails when the garbage collector runs in between.
    """
    try:
        with _parsing:
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return None


def assignment_name(place: Place) -> str | None:
    """The name of an assignment to an index, "y[:, 0] = 5", of which the instruction's text is only the target."""
    code, lasti = place.code, place.lasti
    if not 0 <= lasti < len(code.co_code) or code.co_code[lasti] != dis.opmap["STORE_SUBSCR"]:
        return None
    number = site(place).line
    try:
        with _parsing:
            statement = ast.parse(linecache.getline(code.co_filename, number).strip()).body[0]
    except (SyntaxError, ValueError, IndexError, SystemError):  # it goes over several lines
        return f"{expression_name(site(place).text) or 'index'} = …"
    if not isinstance(statement, ast.Assign):
        return expression_name(ast.unparse(statement))
    return _cut(f"{_whole(statement.targets[0])} = {_part(statement.value)}".removeprefix("self."))


@functools.lru_cache(maxsize=4096)
def expression_name(text: str | None) -> str | None:
    """What an expression is called in the tree: "F.relu" of `F.relu(self.conv1(x))`, "x.view" of `x.view(-1, 8)`.

    An operator keeps its operands ("a + b"), an index its brackets ("x[:, 0]"); long parts become "…".
    """
    if text is None:
        return None
    tree = parsed(text)
    if isinstance(tree, ast.Await):
        tree = tree.value
    if isinstance(tree, ast.Call):
        return _cut(_callee(tree.func))
    if tree is not None:
        return _cut(_whole(tree).removeprefix("self."))
    return _cut(" ".join(text.split()).removeprefix("self."))


def callee_text(text: str | None) -> str | None:
    """The called expression of a call without "self.": "layers[0]" of `self.layers[0](x)`; None if it is no call."""
    tree = None if text is None else parsed(text)
    return ast.unparse(tree.func).removeprefix("self.") if isinstance(tree, ast.Call) else None


def _callee(func: ast.expr) -> str:
    if isinstance(func, ast.Attribute):
        return f"{_part(func.value)}.{func.attr}".removeprefix("self.")
    return _part(func)


def _whole(tree: ast.expr) -> str:
    """An expression with its operands abbreviated, one level deep."""
    if isinstance(tree, ast.BinOp):
        return f"{_part(tree.left)} {_symbol(tree.op)} {_part(tree.right)}"
    if isinstance(tree, ast.UnaryOp):
        return f"{_SIGNS.get(type(tree.op), '~')}{_part(tree.operand)}"
    if isinstance(tree, ast.Subscript):
        return f"{_part(tree.value)}[{ast.unparse(tree.slice).removeprefix('(').removesuffix(')')}]"
    if isinstance(tree, ast.Attribute):
        return _callee(tree)
    return ast.unparse(tree)


def _part(tree: ast.expr) -> str:
    """An operand: names, attributes and constants as they are, a call without its arguments, anything else "…"."""
    if isinstance(tree, ast.Attribute):
        return f"{_part(tree.value)}.{tree.attr}"
    if isinstance(tree, (ast.Name, ast.Constant)):
        return ast.unparse(tree)
    if isinstance(tree, ast.Subscript):
        return _whole(tree) if len(ast.unparse(tree)) <= LONGEST_NAME // 2 else f"{_part(tree.value)}[…]"
    if isinstance(tree, ast.Call):
        return f"{_callee(tree.func)}(…)"
    if isinstance(tree, (ast.BinOp, ast.UnaryOp)) and len(ast.unparse(tree)) <= LONGEST_NAME // 2:
        return ast.unparse(tree) if isinstance(tree, ast.UnaryOp) else f"({ast.unparse(tree)})"
    return "…"


_SIGNS: dict[type[ast.unaryop], str] = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~", ast.Not: "not "}
_SYMBOLS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
}  # fmt: skip


def _symbol(op: ast.operator) -> str:
    return _SYMBOLS[type(op)]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
