"""The options that several commands share, and how their texts are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, get_args

import typer

from tracecall.errors import TracecallError

if TYPE_CHECKING:
    from tracecall.comparison import Difference

Known = TypeVar("Known", bound=str)
Operations = Literal["none", "forward", "all"]
Sort = Literal["time", "self", "flops", "memory", "params"]

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A demo (linear, feedforward, cnn, rnn, transformer), path/to/file.py, path/to/file.py:Name, "
        "package.module:Name, or with arguments 'file.py:Name(20, 64)'. Name is a class, a function that "
        "returns a module, or a module. Or a saved program: .pt2 of torch.export, or a TorchScript file. All of "
        "these are code: run only what you trust.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="SHAPE",
        help="An input's shape: 1,3,28,28, with a dtype 1,16:int64, by name ids=1,16:int64. Repeatable.",
    ),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:N, mps or auto.")]
Dtype = Annotated[
    str | None, typer.Option(metavar="DTYPE", help="The dtype of parameters and inputs: float32, bfloat16, …")
]
Seed = Annotated[  # a text, as all numbers here: `whole` refuses it with an example
    str | None, typer.Option(metavar="N", help="Seed of weights and inputs; 0 if not given.")
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Weights for the model: .safetensors, or what torch.save wrote; runs no code in it."
    ),
]
Train = Annotated[bool, typer.Option("--train", help="Train mode with gradients, not eval in inference mode.")]

Warmup = Annotated[str | None, typer.Option(metavar="N", help="Runs before those that are timed; 2 if not given.")]
Repeat = Annotated[
    str | None,
    typer.Option(metavar="N", help="Timed runs; 0 skips timing; as many as fit in half a second if not given."),
]

# what of a trace is shown, in every command that shows one
Depth = Annotated[
    str | None, typer.Option(metavar="N", help="How many levels of submodules to show; all if not given.")
]
Ops = Annotated[str, typer.Option(metavar="WHICH", help="Operations to show: none, forward (the model's own) or all.")]
SortBy = Annotated[
    str | None,
    typer.Option(
        "--sort",
        metavar="BY",
        help="List the costliest modules instead of the tree, up to --depth: by time, self, flops, memory or params.",
    ),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Say in a short sentence what each kind of thing in the tree is.")
]
NoFold = Annotated[bool, typer.Option("--no-fold", help="Show every call: repeated ones on a line each.")]
Only = Annotated[
    str | None, typer.Option("--only", metavar="PATH", help="Show one module alone, with what it calls: encoder.0")
]
Filter = Annotated[
    str | None,
    typer.Option("--filter", metavar="TYPE", help="Show only modules of this type, and the way to them: Linear"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the Trace as JSON, and nothing else.")]
# the files that can be made of a trace; every one is written whole or not at all
Save = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Save the trace, trace.json or trace.json.gz, for `tracecall show FILE`."),
]
Html = Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write a page to send to someone.")]
Perfetto = Annotated[
    str | None, typer.Option("--perfetto", metavar="FILE", help="Write a timeline for ui.perfetto.dev.")
]
Svg = Annotated[str | None, typer.Option("--svg", metavar="FILE", help="Write a picture of the tree.")]
Mermaid = Annotated[
    str | None, typer.Option("--mermaid", metavar="FILE", help="Write a diagram that GitHub draws in Markdown.")
]


def whole(option: str, text: str | None, hint: str) -> int | None:
    """Return the whole number that was typed, None for an option that was not; anything else is a TracecallError."""
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise TracecallError(f"{option} {text!r} is no whole number of at least 0; {hint}")


def one_of(option: str, text: str, known: tuple[Known, ...], example: str) -> Known:
    """Return the one of `known` that was typed; anything else is a TracecallError that lists them."""
    for one in known:
        if text == one:
            return one
    raise TracecallError(f"{option} {text!r} is unknown; possible: {', '.join(known)}; type {option} {example}")


def levels(depth: str | None) -> int | None:
    """Read --depth."""
    return whole("--depth", depth, "0 shows the root alone, 1 its submodules: --depth 1")


def operations(ops: str) -> Operations:
    """Read --ops."""
    return one_of("--ops", ops, get_args(Operations), "all")


def runs(warmup: str | None, repeat: str | None) -> tuple[int | None, int | None]:
    """Read --warmup and --repeat."""
    return (
        whole("--warmup", warmup, "for example: --warmup 5"),
        whole("--repeat", repeat, "0 skips timing: --repeat 0"),
    )


def seeds(seed: str | None) -> int | None:
    """Read --seed."""
    return whole("--seed", seed, "for example: --seed 1")


def part(found: Difference, only: str | None, types: str | None) -> Difference | None:
    """What of two traces `--only` and `--filter` choose, None for all; the same refusals as for one trace."""
    if only is None and types is None:
        return None
    from tracecall.comparison import chosen, merged
    from tracecall.folding import folded

    return chosen(found, folded(merged(found), fold=False, only=only, types=types))
