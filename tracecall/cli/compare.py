"""`tracecall compare`: the same weights and input on two devices, in two dtypes or through two models, call by call."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracecall.cli import options, output
from tracecall.cli.loading import Wanted, Watch, check_chosen, load_target, watching
from tracecall.cli.options import Operations
from tracecall.errors import TracecallError

if TYPE_CHECKING:
    import torch

    from tracecall.loading import Target
    from tracecall.recording.sides import Side
    from tracecall.views.compare import Comparison


@dataclass(frozen=True)
class Asked:
    """What sets the two runs apart, each option as a pair; None where it was not given."""

    device: tuple[str, str]
    dtype: tuple[str | None, str | None]
    weights: tuple[str | None, str | None]
    against: str | None


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
    or Inf in one run only, or another shape; and if nothing could be compared. Objects of other kinds are not compared,
    which is said. Calls that only one run makes are shown (+, −) and are no error. What is shown of the tree changes
    neither the result nor the exit status.
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
) -> Comparison:
    """Load, run both in lockstep, time each, and pair the calls again with their times."""
    with watching(as_json=as_json) as watch:
        first, second, origin, notes = _sides(wanted, asked, watch, chosen)
        from tracecall.comparison import compare as difference_of
        from tracecall.recording.lockstep import lockstep
        from tracecall.recording.tolerances import default_tolerance
        from tracecall.recording.turns import add_times, take_turns
        from tracecall.views.compare import Comparison

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


def _sides(
    wanted: Wanted, asked: Asked, watch: Watch, chosen: tuple[str | None, str | None]
) -> tuple[Side, Side, str, list[str]]:
    """Both models with the same weights and inputs, each where it is to run; where MODEL was found; notes.

    `chosen` is what is to be shown, `--only` and `--filter`: refused here if neither model can have it.
    """
    watch.progress("loading torch")
    from tracecall.loading.devices import resolve_dtype

    devices = _devices(asked)  # before anything is built
    target = load_target(wanted, watch.progress)
    from tracecall.recording.sides import Side, moved, take_weights, twin

    notes = list(target.notes)
    names = _names(wanted.model, asked)
    first = Side(target.model, target.args, target.kwargs, names[0])
    if asked.against is None:
        check_chosen(target, *chosen)
        with warnings.catch_warnings():
            # torch's about its own code, as it is copied; the model says its own as it runs
            warnings.simplefilter("ignore")
            second = twin(first)
    else:
        other = load_target(
            Wanted(asked.against, wanted.inputs, "cpu", None, wanted.seed, wanted.train), watch.progress, like=target
        )
        if other.model is target.model:
            raise TracecallError(f"MODEL and --against {asked.against!r} are one and the same object: name another")
        _check_either(target, other, *chosen)
        notes.extend(f"{asked.against}: {note}" for note in other.notes)
        second = Side(other.model, target.args, target.kwargs, names[1])
        if asked.weights[0] is None:
            taken, of = take_weights(target.model, other.model)
            if taken < of:
                own = f"{of - taken} of {of} weights of {asked.against} are its own"
                notes.append(f"{own}: {wanted.model} has none of that name and shape")
    second.name = names[1]
    for side, path in zip((first, second), asked.weights, strict=True):
        if path is not None:
            from tracecall.loading.weights import load_weights

            notes.extend(load_weights(side.model, path).notes)
    dtypes = [None if dtype is None else resolve_dtype(_canonical(dtype)) for dtype in asked.dtype]
    sides = [
        moved(side, *there) for side, there in zip((first, second), zip(devices, dtypes, strict=True), strict=True)
    ]
    return sides[0], sides[1], target.origin, notes


def _check_either(one: Target, other: Target, only: str | None, types: str | None) -> None:
    """Refuse a path or a type that neither model has, in the words for the first; either may have one of its own."""
    for path, type in ((only, None), (None, types)):
        try:
            check_chosen(one, path, type)
        except TracecallError as refused:
            try:
                check_chosen(other, path, type)
            except TracecallError:
                raise refused from None


def _devices(asked: Asked) -> list[torch.device]:
    """Both devices; where one is not here and they are all that sets the runs apart, something else that can."""
    from tracecall.loading.devices import available_devices, resolve_device

    try:
        return [resolve_device(device.lower()) for device in asked.device]
    except TracecallError as error:
        if asked.against is not None or any(one != other for one, other in (asked.dtype, asked.weights)):
            raise  # one device will do
        why = str(error).rpartition("; type ")[0]
        here = available_devices()
        kind = next((name for name in asked.device if name.lower() != "cpu"), "").upper().partition(":")[0]
        advice = f"type --device cpu,{here[-1]}"
        if len(here) == 1:
            advice = f"type --dtype float32,bfloat16 instead, or compare where {kind} is"
        raise TracecallError(f"{why}; {advice}") from error


def _canonical(dtype: str) -> str:
    from tracecall.loading.specs import parse_dtype

    return parse_dtype(dtype)


def _names(model: str, asked: Asked) -> tuple[str, str]:
    """What sets the two apart, in few words."""
    found: list[list[str]] = [[], []]
    if asked.against is not None:
        texts = (model, asked.against)
        short = tuple(text if "(" in text else text.replace("\\", "/").rpartition("/")[2] for text in texts)
        for words, text in zip(found, texts if short[0] == short[1] else short, strict=True):
            words.append(text)
    for one, other in (asked.device, asked.dtype, asked.weights):
        if one != other and one is not None and other is not None:
            found[0].append(Path(one).name)
            found[1].append(Path(other).name)
    first, second = (" ".join(words) for words in found)
    return (first, second) if first != second else ("first", "second")
