"""`tracecall diff`: what changed between two saved traces. It imports no torch."""

from typing import Annotated

import typer

from tracecall.cli import options, output


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A trace file, as `tracecall run … --save` writes it.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The one to hold against it.")],
    depth: options.Depth = None,
    ops: options.Ops = "forward",
    only: options.Only = None,
    filter_: options.Filter = None,
    no_fold: options.NoFold = False,
    everything: Annotated[bool, typer.Option("--all", help="Show the calls that did not change, too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, all calls, and nothing else.")
    ] = False,
) -> None:
    """Show what changed from trace A to trace B as one tree; exit status 0 if nothing did, 1 if something did.

    Calls are added (+), removed (−) or changed (→): type, shapes, dtypes, devices, parameters. A call is slower or
    faster only where the medians ± their interquartile ranges, of at least 5 runs each, are more than 10 % apart, and
    the medians 3 µs or more a call. What almost all calls share that did not change, as on a machine in another state,
    is told once, and a call is slower or faster beside it; times alone never make the exit status 1, nor do other
    versions of torch, another machine or other findings. What is shown of the tree changes neither the sum nor the exit
    status.
    """
    levels = options.levels(depth)
    shown = options.operations(ops)
    from tracecall import tracefile
    from tracecall.comparison import compare_processes

    found = compare_processes(tracefile.load(before), tracefile.load(after))
    part = options.part(found, only, filter_)
    if as_json:
        from tracecall.views.results import diff_result

        output.show_json(diff_result(found, (before, after)))
    else:
        from tracecall.views.diff import diff as view

        output.show(
            lambda width: view(
                found,
                (before, after),
                part=part,
                width=width,
                everything=everything,
                depth=levels,
                operations=shown,
                fold=not no_fold,
            )
        )
    if found.changed:
        raise typer.Exit(1)
