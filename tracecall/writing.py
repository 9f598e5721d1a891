"""Files that are written whole or not at all, and how a file is named in what is said about it."""

from __future__ import annotations

from pathlib import Path

from tracecall.errors import TracecallError

LEVEL = 5  # of gzip: a trace gets no smaller with more, only slower


def write_whole(path: str | Path, data: bytes | str, what: str) -> None:
    """Write a file, gzipped where its name ends in .gz; what cannot be written is a TracecallError.

    The data goes to a temporary file beside it, which then takes its name: who reads the file finds the old one or the
    new one, never a part. `what` is said in the error: "the trace", "the expected shapes".
    """
    check_place(path, what)
    made = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if str(path).lower().endswith(".gz"):
        import gzip  # only writing needs it: who reads a trace does not wait for it

        made = gzip.compress(made, LEVEL, mtime=0)  # without the time: the same data always gives the same bytes
    try:
        _replace(Path(path).resolve(), made)  # a link stays one: the file that it leads to is replaced
    except (OSError, ValueError, RuntimeError) as error:  # a null character in the name, links in a circle
        raise TracecallError(_refusal(path, reason(error), what)) from error


def check_place(path: str | Path, what: str) -> None:
    """Refuse a place where no file can be written, before the work for it is done."""
    try:
        target = Path(path).resolve()
        if not str(path) or target.is_dir():
            raise TracecallError(_refusal(path, "Is a directory" if str(path) else "it has no name", what))
        if not target.parent.is_dir():
            raise TracecallError(_refusal(path, f"there is no folder {name_of(target.parent)}", what))
        if target.exists() and not target.is_file():  # a device or a pipe would be replaced by a file, not written to
            raise TracecallError(_refusal(path, "it is no ordinary file", what))
    except (OSError, ValueError, RuntimeError) as error:
        raise TracecallError(_refusal(path, reason(error), what)) from error


def _refusal(path: str | Path, why: str, what: str) -> str:
    return f"{name_of(path)} cannot be written: {why}; type another place for {what}"


def _replace(target: Path, data: bytes) -> None:
    import shutil
    from secrets import token_hex

    # in the same folder, since a file can be renamed only within its file system
    beside = target.with_name(f".{target.name}.{token_hex(4)}.tmp")
    try:
        beside.write_bytes(data)
        if target.exists():
            shutil.copymode(target, beside)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def name_of(path: str | Path) -> str:
    """A file's name on one line, whatever it holds."""
    return text if (text := str(path)).isprintable() and text else repr(text)


def reason(error: Exception) -> str:
    """Why a file could not be read or written, on one line."""
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
