"""Room on Python's stack for a model that recurses down to its limit: a hooked call takes a third more frames."""

from __future__ import annotations

import sys
import threading

EXTRA = 200  # frames for the tracer's own functions

_lock = threading.Lock()
_recordings = 0  # that run now: the last one to end puts the limit back, in whatever order they began
_found = _raised = 0


def raise_recursion_limit() -> None:
    """Let a model that fits on the stack untraced fit traced too: 4 frames a call instead of 3, and the hooks'."""
    global _recordings, _found, _raised
    with _lock:
        if not _recordings:
            _found = sys.getrecursionlimit()
            _raised = _found * 4 // 3 + EXTRA
            sys.setrecursionlimit(_raised)
        _recordings += 1


def restore_recursion_limit() -> None:
    """Undo, unless somebody else changed the limit meanwhile."""
    global _recordings
    with _lock:
        _recordings -= 1
        if not _recordings and sys.getrecursionlimit() == _raised:
            sys.setrecursionlimit(_found)
