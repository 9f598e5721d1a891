"""Room on Python's stack for a model that recurses down to its limit: a hooked call takes a third more frames."""

from __future__ import annotations

import sys

EXTRA = 200  # frames for the tracer's own functions


class RecursionLimit:
    """The limit as it was found; `put_back` sets it again unless somebody else changed it meanwhile."""

    def __init__(self, found: int, raised: int) -> None:
        self._found, self._raised = found, raised

    def put_back(self) -> None:
        """Undo."""
        if sys.getrecursionlimit() == self._raised:
            sys.setrecursionlimit(self._found)


def raise_recursion_limit() -> RecursionLimit:
    """Let a model that fits on the stack untraced fit traced too: 4 frames a call instead of 3, and the hooks'."""
    found = sys.getrecursionlimit()
    raised = found * 4 // 3 + EXTRA
    sys.setrecursionlimit(raised)
    return RecursionLimit(found, raised)
