"""The observer effect: a traced run is the run that happens when nobody watches."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
import torch
from torch import nn

import tracecall
from tests.models.noise import Noise
from tests.witness import drawn as seen_lines
from tests.witness import recorded, witness
from tests.zoo.drawing import only
from tracecall.calls import Trace

X = torch.ones(1, 4, 8)


def encoder() -> nn.Module:
    """An nn.TransformerEncoder that takes its fused path in eval."""
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    return nn.TransformerEncoder(layer, 2).eval()


def modules(trace: Trace) -> list[str]:
    """The paths of the module calls."""
    return [call.path for _, call in trace.walk() if call.kind == "module"]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_fused_path_stays_fused(mode: Any) -> None:
    """Two layers, each one fused operation by its name, and none of their submodules."""
    model = encoder()
    with mode():
        expected = seen_lines(witness(model, lambda: model(X)))
        trace = tracecall.trace(model, X)
    assert modules(trace) == ["", "layers.0", "layers.1"]
    assert seen_lines(recorded(model, trace)) == expected
    for path in ("layers.0", "layers.1"):
        (layer,) = trace.find(path)
        assert [call.name for call in layer.children if call.reads] == ["torch._transformer_encoder_layer_fwd"]
    assert trace.modules["layers.0.self_attn"].state in ("called", "weights-used")
    assert trace.modules["layers.0.linear1"].state == "weights-used"
    assert "torch._transformer_encoder_layer_fwd" in str(trace)


def test_the_command_line_names_the_fused_operation() -> None:
    """`tracecall run transformer`: issue 3, show 2; here through `measure`, which the command calls."""
    from models import transformer

    model = transformer.build_model().eval()
    trace = tracecall.measure(model, (transformer.example_input(),), inference=True, repeat=0)
    assert "torch._transformer_encoder_layer_fwd" in str(trace)
    assert "hooks-change-the-run" not in [finding.kind for finding in trace.findings]


def test_a_users_hook_that_switches_the_fused_path_off_is_a_finding_that_shows_both() -> None:
    """The trace has the calls that happen with the hook; the finding says what would run without."""
    model = encoder()

    def peek(module: nn.Module, args: Any, output: Any) -> None: ...

    handle = model.get_submodule("layers.0.linear1").register_forward_hook(peek)
    with torch.inference_mode():
        expected = seen_lines(witness(model, lambda: model(X)))
    trace = tracecall.measure(model, (X,), inference=True, repeat=0)
    assert seen_lines(recorded(model, trace)) == expected
    assert "layers.0.linear1" in modules(trace)
    assert "layers.1.linear1" not in modules(trace)
    (finding,) = [finding for finding in trace.findings if finding.kind == "hooks-change-the-run"]
    assert finding.path == "layers.0.linear1"
    assert finding.site is not None
    assert finding.site.line == peek.__code__.co_firstlineno
    assert "peek" in finding.message
    assert "linear1" in finding.message.partition("with hooks")[2]
    assert "torch._transformer_encoder_layer_fwd" in finding.message
    assert "8" in finding.message or str(len(modules(trace))) in finding.message
    handle.remove()
    assert "hooks-change-the-run" not in [
        finding.kind for finding in tracecall.measure(model, (X,), inference=True, repeat=0).findings
    ]


def test_a_hook_that_changes_nothing_of_the_run_is_no_finding() -> None:
    """Hooks on an ordinary model change what is computed, not what is called."""
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    model[0].register_forward_hook(lambda m, a, out: out * 2)
    assert tracecall.measure(model, (X,), repeat=0).findings == []


class Counting(nn.Module):
    """Returns something else each time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


def test_a_model_that_keeps_state_is_a_finding() -> None:
    """The untraced run returned other numbers, and the reader is told."""
    trace = tracecall.measure(Counting(), (X,), repeat=0)
    assert [finding.kind for finding in trace.findings] == ["other-output"]


def test_a_model_that_draws_random_numbers_is_no_finding() -> None:
    """Both runs begin with the same random state: dropout is no difference."""
    assert tracecall.measure(nn.Dropout().train(), (torch.ones(1000),), repeat=1).findings == []


def test_a_model_that_returns_nan_is_no_finding() -> None:
    """NaN in the same place is the same output."""
    assert tracecall.measure(nn.Identity(), (torch.tensor([float("nan"), 1.0]),), repeat=0).findings == []


def test_batch_norm_in_train_mode_counts_no_traced_call() -> None:
    """Running statistics are after `trace` and `measure` as before; under `tracing` the run counts, as it would."""
    model = nn.BatchNorm1d(3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(4, 3)
    tracecall.trace(model, x)
    tracecall.measure(model, (x,), repeat=1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with tracecall.tracing(model):
        model(x)
    assert model.num_batches_tracked is not None
    assert int(model.num_batches_tracked) == 1


def test_a_traced_run_is_bit_equal_to_an_untraced_one() -> None:
    """Output, gradients, buffers and random state, in train mode."""
    results = []
    for traced in (False, True):
        torch.manual_seed(0)
        model, x = Noise().train(), torch.randn(4, 8, requires_grad=True)
        if traced:
            with tracecall.tracing(model):
                out = model(x)
                out.sum().backward()
        else:
            out = model(x)
            out.sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results.append([out, x.grad, *gradients, *model.buffers(), torch.get_rng_state()])
    for one, other in zip(*results, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_a_thousand_traced_calls_leave_nothing() -> None:
    """Issue 3, show 5: memory flat, no hook left, outputs bit-equal, random state equal."""
    torch.manual_seed(0)
    model, x = Noise().eval(), torch.randn(4, 8)
    state = torch.get_rng_state()
    expected = model(x)
    torch.set_rng_state(state)
    blocks = []
    for number in range(1000):
        with tracecall.tracing(model) as trace:
            out = model(x)
        assert torch.equal(out, expected)
        torch.set_rng_state(state)
        del trace, out
        if number % 100 == 99:
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    assert blocks[-1] - blocks[1] < 800, blocks  # one block a call would be 800
    for _ in range(3):
        tracecall.trace(model, x)
        assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert [key for key in vars(model.fc) if "hook" in key] == [key for key in vars(nn.Linear(1, 1)) if "hook" in key]


def test_gradients_are_left_as_they_were_found() -> None:
    """`trace` neither makes nor changes a gradient, even of a model that calls backward itself."""

    class Learning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            loss = self.fc(x).sum()
            loss.backward()
            return loss

    model = Learning()
    tracecall.trace(model, X)
    assert model.fc.weight.grad is None
    model(X)
    assert model.fc.weight.grad is not None
    kept, before = model.fc.weight.grad, model.fc.weight.grad.clone()
    tracecall.trace(model, X)
    assert model.fc.weight.grad is kept
    assert torch.equal(kept, before)


def test_a_timing_run_that_made_other_calls_is_a_finding() -> None:
    """A model that takes another branch each time is not averaged over."""

    class Alternating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd, self.even, self.calls = nn.Linear(8, 8), nn.ReLU(), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.odd(x) if self.calls % 2 else self.even(x)

    trace = tracecall.measure(Alternating(), (X,), repeat=4, warmup=0)
    assert "other-calls" in [finding.kind for finding in trace.findings] or only(trace, "odd").samples != 4


def test_views_of_parameters_are_made_once_in_inference_mode() -> None:
    """chunk and split of a parameter, as in nn.MultiheadAttention without a batch: the mode makes no second view."""

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.weight.chunk(3)
            return x @ (q + k.reshape(2, 4) + v.flatten().view(2, 4)).T

    attention, x = nn.MultiheadAttention(4, 2).eval(), torch.ones(5, 4)
    with torch.inference_mode():
        assert tracecall.trace(Packed(), x).error is None
        assert tracecall.trace(attention, x, x, x).error is None


class Mixing(nn.Module):
    """Its einsum multiplies a tensor that autocast has made bfloat16 with one that it has not."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.linear, self.inside = nn.Linear(8, 8), inside

    def multiplied(self, x: torch.Tensor) -> torch.Tensor:
        """An operation that is made of others, of which autocast knows only those."""
        return torch.einsum("bij,bjk->bik", self.linear(x), x.transpose(1, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with autocast, here or around the model, and without."""
        with torch.autocast("cpu", enabled=self.inside or torch.is_autocast_enabled("cpu")):
            low = self.multiplied(x)
        with torch.autocast("cpu", enabled=False):
            return low, self.multiplied(x)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_autocast_reaches_into_an_operation_as_without_a_recording(mode: Any, inside: bool) -> None:
    """Both dtypes come out, to the last bit, whether autocast is on around the model or inside its forward."""
    model, x = Mixing(inside), torch.rand(1, 4, 8)
    with mode(), torch.autocast("cpu", enabled=not inside):
        expected = model(x)
        seen: list[torch.Tensor] = []
        model.register_forward_hook(lambda module, args, output: seen.extend(output))
        tracecall.trace(model, x)
    assert [one.dtype for one in expected] == [torch.bfloat16, torch.float32]
    assert [one.dtype for one in seen] == [torch.bfloat16, torch.float32]
    assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))
