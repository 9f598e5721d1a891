"""`load`: from what the user typed to a model that can be called, and what to call it with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tracecall.loading.building import build, origin
from tracecall.loading.devices import resolve_device, resolve_dtype
from tracecall.loading.finding import import_file, import_place, importable, pick
from tracecall.loading.inputs import Inputs, make_inputs
from tracecall.loading.places import check
from tracecall.loading.programs import open_program
from tracecall.loading.specs import PROGRAMS
from tracecall.loading.usercode import user_code
from tracecall.loading.weights import load_weights


@dataclass(frozen=True)
class Target:
    """A model and its inputs, ready for `model(*args, **kwargs)`, all on one device."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str  # of the model's class: "CNN"
    origin: str  # file:line of the class or function: "models/cnn.py:14", "torch/nn/modules/linear.py:53"
    device: str  # as torch names it: "cpu", "cuda:0"
    examples: tuple[tuple[int, ...], ...]  # of unmade inputs: shapes that the model is known to take, () if none is
    notes: tuple[str, ...]  # what a reader must be told: "input inferred from fc1 (Linear, 10 features): …"


def load(
    model: str,
    inputs: Sequence[str] = (),
    *,
    device: str = "cpu",
    dtype: str | None = None,
    seed: int | None = None,
    train: bool = False,
    unmade: bool = False,
    meta: bool = False,
    weights: str | None = None,
    given: Inputs | None = None,
) -> Target:
    """Find and build MODEL, make its inputs, and move both to the device, in eval mode unless `train`.

    Without a seed it is 0, so that weights and inputs are the same in every run; torch stays seeded afterwards.
    `dtype` is for the model's floating parameters and its floating inputs. Raises TracecallError in one line.
    With `unmade`, for fake tensors, the inputs are SizedInputs, whose sizes may be names; with `meta` the weights are
    not made either. `weights` is a file that the model's are loaded from; `given` are inputs that there are already, so
    that none are made.
    """
    request = check(model, inputs, device=device, dtype=dtype, seed=seed, names=unmade)
    spec, file = request.model, request.file
    there = torch.device("meta") if meta else resolve_device(request.device)
    as_dtype = None if request.dtype is None else resolve_dtype(request.dtype)
    folder = None if file is None else file.parent
    torch.manual_seed(request.seed)
    with importable(file):
        if file is not None and file.suffix in PROGRAMS:
            found, module, notes = open_program(
                file, there, request.inputs, seed=request.seed, unmade=unmade, given=given is not None
            )
            built: nn.Module = found
        else:
            module = import_place(spec.place) if file is None else import_file(file)
            name, found = pick(module, spec)
            with torch.device("meta") if meta else nullcontext():
                built = build(found, name, spec, folder)
            notes = ()
        if weights is not None:
            notes = (*notes, *load_weights(built, weights).notes)
        with user_code(f"moving {type(built).__name__} to {there}", folder):
            built = built.to(there, as_dtype).train(train)
        made = make_inputs(
            built,
            request.inputs,
            module,
            device=torch.device("cpu") if meta else there,  # fake tensors take the place of weights that were not made
            dtype=as_dtype,
            seed=request.seed,
            folder=folder,
            arguments=bool(spec.args or spec.kwargs),
            unmade=unmade,
            given=given,
        )
    return Target(
        model=built,
        args=made.args,
        kwargs=made.kwargs,
        name=type(built).__name__,
        origin=origin(built, found, module),
        device=str(there),
        examples=made.examples,
        notes=(*notes, *made.notes),
    )


def grad_mode(*, train: bool) -> AbstractContextManager[object]:
    """Return what a loaded model is called in: with gradients as they are for `train`, else torch.inference_mode."""
    return nullcontext() if train else torch.inference_mode()
