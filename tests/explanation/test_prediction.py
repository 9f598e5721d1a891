"""Where the numbers come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from tests.explanation.models import Net, X, steps


def claim(model: nn.Module, *args: Any, **kwargs: Any) -> str:
    (step,) = steps("prediction", model, *args, **kwargs)
    return step.claim


def made(forward: Any) -> Any:
    return type("Made", (Net,), {"forward": forward})()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_is_done_by_hand(dtype: torch.dtype, bias: bool) -> None:
    text = claim(nn.Linear(4, 3, bias=bias, dtype=dtype), X.to(dtype))
    assert "`model`, a Linear" in text
    assert "the same numbers" in text
    assert ("plus the bias" in text) is bias


def test_a_linear_with_a_hook_gives_other_numbers() -> None:
    model = nn.Linear(4, 3)
    model.register_forward_hook(lambda module, args, output: output + 1)
    assert "other numbers" not in claim(nn.Linear(4, 3))
    assert "the same numbers" not in claim(model)


@pytest.mark.parametrize("before", [True, False])
def test_weights_that_forward_writes(before: bool) -> None:
    """The numbers come from the weights as they were when the Linear ran, not from what became of them."""

    def forward(self: Any, x: Any) -> Any:
        if before:
            self.a.weight.data.mul_(2)
        y = self.a(x)
        if not before:
            self.a.weight.data.mul_(2)
        return y

    assert "the same numbers" in claim(made(forward))


def test_what_is_added_later_is_not_laid_on_the_call() -> None:
    def forward(self: Any, x: Any) -> Any:
        y = self.a(x)
        y.data.add_(1)
        return y

    text = claim(made(forward))
    assert "other numbers, so something else had a part in the numbers that came out" in text
    assert "in the call of" not in text


def test_a_linear_that_is_not_done_by_hand_is_named_model() -> None:
    """Complex numbers, or a forward that takes what the weights do not fit."""
    model = nn.Linear(4, 3, dtype=torch.complex64)
    assert "that `model` (Linear) returned" in claim(model, X.to(torch.complex64))
    other = nn.Linear(4, 3)
    other.__dict__["forward"] = lambda x: x * 2
    assert "that `model` (Linear) returned" in claim(other, torch.ones(2, 7))


def test_a_last_linear_is_named() -> None:
    assert "`b`, a Linear" in claim(Net())


def test_a_shadowed_forward_of_a_linear() -> None:
    model = nn.Linear(4, 3)
    model.__dict__["forward"] = lambda x: x * 2
    assert "other numbers" in claim(model)


def test_a_last_module_that_is_no_linear() -> None:
    assert "`1` (Softmax) returned" in claim(nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)))


def test_what_is_written_after_the_module_returned_is_an_operation() -> None:
    text = claim(made(lambda self, x: self.a(x).mul_(2)))
    assert "not what a submodule returned" in text


def test_an_operation_last() -> None:
    assert "operation" in claim(made(lambda self, x: self.a(x) * 2))


def test_nested_outputs_speak_of_their_first_tensor() -> None:
    @dataclass
    class Out:
        logits: Any
        loss: Any = None

    assert claim(made(lambda self, x: (self.a(x), x))).startswith("The first tensor")
    assert "`a`, a Linear" in claim(made(lambda self, x: {"y": self.a(x)}))
    assert "`a`, a Linear" in claim(made(lambda self, x: Out(self.a(x))))


def test_no_tensor_no_numbers() -> None:
    assert "no tensor" in claim(made(lambda self, x: None))


def test_an_input_that_comes_out_again() -> None:
    assert "one of the tensors that you passed" in claim(made(lambda self, x: x))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none(bad: float) -> None:
    assert "the same numbers" in claim(nn.Linear(4, 3), torch.full((2, 4), bad))


def test_tensors_without_numbers() -> None:
    assert "returned" in claim(nn.Linear(4, 3, device="meta"), X.to("meta"))
    assert claim(nn.Linear(4, 3), X[:0])
