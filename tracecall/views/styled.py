"""One line of the tree as pieces of text with their styles: a rich Text, or at once the characters to print."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from msgspec import Struct
from rich.cells import cell_len, get_character_cell_size, set_cell_size
from rich.console import Console
from rich.text import Span, Text

_narrow = functools.cache(lambda char: get_character_cell_size(char) == 1)


class Styles(dict[str, tuple[str, str]]):
    """What a console prints before and after a text of some style: as rich writes it there, asked once a style."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.coloured = console.color_system is not None

    def __missing__(self, style: str) -> tuple[str, str]:
        with self.console.capture() as captured:
            self.console.print(Text("x", style), end="")
        before, _, after = captured.get().partition("x")
        self[style] = before, after
        return before, after


class Line(Struct):
    """A line that is never wrapped: texts side by side, each with its style, "" for none.

    `cells` is how wide it is at most: one that is known to fit is not measured.
    """

    texts: Sequence[str]
    styles: Sequence[str]
    cells: int

    @property
    def plain(self) -> str:
        """The text without styles, of whatever width."""
        return "".join(self.texts).rstrip()

    def printed(self, width: int, styles: Styles) -> str:
        """What is printed of it in `width` cells."""
        plain = self.plain if self.cells <= width else _cut(self.plain, width)
        if not styles.coloured:
            return plain
        found, begin = [], 0
        for text, style in zip(self.texts, self.styles, strict=True):
            shown = plain[begin : begin + len(text)]
            begin += len(text)
            if shown:
                before, after = styles[style]
                found.append(before + shown + after)
        return "".join(found)

    def __rich__(self) -> Text:
        """Made at once with all its spans: appending piece by piece takes several times as long."""
        plain = self.plain
        spans, begin = [], 0
        for text, style in zip(self.texts, self.styles, strict=True):
            end = min(begin + len(text), len(plain))
            if style and end > begin:
                spans.append(Span(begin, end, style))
            begin += len(text)
        return Text(plain, no_wrap=True, overflow="ellipsis", spans=spans)


def _cut(plain: str, width: int) -> str:
    """Text in at most `width` cells; what is cut ends in "…", as rich cuts it."""
    if len(plain) > width and all(map(_narrow, plain[: width + 1])):  # as most are, and soon seen
        return plain[: width - 1] + "…"
    return plain if cell_len(plain) <= width else set_cell_size(plain, width - 1) + "…"
