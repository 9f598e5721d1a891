"""What a module was built with, read from its extra_repr, and the same with other arguments as code."""

from __future__ import annotations

import ast

from tracecall.calls import ModuleInfo
from tracecall.diagnosis.failure import Failure, of_torch
from tracecall.proposals import ModuleArguments

Argument = int | float | bool | str | tuple[int, ...] | None

# what a module's extra_repr gives without a name, in its order; "rnn" is RNN, LSTM and GRU, "norm" BatchNorm
_FIRST = {
    "Linear": (),
    "Bilinear": (),
    "Embedding": ("num_embeddings", "embedding_dim"),
    "EmbeddingBag": ("num_embeddings", "embedding_dim"),
    "LayerNorm": ("normalized_shape",),
    "RMSNorm": ("normalized_shape",),
    "GroupNorm": ("num_groups", "num_channels"),
    **dict.fromkeys(
        [f"Conv{kind}{dims}d" for kind in ("", "Transpose") for dims in "123"], ("in_channels", "out_channels")
    ),
    **dict.fromkeys([f"{kind}Norm{dims}d" for kind in ("Batch", "Instance") for dims in "123"], ("num_features",)),
    **dict.fromkeys(("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"), ("input_size", "hidden_size")),
    **dict.fromkeys([f"{kind}Pool{dims}d" for kind in ("Max", "Avg") for dims in "123"], ()),
    "MultiheadAttention": (),
    "Unflatten": (),
}
# written without their names, as everybody writes them
_BARE = {
    "Linear": ("in_features", "out_features"),
    "Bilinear": ("in1_features", "in2_features", "out_features"),
}
# what extra_repr tells although it is the default
_DEFAULTS: dict[str, Argument] = {
    "bias": True, "eps": 1e-05, "momentum": 0.1, "affine": True, "track_running_stats": True,
    "elementwise_affine": True, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False, "output_padding": 0,
}  # fmt: skip


def kind_of(info: ModuleInfo) -> str | None:
    """The class of torch.nn whose forward a module runs, where it is known here: its own class, or one above it."""
    if info.source is not None and not of_torch(info.source):
        return None
    if info.type in _FIRST:
        return info.type
    above = (info.source.function or "").partition(".")[0] if info.source is not None else ""
    return above if above in _FIRST else None


def arguments(info: ModuleInfo) -> dict[str, Argument]:
    """A torch.nn module's arguments by name; none of a class that is not known here, or whose extra_repr is odd."""
    kind = kind_of(info)
    if kind is None:
        return {}
    try:
        call = ast.parse(f"_({info.extra_repr})", mode="eval").body
    except (SyntaxError, ValueError):  # a class of the user's with the same name, and words of its own
        return {}
    names = _FIRST[kind]
    if not isinstance(call, ast.Call) or len(call.args) != len(names):
        return {}
    parts = [*zip(names, call.args, strict=True), *((part.arg, part.value) for part in call.keywords)]
    found: dict[str, Argument] = {}
    for name, part in parts:
        value = _constant(part)
        if name is not None and not isinstance(value, ast.expr):
            found[name] = value
    return found


def _constant(part: ast.expr) -> Argument | ast.expr:
    """The value of a number, text, None or tuple of numbers; the expression itself if it is anything else."""
    if isinstance(part, ast.Constant) and isinstance(part.value, (int, float, str, bool, type(None))):
        return part.value
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub) and isinstance(part.operand, ast.Constant):
        number = part.operand.value
        return -number if isinstance(number, (int, float)) else part
    if isinstance(part, ast.Tuple):
        numbers = [item.value for item in part.elts if isinstance(item, ast.Constant) and isinstance(item.value, int)]
        return tuple(numbers) if len(numbers) == len(part.elts) else part
    return part


def number(found: dict[str, Argument], name: str) -> int | None:
    """An argument that is a whole number."""
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def numbers(found: dict[str, Argument], name: str, count: int, default: int) -> list[int]:
    """An argument that is one number for every dimension, or one for each."""
    value = found.get(name, default)
    if isinstance(value, tuple) and len(value) == count:
        return list(value)
    return [value if isinstance(value, int) else default] * count


def rebuilt(failure: Failure, path: str, **changes: Argument) -> tuple[str, ModuleArguments] | None:
    """A module built with other arguments: the code for it, and the edit; None where its own are not known."""
    info = failure.info(path)
    found = arguments(info)
    if not found or info.type not in _FIRST:
        return None
    written = [
        _code(name, value) if name in _BARE.get(info.type, _FIRST[info.type]) else f"{name}={_code(name, value)}"
        for name, value in {**found, **changes}.items()
        if name in changes or _DEFAULTS.get(name, "none") != _short(value)
    ]
    edit = ModuleArguments(path, dict(changes))
    code = f"nn.{info.type}({', '.join(written)})"
    return f"{path} = {code}" if path else code, edit


def _short(value: Argument) -> Argument:
    """One number for a tuple of equal ones."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _code(name: str, value: Argument) -> str:
    # (8, 8) is a kernel of 8, and a normalized_shape of two dimensions
    several = name == "normalized_shape" and isinstance(value, tuple) and len(value) > 1
    return repr(value if several else _short(value))
