"""What came out, and what `model.forward(x)` leaves out."""

from __future__ import annotations

import functools
from typing import Any

import torch

from tests.explanation.models import CallsForward, CallsNothing, CallsSuper, Net, seen, steps


def test_what_forward_returned_is_what_came_out() -> None:
    first, second = steps("forward", Net())
    assert seen(first)["model(x) is what forward returned, the same object"] is True
    assert second.title == "model.forward(x) leaves out what __call__ adds"
    assert "The numbers are the same, but the hooks of `Net` did not run" in second.claim


def test_a_hook_that_replaces_the_output_is_named() -> None:
    model = Net()
    model.register_forward_hook(lambda module, args, output: output * 2)
    first, second = steps("forward", model)
    assert first.title == "A forward hook replaced what forward returned"
    assert "The numbers are not the same, and the hooks" in second.claim


def test_a_call_that_replaces_the_output() -> None:
    first = steps("forward", CallsSuper())[0]
    assert first.title == "What forward returned is not what you get"


def test_a_decorator_of_forward_is_part_of_it() -> None:
    def doubled(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any) -> Any:
            return function(*args) * 2

        return inner

    model: Any = type("Decorated", (Net,), {"forward": doubled(Net.forward)})()
    assert steps("forward", model)[0].title == "What forward returned is what you get"
    quiet: Any = type("Quiet", (Net,), {"forward": torch.no_grad()(Net.forward)})()
    assert steps("forward", quiet)[0].title == "What forward returned is what you get"


def test_a_call_that_adds_nothing_leaves_nothing_out() -> None:
    second = steps("forward", CallsForward())[1]
    assert second.title == "model.forward(x) leaves out nothing here"
    assert "no hook of `CallsForward` ran either way" in second.claim


def test_a_forward_that_did_not_run_was_not_seen() -> None:
    (step,) = steps("forward", CallsNothing())
    assert step.title == "What forward returned was not seen"


def test_a_forward_that_needs_its_hook_raises_without() -> None:
    model = Net()
    model.register_forward_pre_hook(lambda module, args: (torch.tensor(args[0]),))
    second = steps("forward", model, [[1.0, 2.0, 3.0, 4.0]])[1]
    assert "raised TypeError" in second.claim


def test_numbers_that_change_from_run_to_run_are_not_compared() -> None:
    class Counts(Net):
        runs = 0

        def forward(self, x: Any) -> Any:
            self.runs += 1
            return self.a(x) * self.runs

    assert "numbers are" not in steps("forward", Counts())[1].claim
