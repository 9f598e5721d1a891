"""What MODEL names, made into a module: classes and functions called with the arguments that were typed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tracecall.errors import TracecallError
from tracecall.loading.places import shown
from tracecall.loading.specs import ModelSpec
from tracecall.loading.usercode import call_text, required, signature_of, user_code

_LITERALS = (int, float, complex, bool, str, bytes, list, tuple, dict, set, object, type(None))


def build(found: Any, name: str, spec: ModelSpec, folder: Path | None = None) -> nn.Module:
    """Return the module that `found` is, or that calling it with the spec's arguments gives."""
    if isinstance(found, nn.Module):
        if spec.called:
            raise TracecallError(
                f"{name} in {spec.place} is a module instance and takes no arguments here; type {spec.place}:{name}"
            )
        return found
    if isinstance(found, type) and not issubclass(found, nn.Module):
        raise TracecallError(
            f"{name} in {spec.place} is a class, but no nn.Module; type the name of an nn.Module class"
        )
    if not callable(found):
        raise TracecallError(
            f"{name} in {spec.place} is of type {type(found).__name__}; type the name of an nn.Module class, a function"
            " that returns a module, or a module instance"
        )
    _check_arguments(found, name, spec)
    with user_code(f"{name}({_written(spec)})", folder):
        model = found(*spec.args, **spec.kwargs)
    if not isinstance(model, nn.Module):
        raise TracecallError(
            f"{name}({_written(spec)}) in {spec.place} returned {type(model).__name__}, not an nn.Module;"
            " let it return the module"
        )
    return model


def origin(model: nn.Module, found: Any, module: ModuleType) -> str:
    """Return file:line of the model's class; of the function that built it, where the class is from another file."""
    of_class, of_found = _source(type(model)), _source(found)
    if inspect.isroutine(found) and of_found is not None and (of_class is None or of_class[0] != of_found[0]):
        return _at(of_found)
    file = getattr(module, "__file__", None)
    if isinstance(found, nn.Module) and file is not None:
        return _at(of_class) if of_class is not None and Path(of_class[0]) == Path(file) else shown(file)
    return module.__name__ if of_class is None else _at(of_class)


def _check_arguments(found: Callable[..., Any], name: str, spec: ModelSpec) -> None:
    signature = signature_of(found)
    if signature is None:
        return
    try:
        signature.bind(*spec.args, **spec.kwargs)
    except TypeError as error:
        needed = required(signature)
        function = "write a function that returns the module, and type path/to/file.py:function"
        beyond = next((one for one in needed if not _is_literal(one.annotation)), None)
        if beyond is not None:
            advice = f"{beyond.name} is of type {_type_name(beyond.annotation)}, which cannot be typed here: {function}"
        else:
            arguments = f"({', '.join(f'{one.name}=…' for one in needed)})"
            advice = f"type '{spec.place}:{name}{arguments}' with literals (numbers, strings, lists…), or {function}"
        raise TracecallError(f"{call_text(name, signature)}: {error}; {advice}") from None


def _is_literal(annotation: Any) -> bool:
    """Whether a literal may stand for the annotation; only a plain class that no literal has says no."""
    if isinstance(annotation, str):
        return not annotation.isidentifier() or annotation in {one.__name__ for one in _LITERALS} | {"Any"}
    return not isinstance(annotation, type) or annotation in (*_LITERALS, Any, inspect.Parameter.empty)


def _type_name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else str(annotation.__name__)


def _written(spec: ModelSpec) -> str:
    return ", ".join([*map(repr, spec.args), *(f"{name}={value!r}" for name, value in spec.kwargs.items())])


def _source(thing: Any) -> tuple[str, int] | None:
    try:
        file = inspect.getsourcefile(inspect.unwrap(thing))
        return None if file is None else (file, inspect.getsourcelines(thing)[1])
    except (TypeError, OSError, ValueError):
        return None


def _at(source: tuple[str, int]) -> str:
    return f"{shown(source[0])}:{source[1]}"
