"""What stands below the tree of a failed run whose cause is known: drawn as it looks."""

from __future__ import annotations

import textwrap

from rich.cells import cell_len

from tests.views.traces import FILE, module, operation, trace
from tracecall.calls import CallError, Cause, Fit, Site, Trace, Value
from tracecall.views.tree import text

LINEAR = "F.linear(input, self.weight, self.bias)"


def failed(
    cause: Cause | None, message: str = "mat1 and mat2 shapes cannot be multiplied (1x2048 and 1568x120)"
) -> Trace:
    """A Linear that got too many features."""
    inside = CallError(
        "RuntimeError", message, raised_here=True, site=Site("torch/nn/modules/linear.py", 134, 16, LINEAR)
    )
    here = CallError("RuntimeError", message, site=Site(FILE, 28, 20, "self.fc1(x)"))
    linear = operation(
        "F.linear", "aten.linear", (1, 2048), None, Value("bias", "None"), internal=True, path="fc1", error=inside
    )
    linear.site = inside.site
    root = module(
        "CNN",
        "CNN",
        (1, 3, 32, 32),
        None,
        operation("x.flatten", "aten.view", (1, 32, 8, 8), (1, 2048), line=27),
        module("fc1", "Linear", (1, 2048), None, linear, line=28, source="x.flatten", error=here),
        path="",
        error=CallError("RuntimeError", message),
    )
    return trace(root, {"fc1": 188_280}, error=inside, cause=cause)


def below(shown: Trace, width: int) -> str:
    """What stands below the tree."""
    return text(shown, width=width).split("\n\n")[2]


def drawing(shown: str) -> str:
    """A drawing as it stands in a test, without the test's own indentation."""
    return textwrap.dedent(shown).strip("\n")


SENTENCE = "fc1 (Linear) takes 1568 features, got 2048 = 32·8·8 from pool, flattened at models/net.py:27"
FITS = [Fit("an input of 28…31 × 28…31", "--input 1,3,28,28"), Fit("fc1 = nn.Linear(2048, 120)")]
CAUSE = Cause("linear-features", SENTENCE, "fc1", Site(FILE, 28, 20, "self.fc1(x)"), FITS)


def test_the_cause_what_fits_and_what_torch_said() -> None:
    """The line, the sentence, a line for each thing that fits with what to type, the error; no shapes once more."""
    assert below(failed(CAUSE), 100) == drawing("""
        ✗ models/net.py:28  self.fc1(x)
          fc1 (Linear) takes 1568 features, got 2048 = 32·8·8 from pool, flattened at models/net.py:27
          fits: an input of 28…31 × 28…31   --input 1,3,28,28
          or:   fc1 = nn.Linear(2048, 120)
          RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x2048 and 1568x120)
        """)
    assert below(failed(CAUSE), 160) == below(failed(CAUSE), 100)


def test_everything_is_wrapped_below_its_own_beginning() -> None:
    """Where the terminal is narrow."""
    assert below(failed(CAUSE), 48) == drawing("""
        ✗ models/net.py:28  self.fc1(x)
          fc1 (Linear) takes 1568 features, got 2048 =
          32·8·8 from pool, flattened at
          models/net.py:27
          fits: an input of 28…31 × 28…31
                --input 1,3,28,28
          or:   fc1 = nn.Linear(2048, 120)
          RuntimeError: mat1 and mat2 shapes cannot be
          multiplied (1x2048 and 1568x120)
        """)
    for width in range(40, 120):
        assert max(map(cell_len, below(failed(CAUSE), width).splitlines())) <= width


def test_the_expression_is_not_said_twice() -> None:
    """A sentence that begins with it goes on below it; what a fit says to type is not said beside it."""
    fits = [Fit("--input 1,3,28,28", "--input 1,3,28,28")]
    cause = Cause("view-size", "self.fc1(x): it does not fit", site=Site(FILE, 28, 20, "self.fc1(x)"), fits=fits)
    assert below(failed(cause), 100) == drawing("""
        ✗ models/net.py:28  self.fc1(x)
          it does not fit
          fits: --input 1,3,28,28
          RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x2048 and 1568x120)
        """)


def test_a_cause_that_is_not_known_leaves_the_shapes() -> None:
    """What is known is said, and what met there stays."""
    cause = Cause("unknown", "F.linear got tensors that do not fit each other")
    assert below(failed(cause), 100) == drawing("""
        ✗ models/net.py:28  self.fc1(x)
          F.linear got tensors that do not fit each other
          RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x2048 and 1568x120)
          in torch/nn/modules/linear.py:134  F.linear(input, self.weight, self.bias)
            self  float32[1, 2048]
            bias  None
        """)


def test_nothing_that_the_sentence_says_stands_below_it() -> None:
    """Neither the error nor a shape."""
    cause = Cause("unknown", "fc1 (Linear) raised RuntimeError: no (got input float32[1, 2048])")
    assert below(failed(cause, "no"), 100) == drawing("""
        ✗ models/net.py:28  self.fc1(x)
          fc1 (Linear) raised RuntimeError: no (got input float32[1, 2048])
          in torch/nn/modules/linear.py:134  F.linear(input, self.weight, self.bias)
            bias  None
        """)


def test_without_a_cause_all_that_was_recorded_shows() -> None:
    """The error, the line inside of torch, the shapes."""
    assert below(failed(None), 100) == drawing("""
        ✗ models/net.py:28  self.fc1(x)
          RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x2048 and 1568x120)
          in torch/nn/modules/linear.py:134  F.linear(input, self.weight, self.bias)
            self  float32[1, 2048]
            bias  None
        """)


def test_an_exception_without_words() -> None:
    """Its type stands for it."""
    assert below(failed(CAUSE, ""), 100).splitlines()[-1] == "  RuntimeError:"
    assert below(failed(None, ""), 100).splitlines()[1] == "  RuntimeError:"


def test_text_from_a_model_cannot_move_the_cursor() -> None:
    """Names and messages are shown as they are, whatever they hold."""
    cause = Cause("unknown", "\x1b[31mred [bold]", fits=[Fit("\x1b[2J")])
    shown = below(failed(cause, "\x1b[2J"), 100)
    assert "\x1b" not in shown
    assert "red [bold]" in shown
