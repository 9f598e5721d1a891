"""Trace → Trace: repeated siblings in one line, one module or one type alone, no deeper than asked for."""

from __future__ import annotations

import msgspec

from tracecall.calls import Trace
from tracecall.folding.lines import in_lines
from tracecall.folding.selecting import limited, of_paths, of_types

__all__ = ["folded", "limited"]


def folded(
    trace: Trace, *, fold: bool = True, depth: int | None = None, only: str | None = None, types: str | None = None
) -> Trace:
    """A Trace that reads well however large the model is; the one that is given stays as it is.

    Args:
        trace: What was recorded.
        fold: Siblings that repeat, alone or several in turn, become one call with a `fold`: from three on that come
            from one line of code, from six on otherwise. What differs in type, shape, findings or by far in time
            stays as it is.
        depth: Levels of submodules to show below the root; calls at the last one are `closed`.
        only: The path of a module, an alias of it, or a pattern such as `layers.*.attn`: what is inside it is kept, and
            the way to it.
        types: Types of calls, "Linear, aten.add": these are kept, and the way to them.

    Raises:
        TracecallError: Nothing is at that path or of that type.
    """
    if only is not None:
        trace = of_paths(trace, only)
    if types is not None:
        trace = of_types(trace, types)
    if fold:
        trace = msgspec.structs.replace(trace, calls=in_lines(trace))
    return limited(trace, depth) if depth is not None else msgspec.structs.replace(trace)
