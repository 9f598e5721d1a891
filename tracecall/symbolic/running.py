"""One recorded run on fake tensors: no memory and no arithmetic, with sizes that are numbers or symbols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import sympy
import torch
from torch import nn
from torch._guards import GuardSource, Source
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils._pytree import tree_map

from tracecall.calls import Trace
from tracecall.recording.modes import suited
from tracecall.recording.open_calls import Thread
from tracecall.recording.operations import OperationMode
from tracecall.recording.recorder import Operations, Recorder
from tracecall.symbolic.dims import SizedInput, Sizes
from tracecall.symbolic.guards import Assumption, Guard, GuardedSizes


@dataclass
class Run:
    """What one run left. `error` is what ended it; the output's leaves are in the Trace's root call."""

    trace: Trace
    error: Exception | None = None
    guards: list[Guard] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # torch's symbols → the user's names
    assumed: list[Assumption] = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """What is run: a model, and arguments in which SizedInputs stand for tensors."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    operations: Operations = "forward"


def run(subject: Subject, sizes: Sizes, *, symbolic: bool) -> Run:
    """Run once with these sizes for the names; with `symbolic` they are only what the symbols are compared by."""
    asked = GuardedSizes()
    mode = FakeTensorMode(shape_env=asked, allow_non_fake_inputs=True)
    names: dict[str, str] = {}
    dims: dict[str, Any] = dict(sizes)
    for name, size in sizes.items() if symbolic else ():
        dims[name] = _symbol(asked, name, size, names)
    error: Exception | None = None
    with _left_alone(subject.model), _quiet(), mode:
        _stand_in(subject.model, mode)
        recorder = _Recorder(subject.model, subject.operations)
        args, kwargs = tree_map(lambda leaf: _fake(leaf, dims, mode), (subject.args, subject.kwargs))
        asked.recorder = recorder
        recorder.start()
        try:
            subject.model(*args, **kwargs)
        except Exception as raised:
            error = raised
        finally:
            recorder.stop(error)
        if recorder.broken is not None:
            raise RuntimeError("tracecall could not record this run; the model itself ran on") from recorder.broken
        trace = recorder.trace()  # while the modules hold what they held in the run: tensors get their names by it
    asked.recorder = None
    return Run(trace, _bare(error), asked.found if symbolic else [], names, asked.assumed)


def _bare(error: Exception | None) -> Exception | None:
    """An exception without what its traceback holds on to."""
    return None if error is None else error.with_traceback(None)


def _symbol(env: ShapeEnv, name: str, size: int, names: dict[str, str]) -> Any:
    """A symbolic size; `names` learns torch's word for it. A size of 1 is no symbol: torch treats it apart."""
    source = _Named(name)
    symbol = env.create_symbol(size, source=source, dynamic_dim=DimDynamic.DYNAMIC, constraint_dim=None)
    if isinstance(symbol, sympy.Symbol):
        names[symbol.name] = name
    return env.create_symintnode(symbol, hint=size, source=source)


class _Named(Source):
    """Where torch believes a symbol to come from: it wants to know, and we do not ask."""

    def __init__(self, name: str) -> None:
        self.written = name

    @property
    def guard_source(self) -> GuardSource:
        """Of no variable."""
        return GuardSource.CONSTANT

    @property
    def _name_template(self) -> str:
        return self.written


def _fake(leaf: Any, dims: Mapping[str, Any], mode: FakeTensorMode) -> Any:
    if isinstance(leaf, SizedInput):
        shape = [dims[size] if isinstance(size, str) else size for size in leaf.shape]
        return torch.empty(shape, dtype=leaf.dtype, device=leaf.device)
    if isinstance(leaf, torch.Tensor):
        return mode.from_tensor(leaf, static_shapes=True)
    return leaf


class _Recorder(Recorder):
    """A Recorder that does not list what fake tensors ask torch about themselves."""

    def _enter_mode(self, thread: Thread) -> Any:
        mode = suited(_Mode)(self, thread)
        mode.__enter__()
        return mode


class _Mode(OperationMode):
    """Leaves out `prim` operations: where a fake tensor is, that is, its device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "namespace", "") == "prim":
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)


@contextmanager
def _left_alone(model: nn.Module) -> Iterator[None]:
    """Put back what a run assigned to the modules: fake tensors of one run cannot be used in the next.

    The weights themselves cannot change: nothing is computed.
    """
    modules = list(model.modules())
    before = [(module, dict(module.__dict__), [dict(module.__dict__[name]) for name in _HELD]) for module in modules]
    random_state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(random_state)
        for module, attributes, held in before:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for name, contents in zip(_HELD, held, strict=True):
                module.__dict__[name].clear()
                module.__dict__[name].update(contents)


def _stand_in(model: nn.Module, mode: FakeTensorMode) -> None:
    """Weights on the meta device as fake ones on the CPU: a forward makes tensors where it believes its weights to be.

    On the meta device not all of torch works in fake mode (torch.tensor does not).
    """
    known: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, one in held.items():
                if one is None or one.device.type != "meta":
                    continue
                if id(one) not in known:
                    fake = FakeTensor(mode, one.detach(), torch.device("cpu"))
                    is_parameter = isinstance(one, nn.Parameter)
                    known[id(one)] = nn.Parameter(fake, one.requires_grad) if is_parameter else fake
                held[name] = known[id(one)]  # type: ignore[assignment]  # each in the dictionary that it came from


_HELD = ("_parameters", "_buffers", "_modules")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence: torch logs what it could not evaluate; what matters of it is in the report."""
    import logging

    loggers = [logging.getLogger(name) for name in ("torch.fx.experimental", "torch._subclasses", "torch.utils._sympy")]
    loggers += [
        logging.getLogger("torch.fx.experimental.symbolic_shapes"),
        logging.getLogger("torch._subclasses.fake_tensor"),
    ]
    before = [one.disabled for one in loggers]
    for one in loggers:
        one.disabled = True
    try:
        yield
    finally:
        for one, disabled in zip(loggers, before, strict=True):
            one.disabled = disabled


def telling_sizes(model: nn.Module) -> list[int]:
    """The sizes that a model's modules are made for, each once: a dimension with a name may have to be one of them."""
    words = ("in_features", "in_channels", "input_size", "embed_dim", "embedding_dim", "num_features")
    found: dict[int, None] = {}
    for module in model.modules():
        found.update((size, None) for word in words if isinstance(size := getattr(module, word, None), int))
        shape = getattr(module, "normalized_shape", None)
        found.update((size, None) for size in (shape if isinstance(shape, Iterable) else ()) if isinstance(size, int))
        if len(found) > 8:
            break
    return list(found)[:8]


def made(
    args: tuple[Any, ...], kwargs: dict[str, Any], sizes: Sizes, *, at_most: int
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments with tensors of zeros for SizedInputs; None where they are more than `at_most` elements."""
    total = 0

    def make(leaf: Any) -> Any:
        nonlocal total
        if not isinstance(leaf, SizedInput):
            return leaf
        shape = [sizes[size] if isinstance(size, str) else size for size in leaf.shape]
        total += prod(shape)
        return torch.zeros(shape if total <= at_most else (), dtype=leaf.dtype, device=leaf.device)

    found: tuple[tuple[Any, ...], dict[str, Any]] = tree_map(make, (args, kwargs))
    return found if total <= at_most else None
