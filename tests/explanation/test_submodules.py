"""Inside forward: which submodules it calls, and how deep a call goes."""

from __future__ import annotations

import threading
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


def test_submodules_called_in_another_thread_are_told() -> None:
    """The interpreter is watched in one thread only; the recorded calls know of all."""

    class Threaded(Net):
        def forward(self, x: Any) -> Any:
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.append(self.a(x)), name="worker")
            thread.start()
            thread.join()
            return found[0]

    first, second = steps("submodules", Threaded())
    assert "`forward` made 1 submodule call. It ran in another thread" in first.claim
    assert seen(first)["submodule calls, and the threads that they ran in"] == ["a   worker"]
    assert "1 submodule call and" in second.claim


def test_a_model_that_calls_itself_is_named_so() -> None:
    class Again(nn.Module):
        def forward(self, x: Any, n: int = 2) -> Any:
            return x * 2 if n == 0 else self(x, n - 1)

    assert "it calls the model itself, which is a module too" in steps("submodules", Again())[0].claim


def test_a_module_made_by_forward_is_no_part_of_the_model() -> None:
    class Makes(nn.Module):
        def forward(self, x: Any) -> Any:
            return nn.ReLU()(x)

    assert "a module (ReLU) that is no part of the model" in steps("submodules", Makes())[0].claim
    assert "a ReLU that is no part of the model" in told(steps("prediction", Makes()))


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
