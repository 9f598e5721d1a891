"""Input shapes → output shapes of a call."""

from __future__ import annotations

import pytest

from tests.views.traces import module, operation, spec
from tracecall.calls import Call, CallError, TensorSpec, Value
from tracecall.views.flows import arrow, arrows


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (module("fc", "Linear", (1, 8), (1, 2)), "[1, 8] → [1, 2]"),
        (module("relu", "ReLU", (1, 8), (1, 8)), "[1, 8] → [1, 8]"),
        (operation("F.relu", "aten.relu", (1, 8), (1, 8)), "[1, 8]"),
        (operation("x.view", "aten.view", (1, 8), (8,)), "[1, 8] → [8]"),
        (module("emb", "Embedding", spec((1, 16), "int64"), (1, 16, 64)), "int64[1, 16] → float32[1, 16, 64]"),
        (module("f", "Net", (1, 8), None), "[1, 8] → None"),
    ],
)
def test_what_went_in_and_what_came_out(call, text):
    """Shapes; dtypes only where the call changes them; an operation that keeps the shape says it once."""
    assert arrow(call) == text


def test_several_tensors_are_counted_and_cut():
    """Equal neighbours are "×3"; of more than three kinds, the rest is a number."""
    call = Call("module", "a", "a", "A", inputs=[Value("x", spec((1, 8)))] * 3)
    call.output = [Value(f"[{i}]", spec((i,))) for i in range(1, 7)]
    assert arrow(call) == "[1, 8] ×3 → [1], [2], [3], +3"


def test_the_weights_of_an_operation_are_not_its_inputs():
    """`F.linear(x, self.weight)` is shown as x → y, as the module would be."""
    call = operation("F.linear", "aten.linear", (1, 8), (1, 2), Value("weight", spec((2, 8)), "parameter fc.weight"))
    assert arrow(call) == "[1, 8] → [1, 2]"


def test_a_layout_and_a_class_are_shown_where_they_are_not_ordinary():
    """A sparse tensor and a tensor subclass are told from a dense tensor of the same shape."""
    call = Call("module", "a", "a", "A")
    call.inputs = [Value("x", TensorSpec((4, 4), "float32", "cpu", layout="sparse_coo"))]
    call.output = [Value("", TensorSpec((4,), "float32", "cpu", type="Image"))]
    assert arrow(call) == "sparse_coo [4, 4] → Image [4]"


def test_what_is_no_tensor_is_shown_short():
    """A module that returns a number or a string."""
    call = module("f", "Net", (1, 8), None)
    call.output = [Value("[0]", "3"), Value("[1]", "'a\x1b'")]
    assert arrow(call) == r"[1, 8] → 3, 'a\x1b'"


def test_a_failed_call_is_marked_where_its_output_would_stand():
    """An operation shows beside the mark what did not fit."""
    error = CallError("RuntimeError", "no", raised_here=True)
    view = operation("x.view", "aten.view", (1, 32, 8, 8), None, Value("size", "[-1, 1568]"), error=error)
    assert arrow(view) == "[1, 32, 8, 8] ✗ size [-1, 1568]"


def test_where_room_is_short_shapes_are_written_without_spaces():
    """Shapes stay apart."""
    call = module("f", "Net", (1, 8), (1, 2))
    assert arrows(call) == ("[1, 8] → [1, 2]", "[1,8] → [1,2]")
    call.output *= 2
    call.output.append(Value("", spec((3, 4))))
    assert arrows(call) == ("[1, 8] → [1, 2] ×2, [3, 4]", "[1,8] → [1,2] ×2, [3,4]")
