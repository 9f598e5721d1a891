"""Code to quote, found by inspection in what is installed: functions, single statements, the line of a call."""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import re
import textwrap
from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any

from tracecall.calls import Site
from tracecall.recording.sites import class_line, shown_path
from tracecall.story import Source

LONGEST = 24  # lines of one excerpt


def plain(function: Any) -> Any:
    """The function under decorators and bindings."""
    function = inspect.unwrap(function) if callable(function) else function
    return getattr(function, "__func__", function)


def place(function: Any) -> str:
    """Where a function is written: "models/cnn.py:23"; "no Python source" for one that has none."""
    code = getattr(plain(function), "__code__", None)
    return "no Python source" if code is None else f"{shown_path(code.co_filename)}:{code.co_firstlineno}"


def quoted(function: Any, marked: Iterable[int] = (), *, most: int = LONGEST) -> list[Source]:
    """A function's source, cut after `most` lines; nothing where it cannot be read."""
    found = _lines(function)
    if found is None:
        return []
    file, first, lines = found
    if len(lines) > most:
        lines = [*lines[: most - 1], " " * _indent(lines[most - 1]) + "…"]
    return [Source(file, first, _dedent(lines), sorted(set(marked)) or [first])]


def statements(function: Any, wanted: Callable[[ast.AST], bool], *, heads: bool = False) -> list[Source]:
    """The statements of a function that are `wanted`, in order, each an excerpt; with `heads` only up to the colon."""
    found = _lines(function)
    if found is None:
        return []
    file, first, lines = found
    try:
        tree = ast.parse(_dedent(lines))
    except SyntaxError:  # source that is not what runs
        return []
    excerpts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and wanted(node):
            begin, end = node.lineno - 1, node.end_lineno or node.lineno
            body = getattr(node, "body", None)
            if heads and body:
                end = body[0].lineno - 1
                while lines[end - 1].strip().startswith("#"):  # a comment about the body
                    end -= 1
            text = [line.rstrip("\n") for line in lines[begin : min(end, begin + LONGEST)]]
            excerpts.append(Source(file, first + begin, _dedent(text), [first + begin]))
    return sorted(excerpts, key=lambda one: one.line)


def names_in(node: ast.AST) -> set[str]:
    """Every name and attribute that a piece of code mentions."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return found | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def names_used(function: Any) -> set[str]:
    """Every global name and attribute that a function's code uses, with those of the functions written inside it."""
    found: set[str] = set()
    waiting = [getattr(plain(function), "__code__", None)]
    while waiting:
        code = waiting.pop()
        if isinstance(code, CodeType):
            found.update(code.co_names)
            waiting.extend(one for one in code.co_consts if isinstance(one, CodeType))
    return found


def class_head(kind: type) -> list[Source]:
    """The line `class Name(Base):`."""
    found = class_line(kind)
    text = "" if found is None else linecache.getline(*found).strip()
    return [line_at(shown_path(found[0]), found[1], text)] if found is not None and text.startswith("class") else []


def assignment(owner: type, name: str) -> list[Source]:
    """The line in a class's body that assigns `name`, as nn.Module's does for `__call__`."""
    try:
        lines, first = inspect.getsourcelines(owner)
        file = str(inspect.getsourcefile(owner))
    except (OSError, TypeError):
        return []
    wanted = re.compile(rf"\s+{re.escape(name)}\s*(:[^=]*)?=[^=]")
    return [line_at(shown_path(file), first + i, line.strip()) for i, line in enumerate(lines) if wanted.match(line)][
        :1
    ]


def signature(function: Any) -> list[Source]:
    """The lines of a function's `def`, up to its colon."""
    name = getattr(plain(function), "__name__", "")
    return statements(function, lambda one: isinstance(one, ast.FunctionDef) and one.name == name, heads=True)[:1]


def line_of(where: Site | None) -> list[Source]:
    """The line of code that a call was made in."""
    if where is None:
        return []
    text = linecache.getline(os.path.abspath(where.file), where.line).strip()
    return [line_at(where.file, where.line, text)] if text else []


def line_at(file: str, line: int, text: str) -> Source:
    """One line of code as an excerpt."""
    return Source(file, line, text, [line])


def _lines(function: Any) -> tuple[str, int, list[str]] | None:
    function = plain(function)
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):  # built in, made by exec, or not Python at all
        return None
    code = getattr(function, "__code__", None)
    file = code.co_filename if code is not None else inspect.getsourcefile(function)
    return shown_path(str(file)), max(first, 1), [line.rstrip("\n") for line in lines]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _dedent(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines))
