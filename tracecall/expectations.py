"""What the shapes of a model's calls are expected to be, in a file for CI, and what of it no longer holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from tracecall.calls import Call, TensorSpec, Trace, Value
from tracecall.errors import TracecallError
from tracecall.writing import name_of, reason, write_whole

FORMAT_VERSION = 1


class CallShapes(Struct, frozen=True):
    """The tensors of one module call by where they stand: {"x": "float32[1, 3, 28, 28]"}, {"": "float32[1, 10]"}."""

    inputs: dict[str, str]
    output: dict[str, str]


class Expected(Struct, kw_only=True):
    """The shapes of every module call: `modules` maps each path to its calls, in call order."""

    format_version: int = FORMAT_VERSION
    model: str
    modules: dict[str, list[CallShapes]] = field(default_factory=dict)


class Difference(Struct, frozen=True):
    """One module call that is not as expected."""

    kind: Literal["changed", "added", "removed"]
    path: str
    call: int | None = None  # its number among the module's calls, from 1; None where there is only one
    before: CallShapes | None = None  # what was expected; None for a call that is new
    after: CallShapes | None = None  # what was seen; None for a call that is no more


class _Version(Struct):
    format_version: int


def from_trace(trace: Trace) -> Expected:
    """The shapes and dtypes of a recorded run, by path and call number; devices and classes are left out."""
    if trace.error is not None:
        raise TracecallError(
            f"{trace.model.name} raised {trace.error.type}, so its shapes cannot be expected; "
            "give it an input that runs"
        )
    modules: dict[str, list[CallShapes]] = {}
    for _, call in trace.walk():
        if call.kind == "module":
            modules.setdefault(call.path, []).append(_shapes(call))
    return Expected(model=trace.model.name, modules=dict(sorted(modules.items())))


def _shapes(call: Call) -> CallShapes:
    return CallShapes(_tensors(call.inputs), _tensors(call.output))


def _tensors(values: list[Value]) -> dict[str, str]:
    return {value.where: _text(value.value) for value in values if isinstance(value.value, TensorSpec)}


def _text(spec: TensorSpec) -> str:
    sizes = ", ".join(map(str, spec.shape))
    return f"{spec.layout} {spec.dtype}[{sizes}]" if spec.layout else f"{spec.dtype}[{sizes}]"


def save(expected: Expected, path: str | Path) -> None:
    """Write a file of expected shapes, whole or not at all; the same shapes always give the same bytes."""
    text = msgspec.json.format(msgspec.json.encode(expected), indent=2) + b"\n"
    write_whole(path, text, "the expected shapes")


def load(path: str | Path) -> Expected:
    """Read a file of expected shapes; one that is missing, damaged or of another version is a TracecallError."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        hint = "type the file's name"
        if isinstance(error, FileNotFoundError):
            hint = f"to write it, type --save-expected {name_of(path)} in place of --expect"
        raise TracecallError(f"{name_of(path)} cannot be read: {reason(error)}; {hint}") from error
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise TracecallError(
                f"{name_of(path)} has format version {version}, this tracecall reads version {FORMAT_VERSION}; "
                + ("update it: pip install --upgrade tracecall" if version > FORMAT_VERSION else _ADVICE)
            )
        return msgspec.json.decode(data, type=Expected)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TracecallError(
            f"{name_of(path)} is no whole file of expected shapes ({reason(error)}); {_ADVICE}"
        ) from error


# not the file's own name: it may be a trace, a model's source, or anything else that is not to be written over
_ADVICE = "to write one, type --save-expected with another name in place of --expect"


def differences(expected: Expected, trace: Trace) -> list[Difference]:
    """What is not as expected: calls in the order of the run, then those that are no more, by path.

    A module's calls are compared one by one; a parameter of forward that has another name and the same shape is no
    difference.
    """
    seen: dict[str, list[CallShapes]] = {}
    for _, call in trace.walk():
        if call.kind == "module":
            seen.setdefault(call.path, []).append(_shapes(call))
    found: list[Difference] = []
    gone: list[Difference] = []
    for path, calls in seen.items():
        before = expected.modules.get(path, [])
        single = len(calls) <= 1 and len(before) <= 1
        for i in range(max(len(calls), len(before))):
            number = None if single else i + 1
            if i >= len(calls):
                gone.append(Difference("removed", path, number, before=before[i]))
            elif i >= len(before):
                found.append(Difference("added", path, number, after=calls[i]))
            elif not _same(before[i], calls[i]):
                found.append(Difference("changed", path, number, before[i], calls[i]))
    for path, before in expected.modules.items():
        if path not in seen:
            for i, shapes in enumerate(before):
                gone.append(Difference("removed", path, None if len(before) == 1 else i + 1, before=shapes))
    return found + sorted(gone, key=lambda one: (one.path, one.call or 0))


def _same(before: CallShapes, after: CallShapes) -> bool:
    return not changes(before.inputs, after.inputs) and not changes(before.output, after.output)


def changes(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, str | None, str | None]]:
    """The tensors that changed: where, before, after; None for one that was not there or is no more.

    Where the names are others but as many, tensors are compared in their order; where no name is left and they are
    not as many, all of them are one change, at "".
    """
    if before.keys() != after.keys() and len(before) == len(after):
        pairs = zip(after, before.values(), after.values(), strict=True)
        return [(where, old, new) for where, old, new in pairs if old != new]
    if before and after and not before.keys() & after.keys():
        return [("", ", ".join(before.values()), ", ".join(after.values()))]
    names = dict.fromkeys([*before, *after])
    return [(where, before.get(where), after.get(where)) for where in names if before.get(where) != after.get(where)]
