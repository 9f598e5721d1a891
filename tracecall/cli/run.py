"""`tracecall run`: every call of one run as a tree, with times, or the costliest modules as a table."""

from typing import TYPE_CHECKING, Annotated

import typer

from tracecall.cli import options
from tracecall.cli.loading import Wanted, check_chosen, load_target, watching
from tracecall.cli.showing import TIMED, Shown, show_trace, shown_from, spare
from tracecall.errors import TracecallError

if TYPE_CHECKING:
    from tracecall.calls import Trace

BUDGET = 8.0  # seconds for what would fit, of a run that failed


def run(
    model: options.Model,
    inputs: options.Inputs = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    train: options.Train = False,
    weights: options.Weights = None,
    depth: options.Depth = None,
    ops: options.Ops = "forward",
    sort: options.SortBy = None,
    only: options.Only = None,
    filter_: options.Filter = None,
    no_fold: options.NoFold = False,
    warmup: options.Warmup = None,
    repeat: options.Repeat = None,
    explain: options.Explain = False,
    nan: Annotated[
        bool, typer.Option("--nan", help="If the output holds NaN or Inf, find the call where that began.")
    ] = False,
    save: options.Save = None,
    html: options.Html = None,
    perfetto: options.Perfetto = None,
    svg: options.Svg = None,
    mermaid: options.Mermaid = None,
    as_json: options.AsJson = False,
) -> None:
    """Run MODEL once with hooks and show every call; then time it."""
    number = options.seeds(seed)
    runs = options.runs(warmup, repeat)
    shown = shown_from(
        depth=depth,
        ops=ops,
        sort=sort,
        explain=explain,
        no_fold=no_fold,
        only=only,
        types=filter_,
        save=save,
        html=html,
        perfetto=perfetto,
        svg=svg,
        mermaid=mermaid,
        as_json=as_json,
    )
    if shown.sort in TIMED and runs[1] == 0:
        raise TracecallError(
            f"--sort {shown.sort} needs timing runs and --repeat 0 makes none; type --repeat 1, or --sort memory"
        )
    if shown.perfetto is not None and runs[1] == 0:
        raise TracecallError("--perfetto needs timing runs and --repeat 0 makes none; type --repeat 1")
    wanted = Wanted(model, inputs or [], device, dtype, number, train, weights=weights)
    spare(shown, wanted.check())
    trace = _measured(wanted, shown, runs, nan)
    show_trace(trace, shown)
    if trace.error is not None:
        raise typer.Exit(1)


def _measured(wanted: Wanted, shown: Shown, runs: tuple[int | None, int | None], nan: bool) -> "Trace":
    """Load and measure, and tell in the Trace how it was made."""
    warmup, repeat = runs
    with watching(as_json=shown.as_json) as watch:
        target = load_target(wanted, watch.progress)
        check_chosen(target, shown.only, shown.types)
        from tracecall.diagnosis.findings import findings
        from tracecall.recording import measure, timing

        trace = measure(
            target.model,
            target.args,
            target.kwargs,
            operations=shown.operations,
            inference=not wanted.train,
            warmup=timing.WARMUP if warmup is None else warmup,
            repeat=repeat,
            progress=watch.progress.counted,
            prove=True,
            nan=nan,
        )
        if trace.error is not None:
            from tracecall.running import add_cause

            watch.progress("looking for the cause")
            add_cause(trace, target.model, target.args, target.kwargs, budget_s=BUDGET)
    trace.model.origin = target.origin
    trace.settings.dtype, trace.settings.seed = wanted.dtype, 0 if wanted.seed is None else wanted.seed
    trace.settings.notes.extend([*target.notes, *watch.notes])
    trace.findings.extend(findings(trace))
    return trace
