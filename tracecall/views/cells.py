"""How wide a text is in a terminal: rich's answer, at once for texts of nothing but characters that take one cell."""

from __future__ import annotations

import re

from rich.cells import cell_len as measured

ORDINARY = "·×→←…│├└─✗▏"  # with those of ASCII, nearly all that a tree is made of
_all_ordinary = re.compile(f"[ -~{ORDINARY}]*").fullmatch


def cell_len(text: str) -> int:
    """The cells that a text takes."""
    return len(text) if narrow(text) else measured(text)


def narrow(text: str) -> bool:
    """Whether each character of a text is known to take one cell, so that its length is its width.

    Of ten thousand texts in a column this is asked once, of all of them together.
    """
    if text.isascii() and text.isprintable():  # as most are, and sooner told
        return True
    return _all_ordinary(text) is not None
