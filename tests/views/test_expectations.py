"""The diff of expected shapes: drawn as it looks."""

from __future__ import annotations

import io
import textwrap

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.views.traces import cnn, module, trace
from tracecall.expectations import CallShapes, Difference, differences, from_trace
from tracecall.views.expectations import differences_view


def text(found: list[Difference], width: int = 100) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False)
    console.print(differences_view(found, width))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def drawing(shown: str) -> str:
    return textwrap.dedent(shown).strip("\n")


def changed(path: str, before: str, after: str) -> Difference:
    return Difference("changed", path, None, CallShapes({}, {"": before}), CallShapes({}, {"": after}))


def test_a_small_diff():
    """One aligned line for each tensor that changed, before → after; a new module with what goes in and comes out."""
    other = cnn()
    other.calls[0].children[0] = module("conv1", "Conv2d", (1, 3, 28, 28), (1, 8, 28, 28))
    other.calls[0].children[2] = module("pool", "MaxPool2d", (1, 8, 28, 28), (1, 8, 14, 14))
    other.calls[0].children[-1] = module("head", "Linear", (1, 120), (1, 12))
    assert text(differences(from_trace(cnn()), other)) == drawing("""
        not as expected: 2 modules changed, 1 added, 1 removed

        changed  conv1    output          [1, 16, 28, 28] → [1, 8, 28, 28]
        changed  pool #1  input           [1, 16, 28, 28] → [1, 8, 28, 28]
                          output          [1, 16, 14, 14] → [1, 8, 14, 14]
        added    head     input → output  [1, 120] → [1, 12]
        removed  fc2      input → output  [1, 120] → [1, 10]
    """)


def test_no_difference_is_said_in_a_line():
    """It is calm when all is well."""
    assert text([]) == "every module has the expected shapes"


def test_a_dtype_is_said_where_it_changed():
    """And only there."""
    assert text([changed("", "float32[2]", "float16[2]"), changed("a", "float32[2]", "float32[3]")]) == drawing("""
        not as expected: 2 modules changed

        changed  the model  output  float32[2] → float16[2]
        changed  a          output  [2] → [3]
    """)


def test_many_modules_that_changed_in_the_same_way_are_counted():
    """The first three and a number; the inputs of one call that changed alike are one line."""
    shown = [changed(f"blocks.{i}.attention", "float32[1, 8, 64]", "float32[1, 8, 96]") for i in range(24)]
    pair = CallShapes({"q": "float32[1]", "k": "float32[1]"}, {"[0]": "float32[1]", "[1]": "float32[5]"})
    other = CallShapes({"q": "float32[2]", "k": "float32[2]"}, {"[0]": "float32[2]", "[1]": "float32[5]"})
    assert text([*shown, Difference("changed", "top", None, pair, other)]) == drawing("""
        not as expected: 25 modules changed

        changed  blocks.0.attention  output             [1, 8, 64] → [1, 8, 96]
        changed  blocks.1.attention  output             [1, 8, 64] → [1, 8, 96]
        changed  blocks.2.attention  output             [1, 8, 64] → [1, 8, 96]
                 and 21 more in the same way
        changed  top                 inputs, output[0]  [1] → [2]
    """)


def test_many_ways_to_change_end_in_a_count():
    """A screen, not a scroll."""
    shown = text([changed(f"m{i}", "float32[1]", f"float32[{i + 2}]") for i in range(300)])
    assert shown.splitlines()[-1] == "and 280 more"
    assert len(shown.splitlines()) < 30


def test_a_tensor_that_is_new_or_gone_says_so():
    """The other side is none."""
    before = CallShapes({"x": "float32[2]"}, {"": "float32[2]"})
    after = CallShapes({"x": "float32[2]", "mask": "bool[2]"}, {"": "float32[2]"})
    assert "input mask  none → bool[2]" in text([Difference("changed", "a", None, before, after)])


@pytest.mark.parametrize("width", [20, 40, 60, 100])
def test_no_line_is_wider_than_asked(width: int):
    """A long path loses its beginning."""
    shown = [changed("encoder.layers.11.attention.self.query", "float32[1, 8]", "float32[1, 9]")]
    lines = text([*shown, *differences(from_trace(cnn()), trace(module("Net", "Net", (1,), (2,), path="")))], width)
    assert all(cell_len(line) <= width for line in lines.splitlines())


def test_names_are_data():
    """A path or a place with an escape sequence or markup is shown as text."""
    shown = text([changed("\x1b[31m[bold]a", "float32[1]", "float32[2]")])
    assert "\x1b" not in shown
    assert "[bold]a" in shown
