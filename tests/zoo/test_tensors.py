"""What a tensor is, wherever that changes: by an operation, or by an assignment that no operation shows.

In inference mode, what a tensor was when it was made stands for what it is when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import tracecall
from tests.zoo.drawing import only
from tracecall.calls import TensorSpec, Trace
from tracecall.recording.tensor_specs import spec

X = torch.ones(1, 4)


class Between(nn.Module):
    """Does something to what its first layer returns."""

    def __init__(self, change: Callable[[torch.Tensor], object], width: int = 4) -> None:
        super().__init__()
        self.first, self.second, self.change = nn.Linear(4, 4), nn.Linear(width, 2), change

    def forward(self, x: torch.Tensor) -> Any:
        """Change it between the two."""
        y = self.first(x)
        self.change(y)
        return self.second(y)


def assign_data(y: torch.Tensor) -> None:
    """Another size, and no operation writes it."""
    y.data = y.data[:, :2]


def assign_requires_grad(y: torch.Tensor) -> None:
    """Likewise."""
    y.requires_grad = True


def second_input(trace: Trace) -> TensorSpec:
    """What the last layer took."""
    value = only(trace, "second").inputs[0].value
    assert isinstance(value, TensorSpec)
    return value


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_tensor_whose_data_is_assigned_has_its_new_shape(mode: Any) -> None:
    """`y.data = …` is seen by no hook, and in inference mode alone by a dispatch mode."""
    with mode():
        assert second_input(tracecall.trace(Between(assign_data, 2), X)).shape == (1, 2)


@pytest.mark.parametrize("change", [assign_requires_grad, torch.Tensor.requires_grad_])
def test_a_tensor_that_is_made_to_require_gradients_shows_it(change: Any) -> None:
    """From the next call on."""
    with torch.no_grad():
        assert second_input(tracecall.trace(Between(change), X)).requires_grad


def test_what_a_hook_changes_of_a_tensor_shows_in_the_next_call() -> None:
    """The model's own code, here torch's, says nothing of it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    def watch(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        output.requires_grad_()

    model[0].register_forward_hook(watch)
    with torch.no_grad():
        trace = tracecall.trace(model, X)
    taken = only(trace, "1").inputs[0].value
    assert isinstance(taken, TensorSpec) and taken.requires_grad


def test_an_activation_in_place_is_no_operation_of_its_own_and_hands_its_tensor_on() -> None:
    """nn.ReLU(inplace=True) of torch's: nobody else sees what it writes."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    with torch.inference_mode():
        trace = tracecall.trace(model, X)
    assert only(trace, "1").children == []
    assert only(trace, "2").inputs[0].source == "1"


class Seen(nn.Module):
    """A view of what an activation in place changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> Any:
        """Use the view when it was changed."""
        y = self.first(x)
        part = y[:, :2]
        self.relu(y)
        return self.second(part)


def test_a_view_of_what_was_written_in_place_came_from_the_write() -> None:
    """There the operation inside the activation is recorded: it writes what others see."""
    with torch.inference_mode():
        trace = tracecall.trace(Seen(), X)
    (written,) = only(trace, "relu").children
    assert only(trace, "second").inputs[0].source == f"relu: {written.name}"


class Weight(torch.Tensor):
    """A tensor subclass, as quantized weights are."""


class Borrowed(nn.Module):
    """Reads another module's parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 4)
        self.head.weight = nn.Parameter(self.head.weight.detach().as_subclass(Weight))  # type: ignore[no-untyped-call]

    def forward(self, x: torch.Tensor) -> Any:
        """Without calling it."""
        return torch.nn.functional.linear(self.first(x), self.head.weight)


def test_a_parameter_of_a_tensor_subclass_is_read_as_any_other() -> None:
    """Its type is not nn.Parameter."""
    trace = tracecall.trace(Borrowed(), X)
    assert trace.modules["head"].state == "weights-used"


class Positions(nn.Module):
    """Hands a view of a parameter on."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.second = nn.Parameter(torch.ones(2, 4)), nn.Identity()

    def forward(self, x: torch.Tensor) -> Any:
        """As vision transformers do."""
        return self.second(self.positions[:1]) + x


def test_a_view_of_a_parameter_requires_gradients_though_none_are_recorded() -> None:
    """torch sets that when the operation that made the view has ended."""
    with torch.no_grad():
        assert second_input(tracecall.trace(Positions(), X)).requires_grad


class Decorated(nn.Module):
    """Assigns to `.data` in a forward that is decorated."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Identity()

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> Any:
        """Between two uses."""
        y = x + 1
        y.data = torch.ones(3, 4)
        return self.second(y)


def test_data_that_is_assigned_is_heard_of_wherever_it_is() -> None:
    """Here no function of the model's shows it: what a decorator returns has other code."""
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert second_input(tracecall.trace(Decorated(), X)).shape == (3, 4)


class Scripted(nn.Module):
    """Changes a shape where nobody can look."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """In place."""
        x.unsqueeze_(0)
        return x + 1


class AroundScript(nn.Module):
    """Uses what a ScriptModule changed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.jit.script(Scripted()), nn.Identity()  # type: ignore[no-untyped-call]

    def forward(self, x: torch.Tensor) -> Any:
        """Its argument, not its result."""
        y = x + 1
        self.first(y)
        return self.second(y)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
def test_what_an_opaque_call_changes_of_its_argument_shows() -> None:
    """After it, every tensor is looked at again."""
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert second_input(tracecall.trace(AroundScript(), X)).shape == (1, 1, 4)


class Bare(nn.Module):
    """Calls a module's `_call_impl`, without torch's wrapper around it."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(4, 4)

    def helped(self, x: torch.Tensor) -> Any:
        """In a function of its own."""
        return self.second._call_impl(x)

    def forward(self, x: torch.Tensor) -> Any:
        """The usual call first."""
        return self.helped(self.second(x))


def test_a_call_without_torchs_wrapper_is_where_it_was_written() -> None:
    """Not where its caller was called."""
    trace = tracecall.trace(Bare(), X)
    sites = [call.site.text for call in trace.find("second") if call.site is not None]
    assert sites == ["self.second(x)", "self.second._call_impl(x)"]


def test_a_dropout_in_place_keeps_all_its_operations() -> None:
    """What it makes itself, the mask, is no tensor that it was given."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.5, inplace=True))
    with torch.no_grad():
        (dropout,) = only(tracecall.trace(model, torch.ones(2, 4)), "1").children
    assert set(dropout.operations or ()) == {"aten.bernoulli_", "aten.div_", "aten.mul_"}


class Asked(TorchFunctionMode):
    """Notes every function that is called on tensors, attributes among them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.functions: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.functions.append(getattr(func, "__qualname__", repr(func)))
        return func(*args, **(kwargs or {}))


def test_a_torch_function_mode_of_the_users_sees_what_it_sees_without_a_recording() -> None:
    """What the tracer asks of tensors is not for it; the tree has all calls."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with Asked() as alone:
        model(X)
    with Asked() as traced:
        trace = tracecall.trace(model, X)
    assert traced.functions == alone.functions
    assert [call.name for _, call in trace.walk() if call.kind == "module"] == ["Sequential", "0", "1", "2"]
    assert trace.findings == []


def test_a_recording_inside_a_recording_finds_what_it_finds_alone() -> None:
    """The hooks of one are no hooks of the user's for the other: no call stays open until the next begins."""
    model = Between(lambda y: torch.relu(y))
    alone = tracecall.trace(model, X)
    with tracecall.tracing(model) as outer:
        inner = tracecall.trace(model, X)
    assert inner.findings == outer.findings == alone.findings
    assert inner.calls == outer.calls == alone.calls


class Giving(nn.Module):
    """Returns one tensor after the other, all from the same line, through a module and through an operation."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        super().__init__()
        self.tensors, self.pick = tensors, Picking(tensors)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """For each tensor a call of `pick`, and an operation."""
        for i, tensor in enumerate(self.tensors):
            self.pick(i)
            torch.Tensor.expand_as(tensor, tensor)
        return x


class Picking(nn.Module):
    """Returns a tensor that it holds."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        super().__init__()
        self.tensors = tensors

    def forward(self, i: int) -> torch.Tensor:
        """The tensor at an index."""
        return self.tensors[i]


LIKE = torch.ones(2, 3, 4, 4)
UNLIKE = {
    "shape": torch.ones(2, 3, 4, 5),
    "dimensions": torch.ones(2, 3, 16),
    "strides": torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    "dtype": torch.ones(2, 3, 4, 4, dtype=torch.float64),
    "device": torch.ones(2, 3, 4, 4, device="meta"),
    "requires_grad": torch.ones(2, 3, 4, 4, requires_grad=True),
    "parameter": nn.Parameter(torch.ones(2, 3, 4, 4)),
}


@pytest.mark.parametrize("operations", ["none", "forward"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("fact", UNLIKE)
def test_calls_of_one_line_give_tensors_that_differ_in_one_fact(fact: str, mode: Any, operations: Any) -> None:
    """The tensor that a line gave last stands for the next one only where they are alike in everything that is shown."""
    tensors = [LIKE, LIKE.clone(), UNLIKE[fact], LIKE, UNLIKE[fact], UNLIKE[fact], LIKE]
    with mode():
        trace = tracecall.measure(Giving(tensors), (X,), operations=operations, repeat=0)
    given = [one.output[0].value for one in trace.calls[0].children if one.kind == "module"]
    assert given == [spec(tensor) for tensor in tensors]
    if operations == "forward":
        views = [one.output[0].value for one in trace.calls[0].children if one.kind == "operation"]
        assert [(one.shape, one.stride, one.dtype, one.device) for one in views if isinstance(one, TensorSpec)] == [
            (one.shape, one.stride, one.dtype, one.device) for one in map(spec, tensors)
        ]


ODD: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sparse_coo": torch.Tensor.to_sparse,
    "sparse_csr": torch.Tensor.to_sparse_csr,
    "sparse_bsr": lambda x: x.to_sparse_bsr((2, 2)),
    "_mkldnn": torch.Tensor.to_mkldnn,
    "nested": lambda x: torch.nested.nested_tensor([x, x[:2]]),
    "quantized": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls some of them a prototype
@pytest.mark.parametrize("operations", ["none", "forward"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("layout", ODD)
def test_a_tensor_of_another_layout_between_dense_ones_shows_it(layout: str, mode: Any, operations: Any) -> None:
    """It lacks what dense ones have: strides, or even a shape."""
    dense = LIKE[0, 0].contiguous()
    model = Cycling([dense, ODD[layout](dense), dense])
    with mode():
        trace = tracecall.measure(model, (X,), operations=operations, repeat=0)
    given = [one.output[0].value for one in trace.calls[0].children if one.kind == "module"]
    assert [one.layout for one in given if isinstance(one, TensorSpec)] == [None, layout, None]


class Cycling(nn.Module):
    """Returns one tensor after the other from the same line, through a module."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        super().__init__()
        self.tensors, self.pick = tensors, Picking(tensors)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A call for each."""
        for i in range(len(self.tensors)):
            self.pick(i)
        return x


class Same(torch.autograd.Function):
    """Returns what it is given."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # as torch documents it
        """Nothing is computed: torch makes a view."""
        return x


def test_a_function_in_the_place_of_torchs_own_forward_keeps_its_operation() -> None:
    """Between `__call__` and the operation there is one frame, as in a forward of torch.nn's own."""
    model = nn.Sequential(nn.Identity())
    model[0].forward = Same.apply
    trace = tracecall.trace(model, X.clone().requires_grad_())
    assert [one.opaque for one in trace.calls[0].children[0].children] == ["autograd.Function"]


class Own(nn.Module):
    """Has a `__call__` of its own, which leaves torch's out."""

    def __call__(self, x: torch.Tensor) -> Any:
        """Torch's own part of it."""
        return self._call_impl(x)  # type: ignore[no-untyped-call]  # torch's

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add one."""
        return x + 1


class Mixed(nn.Module):
    """One line calls modules with and without a `__call__` of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.usual, self.own = nn.Identity(), Own()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The usual one first, so that the line is known."""
        for name in ("usual", "usual", "own", "usual", "own"):
            x = getattr(self, name)(x)
        return x


def test_a_line_that_calls_modules_in_two_ways_is_told_apart_each_time() -> None:
    """What the line called before says nothing of what it calls now."""
    trace = tracecall.trace(Mixed(), X)
    sites = [one.site.text if one.site else None for one in trace.calls[0].children]
    usual, own = "getattr(self, name)(x)", "self._call_impl(x)"
    assert sites == [usual, usual, own, usual, own]
