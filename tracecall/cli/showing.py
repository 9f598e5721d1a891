"""What `run` and `show` do with a Trace: write the files that are asked for, print the tree, the table or JSON.

A view is imported when it is asked for, so that `tracecall show` starts fast.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from tracecall.cli import options, output
from tracecall.cli.options import Operations, Sort, one_of
from tracecall.errors import TracecallError

if TYPE_CHECKING:
    from tracecall.calls import Trace

TIMED: tuple[Sort, ...] = ("time", "self", "flops")  # what needs timing runs
PICTURE = 120  # columns of the terminal in an SVG


@dataclass(frozen=True)
class Shown:
    """What is to be shown of a Trace, and which files of it are to be written."""

    depth: int | None = None  # levels of submodules below the root; None for all of them
    operations: Operations = "forward"
    sort: Sort | None = None  # a table of the costliest modules; None for the tree
    explain: bool = False
    fold: bool = True  # repeated siblings in one line
    only: str | None = None  # the path of the module to show
    types: str | None = None  # the type of the modules to show, as in --filter
    save: str | None = None
    html: str | None = None
    perfetto: str | None = None
    svg: str | None = None
    mermaid: str | None = None
    as_json: bool = False


class Source(NamedTuple):
    """A file that a command reads, and what it is: "the file that MODEL comes from"."""

    what: str
    path: str | Path


class _File(NamedTuple):
    """A file that is asked for: its option, what it is called, its name, and what makes its contents."""

    option: str
    what: str
    path: str
    made: Callable[[Trace], bytes | str]


def shown_from(
    *,
    depth: str | None,
    ops: str,
    sort: str | None,
    explain: bool,
    no_fold: bool,
    only: str | None,
    types: str | None,
    save: str | None,
    html: str | None,
    perfetto: str | None,
    svg: str | None,
    mermaid: str | None,
    as_json: bool,
) -> Shown:
    """The options as they were typed, read; one that cannot be meant is a TracecallError, at once."""
    shown = Shown(
        depth=options.levels(depth),
        operations=options.operations(ops),
        sort=None if sort is None else one_of("--sort", sort, get_args(Sort), "time"),
        explain=explain,
        fold=not no_fold,
        only=only,
        types=types,
        save=save,
        html=html,
        perfetto=perfetto,
        svg=svg,
        mermaid=mermaid,
        as_json=as_json,
    )
    _check_together(shown)
    check_places(shown)
    return shown


def _check_together(shown: Shown) -> None:
    """Refuse what a table has no use for, and no file that is asked for has either."""
    if shown.sort is None:
        return
    table = f"--sort {shown.sort}"
    if shown.explain:
        raise TracecallError(
            f"{table} lists modules in a table, and --explain says what is in the tree; "
            f"type {table} alone, or --explain"
        )
    if not shown.fold and shown.svg is None and shown.mermaid is None:
        raise TracecallError(
            f"{table} adds up the calls of each module, and --no-fold shows each call in the tree; "
            f"type {table} alone, or --no-fold"
        )


def show_trace(trace: Trace, shown: Shown) -> None:
    """Write the files that are asked for and say so on stderr; then print the tree, the table or JSON."""
    from tracecall.folding import folded
    from tracecall.writing import name_of, write_whole

    chosen = trace
    if shown.only is not None or shown.types is not None:
        chosen = folded(trace, fold=False, only=shown.only, types=shown.types)
    refused: list[TracecallError] = []
    for file in _files(shown):
        try:
            # a saved trace is all that was recorded: what is shown of it can be chosen again
            write_whole(file.path, file.made(trace if file.option == "--save" else chosen), file.what)
            output.note(f"{file.what} written to {name_of(file.path)}")
        except TracecallError as error:  # a long run is not lost with it: the rest is shown
            refused.append(error)
    if shown.as_json:
        from tracecall.tracefile import encoded

        output.write(encoded(chosen).decode() + "\n")
    elif shown.sort is None or trace.error is not None:  # where a run ended, the tree shows
        _show_tree(folded(chosen, fold=shown.fold), shown)
    else:
        _show_table(chosen, shown.sort, shown.depth)
    if refused:
        raise refused[0]


def _files(shown: Shown) -> Iterator[_File]:
    wanted = (
        ("--save", "the trace", shown.save, _trace_file),
        ("--html", "the page", shown.html, _page),
        ("--perfetto", "the trace for Perfetto", shown.perfetto, _perfetto),
        ("--svg", "the picture", shown.svg, lambda trace: _picture(trace, shown)),
        ("--mermaid", "the diagram", shown.mermaid, lambda trace: _diagram(trace, shown)),
    )
    return (_File(option, what, path, made) for option, what, path, made in wanted if path is not None)


def check_places(shown: Shown) -> None:
    """Refuse a file that cannot be written before a model is run for it, and one name for two files."""
    from tracecall.writing import check_place, name_of

    seen: dict[str, str] = {}
    for file in _files(shown):
        check_place(file.path, file.what)
        target = os.path.realpath(file.path)  # by whatever links or dots it is named
        if target in seen:
            raise TracecallError(
                f"{seen[target]} and {file.option} both name {name_of(file.path)}; type another name for one of them"
            )
        seen[target] = file.option


def spare(shown: Shown, sources: Sequence[Source]) -> None:
    """Refuse to write over a file that the command reads, by whatever name, before anything is run."""
    for file in _files(shown):
        spare_from(file.option, file.path, sources)


def spare_from(option: str, path: str, sources: Sequence[Source]) -> None:
    """The same for one file that is asked for by `option`."""
    from tracecall.writing import name_of

    for source in sources:
        if _same(path, source.path):
            raise TracecallError(f"{option} {name_of(path)} is {source.what}; type another name for {option}")


def _same(path: str, other: str | Path) -> bool:
    try:
        return Path(path).samefile(other)
    except (OSError, ValueError):  # one of them is not there: nothing can be lost
        return False


def _trace_file(trace: Trace) -> bytes:
    from tracecall.tracefile import encoded

    return encoded(trace)


def _page(trace: Trace) -> str:
    from tracecall.views.html import page

    return page(trace)


def _perfetto(trace: Trace) -> str:
    from tracecall.views.perfetto import perfetto

    return perfetto(trace)


def _picture(trace: Trace, shown: Shown) -> str:
    from tracecall.folding import folded
    from tracecall.views.svg import svg

    return svg(folded(trace, fold=shown.fold, depth=shown.depth), width=PICTURE)


def _diagram(trace: Trace, shown: Shown) -> str:
    from tracecall.folding import folded
    from tracecall.views.mermaid import mermaid

    return mermaid(folded(trace, fold=shown.fold), depth=shown.depth)


def _show_tree(trace: Trace, shown: Shown) -> None:
    from rich.console import Console

    from tracecall.views.tree import printed

    # it prints into nothing: what is written is written by us
    terminal = Console(file=io.StringIO(), force_terminal=sys.stdout.isatty() or None, highlight=False)
    output.write(printed(trace, terminal, depth=shown.depth, operations=shown.operations, explain=shown.explain))


def _show_table(trace: Trace, order: Sort, depth: int | None) -> None:
    from tracecall.views.table import table

    output.show(lambda width: table(trace, sort=order, depth=depth, width=width))
