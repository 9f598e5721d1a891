"""The command line: parse, call one thing, print, set the exit status. torch is imported when a model is to be run."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

import typer

from tracecall.errors import TracecallError

if TYPE_CHECKING:
    from tracecall.calls import Trace
    from tracecall.loading import Target

Operations = Literal["none", "forward", "all"]
Sort = Literal["time", "self", "flops", "memory", "params"]
TIMED: tuple[Sort, ...] = ("time", "self", "flops")  # what needs timing runs
Known = TypeVar("Known", bound=str)
PROGRESS_AFTER = 1.0  # seconds: shorter work needs no progress line

app = typer.Typer(
    name="tracecall",
    help="Show what a PyTorch model(x) really does: __call__, hooks, forward and submodules, with shapes and times.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line and exit: 0 done, 1 the model's forward failed, 2 the command cannot be carried out."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character is no reason to fail
    try:
        status = app(standalone_mode=False)
    except TracecallError as error:
        status = _refuse(str(error))
    except typer.Abort:
        status = 130
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        # what the option parser refuses: its classes moved between typer's releases, its message did not
        if not hasattr(error, "format_message"):
            raise
        status = _refuse(f"{error.format_message()}  (see: tracecall run --help)")
    raise SystemExit(status if isinstance(status, int) else 0)


def entry() -> None:
    """The command itself: `main`, and then an end without taking torch apart object by object (half a second)."""
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
        if threading.active_count() > 1:  # the model's own threads are waited for, as Python does
            raise
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _drop_output() -> None:
    """What is still in stdout's buffer cannot be written: Python must not fail on it again as it exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:  # a stdout that is no file of the system's
        return


def _refuse(message: str) -> int:
    print("tracecall: " + " ".join(message.split()), file=sys.stderr)
    return 2


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"tracecall {version('tracecall')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A demo (linear, feedforward, cnn, rnn, transformer), path/to/file.py, path/to/file.py:Name, "
            "package.module:Name, or with arguments 'file.py:Name(20, 64)'. Name is a class, a function that "
            "returns a module, or a module.",
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="SHAPE",
            help="An input's shape: 1,3,28,28, with a dtype 1,16:int64, by name ids=1,16:int64. Repeatable.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:N, mps or auto.")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(metavar="DTYPE", help="The dtype of parameters and inputs: float32, bfloat16, …")
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="N", help="Seed of weights and inputs; 0 if not given.")] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train mode with gradients, not eval in inference mode.")
    ] = False,
    depth: Annotated[
        str | None, typer.Option(metavar="N", help="How many levels of submodules to show; all if not given.")
    ] = None,
    ops: Annotated[
        str, typer.Option(metavar="WHICH", help="Operations to show: none, forward (the model's own) or all.")
    ] = "forward",
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="BY", help="List the costliest modules instead of the tree: by time, self, flops, memory or params."
        ),
    ] = None,
    warmup: Annotated[
        str | None, typer.Option(metavar="N", help="Runs before those that are timed; 2 if not given.")
    ] = None,
    repeat: Annotated[
        str | None,
        typer.Option(metavar="N", help="Timed runs; 0 skips timing; as many as fit in half a second if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the Trace as JSON, and nothing else.")] = False,
) -> None:
    """Run MODEL once with hooks attached and show every call; then time it."""
    levels = _whole("--depth", depth, "0 shows the root alone, 1 its submodules: --depth 1")
    number = _whole("--seed", seed, "for example: --seed 1")
    runs = (
        _whole("--warmup", warmup, "for example: --warmup 5"),
        _whole("--repeat", repeat, "0 skips timing: --repeat 0"),
    )
    shown = _one_of("--ops", ops, get_args(Operations), "all")
    order = None if sort is None else _one_of("--sort", sort, get_args(Sort), "time")
    if order in TIMED and runs[1] == 0:
        raise TracecallError(
            f"--sort {order} needs timing runs and --repeat 0 makes none; type --repeat 1, or --sort memory"
        )
    from tracecall.loading import check

    check(model, inputs or [], device=device, dtype=dtype, seed=number)
    progress = _Progress()
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            trace = _run(model, inputs or [], device, dtype, number, train, shown, runs, progress)
    finally:
        progress.clear()
    _show(trace, levels, shown, order, as_json)
    if trace.error is not None:
        raise typer.Exit(1)


def _whole(option: str, text: str | None, hint: str) -> int | None:
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise TracecallError(f"{option} {text!r} is no whole number of at least 0; {hint}")


def _one_of(option: str, text: str, known: tuple[Known, ...], example: str) -> Known:
    for one in known:
        if text == one:
            return one
    raise TracecallError(f"{option} {text!r} is unknown; possible: {', '.join(known)}; type {option} {example}")


def _run(
    model: str,
    inputs: list[str],
    device: str,
    dtype: str | None,
    seed: int | None,
    train: bool,
    ops: Operations,
    runs: tuple[int | None, int | None],
    progress: _Progress,
) -> Trace:
    """Load and measure, and tell in the Trace how it was made."""
    import warnings

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        progress("loading torch")
        from tracecall.loading import load
        from tracecall.recording import measure, timing

        warmup, repeat = runs
        progress(f"loading {model}")
        target = load(model, inputs, device=device, dtype=dtype, seed=seed, train=train)
        progress(f"running {target.name}")
        trace = measure(
            target.model,
            target.args,
            target.kwargs,
            operations=ops,
            inference=not train,
            warmup=timing.WARMUP if warmup is None else warmup,
            repeat=repeat,
            progress=progress.counted,
        )
    _describe(trace, target, dtype, seed, warned)
    return trace


def _describe(trace: Trace, target: Target, dtype: str | None, seed: int | None, warned: list[Any]) -> None:
    trace.model.origin = target.origin
    trace.settings.dtype, trace.settings.seed = dtype, 0 if seed is None else seed
    trace.settings.notes.extend(target.notes)
    # torch without numpy says so once; tracecall needs no numpy
    texts = {f"{one.category.__name__}: {one.message}": None for one in warned if "NumPy" not in str(one.message)}
    trace.settings.notes.extend(" ".join(text.split())[:300] for text in texts)


def _show(trace: Trace, depth: int | None, ops: str, sort: Sort | None, as_json: bool) -> None:
    if as_json:
        import msgspec

        _write(msgspec.json.encode(trace).decode() + "\n")
        return
    from rich.console import Console

    # written at once and by us: rich exits with 1 where a pipe is closed
    console = Console(file=io.StringIO(), force_terminal=sys.stdout.isatty() or None, highlight=False)
    if sort is None or trace.error is not None:  # where a run ended, the tree shows
        from tracecall.views.tree import tree

        console.print(tree(trace, width=console.width, depth=depth, operations=ops))
    else:
        from tracecall.views.table import table

        console.print(table(trace, sort=sort, width=console.width))
    _write(console.file.getvalue())  # type: ignore[attr-defined]  # the StringIO


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `tracecall run cnn | head`: the reader has what it wants
        _drop_output()
    except OSError as error:
        _drop_output()
        raise TracecallError(f"the output cannot be written: {error.strerror or error}") from error


class _Progress:
    """One line on stderr that is overwritten, only on a terminal and only once the work takes longer than a second."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown = False

    def __call__(self, text: str) -> None:
        if sys.stderr.isatty() and (time.monotonic() - self._begun > PROGRESS_AFTER or self._shown):
            self._shown = True
            sys.stderr.write(f"\r\x1b[2K{text} …")
            sys.stderr.flush()

    def counted(self, done: int, wanted: int) -> None:
        """A round of timing runs is done."""
        self(f"timing run {done} of {wanted}")

    def clear(self) -> None:
        """Leave nothing of the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False
