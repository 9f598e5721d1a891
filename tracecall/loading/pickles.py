"""What a pickle makes, told from its first words: they are read as a text, and nothing is made or imported."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_HEAD = 65_536  # bytes: the first words of a pickle are its class
# what torch.save wrote before 1.6: this number, the protocol and the system's sizes, each a pickle, before the object
_MAGIC = 0x1950A86A20F9469CFC6C
_BEFORE = 2
_LONGEST = 100  # characters of a name
_DATA = ("dict", "list", "collections.OrderedDict", "collections.defaultdict", "")
_STEPS = ("PROTO", "FRAME", "MARK", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT")  # that make nothing
_MADE = {"EMPTY_DICT": "dict", "DICT": "dict", "EMPTY_LIST": "list", "LIST": "list"}
_WRAPPER = "_reconstructor"  # of protocols 0 and 1: the class comes next


@dataclass(frozen=True)
class Pickled:
    """A pickle. `root` is what it makes: "dict", "torch.nn.modules.linear.Linear"; "" where that does not show."""

    root: str
    by_torch: bool  # torch.save wrote it, not pickle itself

    @property
    def data(self) -> bool:
        """Whether it may be tensors in plain containers, as weights are; another class is an object with code."""
        return self.root in _DATA or self.root.startswith("torch._utils.")


def pickled(path: Path) -> Pickled:
    """Return what a file makes that torch.save or pickle wrote."""
    with path.open("rb") as file:
        head = io.BytesIO(file.read(_HEAD))
    if head.getvalue().startswith(b"PK"):
        return Pickled(_root(_in_zip(path)), by_torch=True)
    if ("LONG1", _MAGIC) not in list(_words(head)):
        head.seek(0)
        return Pickled(_root(head), by_torch=False)
    for _ in range(_BEFORE):
        list(_words(head))
    return Pickled(_root(head), by_torch=True)


def _in_zip(path: Path) -> IO[bytes]:
    """The beginning of the pickle in a zip file; nothing where that is damaged, which torch tells in its own words."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((one for one in archive.namelist() if one.endswith("data.pkl")), "data.pkl")
            with archive.open(name) as member:
                return io.BytesIO(member.read(_HEAD))
    except Exception:  # a damaged file may raise anything
        return io.BytesIO()


def _root(stream: IO[bytes]) -> str:
    """What the next pickle in a stream makes."""
    texts: list[str] = []
    for word, value in _words(stream):
        if word in _MADE:
            return _MADE[word]
        if word == "STACK_GLOBAL":
            return _shown(".".join(texts[-2:]))
        if word == "GLOBAL":
            if not str(value).endswith(_WRAPPER):
                return _shown(str(value).replace(" ", "."))
        elif isinstance(value, str):
            texts.append(value)
        elif word not in _STEPS:
            break
    return ""


def _shown(name: str) -> str:
    """A class's name as part of a line, whatever the file says that it is."""
    return (name if name.isprintable() else ascii(name))[:_LONGEST]


def _words(stream: IO[bytes]) -> Iterator[tuple[str, object]]:
    """The words of one pickle, to its end or to where it makes no sense."""
    import pickletools  # only a pickle needs it

    try:
        for word, value, _ in pickletools.genops(stream):
            yield word.name, value
    except (ValueError, OverflowError):  # cut off, damaged, or longer than the head
        return
