"""Hooks: which way `__call__` takes, and what a hook of each kind does on this model."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from tests.explanation.models import CallsForward, CallsSuper, Net, X, seen, steps, told

KEPT = "model(x) returned the object that the forward hook returned"


def titles(model: nn.Module) -> list[str]:
    return [step.title for step in steps("hooks", model)]


def test_without_hooks_it_is_the_short_way() -> None:
    assert titles(Net())[1] == "No hook: the short way"


def test_a_hook_makes_it_the_long_way() -> None:
    """A hook on the module, one for every module, a backward hook."""
    model = Net()
    model.register_forward_hook(lambda module, args, output: None)
    assert "There is a hook: the long way" in titles(model)
    backward = Net()
    backward.register_full_backward_hook(lambda module, given, out: None)
    assert "There is a hook: the long way" in titles(backward)
    with torch_module.register_module_forward_hook(lambda module, args, output: None):
        assert "There is a hook: the long way" in titles(Net())


def test_the_order_is_the_observed_one() -> None:
    step = steps("hooks", Net())[2]
    assert [line.partition(" ")[2] for line in seen(step)["what ran for the root"]] == [
        "global forward pre-hook", "forward pre-hook", "forward", "global forward hook", "forward hook",
    ]  # fmt: skip
    assert seen(step)[KEPT] is True


def test_what_a_call_changes_after_the_hooks_is_not_called_the_hook_s() -> None:
    step = steps("hooks", CallsSuper())[2]
    assert seen(step)[KEPT] is False
    assert "may replace the output" not in step.claim


def test_a_call_that_passes_by_runs_no_hook() -> None:
    (step,) = steps("hooks", CallsForward())
    assert step.title == "No hook runs for this module"
    assert seen(step)["hooks that ran, of four that were registered"] == 0


def test_a_call_that_goes_to_call_impl_runs_hooks() -> None:
    kind = type("Direct", (Net,), {"__call__": lambda self, *args: nn.Module._call_impl(self, *args)})
    assert titles(kind()) == ["No hook: the short way", "With hooks: the long way, in this order"]


def test_the_user_s_hooks_are_told() -> None:
    """One that replaces the output, one that replaces the input, one that does nothing."""
    model = Net()
    model.register_forward_hook(lambda module, args, output: output * 2)
    assert "on the root, put something else in the place of what `Net.forward` returned" in told(steps("hooks", model))
    model = Net()
    model.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    assert "replaced arguments, so `Net.forward` did not get what was passed" in told(steps("hooks", model))
    model = Net()
    model.register_forward_hook(lambda module, args, output: None)
    assert told(steps("hooks", model)).endswith("Your own hooks are part of this run: 1 ran.")


def test_a_hook_s_sentence_names_its_module() -> None:
    """What a hook on a submodule changed is not said of the root."""
    model = Net()
    model.a.register_forward_hook(lambda module, args, output: output + 1)
    text = told(steps("hooks", model))
    assert "a forward hook on `a`, put something else in the place of what the `forward` of `a` returned" in text
    assert "`Net.forward` returned" not in text


def test_hooks_that_write_in_place_are_told_apart() -> None:
    """The object is the same one: in the parts about hooks, about the call and about what came out."""
    model = Net()
    model.register_forward_pre_hook(lambda module, args: (args[0].add_(1), None)[1])
    text = told(steps("hooks", model, X.clone()))
    assert "wrote into the arguments before `Net.forward` got them" in text
    assert "did not get what was passed" not in text
    called = steps("call", model, X.clone())[1]
    assert seen(called)["forward got the very arguments that you passed"] is True
    assert "with the same arguments" not in called.claim
    assert "had written into them" in called.claim
    model = Net()
    model.register_forward_hook(lambda module, args, output: (output.mul_(2), None)[1])
    text = told(steps("hooks", model))
    assert "wrote into what `Net.forward` returned: it is still the same object" in text
    assert "in the place of" not in text
    assert "wrote into it before you got it" in steps("forward", model)[0].claim


def test_only_some_hooks_get_a_sentence() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)))
    for module in model:
        module.register_forward_hook(lambda module, args, output: output + 1)
    step = steps("hooks", model)[-1]
    assert step.claim.count("put something else") == 3
    assert "The list below has what the others changed." in step.claim
    assert len(seen(step)["in the order in which they ran"]) == 6


def test_a_module_compiled_in_place_is_told() -> None:
    model = Net()
    model.compile(backend="eager")
    (step,) = steps("hooks", model)
    assert "This one was" in step.claim
    assert seen(step)["self._compiled_call_impl is None"] is False


def test_a_model_that_calls_itself_has_a_story() -> None:
    class Again(Net):
        def forward(self, x: Any, n: int = 2) -> Any:
            return self.a(x) if n == 0 else self(x, n - 1)

    assert "called again while it ran" in told(steps("hooks", Again()))
    assert len(X) == 2
