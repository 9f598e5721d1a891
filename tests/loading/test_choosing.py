"""`--only` and `--filter` held against a model before it is run: refused is only what cannot come up in the run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tracecall
from tracecall.errors import TracecallError
from tracecall.folding import folded
from tracecall.loading.choosing import check_chosen


class Tied(nn.Module):
    """A module under two paths, one in a list, one that its forward builds, and a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Tanh())])
        self.head = self.layers[0]
        self.head.register_forward_hook(keep)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.ReLU()(self.head(x)).relu()


def keep(module: nn.Module, args: object, output: object) -> None:
    pass


@pytest.mark.parametrize(
    ("only", "types"),
    [
        ("layers.0.0", None), ("head.0", None), ("layers", None), ("", None), ("layers.*", None), ("<ReLU>", None),
        (None, "Linear"), (None, "linear, tanh"), (None, "ReLU"), (None, "aten.relu"), (None, "*relu"), (None, "keep"),
        (None, None),
    ],
)  # fmt: skip
def test_what_a_run_may_show_is_not_refused_before_it(only: str | None, types: str | None) -> None:
    """Paths through other names, modules that a forward builds, operations and hooks."""
    model = Tied()
    check_chosen(model, only, types)
    folded(tracecall.trace(model, torch.ones(1, 4)), only=only, types=types)


@pytest.mark.parametrize(
    ("only", "types", "said"),
    [
        ("layesr", None, "--only layesr: Tied has no module at that path; did you mean layers"),
        ("layers.0.7", None, "--only layers.0.7: Tied has no module at that path"),
        ("forward", None, "--only forward: Tied has no module at that path"),
        (None, "Liner", "--filter Liner: Tied has no module of that type; did you mean Linear?"),
        (None, "Linear,zz", "--filter zz: Tied has no module of that type; type one of Tied, ModuleList, Sequential"),
    ],
)
def test_what_no_run_can_show_is_refused(only: str | None, types: str | None, said: str) -> None:
    """In one line, with what there is."""
    with pytest.raises(TracecallError) as caught:
        check_chosen(Tied(), only, types)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_path_is_refused_in_the_same_words_as_after_the_run() -> None:
    """Who types it twice reads it twice."""
    model = Tied()
    with pytest.raises(TracecallError) as before:
        check_chosen(model, "layer", None)
    with pytest.raises(TracecallError) as after:
        folded(tracecall.trace(model, torch.ones(1, 4)), only="layer")
    assert str(before.value) == str(after.value)
