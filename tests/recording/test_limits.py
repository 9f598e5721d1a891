"""Python's garbage collector while a model is recorded: not run by what the recording keeps, left as it was found.

The recursion limit, the other number that a recording lifts, has its tests beside models that recurse, in the zoo.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tracecall
from tracecall.recording.limits import CONTAINERS


@pytest.fixture(autouse=True)
def threshold() -> Iterator[tuple[int, int, int]]:
    """The collector as CPython 3.11 sets it, and as it was found afterwards."""
    found, collecting = gc.get_threshold(), gc.isenabled()
    gc.enable()
    gc.set_threshold(700, 10, 10)
    try:
        yield 700, 10, 10
    finally:
        gc.set_threshold(*found)
        if not collecting:
            gc.disable()


class Calls(nn.Module):
    """Calls a submodule many times; `each` runs before every one."""

    def __init__(self, calls: int, each: Any = None) -> None:
        super().__init__()
        self.step = nn.Identity()
        self.calls, self.each = calls, each

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.calls):
            if self.each is not None:
                self.each()
            x = self.step(x)
        return x


def test_a_recording_does_not_run_it(threshold):
    """Not for a model of 1,000 calls, which without room would run it several times."""
    runs: list[int] = []

    def ran(phase: str, info: dict[str, int]) -> None:
        runs.append(info["generation"])

    model, x = Calls(1000), torch.zeros(1)
    with tracecall.tracing(model):
        model(x)  # what is made once in a process is made
    gc.collect()
    recording = tracecall.tracing(model)
    with recording:
        gc.callbacks.append(ran)
        try:
            model(x)
        finally:
            gc.callbacks.remove(ran)
    assert runs == []
    assert gc.get_threshold() == threshold


def test_it_still_frees_the_circles_of_the_models_own():
    """Later than without a recording, but while it runs."""
    circles: list[weakref.ref[Any]] = []

    class Circle:
        def __init__(self) -> None:
            self.itself = self
            circles.append(weakref.ref(self))

    model = Calls(CONTAINERS, Circle)
    with tracecall.tracing(model):
        model(torch.zeros(1))
        alive = [circle() is not None for circle in circles]
    assert sum(alive) < CONTAINERS


@pytest.mark.parametrize("user", [(0, 10, 10), (50, 3, 2)])
def test_what_the_user_has_set_is_put_back(user):
    """A threshold of 0 turns it off, in the recording too."""
    gc.set_threshold(*user)
    inside: list[tuple[int, int, int]] = []
    model = Calls(1, lambda: inside.append(gc.get_threshold()))
    with tracecall.tracing(model):
        model(torch.zeros(1))
    assert inside == [(user[0] + CONTAINERS if user[0] else 0, *user[1:])]
    assert gc.get_threshold() == user


def test_what_the_model_sets_stays():
    """It is the model's own."""
    model = Calls(1, lambda: gc.set_threshold(123, 4, 5))
    with tracecall.tracing(model):
        model(torch.zeros(1))
    assert gc.get_threshold() == (123, 4, 5)


def test_recordings_that_overlap(threshold):
    """The last one to end puts it back, in whatever order they began."""
    first, second = tracecall.tracing(Calls(1)), tracecall.tracing(Calls(1))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold()[0] == threshold[0] + CONTAINERS
    second.__exit__(None, None, None)
    assert gc.get_threshold() == threshold
