"""Python's garbage collector while a model is recorded: what a recording keeps is no reason for it to run.

It runs after so many new containers (700 in CPython 3.11), and each call that is recorded keeps three or four, none of
them in a circle: a model of two hundred calls would be interrupted in its middle, where it never is untraced.
"""

from __future__ import annotations

import gc
import threading

ROOM = 10_000  # containers: those of some 2,500 calls; after as many more, circles of the model's own are freed as ever

_lock = threading.Lock()
_recordings = 0  # that run now: the last one to end puts the threshold back, in whatever order they began
_found = _raised = 0


def make_room() -> None:
    """Let the collector run later; one that is turned off, as a threshold of 0 does too, stays so."""
    global _recordings, _found, _raised
    with _lock:
        if not _recordings:
            _found, *older = gc.get_threshold()
            _raised = _found and _found + ROOM
            gc.set_threshold(_raised, *older)
        _recordings += 1


def take_back() -> None:
    """Undo, unless somebody else changed the threshold meanwhile."""
    global _recordings
    with _lock:
        _recordings -= 1
        threshold, *older = gc.get_threshold()
        if not _recordings and threshold == _raised:
            gc.set_threshold(_found, *older)
