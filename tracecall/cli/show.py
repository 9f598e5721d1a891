"""`tracecall show`: a saved trace in any view, without torch and without the model."""

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from tracecall.cli import options
from tracecall.cli.showing import TIMED, Shown, Source, show_trace, shown_from, spare
from tracecall.errors import TracecallError

if TYPE_CHECKING:
    from tracecall.calls import Trace


def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A trace that --save or trace.save() has written.")],
    depth: options.Depth = None,
    ops: options.Ops = "forward",
    sort: options.SortBy = None,
    only: options.Only = None,
    filter_: options.Filter = None,
    no_fold: options.NoFold = False,
    explain: options.Explain = False,
    save: options.Save = None,
    html: options.Html = None,
    perfetto: options.Perfetto = None,
    svg: options.Svg = None,
    mermaid: options.Mermaid = None,
    as_json: options.AsJson = False,
) -> None:
    """Show a saved trace, in every way that `tracecall run` shows one."""
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
    from tracecall.tracefile import load

    gc.disable()  # nothing of a trace goes in circles, and the process ends soon
    spare(shown, [Source("the file that is shown", file)])
    trace = load(file)
    _SHOWN.append(trace)
    _check(trace, shown)
    show_trace(trace, shown)


# kept to the end of the process: to take ten thousand calls apart takes as long as to fold them
_SHOWN: list["Trace"] = []


def _check(trace: "Trace", shown: Shown) -> None:
    """Refuse what the file does not hold, which would otherwise show nothing and not say why."""
    recorded = trace.settings.operations
    if shown.operations == "all" and recorded != "all":
        raise TracecallError(f"--ops all: the trace was recorded with --ops {recorded}; record it with --ops all")
    if shown.sort in TIMED and trace.timing is None and trace.error is None:
        raise TracecallError(
            f"--sort {shown.sort} needs times and the trace has none; "
            "record it without --repeat 0, or type --sort memory"
        )
