"""What the user typed, taken apart: MODEL, --input, --device, --dtype and --seed, as plain data without torch.

Every function here looks at the text alone, and raises TracecallError in one line where it cannot be meant.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from tracecall.errors import TracecallError

DEMOS = {
    "linear": "linear.py",
    "feedforward": "feedforward.py",
    "mlp": "feedforward.py",
    "cnn": "cnn.py",
    "rnn": "rnn.py",
    "transformer": "transformer.py",
}

# Files that may hold a program, of torch.export or TorchScript; those of weights alone are refused with the way to go.
PROGRAMS = (".pt2", ".ts", ".pt", ".pth", ".jit", ".torchscript", ".bin", ".ckpt", ".safetensors", ".pkl", ".pickle")

FLOATS = ("float32", "float64", "float16", "bfloat16")
DTYPES = (
    *FLOATS,
    *("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool"),
    *("complex64", "complex128", "complex32"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
# torch's own second names.
_ALIASES = {
    **{"float": "float32", "double": "float64", "half": "float16"},
    **{"long": "int64", "int": "int32", "short": "int16"},
    **{"cfloat": "complex64", "cdouble": "complex128", "chalf": "complex32"},
}

_FILE = re.compile(r"(?P<place>.*?\.py)(?::(?P<object>.*))?", re.DOTALL)
_MODULE = re.compile(r"(?P<place>[^:()]*):(?P<object>.*)", re.DOTALL)
_NAME = r"[^\W\d]\w*"
_INPUT = re.compile(rf"(?:(?P<name>{_NAME})\s*=)?(?P<shape>[^:=]*)(?::(?P<dtype>[^:=]*))?")
_BRACKETS = re.compile(r"\((.*)\)|\[(.*)\]")


@dataclass(frozen=True)
class ModelSpec:
    """MODEL taken apart. `name` may be dotted (`Outer.Inner`); it is None where only a file or a demo was given."""

    text: str
    kind: Literal["demo", "file", "module"]
    place: str  # "cnn", "models/cnn.py", "torch.nn"
    name: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    called: bool = False  # written with parentheses


@dataclass(frozen=True)
class InputSpec:
    """One --input taken apart. `dtype` is torch's name without "torch.", None where it was left open."""

    text: str
    shape: tuple[int | str, ...]  # a name stands for any size, where names are allowed
    name: str | None = None
    dtype: str | None = None


def parse_model(text: str) -> ModelSpec:
    """Take `cnn`, `file.py`, `file.py:Name`, `package.module:Name`, the last two also with `(arguments)`, apart."""
    given = text.strip()
    if not given:
        raise TracecallError(
            f"MODEL is empty: type a demo ({', '.join(DEMOS)}), path/to/file.py or package.module:Name"
        )
    if given in DEMOS:
        return ModelSpec(given, "demo", given)
    match = _FILE.fullmatch(given)
    if match is not None:
        if match["object"] is None:
            return ModelSpec(given, "file", given)
        return ModelSpec(given, "file", match["place"], *_parse_object(given, match["object"]))
    match = _MODULE.fullmatch(given)
    if match is None:
        return ModelSpec(given, "file", given)
    if not re.fullmatch(rf"{_NAME}(?:\.{_NAME})*", match["place"]):
        if match["place"].endswith(PROGRAMS):
            return ModelSpec(given, "file", match["place"], *_parse_object(given, match["object"]))
        raise TracecallError(
            f"MODEL {given!r}: {match['place']!r} before the colon is neither a .py file nor a module's name;"
            " type path/to/file.py:Name or package.module:Name"
        )
    return ModelSpec(given, "module", match["place"], *_parse_object(given, match["object"]))


def parse_input(text: str, *, names: bool = False) -> InputSpec:
    """Take `1,3,28,28`, `x=1,16` or `ids=1,16:int64` apart; sizes are whole numbers of at least 1.

    With `names` a size may be a name too: `B,3,H,W`.
    """
    match = _INPUT.fullmatch(text.strip())
    if match is None:
        raise TracecallError(
            f"--input {text!r} is not [name=]sizes[:dtype]; type for example --input 1,3,28,28 or"
            " --input ids=1,16:int64"
        )
    shape = match["shape"].strip()
    brackets = _BRACKETS.fullmatch(shape)
    if brackets is not None:
        shape = (brackets[1] or brackets[2] or "").strip()
    if not shape:
        raise TracecallError(f"--input {text!r} gives no sizes; type for example --input 1,3,28,28")
    return InputSpec(
        text=text,
        shape=tuple(_size(text, size.strip(), shape, names=names) for size in shape.split(",")),
        name=match["name"],
        dtype=None if match["dtype"] is None else _dtype(match["dtype"], f"--input {text!r}", DTYPES),
    )


def parse_device(text: str) -> str:
    """Return `cpu`, `cuda`, `cuda:N`, `mps` or `auto` as typed, in lower case; whether it is here is asked later."""
    device = text.strip().lower()
    if not re.fullmatch(r"cpu|mps|auto|cuda(:(0|[1-9][0-9]{0,2}))?", device):
        raise TracecallError(
            f"--device {text!r} is none of cpu, cuda, cuda:N, mps, auto; type for example --device cpu"
        )
    return device


def parse_dtype(text: str) -> str:
    """Return torch's name of a floating dtype that a whole model can be moved to."""
    return _dtype(text, f"--dtype {text!r}", FLOATS)


def parse_seed(seed: int) -> int:
    """Return a seed that torch takes: 0 to 2**63 - 1."""
    if not 0 <= seed < 2**63:
        raise TracecallError(f"--seed {seed} is not between 0 and 2**63 - 1; type for example --seed 0")
    return seed


def _parse_object(text: str, written: str) -> tuple[str, tuple[Any, ...], dict[str, Any], bool]:
    try:
        tree = ast.parse(written.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _not_a_name(text, written) from None
    target = tree.func if isinstance(tree, ast.Call) else tree
    name = ast.unparse(target)
    if not re.fullmatch(rf"{_NAME}(?:\.{_NAME})*", name):
        raise _not_a_name(text, written)
    if not isinstance(tree, ast.Call):
        return name, (), {}, False
    args = tuple(_literal(name, f"argument {place}", node) for place, node in enumerate(tree.args, start=1))
    kwargs: dict[str, Any] = {}
    for keyword in tree.keywords:
        if keyword.arg is None:
            raise _not_literal(name, "the argument", f"**{ast.unparse(keyword.value)}")
        if keyword.arg in kwargs:
            raise TracecallError(f"MODEL {text!r} gives {name} the argument {keyword.arg!r} twice; type it once")
        kwargs[keyword.arg] = _literal(name, f"the argument {keyword.arg!r}", keyword.value)
    return name, args, kwargs, True


def _literal(name: str, which: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise _not_literal(name, which, ast.unparse(node)) from None


def _not_literal(name: str, which: str, written: str) -> TracecallError:
    return TracecallError(
        f"{which} of {name}(…), {written}, is not a literal: type a number, string, True, False, None, tuple, list or"
        " dict; for anything else write a function that returns the module, and type path/to/file.py:function"
    )


def _not_a_name(text: str, written: str) -> TracecallError:
    return TracecallError(
        f"MODEL {text!r}: {written!r} after the colon is not a name, with or without (arguments); type for example"
        " models/cnn.py:CNN or 'torch.nn:Linear(10, 5)'"
    )


def _size(text: str, size: str, shape: str, *, names: bool) -> int | str:
    if names and re.fullmatch(_NAME, size):
        return size
    if re.fullmatch(r"[0-9]{1,15}", size) and int(size) > 0:
        return int(size)
    if re.fullmatch(r"[0-9]+([xX*][0-9]+)+", shape):
        example = re.sub(r"[xX*]", ",", shape)
    else:
        known = rf"[1-9][0-9]{{0,5}}|{_NAME}" if names else "[1-9][0-9]{0,5}"
        example = ",".join(one if re.fullmatch(known, one) else "1" for one in re.split(r"\s*,\s*", shape))
    problem = "a missing size" if not size else f"the size {size}"
    possible = "whole numbers of at least 1 or names such as B" if names else "whole numbers of at least 1"
    raise TracecallError(
        f"--input {text!r} has {problem}: sizes are {possible}, with commas between them;"
        f" type for example --input {text.strip().replace(shape, example)}"
    )


def _dtype(text: str, given: str, allowed: tuple[str, ...]) -> str:
    name = text.strip().removeprefix("torch.")
    name = _ALIASES.get(name, name)
    if name in allowed:
        return name
    close = get_close_matches(name, allowed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise TracecallError(f"{given} names no dtype that can be used here: {hint}type one of {', '.join(allowed)}")
