"""What `tracecall shapes` found out, as plain data: the tree with formulas, the signature, what the input must be."""

from __future__ import annotations

from msgspec import Struct, field

from tracecall.calls import Site, Trace


class Demand(Struct, omit_defaults=True):
    """A condition on the named dimensions without which the model fails, shown by a run that breaks it and fails."""

    text: str  # "(H//4)·(W//4) = 49"
    dims: list[str] = field(default_factory=list)  # the names in it: ["H", "W"]
    name: str = ""  # of what demands it, as the caller wrote it: "x.view"
    site: Site | None = None
    solved: str | None = None  # what that leaves: "H, W ∈ 28…31 when square"
    tried: dict[str, int] = field(default_factory=dict)  # sizes that break it, with which the model failed


class ShapeReport(Struct, omit_defaults=True):
    """The shapes of one run on fake tensors. The Trace's shapes are formulas of the names in the input."""

    trace: Trace
    signature: str  # "CNN: B,3,H,W → B,10"
    demands: list[Demand] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is not symbolic, and why
    sizes: dict[str, int] = field(default_factory=dict)  # of the run behind the formulas: {"B": 3, "H": 28}
