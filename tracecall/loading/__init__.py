"""MODEL and --input → Target: which model is meant, what it is called with, and where it was found.

`check` refuses bad text without torch; `load` does the work. Each is imported on first use, so that importing this
package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracecall.loading.places import check
    from tracecall.loading.target import Target, grad_mode, load

__all__ = ["Target", "check", "grad_mode", "load"]

_HOMES = {"Target": "target", "check": "places", "grad_mode": "target", "load": "target"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
