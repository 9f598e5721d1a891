"""A Trace to and from a file: JSON, gzipped where the name ends in .gz, validated as it is read.

Nothing in a file is run. What cannot be a saved trace (damaged, of a newer version, too large, nested too deep) is one
line. Numbers, texts and lists are as `tracecall.calls` has them; fields that it does not know are left out.
"""

from __future__ import annotations

import codecs
import io
import math
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tracecall.calls import FORMAT_VERSION, ModuleInfo, Trace
from tracecall.errors import TracecallError
from tracecall.garbage import no_collection
from tracecall.writing import name_of, reason, write_whole

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

# A file of version N, as plain JSON, to version N + 1. There is none yet.
UPGRADES: Mapping[int, Upgrade] = {}

FIRST_VERSION = 1
LARGEST = 2 * 1000**3  # bytes of JSON, unzipped: some two million calls
DEEPEST = 2000  # calls inside calls; Python's own limit lets a model nest some 300
_CHUNK = 1 << 20
_PER_CALL = 2  # how deep msgspec goes for each call: the struct and the list that it stands in
_SPARE = 100  # for what stands around the calls and inside the last one
_NO_JSON = ("nan", "inf", "-inf")
_GZIP = b"\x1f\x8b"
_LONGEST_PLACE = 120  # characters of the way to a field: calls inside calls may make it as long as the file is deep


class _Version(msgspec.Struct):
    format_version: int


class _Saved(Trace, kw_only=True):
    """A Trace as it stands in a file: `encoded` always writes the version, and what lacks it is another file."""

    format_version: int


class _Modules(msgspec.Struct):
    modules: dict[str, msgspec.Raw] = {}


def save(trace: Trace, path: str | Path) -> None:
    """Write a trace, whole or not at all; gzipped where the name ends in .gz."""
    write_whole(path, encoded(trace), "the trace")


def encoded(trace: Trace) -> bytes:
    """A trace as JSON; one nested deeper than `DEEPEST` calls is a TracecallError."""
    if _too_deep(trace):
        raise TracecallError(
            f"the trace of {trace.model.name} has more than {DEEPEST:,} calls inside each other, too deep for a file; "
            "record an input for which the model calls itself less often"
        )
    # JSON has no NaN and no infinity: they stand there as text
    prediction = [
        msgspec.structs.replace(one, values=[_finite(value) for value in one.values]) for one in trace.prediction
    ]
    finite = msgspec.structs.replace(trace, prediction=prediction)
    with _room_for_recursion():
        try:
            return msgspec.json.encode(finite)
        except UnicodeEncodeError:  # half a character: of a file whose name is not UTF-8, or of a model's own text
            import json  # only this needs it

            return json.dumps(msgspec.to_builtins(finite), ensure_ascii=False).encode("utf-8", "replace")


def load(path: str | Path, *, largest: int = LARGEST, upgrades: Mapping[int, Upgrade] = UPGRADES) -> Trace:
    """Read a saved trace; what is none is a TracecallError. `largest` is in bytes of JSON, unzipped."""
    data = _read(path, largest)
    try:
        with _room_for_recursion(), no_collection():
            return _decoded(path, data, upgrades)
    except RecursionError as error:
        raise _refused(path, f"it is nested deeper than {DEEPEST:,} calls") from error
    except msgspec.DecodeError as error:
        raise _refused(path, _other(data) or _malformed(error, data)) from error
    except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise _refused(path, _other(data) or reason(error)) from error


def _finite(value: float | int | bool | str) -> float | int | bool | str:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _decoded(path: str | Path, data: bytes, upgrades: Mapping[int, Upgrade]) -> Trace:
    try:
        saved = msgspec.json.decode(data, type=_Saved)
        trace = Trace(**{name: getattr(saved, name) for name in Trace.__struct_fields__})
        version = trace.format_version
    except msgspec.ValidationError as error:  # well-formed, of another shape: of another version?
        version = msgspec.json.decode(data, type=_Version).format_version
        if version == FORMAT_VERSION:
            raise ValueError(_placed(error, data)) from error
    if version > FORMAT_VERSION:
        raise TracecallError(
            f"{name_of(path)} has format version {version}, this tracecall reads up to {FORMAT_VERSION}; "
            "update it: pip install --upgrade tracecall"
        )
    if version < FORMAT_VERSION:
        trace = _upgraded(path, data, version, upgrades)
    _check(trace)
    for one in trace.prediction:
        one.values = [float(value) if value in _NO_JSON else value for value in one.values]
    return trace


def _upgraded(path: str | Path, data: bytes, version: int, upgrades: Mapping[int, Upgrade]) -> Trace:
    """A trace of an older version: its JSON is brought from version to version, then validated as any other."""
    plain = msgspec.json.decode(data, type=dict[str, Any])
    for number in range(version, FORMAT_VERSION):
        if number not in upgrades:
            why = "which this tracecall no longer reads" if version >= FIRST_VERSION else "which never was"
            raise TracecallError(f"{name_of(path)} has format version {version}, {why}; {_ADVICE}")
        try:
            plain = upgrades[number](plain)
        except (LookupError, TypeError, AttributeError) as error:  # what every file of that version has is not there
            raise ValueError(f"it is no trace of format version {number}: {type(error).__name__}: {error}") from error
    return msgspec.convert({**plain, "format_version": FORMAT_VERSION}, Trace)


def _other(data: bytes) -> str | None:
    """What else a file is that is easily taken for a trace."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8)):
        return "it begins with a byte order mark, as a shell's `>` writes one: use --save"
    if b'"traceEvents"' in data[:_HEAD]:
        return "it is for ui.perfetto.dev, as --perfetto writes it"
    return None


_HEAD = 1000  # bytes in which a file says what it is


def _malformed(error: msgspec.DecodeError, data: bytes) -> str:
    """Why it is no JSON, with what stands there: some writers leave `"host_ns": NaN`."""
    said = reason(error)
    byte = re.search(r"\(byte (\d+)\)", said)
    if byte is None:
        return said
    at = int(byte[1])
    near = " ".join(data[max(0, at - 30) : at + 10].decode("utf-8", "replace").split())
    return f"{said}, in {near!r}"


def _placed(error: msgspec.ValidationError, data: bytes) -> str:
    """What is wrong and where, on a line of bounded length; msgspec names no key of a dict: `$.modules[...].type`."""
    said = str(error)
    if "`$.modules[...]" in said:
        for path, raw in msgspec.json.decode(data, type=_Modules).modules.items():
            try:
                msgspec.json.decode(raw, type=ModuleInfo)
            except msgspec.ValidationError as found:
                said = str(found).replace("`$", f"`$.modules[{path!r}]")
                break
    what, begins, place = said.partition("`$")
    if len(place) > _LONGEST_PLACE:
        place = place[: _LONGEST_PLACE // 2] + "…" + place[-_LONGEST_PLACE // 2 :]
    return what + begins + place


def _check(trace: Trace) -> None:
    """Refuse what the types allow and no run makes: views count on it."""
    for path, info in trace.modules.items():
        if path != info.path:
            raise ValueError(f"the module at {path!r} says that it is at {info.path!r}")
    if _too_deep(trace):
        raise RecursionError
    for place, one in enumerate(trace.prediction):
        for number in one.values:
            if isinstance(number, int) and not -(2**63) <= number < 2**64:  # uint64 has the largest
                raise ValueError(f"no tensor holds a number of that size - at `$.prediction[{place}].values`")


def _too_deep(trace: Trace) -> bool:
    level, depth = trace.calls, 0
    while level and depth < DEEPEST:
        level = [child for call in level if call.children for child in call.children]
        depth += 1
    return bool(level)


def _read(path: str | Path, largest: int) -> bytes:
    """The JSON in a file. One that is not an ordinary file is not waited for."""
    try:
        # a FIFO would wait for a writer, a device may never end: open without waiting, then look
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:  # noqa: PTH123 - Path has no way to open without waiting
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise TracecallError(
                    f"{name_of(path)} cannot be read: it is no ordinary file; type a saved trace's name"
                )
            # by its size: Python makes room for all that may be read, and moves what there was to read out of it
            size = min(about.st_size, largest)
            data = file.read(size + 1)
            if len(data) > size:  # it grew, or its size is not known
                data += file.read(largest - size)
    except (OSError, ValueError) as error:
        hint = "save one with `tracecall run MODEL --save FILE`" if isinstance(error, FileNotFoundError) else ""
        raise TracecallError(
            f"{name_of(path)} cannot be read: {reason(error)}; {hint or 'type the name of a saved trace'}"
        ) from error
    if data.startswith(_GZIP):
        data = _unzipped(path, data, largest)
    if len(data) > largest:
        raise _refused(path, _TOO_LARGE.format(largest=largest))
    if not data.strip():
        raise _refused(path, "it is empty")
    return data


# not the file's own name: it may be a model's source, or anything else that is not to be written over
_ADVICE = "save a trace with `tracecall run MODEL --save trace.json`"
_TOO_LARGE = "it holds more than {largest:,} bytes of JSON, the most that is read"


def _unzipped(path: str | Path, data: bytes, largest: int) -> bytes:
    """What is in a gzip file, never more than `largest` bytes: a small file can unzip to any size."""
    found = io.BytesIO()
    try:
        while data:  # a gzip file may have several parts
            unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            while not unzip.eof:
                part = unzip.decompress(data, _CHUNK)
                data = unzip.unconsumed_tail
                if not part and not data and not unzip.eof:
                    raise _refused(path, "the file ends too early")
                found.write(part)
                if found.tell() > largest:
                    raise _refused(path, _TOO_LARGE.format(largest=largest))
            data = unzip.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise _refused(path, f"its gzip data is damaged: {error}") from error
    return found.getvalue()


def _refused(path: str | Path, why: str) -> TracecallError:
    return TracecallError(f"{name_of(path)} is no whole saved trace ({why}); {_ADVICE}")


@contextmanager
def _room_for_recursion() -> Iterator[None]:
    """Room for `DEEPEST` calls inside each other, and no more: msgspec counts each level as one of Python's calls.

    No more, since a limit that someone has raised would let a hostile file overflow the stack.
    """
    before = sys.getrecursionlimit()
    used, frame = 0, sys._getframe()
    while frame.f_back is not None:
        used, frame = used + 1, frame.f_back
    sys.setrecursionlimit(used + DEEPEST * _PER_CALL + _SPARE)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
