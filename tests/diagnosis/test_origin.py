"""Where a number came from: back through views, transposes and element-wise calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.diagnosis.broken import Model
from tests.diagnosis.test_causes import failed
from tracecall.diagnosis.failure import Failure, failure_of, first
from tracecall.diagnosis.origin import Origin, elements, origin, root_input, source_dims


def failure(run: Callable[..., Any], *shape: int, **modules: nn.Module) -> Failure:
    """A failed run of a model whose last Linear, `fc`, takes no features that there are."""
    model = Model(run, fc=nn.Linear(999, 1), **modules)
    found = failure_of(failed(model, torch.randn(*shape)))
    assert found is not None
    return found


def features(run: Callable[..., Any], *shape: int, **modules: nn.Module) -> Origin:
    """The origin of the features that `fc` was given."""
    found = failure(run, *shape, **modules)
    value = first(found.module)
    assert found.module.path == "fc"
    assert value is not None
    told = origin(found, found.module, value, -1)
    assert told is not None
    return told


def test_flattened_sizes_are_the_factors() -> None:
    """A flatten's last size is the product of the sizes that it joined."""
    told = features(lambda self, x: self.fc(self.pool(x).flatten(1)), 2, 3, 8, 8, pool=nn.MaxPool2d(2))
    assert (told.number, told.factors, told.label) == (48, (3, 4, 4), "pool")
    assert told.product == "48 = 3·4·4"


def test_elementwise_calls_are_passed() -> None:
    """ReLU and dropout make no size: what is before them did, whether they are modules or operations."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = torch.relu(self.act(self.conv(x)))
        return self.fc(self.drop(x.view(x.size(0), -1)))

    told = features(run, 2, 3, 4, 4, conv=nn.Conv2d(3, 5, 1), act=nn.ReLU(), drop=nn.Dropout())
    assert told.text.startswith("80 = 5·4·4 from conv, flattened at ")


def test_sizes_of_one_say_nothing() -> None:
    """A pooled image of 1 × 1 adds no factors, and nothing was flattened that matters."""
    told = features(lambda self, x: self.fc(self.pool(x).flatten(1)), 2, 3, 8, 8, pool=nn.AdaptiveAvgPool2d(1))
    assert told.text == "3 from pool"


def test_transposes_are_followed() -> None:
    """The last dimension after a transpose is another one before it."""
    told = features(lambda self, x: self.fc(x.flatten(2).transpose(1, 2).transpose(1, 2)), 2, 3, 4, 5)
    assert (told.factors, told.label) == ((4, 5), "input x")


def test_the_last_submodule_of_a_sequential_is_the_maker() -> None:
    """What a Sequential returned is its last submodule's."""
    told = features(lambda self, x: self.fc(self.body(x)), 2, 4, body=nn.Sequential(nn.ReLU(), nn.Linear(4, 6)))
    assert told.text == "6 from body.1"


def test_a_size_of_the_input_is_told_with_its_dimension() -> None:
    """A number that the caller gave says which input has it, and where."""
    told = features(lambda self, x: self.fc(torch.relu(x)), 2, 7)
    assert (told.text, told.root_input) == ("7 from input x", ("x", 1))


def test_sizes_that_a_view_mixes_end_the_way_back() -> None:
    """A size that is no product of whole sizes was made by that view."""
    told = features(lambda self, x: self.fc(x.view(3, 8)), 4, 6)
    assert (told.number, told.factors, told.label) == (8, (8,), "x.view")


def test_root_input_is_no_reshaped_one() -> None:
    """Only an input that arrives in its own shape can be given another size instead."""
    kept = failure(lambda self, x: self.fc(torch.relu(x)), 2, 7)
    reshaped = failure(lambda self, x: self.fc(x.flatten(1)), 2, 7, 3)
    for found, name in ((kept, "x"), (reshaped, None)):
        value = first(found.module)
        assert value is not None
        root = root_input(found, found.module, value)
        assert (root and root.where) == name


def test_elements_are_factored_by_what_made_them() -> None:
    """A view that fails is told about all its values, as the sizes of their maker."""
    found = failure(lambda self, x: self.conv(x).relu().flatten(2).view(7, 7), 2, 3, 4, 4, conv=nn.Conv2d(3, 5, 1))
    value = first(found.call)
    assert value is not None
    told = elements(found, found.call, value)
    assert (told.number, told.factors, told.label) == (160, (2, 5, 4, 4), "conv")


@pytest.mark.parametrize(
    ("before", "after", "dim", "dims"),
    [
        ([1, 32, 8, 8], [1, 2048], 1, [1, 2, 3]),
        ([1, 32, 8, 8], [1, 2048], 0, [0]),
        ([4, 32, 8, 8], [4, 32, 64], 2, [2, 3]),
        ([4, 6], [24], 0, [0, 1]),
        ([4, 6], [4, 6, 1], 1, [1]),
        ([4, 6, 1, 1], [4, 6], 1, [1, 2, 3]),
        ([4, 6], [3, 8], 1, None),
        ([4, 6], [4, 2, 3], 2, None),
        ([0, 6], [0], 0, [0, 1]),
        ([5], [0, 2], 0, None),
        ([2, 3], [2, 3], 1, [1]),
        ([6], [2, 3], 0, None),
    ],
)
def test_source_dims(before: list[int], after: list[int], dim: int, dims: list[int] | None) -> None:
    """A reshape joins neighbouring dimensions, splits them, or mixes them."""
    assert source_dims(before, after, dim) == dims
