"""Texts of a million characters, which a file may hold: what is drawn of them costs what is seen of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.views.traces import module, operation, trace
from tracecall.calls import Fold
from tracecall.views import columns, labels, lines, names
from tracecall.views.tree import text

HUGE = 1_000_000
# narrow, wide, without width, made wide by what follows, joined
characters = st.text(st.sampled_from([*"ab …é字👍♥", "\u0301", "\ufe0f", "\u200d"]), max_size=40)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of all texts that are measured."""
    found: list[int] = []

    def counted(text: str) -> int:
        found.append(len(text))
        return cell_len(text)

    for part in (labels, lines, columns):
        monkeypatch.setattr(part, "cell_len", counted)
    return found


@pytest.mark.parametrize("char", ["x", "字", "é", "\x1b", "1a", "e\u0301", "\u0301", "👍\u200d"])
@pytest.mark.parametrize("fold", [False, True])
def test_a_huge_name_and_a_huge_type_are_cut_to_what_is_shown(measured: list[int], char: str, fold: bool) -> None:
    """The whole of neither is ever measured, and what is measured is as much as for any long name."""
    size = HUGE // len(char)
    root = module(
        "Net",
        "Net",
        (1, 8),
        (1, 8),
        module(char * size, "Linear", (1, 8), (1, 8), us=1, line=3),
        *(module(f"fc{i}", char * size, (1, 8), (1, 8), us=1, line=4, source=char * size) for i in range(4)),
        operation(char * size, char * size, (1, 8), (1, 8), us=1, line=5),
        us=9,
        path="",
    )
    drawn = text(trace(root), width=80, fold=fold).splitlines()
    assert all(cell_len(line) <= 80 for line in drawn)
    assert len(drawn) < 20
    assert any("Linear" in line and "…" in line for line in drawn)
    assert any("fc0" in line and "…" in line for line in drawn)
    assert sum(measured) < HUGE
    assert len(measured) < 1000


def test_of_huge_names_that_share_a_row_their_number_stays() -> None:
    """As with any long ones."""
    call = module("x" * HUGE, "Linear", (1, 8), (1, 8))
    call.fold = Fold(12, "x" * HUGE, "y" * HUGE, [])
    assert names.cut_name(labels.named(call), 20, folded=True) == "xxxxxxxxxxxxxxx… ×12"


@pytest.mark.parametrize(
    ("cell", "width", "shown"),
    [
        ("abc", 5, "abc  "),
        ("abcdef", 4, "abc…"),
        ("字字字", 4, "字… "),
        ("字字字", 5, "字字…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
        ("♥\ufe0f♥\ufe0f", 3, "♥\ufe0f…"),
        ("abc", 1, "…"),
        ("字", 1, "…"),
        ("", 2, "  "),
    ],
)
def test_a_cell_is_cut_between_characters_as_they_are_seen(cell: str, width: int, shown: str) -> None:
    """Nothing wide is cut in two; an accent stays with its letter."""
    assert labels.pad(cell, width) == shown


@given(characters, st.integers(1, 30))
def test_a_start_is_the_longest_that_fits(text: str, width: int) -> None:
    """The same as dropping one character at a time, which takes ages."""
    assert labels.start(text, width) == _dropping(text, lambda cell: cell_len(cell) <= width)


@given(characters, st.integers(2, 30))
def test_a_cell_is_exactly_as_wide_as_asked_for(text: str, width: int) -> None:
    """Cut or filled. What joins a character to the next one is not printed."""
    text = labels.safe(text)
    assert cell_len(labels.pad(text, width)) == width


def _dropping(text: str, fits: Callable[[str], bool]) -> str:
    while not fits(text):
        text = text[:-1]
    return text
