"""The quick answer to how wide a text is, beside rich's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len as measured

from tracecall.views.cells import ORDINARY, cell_len


@given(st.text(st.sampled_from(ORDINARY + "ab 1\t\n\x1b漢é\u0301\u200d\ufe0f🎉")))
def test_it_is_richs(text: str) -> None:
    """For every mixture."""
    assert cell_len(text) == measured(text)


def test_every_ordinary_character_takes_one_cell() -> None:
    """As those of ASCII do that can be printed."""
    assert all(measured(character) == 1 for character in ORDINARY + "".join(map(chr, range(32, 127))))
