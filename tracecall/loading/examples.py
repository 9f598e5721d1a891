"""The input of a model for which none was typed: its own example, an ecosystem's convention, or what its layers tell.

Conventions: `example_input()` in the model's file; Lightning's `example_input_array`
(https://lightning.ai/docs/pytorch/stable/common/lightning_module.html); transformers' `dummy_inputs`, `main_input_name`
and `config.image_size`; timm's `default_cfg["input_size"]` and `pretrained_cfg`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tracecall.loading.places import shown
from tracecall.loading.usercode import user_code

_SPATIAL = 224  # height and width that image models are most often made for
_STEPS = 16  # elements of a sequence, where any number will do


def own_example(module: ModuleType, folder: Path | None) -> tuple[str, Any] | None:
    """Return what the file's `example_input()` gives, None where the file has none."""
    example = getattr(module, "example_input", None)
    if example is None:
        return None
    where = f"example_input() in {shown(getattr(module, '__file__', None) or module.__name__)}"
    if callable(example):
        with user_code(where, folder):
            example = example()
    return where, example


def conventions(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield what the model's own attributes say about its input: where from, then a tensor, tuple, dict or Shape."""
    name, main = type(model).__name__, _attribute(model, "main_input_name")
    for attribute in ("example_input_array", "dummy_inputs"):
        value = _attribute(model, attribute)
        # transformers gives every model token ids as dummy_inputs, also those that take images.
        if value is not None and not (isinstance(value, Mapping) and isinstance(main, str) and main not in value):
            yield f"{name}.{attribute}", value
    size = _image_size(_attribute(model, "config"))
    if size is not None and main == "pixel_values":
        yield f"{name}.config.image_size", {"pixel_values": Shape(size)}
    for attribute in ("default_cfg", "pretrained_cfg"):
        size = _sizes(_entry(_attribute(model, attribute), "input_size"))
        if size is not None and len(size) == 3:
            yield f'{name}.{attribute}["input_size"]', Shape((1, *size))


class Shape(tuple[int, ...]):
    """The sizes of a tensor that is still to be made."""


def first_layer(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Return path and module of the first one with parameters of its own, in the order of registration.

    A root with submodules is passed over: its own parameters (a class token, positions) do not meet the input first.
    """
    for path, module in model.named_modules():
        own = next(module.parameters(recurse=False), None)
        if own is not None and (path or next(module.children(), None) is None):
            return path, module
    return None


def inferred(model: nn.Module) -> tuple[Shape, bool, str] | None:
    """Return an input's sizes, whether it holds ids, and the layer that tells; None where no layer is certain.

    The feature or channel count is certain; what the layer leaves open (height, length) is chosen and said.
    """
    first = first_layer(model)
    if first is None:
        return None
    path, layer = first
    told = _told(layer)
    if told is None or not all(told[0]):  # a lazy module has 0 features until it has run
        return None
    sizes, what, chosen = told
    choice = f"; {chosen} chosen" if chosen else ""
    label = f"{path or 'the root'} ({type(layer).__name__}, {what}{choice})"
    return Shape(sizes), is_embedding(layer), label


def is_embedding(layer: nn.Module | None) -> bool:
    """Whether the layer looks rows up by integer ids."""
    return isinstance(layer, nn.Embedding | nn.EmbeddingBag)


def _told(layer: nn.Module) -> tuple[tuple[int, ...], str, str] | None:
    if isinstance(layer, nn.Linear):
        return (1, layer.in_features), f"{layer.in_features} features", ""
    if isinstance(layer, nn.Conv1d):
        return (1, layer.in_channels, _SPATIAL), f"{layer.in_channels} channels", f"length {_SPATIAL}"
    if isinstance(layer, nn.Conv2d):
        return (1, layer.in_channels, _SPATIAL, _SPATIAL), f"{layer.in_channels} channels", f"{_SPATIAL} x {_SPATIAL}"
    if isinstance(layer, nn.Conv3d):
        sizes = (_STEPS, _SPATIAL // 2, _SPATIAL // 2)
        return (1, layer.in_channels, *sizes), f"{layer.in_channels} channels", " x ".join(map(str, sizes))
    if isinstance(layer, nn.RNNBase):
        batch_and_steps = (1, _STEPS) if layer.batch_first else (_STEPS, 1)
        return (*batch_and_steps, layer.input_size), f"{layer.input_size} features", f"{_STEPS} steps"
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return (1, _STEPS), f"{layer.num_embeddings} ids", f"{_STEPS} ids in a row"
    return None


def _attribute(model: nn.Module, name: str) -> Any:
    try:
        return getattr(model, name, None)
    except Exception:  # a property of the user's or of an ecosystem: it may need what is not there
        return None


def _image_size(config: Any) -> tuple[int, ...] | None:
    channels, size = getattr(config, "num_channels", 3), getattr(config, "image_size", None)
    both = (size, size) if isinstance(size, int) else size
    return _sizes((1, channels, *both)) if isinstance(both, tuple | list) and len(both) == 2 else None


def _entry(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def _sizes(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, tuple | list) or not all(isinstance(size, int) and size > 0 for size in value):
        return None
    return tuple(value) if len(value) >= 3 else None
