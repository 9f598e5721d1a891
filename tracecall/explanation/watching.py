"""What the interpreter itself saw of one run: every Python function that was entered, and every operation.

A profile function (sys.setprofile) is told of calls by the interpreter; a dispatch mode says which of the C++ functions
did tensor work. No hook is attached, so the run goes the way that it goes when nobody watches.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch
from torch import nn

from tracecall.recording.modes import QuietMode, run_unchanged, suited
from tracecall.recording.sites import Place, shown_path, site

_COMPILER = f"torch{os.sep}_dynamo"
MOST = 50_000  # functions that are written down; what follows is not needed for the story


@dataclass
class Entered:
    """One function that was entered. `above` is the function around it, None for the first."""

    name: str  # "Module._call_impl", "torch.conv2d"
    file: str | None  # None for a function in C++
    line: int
    above: Entered | None
    module: nn.Module | None = None  # `self`, if that is a module
    code: CodeType | None = None
    called: Place | None = None  # the instruction that called it
    operation: str | None = None  # the first aten operation that ran directly in it, "aten.conv2d"
    turn: int = 0  # of that operation among all: 1 for the first of the run
    inside: list[Entered] = field(default_factory=list)

    def where(self) -> str:
        """File and line of the function's definition; "C++" where it has none."""
        return "C++" if self.file is None else f"{self.file}:{self.line}"

    def expression(self) -> str | None:
        """The expression that called it, as the source has it."""
        return None if self.called is None else site(self.called).text

    def around(self) -> Iterator[Entered]:
        """The functions around this one, the nearest first."""
        one = self.above
        while one is not None:
            yield one
            one = one.above


class Function(NamedTuple):
    """A function to watch for: its code, and its first argument where any other means another object's run."""

    code: CodeType | None  # None where it is not Python
    owner: object = None


@dataclass
class Watched:
    """One run: what it returned, what the root's forward returned, and the functions entered, in order."""

    output: Any
    entered: list[Entered]
    forward: Entered | None  # the root's forward, the first time that it ran
    forward_returned: Any
    given: tuple[Any, ...]  # the arguments that it got
    gradients: tuple[bool, bool] | None  # on, and in inference mode, when it began

    def of(self, code: CodeType, module: nn.Module) -> Entered | None:
        """The first time that this code was entered for this module."""
        return next((one for one in self.entered if one.code is code and one.module is module), None)


class _Dispatched(QuietMode):
    """Tells where an operation reached torch's dispatcher."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        schema = getattr(func, "_schema", None)
        self._tell(str(func) if schema is None else schema.name.replace("::", "."))
        return run_unchanged(func, args, kwargs)


def watch(
    run: Callable[[], Any],
    forward: Function,
    began: Callable[[tuple[Any, ...]], object] = lambda arguments: None,
) -> Watched:
    """Run once under the interpreter's eyes; `forward` is the root's forward.

    `began` is told the arguments each time that forward begins. A profiler of the user's is put aside meanwhile.
    """
    seen = _Seen(forward, began)
    before = sys.getprofile()
    with suited(_Dispatched)(seen.dispatched):
        event = _unseen_by_compiler(seen.event)
        sys.setprofile(event)
        try:
            output = run()
        finally:
            sys.setprofile(before)
    return Watched(output, seen.entered, seen.forward, seen.forward_returned, seen.given, seen.gradients)


class _Seen:
    def __init__(self, forward: Function, began: Callable[[tuple[Any, ...]], object]) -> None:
        self._began = began
        self.entered: list[Entered] = []
        self.forward: Entered | None = None
        self.forward_returned: Any = None
        self.given: tuple[Any, ...] = ()
        self.gradients: tuple[bool, bool] | None = None
        self._function = forward
        self._turns = 0
        self._open: list[tuple[Entered | None, FrameType | None]] = []
        self._hidden = 0  # inside the tracer's own functions

    def event(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            if self._hidden or frame.f_code is _Dispatched.__torch_dispatch__.__code__:
                self._hidden += 1
            elif str(frame.f_globals.get("__name__", "")).startswith("tracecall."):
                self._open.append((self._around(), frame))  # a function of the tracer's own: what it calls counts
            else:
                self._enter(self._python(frame), frame)
        elif event == "return":
            if self._hidden:
                self._hidden -= 1
                return
            self._leave(frame, arg)
        elif event == "c_call" and not self._hidden:
            self._enter(Entered(_c_name(arg), None, 0, self._around(), called=Place(frame.f_code, frame.f_lasti)), None)
        elif event in ("c_return", "c_exception") and not self._hidden and self._open and self._open[-1][1] is None:
            self._open.pop()

    def dispatched(self, name: str) -> None:
        around = self._around()
        while around is not None and around.file is not None and around.file.startswith(_COMPILER):
            around = around.above  # once the compiler is loaded, its wrappers stand around dispatch modes
        self._turns += 1
        if around is not None and around.operation is None:
            around.operation, around.turn = name, self._turns

    def _python(self, frame: FrameType) -> Entered:
        code = frame.f_code
        first = next(iter(_arguments(frame)), None)
        back = frame.f_back
        return Entered(
            code.co_qualname,
            shown_path(code.co_filename),
            code.co_firstlineno,
            self._around(),
            module=first if isinstance(first, nn.Module) else None,
            code=code,
            called=None if back is None else Place(back.f_code, back.f_lasti),
        )

    def _around(self) -> Entered | None:
        return self._open[-1][0] if self._open else None

    def _enter(self, one: Entered, frame: FrameType | None) -> None:
        self._open.append((one, frame))
        if len(self.entered) < MOST:
            self.entered.append(one)
            if one.above is not None:
                one.above.inside.append(one)
        if frame is not None and one.code is not None and one.code is self._function.code:
            given = _arguments(frame)
            if self._function.owner is not None and (not given or given[0] is not self._function.owner):
                return  # the same function, run for another object
            if self.forward is None:
                self.forward, self.given = one, given
                self.gradients = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
            self._began(given)

    def _leave(self, frame: FrameType, arg: Any) -> None:
        while self._open:
            one, opened = self._open.pop()
            if opened is frame:
                if one is self.forward:
                    self.forward_returned = arg
                return


def _arguments(frame: FrameType) -> tuple[Any, ...]:
    """The arguments of a function that is just beginning, those of `*args` and `**kwargs` one by one."""
    code, local = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount
    given = [local.get(name) for name in code.co_varnames[:count]]
    if code.co_flags & inspect.CO_VARARGS:
        given[code.co_argcount : code.co_argcount] = local.get(code.co_varnames[count], ())
        count += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        given.extend(dict(local.get(code.co_varnames[count], {})).values())
    return tuple(given)


def _unseen_by_compiler(event: Callable[..., None]) -> Callable[..., None]:
    """With the compiler loaded, a profile function that it does not compile: it takes any Python that runs for code."""
    if "torch._dynamo" not in sys.modules:
        return event
    disable: Any = sys.modules["torch._dynamo"].disable
    return disable(event)  # type: ignore[no-any-return]  # torch's


def _c_name(function: Any) -> str:
    """A C++ function as PyTorch's users write it: torch.conv2d, Tensor.view."""
    name = str(getattr(function, "__qualname__", None) or getattr(function, "__name__", function))
    name = ".".join(part for part in name.split(".") if not part.startswith("pybind11_"))  # how it was built
    owner, _, short = name.rpartition(".")
    if owner in ("_VariableFunctionsClass", "_VariableFunctions"):
        return f"torch.{short}"
    if owner in ("TensorBase", "_TensorBase"):
        return f"Tensor.{short}"
    module = getattr(function, "__module__", None)
    module = re.sub(r"^torch\._ops\b", "torch.ops", str(module or ""))
    return f"{module}.{name}" if module and module != "builtins" else name
