"""Lines that are written without rich: the same characters, with colours and without, whatever stands in them."""

from __future__ import annotations

import io
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group

from tracecall.views.header import BAD, MODULE, NOTE, QUIET, TIME
from tracecall.views.styled import Line, Styles

Colours = Literal["standard", "256", "truecolor"] | None
COLOURS: list[Colours] = [None, "standard", "256", "truecolor"]
# narrow, wide, with an accent of its own, made wide by what follows; what cannot be printed `labels.safe` wrote out
CHARACTERS = [*"ab1 │├→█…×字👍é", "e\u0301", "♥\ufe0f"]
pieces = st.lists(
    st.tuples(
        st.lists(st.sampled_from(CHARACTERS), max_size=12).map("".join),
        st.sampled_from(["", MODULE, QUIET, TIME, BAD, NOTE]),
    ),
    max_size=6,
)


def line_of(parts: list[tuple[str, str]]) -> Line:
    """A line of texts with their styles."""
    return Line([text for text, _ in parts], [style for _, style in parts], sum(cell_len(text) for text, _ in parts))


def console(width: int, colours: Colours, *, no_color: bool = False) -> Console:
    terminal = colours is not None
    out = io.StringIO()
    return Console(file=out, width=width, color_system=colours, force_terminal=terminal, no_color=no_color)


def by_rich(line: Line, on: Console) -> str:
    """What rich prints of the same line as a Text."""
    with on.capture() as captured:
        on.print(Group(line))
    return captured.get()


@pytest.mark.parametrize("colours", COLOURS)
@given(pieces, st.integers(4, 40))
def test_a_line_is_printed_as_rich_prints_its_text(colours: Colours, parts: list[tuple[str, str]], width: int) -> None:
    """Cut where it does not fit, without spaces at its end, each piece in its style."""
    on = console(width, colours)
    line = line_of(parts)
    assert line.printed(width, Styles(on)) + "\n" == by_rich(line, on)


def test_styles_are_those_of_the_console() -> None:
    """Bold without colours where the user wants none, nothing at all in a file."""
    line = line_of([("├─ ", QUIET), ("fc", MODULE), ("  12.0", TIME)])
    printed = {
        "file": line.printed(80, Styles(console(80, None))),
        "terminal": line.printed(80, Styles(console(80, "standard"))),
        "NO_COLOR": line.printed(80, Styles(console(80, "standard", no_color=True))),
    }
    assert printed == {
        "file": "├─ fc  12.0",
        "terminal": "\x1b[2m├─ \x1b[0m\x1b[1mfc\x1b[0m\x1b[36m  12.0\x1b[0m",
        "NO_COLOR": "\x1b[2m├─ \x1b[0m\x1b[1mfc\x1b[0m  12.0",
    }


def test_what_is_cut_ends_in_dots() -> None:
    """A wide character is never cut in two: it goes, and leaves a space."""
    assert line_of([("abcdef", "")]).printed(4, Styles(console(4, None))) == "abc…"
    assert line_of([("ab字字", "")]).printed(4, Styles(console(4, None))) == "ab …"
