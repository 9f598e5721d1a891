"""From MODEL and its options to a model that can be run, and what is kept from the screen while user's code runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from tracecall.cli.output import Progress, refuse
from tracecall.cli.showing import Source
from tracecall.garbage import no_collection

if TYPE_CHECKING:
    from tracecall.loading import Target
    from tracecall.loading.places import Request

NOTE_WIDTH = 300  # characters: some warnings are pages


@dataclass(frozen=True)
class Wanted:
    """What is to be loaded, as it was typed."""

    model: str
    inputs: list[str]
    device: str
    dtype: str | None
    seed: int | None  # None: 0
    train: bool
    unmade: bool = False  # inputs for fake tensors, with names among the sizes
    meta: bool = False
    weights: str | None = None  # a file

    def check(self) -> list[Source]:
        """Refuse what cannot be meant, at once and without torch; return the files that will be read."""
        from tracecall.loading import check

        request = check(
            self.model, self.inputs, device=self.device, dtype=self.dtype, seed=self.seed, names=self.unmade
        )
        sources = [Source("the file that MODEL comes from", file) for file in _files_of(request)]
        if self.weights is not None:
            from tracecall.loading.archives import weights_file

            sources.append(Source("the file that --weights reads", weights_file(self.weights)))
        return sources


def _files_of(request: Request) -> list[Path]:
    """Where MODEL comes from. A module is not imported to know: these are the files that it can be."""
    if request.file is not None:
        return [request.file]
    parts = request.model.place.split(".")
    return [
        file
        for folder in dict.fromkeys(["", *sys.path])  # "": the current folder, which comes first
        for file in (Path(folder, *parts).with_suffix(".py"), Path(folder, *parts, "__init__.py"))
    ]


class Watch(NamedTuple):
    """What `watching` has for the work inside it."""

    progress: Progress
    notes: list[str]  # the warnings, each once; filled when the work has ended


@contextlib.contextmanager
def watching(*, as_json: bool) -> Iterator[Watch]:
    """While the user's code runs: a progress line, warnings as notes, and what it prints away from the JSON."""
    import warnings

    watch = Watch(Progress(), [])
    try:
        with (
            contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
            warnings.catch_warnings(record=True) as warned,
        ):
            warnings.simplefilter("default")
            yield watch
    except SystemExit as left:  # only the user's code runs in here: that it ends must not look like success
        watch.progress.clear()
        refuse(
            f"the model's code ended Python by SystemExit({left.code!r}), as sys.exit() does; nothing of it is shown"
        )
        raise typer.Exit(1) from None
    finally:
        watch.progress.clear()
    # torch without numpy says so once; tracecall needs no numpy
    texts = {f"{one.category.__name__}: {one.message}": None for one in warned if "NumPy" not in str(one.message)}
    watch.notes.extend(" ".join(text.split())[:NOTE_WIDTH] for text in texts)


def load_target(wanted: Wanted, progress: Progress, like: Target | None = None) -> Target:
    """Import torch, find and build the model and make its inputs; what goes wrong is a TracecallError.

    With `like` the inputs are that target's.
    """
    progress("loading torch")
    with no_collection():  # looking for garbage among torch's modules takes an eighth of importing them
        from tracecall.loading import load
        from tracecall.loading.inputs import Inputs

    progress(f"loading {wanted.model}")
    target = load(
        wanted.model,
        wanted.inputs,
        device=wanted.device,
        dtype=wanted.dtype,
        seed=wanted.seed,
        train=wanted.train,
        unmade=wanted.unmade,
        meta=wanted.meta,
        weights=wanted.weights,
        given=None if like is None else Inputs(like.args, like.kwargs),
    )
    progress(f"running {target.name}")
    return target


def check_chosen(target: Target, only: str | None, types: str | None) -> None:
    """Refuse a `--only` or `--filter` that nothing in this model can be, before it is run."""
    if only is not None or types is not None:
        from tracecall.loading.choosing import check_chosen as check

        check(target.model, only, types)
