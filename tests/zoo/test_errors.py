"""Exceptions: what raised them, what they passed through, who caught them; and the tree goes on correctly."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

import tracecall
from tests.zoo.drawing import drawing, drawn, given, only
from tracecall.calls import Call, Trace

X = torch.ones(2, 3)


class Refusing(nn.Module):
    """Raises what it is given."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise self.error


class Holder(nn.Module):
    """Passes on what its inner module raises."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


class Fallback(nn.Module):
    """Catches what its first choice raises and goes on with another."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            x = self.first(x)
        except (ValueError, RuntimeError, TypeError, KeyboardInterrupt):
            x = x * 2
        return self.second(x)


def failed(model: nn.Module, *args: Any) -> Trace:
    """The trace of a run that raises."""
    with pytest.raises(BaseException):  # noqa: B017  # which one, the trace says
        tracecall.trace(model, *args)
    trace = tracecall.last_trace()
    assert trace is not None
    return trace


def raising(trace: Trace) -> list[Call]:
    """The calls of which the trace says that they raised."""
    return [call for _, call in trace.walk() if call.error is not None and call.error.raised_here]


# caught


def test_a_submodule_that_raised_and_was_caught_says_so_and_the_tree_goes_on() -> None:
    """The failed call stays in the tree, marked; what came after stands beside it."""
    trace = tracecall.trace(Fallback(Refusing(ValueError("no"))), X)
    assert drawn(trace) == drawing("""
        Fallback [2,3] → [2,3]
          first Refusing [2,3] → ✗ ValueError raised caught ← input x
          · x * 2 [2,3] → [2,3] ← input x
          second Linear [2,3] → [2,3] ← x * 2
    """)
    assert trace.error is None
    assert trace.modules["first"].state == "raised"
    (finding,) = trace.findings
    assert (finding.kind, finding.path) == ("raised-and-caught", "first")
    assert finding.site is not None
    assert finding.site.text == "self.first(x)"


def test_an_operation_that_raised_and_was_caught_says_so() -> None:
    """Not only modules: an expression that failed is an operation that failed."""

    class Tries(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                return x.view(7, 7)
            except RuntimeError:
                return x.view(3, 2)

    assert drawn(tracecall.trace(Tries(), X)) == drawing("""
        Tries [2,3] → [3,2]
          · x.view [2,3] → ✗ RuntimeError raised caught ← input x
          · x.view [2,3] → [3,2] ← input x
    """)


def test_everything_on_the_way_to_the_catcher_was_caught() -> None:
    """An error that passed through two modules is caught in both, raised in the innermost only."""
    trace = tracecall.trace(Fallback(Holder(Refusing(ValueError("no")))), X)
    assert drawn(trace) == drawing("""
        Fallback [2,3] → [2,3]
          first Holder [2,3] → ✗ ValueError caught ← input x
            inner Refusing [2,3] → ✗ ValueError raised caught ← input x
          · x * 2 [2,3] → [2,3] ← input x
          second Linear [2,3] → [2,3] ← x * 2
    """)


def test_a_module_that_raised_once_and_ran_once_was_called() -> None:
    """A state is the best that happened; the failed call is marked all the same."""

    class Retry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                return self.fc(x[:, :2])
            except RuntimeError:
                return self.fc(x)

    trace = tracecall.trace(Retry(), X)
    assert trace.modules["fc"].state == "called"
    assert [call.error is not None and call.error.caught for call in trace.find("fc")] == [True, False]
    assert [finding.kind for finding in trace.findings] == ["raised-and-caught"]


def test_a_keyboard_interrupt_that_the_model_catches_is_caught() -> None:
    """torch runs no hook for it; the tree is right all the same."""
    trace = tracecall.trace(Fallback(Holder(Refusing(KeyboardInterrupt()))), X)
    assert [call.name for call in trace.calls[0].children] == ["first", "x * 2", "second"]
    first = only(trace, "first")
    assert first.error is not None
    assert first.error.caught
    assert trace.error is None
    assert trace.modules["first"].state == "raised"


def test_a_keyboard_interrupt_ends_the_trace_and_passes_through() -> None:
    """The reader's Ctrl-C is the reader's; what ran until then is recorded."""
    model = nn.Sequential(nn.Linear(3, 3), Refusing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        tracecall.trace(model, X)
    trace = tracecall.last_trace()
    assert trace is not None
    assert [call.name for call in trace.calls[0].children] == ["0", "1"]
    assert trace.error is not None
    assert trace.error.type == "KeyboardInterrupt"
    assert [call.name for call in raising(trace)] == ["1"]


def test_an_error_that_the_reader_catches_ends_no_trace() -> None:
    """In `tracing`, the reader's own `except` is a catch like any other."""
    model = Holder(Refusing(ValueError("no")))
    with tracecall.tracing(model) as trace:
        with pytest.raises(ValueError, match="no"):
            model(X)
        model.inner.error = ValueError("again")  # type: ignore[assignment]
        with pytest.raises(ValueError, match="again"):
            model(X)
    assert trace.error is None
    assert [call.error.caught for call in trace.calls if call.error] == [True, True]
    assert [call.name for call in raising(trace)] == ["inner", "inner"]


# raised


def test_an_error_passes_through_and_is_raised_in_one_place() -> None:
    """Every call on its way has it; only the innermost raised it."""
    trace = failed(Holder(Holder(Refusing(ValueError("no")))), X)
    assert drawn(trace) == drawing("""
        Holder [2,3] → ✗ ValueError
          inner Holder [2,3] → ✗ ValueError ← input x
            inner Refusing [2,3] → ✗ ValueError raised ← input x
    """)
    assert trace.error is not None
    assert (trace.error.type, trace.error.message) == ("ValueError", "no")


def test_a_raise_gives_its_line_and_no_operation() -> None:
    """`raise ValueError(…)` in a forward: the line is the raise's; nothing was computed."""
    trace = failed(Refusing(ValueError("no")), X)
    (root,) = trace.calls
    assert root.children == []
    assert root.error is not None
    assert root.error.site is not None
    assert root.error.site.text == "raise self.error"
    assert root.error.site.file == "tests/zoo/test_errors.py"
    assert root.error.site.line == Refusing.forward.__code__.co_firstlineno + 1
    assert trace.error == root.error


def test_an_assert_gives_its_line() -> None:
    """An assertion is the code's own refusal."""

    class Asserting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[0] == 5, "five"
            return x

    trace = failed(Asserting(), X)
    (root,) = trace.calls
    assert root.children == []
    assert root.error is not None
    assert root.error.raised_here
    assert root.error.site is not None
    assert root.error.site.line == Asserting.forward.__code__.co_firstlineno + 1


def test_a_raise_in_a_helper_gives_the_helpers_line() -> None:
    """The line that refused, not the line that asked."""

    def check(x: torch.Tensor) -> None:
        raise ValueError("no")

    class Checking(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            check(x)
            return x

    trace = failed(Checking(), X)
    assert trace.error is not None
    assert trace.error.site is not None
    assert trace.error.site.line == check.__code__.co_firstlineno + 1
    assert [call.kind for _, call in trace.walk()] == ["module"]


def test_a_chained_error_is_the_one_that_left() -> None:
    """`raise … from` in the parent is another error: the submodule's was caught there."""

    class Translating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Refusing(ValueError("no"))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                return self.inner(x)
            except ValueError as error:
                raise RuntimeError("cannot") from error

    trace = failed(Translating(), X)
    assert drawn(trace) == drawing("""
        Translating [2,3] → ✗ RuntimeError raised
          inner Refusing [2,3] → ✗ ValueError raised caught ← input x
    """)
    assert trace.error is not None
    assert (trace.error.type, trace.error.message) == ("RuntimeError", "cannot")


def test_an_error_that_is_raised_again_passes_through() -> None:
    """A bare `raise` after looking at it is no new error, and the first was not caught."""

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Refusing(ValueError("no"))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                return self.inner(x)
            except ValueError:
                x.sum()
                raise

    assert drawn(failed(Looking(), X)) == drawing("""
        Looking [2,3] → ✗ ValueError
          inner Refusing [2,3] → ✗ ValueError raised ← input x
          · x.sum [2,3] → [] ← input x
    """)


def test_an_operation_that_raised_is_in_the_tree() -> None:
    """With what it was given, and where that came from."""

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.fc(x)
            return x.view(-1, 7)

    trace = failed(Views(), X)
    assert drawn(trace) == drawing("""
        Views [2,3] → ✗ RuntimeError
          fc Linear [2,3] → [2,3] ← input x
          · x.view [2,3] → ✗ RuntimeError raised ← fc
    """)
    assert trace.error is not None
    assert trace.error.site is not None
    assert trace.error.site.text == "x.view(-1, 7)"
    assert only(trace, "x.view").inputs[1].value == "[-1, 7]"


def test_arguments_that_torch_refuses_name_the_expression_and_its_tensors() -> None:
    """A TypeError of torch's argument parser comes before any operation: the expression is shown with its tensors."""

    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(5, 3))

        def forward(self, x: torch.Tensor, name: str) -> torch.Tensor:
            y = x + 1
            return torch.addmm(y, self.weight, name)  # type: ignore[call-overload,no-any-return]

    trace = failed(Wrong(), X, "w")
    call = raising(trace)[0]
    assert (call.kind, call.name) == ("operation", "torch.addmm")
    assert given(call) == {"y": (2, 3), "self.weight": (5, 3)}
    assert call.site is not None
    assert call.site.text == "torch.addmm(y, self.weight, name)"


def test_a_failure_inside_a_submodule_of_torchs_own_is_that_submodules() -> None:
    """nn.Linear with a wrong size: the operation inside it failed, and its line in the model is the call's."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4))
    with torch.inference_mode():
        trace = failed(model, X)
    assert drawn(trace, internal=True, sources=False) == drawing("""
        Sequential [2,3] → ✗ RuntimeError
          0 Linear [2,3] → [2,4]
          1 Linear [2,4] → ✗ RuntimeError
            · F.linear [2,4] [4,3] [4] → ✗ RuntimeError raised
    """)


def test_a_missing_argument_is_the_call_that_lacks_it() -> None:
    """`self.inner()` without its input: Python refuses before forward runs."""

    class Forgetting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner()  # type: ignore[no-any-return]

    trace = failed(Forgetting(), X)
    assert [(call.kind, call.name) for call in raising(trace)] == [("module", "inner")]
    assert trace.error is not None
    assert "missing 1 required positional argument" in trace.error.message


def test_a_missing_attribute_is_no_operation() -> None:
    """An AttributeError is the code's, with its line; it names no tensor operation that never was."""

    class Typo(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.missing(x)  # type: ignore[no-any-return,operator]

    trace = failed(Typo(), X)
    assert trace.error is not None
    assert trace.error.type == "AttributeError"
    assert trace.error.site is not None
    assert trace.error.site.line == Typo.forward.__code__.co_firstlineno + 1
    assert trace.calls[0].error is not None


def test_after_an_error_the_same_model_runs_and_is_traced_as_before() -> None:
    """Nothing of the failed run is left in the next one."""
    model = Holder(nn.Linear(3, 3))
    before = drawn(tracecall.trace(model, X))
    failed(model, torch.ones(2, 5))
    assert drawn(tracecall.trace(model, X)) == before


def test_an_error_whose_text_cannot_be_made_is_shown_by_its_type() -> None:
    """An exception's own `__str__` may fail."""

    class Mute(ValueError):
        def __str__(self) -> str:
            raise OSError("no text")

    trace = failed(Refusing(Mute()), X)
    assert trace.error is not None
    assert trace.error.type == "Mute"
    assert "Mute" in str(trace)


def test_an_exception_keeps_nothing_alive() -> None:
    """The trace of a failed run holds text, not the exception with its frames and tensors."""
    kept: list[weakref.ref[torch.Tensor]] = []

    class Failing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + 1
            kept.append(weakref.ref(y))
            raise ValueError("no")

    with contextlib.suppress(ValueError):
        tracecall.trace(Failing(), X)
    gc.collect()
    assert tracecall.last_trace() is not None
    assert kept[0]() is None
