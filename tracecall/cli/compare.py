"""`tracecall compare`: the same weights and input on two devices, in two dtypes or through two models, call by call."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from tracecall.cli import options, output
from tracecall.cli.loading import Wanted, watching
from tracecall.cli.options import Operations
from tracecall.cli.sides import Asked, sides
from tracecall.errors import TracecallError

if TYPE_CHECKING:
    from tracecall.views.compared import Comparison


def compare(
    model: options.Model,
    inputs: options.Inputs = None,
    device: Annotated[
        str, typer.Option(metavar="A,B", help="Two devices, or one for both: cpu, cuda, cuda:N, mps or auto.")
    ] = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Two dtypes of parameters and inputs, or one for both: float32,bfloat16."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Another model, with MODEL's weights where names and shapes are the same."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Two files of weights, or one for both: safetensors or torch.save's."),
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option(
            metavar="X",
            help="The largest difference allowed, by the largest value of an output. If not given: 1e-10 for float64, "
            "1e-4 for float32, 0.01 for float16 and TF32, 0.05 for bfloat16, whichever of both runs' is larger.",
        ),
    ] = None,
    seed: options.Seed = None,
    train: options.Train = False,
    depth: options.Depth = None,
    ops: options.Ops = "forward",
    only: options.Only = None,
    filter_: options.Filter = None,
    no_fold: options.NoFold = False,
    warmup: options.Warmup = None,
    repeat: options.Repeat = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, all recorded calls, and nothing else.")
    ] = False,
) -> None:
    """Run MODEL twice with the same weights and input, and show how far the output of each call is apart.

    Exit status 1 if any output is beyond the tolerance: by its relative error, an integer or a text that differs, a NaN
    or Inf in one run only, another shape or structure; if a forward raised; and if nothing could be compared. NaN or
    Inf at the same places in both runs is no difference, and is said; so are other dtypes. Objects of other kinds are
    not compared, which is said. Calls that only one run makes are shown (+, −) and are no error. What is shown of the
    tree changes neither the result nor the exit status.
    """
    levels = options.levels(depth)
    number = options.seeds(seed)
    runs = options.runs(warmup, repeat)
    shown = options.operations(ops)
    allowed = _tolerance(tolerance)
    asked = _asked(device, dtype, weights, against)
    wanted = Wanted(model, inputs or [], "cpu", None, number, train)
    for i in (0, 1):
        Wanted(
            against if against and i else model, inputs or [], asked.device[i], asked.dtype[i], number, train
        ).check()
    for path in asked.weights:
        if path is not None:
            from tracecall.loading.archives import weights_file

            weights_file(path)
    found = _compared(wanted, asked, shown, runs, allowed, (only, filter_), as_json=as_json)
    part = options.part(found.difference, only, filter_)
    if as_json:
        from tracecall.views.results import compare_result

        output.show_json(compare_result(found))
    else:
        from tracecall.views.compare import compare as view

        output.show(lambda width: view(found, part=part, width=width, depth=levels, operations=shown, fold=not no_fold))
    if found.failed:
        raise typer.Exit(1)


def _asked(device: str, dtype: str | None, weights: str | None, against: str | None) -> Asked:
    pairs = {
        "--device": _pair("--device", device, "cpu,cuda"),
        "--dtype": _pair("--dtype", dtype, "float32,bfloat16"),
        "--weights": _pair("--weights", weights, "before.safetensors,after.safetensors"),
    }
    two = [
        option
        for option, text in (("--device", device), ("--dtype", dtype), ("--weights", weights))
        if "," in (text or "")
    ]
    if not two and against is None:
        raise TracecallError(
            "both runs would be the same: give --device, --dtype or --weights two of them, or --against another MODEL; "
            "type for example --dtype float32,bfloat16"
        )
    device_pair = pairs["--device"]
    return Asked((device_pair[0] or "cpu", device_pair[1] or "cpu"), pairs["--dtype"], pairs["--weights"], against)


def _pair(option: str, text: str | None, example: str) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 2 or not all(parts):
        raise TracecallError(f"{option} {text!r} is not one or two, with a comma between them; type {option} {example}")
    return parts[0], parts[-1]


def _tolerance(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise TracecallError(f"--tolerance {text!r} is no number of at least 0; type for example --tolerance 1e-3")
    return value


def _compared(
    wanted: Wanted,
    asked: Asked,
    ops: Operations,
    runs: tuple[int | None, int | None],
    tolerance: float | None,
    chosen: tuple[str | None, str | None],
    *,
    as_json: bool,
) -> "Comparison":
    """Load, run both in lockstep, time each, and pair the calls again with their times."""
    with watching(as_json=as_json) as watch:
        first, second, origin, notes = sides(wanted, asked, watch, chosen)
        from tracecall.comparison import compare as difference_of
        from tracecall.recording.lockstep import lockstep
        from tracecall.recording.tolerances import default_tolerance
        from tracecall.recording.turns import add_times, take_turns
        from tracecall.views.compared import Comparison

        both = lockstep(
            first,
            second,
            lambda one, other: difference_of(one, other).both(),
            inference=not wanted.train,
            operations=ops,
            seed=wanted.seed or 0,
            progress=watch.progress,
        )
        timed = take_turns(
            (first, second),
            inference=not wanted.train,
            operations=ops,
            warmup=runs[0],
            repeat=0 if any(trace.error is not None for trace in both.traces) else runs[1],
            progress=watch.progress,
        )
        for side, trace, times in zip((first, second), both.traces, timed, strict=True):
            if times and not add_times(trace, times):
                notes.append(f"{side.name} made other calls in its timing runs: they are left out")
        default, dtype = default_tolerance((first, second))
    both.traces[0].model.origin = origin
    return Comparison(
        difference_of(*both.traces),
        both.errors,
        (first.name, second.name),
        default if tolerance is None else tolerance,
        f"the default for {dtype}" if tolerance is None else "as given",
        both.uncompared,
        [*notes, *watch.notes],
    )
