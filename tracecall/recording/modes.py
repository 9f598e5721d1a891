"""How the tracer's dispatch modes live beside torch.compile: unseen by it, and without importing it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class QuietMode(TorchDispatchMode):
    """A dispatch mode that compiled code runs under as it runs without one.

    torch wraps every mode's `__torch_dispatch__` so that the compiler skips it, and imports the compiler for that: as
    long as importing torch takes. `suited` does the same only where the compiler is loaded already.
    """

    supports_higher_order_operators = True  # flex_attention and the like would otherwise refuse to run

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Leave compiled functions compiled; otherwise a mode makes them run eagerly."""
        return True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


_C = torch._C
_IN_PLACE_OR_VIEW = _C.DispatchKey.ADInplaceOrView
# a key at a time: a guard with both sets of keys (_ForceDispatchKeyGuard) takes three times as long
_exclude = _C._dispatch_tls_set_dispatch_key_excluded


def run_unchanged(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation inside a mode's `__torch_dispatch__` as it runs without the mode, to the last bit.

    In inference mode a mode is handed composite operations whole (aten.linear). They would then run with torch's
    ADInplaceOrView key excluded, and some choose other kernels by it: bmm for mm, with other rounding. So are the keys
    of autocast: aten.einsum would multiply what it was given, and fail where that is of two dtypes.
    """
    way = _ways.get(id(func))
    if way is None:
        way = _ways[id(func)] = (is_composite(func), called(func), func)
    composite, run, _ = way
    if composite and torch.is_inference_mode_enabled():
        return run_composite(run, args, kwargs)
    return run(*args, **kwargs) if kwargs else run(*args)


# whether it is composite, and what to call; by id, since an operation's hash is a Python function, and so it is kept
_ways: dict[int, tuple[bool, Callable[..., Any], Any]] = {}


def called(func: Any) -> Callable[..., Any]:
    """What runs an operation: where its `__call__` does nothing but call torch's C++, that itself."""
    run: Callable[..., Any] = func.op if type(func) is torch._ops.OpOverload else func
    return run


def run_composite(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Run a composite operation in inference mode, inside a mode, for which torch has excluded the keys."""
    _increase_contexts()
    if _decrease_contexts():  # so many `torch.autocast` are open in this thread; some of them may turn it off
        return _run_with_autocast(func, args, kwargs)
    _exclude(_IN_PLACE_OR_VIEW, False)
    try:
        return func(*args, **kwargs) if kwargs else func(*args)
    finally:
        _exclude(_IN_PLACE_OR_VIEW, True)


_increase_contexts, _decrease_contexts = torch.autocast_increment_nesting, torch.autocast_decrement_nesting


def _run_with_autocast(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    keys = [_IN_PLACE_OR_VIEW, *_autocast_keys()]
    for key in keys:
        _exclude(key, False)
    try:
        return func(*args, **kwargs) if kwargs else func(*args)
    finally:
        for key in keys:
            _exclude(key, True)


def _autocast_keys() -> list[Any]:
    """The keys of autocast, of the devices for which it is on where the operation was asked for."""
    with _C._RestorePythonTLSSnapshot():  # type: ignore[attr-defined]  # torch's stub lacks it
        return [key for device, key in _AUTOCAST.items() if torch.is_autocast_enabled(device)]


_AUTOCAST = {device: getattr(_C.DispatchKey, "Autocast" + device.upper()) for device in ("cpu", "cuda", "xpu", "mps")}


def is_composite(func: Any) -> bool:
    """Whether an operation is made of others, and computes: a view does not."""
    if not isinstance(func, torch._ops.OpOverload):
        return False
    if any(returned.alias_info is not None for returned in func._schema.returns):
        return False  # a view computes nothing, and torch makes a view of a parameter only once
    try:
        return _C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    except RuntimeError:  # prim::layout and the like are no operations of the dispatcher's
        return False


_skipping: dict[str, type[Any]] = {}


def _skipped_by_compiler(mode: type[Any]) -> type[Any]:
    import torch._dynamo

    if mode.__qualname__ not in _skipping:
        dispatch: Any = torch._dynamo.disable(mode.__torch_dispatch__)
        _skipping[mode.__qualname__] = type(mode.__name__, (mode,), {"__torch_dispatch__": dispatch})
    return _skipping[mode.__qualname__]


def suited(mode: type[Any]) -> type[Any]:
    """The class to make a mode from: with the compiler loaded, one that it skips."""
    return _skipped_by_compiler(mode) if "torch._dynamo" in sys.modules else mode
