"""The page of `tracecall shapes` below the tree."""

from tests.zoo.drawing import drawing
from tracecall.calls import CallError, Environment, ModelInfo, Site, Trace
from tracecall.demands import Demand, ShapeReport
from tracecall.views.shapes import below


def report(**changes):
    trace = Trace(ModelInfo("CNN"), Environment("2.13", "3.11"))
    view = Demand("(H//4)·(W//4) = 49", ["H", "W"], "x.view", Site("models/cnn.py", 27), "H, W ∈ 28…31 when square")
    length = Demand("S ≤ 512", ["S"], "positions[:S]", Site("bert.py", 84))
    return ShapeReport(**{"trace": trace, "signature": "CNN: B,3,H,W → B,10", "demands": [view, length], **changes})


def lines(found, width=100):
    return "\n".join(line.plain for line in below(found, width))


def test_the_signature_then_a_line_for_each_demand():
    """What asked for it, where, and what that leaves; "needs" stands once."""
    assert lines(report()) == drawing("""
        CNN: B,3,H,W → B,10
        needs  (H//4)·(W//4) = 49, from x.view at models/cnn.py:27; H, W ∈ 28…31 when square
               S ≤ 512, from positions[:S] at bert.py:84
    """)


def test_a_narrow_terminal_wraps():
    """No line is wider; what goes on is indented."""
    text = lines(report(notes=["lstm at models/rnn.py:21 refuses symbolic sizes"]), 40)
    assert max(map(len, text.splitlines())) <= 40
    assert "\n       at models/cnn.py:27; " in text
    assert "! lstm at models/rnn.py:21 refuses" in text


def test_a_line_of_torch_is_left_out():
    """The module's path says where."""
    torch = Demand("T ≥ 9", ["T"], "conv", Site("torch/nn/modules/conv.py", 370))
    assert lines(report(demands=[torch])).splitlines()[1] == "needs  T ≥ 9, from conv"


def test_a_failed_run_has_no_signature():
    """The failure stands above."""
    found = report(demands=[], notes=["a note"])
    found.trace.error = CallError("RuntimeError", "no")
    assert lines(found) == "! a note"


def test_names_cannot_write_to_the_terminal():
    """Escape sequences in a name become visible."""
    assert "\x1b" not in lines(report(notes=["\x1b[31mred"]))
