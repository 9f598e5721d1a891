"""What the model is called with: --input texts as tensors, else an example, else an input inferred from a layer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_map

from tracecall.errors import TracecallError
from tracecall.loading.devices import dtype_name, resolve_dtype
from tracecall.loading.examples import Shape, conventions, first_layer, inferred, is_embedding, own_example
from tracecall.loading.specs import InputSpec
from tracecall.loading.usercode import call_text, required, signature_of, user_code
from tracecall.symbolic.dims import SizedInput

_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Inputs:
    """The arguments of `model(*args, **kwargs)`, and what a reader must be told about them."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    examples: tuple[tuple[int, ...], ...] = ()  # of unmade tensors: shapes that the model is known to take


def make_inputs(
    model: nn.Module,
    specs: Sequence[InputSpec] = (),
    module: ModuleType | None = None,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    folder: Path | None = None,
    arguments: bool = False,
    unmade: bool = False,
    given: Inputs | None = None,
) -> Inputs:
    """Return the inputs on the device: from `specs`, else from `module`'s example_input(), conventions, or a layer.

    Made tensors get `dtype`, else the model's; an example's floating ones change only where `dtype` is given.
    `arguments` says that the model was built with arguments, which a file's example may not fit. With `unmade` tensors
    are SizedInputs, and those with names come with the shapes of an example, if there is one. `given` inputs are
    taken as they are.
    """
    if getattr(model.forward, "__func__", None) is nn.Module.forward:
        raise TracecallError(f"{type(model).__name__} defines no forward and cannot be called; add forward(self, x)")
    if given is not None:
        return given
    if unmade:
        return _unmade(model, specs, module, device, dtype, folder, arguments)
    maker = _Maker(model, dtype, torch.Generator().manual_seed(seed))
    if specs:
        return _moved(_typed(model, specs, maker), device, None)
    return _example(model, maker, module, device, dtype, folder, arguments)


def _example(
    model: nn.Module,
    maker: _Maker,
    module: ModuleType | None,
    device: torch.device | None,
    dtype: torch.dtype | None,
    folder: Path | None,
    arguments: bool,
) -> Inputs:
    """Inputs of which nothing was typed; `device` None leaves them where they are."""
    own = None if module is None else own_example(module, folder)
    if own is not None:
        where, example = own
        found = _as_inputs(example, maker, (f"example input from {where}",) if arguments else ())
        problem = _misfit(model, found)
        if problem is None:
            return _moved(found, device, dtype)
        raise TracecallError(f"{where} does not fit {_forward(model)}: {problem}; type {_to_type(model)}")
    for where, example in conventions(model):
        found = _as_inputs(example, maker, (f"example input from {where}",))
        if _misfit(model, found) is None:
            return _moved(found, device, dtype)
    return _moved(_inferred(model, maker), device, None)


def _unmade(
    model: nn.Module,
    specs: Sequence[InputSpec],
    module: ModuleType | None,
    device: torch.device | None,
    dtype: torch.dtype | None,
    folder: Path | None,
    arguments: bool,
) -> Inputs:
    """The same without a number: typed sizes as they are, an example's tensors by their shapes."""
    where = device or torch.device("cpu")
    maker = _Maker(model, dtype, torch.Generator(), unmade_on=where)
    found = _typed(model, specs, maker) if specs else Inputs(())
    if specs and not any(isinstance(size, str) for spec in specs for size in spec.shape):
        return found
    try:
        with torch.device("meta"):  # an example is asked for its shapes alone
            example = _example(model, maker, module, None, dtype, folder, arguments)
    except TracecallError:
        if not specs:
            raise
        return found

    def unmade(leaf: Any) -> Any:
        return SizedInput(tuple(leaf.shape), leaf.dtype, where) if isinstance(leaf, Tensor) else leaf

    if not specs:
        return Inputs(tree_map(unmade, example.args), tree_map(unmade, example.kwargs), example.notes)
    known, wanted = _by_parameter(model, example), _by_parameter(model, found)
    shapes = [getattr(known.get(name), "shape", ()) for name in wanted]
    return Inputs(found.args, found.kwargs, found.notes, tuple(tuple(shape) for shape in shapes))


def _by_parameter(model: nn.Module, found: Inputs) -> dict[str, Any]:
    """Arguments by the names of forward's parameters, positional ones first."""
    signature = signature_of(model.forward)
    names = [] if signature is None else list(signature.parameters)
    positional = {(names[i] if i < len(names) else f"args[{i}]"): one for i, one in enumerate(found.args)}
    return {**positional, **found.kwargs}


def _moved(found: Inputs, device: torch.device | None, dtype: torch.dtype | None) -> Inputs:
    def move(leaf: Any) -> Any:
        tensor = leaf.data if isinstance(leaf, PackedSequence) else leaf
        if isinstance(tensor, Tensor) and dtype is not None and tensor.is_floating_point():
            return leaf.to(device, dtype)
        return leaf.to(device) if callable(getattr(leaf, "to", None)) else leaf

    def moved(value: Any) -> Any:
        # A PackedSequence or a BatchEncoding knows best which of its tensors move.
        return tree_map(move, value, is_leaf=lambda leaf: callable(getattr(leaf, "to", None)))

    if device is None and dtype is None:
        return found
    with user_code(f"moving the input to {device}"):
        return Inputs(moved(found.args), moved(found.kwargs), found.notes)


class _Maker:
    """Makes tensors of random values: the same for the same seed, order and sizes, whatever the model's weights.

    With `unmade_on` they are SizedInputs on that device instead.
    """

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype | None,
        generator: torch.Generator,
        unmade_on: torch.device | None = None,
    ) -> None:
        self.unmade_on = unmade_on
        floating = (one.dtype for one in model.parameters() if one.is_floating_point())
        self.dtype = dtype or next(floating, torch.get_default_dtype())
        self.generator = generator
        sizes = [int(one.num_embeddings) for one in model.modules() if isinstance(one, nn.Embedding | nn.EmbeddingBag)]
        self.ids = min(sizes, default=2)  # every id below it is valid in every embedding of the model

    def make(self, shape: Sequence[int | str], dtype: torch.dtype) -> Any:
        if self.unmade_on is not None:
            return SizedInput(tuple(shape), dtype, self.unmade_on)
        return self._made([size for size in shape if isinstance(size, int)], dtype)

    def _made(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        if dtype.is_floating_point:
            return torch.randn(shape, generator=self.generator).to(dtype)
        if dtype.is_complex:
            return torch.randn(shape, generator=self.generator, dtype=torch.complex64).to(dtype)
        high = 2 if dtype == torch.bool else min(self.ids, torch.iinfo(dtype).max + 1)
        return torch.randint(high, shape, generator=self.generator).to(dtype)


def _typed(model: nn.Module, specs: Sequence[InputSpec], maker: _Maker) -> Inputs:
    signature = signature_of(model.forward)
    _check_names(model, signature, specs)
    first = next(iter(signature.parameters), None) if signature is not None else None
    layer = first_layer(model)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    notes: list[str] = []
    for spec in specs:
        is_first = (not args) if spec.name is None else spec.name == first
        dtype = maker.dtype if spec.dtype is None else resolve_dtype(spec.dtype)
        if spec.dtype is None and is_first and layer is not None and is_embedding(layer[1]):
            dtype = torch.int64
            notes.append(
                f"input {spec.name or first or 1} is int64, ids from 0 to {maker.ids - 1}, as the first layer is"
                f" {layer[0] or 'the root'} ({type(layer[1]).__name__})"
            )
        try:
            tensor = maker.make(spec.shape, dtype)
        except (RuntimeError, MemoryError) as error:
            reason = " ".join(str(error).split())[:200] or "not enough memory"
            raise TracecallError(f"--input {spec.text!r} cannot be made: {reason}; type smaller sizes") from error
        if spec.name is None:
            args.append(tensor)
        else:
            kwargs[spec.name] = tensor
    found = Inputs(tuple(args), kwargs, tuple(notes))
    problem = _misfit(model, found)
    if problem is not None:
        raise TracecallError(f"{_forward(model)} cannot be called with these inputs: {problem}; type {_to_type(model)}")
    return found


def _check_names(model: nn.Module, signature: inspect.Signature | None, specs: Sequence[InputSpec]) -> None:
    names = [spec.name for spec in specs if spec.name is not None]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise TracecallError(f"--input {twice}=… was given twice; type it once")
    if signature is None:
        return
    kinds = {one.kind for one in signature.parameters.values()}
    known = [one.name for one in signature.parameters.values() if one.kind not in _STARS]
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None and inspect.Parameter.VAR_KEYWORD not in kinds:
        close = get_close_matches(unknown, known, n=1) or known[:1]
        raise TracecallError(
            f"{_forward(model)} has no parameter {unknown!r}; type "
            + (f"--input {close[0]}=1,16 with your sizes" if close else "no --input")
        )
    positional = [
        one for one in signature.parameters.values() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    given = len(specs) - len(names)
    if given > len(positional) and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise TracecallError(
            f"{given} --input were given by position, and {_forward(model)} takes {len(positional)};"
            f" type {_to_type(model)}"
        )


def _as_inputs(example: Any, maker: _Maker, notes: tuple[str, ...]) -> Inputs:
    """Read the convention: a tuple is positional arguments, a mapping keyword arguments, anything else the only one."""
    if isinstance(example, Inputs):  # a saved program's own
        return example
    if isinstance(example, Shape):
        tensor = maker.make(example, maker.dtype)
        return Inputs((tensor,), {}, tuple(f"{note}: {_spec(tensor)}" for note in notes))
    if type(example) is tuple:
        return Inputs(example, {}, notes)
    if isinstance(example, Mapping) and all(isinstance(name, str) for name in example):
        made = {name: maker.make(one, maker.dtype) if isinstance(one, Shape) else one for name, one in example.items()}
        return Inputs((), made, notes)
    return Inputs((example,), {}, notes)


def _inferred(model: nn.Module, maker: _Maker) -> Inputs:
    signature = signature_of(model.forward)
    parameters = [] if signature is None else required(signature)
    if signature is not None and not signature.parameters:
        return Inputs(())
    guess = inferred(model)
    if len(parameters) != 1 or guess is None:
        why = "its first layer does not tell one" if guess is None else "which of its inputs is which is not certain"
        raise TracecallError(
            f"{_forward(model)} needs an input, and {why}: type {_to_type(model)}, or add example_input() to the"
            " model's file"
        )
    shape, ids, label = guess
    tensor = maker.make(shape, torch.int64 if ids else maker.dtype)
    only = parameters[0]
    note = (f"input inferred from {label}: {_spec(tensor)}",)
    return Inputs((), {only.name: tensor}, note) if only.kind is only.KEYWORD_ONLY else Inputs((tensor,), {}, note)


def _misfit(model: nn.Module, found: Inputs) -> str | None:
    signature = signature_of(model.forward)
    if signature is None:
        return None
    try:
        signature.bind(*found.args, **found.kwargs)
    except TypeError as error:
        return str(error)
    return None


def _forward(model: nn.Module) -> str:
    return call_text(f"{type(model).__name__}.forward", signature_of(model.forward))


def _to_type(model: nn.Module) -> str:
    signature = signature_of(model.forward)
    names = [] if signature is None else [one.name for one in required(signature)]
    if len(names) > 1:
        return " ".join(f"--input {name}=1,16" for name in names) + " with your sizes"
    return "--input 1,3,28,28 with your sizes, :int64 after them for ids"


def _spec(tensor: Tensor) -> str:
    return f"{dtype_name(tensor.dtype)}{list(tensor.shape)}"
