"""The whole story: its topics, its inputs, its error, and that the model is left as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tests.explanation.models import Net, X
from tracecall.errors import TracecallError
from tracecall.explanation import explain, restoring, tell
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


def test_a_parameter_that_the_model_writes_is_put_back() -> None:
    """Through `.data`, which torch does not count; in place; and where another object takes its place."""

    class Writes(Net):
        def forward(self, x: Any) -> Any:
            self.a.weight.data.mul_(2)
            self.a.bias.data = torch.zeros(7)
            with torch.no_grad():
                self.b.bias.add_(1)
            self.b.weight = nn.Parameter(torch.ones(3, 4))
            return self.b(x)

    model = Writes()
    with torch.no_grad():
        model.a.weight[0, 0] = float("nan")
    before, weight = copy.deepcopy(model.state_dict()), model.b.weight
    story = explain(model, X)
    assert story.error is None
    assert model.b.weight is weight
    for one, other in zip(model.state_dict().values(), before.values(), strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
    assert story.notes == ["the model changes its parameters; they were put back after each run"]


def test_large_parameters_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """And that is said."""
    monkeypatch.setattr(restoring, "MOST", 8)
    assert any("were not copied" in note for note in explain(Net(), X).notes)


def test_two_runs_with_other_numbers_are_noted() -> None:
    """A list that grows is plain Python: it is not put back."""

    class Caches(Net):
        def __init__(self) -> None:
            super().__init__()
            self.cache: list[Any] = []

        def forward(self, x: Any) -> Any:
            self.cache.append(x)
            return self.a(torch.cat(self.cache))

    for topics in (TOPICS, ("hooks",)):
        assert any("gave different numbers" in note for note in tell(Caches(), (X,), topics=topics).notes)
    assert "Plain Python attributes" in str(explain.__doc__)


class Raises(Net):
    """Runs `times` times, and then no more."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def forward(self, x: Any) -> Any:
        """As Net's, while it lasts."""
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("no more runs")
        return super().forward(x)


def test_a_later_run_that_raises_ends_the_story() -> None:
    """Wherever it happens: what was told before is kept, and nothing is claimed of what raised."""
    whole = [step.title for step in explain(Net(), X).steps]
    counts = []
    for times in range(1, 30):
        story = explain(Raises(times), X)
        counts.append(len(story.steps))
        assert [step.title for step in story.steps] == whole[: len(story.steps)]
        assert "raise" not in " ".join(step.claim for step in story.steps)
        if story.error is None:
            break
        assert story.error.message == "no more runs"
        assert "ran the first time, but a later run raised" in story.notes[0]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == len(whole)


def test_an_iterator_is_read_only_once() -> None:
    """One that a later run finds empty, and one that raises then."""
    lists: Any = type("Lists", (Net,), {"forward": lambda self, xs: [self.a(x) for x in xs]})()
    story = explain(lists, iter([X, X]))
    assert story.error is None
    assert any("gave different numbers" in note for note in story.notes)
    takes: Any = type("Takes", (Net,), {"forward": lambda self, xs: self.a(next(xs))})()
    story = explain(takes, iter([X]))
    assert story.error is not None
    assert story.error.type == "StopIteration"


def test_an_input_that_the_model_writes_is_put_back() -> None:
    model: Any = type("Writes", (nn.Module,), {"forward": lambda self, x: x.mul_(2)})()
    x = X.clone()
    story = explain(model, x)
    assert torch.equal(x, X)
    assert story.notes
    assert "-2" in str(story.steps[-1].evidence)
    assert not explain(Net(), X).notes
