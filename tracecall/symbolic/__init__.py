"""The same recording on fake tensors: shapes as formulas of named dimensions, and what would fit a failed run.

`shapes` makes the report; SizedInput stands for an input that is not made. Each is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracecall.symbolic.dims import SizedInput
    from tracecall.symbolic.report import shapes

__all__ = ["SizedInput", "shapes"]

_HOMES = {"SizedInput": "dims", "shapes": "report"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
