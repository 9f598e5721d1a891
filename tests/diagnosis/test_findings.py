"""Findings from the Trace alone; beside each model stands its nearest innocent twin, of which nothing is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tracecall
from tracecall.calls import Call, Environment, Finding, ModelInfo, Site, TensorSpec, Trace, Value
from tracecall.diagnosis.findings import findings


class Doing(nn.Module):
    """A model of two Linears that runs a function with them; (N, 8) becomes (N, 4) and (N, 1)."""

    def __init__(self, does: Callable[[Doing, Tensor], Tensor]) -> None:
        super().__init__()
        self.wide, self.one = nn.Linear(8, 4), nn.Linear(8, 1)
        self.register_buffer("scale", torch.ones(4, dtype=torch.float64))
        self.softmax = nn.Softmax(dim=0)
        self.does = does

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, x)


def found(model: nn.Module, *args: object, grad: bool = False) -> list[Finding]:
    """The findings of one recorded run without gradients."""
    torch.manual_seed(0)
    with torch.set_grad_enabled(grad):
        return findings(tracecall.trace(model, *args))


def of(does: Callable[[Doing, Tensor], Tensor], rows: int = 5, **options: bool) -> list[Finding]:
    return found(Doing(does).eval(), torch.randn(rows, 8), **options)


# broadcasts

BROADCASTS: dict[str, Callable[[Doing, Tensor], Tensor]] = {
    "a mean and a Linear's column": lambda m, x: x.mean(1) - m.one(x),
    "the column first": lambda m, x: m.one(x) * x.mean(1),
    "a column that went through a function": lambda m, x: x.mean(1) + torch.sigmoid(m.one(x)),
    "keepdim forgotten on one side": lambda m, x: x.amax(1) / x.sum(1, keepdim=True),
    "a loss": lambda m, x: F.l1_loss(x.mean(1), m.one(x)),
}
NO_BROADCASTS: dict[str, Callable[[Doing, Tensor], Tensor]] = {
    "both columns": lambda m, x: x.mean(1, keepdim=True) - m.one(x),
    "the column squeezed": lambda m, x: x.mean(1) - m.one(x).squeeze(1),
    "rows and a column": lambda m, x: x - m.one(x),
    "all pairs, by unsqueeze": lambda m, x: x.mean(1) - x.mean(1).unsqueeze(1),
    "all pairs, by an index": lambda m, x: torch.arange(len(x)).float() - torch.arange(len(x))[:, None].float(),
    "all pairs, after more": lambda m, x: x.mean(1) - (x.mean(1)[:, None] * 2).exp(),
    "all pairs of one column": lambda m, x: (lambda s: s - s.squeeze(1))(m.one(x)),
    "all pairs, by a transpose": lambda m, x: (lambda s: s - s.T)(m.one(x)),
    "sizes that have nothing to do with the batch": lambda m, x: x.mean(0) + x.T.mean(1, keepdim=True),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("name", BROADCASTS)
def test_examples_that_meet_all_others_by_a_broadcast(name: str):
    """[5] with [5, 1] is [5, 5], which nobody asked for."""
    (one,) = of(BROADCASTS[name])
    assert one.kind == "broadcast"
    assert "[5] with [5, 1]: both are broadcast to [5, 5], so each of the 5 examples meets all 5" in one.message
    assert one.site is not None and one.site.file == "tests/diagnosis/test_findings.py"


@pytest.mark.parametrize("name", NO_BROADCASTS)
def test_a_broadcast_that_may_be_meant_is_innocent(name: str):
    assert of(NO_BROADCASTS[name]) == []


def test_a_broadcast_of_one_example_enlarges_nothing():
    assert of(BROADCASTS["the column first"], rows=1) == []


# dtypes

PROMOTIONS: dict[str, Callable[[Doing, Tensor], Tensor]] = {
    "a tensor made in forward": lambda m, x: m.wide(x) + torch.ones(4, dtype=torch.float64),
    "a buffer": lambda m, x: m.wide(x) * m.scale,
    "half precision": lambda m, x: x.half() * torch.full((8,), 2.0),
}
NO_PROMOTIONS: dict[str, Callable[[Doing, Tensor], Tensor]] = {
    "one dtype": lambda m, x: m.wide(x) + torch.ones(4),
    "a number": lambda m, x: m.wide(x) * torch.tensor(2.0, dtype=torch.float64),
    "an explicit cast": lambda m, x: m.wide(x).double() * m.scale,
    "the other one cast": lambda m, x: m.wide(x) + x[:, :4].double(),
    "whole numbers": lambda m, x: m.wide(x) * torch.arange(4),
    "cast before use": lambda m, x: m.wide(x) * m.scale.to(x.dtype),
}


@pytest.mark.parametrize("name", PROMOTIONS)
def test_a_dtype_that_grows_without_a_cast(name: str):
    model = Doing(PROMOTIONS[name]).eval()
    x = torch.randn(5, 8)
    (one,) = found(model, x.half() if "half" in name else x)
    assert one.kind == "dtype-promotion" and one.site is not None
    assert "its result is float" in one.message


def test_a_promotion_names_both_dtypes_and_where_the_larger_came_from():
    (one,) = of(PROMOTIONS["a buffer"])
    assert one.message == (
        "m.wide(…) * m.scale takes float32[5, 4] and float64[4] from buffer scale: its result is float64"
    )


@pytest.mark.parametrize("name", NO_PROMOTIONS)
def test_dtypes_that_stay_or_are_cast_are_innocent(name: str):
    assert of(NO_PROMOTIONS[name]) == []


def test_autocast_mixes_dtypes_on_purpose():
    model = Doing(lambda m, x: m.wide(x) * torch.ones(4)).eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert found(model, torch.randn(5, 8)) == []


# softmax

SOFTMAXES: dict[str, Callable[[Doing, Tensor], Tensor]] = {
    "dim=0": lambda m, x: F.softmax(m.wide(x), dim=0),
    "a method": lambda m, x: m.wide(x).softmax(0),
    "counted from the end": lambda m, x: F.softmax(m.wide(x), dim=-2),
    "its logarithm": lambda m, x: torch.log_softmax(m.wide(x), 0),
    "a module": lambda m, x: m.softmax(m.wide(x)),
}
NO_SOFTMAXES: dict[str, Callable[[Doing, Tensor], Tensor]] = {
    "the last dimension": lambda m, x: F.softmax(m.wide(x), dim=-1),
    "one dimension": lambda m, x: F.softmax(x.mean(1), dim=0),
    "weights to pool by": lambda m, x: (F.softmax(m.one(x), dim=0) * x).sum(0),
    "one weight a row": lambda m, x: F.softmax(m.one(x), dim=0),
    "another first dimension": lambda m, x: F.softmax(x.T, dim=0).T,
}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", SOFTMAXES)
def test_scores_that_sum_to_one_over_the_batch(name: str, grad: bool):
    (one,) = of(SOFTMAXES[name], grad=grad)
    assert one.kind == "softmax-over-batch" and "along dimension 0 of [5, 4], which is the batch" in one.message
    assert one.site is not None and one.site.file == "tests/diagnosis/test_findings.py"


@pytest.mark.parametrize("name", NO_SOFTMAXES)
def test_a_softmax_that_may_be_meant_is_innocent(name: str):
    assert of(NO_SOFTMAXES[name]) == []


class Frames(nn.Module):
    """Scores of frames, pooled by weights over the frames or returned as they are."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.conv, self.pooled = nn.Conv2d(3, 6, 4), pooled

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((2, 3))
        x = F.softmax(x, dim=0) * x
        return x.sum(0, keepdim=True) if self.pooled else x


def test_a_convolution_says_what_the_batch_is_unless_it_is_pooled_away():
    (one,) = found(Frames(False), torch.randn(4, 3, 8, 8))
    assert one.kind == "softmax-over-batch"
    assert found(Frames(True), torch.randn(4, 3, 8, 8)) == []


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_softmax_without_dim_takes_the_first_of_three():
    implicit = nn.Sequential(nn.Conv1d(4, 4, 1), nn.Softmax())
    (one,) = found(implicit, torch.randn(2, 4, 5))
    assert one.kind == "softmax-over-batch" and one.path == "1"


# train mode

REGULAR = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Dropout(0.0), nn.Dropout(0.1))


def test_modules_in_train_mode_while_tracing_for_inference():
    dropout, norm = found(REGULAR.train(), torch.randn(5, 8))
    assert dropout.kind == norm.kind == "train-mode"
    assert dropout.message.startswith("2, 4 (Dropout) ran in train mode in a run for inference (no grad)")
    assert "1 (BatchNorm)" in norm.message and "mixes examples: it uses the statistics of this batch" in norm.message


def test_eval_and_training_itself_are_innocent():
    assert found(REGULAR.eval(), torch.randn(5, 8)) == []
    assert found(REGULAR.train(), torch.randn(5, 8), grad=True) == []


def test_dropout_that_no_eval_reaches():
    """F.dropout drops unless it is told that this is no training."""
    (one,) = of(lambda m, x: F.dropout(m.wide(x), 0.5), grad=True)
    assert (
        one.kind == "train-mode" and "F.dropout drops values at random, though the model is in eval mode" in one.message
    )
    with torch.inference_mode():
        (one,) = of(lambda m, x: F.dropout(m.wide(x), 0.5))
    assert "F.dropout drops values with p=0.5, though" in one.message
    assert of(lambda m, x: F.dropout(m.wide(x), 0.5, training=m.training)) == []


def test_batch_norm_that_no_eval_reaches():
    mean, var = torch.zeros(4), torch.ones(4)
    with torch.inference_mode():
        (one,) = of(lambda m, x: F.batch_norm(m.wide(x), mean, var, training=True))
        assert one.kind == "train-mode" and "mixes its examples" in one.message
        assert of(lambda m, x: F.batch_norm(m.wide(x), mean, var)) == []


def test_weights_that_are_normalized_by_batch_norm_are_innocent():
    """Weight standardization has no statistics to use instead."""
    with torch.inference_mode():
        assert of(lambda m, x: F.linear(x, F.batch_norm(m.wide.weight[None], None, None, training=True)[0])) == []


# devices: no accelerator is needed for a Trace


def _spec(device: str, shape: tuple[int, ...] = (2, 3)) -> TensorSpec:
    return TensorSpec(shape, "float32", device)


def _move(number: int, source: str, before: str, after: str) -> Call:
    return Call(
        "operation",
        "",
        f"x.to {number}",
        "aten._to_copy",
        [Value("self", _spec(before), source)],
        [Value("", _spec(after))],
        Site("net.py", number),
    )


def _moved(*inside: Call) -> list[Finding]:
    root = Call("module", "", "Net", "Net", [Value("x", _spec("cuda:0"))], [Value("", _spec("cuda:0"))])
    root.children = list(inside)
    return findings(Trace(ModelInfo("Net"), Environment("2.13", "3.11"), calls=[root]))


def test_data_that_goes_to_the_cpu_and_back_in_the_middle():
    there = _move(1, "input x", "cuda:0", "cpu")
    here = Call(
        "operation", "", "x.sort", "aten.sort", [Value("self", _spec("cpu"), "x.to 1")], [Value("", _spec("cpu"))]
    )
    (one,) = _moved(there, here, _move(3, "x.sort", "cpu", "cuda:0"))
    assert one.kind == "cpu-detour" and one.site == Site("net.py", 1)
    assert one.message == (
        "x.to 1 brings [2, 3] from cuda:0 to the CPU in the middle, and x.to 3 at net.py:3 brings data back"
    )


def test_a_result_for_the_cpu_and_a_constant_for_the_accelerator_are_innocent():
    assert _moved(_move(1, "input x", "cuda:0", "cpu")) == []
    made = Call("operation", "", "torch.ones", "aten.ones", [Value("size", "[2, 3]")], [Value("", _spec("cpu"))])
    assert _moved(_move(1, "input x", "cuda:0", "cpu"), made, _move(3, "torch.ones", "cpu", "cuda:0")) == []


# all of them


def test_a_line_in_a_loop_is_told_once():
    def loop(m: Doing, x: Tensor) -> Tensor:
        for _ in range(3):
            y = m.wide(x) * m.scale
        return y

    assert len(of(loop)) == 1


def test_a_run_that_failed_has_no_findings_of_this_kind():
    with pytest.raises(RuntimeError):
        tracecall.trace(Doing(lambda m, x: m.wide(m.wide(x) * m.scale)), torch.randn(5, 8))
    trace = tracecall.last_trace()
    assert trace is not None and trace.error is not None and findings(trace) == []


@pytest.mark.parametrize("demo", ["linear", "feedforward", "cnn", "rnn", "transformer"])
def test_the_demos_are_innocent(demo: str):
    import importlib

    module = importlib.import_module(f"models.{demo}")
    assert found(module.build_model().eval(), module.example_input()) == []
