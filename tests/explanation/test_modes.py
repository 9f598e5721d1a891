"""Train and eval, gradients, torch.jit.trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.explanation.models import CallsForward, Net, X, seen, steps, told

EQUAL = "train mode and eval mode give the same numbers"


def test_the_mode_changes_numbers_only_where_forward_looks() -> None:
    assert seen(steps("modes", Net())[0])[EQUAL] is True
    step = steps("modes", nn.Sequential(nn.Linear(4, 100), nn.Dropout()))[0]
    assert seen(step)[EQUAL] is False
    assert "one module here does" in step.claim


def test_a_mode_that_raises_is_told() -> None:
    """BatchNorm cannot train on one sample."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    step = steps("modes", model, X[:1])[0]
    assert "raises ValueError in train mode" in step.claim
    assert EQUAL not in seen(step)


def test_an_exception_without_message_is_told() -> None:
    class Silent(Net):
        def forward(self, x: Any) -> Any:
            if self.training:
                raise ValueError
            return self.a(x)

    assert seen(steps("modes", Silent().eval())[0])["in train mode"] == "ValueError"


def test_a_call_that_looks_at_the_mode_is_told() -> None:
    class Looks(Net):
        def __call__(self, x: Any) -> Any:
            return super().__call__(x) if self.training else None

    assert steps("modes", Looks())[0].title == "__call__ looks at self.training"


def test_a_train_of_the_class_s_own_is_told() -> None:
    class Frozen(Net):
        def train(self, mode: bool = True) -> Any:
            return super().train(False)

    assert "`Frozen` defines a `train()` of its own" in steps("modes", Frozen())[0].claim
    assert "only set" in steps("modes", Net())[0].claim


def test_a_mode_that_was_not_reached_is_not_compared() -> None:
    """A train() that never enters train mode, and an eval() that never leaves it."""

    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Any:
            return super().train(False)

    class Stuck(nn.Sequential):
        def eval(self) -> Any:
            return self

    step = steps("modes", Frozen(nn.Linear(4, 100), nn.Dropout()).eval())[0]
    assert "After `model.train()`, `self.training` is False. So the two modes cannot be compared." in step.claim
    assert seen(step)["self.training after model.train()"] is False
    assert EQUAL not in seen(step)
    step = steps("modes", Stuck(nn.Linear(4, 100), nn.Dropout()))[0]
    assert "`Stuck` defines an `eval()` of its own" in step.claim
    assert "After `model.eval()`, `self.training` is True." in step.claim
    assert EQUAL not in seen(step)


def test_submodules_that_keep_their_mode_are_told() -> None:
    class KeepsNorm(nn.Sequential):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self[1].eval()
            return self

    step = steps("modes", KeepsNorm(nn.Linear(4, 3), nn.BatchNorm1d(3)))[0]
    assert "`model.train()` leaves `1` in eval mode." in step.claim
    assert seen(step)[EQUAL] is True


def test_other_numbers_have_a_reason() -> None:
    """A method that forward calls looks at the mode; or nothing that ran was seen to."""

    class Helps(Net):
        def forward(self, x: Any) -> Any:
            return self.helper(self.a(x))

        def helper(self, x: Any) -> Any:
            return x * 2 if self.training else x

    step = steps("modes", Helps())[0]
    assert "`forward` does not name it in any module here" in step.claim
    assert "Helps.helper`, which runs too, looks at `self.training`." in step.claim

    class Hides(Net):
        def forward(self, x: Any) -> Any:
            return self.a(x) * (1 + vars(self)["training"])

    assert "so something else that runs depends on the mode" in steps("modes", Hides())[0].claim


def test_two_runs_are_not_every_run() -> None:
    class Counts(Net):
        runs = 0

        def forward(self, x: Any) -> Any:
            self.runs += 1
            return self.a(x) * self.runs

    step = steps("modes", Counts())[0]
    assert "Two runs in the same mode gave different numbers" in step.claim
    assert "every run" not in step.claim


def test_gradients_are_left_to_the_user() -> None:
    step = steps("modes", Net())[1]
    assert step.title == "Gradients are not the work of __call__"
    assert "With gradients on, the output requires a gradient" in step.claim


def test_a_call_that_switches_gradients_is_told() -> None:
    class Quiet(Net):
        @torch.no_grad()
        def __call__(self, x: Any) -> Any:
            return super().__call__(x)

    step = steps("modes", Quiet())[1]
    assert step.title == "__call__ switches gradients"
    assert "requires no gradient in either case" in step.claim


def test_whole_numbers_and_no_tensors() -> None:
    whole: Any = type("Whole", (Net,), {"forward": lambda self, x: self.a(x).argmax(-1)})()
    assert "no gradient in either case" in told(steps("modes", whole))
    nothing: Any = type("Nothing", (Net,), {"forward": lambda self, x: None})()
    assert "no tensor in this output" in told(steps("modes", nothing))
    assert "no gradient in either case" in told(steps("modes", nn.ReLU()))


def test_inputs_made_in_inference_mode() -> None:
    model = Net()
    with torch.inference_mode():
        x = torch.ones(2, 4)
        assert "raises RuntimeError" in told(steps("modes", model, x))


def test_torch_jit_trace_is_asked_only_where_call_impl_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(steps("modes", Net())[2])["_slow_forward ran"] is False
    assert len(steps("modes", CallsForward())) == 2
    monkeypatch.setattr(torch.jit._trace, "_trace_module_map", None)
    real = torch._C._get_tracing_state

    def state() -> Any:
        import sys

        return real() or sys._getframe(1).f_code.co_name in ("_call_impl", "_slow_forward")

    monkeypatch.setattr(torch._C, "_get_tracing_state", state)
    assert seen(steps("modes", Net())[2])["_slow_forward ran"] is True
