"""Numbers of the process's that are higher while anything is recorded, and afterwards as they were found.

Python's recursion limit: a hooked call takes a third more frames, and a model that fits on the stack untraced fits
traced too. The garbage collector's threshold: it runs after so many new containers (700 in CPython 3.11), and each call
that is recorded keeps three or four, none of them in a circle: a model of two hundred calls would be interrupted in its
middle, where it never is untraced.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable

FRAMES = 200  # for the tracer's own functions
CONTAINERS = 10_000  # those of some 2,500 calls; after as many more, circles of the model's own are freed as ever


class Limit:
    """One such number: how to read and to write it, and what it is while anything is recorded."""

    def __init__(self, read: Callable[[], int], write: Callable[[int], None], higher: Callable[[int], int]) -> None:
        self._read, self._write, self._higher = read, write, higher
        self._lock = threading.Lock()
        self._recordings = 0  # that run now: the last one to end puts it back, in whatever order they began
        self._found = self._raised = 0

    def lift(self) -> None:
        """Write the higher one, where no other recording has."""
        with self._lock:
            if not self._recordings:
                self._found = self._read()
                self._raised = self._higher(self._found)
                self._write(self._raised)
            self._recordings += 1

    def put_back(self) -> None:
        """Undo, unless somebody else changed it meanwhile."""
        with self._lock:
            self._recordings -= 1
            if not self._recordings and self._read() == self._raised:
                self._write(self._found)


def _collect_after(containers: int) -> None:
    gc.set_threshold(containers, *gc.get_threshold()[1:])


_LIMITS = (
    # 4 frames a call instead of 3, and the hooks'
    Limit(sys.getrecursionlimit, sys.setrecursionlimit, lambda found: found * 4 // 3 + FRAMES),
    # a collector that is turned off, as a threshold of 0 does too, stays so
    Limit(lambda: gc.get_threshold()[0], _collect_after, lambda found: found and found + CONTAINERS),
)


def lift() -> None:
    """A recording begins."""
    for limit in _LIMITS:
        limit.lift()


def put_back() -> None:
    """It has ended."""
    for limit in _LIMITS:
        limit.put_back()
