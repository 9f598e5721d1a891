"""Where MODEL is: the demo's file, the user's file or the module, found without importing torch or the model."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import tracecall
from tracecall.errors import TracecallError
from tracecall.loading.archives import refuse_weights
from tracecall.loading.specs import (
    DEMOS,
    PROGRAMS,
    InputSpec,
    ModelSpec,
    parse_device,
    parse_dtype,
    parse_input,
    parse_model,
    parse_seed,
)


@dataclass(frozen=True)
class Request:
    """Everything that `load` was asked for, taken apart and found possible as far as that shows without torch."""

    model: ModelSpec
    file: Path | None  # of a demo or a file; None where MODEL names a module
    inputs: tuple[InputSpec, ...]
    device: str
    dtype: str | None
    seed: int


def check(
    model: str,
    inputs: Sequence[str] = (),
    *,
    device: str = "cpu",
    dtype: str | None = None,
    seed: int | None = None,
    names: bool = False,
) -> Request:
    """Take the arguments of `load` apart, without torch; what cannot be meant is a TracecallError in one line.

    With `names` an input's sizes may be names.
    """
    spec = parse_model(model)
    return Request(
        model=spec,
        file=locate(spec),
        inputs=tuple(parse_input(text, names=names) for text in inputs),
        device=parse_device(device),
        dtype=None if dtype is None else parse_dtype(dtype),
        seed=0 if seed is None else parse_seed(seed),
    )


def locate(spec: ModelSpec) -> Path | None:
    """Return the file of a demo or of a file's MODEL, absolute; None for a module. A missing file is an error."""
    if spec.kind == "demo":
        return demo_file(spec.place)
    _refuse_name_in_program(spec)
    if spec.kind == "module":
        # `cnn:CNN` means the demo, unless the user has a module of that name.
        return demo_file(spec.place) if spec.place in DEMOS and not _is_module(spec.place) else None
    path = Path(spec.place).expanduser()
    if path.is_file() and path.suffix in PROGRAMS:
        refuse_weights(spec.place)
    if path.is_file() and path.suffix in (".py", *PROGRAMS):
        # Not resolved: a link's own folder is the one whose files it imports.
        return Path(os.path.abspath(path))
    raise TracecallError(f"MODEL {spec.place!r} {_why_no_file(spec.place, path)}")


def _refuse_name_in_program(spec: ModelSpec) -> None:
    """Refuse `model.pt2:Name`, unless that can be a module `model.pt2`: in a file there is nothing to choose from."""
    path = Path(spec.place).expanduser()
    if spec.name is not None and path.suffix in PROGRAMS and (spec.kind == "file" or path.is_file()):
        refuse_weights(spec.place, spec.name)
        raise TracecallError(
            f"MODEL {spec.text!r}: {spec.place} is a saved program, which is one model and has no {spec.name} to"
            f" choose; type tracecall run {spec.place}"
        )


def demo_file(name: str) -> Path:
    """Return the file of a demo: from the package `tracecall.models`, or from `models/` beside a source checkout."""
    folders: list[Path] = []
    installed = find_spec("tracecall.models")
    if installed is not None:
        folders.extend(Path(folder) for folder in installed.submodule_search_locations or ())
    folders.append(Path(tracecall.__file__).resolve().parent.parent / "models")
    for folder in folders:
        if (folder / DEMOS[name]).is_file():
            return folder / DEMOS[name]
    raise TracecallError(
        f"the demo {name!r} is missing from this installation ({folders[0]}); type: {sys.executable} -m pip install"
        " --force-reinstall tracecall"
    )


def shown(file: str | Path) -> str:
    """Return a file's name as a reader knows it.

    Below site-packages from there on, a demo outside the checkout as `tracecall/models/…`, below the current folder
    from there on, anything else absolute.
    """
    path = Path(os.path.abspath(file))
    parts = path.parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts:
            return Path(*parts[len(parts) - parts[::-1].index(folder) :]).as_posix()
    here = Path.cwd()
    if path.is_relative_to(here):
        return path.relative_to(here).as_posix()
    if path.parent == Path(tracecall.__file__).resolve().parent.parent / "models":
        return f"tracecall/models/{path.name}"
    return path.as_posix()


def _is_module(name: str) -> bool:
    here = Path.cwd()
    return (here / f"{name}.py").is_file() or (here / name).is_dir() or find_spec(name) is not None


def _why_no_file(text: str, path: Path) -> str:
    demos = f"the demos are {', '.join(DEMOS)}"
    if path.is_dir():
        files = sorted(one.name for one in path.glob("*.py") if not one.name.startswith("_"))
        example = f", for example {path / files[0]}" if files else ""
        return f"is a folder; type a .py file{example}"
    if path.exists():
        return f"is not a Python file; type a .py file that defines the model, or a demo ({', '.join(DEMOS)})"
    if path.with_name(path.name + ".py").is_file() and path.suffix != ".py":
        return f"does not exist; type {text}.py"
    if path.suffix in (".py", *PROGRAMS) or "/" in text or os.sep in text:
        siblings = [one.name for one in path.parent.glob("*.py")] if path.parent.is_dir() else []
        close = get_close_matches(path.name, siblings, n=1)
        hint = f"did you mean {path.parent / close[0]}? " if close else ""
        return f"does not exist; {hint}type path/to/file.py, package.module:Name or a demo ({', '.join(DEMOS)})"
    if re.fullmatch(r"\w+\(.*\)", text, re.DOTALL):
        return f"does not say where {text.partition('(')[0]} is; type path/to/file.py:{text} or package.module:{text}"
    if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", text):
        package, _, name = text.rpartition(".")
        return f"is neither a file nor a demo; if it is in a module, type {package}:{name} or {text}:Name"
    close = get_close_matches(text, DEMOS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"is neither a demo nor a file; {hint}{demos}; or type path/to/file.py or package.module:Name"
