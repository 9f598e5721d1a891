"""The options that several commands share, and how their texts are read."""

from __future__ import annotations

from typing import Annotated, TypeVar

import typer

from tracecall.errors import TracecallError

Known = TypeVar("Known", bound=str)
SEED_HINT = "for example: --seed 1"

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A demo (linear, feedforward, cnn, rnn, transformer), path/to/file.py, path/to/file.py:Name, "
        "package.module:Name, or with arguments 'file.py:Name(20, 64)'. Name is a class, a function that "
        "returns a module, or a module.",
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
Train = Annotated[bool, typer.Option("--train", help="Train mode with gradients, not eval in inference mode.")]


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
