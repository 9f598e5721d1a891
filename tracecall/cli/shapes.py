"""`tracecall shapes`: the tree with shapes as formulas of named dimensions, and what the input must be."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracecall.cli import options, output
from tracecall.cli.loading import Wanted, load_target, watching
from tracecall.cli.options import Operations
from tracecall.cli.showing import spare_from
from tracecall.errors import TracecallError

if TYPE_CHECKING:
    from tracecall.demands import ShapeReport
    from tracecall.loading import Target

REAL = 10**7  # elements of the inputs with which a run that failed is made again for its cause


def shapes(
    model: options.Model,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="SHAPE",
            help="An input's shape, with names for sizes: B,3,H,W, with a dtype B,S:int64, by name ids=B,S:int64. "
            "Numbers alone, 1,3,32,32, check one size. Repeatable.",
        ),
    ] = None,
    meta: Annotated[
        bool, typer.Option("--meta", help="Do not make the weights either: for models of any size.")
    ] = False,
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    train: options.Train = False,
    depth: options.Depth = None,
    ops: options.Ops = "forward",
    save_expected: Annotated[
        str | None, typer.Option(metavar="FILE", help="Save the shapes, for a later --expect.")
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Say only what is not as saved; exit status 1 if anything is not."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ShapeReport as JSON, and nothing else.")] = False,
) -> None:
    """Show MODEL's shapes as formulas of the names in --input, and what it demands of them."""
    levels = options.levels(depth)
    shown = options.operations(ops)
    if expect is not None and save_expected is not None:
        raise TracecallError("--expect and --save-expected exclude each other; type one of them")
    if meta and device != "cpu":
        raise TracecallError(f"--meta makes no weights, and --device {device} wants them there; type one of them")
    wanted = Wanted(model, inputs or [], device, dtype, None, train, unmade=True, meta=meta)
    sources = wanted.check()
    if save_expected is not None:
        from tracecall.writing import check_place

        check_place(save_expected, "the expected shapes")
        spare_from("--save-expected", save_expected, sources)
    expected = None
    if expect is not None:
        from tracecall import expectations

        expected = expectations.load(expect)  # before the model is run: a missing file is known at once
    report = _reported(wanted, shown, as_json)
    if report.trace.error is None and save_expected is not None:
        from tracecall import expectations

        expectations.save(expectations.from_trace(report.trace), save_expected)
    if report.trace.error is None and expected is not None:
        from tracecall import expectations
        from tracecall.views.expectations import differences_view

        found = expectations.differences(expected, report.trace)
        output.show(lambda width: differences_view(found, width))
        if found:
            raise typer.Exit(1)
        return
    if as_json:
        output.show_json(report)
    else:
        from tracecall.views.shapes import shapes as shapes_view

        output.show(lambda width: shapes_view(report, width=width, depth=levels, operations=shown))
    if report.trace.error is not None:
        raise typer.Exit(1)


def _reported(wanted: Wanted, ops: Operations, as_json: bool) -> "ShapeReport":
    """Load and run, and tell in the report how it was made."""
    with watching(as_json=as_json) as watch:
        target = load_target(wanted, watch.progress)
        from tracecall.loading import grad_mode
        from tracecall.symbolic import shapes as shapes_of

        with grad_mode(train=wanted.train):
            report = shapes_of(
                target.model,
                target.args,
                target.kwargs,
                operations=ops,
                examples=target.examples,
                progress=watch.progress,
            )
        if report.trace.error is not None:
            watch.progress("looking for the cause")
            _explain(report, target, ops, wanted)
    report.trace.model.origin = target.origin
    report.trace.settings.dtype = wanted.dtype
    if wanted.meta:
        report.trace.settings.device = "meta: weights not made"
    report.trace.settings.notes.extend([*target.notes, *watch.notes])
    return report


def _explain(report: "ShapeReport", target: "Target", ops: Operations, wanted: Wanted) -> None:
    """Why the run failed. A small one is made again with numbers: fake tensors word their errors otherwise."""
    from tracecall.recording import measure
    from tracecall.running import add_cause
    from tracecall.symbolic.running import made

    real: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    if not wanted.meta:
        real = made(target.args, target.kwargs, report.sizes, at_most=REAL)
    if real is not None:
        trace = measure(target.model, *real, operations=ops, inference=not wanted.train, repeat=0)
        if trace.error is None and report.trace.error is not None:
            site = report.trace.error.site
            at = f" at {site.file}:{site.line}" if site is not None else ""
            of = ", ".join(f"{name} = {size}" for name, size in report.sizes.items())
            report.notes = [
                f"fake tensors fail ({report.trace.error.type}{at}) where real ones do not: this is a run with numbers"
                + (f", {of}" if of else "")
            ]
            trace.prediction, trace.findings = [], []
        report.trace = trace
    add_cause(report.trace, target.model, real[0] if real else None, real[1] if real else {})
    if report.trace.error is None:
        from tracecall.symbolic.rewriting import signature

        report.signature = signature(report.trace)
