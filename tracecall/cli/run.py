"""`tracecall run`: every call of one run as a tree, with times, or the costliest modules as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from tracecall.cli import options, output
from tracecall.cli.loading import Wanted, load_target, watching
from tracecall.cli.options import one_of, whole
from tracecall.errors import TracecallError

if TYPE_CHECKING:
    from tracecall.calls import Trace

Operations = Literal["none", "forward", "all"]
Sort = Literal["time", "self", "flops", "memory", "params"]
TIMED: tuple[Sort, ...] = ("time", "self", "flops")  # what needs timing runs


def run(
    model: options.Model,
    inputs: options.Inputs = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    train: options.Train = False,
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
    explain: Annotated[
        bool, typer.Option("--explain", help="Say in a short sentence what each kind of thing in the tree is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the Trace as JSON, and nothing else.")] = False,
) -> None:
    """Run MODEL once with hooks and show every call; then time it."""
    levels = whole("--depth", depth, "0 shows the root alone, 1 its submodules: --depth 1")
    number = whole("--seed", seed, options.SEED_HINT)
    runs = (
        whole("--warmup", warmup, "for example: --warmup 5"),
        whole("--repeat", repeat, "0 skips timing: --repeat 0"),
    )
    shown = one_of("--ops", ops, get_args(Operations), "all")
    order = None if sort is None else one_of("--sort", sort, get_args(Sort), "time")
    if order in TIMED and runs[1] == 0:
        raise TracecallError(
            f"--sort {order} needs timing runs and --repeat 0 makes none; type --repeat 1, or --sort memory"
        )
    wanted = Wanted(model, inputs or [], device, dtype, number, train)
    wanted.check()
    trace = _measured(wanted, shown, runs, as_json)
    if as_json:
        output.show_json(trace)
    elif order is None or trace.error is not None:  # where a run ended, the tree shows
        _show_tree(trace, levels, shown, explain)
    else:
        _show_table(trace, order)
    if trace.error is not None:
        raise typer.Exit(1)


def _measured(wanted: Wanted, ops: Operations, runs: tuple[int | None, int | None], as_json: bool) -> Trace:
    """Load and measure, and tell in the Trace how it was made."""
    warmup, repeat = runs
    with watching(as_json=as_json) as watch:
        target = load_target(wanted, watch.progress)
        from tracecall.recording import measure, timing

        trace = measure(
            target.model,
            target.args,
            target.kwargs,
            operations=ops,
            inference=not wanted.train,
            warmup=timing.WARMUP if warmup is None else warmup,
            repeat=repeat,
            progress=watch.progress.counted,
        )
    trace.model.origin = target.origin
    trace.settings.dtype, trace.settings.seed = wanted.dtype, 0 if wanted.seed is None else wanted.seed
    trace.settings.notes.extend([*target.notes, *watch.notes])
    return trace


def _show_tree(trace: Trace, depth: int | None, ops: Operations, explain: bool) -> None:
    from tracecall.views.tree import tree

    output.show(lambda width: tree(trace, width=width, depth=depth, operations=ops, explain=explain))


def _show_table(trace: Trace, order: Sort) -> None:
    from tracecall.views.table import table

    output.show(lambda width: table(trace, sort=order, width=width))
