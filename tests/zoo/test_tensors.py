"""What a tensor is, wherever that changes: by an operation, or by an assignment that no operation shows.

With no gradients recorded, what a tensor was when it was made stands for what it is when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import tracecall
from tests.zoo.drawing import only
from tracecall.calls import TensorSpec, Trace
from tracecall.recording.model_code import changes_tensors, codes_of

X = torch.ones(1, 4)


class Between(nn.Module):
    """Does something to what its first layer returns."""

    def __init__(self, change: Callable[[torch.Tensor], object], width: int = 4) -> None:
        super().__init__()
        self.first, self.second, self.change = nn.Linear(4, 4), nn.Linear(width, 2), change

    def forward(self, x: torch.Tensor) -> Any:
        """Change it between the two."""
        y = self.first(x)
        self.change(y)
        return self.second(y)


def assign_data(y: torch.Tensor) -> None:
    """Another size, and no operation writes it."""
    y.data = y.data[:, :2]


def assign_requires_grad(y: torch.Tensor) -> None:
    """Likewise."""
    y.requires_grad = True


def second_input(trace: Trace) -> TensorSpec:
    """What the last layer took."""
    value = only(trace, "second").inputs[0].value
    assert isinstance(value, TensorSpec)
    return value


def test_a_tensor_whose_data_is_assigned_has_its_new_shape() -> None:
    """`y.data = …` is seen by no hook and no mode."""
    with torch.no_grad():
        assert second_input(tracecall.trace(Between(assign_data, 2), X)).shape == (1, 2)


@pytest.mark.parametrize("change", [assign_requires_grad, torch.Tensor.requires_grad_])
def test_a_tensor_that_is_made_to_require_gradients_shows_it(change: Any) -> None:
    """From the next call on."""
    with torch.no_grad():
        assert second_input(tracecall.trace(Between(change), X)).requires_grad


def test_what_a_hook_changes_of_a_tensor_shows_in_the_next_call() -> None:
    """The model's own code, here torch's, says nothing of it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    def watch(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        output.requires_grad_()

    model[0].register_forward_hook(watch)
    with torch.no_grad():
        trace = tracecall.trace(model, X)
    taken = only(trace, "1").inputs[0].value
    assert isinstance(taken, TensorSpec) and taken.requires_grad


def test_an_activation_in_place_is_no_operation_of_its_own_and_hands_its_tensor_on() -> None:
    """nn.ReLU(inplace=True) of torch's: nobody else sees what it writes."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    with torch.inference_mode():
        trace = tracecall.trace(model, X)
    assert only(trace, "1").children == []
    assert only(trace, "2").inputs[0].source == "1"


class Seen(nn.Module):
    """A view of what an activation in place changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> Any:
        """Use the view when it was changed."""
        y = self.first(x)
        part = y[:, :2]
        self.relu(y)
        return self.second(part)


def test_a_view_of_what_was_written_in_place_came_from_the_write() -> None:
    """There the operation inside the activation is recorded: it writes what others see."""
    with torch.inference_mode():
        trace = tracecall.trace(Seen(), X)
    (written,) = only(trace, "relu").children
    assert only(trace, "second").inputs[0].source == f"relu: {written.name}"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (assign_data, True),
        (assign_requires_grad, True),
        (test_what_a_hook_changes_of_a_tensor_shows_in_the_next_call, True),
        (lambda x: x.data, False),
        (lambda x: setattr(x, "data", 0), True),
        (second_input, False),
    ],
)
def test_code_that_may_change_a_tensor_unseen_is_known(code: Any, expected: bool) -> None:
    """Also where a function inside does it; reading `.data` is no change."""
    assert changes_tensors(code.__code__) == expected


def test_the_code_of_a_model_is_that_beside_its_classes_and_of_neighbours_that_they_import() -> None:
    """Not torch's own, nor that of other packages."""
    codes = {code.co_qualname for code in codes_of([Between(assign_data)])}
    assert {"Between.forward", "assign_data", "only", "codes_of"} <= codes  # the last two are imported by name
    assert list(codes_of([nn.Linear(1, 1)])) == []


class Asked(TorchFunctionMode):
    """Notes every function that is called on tensors, attributes among them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.functions: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.functions.append(getattr(func, "__qualname__", repr(func)))
        return func(*args, **(kwargs or {}))


def test_a_torch_function_mode_of_the_users_sees_what_it_sees_without_a_recording() -> None:
    """What the tracer asks of tensors is not for it; the tree has all calls."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with Asked() as alone:
        model(X)
    with Asked() as traced:
        trace = tracecall.trace(model, X)
    assert traced.functions == alone.functions
    assert [call.name for _, call in trace.walk() if call.kind == "module"] == ["Sequential", "0", "1", "2"]
    assert trace.findings == []


def test_a_recording_inside_a_recording_finds_what_it_finds_alone() -> None:
    """The hooks of one are no hooks of the user's for the other: no call stays open until the next begins."""
    model = Between(lambda y: torch.relu(y))
    alone = tracecall.trace(model, X)
    with tracecall.tracing(model) as outer:
        inner = tracecall.trace(model, X)
    assert inner.findings == outer.findings == alone.findings
    assert inner.calls == outer.calls == alone.calls
