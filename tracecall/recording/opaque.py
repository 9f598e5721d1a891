"""Parts that Python cannot look into: compiled modules and ScriptModules. They are one call each, and say so.

torch.compile would trace global hooks into its graph and compile anew because of them. So while compiled code runs,
the tracer's hooks are out of torch's tables: what is recorded is what runs when nobody watches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

COMPILED = "compiled by torch.compile"
SCRIPTED = "TorchScript"
_ASKS = "_has_any_global_hook"  # in torch.nn's module.py: asked only to warn of hooks such as ours


def opaque(module: nn.Module) -> str | None:
    """Why nothing inside a module's call can be seen, or None."""
    if isinstance(module, torch.jit.ScriptModule):
        return SCRIPTED
    return COMPILED if module._compiled_call_impl is not None or is_optimized(module) else None


def runs_optimized(frame: FrameType) -> bool:
    """Whether this is the `__call__` of what torch.compile(module) returned, which goes on to that of nn.Module."""
    return frame.f_code.co_name == "__call__" and frame.f_globals.get("__name__") == "torch._dynamo.eval_frame"


def is_optimized(module: nn.Module) -> bool:
    """Whether a module is what torch.compile(module) returned; without importing the compiler."""
    return type(module).__name__ == "OptimizedModule" and type(module).__module__ == "torch._dynamo.eval_frame"


class Curtain:
    """Takes hooks out of torch's tables while compiled code runs; `attach` covers the modules, `put_back` uncovers."""

    def __init__(self, modules: list[nn.Module], hidden: Callable[[], Any]) -> None:
        self._modules = [module for module in modules if opaque(module) == COMPILED]
        self._hidden = hidden
        self._covered: list[tuple[dict[str, Any], str, Any]] = []

    def attach(self, call: Callable[..., Any]) -> None:
        """Cover every compiled module; one compiled in place is run by `call(module, compiled, *args, **kwargs)`."""
        for module in self._modules:
            if is_optimized(module):
                self._cover(module.__dict__, "forward", self._quiet(module.__dict__["forward"]))
                if hasattr(torch_module, _ASKS):  # to warn at each call, and be ignored, takes longer than the hooks
                    self._cover(vars(torch_module), _ASKS, _no)
            else:
                compiled = module._compiled_call_impl
                # no function of our own: who calls it is who calls the module
                self._cover(module.__dict__, "_compiled_call_impl", partial(call, module, compiled))

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
        for attributes, name, kept in reversed(self._covered):
            attributes[name] = kept
        self._covered = []


def _no() -> bool:
    return False
