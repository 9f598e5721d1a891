"""The whole story: its topics, its inputs, its error, and that the model is left as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tests.explanation.models import Net, X
from tracecall.errors import TracecallError
from tracecall.explanation import explain, tell
from tracecall.story import TOPICS


def test_topics_come_in_the_story_s_order() -> None:
    assert list(dict.fromkeys(step.topic for step in explain(Net(), X).steps)) == list(TOPICS)
    assert {step.topic for step in tell(Net(), (X,), topics=("forward", "call")).steps} == {"call", "forward"}


def test_a_forward_that_raises_ends_the_story() -> None:
    story = explain(Net(), torch.ones(1, 9))
    assert story.error is not None
    assert story.error.type == "RuntimeError"
    assert story.steps == []


def test_only_a_module_has_a_story() -> None:
    with pytest.raises(TracecallError, match="did you mean to make an instance"):
        explain(Net)  # type: ignore[arg-type]


def test_inputs_have_the_names_of_parameters() -> None:
    class Words(nn.Module):
        def forward(self, *, ids: Any, mask: Any = None) -> Any:
            return ids * 2

    story = tell(Words(), (), {"ids": X, "mask": None})
    assert [one.where for one in story.inputs] == ["ids", "mask"]
    assert story.steps[0].title == "model(ids=ids, mask=mask) calls __call__"


def test_the_model_is_left_as_it_was() -> None:
    """Buffers, gradients, modes, random state."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout())
    model[2].eval()
    model(X).sum().backward()
    before, modes = copy.deepcopy(model), [module.training for module in model.modules()]
    gradients = [one.grad.clone() for one in model.parameters() if one.grad is not None]
    random = torch.get_rng_state()
    explain(model, X)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    for one, other in zip(model.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    for parameter, kept in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, kept)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_input_that_the_model_writes_is_put_back() -> None:
    model: Any = type("Writes", (nn.Module,), {"forward": lambda self, x: x.mul_(2)})()
    x = X.clone()
    story = explain(model, x)
    assert torch.equal(x, X)
    assert story.notes
    assert "-2" in str(story.steps[-1].evidence)
    assert not explain(Net(), X).notes
