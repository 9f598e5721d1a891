"""What the tests of the story share: a small model, and ways to find a step and what was seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tracecall.explanation import tell
from tracecall.story import Step, Topic

X = torch.linspace(-1, 1, 8).reshape(2, 4)


class Net(nn.Module):
    """Two Linears with an operation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 5)
        self.b = nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        """As most models are written."""
        return self.b(F.relu(self.a(x)))


class CallsSuper(Net):
    """A `__call__` that goes on to nn.Module's."""

    def __call__(self, x: Any) -> Any:
        """Twice as much."""
        return super().__call__(x) * 2


class CallsForward(Net):
    """A `__call__` that never comes to nn.Module's."""

    def __call__(self, x: Any) -> Any:
        """Only forward."""
        return self.forward(x)


class CallsNothing(Net):
    """A `__call__` that runs no forward."""

    def __call__(self, x: Any) -> Any:
        """One submodule."""
        return self.a(x)


def steps(topic: Topic, model: nn.Module, *args: Any, **kwargs: Any) -> list[Step]:
    """The steps of one topic."""
    story = tell(model, args or (() if kwargs else (X,)), kwargs, topics=(topic,))
    assert story.error is None
    return story.steps


def seen(step: Step) -> dict[str, Any]:
    """The evidence of a step by what was looked at."""
    return {one.looked_at: one.seen for one in step.evidence}


def told(found: list[Step]) -> str:
    """All claims in one text."""
    return " ".join(step.claim for step in found)
