"""What a symbolic run asks of its sizes: each guard with the line of the model's code that it came from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from tracecall.calls import Site
from tracecall.recording.recorder import Recorder
from tracecall.recording.sites import Place, site

UNKNOWN_INT = 7  # what a number that depends on values is taken to be, where the model asks


@dataclass
class Guard:
    """A condition on the symbols that held for the sizes of the run, and on which its shapes rest."""

    expr: sympy.Basic
    place: Place | None  # in the code of the model, not torch's
    direct: bool = False  # the model's own code compared the sizes; else a torch function did
    path: str | None = None  # of the module of torch.nn's in which it was asked, None in the model's own code


@dataclass(frozen=True)
class Assumption:
    """The model asked for something that depends on values, which fake tensors do not have."""

    place: Place | None
    taken: str  # what it was taken to be: "true", "7"


class GuardedSizes(ShapeEnv):
    """torch's memory of symbols and guards, which also notes where in the model's code each guard came from.

    What depends on values (`x.sum() > 0`, `.item()`, `nonzero`) has no hint: it is taken to be true, 1.0 or
    UNKNOWN_INT, and noted.
    """

    def __init__(self) -> None:
        super().__init__(duck_shape=False)
        self.found: list[Guard] = []
        self.assumed: list[Assumption] = []
        self.recorder: Recorder | None = None
        self.guards = _Listening(self._heard)

    def _heard(self, guard: Any) -> None:
        place, direct = _asking(sys._getframe(2))
        thread = None if self.recorder is None else self.recorder.thread()
        opened = thread.stack[-1] if thread is not None and thread.stack else None
        path = None
        if opened is not None and opened.call.kind == "module" and opened.names.home == "torch":
            path = opened.call.path
        self.found.append(Guard(guard.expr, place, direct, path))

    def create_unbacked_symint(self, source: Any = None) -> torch.SymInt:
        """A whole number that depends on values."""
        made = super().create_unbacked_symint(source)
        self.set_real_tensor_prop_unbacked_vals(made.node.expr, UNKNOWN_INT)
        return made

    def create_unbacked_symfloat(self) -> torch.SymFloat:
        """A number that depends on values."""
        made = super().create_unbacked_symfloat()
        self.set_real_tensor_prop_unbacked_vals(made.node.expr, 1.0)
        return made

    def create_unbacked_symbool(self) -> torch.SymBool:
        """A truth that depends on values."""
        made = super().create_unbacked_symbool()
        for symbol in made.node.expr.free_symbols:
            self.set_real_tensor_prop_unbacked_vals(symbol, 1)
        return made

    def _log_real_tensor_propagation(self, orig_expr: sympy.Basic, unsound_result: sympy.Basic) -> None:
        place, _ = _asking(sys._getframe(1))
        found = Assumption(place, str(unsound_result).lower())
        if all(place != one.place for one in self.assumed):
            self.assumed.append(found)


class _Listening(list[Any]):
    """The guards of a ShapeEnv, each told as it is added."""

    def __init__(self, tell: Callable[[Any], None]) -> None:
        super().__init__()
        self.tell = tell

    def append(self, guard: Any) -> None:
        self.tell(guard)
        super().append(guard)


_TORCH = str(torch.__path__[0])
_OWN = __file__.rpartition("symbolic")[0]
# between a comparison in the model's code and the guard, only these run
_PLUMBING = (
    "/torch/__init__.py",
    "/experimental/sym_node.py",
    "/experimental/symbolic_shapes.py",
    "/experimental/recording.py",
)


def _asking(frame: FrameType | None) -> tuple[Place | None, bool]:
    """Where the model's own code is, and whether no function of torch's stands in between."""
    direct = True
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OWN):
            if file.endswith("symbolic/running.py") and frame.f_code.co_name == "run":
                return None, False
        elif (
            not file.startswith((_TORCH, "<"))
            and "/sympy/" not in file
            and not file.endswith("/functools.py")
            and not file.endswith("/contextlib.py")
        ):
            return Place(frame.f_code, frame.f_lasti), direct
        elif not file.endswith(_PLUMBING) and "/sympy/" not in file and not file.startswith("<"):
            direct = False
        frame = frame.f_back
    return None, False


def site_of(place: Place | None) -> Site | None:
    """File, line and expression of a place."""
    return None if place is None else site(place)
