"""What the code of a model speaks of, read before it runs: so what it never does need not be watched for."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from torch import nn

_FORWARD = "forward"
_REQUIRES_GRAD = {"requires_grad", "requires_grad_"}


def codes_of(modules: Iterable[nn.Module]) -> Iterator[CodeType]:
    """The code beside the classes of these modules, and beside the classes that those are made from.

    torch's own nn modules neither call a forward directly nor change what a tensor is, so their code is not looked at.
    """
    classes = {cls for module in modules for cls in type(module).__mro__}
    names = {cls.__module__ for cls in classes if cls.__module__.partition(".")[0] not in ("torch", "builtins")}
    seen: set[str] = set()
    for name in names:
        module = sys.modules.get(name)
        beside = [] if module is None else [one for one in list(vars(module).values()) if _is_beside(one, module)]
        for one in (module, *beside):
            if one is not None and one.__name__ not in seen:
                seen.add(one.__name__)
                yield from _codes(one)


def _is_beside(one: object, module: ModuleType) -> bool:
    """Whether a Python module imported by another belongs to the same package, or to the same folder of scripts."""
    if not isinstance(one, ModuleType) or one.__name__ in sys.builtin_module_names:
        return False
    if one.__name__.partition(".")[0] == module.__name__.partition(".")[0]:
        return True
    files = (getattr(one, "__file__", None), getattr(module, "__file__", None))
    return None not in files and Path(str(files[0])).parent == Path(str(files[1])).parent


def _codes(module: ModuleType) -> Iterator[CodeType]:
    """The code of the functions of a Python module and of the methods of its classes."""
    name = module.__name__
    for value in list(vars(module).values()):
        if isinstance(value, FunctionType):
            yield value.__code__
        elif isinstance(value, type) and value.__module__ == name:
            for method in list(vars(value).values()):
                function = getattr(method, "__func__", method)
                if isinstance(function, FunctionType):
                    yield function.__code__


@functools.cache
def takes_forward(code: CodeType) -> bool:
    """Whether code takes the attribute `forward` of something other than `super()`, by its name or with getattr."""
    if _FORWARD in code.co_consts and "getattr" in code.co_names:
        return True
    if _FORWARD in code.co_names:
        before = ["", "", ""]
        for instruction in dis.get_instructions(code):
            taken = instruction.argval == _FORWARD and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")
            if taken and "super" not in before:  # super, then a call of it
                return True
            before = [*before[1:], str(instruction.argval)]
    return any(takes_forward(inner) for inner in code.co_consts if isinstance(inner, CodeType))


@functools.cache
def changes_tensors(code: CodeType) -> bool:
    """Whether code may change what a tensor is (shape, dtype, requires_grad) where no operation shows it.

    That is `x.data = y`, `x.requires_grad = True`, `x.requires_grad_()` and setattr.
    """
    if not _REQUIRES_GRAD.isdisjoint(code.co_names) or "setattr" in code.co_names:
        return True
    if "data" in code.co_names:
        stored = [one.argval for one in dis.get_instructions(code) if one.opname == "STORE_ATTR"]
        if "data" in stored:
            return True
    return any(changes_tensors(inner) for inner in code.co_consts if isinstance(inner, CodeType))
