"""Where proposals are tried out: a copy of the model on fake tensors, or on real ones where fake tensors cannot tell.

Nothing of the user's is edited: the model and its inputs are copied.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tracecall.recording import values
from tracecall.recording.modules import ForwardNames
from tracecall.symbolic.edits import Attempt

SMALL_MODEL = 64 * 2**20  # bytes of parameters, buffers and inputs: what may be copied and run for real
SMALL_RUN = 10**7  # elements that the operations of a run give back

# Fake tensors compare sizes, not always dtypes: these take tensors of one dtype only.
_NORMS = frozenset({"native_batch_norm", "_native_batch_norm_legit", "native_layer_norm", "native_group_norm"})
_ONE_DTYPE = _NORMS | {
    *("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "linear", "matmul", "convolution"),
    *("index_add", "index_add_", "grid_sampler_2d", "grid_sampler_3d", "complex", "polar"),
}
_HALF = (torch.float16, torch.bfloat16)
# FakeTensorMode's own refusals say that it cannot know, not that the model is wrong.
_UNKNOWABLE = (
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "UnsupportedFakeTensorException",
    "UnsupportedOperatorException",
)


class OutOfTime(Exception):
    """A run on fake tensors took longer than there is time for."""


class OneDtype(TorchDispatchMode):
    """Refuses what the real operations refuse and fake tensors let pass; counts the elements of all outputs."""

    def __init__(self, until: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.elements = 0
        self._until = until

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__ if isinstance(func, torch._ops.OpOverload) else ""
        if name in _ONE_DTYPE:
            given = {tensor.dtype for tensor in values.tensors(args)}
            mixed = name in _NORMS and len(given) == 2 and torch.float32 in given and given & set(_HALF)
            if len(given) > 1 and not mixed:
                raise RuntimeError(f"{name} takes tensors of one dtype, got {sorted(map(str, given))}")
        out = func(*args, **(kwargs or {}))
        made = values.tensors(out)
        # only where tensors are made: an exception from a mere question (prim.device) ends the process in torch's C++
        if made and time.monotonic() > self._until:
            raise OutOfTime
        self.elements += sum(one.numel() for one in made)
        return out


class Ground:
    """A model and its inputs, and copies of them to be edited and run. With `fake` the copies hold no numbers."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], grad: bool, fake: bool) -> None:
        self.inputs = named_inputs(model, args, kwargs)
        self.fake = fake
        self.elements = 0  # that the operations of the last run on fake tensors gave back
        self.rows: int | None = None  # the first dimension of the first tensor that the last run returned
        self._given = (args, kwargs)
        self._grad = grad
        self._mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else None
        with self.active():
            self.model = self._copied(model, {})

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Tensors that are made inside are fake, if this ground is."""
        with self._mode or contextlib.nullcontext():
            yield

    def run(self, attempt: Attempt, until: float) -> Exception | None:
        """The whole forward as the attempt has it; returns what it raised."""
        watch = OneDtype(until) if self.fake else None
        try:
            with (
                self.active(),
                torch.set_grad_enabled(self._grad),
                watch or contextlib.nullcontext(),
                contextlib.ExitStack() as around,
            ):
                # a tensor that is given twice changes in both places
                memo = {id(self.inputs[name]): tensor for name, tensor in attempt.inputs.items()}
                args, kwargs = _without(attempt.left_out, *self._copied(self._given, memo))
                for context in attempt.around:
                    around.enter_context(context)
                first = next(iter(values.tensors(attempt.model(*args, **kwargs))), None)
                self.rows = first.shape[0] if first is not None and first.dim() else None
        except (Exception, SystemExit) as error:  # whatever the model raises, the proposal does not run
            return error if isinstance(error, Exception) else RuntimeError("the model ended the process")
        finally:
            self.elements = watch.elements if watch is not None else 0
        if watch is not None and time.monotonic() > until:
            return OutOfTime()  # the model may have caught it
        return None

    def _copied(self, what: Any, memo: dict[int, Any]) -> Any:
        with _CopyMode() if self._mode is None else FakeCopyMode(self._mode):
            return copy.deepcopy(what, memo)


class _CopyMode(TorchFunctionMode):
    """Copies tensors that have a history too, which deepcopy by itself refuses, without it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


def knows(error: Exception | None) -> bool:
    """Whether a run on fake tensors told anything: not if a size or a branch depends on the numbers."""
    return error is None or type(error).__name__ not in _UNKNOWABLE


def small(model: nn.Module, inputs: dict[str, torch.Tensor]) -> bool:
    """Whether the model can be copied and run again for real without anybody waiting.

    Only on the CPU: an index that a table does not have ends everything on an accelerator, not only that run.
    """
    held = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers(), *inputs.values())}
    if any(is_lazy(tensor) or tensor.device.type not in ("cpu", "meta") for tensor in held.values()):
        return False
    return sum(tensor.numel() * tensor.element_size() for tensor in held.values()) <= SMALL_MODEL


def named_inputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The input tensors by the names that a recording gives them: "x", "batch['ids']", "args[0]"."""
    names = ForwardNames(model.forward)
    known = len(names.names)
    given: list[tuple[str, Any]] = []
    for i, arg in enumerate(args):
        beyond = f"{names.starred}[{i - known}]" if names.starred else f"args[{i}]"
        given.append((names.names[i] if i < known else beyond, arg))
    for key, arg in kwargs.items():
        own = key in names.keywords or not names.starred_keywords
        given.append((key if own else f"{names.starred_keywords}.{key}", arg))
    return {
        name: leaf for where, arg in given for name, leaf in values.parts(where, arg) if isinstance(leaf, torch.Tensor)
    }


def _without(left_out: set[str], args: Any, kwargs: Any) -> tuple[Any, Any]:
    positions = {f"args[{i}]": i for i in range(len(args))}
    out = {positions[name] for name in left_out if name in positions}
    if unknown := left_out - positions.keys() - kwargs.keys():
        raise TypeError(f"no arguments {unknown}")
    return (
        tuple(arg for i, arg in enumerate(args) if i not in out),
        {key: arg for key, arg in kwargs.items() if key not in left_out},
    )
