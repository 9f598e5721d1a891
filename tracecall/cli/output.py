"""All that tracecall writes: what was asked for on stdout, refusals and progress on stderr. No other file prints."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tracecall.errors import TracecallError

if TYPE_CHECKING:
    from rich.console import RenderableType

PROGRESS_AFTER = 1.0  # seconds: shorter work needs no progress line


def show(view: Callable[[int], RenderableType]) -> None:
    """Print what `view` makes of the terminal's width in columns."""
    from rich.console import Console, Group

    # written at once and by us: rich exits with 1 where a pipe is closed
    lines = io.StringIO()
    console = Console(file=lines, force_terminal=sys.stdout.isatty() or None, highlight=False)
    width = console.width  # asked once: rich looks at the terminal each time
    shown = view(width)
    for part in shown.renderables if isinstance(shown, Group) else [shown]:
        line = _as_it_is(part, width) if console.color_system is None else None
        if line is None:
            console.print(Group(part))  # bare, a Text is joined with others and wrapped as they are
        else:
            lines.write(line + "\n")
    write(lines.getvalue())


def _as_it_is(part: RenderableType, width: int) -> str | None:
    """The text of a line that needs no rich, without colours: it fits. Of ten thousand, rich would take a second."""
    from rich.text import Text

    if not isinstance(part, Text) or not part.no_wrap or part.justify:
        return None
    return part.plain if part.plain.isprintable() and part.end == "\n" and part.cell_len <= width else None


def show_json(value: object) -> None:
    """Print a msgspec Struct as one line of JSON."""
    import msgspec

    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # half a character, of a file whose name is not UTF-8: JSON can escape it
        import json

        text = json.dumps(msgspec.to_builtins(value))
    write(text + "\n")


def write(text: str) -> None:
    """Write to stdout, at once; a reader who has closed it is no error, a full disk is a TracecallError."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `tracecall run cnn | head`: the reader has what it wants
        _drop_output()
    except OSError as error:
        _drop_output()
        raise TracecallError(f"the output cannot be written: {error.strerror or error}") from error


def note(text: str) -> None:
    """Say in one line on stderr what was done beside printing."""
    print(" ".join(text.split()), file=sys.stderr)


def refuse(message: str, details: Sequence[str] = ()) -> int:
    """Say in one line on stderr why nothing is done, and return the exit status of that."""
    print("tracecall: " + _one_line(message), file=sys.stderr)
    for line in details:
        print("  " + _one_line(line), file=sys.stderr)
    return 2


def _one_line(text: str) -> str:
    """A message on one line; what a file or a model put into it reaches the terminal as text only."""
    line = " ".join(text.split())
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)


class Progress:
    """One line on stderr that is overwritten, only on a terminal and only once the work takes longer than a second."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown = False

    def __call__(self, text: str) -> None:
        """Say what is being done now."""
        if sys.stderr.isatty() and (time.monotonic() - self._begun > PROGRESS_AFTER or self._shown):
            self._shown = True
            sys.stderr.write(f"\r\x1b[2K{text} …")
            sys.stderr.flush()

    def counted(self, done: int, wanted: int) -> None:
        """A round of timing runs is done."""
        self(f"timing run {done} of {wanted}")

    def clear(self) -> None:
        """Leave nothing of the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False


def _drop_output() -> None:
    """What is still in stdout's buffer cannot be written: Python must not fail on it again as it exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:  # a stdout that is no file of the system's
        return
