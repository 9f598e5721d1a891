"""The user's own code: run so that its errors become one line, and its signatures written as a reader knows them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

from tracecall.errors import TracecallError
from tracecall.loading.places import shown

_LONGEST = 300  # characters of an exception's text that still make a line
_HERE = Path(__file__).resolve().parent


@contextmanager
def user_code(doing: str, folder: Path | None = None, advice: str = "") -> Iterator[None]:
    """Turn what the code inside raises into a TracecallError that names file, line and exception.

    The line is the innermost one in `folder`, where the user can change it; without any there, the innermost at all.
    """
    try:
        yield
    except TracecallError:
        raise
    except (Exception, SystemExit) as error:  # a file that ends with sys.exit(main()) is a common one
        where = _where(error, folder)
        place = f"{where}: " if where else ""
        text = f"{doing} failed: {place}{type(error).__name__}{_message(error)}"
        if isinstance(error, ModuleNotFoundError):
            advice = f"; it must be importable by tracecall's own Python, {sys.executable}"
        raise TracecallError(text + advice) from error


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature, or None where the function does not tell it."""
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        return None


def call_text(name: str, signature: inspect.Signature | None) -> str:
    """Write a signature without annotations: `CNN.forward(x, mask=None)`, optional parameters shortened."""
    if signature is None:
        return f"{name}(…)"
    parts = []
    for one in signature.parameters.values():
        stars = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
        default = "" if one.default is one.empty else f"={_short(one.default)}"
        parts.append((default != "", f"{stars}{one.name}{default}"))
    if len(parts) > 8:
        needed = [text for optional, text in parts if not optional]
        return f"{name}({', '.join([*needed[:8], '…'])})" if needed else f"{name}({parts[0][1]}, …)"
    return f"{name}({', '.join(text for _, text in parts)})"


def required(signature: inspect.Signature) -> list[inspect.Parameter]:
    """Return the parameters that a call must give."""
    stars = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one for one in signature.parameters.values() if one.default is one.empty and one.kind not in stars]


def _where(error: BaseException, folder: Path | None) -> str:
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{shown(error.filename)}:{error.lineno}"
    lines = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith("<") and Path(frame.f_code.co_filename).parent != _HERE
    ]
    own = [(file, line) for file, line in lines if folder is not None and file.is_relative_to(folder)]
    if not (own or lines):
        return ""
    file, line = (own or lines)[-1]
    return f"{shown(file)}:{line}"


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"({error.code!r}), the file ends the program when imported"
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    if not text:
        return ""
    return f": {text}" if len(text) <= _LONGEST else f": {text[:_LONGEST]}…"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 24 and "\n" not in text else "…"
