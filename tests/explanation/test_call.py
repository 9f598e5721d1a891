"""What `model(x)` calls: told as it is, also where the class, the object or torch does it in another way."""

from __future__ import annotations

import functools
import inspect
import linecache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

from tests.explanation.models import CallsForward, CallsNothing, CallsSuper, Net, X, seen, steps, told


def test_an_ordinary_class_inherits_call() -> None:
    """nn.Module's `__call__` runs, and leads to forward."""
    first, second = steps("call", Net())
    assert "inherits the one of `nn.Module`" in first.claim
    assert seen(first)["type(model).__call__ is nn.Module.__call__"] is True
    assert second.title == "__call__ runs forward"
    assert "with the same arguments" in second.claim
    assert seen(second)["forward got the very arguments that you passed"] is True


@pytest.mark.parametrize(
    ("kind", "says"),
    [(CallsSuper, "goes on to the one of `nn.Module`"), (CallsForward, "no hook runs"), (CallsNothing, "did not run")],
)
def test_a_call_of_the_class_s_own_is_told(kind: type[Net], says: str) -> None:
    """An overridden `__call__`: one that calls super, one that calls forward, one that calls neither."""
    first, second = steps("call", kind())
    assert "defines a `__call__` of its own" in first.claim
    assert seen(first)["type(model).__call__ is nn.Module.__call__"] is False
    assert says in second.claim


def test_a_call_of_a_base_class_is_told() -> None:
    class Child(CallsForward):
        pass

    assert "its base class `CallsForward` defines" in steps("call", Child())[0].claim


def test_a_call_attribute_of_the_object_changes_nothing() -> None:
    model = Net()
    model.__dict__["__call__"] = lambda x: None
    first = steps("call", model)[0]
    assert "Python asks the class" in first.claim
    assert seen(first)['"__call__" in vars(model)'] is True


def test_a_call_that_is_an_object_does_not_get_the_model() -> None:
    """Only what has `__get__` is bound."""

    class Same:
        def __call__(self, x: Any) -> Any:
            return x

    kind = type("Odd", (Net,), {"__call__": Same()})
    first = steps("call", kind())[0]
    assert "type(model).__call__(model" not in first.claim
    assert "forward did not run" in [step.title for step in steps("call", kind())]


class Callable:
    """An object in forward's place."""

    def __init__(self, model: Net) -> None:
        self.model = model

    def __call__(self, x: Any) -> Any:
        """Half of the model."""
        return self.model.a(x)


@pytest.mark.parametrize("how", ["function", "lambda", "partial", "object"])
def test_a_forward_on_the_object_shadows_the_class_s(how: str) -> None:
    """It is what runs, and it is what is shown."""
    model: Any = Net()

    def function(x: Any) -> Any:
        return model.a(x)

    ways = {"function": function, "lambda": lambda x: model.a(x), "partial": functools.partial(Net.forward, model)}
    model.__dict__["forward"] = Callable(model) if how == "object" else ways[how]
    second = steps("call", model)[1]
    assert seen(second)["forward ran inside __call__"] is True
    assert "takes the place of the `forward` of the class `Net`" in second.claim


def test_a_forward_that_is_no_python_is_told() -> None:
    model: Any = nn.Module()
    model.forward = torch.relu
    assert steps("call", model)[1].title == "forward is not Python code"


def test_a_generator_is_told() -> None:
    class Yields(Net):
        def forward(self, x: Any) -> Any:
            yield self.a(x)

    assert steps("call", Yields())[1].title == "forward is a generator"


def test_arguments_that_a_hook_replaced_are_told() -> None:
    model = Net()
    model.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    second = steps("call", model)[1]
    assert "with the same arguments" not in second.claim
    assert seen(second)["forward got the very arguments that you passed"] is False


def test_what_put_other_arguments_in_place_is_named() -> None:
    """A hook of the user's that replaced them, or torch, which wraps tensors for a full backward hook."""
    model = Net()
    model.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    assert "put others in their place" in steps("call", model)[1].claim
    model = Net()
    model.register_full_backward_hook(lambda module, given, out: None)
    claim = steps("call", model, X.clone().requires_grad_())[1].claim
    assert "for it torch wrapped the tensors" in claim
    assert "changed" not in claim
    assert "for it torch wrapped the tensors" in steps("forward", model)[0].claim


def test_other_arguments_without_a_known_reason_are_told() -> None:
    class Doubles(Net):
        def __call__(self, x: Any) -> Any:
            return super().__call__(x * 2)

    claim = steps("call", Doubles())[1].claim
    assert claim.endswith("The arguments that `forward` got are not the objects that you passed.")


@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_forward_is_told(in_place: bool) -> None:
    model: Any = Net()
    if in_place:
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")
    assert "forward is compiled" in [step.title for step in steps("call", model)]


def test_a_traced_module_is_told() -> None:
    model: Any = torch.jit.trace(Net(), (X,))  # type: ignore[no-untyped-call]
    assert "TorchScript" in told(steps("call", model))


def test_a_class_without_source_has_a_story() -> None:
    space: dict[str, Any] = {"nn": nn}
    exec("class E(nn.Module):\n    def forward(self, x):\n        return x + 1\n", space)
    second = steps("call", space["E"]())[1]
    assert second.title == "__call__ runs forward"
    assert second.source == []


def test_lines_are_those_of_the_torch_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 100 lines more before it, nn.Module's code is quoted 100 lines further down, from the other file."""
    source = Path(str(inspect.getsourcefile(nn.Module))).read_text()
    file = tmp_path / "module.py"
    file.write_text("\n" * 100 + source)
    space: dict[str, Any] = {"__name__": torch_module.__name__ + "_moved", "__file__": str(file)}
    exec(compile(file.read_text(), str(file), "exec"), space)
    moved = space["Module"]
    wanted: dict[str, int] = {}
    for name in ("_wrapped_call_impl", "_call_impl"):
        function = vars(moved)[name]
        wanted[name] = vars(nn.Module)[name].__code__.co_firstlineno + 100
        own = type(function)(function.__code__, vars(torch_module), name, None, function.__closure__)
        own.__qualname__ = f"Module.{name}"
        monkeypatch.setattr(nn.Module, name, own)
    monkeypatch.setattr(nn.Module, "__call__", nn.Module._wrapped_call_impl)
    linecache.checkcache(str(file))
    first = steps("call", Net())[0]
    assert str(seen(first)["type(model).__call__ is Module._wrapped_call_impl"]).endswith(
        f"module.py:{wanted['_wrapped_call_impl']}"
    )
    quoted = [one for step in steps("hooks", Net()) for one in step.source]
    lines = file.read_text().splitlines()
    assert quoted
    for one in quoted:
        assert one.file.endswith(str(Path(tmp_path.name) / "module.py"))
        assert one.line > wanted["_wrapped_call_impl"] - 1
        assert lines[one.line - 1].strip() == one.text.splitlines()[0].strip()
    chain = seen(steps("submodules", Net())[0])["the functions entered, each inside the one above"]
    assert f"module.py:{wanted['_call_impl']}" in chain[1]
