"""What a file of weights or a saved program holds, told from its first bytes and its table of contents.

Nothing is unpickled and no torch is imported here: names of files lie (`.pt` may be weights, a model or TorchScript).
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from tracecall.errors import TracecallError
from tracecall.loading.pickles import pickled
from tracecall.writing import name_of

Content = Literal["program", "script", "pickle", "safetensors"]
_PROGRAMS = {  # files that are called what they hold: which function writes them, and what to type for one
    ".pt2": ("torch.export.save", "torch.export.save(torch.export.export(model.eval(), (x,)), path)"),
    **dict.fromkeys(
        (".ts", ".jit", ".torchscript"), ("torch.jit.save", "torch.jit.save(torch.jit.script(model), path)")
    ),
}
_LFS = b"version https://git-lfs"
_AS_WEIGHTS = "torch.save(model.state_dict(), path)"
_NEITHER = "is neither weights (torch.save, safetensors) nor a saved program (torch.export, TorchScript)"


def existing_file(text: str, option: str) -> Path:
    """Return the file that was typed for `option`; what is no readable file with something in it is an error."""
    path = Path(text).expanduser()
    if path.is_dir():
        raise TracecallError(f"{option} {text!r} is a folder; type one file in it")
    if not path.is_file():
        raise TracecallError(f"{option} {text!r} does not exist; type the path of a file that does")
    try:
        with path.open("rb") as file:
            first = file.read(len(_LFS))
    except OSError as error:
        raise TracecallError(f"{option} {text!r} cannot be read: {error.strerror}; type another file") from error
    if not first:
        raise TracecallError(f"{option} {text!r} is an empty file; save or download it again")
    if first == _LFS:
        raise TracecallError(f"{option} {text!r} is only Git LFS's pointer to the file; type git lfs pull to get it")
    return path


def weights_file(text: str) -> Path:
    """Return the file that was typed for --weights; what cannot hold weights alone is an error, told without torch."""
    path = existing_file(text, "--weights")
    content = content_of(path)
    if content in ("program", "script"):
        what = "a torch.export program" if content == "program" else "a TorchScript program"
        raise TracecallError(
            f"--weights {name_of(text)} is {what}, not weights; type it as MODEL: tracecall run {name_of(text)}"
        )
    found = pickled(path) if content == "pickle" else None
    if found is not None and not found.data:
        raise TracecallError(
            f"--weights {name_of(text)} is a whole pickled object ({found.root}), and reading that could run code from"
            f" the file; save its weights alone with {_AS_WEIGHTS}"
        )
    if found is not None and not found.by_torch:
        raise TracecallError(
            f"--weights {name_of(text)} is a plain pickle{_of(found.root)}, not what torch.save writes, and reading"
            f" that could run code from the file; save the weights with {_AS_WEIGHTS}"
        )
    return path


def refuse_weights(text: str, name: str = "Name") -> None:
    """Raise TracecallError where a file that was typed as MODEL holds no program, but weights, a pickle or nothing.

    `name` is of the class that was typed with it.
    """
    path = existing_file(text, "MODEL")
    content = _known(path)
    if content is None and path.suffix in _PROGRAMS:
        writer, how = _PROGRAMS[path.suffix]
        raise TracecallError(f"MODEL {text} is no program that {writer} wrote; save it again with {how}")
    if content is None:
        raise TracecallError(f"MODEL {text} {_NEITHER}; type the .py file that defines the model")
    if content not in ("pickle", "safetensors"):
        return
    found = pickled(path) if content == "pickle" else None
    with_weights = f"tracecall run path/to/file.py:{name} --weights"
    if found is not None and not found.data:
        read = f"import torch; model = torch.load({text!r}, weights_only=False)"
        if not found.by_torch:
            read = f"import pickle; model = pickle.load(open({text!r}, 'rb'))"
        raise TracecallError(
            f"MODEL {text} is a whole pickled object ({found.root}), and reading that could run code from the file; if"
            f" you trust it, write a load.py with `{read}` and type tracecall run load.py:model"
        )
    if found is not None and not found.by_torch:
        raise TracecallError(
            f"MODEL {text} is a plain pickle{_of(found.root)} and no program: save the weights with {_AS_WEIGHTS} and"
            f" type {with_weights} PATH"
        )
    raise TracecallError(
        f"MODEL {text} holds weights and no program: give the model and its weights: {with_weights} {text}"
    )


def _of(root: str) -> str:
    return f" ({root})" if root else ""


def content_of(path: Path) -> Content:
    """Return what the file holds: a torch.export program, TorchScript, what torch.save wrote, or safetensors."""
    content = _known(path)
    if content is None:
        raise TracecallError(f"{name_of(path)} {_NEITHER}; save it again with {_AS_WEIGHTS}")
    return content


def _known(path: Path) -> Content | None:
    """What the file holds; None where it is nothing of the kind."""
    with path.open("rb") as file:
        first = file.read(9)
    if first.startswith(b"PK"):
        return _content_of_zip(path)
    # safetensors begin with the length of a header in 8 bytes, and the header is JSON
    if path.suffix == ".safetensors" or (first[8:9] == b"{" and first[5:8] == b"\0\0\0"):
        return "safetensors"
    if first[:1] == b"\x80":  # torch.save before 1.6, or pickle itself
        return "pickle"
    return None


def _content_of_zip(path: Path) -> Content:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] or name for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise TracecallError(
            f"{name_of(path)} is damaged or was cut off: {_line(error)}; save or download it again"
        ) from error
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return "program"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "script"
    if "data.pkl" in names:
        return "pickle"
    raise TracecallError(
        f"{name_of(path)} is a zip file, but neither weights nor a saved program;"
        " type a file that torch.save, torch.export.save or torch.jit.save wrote"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
