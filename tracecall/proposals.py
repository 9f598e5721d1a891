"""What might make a failed run succeed, as plain data: an idea and the edits that carry it out.

A Proposal that was run on fake tensors, and ran, becomes a Fit of the Trace's Cause; no other is shown.
"""

from __future__ import annotations

from msgspec import Struct

from tracecall.calls import Site


class InputShape(Struct, frozen=True, tag="input-shape"):
    """Another shape for one input tensor; `where` is its name in the root call's inputs ("x", "batch['ids']")."""

    where: str
    shape: tuple[int, ...]


class InputDtype(Struct, frozen=True, tag="input-dtype"):
    """Another dtype for one input tensor: "int64"."""

    where: str
    dtype: str


class ModelDtype(Struct, frozen=True, tag="model-dtype"):
    """Another dtype for every floating-point parameter and buffer: model.to(torch.float32)."""

    dtype: str


class ModelMode(Struct, frozen=True, tag="model-mode"):
    """train() or eval()."""

    training: bool


class ModuleArguments(Struct, frozen=True, tag="module-arguments"):
    """The module at a path built anew by its class with other arguments: {"in_features": 2048}."""

    path: str
    arguments: dict[str, int | float | bool | str | tuple[int, ...] | None]


class OperationArgument(Struct, frozen=True, tag="operation-argument"):
    """Another value for an argument of the operation at a line: x.view(-1, 2048) for x.view(-1, 1568)."""

    site: Site
    argument: int | str  # by position after the tensor, or by its name among the recorded inputs ("size" of a view)
    value: int | tuple[int, ...] | str


class MoveTo(Struct, frozen=True, tag="move-to"):
    """Every tensor that the operation at a line takes goes to one device, or to one dtype ("device", "dtype")."""

    site: Site
    device: str | None = None
    dtype: str | None = None


class OperandMethod(Struct, frozen=True, tag="operand-method"):
    """One tensor goes through a method of Tensor before the operation or module call at a line takes it.

    For `x @ y` at the site, operand 1, "transpose" and (-2, -1): x @ y.transpose(-2, -1).
    """

    site: Site
    operand: int  # from 0, among the tensors in the order in which the expression gives them
    method: str  # "transpose", "unsqueeze", "reshape", "float"…
    arguments: tuple[int, ...] = ()


class InputRange(Struct, frozen=True, tag="input-range"):
    """Other numbers for an integer input tensor, `low` to `high` with both ends: indices that an Embedding has."""

    where: str
    low: int
    high: int


class InputLeftOut(Struct, frozen=True, tag="input-left-out"):
    """The root is called without one of its arguments; `where` is the keyword, or "args[2]" by position."""

    where: str


class SearchSizes(Struct, frozen=True, tag="search-sizes"):
    """Look for sizes of some dimensions of an input that fit; `hints` are sizes to try first."""

    where: str
    dims: tuple[int, ...]  # 0 is the batch; varied together: a square image
    hints: tuple[int, ...] = ()


Edit = (
    InputShape
    | InputDtype
    | InputRange
    | InputLeftOut
    | ModelDtype
    | ModelMode
    | ModuleArguments
    | OperationArgument
    | OperandMethod
    | MoveTo
    | SearchSizes
)


class Proposal(Struct, omit_defaults=True):
    """What might fit. `text` may hold {sizes}, which a search fills in ("28…31 × 28…31")."""

    text: str
    edits: list[Edit]
    command: str | None = None
