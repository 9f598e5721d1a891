"""Forwards called directly that leave nothing else to see, since they run no operation and no submodule: Identity's.

Other direct calls are known by the operations and module calls inside them, at no cost. For these a profile function
sees every Python call of the thread, and so it is set only where the model's code speaks of `forward` at all.
"""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from inspect import CO_GENERATOR
from types import CodeType, FrameType, FunctionType
from typing import TYPE_CHECKING, Any

from torch import nn

from tracecall.recording.sites import Place, local_value

if TYPE_CHECKING:
    from tracecall.recording.open_calls import OpenCall
    from tracecall.recording.recorder import Recorder

_WORD = "forward"


def look_for_bypass(recorder: Recorder, frame: FrameType | None, opened: OpenCall | None) -> None:
    """A frame that runs another module's forward, between a call and the open call around it, was called direct."""
    around = None if opened is None else opened.frame
    while frame is not None and frame is not around:
        if id(frame.f_code) in recorder.modules.forward_codes:
            bypassed_module(recorder, frame, opened)
        frame = frame.f_back


def forward_around(recorder: Recorder, frame: FrameType | None) -> tuple[nn.Module, str] | None:
    """The innermost module of the model whose forward runs in a frame around this one, with its path."""
    while frame is not None:
        code = frame.f_code
        if id(code) in recorder.modules.forward_codes and code.co_varnames:
            module = local_value(frame, code.co_varnames[0])
            path = recorder.modules.paths.get(id(module))
            if path is not None and isinstance(module, nn.Module):
                return module, path
        frame = frame.f_back
    return None


def bypassed_module(recorder: Recorder, frame: FrameType, opened: OpenCall | None, module: object = None) -> str | None:
    """The path of the module whose forward this frame runs without its `__call__`, noted as a bypass."""
    code = frame.f_code
    if not code.co_varnames or code.co_flags & CO_GENERATOR or (opened and frame is opened.own_forward):
        return None  # a generator's body runs after its call has ended
    if module is None:
        module = local_value(frame, code.co_varnames[0])
    if opened is not None and module is opened.module:
        opened.own_forward = frame  # under a decorator, or its class's forward called through super()
        return None
    path = recorder.modules.paths.get(id(module))
    if path is not None and frame.f_back is not None and path not in recorder.bypasses:
        recorder.bypasses[path] = Place(frame.f_back.f_code, frame.f_back.f_lasti)
    return path


class DirectCalls:
    """Tells `found` of each frame that runs the forward of one of these modules, however it was called."""

    def __init__(self, modules: Iterable[nn.Module], codes: dict[int, CodeType], found: Callable[[FrameType], None]):
        self._possible = any(map(_speaks_of_forward, {type(module) for module in modules}))
        self.hidden = False  # there may be such calls, and they could not be watched
        self._codes, self._found = codes, found

    def attach(self) -> None:
        """Set the profile function, unless there is nothing to find or somebody else has one in this thread."""
        self.hidden = self._possible and sys.getprofile() is not None
        if self._possible and not self.hidden:
            sys.setprofile(self._event)

    def remove(self) -> None:
        """Take it away."""
        if sys.getprofile() == self._event:
            sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and id(frame.f_code) in self._codes:
            self._found(frame)


def _speaks_of_forward(kind: type) -> bool:
    """Whether code beside a module's class, or beside a class that it is made from, has the word in it.

    torch's own nn modules call no forward directly, so their code is not looked at.
    """
    files = {cls.__module__ for cls in kind.__mro__ if cls.__module__.partition(".")[0] not in ("torch", "builtins")}
    return any(_in_code(code) for name in files for code in _codes(sys.modules.get(name)))


def _codes(module: object) -> Iterator[CodeType]:
    """The code of the functions of a Python module and of the methods of its classes."""
    name = getattr(module, "__name__", None)
    for value in list(vars(module).values()) if module is not None else ():
        if isinstance(value, FunctionType):
            yield value.__code__
        elif isinstance(value, type) and value.__module__ == name:
            for method in list(vars(value).values()):
                function = getattr(method, "__func__", method)
                if isinstance(function, FunctionType):
                    yield function.__code__


@functools.cache
def _in_code(code: CodeType) -> bool:
    """Whether code takes the attribute `forward` of something other than `super()`, by its name or with getattr."""
    if _WORD in code.co_consts and "getattr" in code.co_names:
        return True
    if _WORD in code.co_names:
        before = ["", "", ""]
        for instruction in dis.get_instructions(code):
            taken = instruction.argval == _WORD and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")
            if taken and "super" not in before:  # super, then a call of it
                return True
            before = [*before[1:], str(instruction.argval)]
    return any(_in_code(inner) for inner in code.co_consts if isinstance(inner, CodeType))
