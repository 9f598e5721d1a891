"""Which proposals really make a failed run succeed: each is carried out on a copy of the model and run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from torch import nn

from tracecall.calls import Fit, Trace
from tracecall.proposals import (
    Edit,
    InputDtype,
    InputLeftOut,
    InputRange,
    InputShape,
    ModelDtype,
    ModelMode,
    ModuleArguments,
    Proposal,
    SearchSizes,
)
from tracecall.symbolic.edits import Attempt, carried_out, resized
from tracecall.symbolic.ground import SMALL_RUN, Ground, OutOfTime, knows, named_inputs, small
from tracecall.symbolic.sizes import search, told
from tracecall.symbolic.undisturbed import kept, undisturbed

MOST = 3  # fits: who needs more has other trouble
LOADING = 5.0  # seconds


def fits(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    trace: Trace,
    proposals: list[Proposal],
    *,
    budget_s: float = 2.0,
) -> list[Fit]:
    """The proposals that run through the whole forward, the least change first; at most three.

    They run on fake tensors, and where a model is small on a real copy too: fake tensors see sizes and most dtypes, but
    no numbers and no kernel that is missing. What fails over those, in a model that is not small, is dropped. Nothing
    of the user's is changed.
    """
    found: list[Fit] = []
    with undisturbed(model):
        bench = _Bench(model, args, kwargs, trace, budget_s)
        for proposal in sorted(proposals, key=_change):
            if len(found) == MOST or bench.is_late():
                break
            fit = bench.tried(proposal)
            if fit is not None and all(_says_else(fit, one) for one in found):
                found.append(fit)
    return found


def _says_else(fit: Fit, other: Fit) -> bool:
    return fit.text != other.text and (fit.command is None or fit.command != other.command)


def _change(proposal: Proposal) -> tuple[int, int]:
    """How much a proposal changes: the input, then the model, then code."""
    return max(map(_depth, proposal.edits), default=3), len(proposal.edits)


def _depth(edit: Edit) -> int:
    match edit:
        case InputShape() | InputDtype() | InputRange() | InputLeftOut() | SearchSizes():
            return 0
        case ModelMode() | ModelDtype():
            return 1
        case ModuleArguments():
            return 2
    return 3


class _Bench:
    """The copies that proposals are tried on, each made when it is first needed."""

    def __init__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], trace: Trace, budget_s: float
    ) -> None:
        self._trace = trace
        self._inputs = named_inputs(model, args, kwargs)
        self._small = small(model, self._inputs)
        self._rows: int | None = None  # that the last run gave back
        self._real: Ground | None = None
        grad = trace.settings.grad_mode == "grad"

        def make(fake: bool) -> Ground:
            return Ground(model, args, kwargs, grad, fake)

        self._make = make
        # the first run on fake tensors loads what torch knows of their shapes: that is no part of the budget
        fake = self._make(True)
        with kept(fake.model):
            error = fake.run(Attempt(fake.model), time.monotonic() + budget_s + LOADING)
        self._fake = fake if knows(error) else None
        self._seen = error is not None and self._fake is not None  # whether fake tensors see what is wrong
        self._until = time.monotonic() + (0 if isinstance(error, OutOfTime) else budget_s)

    def is_late(self) -> bool:
        """Whether the time for all of it is over."""
        return time.monotonic() > self._until

    def tried(self, proposal: Proposal) -> Fit | None:
        """The Fit that a proposal is, with its sizes filled in; None if it does not run, or nobody can tell."""
        searched = next((edit for edit in proposal.edits if isinstance(edit, SearchSizes)), None)
        if searched is None:
            return Fit(proposal.text, proposal.command) if self._runs(proposal) else None
        where, dims = searched.where, searched.dims
        given = self._inputs.get(where)
        if given is None or not dims or not all(dim < given.dim() for dim in dims):
            return None

        # what comes out for each image of a batch is wanted; before the spatial dimensions are batch and channels
        batch = given.shape[0] if min(dims) >= 2 else None
        ran: dict[tuple[int, ...], int | None] = {}  # sizes that run, and how many rows come out
        strict = batch is not None

        def fit(sizes: Sequence[int], prove: bool = False) -> bool:
            key = tuple(sizes)
            if prove or key not in tried:
                tried[key] = self._runs(proposal, where, dict(zip(dims, sizes, strict=True)), prove)
                if tried[key]:
                    ran[key] = self._rows
            return tried[key] and (not strict or ran[key] in (None, batch))

        tried: dict[tuple[int, ...], bool] = {}
        around = [given.shape[dim] for dim in dims]
        sizes = search(around, searched.hints, fit)
        if sizes is None and strict and ran:
            # a batch that comes out as more rows was cut up: a smaller image is one row
            key, rows = next(iter(ran.items()))
            guess = round(key[0] * ((batch or 1) / (rows or 1)) ** (1 / len(dims)))
            near = sorted(range(max(1, guess - 12), guess + 13), key=lambda size: abs(size - guess))
            sizes = search(around, near, fit)
            if sizes is None:
                strict = False
                sizes = search(around, searched.hints, fit)
        if sizes is not None and not all(fit([one] * len(dims), True) for one in {sizes.low, sizes.high, sizes.best}):
            # something is in the numbers: positions that go beyond a table, say
            sizes = search(around, searched.hints, lambda sizes: fit(sizes, True))
        if sizes is None:
            return None
        shape = [sizes.best if dim in dims else size for dim, size in enumerate(given.shape)]
        text = proposal.text.replace("{sizes}", told(sizes, len(dims)))
        if batch is not None and not strict:
            span = {rows for key, rows in ran.items() if sizes.low <= min(key) and max(key) <= sizes.high and rows}
            low, high = min(span), max(span)
            text += f": {batch} examples become {low if low == high else f'{low}…{high}'} rows"
        return Fit(
            text,
            self._command(where, shape)
            if proposal.command is None
            else proposal.command.replace("{sizes}", ",".join(map(str, shape))),
        )

    def _command(self, where: str, shape: list[int]) -> str | None:
        """The --input options that give one input another shape; None where the command line cannot say it."""
        given = self._inputs
        if len(given) != len(self._trace.calls[-1].inputs) or not all(name.isidentifier() for name in given):
            return None
        parts = []
        for name, tensor in given.items():
            size = ",".join(map(str, shape if name == where else tensor.shape)) or "scalar"
            dtype = "" if tensor.is_floating_point() else f":{str(tensor.dtype).removeprefix('torch.')}"
            parts.append(f"--input {name}={size}{dtype}" if len(given) > 1 else f"--input {size}{dtype}")
        return " ".join(parts)

    def _runs(
        self, proposal: Proposal, where: str = "", sizes: dict[int, int] | None = None, prove: bool = True
    ) -> bool:
        """Whether a proposal runs, with these sizes of one input if it is a search.

        On fake tensors, which are quick to refuse; then on real ones, where that is cheap and nothing else decides, or
        where it is to be proved.
        """
        if self.is_late():
            return False
        large = False
        if self._fake is not None:
            if not self._on(self._fake, proposal, where, sizes):
                return False
            large = self._fake.elements > SMALL_RUN
        if self._seen and not prove:
            return True
        if self._small and self._real is None:
            try:
                self._real = self._make(False)
            except Exception:  # something in the model that nothing can copy
                self._small = False
        if self._real is None or large:  # fake tensors alone: they see sizes and most dtypes, and no numbers
            return self._seen or (self._fake is not None and self._numbers_fit(proposal, self._fake))
        return self._on(self._real, proposal, where, sizes)

    def _on(self, ground: Ground, proposal: Proposal, where: str, sizes: dict[int, int] | None) -> bool:
        with kept(ground.model):
            try:
                with ground.active():
                    attempt = carried_out(proposal.edits, ground.model, ground.inputs, self._trace.modules)
                    if sizes is not None:
                        attempt.inputs[where] = resized(attempt.inputs.get(where, ground.inputs[where]), sizes)
            except Exception:  # what it says cannot be done: no such module, or its class refuses the arguments
                return False
            error = ground.run(attempt, self._until)
            self._rows = ground.rows
            return error is None

    def _numbers_fit(self, proposal: Proposal, ground: Ground) -> bool:
        """Whether an Embedding has every index that it would get, by the span that the recording noted."""
        failing = self._trace.failing()
        if failing is None or len(proposal.edits) != 1:
            return False
        spans = [value.span for value in failing.inputs if value.span is not None]
        table = ground.model.get_submodule(failing.path)
        match proposal.edits[0]:
            case ModuleArguments(path, arguments) if path == failing.path and set(arguments) == {"num_embeddings"}:
                rows = arguments["num_embeddings"]
                return isinstance(rows, int) and bool(spans) and all(low >= 0 and high < rows for low, high in spans)
            case InputRange(_, low, high) if isinstance(table, nn.Embedding):
                return 0 <= low <= high < table.num_embeddings
        return False
