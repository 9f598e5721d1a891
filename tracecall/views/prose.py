"""Sentences below a tree, wrapped: no terminal is so wide that a longer line reads well."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.text import Text

from tracecall.views.labels import safe

NARROWEST, WIDEST = 20, 100


def prose(text: str, width: int, style: str) -> Iterator[Text]:
    """A text, names from a model among it, as lines of at most `width` cells."""
    for line in textwrap.wrap(safe(text), max(NARROWEST, min(width, WIDEST)), break_on_hyphens=False):
        yield Text(line, style, no_wrap=True, overflow="ellipsis")
