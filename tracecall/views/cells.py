"""How wide a text is in a terminal: rich's answer, at once for texts of nothing but characters that take one cell."""

from __future__ import annotations

import re

from rich.cells import cell_len as measured

ORDINARY = "·×→←…│├└─✗▏"  # with those of ASCII, nearly all that a tree is made of
_all_ordinary = re.compile(f"[ -~{ORDINARY}]*").fullmatch


def cell_len(text: str) -> int:
    """The cells that a text takes."""
    if text.isascii() and text.isprintable():  # as most are, and sooner told
        return len(text)
    return len(text) if _all_ordinary(text) else measured(text)
