"""Proposals tried out: what runs is a Fit, what does not is dropped, and nothing of the user's model is changed."""

from __future__ import annotations

import copy
import gc
import re
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from models.cnn import CNN
from tests.diagnosis.broken import BROKEN, Broken
from tracecall.calls import Fit, Site, Trace
from tracecall.diagnosis import diagnose
from tracecall.proposals import (
    Edit,
    InputDtype,
    InputLeftOut,
    InputRange,
    InputShape,
    ModelDtype,
    ModelMode,
    ModuleArguments,
    MoveTo,
    OperandMethod,
    OperationArgument,
    Proposal,
    SearchSizes,
)
from tracecall.recording import last_trace, trace
from tracecall.symbolic import fitting, ground
from tracecall.symbolic.edits import carried_out, resized
from tracecall.symbolic.fitting import fits
from tracecall.symbolic.undisturbed import undisturbed

PLENTY = 60.0  # seconds: no test depends on how fast a machine is


class Runs(nn.Module):
    """A forward written as a function, beside submodules by name."""

    def __init__(self, run: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)


def failed(model: nn.Module, *args: Any, **kwargs: Any) -> Trace:
    """The trace of a run that raises."""
    with pytest.raises(Exception):  # noqa: B017  # which one, torch says
        trace(model, *args, **kwargs)
    found = last_trace()
    assert found is not None
    return found


def fitting_texts(model: nn.Module, args: tuple[Any, ...], *edits: Sequence[Edit], **kwargs: Any) -> list[str]:
    """The numbers, as text, of those lists of edits that fit."""
    found = failed(model, *args, **kwargs)
    proposals = [Proposal(str(i), list(one)) for i, one in enumerate(edits)]
    return sorted(fit.text for fit in fits(model, args, kwargs, found, proposals, budget_s=PLENTY))


def operation(found: Trace) -> Site:
    """Where it failed."""
    failing = found.failing()
    assert failing is not None
    assert failing.site is not None
    return failing.site


def one(model: nn.Module, args: tuple[Any, ...], make: Callable[[Site], Sequence[Edit]]) -> bool:
    """Whether edits of the operation that failed fit."""
    found = failed(model, *args)
    proposal = Proposal("it", list(make(operation(found))))
    return fits(model, args, {}, found, [proposal], budget_s=PLENTY) == [Fit("it")]


# inputs


def test_another_shape_of_an_input() -> None:
    """Only the shape that the whole forward takes."""
    model = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 2))
    edits = [[InputShape("input", (2, 5))], [InputShape("input", (2, 6))], [InputShape("other", (2, 5))]]
    assert fitting_texts(model, (torch.randn(2, 7),), *edits) == ["0"]


def test_an_input_inside_of_a_structure() -> None:
    """By the name that a recording gives it, by position and by keyword."""
    model = Runs(lambda self, batch, *, mask: self.fc(batch["x"][0]) + mask, fc=nn.Linear(4, 3))
    args = ({"x": [torch.randn(2, 5)]},)
    found = failed(model, *args, mask=torch.zeros(3))
    names = [value.where for value in found.calls[0].inputs]
    edits = [[InputShape(names[0], (2, 4))], [InputShape(names[1], (4,))]]
    assert fitting_texts(model, args, *edits, mask=torch.zeros(3)) == ["0"]


def test_another_dtype_of_an_input() -> None:
    """Fake tensors let a double meet a float: real ones decide."""
    edits = [[InputDtype("input", name)] for name in ("float32", "float16", "int64")]
    assert fitting_texts(nn.Linear(5, 2), (torch.randn(2, 5).double(),), *edits) == ["0"]


def test_floats_where_indices_are_wanted() -> None:
    """Whatever the floats were, as indices they are noughts, which every table has."""
    edits = [[InputDtype("input", "int64")], [InputDtype("input", "float64")]]
    assert fitting_texts(nn.Embedding(10, 4), (torch.randn(2, 3) * 100,), *edits) == ["0"]


def test_other_numbers_in_an_input_of_integers() -> None:
    """Numbers that the table has; both ends are tried."""
    model, args = nn.Sequential(nn.Embedding(10, 4)), (torch.tensor([[1, 12]]),)
    edits = [[InputRange("input", 0, 9)], [InputRange("input", 0, 10)], [InputRange("input", -1, 9)]]
    assert fitting_texts(model, args, *edits) == ["0"]


def test_an_argument_left_out() -> None:
    """By keyword or by position."""
    model = Runs(lambda self, x, scale=1: x.view(-1, scale))
    assert fitting_texts(model, (torch.randn(6), 4), [InputLeftOut("args[1]")], [InputLeftOut("args[2]")]) == ["0"]
    assert fitting_texts(model, (torch.randn(6),), [InputLeftOut("scale")], [InputLeftOut("x")], scale=4) == ["0"]


# the model


def test_another_mode() -> None:
    """BatchNorm takes one value per channel only in eval mode."""
    model = Runs(lambda self, x: self.norm(x), norm=nn.BatchNorm1d(4))
    edits = [[ModelMode(True)], [ModelMode(False)]]
    assert fitting_texts(model, (torch.randn(1, 4),), *edits) == ["1"]


@pytest.mark.parametrize(
    "model", [nn.Linear(5, 2), nn.LSTM(5, 2), nn.Sequential(nn.Conv1d(5, 2, 1), nn.BatchNorm1d(2))]
)
def test_another_dtype_of_the_model(model: nn.Module) -> None:
    """Every parameter and buffer is converted, on a copy."""
    x = torch.randn(2, 5, 5).double()
    assert fitting_texts(model, (x,), [ModelDtype("float64")], [ModelDtype("float16")]) == ["0"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


BUILT: list[tuple[nn.Module, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (nn.Linear(4, 3, bias=False), (torch.randn(2, 5),), {"in_features": 5}, {"in_features": 6}),
    (nn.Bilinear(4, 3, 2), (torch.randn(2, 4), torch.randn(2, 5)), {"in2_features": 5}, {"in1_features": 5}),
    (nn.Conv1d(3, 4, 3), (torch.randn(2, 5, 9),), {"in_channels": 5}, {"in_channels": 4}),
    (nn.Conv2d(4, 4, 3, groups=2), (torch.randn(2, 6, 9, 9),), {"in_channels": 6}, {"in_channels": 5}),
    (nn.Conv2d(3, 4, 5), (torch.randn(2, 3, 4, 4),), {"kernel_size": 4}, {"kernel_size": 6}),
    (nn.Conv3d(3, 4, 3), (torch.randn(2, 5, 9, 9, 9),), {"in_channels": 5}, {"out_channels": 5}),
    (nn.ConvTranspose2d(3, 4, 3, stride=2), (torch.randn(2, 5, 9, 9),), {"in_channels": 5}, {"in_channels": 6}),
    (nn.BatchNorm2d(3, affine=False), (torch.randn(2, 5, 4, 4),), {"num_features": 5}, {"num_features": 4}),
    (nn.LayerNorm(4), (torch.randn(2, 5),), {"normalized_shape": (5,)}, {"normalized_shape": (6,)}),
    (nn.LayerNorm((3, 4)), (torch.randn(2, 3, 5),), {"normalized_shape": (3, 5)}, {"normalized_shape": (5, 3)}),
    (nn.GroupNorm(2, 4), (torch.randn(2, 6, 5),), {"num_channels": 6}, {"num_channels": 8}),
    (nn.Embedding(10, 4, padding_idx=0), (torch.tensor([3, 12]),), {"num_embeddings": 13}, {"num_embeddings": 12}),
    (nn.LSTM(4, 3, 2, bidirectional=True), (torch.randn(2, 5, 6),), {"input_size": 6}, {"input_size": 5}),
    (nn.GRU(4, 3, batch_first=True), (torch.randn(2, 5, 6),), {"input_size": 6}, {"hidden_size": 6}),
    (nn.RNN(4, 3, nonlinearity="relu"), (torch.randn(2, 5, 6),), {"input_size": 6}, {"input_size": 5}),
    (nn.LSTMCell(4, 3), (torch.randn(2, 6),), {"input_size": 6}, {"input_size": 5}),
    (nn.MultiheadAttention(4, 2), (torch.randn(2, 5, 6),) * 3, {"embed_dim": 6}, {"embed_dim": 8}),
    (nn.PReLU(3), (torch.randn(2, 5, 6),), {"num_parameters": 5}, {"num_parameters": 6}),
]


@pytest.mark.parametrize(("module", "args", "right", "wrong"), BUILT, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("inside", [False, True])
def test_a_module_built_anew(
    module: nn.Module, args: tuple[Any, ...], right: dict[str, Any], wrong: dict[str, Any], inside: bool
) -> None:
    """With one other argument, and the rest as they were; alone, and as a part of a model."""
    model = Runs(lambda self, *given: self.part(*given), part=module) if inside else module
    path = "part" if inside else ""
    before = copy.deepcopy(module.state_dict())
    assert fitting_texts(model, args, [ModuleArguments(path, right)], [ModuleArguments(path, wrong)]) == ["0"]
    assert model.get_submodule(path) is module
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_module_built_anew_keeps_its_other_arguments() -> None:
    """Without its stride and padding the next module would not fit."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.Flatten(), nn.Linear(4 * 5 * 5, 2))
    edits = [[ModuleArguments("0", {"in_channels": 1})]]
    assert fitting_texts(model, (torch.randn(2, 1, 10, 10),), *edits) == ["0"]


def test_a_module_under_two_names_is_built_anew_under_both() -> None:
    """The second name is an alias in the trace."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.append(model[0])
    found = failed(model, torch.randn(2, 5))
    assert found.modules["0"].aliases == ["2"]
    right = [ModuleArguments("2", {"in_features": 5, "out_features": 5})]
    assert fitting_texts(model, (torch.randn(2, 5),), right, [ModuleArguments("0", {"in_features": 5})]) == ["0"]


def test_a_module_whose_arguments_cannot_be_told_is_not_built() -> None:
    """A class that keeps nothing of what it was made with."""

    class Own(nn.Module):
        def __init__(self, size: int, deep: bool = False) -> None:
            super().__init__()
            self.fc = nn.Linear(size, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x)

    edits = [[ModuleArguments("0", {"size": 5})], [ModuleArguments("0.fc", {"in_features": 5})]]
    assert fitting_texts(nn.Sequential(Own(4)), (torch.randn(2, 5),), *edits) == ["1"]


# code


def test_another_argument_of_an_operation() -> None:
    """By position and by name, one size or all of them."""
    model = Runs(lambda self, x: x.view(-1, 7))
    args = (torch.randn(2, 4),)
    assert one(model, args, lambda site: [OperationArgument(site, 1, 4)])
    assert one(model, args, lambda site: [OperationArgument(site, 0, (-1, 2))])
    assert one(model, args, lambda site: [OperationArgument(site, "size", (4, 2))])
    assert not one(model, args, lambda site: [OperationArgument(site, 1, 5)])
    assert one(Runs(lambda self, x: x.reshape((3, 3))), args, lambda site: [OperationArgument(site, "size", (2, 4))])
    assert one(Runs(lambda self, x: torch.cat([x, x], dim=2)), args, lambda site: [OperationArgument(site, "dim", 1)])
    assert one(Runs(lambda self, x: x.softmax(5)), args, lambda site: [OperationArgument(site, "dim", -1)])


def test_an_operand_goes_through_a_method() -> None:
    """Of an operation, and of a module call."""
    x, y = torch.randn(2, 4), torch.randn(3, 4)
    product = Runs(lambda self, x, y: x @ y)
    assert one(product, (x, y), lambda site: [OperandMethod(site, 1, "transpose", (-2, -1))])
    assert not one(product, (x, y), lambda site: [OperandMethod(site, 0, "transpose", (-2, -1))])
    model = Runs(lambda self, x: self.fc(x), fc=nn.Linear(2, 3))
    found = failed(model, x)
    (call,) = found.find("fc")
    assert call.site is not None
    proposal = Proposal("it", [OperandMethod(call.site, 0, "t")])
    assert fits(model, (x,), {}, found, [proposal], budget_s=PLENTY) == [Fit("it")]
    assert not model.get_submodule("fc")._forward_pre_hooks


def test_only_the_expression_at_the_site_is_edited() -> None:
    """Of two on one line the other stays."""
    model = Runs(lambda self, x: x.view(-1, 2).view(-1, 7))
    assert one(model, (torch.randn(2, 4),), lambda site: [OperationArgument(site, 1, 4)])
    model = Runs(lambda self, x: x.view(-1, 2).view(8).view(-1, 7))
    assert one(model, (torch.randn(2, 4),), lambda site: [OperationArgument(site, 1, 4)])


def test_operands_moved_to_one_dtype_and_device() -> None:
    """A tensor made inside of forward on another device, and one of another dtype."""
    x = torch.randn(2, 4)
    assert one(Runs(lambda self, x: x @ torch.ones(4, 3).double()), (x,), lambda s: [MoveTo(s, dtype="float32")])
    other = Runs(lambda self, x: x + torch.ones(4, device="meta"))
    assert one(other, (x,), lambda site: [MoveTo(site, device="meta")])


# sizes


def search(model: nn.Module, shape: tuple[int, ...], edit: SearchSizes, command: str | None = None) -> Fit | None:
    """What a search finds."""
    x = torch.randn(shape)
    proposal = Proposal("an input of {sizes}", [edit], command)
    found = fits(model, (x,), {}, failed(model, x), [proposal], budget_s=PLENTY)
    return found[0] if found else None


def test_a_whole_range_of_sizes_that_fit() -> None:
    """Its ends are those that really fit, and every pair between them does; hints give the size to type."""
    found = Fit("an input of 28…31 × 28…31", "--input 1,3,28,28")
    assert search(CNN(), (1, 3, 32, 32), SearchSizes("x", (2, 3), (28,))) == found
    assert search(CNN(), (1, 3, 20, 20), SearchSizes("x", (2, 3))) == found
    for height in range(27, 33):
        for width in range(27, 33):
            fine = height in range(28, 32) and width in range(28, 32)
            try:
                CNN()(torch.randn(1, 3, height, width))
            except RuntimeError:
                assert not fine
            else:
                assert fine


def test_a_command_with_sizes_of_its_own() -> None:
    """{sizes} in it is a whole shape."""
    found = search(CNN(), (1, 3, 32, 32), SearchSizes("x", (2, 3), (28,)), "--input x={sizes}")
    assert found == Fit("an input of 28…31 × 28…31", "--input x=1,3,28,28")


def test_one_size_that_fits() -> None:
    """No range is claimed."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(49, 2))
    assert search(model, (2, 8, 8), SearchSizes("input", (1, 2))) == Fit("an input of 7 × 7", "--input 2,7,7")
    assert search(nn.Linear(5, 2), (2, 7), SearchSizes("input", (1,))) == Fit("an input of 5", "--input 2,5")


def test_sizes_without_an_upper_end_say_how_far_they_were_tried() -> None:
    """A kernel takes every input that is not smaller than it is."""
    found = search(nn.Conv2d(3, 4, 5), (2, 3, 4, 4), SearchSizes("input", (2, 3)))
    assert found is not None
    assert found.text.startswith("an input of 5 × 5 or more (tried up to ")
    assert found.command == "--input 2,3,5,5"


def test_sizes_that_fit_only_when_they_are_equal() -> None:
    """The corners of the range are tried too."""
    model = Runs(lambda self, x: self.check(x @ x), check=nn.MaxPool2d(3))
    found = search(model, (1, 2, 2), SearchSizes("args[0]", (1, 2)))
    assert found is not None
    assert found.text.startswith("an input of 3 × 3 or more")
    model = Runs(lambda self, x: (x @ x).flatten(1)[:, 15] + torch.ones(3 if x.shape[1] > 6 else 1) * torch.ones(2))
    found = search(model, (1, 3, 3), SearchSizes("args[0]", (1, 2)))
    assert found == Fit("an input of 4 × 4 … 6 × 6", None)


def test_no_size_that_fits() -> None:
    """Then there is nothing to say."""
    assert search(CNN(), (1, 4, 32, 32), SearchSizes("x", (2, 3))) is None
    assert search(CNN(), (1, 4, 32, 32), SearchSizes("x", (2, 7))) is None
    assert search(CNN(), (1, 4, 32, 32), SearchSizes("y", (2,))) is None


# which of them


def test_at_most_three_the_least_change_first() -> None:
    """The input, then the model, then code; and none twice."""
    model, args = CNN(), (torch.randn(1, 3, 32, 32),)
    found = failed(model, *args)
    code: list[Edit] = [OperationArgument(operation(found), 1, 2048), ModuleArguments("fc1", {"in_features": 2048})]
    proposals = [
        Proposal("view", code),
        Proposal("shape", [InputShape("x", (1, 3, 28, 28))], "--input 1,3,28,28"),
        Proposal("the same", [InputShape("x", (1, 3, 28, 28))], "--input 1,3,28,28"),
        Proposal("does not run", [InputShape("x", (1, 3, 27, 27))]),
    ]
    texts = [fit.text for fit in fits(model, args, {}, found, proposals, budget_s=PLENTY)]
    assert texts == ["shape", "view"]
    many = [Proposal(str(size), [InputShape("x", (size, 3, 28, 28))]) for size in range(1, 6)]
    assert len(fits(model, args, {}, found, many, budget_s=PLENTY)) == 3


def test_without_time_nothing_is_claimed() -> None:
    """What was not tried is no Fit."""
    model, args = CNN(), (torch.randn(1, 3, 32, 32),)
    proposals = [Proposal("shape", [InputShape("x", (1, 3, 28, 28))])]
    assert fits(model, args, {}, failed(model, *args), proposals, budget_s=-1.0) == []


def test_a_model_that_takes_too_long_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run on fake tensors ends in the middle."""
    model, args = CNN(), (torch.randn(1, 3, 32, 32),)
    proposals = [Proposal("shape", [InputShape("x", (1, 3, 28, 28))])]
    found = failed(model, *args)
    monkeypatch.setattr(fitting, "LOADING", -2 * PLENTY)
    assert fits(model, args, {}, found, proposals, budget_s=PLENTY) == []


@pytest.mark.parametrize("module", [nn.Linear(4, 2), nn.Conv1d(4, 2, 1), nn.LayerNorm(4), nn.ConvTranspose1d(4, 2, 1)])
def test_dtypes_of_a_large_model_are_told_on_fake_tensors(module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which by themselves compare sizes only."""
    monkeypatch.setattr(ground, "SMALL_MODEL", 0)
    edits: list[list[Edit]] = [
        [InputDtype("input", "float32")],
        [InputDtype("input", "float16")],
        [ModelDtype("float64")],
    ]
    x = torch.randn(2, 4, 4).double()
    fine = [text for text in fitting_texts(module, (x,), *edits) if text != "1" or not isinstance(module, nn.LayerNorm)]
    assert fine == ["0", "2"]


def test_a_branch_on_the_numbers_is_tried_on_real_tensors() -> None:
    """Fake tensors have none to decide by; a model that is too large to be run again is left alone."""
    model = Runs(lambda self, x: self.fc(x if x.sum() > -1e9 else -x), fc=nn.Linear(5, 2))
    args = (torch.randn(2, 4),)
    edits = [[InputShape("args[0]", (2, 5))], [InputShape("args[0]", (2, 6))]]
    assert fitting_texts(model, args, *edits) == ["0"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ground, "SMALL_MODEL", 0)
        assert fitting_texts(model, args, *edits) == []


def test_a_table_that_is_too_large_to_be_run_again_is_told_by_its_indices() -> None:
    """The span of the indices that the recording noted decides."""
    model, args = nn.Sequential(nn.Embedding(10, 4)), (torch.tensor([[1, 12]]),)
    found = failed(model, *args)
    failing = found.failing()
    assert failing is not None
    for value in failing.inputs:
        value.span = (1, 12) if "int64" in str(value.value) else None
    proposals = [
        Proposal("13", [ModuleArguments(failing.path, {"num_embeddings": 13})]),
        Proposal("12", [ModuleArguments(failing.path, {"num_embeddings": 12})]),
        Proposal("0…9", [InputRange("input", 0, 9)]),
        Proposal("0…10", [InputRange("input", 0, 10)]),
    ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ground, "SMALL_MODEL", 0)
        texts = [fit.text for fit in fits(model, args, {}, found, proposals, budget_s=PLENTY)]
    assert texts == ["0…9", "13"]


# what is left behind


class Remembering(nn.Module):
    """Keeps what it saw, in every way that a forward can."""

    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.seen: list[torch.Tensor] = []
        self.by_size: dict[int, torch.Tensor] = {}
        self.calls = 0
        self.plain = torch.zeros(4)
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(x)
        self.by_size[len(x)] = x
        self.last = x
        self.total += 1
        self.plain += 1
        self.train(not self.training)
        x = x + torch.rand(())
        print("in forward")
        return self.fc(self.norm(x).t())


class Observer:
    """Counts what it sees, and keeps the last of it."""

    def __init__(self) -> None:
        self.seen = 0

    def see(self, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        self.seen += 1
        self.last = output


def test_nothing_of_the_model_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """Attributes, lists in them, buffers, modes, hooks, gradients, random state, and what is on the screen."""
    kept: list[Any] = []
    model = Remembering()
    handle = model.fc.register_forward_hook(lambda module, args, output: kept.append(output))
    model.fc.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    observer = Observer()
    model.norm.register_forward_hook(observer.see)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    x = torch.randn(3, 4)
    found = failed(model, x)
    capsys.readouterr()

    def state() -> list[Any]:
        return [
            {key: id(value) for key, value in vars(module).items() if key != "training"} for module in model.modules()
        ] + [
            [module.training for module in model.modules()],
            [id(tensor) for tensor in (*model.parameters(), *model.buffers(), *model.seen, *kept)],
            [tensor.tolist() for tensor in (*model.state_dict().values(), model.plain, x, torch.get_rng_state())],
            [parameter.grad.tolist() for parameter in model.parameters() if parameter.grad is not None],
            list(model.by_size),
            {key: id(value) for key, value in vars(observer).items()},
            len(model.fc._forward_hooks),
            (torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack(), sys.getprofile()),
        ]

    before = state()
    proposals = [
        Proposal("shape", [InputShape("x", (4, 4))]),
        Proposal("fc", [ModuleArguments("fc", {"in_features": 3})]),
        Proposal("mode", [ModelMode(False), ModelDtype("float64")]),
        Proposal("sizes {sizes}", [SearchSizes("x", (0,))]),
    ]
    texts = [fit.text for fit in fits(model, (x,), {}, found, proposals, budget_s=PLENTY)]
    assert texts == ["shape", "sizes 4", "fc"]
    assert state() == before
    assert capsys.readouterr() == ("", "")
    handle.remove()


def test_no_copy_lives_on() -> None:
    """Models and tensors are freed with the user's last reference."""
    model, x = nn.Sequential(nn.Linear(5, 8)), torch.randn(2, 7)
    found = failed(model, x)
    gc.collect()
    before = {id(thing) for thing in gc.get_objects() if type(thing).__name__ in ("FakeTensor", "Ground")}
    fits(model, (x,), {}, found, [Proposal("x", [InputShape("input", (2, 5))])], budget_s=PLENTY)
    alive = [weakref.ref(thing) for thing in (model, model[0].weight, x)]
    gc.collect()
    fakes = [thing for thing in gc.get_objects() if type(thing).__name__ in ("FakeTensor", "Ground")]
    assert [thing for thing in fakes if id(thing) not in before] == []
    del fakes
    del model, x
    gc.collect()
    assert [one() for one in alive] == [None] * 3


def test_an_interrupt_passes_through_and_leaves_nothing() -> None:
    """What is tried out is user's code: it may be stopped."""
    calls = []

    def run(self: Any, x: torch.Tensor) -> torch.Tensor:
        calls.append(x.shape)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return self.fc(x)

    model, x = Runs(run, fc=nn.Linear(5, 2)), torch.randn(2, 4)
    proposals = [Proposal("x", [InputShape("args[0]", (2, 5))])]
    found = failed(model, x)
    with pytest.raises(KeyboardInterrupt):
        fits(model, (x,), {}, found, proposals, budget_s=PLENTY)
    assert (torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()) == (0, 0)


def test_under_inference_mode_and_with_gradients() -> None:
    """As the run that failed."""
    model = Runs(lambda self, x: self.fc(x.mul_(2)), fc=nn.Linear(5, 2))
    with torch.inference_mode():
        assert fitting_texts(model, (torch.randn(2, 4),), [InputShape("args[0]", (2, 5))]) == ["0"]
    with torch.no_grad():
        assert fitting_texts(model, (torch.randn(2, 4),), [InputShape("args[0]", (2, 5))]) == ["0"]
    assert fitting_texts(model, (torch.randn(2, 4),), [InputShape("args[0]", (2, 5))]) == ["0"]
    x = torch.randn(2, 4, requires_grad=True)  # torch refuses to write into it
    assert fitting_texts(model, (x,), [InputShape("args[0]", (2, 5))]) == []


# the table of broken models


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: str(broken.name))
def test_every_fit_of_the_table_runs_on_real_tensors_too(broken: Broken) -> None:
    """And what does not run on real ones is no Fit; only for want of room may a proposal that runs be left out."""
    torch.manual_seed(0)
    model, args, kwargs = broken.build(), broken.args(), broken.kwargs()
    found = failed(model, *args, **kwargs)
    answer = diagnose(found)
    if answer is None:
        return
    proposals = answer[1]
    shown = fits(model, args, kwargs, found, proposals, budget_s=PLENTY)
    grad = found.settings.grad_mode == "grad"
    for proposal in proposals:
        fit = next((one for one in shown if _is_of(one, proposal)), None)
        sizes = [{}] if fit is None else list(_sizes(fit, proposal))
        assert sizes
        with undisturbed(model):
            run = [_runs_really(ground.Ground(model, args, kwargs, grad, False), proposal, one, found) for one in sizes]
        searched = any(isinstance(edit, SearchSizes) for edit in proposal.edits)
        if fit is not None:
            assert all(run), f"{fit.text} does not run with {sizes}"
        elif len(shown) < fitting.MOST and not searched:
            assert not any(run) or proposal.command in [one.command for one in shown], f"{proposal.text} runs"


def _is_of(fit: Fit, proposal: Proposal) -> bool:
    before, _, after = proposal.text.partition("{sizes}")
    return fit.text.startswith(before) and fit.text.endswith(after)


def _sizes(fit: Fit, proposal: Proposal) -> Iterator[dict[int, int]]:
    """All sizes that a Fit claims, by dimension; of a long range its ends and the middle."""
    edit = next((edit for edit in proposal.edits if isinstance(edit, SearchSizes)), None)
    if edit is None:
        yield {}
        return
    before, _, after = proposal.text.partition("{sizes}")
    told = fit.text.removeprefix(before).removesuffix(after)
    numbers = [int(number) for number in re.findall(r"\d+", told)]
    low, high = min(numbers), max(numbers)
    wanted = range(low, high + 1) if high - low < 5 else (low, (low + high) // 2, high)
    free = re.search(r"\d+…\d+", told) is not None
    for sizes in product(wanted, repeat=len(edit.dims)):
        if free or len(set(sizes)) == 1:
            yield dict(zip(edit.dims, sizes, strict=True))


def _runs_really(real: ground.Ground, proposal: Proposal, sizes: dict[int, int], found: Trace) -> bool:
    try:
        attempt = carried_out(proposal.edits, real.model, real.inputs, found.modules)
    except Exception:
        return False
    for edit in proposal.edits:
        if isinstance(edit, SearchSizes) and sizes:
            attempt.inputs[edit.where] = resized(real.inputs[edit.where], sizes)
    return real.run(attempt, float("inf")) is None


def rows_of(size: int, flat: Callable[[torch.Tensor], torch.Tensor]) -> list[Fit]:
    """What fits a convolution whose output is cut into rows of 200, for 4 images."""
    model = Runs(
        lambda self, x: flat(torch.max_pool2d(self.c(x), 2)),
        c=nn.Conv2d(3, 8, 5),
    )
    x = torch.zeros(4, 3, size, size)
    proposal = Proposal("{sizes}", [SearchSizes("args[0]", (2, 3), ())])
    return fits(model, (x,), {}, failed(model, x), [proposal], budget_s=PLENTY)


@pytest.mark.parametrize("size", [32, 93])
def test_a_size_that_keeps_the_batch_is_preferred(size: int) -> None:
    """34 × 34 runs too, and makes 36 rows of 4 images."""
    (fit,) = rows_of(size, lambda x: x.view(-1, 200))
    assert fit.text == "14…15 × 14…15"


def test_where_no_size_keeps_the_batch_it_is_said() -> None:
    """No size of the image makes as many rows as images."""
    (fit,) = rows_of(32, lambda x: torch.cat([x.view(-1, 200)] * 2))
    assert fit.text == "34…35 × 34…35: 4 examples become 72 rows"
