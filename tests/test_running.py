"""tracecall.trace and tracecall.tracing: the model's exception is its own, and beside it stands why."""

from __future__ import annotations

import gc
import pickle
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import tracecall
from models.cnn import CNN
from tracecall import diagnosis, recording, running
from tracecall.calls import Cause
from tracecall.symbolic import fitting

X = torch.zeros(1, 3, 32, 32)
NOTE = """\
tracecall: x.view(-1, 32 * 7 * 7): 2048 values (32·8·8, from pool) do not divide into rows of 1568 = 32·7·7
  at models/cnn.py:27
  fits: an input of 28…31 × 28…31
     or x.view(-1, 2048) and fc1 = nn.Linear(2048, 120)"""


@pytest.fixture(autouse=True)
def plenty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test depends on how fast a machine is, nor on what another test asked."""
    monkeypatch.setattr(running, "BUDGET", 60.0)
    monkeypatch.setattr(running, "TOGETHER", 600.0)
    yield
    running._past.clear()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The budget of each search for what fits from now on."""
    budgets: list[float] = []
    search = fitting.fits

    def counting(*args: Any, budget_s: float) -> Any:
        budgets.append(budget_s)
        return search(*args, budget_s=budget_s)

    monkeypatch.setattr(fitting, "fits", counting)
    return budgets


def cause() -> Cause | None:
    """Of the last recording."""
    found = tracecall.last_trace()
    assert found is not None
    return found.cause


def test_the_exception_is_the_models_own() -> None:
    """The same object, of the same type, with its message and the way that it came."""
    error = ValueError("no")

    class Refusing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error

    with pytest.raises(ValueError, match="no") as raised:
        tracecall.trace(Refusing(), X)
    assert raised.value is error
    assert error.args == ("no",)
    assert (error.__cause__, error.__context__) == (None, None)
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-1] == "forward"


def test_the_cause_is_a_note_and_on_the_trace() -> None:
    """What a traceback prints below the message; it survives pickling."""
    with pytest.raises(RuntimeError, match="is invalid for input of size 2048") as raised:
        tracecall.trace(CNN(), X)
    assert raised.value.__notes__ == [NOTE]
    assert NOTE in "".join(traceback.format_exception(raised.value))
    assert pickle.loads(pickle.dumps(raised.value)).__notes__ == [NOTE]
    found = cause()
    assert found is not None
    assert found.kind == "view-size"
    assert [fit.command for fit in found.fits] == ["--input 1,3,28,28", None]


def test_code_inside_of_tracing_is_explained_too() -> None:
    """The arguments are those that the model was called with, wherever in the block."""
    model = CNN()
    with pytest.raises(RuntimeError) as raised, tracecall.tracing(model) as trace:
        model(torch.zeros(1, 3, 28, 28))
        model(x=X)
    (note,) = raised.value.__notes__
    assert note.splitlines()[:3] == NOTE.splitlines()[:3]
    assert trace.cause == cause()
    assert trace.cause is not None


def test_a_submodule_called_on_its_own_has_a_cause_and_no_fits() -> None:
    """What the whole model would take, this run does not tell."""
    model = CNN()
    with pytest.raises(RuntimeError) as raised, tracecall.tracing(model):
        model.fc1(torch.zeros(2, 3))
    found = cause()
    assert found is not None
    assert found.fits == []
    assert len(raised.value.__notes__) == 1


def test_an_exception_of_the_block_itself_is_left_alone() -> None:
    """It has nothing to do with the model."""
    model = CNN()
    with pytest.raises(ValueError, match="mine") as raised, tracecall.tracing(model):
        model(torch.zeros(1, 3, 28, 28))
        raise ValueError("mine")
    assert not hasattr(raised.value, "__notes__")
    assert cause() is None


def test_what_is_no_model_is_refused_without_a_note() -> None:
    """Nothing was recorded; the trace before it stays as it was."""
    with pytest.raises(RuntimeError):
        tracecall.trace(CNN(), X)
    before = tracecall.last_trace()
    with pytest.raises(tracecall.TracecallError) as raised:
        tracecall.trace(CNN, X)  # type: ignore[arg-type]  # the mistake
    assert not hasattr(raised.value, "__notes__")
    assert tracecall.last_trace() is before


def test_an_exception_is_explained_once() -> None:
    """Though two recordings see it; both traces have the cause."""
    model = CNN()
    with pytest.raises(RuntimeError) as raised, tracecall.tracing(model) as outer:
        tracecall.trace(model, X)
    assert raised.value.__notes__ == [NOTE]
    assert outer.cause is not None


def test_an_explanation_that_fails_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is just no cause."""

    def fail(trace: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(diagnosis, "diagnose", fail)
    with pytest.raises(RuntimeError, match="is invalid for input") as raised:
        tracecall.trace(CNN(), X)
    assert not hasattr(raised.value, "__notes__")
    assert raised.value.__context__ is None
    assert cause() is None


def test_fits_that_fail_leave_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that cannot be copied, say."""

    class Uncopied(CNN):
        def __deepcopy__(self, memo: object) -> Uncopied:
            raise TypeError("there is one of me")

    with pytest.raises(RuntimeError) as raised:
        tracecall.trace(Uncopied(), X)
    found = cause()
    assert found is not None
    assert found.fits == []
    assert raised.value.__notes__ == ["\n".join(NOTE.splitlines()[:2])]


def test_an_exception_that_takes_no_notes_passes_through() -> None:
    """Whatever its class does."""

    class Closed(RuntimeError):
        def add_note(self, note: str) -> None:
            raise TypeError("no notes")

    class Refusing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise Closed("no")

    with pytest.raises(Closed):
        tracecall.trace(Refusing(), X)


def test_an_interrupt_is_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that comes while a failure is explained is not swallowed."""

    class Interrupted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    budgets = counted(monkeypatch)
    with pytest.raises(KeyboardInterrupt) as raised:
        tracecall.trace(Interrupted(), X)
    assert (budgets, hasattr(raised.value, "__notes__")) == ([], False)

    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fits", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tracecall.trace(CNN(), X)


def test_the_same_failure_again_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is remembered by model, error and inputs; each exception gets its note, each trace a cause of its own."""
    budgets = counted(monkeypatch)
    model = CNN()
    for _ in range(3):
        with pytest.raises(RuntimeError) as raised:
            tracecall.trace(model, X)
        assert raised.value.__notes__ == [NOTE]
        found = cause()
        assert found is not None
        found.fits.clear()
    assert len(budgets) == 1
    with pytest.raises(RuntimeError):
        tracecall.trace(model, torch.zeros(2, 3, 32, 40))
    with pytest.raises(RuntimeError):
        tracecall.trace(CNN(), X)
    assert len(budgets) == 3


def test_other_failures_of_the_same_model_share_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a loop over sizes nobody waits for more than that; the cause is still told."""
    monkeypatch.setattr(running, "TOGETHER", 0.0)
    budgets = counted(monkeypatch)
    with pytest.raises(RuntimeError):
        tracecall.trace(CNN(), X)
    found = cause()
    assert found is not None
    assert (budgets, found.fits) == ([], [])


def test_what_is_remembered_is_bounded_and_goes_with_the_model() -> None:
    """A long loop over sizes remembers the last few."""
    model = nn.Sequential(nn.Linear(5, 2))
    for size in range(6, 6 + running.REMEMBERED + 4):
        with pytest.raises(RuntimeError):
            tracecall.trace(model, torch.zeros(2, size))
    ((_, past),) = running._past.values()
    assert len(past.causes) == running.REMEMBERED
    del model, past
    gc.collect()
    assert running._past == {}


def test_nothing_keeps_the_model_or_its_tensors() -> None:
    """Once the exception is gone."""
    model, x = CNN(), torch.zeros(1, 3, 32, 32)
    try:
        tracecall.trace(model, x)
    except RuntimeError as error:
        assert error.__notes__ == [NOTE]
    alive = [weakref.ref(thing) for thing in (model, model.fc1, model.fc1.weight, x)]
    del model, x
    assert [one() for one in alive] == [None] * 4
    assert cause() is not None


def test_a_run_that_succeeds_is_the_same_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for, and the trace is what recording makes of it."""
    budgets = counted(monkeypatch)
    model = CNN()
    x = torch.zeros(1, 3, 28, 28)
    assert tracecall.trace(model, x) == recording.trace(model, x)
    with tracecall.tracing(model) as trace:
        model(x)
    assert trace.cause is None
    assert trace is tracecall.last_trace()
    assert budgets == []


def test_the_model_is_as_before() -> None:
    """Parameters, buffers, mode and random state, after a failure that was explained."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), CNN())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        tracecall.trace(model, X)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("model", "x", "fits"),
    [
        (nn.Embedding(10, 4), torch.zeros(4, 3), "  fits: input of int64"),
        (nn.Linear(4, 2), torch.zeros(3, 5), "  fits: an input of 3,4"),
    ],
)
def test_a_note_has_no_words_of_the_command_line(model: nn.Module, x: torch.Tensor, fits: str) -> None:
    """Whoever calls tracecall.trace has no options to type."""
    with pytest.raises((RuntimeError, IndexError)) as raised:
        tracecall.trace(model, x)
    (note,) = raised.value.__notes__
    assert "--input" not in note
    assert fits in note.splitlines()
