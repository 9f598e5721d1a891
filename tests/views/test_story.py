"""The page of `tracecall explain`: drawn as it looks, from stories made by hand."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tracecall.calls import CallError, ModelInfo, Site, TensorSpec, Value
from tracecall.story import Evidence, Source, Step, Story
from tracecall.views.story import story, text


def drawing(shown: str) -> str:
    """A drawing as it stands in a test, without the test's own indentation."""
    return textwrap.dedent(shown).strip("\n")


CALL_IMPL = """\
def _wrapped_call_impl(self, *args, **kwargs):
    if self._compiled_call_impl is not None:
        return self._compiled_call_impl(*args, **kwargs)  # type: ignore[misc]
    else:
        return self._call_impl(*args, **kwargs)
"""


def linear() -> Story:
    """Two steps with all that a step may have."""
    return Story(
        ModelInfo("Linear", "models/linear.py:11"),
        [Value("x", TensorSpec((1, 10), "float32", "cpu"))],
        [
            Step(
                "call",
                "`model(x)` calls `__call__`",
                "Python turns `model(x)` into `type(model).__call__(model, x)`. This class writes no `__call__`: "
                "it inherits the one of `nn.Module`.",
                [
                    Evidence("`type(model).__call__` is `nn.Module.__call__`", True),
                    Evidence("the class has a `__call__` of its own", False),
                    Evidence("hooks", 0),
                    Evidence("classes, in the order that Python looks through", ["Linear", "  Module", "object"]),
                    Evidence("found in", "a sentence that is too long to stand in a column beside the others"),
                ],
                [Source("torch/nn/modules/module.py", 1774, CALL_IMPL, [1778])],
            ),
            Step("forward", "`forward` is an ordinary method", "Nothing more."),
        ],
        notes=["input inferred from linear (Linear)"],
    )


def test_a_page_at_80_columns():
    """The header, then each step: the claim, what was observed, the code with the line that it speaks of."""
    assert text(linear(), width=80) == drawing("""
        Linear   models/linear.py:11
        x: float32[1, 10]
        input inferred from linear (Linear)

        1  `model(x)` calls `__call__`

           Python turns `model(x)` into `type(model).__call__(model, x)`. This class
           writes no `__call__`: it inherits the one of `nn.Module`.

           observed
             `type(model).__call__` is `nn.Module.__call__`  yes
             the class has a `__call__` of its own           no
             hooks                                           0
             classes, in the order that Python looks through
               Linear
                 Module
               object
             found in
               a sentence that is too long to stand in a column beside the others

           torch/nn/modules/module.py:1778
             1774  def _wrapped_call_impl(self, *args, **kwargs):
             1775      if self._compiled_call_impl is not None:
             1776          return self._compiled_call_impl(*args, **kwargs)  # type: ig…
             1777      else:
           ▸ 1778          return self._call_impl(*args, **kwargs)

        2  `forward` is an ordinary method

           Nothing more.
        """)


def test_at_100_columns_code_has_more_room_and_prose_has_not():
    """A line of prose ends at 88 columns, however wide the terminal."""
    lines = text(linear(), width=100).splitlines()
    assert lines[6] == "   Python turns `model(x)` into `type(model).__call__(model, x)`. This class writes no"
    assert "     1776          return self._compiled_call_impl(*args, **kwargs)  # type: ignore[misc]" in lines


def test_a_story_that_ends_in_an_error():
    """The last lines say what was raised, and where."""
    shown = Story(ModelInfo("Net"), steps=[Step("call", "a", "b")])
    shown.error = CallError("RuntimeError", "mat1 and mat2\n(1x3 and 4x5)", True, site=Site("net.py", 3, text="fc(x)"))
    assert text(shown, width=80) == drawing("""
        Net

        1  a

           b

        ✗ RuntimeError: mat1 and mat2
          (1x3 and 4x5)
          net.py:3  fc(x)
        """)


def test_many_inputs_are_counted():
    """Nested inputs may have hundreds of leaves."""
    shown = Story(ModelInfo("Net"), [Value(f"x[{i}]", "3") for i in range(9)])
    assert text(shown, width=80).splitlines()[1:] == [*(f"x[{i}]: 3" for i in range(6)), "and 3 more"]


def test_an_empty_list_was_seen_too():
    """Nothing seen is said in a word."""
    shown = Story(ModelInfo("Net"), steps=[Step("hooks", "a", "b", [Evidence("hooks", [])])])
    assert "     hooks  none" in text(shown, width=80).splitlines()


NASTY = "\x1b[31mred\x07 \u202e [bold]b[/bold]"


def nasty() -> Story:
    """Control characters wherever a text comes from user code."""
    return Story(
        ModelInfo(NASTY, NASTY),
        [Value(NASTY, NASTY)],
        [
            Step(
                "call",
                NASTY,
                f"{NASTY} `{NASTY}`",
                [Evidence(NASTY, NASTY), Evidence(NASTY, [NASTY])],
                [Source(NASTY, 3, f"def f():\r\n\tx = '{NASTY}'\x0c\n\n    return x\n", [4])],
            )
        ],
        CallError(NASTY, NASTY, site=Site(NASTY, 1, text=NASTY)),
        [NASTY],
    )


def test_control_characters_never_reach_the_terminal():
    """Names and code are shown as they are: no escape sequence, no markup; the lines of code stay lines."""
    lines = text(nasty(), width=160).splitlines()
    assert all(line.isprintable() for line in lines)
    assert all("[bold]b[/bold]" in line for line in lines if "red" in line)
    assert [line[3:] for line in lines[-7:-3]] == [
        "  3  def f():",
        r"▸ 4      x = '\x1b[31mred\x07 \u202e [bold]b[/bold]'\x0c",
        "  5",
        "  6      return x",
    ]


@pytest.mark.parametrize("make", [linear, nasty])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(make, width):
    """Prose wraps, code is cropped."""
    assert all(cell_len(line) <= width for line in text(make(), width=width).splitlines())


WORDS = st.text(alphabet="ab 卷`\n._(", max_size=60)


@settings(max_examples=60, deadline=None)
@given(WORDS, st.lists(st.tuples(WORDS, WORDS | st.booleans() | st.lists(WORDS, max_size=3)), max_size=4), WORDS)
def test_any_words_fit(claim, evidence, code):
    """Whatever is said, at 40 columns."""
    step = Step("call", claim, claim, [Evidence(*pair) for pair in evidence], [Source("a.py", 9, code, [9])])
    assert all(cell_len(line) <= 40 for line in text(Story(ModelInfo("Net"), steps=[step]), width=40).splitlines())


def printed(shown: Story, **options: object) -> str:
    """What a console with these settings writes."""
    out = io.StringIO()
    Console(file=out, width=80, highlight=False, **options).print(story(shown, width=80))  # type: ignore[arg-type]
    return out.getvalue()


def test_colours_take_the_place_of_backticks():
    """A colour sets code apart where there is one; without colours, backticks do."""
    coloured = printed(linear(), force_terminal=True, color_system="truecolor", no_color=False)
    assert "`" not in coloured
    assert "\x1b[36mtype(model).__call__(model, x)\x1b[0m" in coloured
    assert printed(linear(), force_terminal=True, no_color=True).count("`") == text(linear(), width=80).count("`") > 0


def test_it_reads_on_a_light_and_on_a_dark_terminal():
    """Colours are the terminal's own hues, which its theme makes readable; never black, white, a background or RGB."""
    shown = printed(linear(), force_terminal=True, color_system="truecolor", no_color=False)
    codes = {code for sequence in re.findall(r"\x1b\[([\d;]*)m", shown) for code in map(int, sequence.split(";"))}
    assert {1, 2, 35, 36} <= codes <= {0, 1, 2, 31, 32, 33, 34, 35, 36}


def test_no_line_ends_in_spaces():
    """A page can be pasted."""
    assert [line for line in printed(linear()).splitlines() if line != line.rstrip()] == []


def test_pygments_comes_with_the_first_code():
    """A page without code needs none of it."""
    code = (
        "import sys; from tracecall.story import *; from tracecall.calls import ModelInfo; "
        "str(Story(ModelInfo('Net'), steps=[Step('call', 'a', 'b')])); print('pygments' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_what_was_looked_at_and_what_was_seen_never_touch(width: int):
    """Also where the answer is the only one, and too long to make a column."""
    seen = "Module._call_impl.<locals>.inner"
    lines = text(
        Story(ModelInfo("Net"), [], [Step("hooks", "One", "A claim.", [Evidence("forward was called from", seen)])]),
        width=width,
    ).splitlines()
    (line,) = [line for line in lines if seen in line]
    assert line.strip() == seen or f"forward was called from  {seen}" in line
