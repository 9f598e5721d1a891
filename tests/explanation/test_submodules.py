"""Inside forward: which submodules it calls, and how deep a call goes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.explanation.models import CallsForward, CallsNothing, Net, seen, steps, told

CHAIN = "the functions entered, each inside the one above"


def test_the_chain_ends_in_an_operation() -> None:
    first, second = steps("submodules", Net())
    assert "`self.a(x)`" in first.claim
    assert [line.split()[0] for line in seen(first)[CHAIN]][-2:] == ["Linear.forward", "torch._C._nn.linear"]
    assert "2 submodule calls and 1 operation" in second.claim


def test_an_operator_is_no_function_that_was_called() -> None:
    """`x * 2` has no function to show: the chain ends in the forward that it stands in."""

    class Doubles(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2

    first = steps("submodules", nn.Sequential(Doubles()))[0]
    assert "there the operation `aten.mul` ran" in first.claim


def test_a_model_without_submodules() -> None:
    (step,) = steps("submodules", nn.ReLU())
    assert "it has none" in step.claim


def test_submodules_that_are_never_called() -> None:
    """The fused path of a TransformerEncoderLayer in eval mode."""
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad():
        (step,) = steps("submodules", model, torch.ones(1, 3, 8))
    assert step.title == "No submodule is called"
    assert "though it has" in step.claim


def test_modules_that_are_bypassed() -> None:
    class Bypass(Net):
        def forward(self, x: Any) -> Any:
            return F.linear(self.a(x), self.b.weight)

    assert "1 module did work without being called" in told(steps("submodules", Bypass()))
    assert "without being called" not in told(steps("submodules", Net()))


def test_a_root_without_a_call_of_its_own_still_made_these() -> None:
    assert "2 submodule calls and 1 operation" in told(steps("submodules", CallsForward()))


def test_a_forward_that_did_not_run_called_nothing() -> None:
    (step,) = steps("submodules", CallsNothing())
    assert "was not seen to run" in step.claim
    assert seen(step)["submodules called"] == ["a"]


def test_two_hundred_submodules_are_cut() -> None:
    step = steps("submodules", nn.Sequential(*(nn.Linear(4, 4) for _ in range(200))))[1]
    assert "200 submodule calls" in step.claim
    assert seen(step)["in the order in which forward made them"][-1] == "and 185 more"


def test_nothing_is_claimed_of_the_inside_of_compiled_code() -> None:
    model: Any = torch.compile(Net(), backend="eager")
    (step,) = steps("submodules", model)
    assert step.title == "What forward calls was not seen"
    assert [*seen(step)] == ["submodules"]
