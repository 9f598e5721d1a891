"""Parts that Python cannot look into: compiled modules and ScriptModules. They are one call each, and say so.

torch.compile would trace global hooks into its graph and compile anew because of them. So while compiled code runs,
the tracer's hooks are out of torch's tables: what is recorded is what runs when nobody watches.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

COMPILED = "compiled by torch.compile"
SCRIPTED = "TorchScript"
_EXTRA_TIME = "Using `torch.compile.module.` when there are global hooks"  # torch's warning about hooks such as ours


def opaque(module: nn.Module) -> str | None:
    """Why nothing inside a module's call can be seen, or None."""
    if isinstance(module, torch.jit.ScriptModule):
        return SCRIPTED
    return COMPILED if module._compiled_call_impl is not None or is_optimized(module) else None


def is_optimized(module: nn.Module) -> bool:
    """Whether a module is what torch.compile(module) returned; without importing the compiler."""
    return type(module).__name__ == "OptimizedModule" and type(module).__module__ == "torch._dynamo.eval_frame"


class Curtain:
    """Takes hooks out of torch's tables while compiled code runs; `attach` covers the modules, `put_back` uncovers."""

    def __init__(self, modules: list[nn.Module], hidden: Callable[[], Any]) -> None:
        self._modules = [module for module in modules if opaque(module) == COMPILED]
        self._hidden = hidden
        self._covered: list[tuple[dict[str, Any], str, Any]] = []
        self._filter: Any = None

    def attach(self, call: Callable[[nn.Module, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]) -> None:
        """Cover every compiled module; one compiled in place is run by `call(module, compiled, args, kwargs)`."""
        for module in self._modules:
            if is_optimized(module):
                self._cover(module.__dict__, "forward", self._quiet(module.__dict__["forward"]))
            else:
                compiled = module._compiled_call_impl
                self._cover(module.__dict__, "_compiled_call_impl", _called(call, module, compiled))
        if self._modules:
            warnings.filterwarnings("ignore", message=_EXTRA_TIME)
            self._filter = warnings.filters[0]

    def _cover(self, attributes: dict[str, Any], name: str, cover: Callable[..., Any]) -> None:
        self._covered.append((attributes, name, attributes[name]))
        attributes[name] = cover

    def _quiet(self, compiled: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            with self._hidden():
                return compiled(*args, **kwargs)

        return forward

    def put_back(self) -> None:
        """Leave every module as it was."""
        for attributes, name, kept in self._covered:
            attributes[name] = kept
        self._covered = []
        if self._filter is not None:
            if self._filter in warnings.filters:
                warnings.filters.remove(self._filter)  # type: ignore[attr-defined]  # a list, typed as a sequence
            self._filter = None


def _called(call: Callable[..., Any], module: nn.Module, compiled: Callable[..., Any] | None) -> Callable[..., Any]:
    def compiled_call(*args: Any, **kwargs: Any) -> Any:
        return call(module, compiled, args, kwargs)

    return compiled_call
