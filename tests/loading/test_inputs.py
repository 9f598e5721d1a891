"""The inputs: typed, from an example, or inferred; and what is said where none can be."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from tracecall.errors import TracecallError
from tracecall.loading.inputs import Inputs, make_inputs
from tracecall.loading.specs import parse_input


class Net(nn.Module):
    """Any submodules, in the order given; forward is the subclass's."""

    def __init__(self, *layers: nn.Module, **attributes: Any) -> None:
        super().__init__()
        for place, layer in enumerate(layers):
            self.add_module(f"layer{place}", layer)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        raise AssertionError("no input is found by running the model")


class Two(Net):
    def forward(self, x, mask, scale=1.0):
        raise AssertionError


class Loose(Net):
    def forward(self, *args, **kwargs):
        raise AssertionError


class Optional(Net):
    def forward(self, pixel_values=None, labels=None, **kwargs):
        raise AssertionError


def inputs(model: nn.Module, *texts: str, example: Any = None, **options: Any) -> Inputs:
    module = None
    if example is not None:
        module = ModuleType("net")
        module.__file__ = "/x/net.py"
        module.example_input = example  # type: ignore[attr-defined]
    return make_inputs(model, [parse_input(text) for text in texts], module, **options)


def fails(model: nn.Module, message: str, *texts: str, **options: Any) -> None:
    with pytest.raises(TracecallError, match=re.escape(message)) as caught:
        inputs(model, *texts, **options)
    assert "\n" not in str(caught.value)


def test_typed_inputs_by_position_and_name():
    """In the order typed; floating ones have the model's dtype unless one is typed."""
    made = inputs(Two(nn.Linear(3, 4).double()), "2,3", "mask=2:bool", "scale=1:float32")
    assert [(x.shape, x.dtype) for x in made.args] == [((2, 3), torch.float64)]
    assert {name: x.dtype for name, x in made.kwargs.items()} == {"mask": torch.bool, "scale": torch.float32}
    assert made.notes == ()


@pytest.mark.parametrize("name", ["int64", "uint8", "int8", "uint16", "bool", "float16", "complex32", "float8_e5m2"])
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_every_kind_of_dtype_can_be_made(name):
    """Random numbers of any dtype."""
    made = inputs(Net(), f"4,4:{name}").args[0]
    assert (str(made.dtype), made.shape) == (f"torch.{name}", (4, 4))


def test_ids_are_valid_in_every_embedding():
    """The smallest embedding bounds them; one that comes first makes the input int64, and a note says so."""
    made = inputs(Net(nn.Embedding(1000, 4), nn.Embedding(7, 4)), "50,50")
    assert made.args[0].dtype == torch.int64
    assert made.args[0].unique().tolist() == list(range(7))
    assert made.notes == ("input x is int64, ids from 0 to 6, as the first layer is layer0 (Embedding)",)
    assert inputs(Net(nn.Embedding(1000, 4)), "50:int8").args[0].min() >= 0
    assert set(inputs(Net(nn.Linear(3, 4)), "99:int64").args[0].tolist()) == {0, 1}


def test_only_the_first_parameter_is_ids():
    """Also by name; a mask stays floating."""
    made = inputs(Two(nn.Embedding(9, 4)), "mask=1,4", "x=1,4")
    assert (made.kwargs["x"].dtype, made.kwargs["mask"].dtype) == (torch.int64, torch.float32)


def test_typed_inputs_that_forward_does_not_take():
    """Each error shows forward's signature and what to type."""
    net, two = Net(nn.Linear(3, 4)), Two()
    fails(net, "Net.forward(x) has no parameter 'y'; type --input x=1,16 with your sizes", "y=1")
    fails(net, "2 --input were given by position, and Net.forward(x) takes 1; type --input 1,3,28,28", "1", "2")
    fails(net, "--input x=… was given twice; type it once", "x=1", "x=2")
    fails(
        two,
        "Two.forward(x, mask, scale=1.0) cannot be called with these inputs: missing a required argument: 'mask'; type --input x=1,16 --input mask=1,16 with your sizes",
        "1,3",
    )
    fails(two, "multiple values for argument 'x'", "1,3", "x=1,3", "mask=1")
    fails(net, "--input '999999999999,999999999999' cannot be made: ", "999999999999,999999999999")
    made = inputs(Loose(), "1", "2", "anything=3")
    assert (len(made.args), list(made.kwargs)) == (2, ["anything"])


def test_the_files_example():
    """A tensor, a tuple, a dict, or anything else as the one argument; called, or as it stands; no note."""
    x = torch.zeros(2)
    assert inputs(Net(), example=lambda: x) == Inputs((x,))
    assert inputs(Two(), example=(x, x)) == Inputs((x, x))
    assert inputs(Two(), example={"x": x, "mask": x}) == Inputs((), {"x": x, "mask": x})
    assert inputs(Net(), example=lambda: [x]) == Inputs(([x],))


def test_an_example_may_not_fit_a_model_with_arguments():
    """Where the user chose the sizes, it is said where the input came from."""
    made = inputs(Net(), example=lambda: 1, arguments=True)
    assert made.notes == ("example input from example_input() in /x/net.py",)


def test_an_example_that_fails_or_does_not_fit():
    """One line, with the signature."""
    fails(
        Two(),
        "example_input() in /x/net.py does not fit Two.forward(x, mask, scale=1.0): missing a required argument",
        example=lambda: 1,
    )
    fails(Net(), "example_input() in /x/net.py failed: ", example=lambda: 1 / 0)


def test_typed_inputs_go_before_every_example():
    """What is typed is what is meant."""
    assert inputs(Net(example_input_array=torch.zeros(1)), "7", example=lambda: 1).args[0].shape == (7,)


def test_the_ecosystems_conventions():
    """Lightning, transformers, timm; the note says which."""
    x = torch.zeros(2)
    assert inputs(Two(example_input_array=(x, x))) == Inputs(
        (x, x), {}, ("example input from Two.example_input_array",)
    )
    assert inputs(Net(dummy_inputs={"x": x})) == Inputs((), {"x": x}, ("example input from Net.dummy_inputs",))
    made = inputs(Net(default_cfg={"input_size": (3, 8, 8)}))
    assert made.args[0].shape == (1, 3, 8, 8)
    assert made.notes == ('example input from Net.default_cfg["input_size"]: float32[1, 3, 8, 8]',)


def test_a_convention_that_does_not_hold_is_passed_over():
    """None, an error in a property, an input that forward does not take: the next way is tried."""

    class Broken(Net):
        @property
        def dummy_inputs(self):
            raise RuntimeError

    assert inputs(Broken(nn.Linear(3, 4), example_input_array=None)).args[0].shape == (1, 3)
    assert inputs(Net(nn.Linear(3, 4), dummy_inputs={"ids": 1}, default_cfg={})).args[0].shape == (1, 3)


def test_a_transformers_model_for_images():
    """Its dummy_inputs are token ids all the same; its config says the size."""
    config = type("Config", (), {"image_size": 16, "num_channels": 1})()
    model = Optional(dummy_inputs={"input_ids": torch.ones(1)}, main_input_name="pixel_values", config=config)
    assert inputs(model).kwargs["pixel_values"].shape == (1, 1, 16, 16)


@pytest.mark.parametrize(
    ("layer", "note"),
    [
        (nn.Linear(10, 5), "layer0 (Linear, 10 features): float32[1, 10]"),
        (nn.Conv1d(4, 5, 3), "layer0 (Conv1d, 4 channels; length 224 chosen): float32[1, 4, 224]"),
        (nn.Conv2d(3, 5, 3), "layer0 (Conv2d, 3 channels; 224 x 224 chosen): float32[1, 3, 224, 224]"),
        (nn.Conv3d(3, 5, 3), "layer0 (Conv3d, 3 channels; 16 x 112 x 112 chosen): float32[1, 3, 16, 112, 112]"),
        (nn.GRU(6, 5, batch_first=True), "layer0 (GRU, 6 features; 16 steps chosen): float32[1, 16, 6]"),
        (nn.Embedding(9, 5), "layer0 (Embedding, 9 ids; 16 ids in a row chosen): int64[1, 16]"),
    ],
)
def test_inferred_from_the_first_layer(layer, note):
    """What the layer makes certain is used; what is chosen is said."""
    assert inputs(Net(layer, nn.Linear(1, 1))).notes == (f"input inferred from {note}",)


def test_the_roots_own_parameters_are_passed_over():
    """A class token does not meet the input first."""
    assert inputs(Net(nn.Linear(3, 4), token=nn.Parameter(torch.zeros(9)))).args[0].shape == (1, 3)
    assert inputs(nn.Linear(3, 4)).notes == ("input inferred from the root (Linear, 3 features): float32[1, 3]",)


def test_nothing_is_guessed():
    """A layer that does not tell, or several inputs: the error shows the option to type."""
    fails(
        Net(nn.LayerNorm(3)),
        "Net.forward(x) needs an input, and its first layer does not tell one: type --input 1,3,28,28 with your sizes, :int64 after them for ids, or add example_input() to the model's file",
    )
    fails(Net(nn.LazyLinear(3)), "its first layer does not tell one")
    fails(
        Two(nn.Linear(3, 4)),
        "Two.forward(x, mask, scale=1.0) needs an input, and which of its inputs is which is not certain: type --input x=1,16 --input mask=1,16 with your sizes",
    )
    fails(nn.ModuleList(), "ModuleList defines no forward and cannot be called", "1,2")


def test_the_same_seed_makes_the_same_input():
    """Whatever the model: two models can be compared on one input."""
    one, two = (inputs(model, "4", seed=3).args[0] for model in (Net(), Net(nn.Linear(9, 9))))
    assert torch.equal(one, two)
    assert not torch.equal(one, inputs(Net(), "4", seed=4).args[0])


def test_an_example_is_moved():
    """Every tensor to the device, floating ones to --dtype, wherever they are; a typed dtype stays."""
    packed = nn.utils.rnn.pack_sequence([torch.zeros(2, 3)])
    made = inputs(
        Net(),
        example=lambda: {"x": [torch.zeros(2), {"ids": torch.ones(2, dtype=torch.int64)}, packed, "text"]},
        device=torch.device("meta"),
        dtype=torch.float64,
    )
    x, ids, moved, text = made.kwargs["x"]
    assert (x.device.type, x.dtype, ids["ids"].dtype, moved.data.dtype, text) == (
        "meta",
        torch.float64,
        torch.int64,
        torch.float64,
        "text",
    )
    assert inputs(Net(), "2:float32", dtype=torch.bfloat16).args[0].dtype == torch.float32
