"""FLOPs of every module call: one more run, in which a counter of FLOPs takes the place of the clock.

A FLOP is one multiplication or one addition, so a multiply-add is two: torch.utils.flop_counter's registry, which has
the formulas, counts matrix products, convolutions and attention so, and nothing else (no additions, no activations).
Its FlopCounterMode is not used: its first operation imports the compiler, which takes as long as importing torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tracecall.calls import Trace
from tracecall.recording.clocks import Clocks, Overhead, Timed, timed_calls
from tracecall.recording.modes import QuietMode, suited
from tracecall.recording.opaque import COMPILED, opaque
from tracecall.recording.timing import same_calls, timed_here

# operations without a formula of their own that multiply the same arguments as one that has it
_SAME_AS = {
    "aten::_addmm_activation": "aten::addmm",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "aten::_scaled_dot_product_flash_attention",
}
# a fused path in one operation: its kernel runs operations that can be seen if the counter stays on
_FUSED = {"aten::_transformer_encoder_layer_fwd", "aten::_native_multi_head_attention"}
# these multiply matrices, and torch has no formula for them: better no count than a wrong one
_UNKNOWN = {
    "aten::mv",
    "aten::addmv",
    "aten::dot",
    "aten::vdot",
    "aten::_int_mm",
    "aten::_trilinear",
    "aten::mkldnn_rnn_layer",
    "aten::_cudnn_rnn",
    "aten::miopen_rnn",
}


@dataclass(frozen=True)
class Counted:
    """One counting run: its calls in call order, FLOPs in the place of nanoseconds; None where they are not known."""

    calls: list[Timed]
    flops: list[int | None]


class FlopCounter(QuietMode):
    """A running `total` of FLOPs; `unknown` is called for an operation that multiplies and has no formula."""

    def __init__(self, unknown: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        from torch.utils.flop_counter import flop_registry  # not with torch: only those who count need it

        self.total = 0
        self._unknown = unknown
        self._formulas: dict[Any, Any] = flop_registry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):  # flex_attention, cond and the like
            output = func(*args, **kwargs)
            self._count(self._formulas.get(func), args, kwargs, output, known=False)
            return output
        name = func._schema.name
        formula = self._formula(func, name)
        if formula is None:
            with self:
                output = func.decompose(*args, **kwargs)
                if output is not NotImplemented:
                    return output
                if name in _FUSED:
                    return func._op_dk(_key(args), *args, **kwargs)
        output = func(*args, **kwargs)
        self._count(formula, args, kwargs, output, known=name.rstrip("_") not in _UNKNOWN)
        return output

    def _formula(self, func: Any, name: str) -> Any:
        if (other := _SAME_AS.get(name)) is not None:
            return self._formulas.get(getattr(torch.ops.aten, other.removeprefix("aten::")))
        return self._formulas.get(func._overloadpacket)

    def _count(self, formula: Any, args: Any, kwargs: Any, output: Any, *, known: bool) -> None:
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=output)
        elif not known:
            self._unknown()


def _key(args: Any) -> Any:
    """The dispatch key of the kernels for these arguments' device."""
    device = next(one.device.type for one in args if isinstance(one, torch.Tensor))
    return getattr(torch._C.DispatchKey, device.upper())


def count_flops(run: Callable[[], object], modules: list[nn.Module]) -> Counted | None:
    """Run once and count; `modules` are those of the model. None if the run could not be counted."""
    places: list[int] = []  # where in the events an operation ran whose FLOPs are unknown
    counter = suited(FlopCounter)(lambda: places.append(len(clocks.events)))
    clocks: Clocks = Clocks(lambda: int(counter.total))
    try:
        with clocks.attached(modules), counter:
            run()
    except Exception:  # a formula or a decomposition that does not take what this model gave it: the model ran before
        return None
    calls = timed_calls(clocks.events, Overhead())
    if calls is None:
        return None
    complete = _complete(clocks.events, set(places))
    return Counted(calls, [round(call.total) if all_ else None for call, all_ in zip(calls, complete, strict=True)])


def _complete(events: list[Any], places: set[int]) -> list[bool]:
    """Of each call, in call order: whether everything inside was counted. Compiled code is not looked into."""
    complete: list[bool] = []
    open_calls: list[int] = []
    for i in range(0, len(events), 3):
        module = events[i + 1]
        compiled = isinstance(module, nn.Module) and opaque(module) == COMPILED
        if i in places or compiled:
            for place in open_calls:
                complete[place] = False
        if module is not None:
            open_calls.append(len(complete))
            complete.append(not compiled)
        elif open_calls:
            open_calls.pop()
    return complete


def add_flops(trace: Trace, counted: Counted | None, modules: dict[int, str]) -> None:
    """Write FLOPs into the module calls of a recorded Trace if the counting run made the same calls.

    `modules` maps a module's id to its path.
    """
    recorded = timed_here(trace)
    if counted is None or not same_calls(counted.calls, recorded, modules):
        return
    for call, flops in zip(recorded, counted.flops, strict=True):
        if call.kind == "module":
            call.flops = flops
