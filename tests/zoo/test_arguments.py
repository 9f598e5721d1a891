"""Inputs and outputs of every kind: each under the name that its reader knows, none of them touched."""

from __future__ import annotations

import collections
import copy
import enum
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import tracecall
from tests.zoo.drawing import given, returned
from tracecall.calls import TensorSpec

X = torch.arange(6.0).reshape(2, 3)


class Same(nn.Module):
    """Returns what it is given."""

    def forward(self, x: Any) -> Any:
        return x


def spec_of(value: Any) -> TensorSpec:
    """How the Trace describes a tensor that a module takes and returns."""
    (call,) = tracecall.trace(Same(), value).calls
    (one,), (other,) = call.inputs, call.output
    assert one.where == "x"
    assert isinstance(one.value, TensorSpec)
    assert one.value == other.value
    return one.value


# names


def test_every_argument_has_its_parameters_name() -> None:
    """Positional-only, positional, the rest, keyword-only and any other keyword: each as forward names it."""

    class Model(nn.Module):
        def forward(self, a: Any, /, b: Any, *rest: Any, c: Any, d: int = 3, **more: Any) -> Any:
            return a

    (call,) = tracecall.trace(Model(), X, 2, 3, X, c=None, mask=X).calls
    assert given(call) == {"a": (2, 3), "b": "2", "rest[0]": "3", "rest[1]": (2, 3), "c": "None", "more.mask": (2, 3)}


def test_a_keyword_that_names_a_positional_parameter_has_its_name() -> None:
    """`model(b=…, a=…)` is known by name, in the order given."""

    class Model(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a

    (call,) = tracecall.trace(Model(), b=X, a=1).calls
    assert given(call) == {"b": (2, 3), "a": "1"}


def test_a_keyword_with_the_name_of_a_positional_only_parameter_is_another_one() -> None:
    """`forward(self, x, /, **kw)` called as `model(x, x=1)` has two inputs: `x` and `kw.x`."""

    class Model(nn.Module):
        def forward(self, x: Any, /, **kw: Any) -> Any:
            return x

    (call,) = tracecall.trace(Model(), X, x=1).calls
    assert [value.where for value in call.inputs] == ["x", "kw.x"]


def test_the_keywords_of_a_submodule_are_recorded_too() -> None:
    """A submodule's keyword arguments are seen although a global pre-hook gets none."""

    class Inner(nn.Module):
        def forward(self, x: Any, *, scale: Any = None) -> Any:
            return x * scale

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Any) -> Any:
            return self.inner(x, scale=x)

    (inner,) = tracecall.trace(Model(), X).find("inner")
    assert [(value.where, value.source) for value in inner.inputs] == [("x", "input x"), ("scale", "input x")]


def test_a_decorated_forward_has_the_names_of_the_function_that_was_decorated() -> None:
    """`@torch.no_grad()` hides no name."""

    class Model(nn.Module):
        @torch.no_grad()
        def forward(self, image: Any, mask: Any = None) -> Any:
            return image

    assert given(tracecall.trace(Model(), X, mask=1).calls[0]) == {"image": (2, 3), "mask": "1"}


def test_a_forward_set_on_the_instance_has_its_own_names() -> None:
    """Many patch `module.forward = function`: that function's parameters count, not the class's."""
    model = Same()
    model.forward = lambda pixels: pixels  # type: ignore[method-assign,assignment]
    assert given(tracecall.trace(model, X).calls[0]) == {"pixels": (2, 3)}


# structures


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass
class Box:
    content: Any
    label: str = "box"


class Colour(enum.Enum):
    RED = 1


NESTED = [
    pytest.param((X, (X, 1)), {"x[0]": (2, 3), "x[1][0]": (2, 3), "x[1][1]": "1"}, id="tuples"),
    pytest.param([X, [X]], {"x[0]": (2, 3), "x[1][0]": (2, 3)}, id="lists"),
    pytest.param({"a": X, 3: {"b": X}}, {"x['a']": (2, 3), "x[3]['b']": (2, 3)}, id="dicts"),
    pytest.param(collections.OrderedDict(a=X), {"x['a']": (2, 3)}, id="OrderedDict"),
    pytest.param(collections.UserDict(a=X), {"x['a']": (2, 3)}, id="any Mapping"),
    pytest.param(Pair(X, [X]), {"x.first": (2, 3), "x.second[0]": (2, 3)}, id="named tuples"),
    pytest.param(Box(Box(X)), {"x.content.content": (2, 3), "x.content.label": "'box'", "x.label": "'box'"}, id="dataclasses"),
    pytest.param(collections.deque([X]), {"x[0]": (2, 3)}, id="deque"),
    pytest.param(torch.ones(2, 3).max(0), {"x[0]": (3,), "x[1]": (3,)}, id="torch's return types"),
    pytest.param(torch.Size([2, 3]), {"x": "torch.Size([2, 3])"}, id="a Size is one value"),
    pytest.param((), {"x": "empty tuple"}, id="an empty tuple"),
    pytest.param({}, {"x": "empty dict"}, id="an empty dict"),
    pytest.param([None, X, None], {"x[0]": "None", "x[1]": (2, 3), "x[2]": "None"}, id="holes"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), NESTED)
def test_a_nested_value_is_shown_leaf_by_leaf(value: Any, expected: dict[str, object]) -> None:
    """Every tensor in a structure has a name that reads as the code that would select it."""
    (call,) = tracecall.trace(Same(), value).calls
    assert given(call) == expected
    assert returned(call) == {where.removeprefix("x"): leaf for where, leaf in expected.items()}


def test_a_model_output_is_shown_by_its_fields() -> None:
    """A Hugging Face ModelOutput: the fields that it holds, not those that it might."""
    outputs = pytest.importorskip("transformers.modeling_outputs")

    class Model(nn.Module):
        def forward(self, x: Any) -> Any:
            return outputs.BaseModelOutputWithPast(last_hidden_state=x, hidden_states=(x, x))

    (call,) = tracecall.trace(Model(), X).calls
    assert returned(call) == {".last_hidden_state": (2, 3), ".hidden_states[0]": (2, 3), ".hidden_states[1]": (2, 3)}


PLAIN = [
    (None, "None"),
    (3, "3"),
    (0.5, "0.5"),
    (True, "True"),
    (2j, "2j"),
    ("mean", "'mean'"),
    (b"bytes", "b'bytes'"),
    (slice(1, 2), "slice(1, 2, None)"),
    (torch.float16, "torch.float16"),
    (torch.device("cpu"), "device(type='cpu')"),
    (Colour.RED, "Colour.RED"),
    (torch.relu, "relu"),
    (nn.Linear, "Linear"),
]


@pytest.mark.parametrize(("value", "expected"), PLAIN)
def test_a_value_that_is_no_tensor_is_shown_as_short_text(value: Any, expected: str) -> None:
    """None, numbers, strings, torch's own words, functions and classes."""
    (call,) = tracecall.trace(Same(), value).calls
    assert given(call) == {"x": expected}
    assert returned(call) == {"": expected}


def test_a_distribution_is_shown_by_its_class() -> None:
    """A torch.distributions object is returned as it is and shown as <Normal>."""

    class Model(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.distributions.Normal(x, 1.0)

    assert returned(tracecall.trace(Model(), X).calls[0]) == {"": "<Normal>"}


def test_a_long_string_is_cut() -> None:
    """A page of text is no page in the tree."""
    (call,) = tracecall.trace(Same(), "long " * 10_000).calls
    assert len(str(call.inputs[0].value)) <= 60


def test_no_code_of_a_value_runs_to_show_it() -> None:
    """Neither repr, nor str, nor comparing, nor its truth, nor its length."""
    ran = []

    class Loud:
        def __repr__(self) -> str:
            ran.append("repr")
            return "loud"

        __str__ = __repr__

        def __eq__(self, other: object) -> bool:
            ran.append("eq")
            return True

        __hash__ = None  # type: ignore[assignment]

        def __bool__(self) -> bool:
            ran.append("bool")
            return True

        def __len__(self) -> int:
            ran.append("len")
            return 1

        def __iter__(self) -> Iterator[int]:
            ran.append("iter")
            return iter([1])

    trace = tracecall.trace(Same(), [Loud(), {"a": Loud()}])
    assert given(trace.calls[0]) == {"x[0]": "<Loud>", "x[1]['a']": "<Loud>"}
    assert ran == []


def test_an_iterator_is_not_consumed() -> None:
    """What a model is to iterate over is still all there."""

    class Model(nn.Module):
        def forward(self, batches: Any) -> Any:
            return sum(batches)

    (call,) = tracecall.trace(Model(), iter([X, X])).calls
    assert given(call) == {"batches": "<list_iterator>"}
    assert returned(call) == {"": (2, 3)}


class Failing(collections.UserDict[str, Any]):
    """A mapping that refuses to be read as a whole, as one that loads its items on demand may."""

    def items(self) -> Any:
        raise OSError("not loaded")


@dataclass
class Raising:
    content: Any

    def __getattribute__(self, name: str) -> Any:
        if name == "content":
            raise OSError("not loaded")
        return object.__getattribute__(self, name)


class RaisingCallable:
    """Every attribute that it lacks is an error of its own kind."""

    def __call__(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise OSError(name)


@pytest.mark.parametrize(
    "value", [Failing(a=X), Raising(X), RaisingCallable()], ids=["mapping", "dataclass", "callable"]
)
def test_a_value_that_cannot_be_looked_into_is_shown_by_its_class(value: Any) -> None:
    """An input's own code that fails neither stops the model nor the recording."""

    class Ignores(nn.Module):
        def forward(self, x: Any) -> int:
            return 1

    (call,) = tracecall.trace(Ignores(), value).calls
    assert given(call) == {"x": f"<{type(value).__name__}>"}


def test_a_list_that_contains_itself_ends() -> None:
    """The way round is cut where it closes."""
    loop: list[Any] = [X]
    loop.append(loop)
    (call,) = tracecall.trace(Same(), loop).calls
    assert given(call) == {"x[0]": (2, 3), "x[1]": "<list, nested too deep>"}


def test_a_deep_nest_of_lists_ends() -> None:
    """Deeper than any reader looks, and deeper than Python can recurse."""
    deep: Any = X
    for _ in range(100_000):
        deep = [deep]
    (call,) = tracecall.trace(Same(), deep).calls
    assert len(call.inputs) == 1
    while isinstance(deep, list):  # Python 3.11 frees a nest of lists recursively
        deep = deep[0]


def test_a_list_of_ten_thousand_tensors_costs_little() -> None:
    """The first are listed, the rest is said to be there; the model gets all of them."""
    many = [torch.ones(1)] * 10_000
    begun = time.perf_counter()
    (call,) = tracecall.trace(Same(), many).calls
    assert time.perf_counter() - begun < 1.0
    assert len(call.inputs) <= 70
    assert call.inputs[-1].where == "x"
    assert "more" in str(call.inputs[-1].value)


def test_a_wide_nest_costs_little() -> None:
    """A list of lists of lists is no reason to look at a million leaves."""
    wide: Any = [X]
    for _ in range(12):
        wide = [wide] * 10
    begun = time.perf_counter()
    (call,) = tracecall.trace(Same(), wide).calls
    assert time.perf_counter() - begun < 1.0
    assert len(call.inputs) <= 70


# tensors


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls the second a beta, once in a process
def test_a_sparse_tensor_says_its_layout() -> None:
    """COO and CSR, with their full shape."""
    assert spec_of(X.to_sparse()) == TensorSpec((2, 3), "float32", "cpu", layout="sparse_coo")
    assert spec_of(X.to_sparse_csr()) == TensorSpec((2, 3), "float32", "cpu", layout="sparse_csr")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_a_quantized_tensor_says_so() -> None:
    """With its own dtype."""
    quantized = torch.quantize_per_tensor(X, 0.1, 0, torch.quint8)
    assert spec_of(quantized) == TensorSpec((2, 3), "quint8", "cpu", layout="quantized")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_nested_tensor_says_which_size_is_ragged() -> None:
    """The strided layout has a row of unequal lengths; the jagged one a symbol for it."""
    rows = [torch.ones(2, 4), torch.ones(3, 4)]
    strided = spec_of(torch.nested.nested_tensor(rows))
    jagged = spec_of(torch.nested.nested_tensor(rows, layout=torch.jagged))
    assert (strided.shape, strided.layout) == ((2, "ragged", 4), "nested")
    assert (jagged.shape[0], jagged.shape[2], jagged.layout) == (2, 4, "jagged")
    assert isinstance(jagged.shape[1], str)


def test_a_tensor_on_the_meta_device_has_a_shape_and_no_numbers() -> None:
    """A whole model runs there without memory."""
    model = nn.Linear(3, 4, device="meta")
    trace = tracecall.trace(model, torch.ones(2, 3, device="meta"))
    assert trace.calls[0].output[0].value == TensorSpec((2, 4), "float32", "meta", requires_grad=True)
    assert trace.prediction[0].values == []


def test_a_fake_tensor_is_named_as_such() -> None:
    """FakeTensorMode's tensors keep their pretended device."""
    with FakeTensorMode():
        fake = torch.ones(2, 3)
        spec = spec_of(fake)
    assert (spec.shape, spec.device, spec.type) == ((2, 3), "cpu", "FakeTensor")


class Tagged(torch.Tensor):
    """A subclass with torch's default `__torch_function__`."""


def test_a_tensor_subclass_is_named() -> None:
    """The subclass stays the subclass, and is known by its name."""
    spec = spec_of(X.as_subclass(Tagged))
    assert (spec.shape, spec.type) == ((2, 3), "Tagged")


def test_a_subclass_sees_no_call_of_the_tracers() -> None:
    """A `__torch_function__` of the user's runs as often as untraced."""
    seen: list[str] = []

    class Counting(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(getattr(func, "__name__", str(func)))
            return super().__torch_function__(func, types, args, kwargs or {})

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.act(x) + 1
            y.mul_(2)
            return y

    model, x = Model(), X.clone().as_subclass(Counting)
    seen.clear()
    model(x)
    untraced = list(seen)
    seen.clear()
    with tracecall.tracing(model):
        model(x)
    assert seen == untraced


def test_a_strided_view_says_its_stride() -> None:
    """Only where the tensor is not contiguous."""
    assert spec_of(X).stride is None
    assert spec_of(X.t()).stride == (1, 3)


def test_an_input_is_the_same_object_for_the_model() -> None:
    """Nothing is copied or wrapped on the way in or out."""
    value = {"a": [X, object()]}
    kept = copy.copy(value)
    model = Same()
    with tracecall.tracing(model):
        result = model(value)
    assert result is value
    assert result["a"] is kept["a"]
    assert result["a"][0] is X
