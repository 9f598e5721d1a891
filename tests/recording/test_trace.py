"""`trace`, `tracing` and `measure`: the tree they record, and that they leave everything as they found it."""

from __future__ import annotations

import contextlib
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tracecall
from tests.recording.drawing import drawing, drawn
from tracecall.calls import Call, Trace
from tracecall.loading import load
from tracecall.loading.target import Target

DEMOS = ["linear", "feedforward", "cnn", "rnn", "transformer"]


class Net(nn.Module):
    """Two Linears around a function, a dropout and a batch norm: gradients, random numbers and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.5)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.fc1(x)))
        x = self.drop(x)
        out: Tensor = self.fc2(x)
        return out


class Keep(nn.Module):
    """Passes its arguments to a model and keeps what each call returned, for `trace` returns a Trace."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.kept: list[Any] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.kept.append(self.model(*args, **kwargs))
        return self.kept[-1]


def batch() -> Tensor:
    return torch.randn(5, 8)


def target(name: str, *, train: bool = False) -> Target:
    return load(name, train=train)


def modules(trace: Trace) -> list[str]:
    """The names of the module calls, in order."""
    return [call.name for _, call in trace.walk() if call.kind == "module"]


def one_call(trace: Trace, name: str) -> Call:
    (found,) = [call for _, call in trace.walk() if call.name == name]
    return found


# what is recorded

TREES = {
    "linear": """
        LinearRegressionModel [1,10] → [1,1]
          linear Linear [1,10] → [1,1]
        """,
    "feedforward": """
        FeedforwardNetwork [1,20] → [1,2]
          fc1 Linear [1,20] → [1,50]
          relu ReLU [1,50] → [1,50]
          fc2 Linear [1,50] → [1,2]
        """,
    "cnn": """
        CNN [1,3,28,28] → [1,10]
          conv1 Conv2d [1,3,28,28] → [1,16,28,28]
          · F.relu aten.relu [1,16,28,28] → [1,16,28,28]
          pool MaxPool2d [1,16,28,28] → [1,16,14,14]
          conv2 Conv2d [1,16,14,14] → [1,32,14,14]
          · F.relu aten.relu [1,32,14,14] → [1,32,14,14]
          pool MaxPool2d [1,32,14,14] → [1,32,7,7]
          · x.view aten.view [1,32,7,7] → [1,1568]
          fc1 Linear [1,1568] → [1,120]
          · F.relu aten.relu [1,120] → [1,120]
          fc2 Linear [1,120] → [1,10]
        """,
    "rnn": """
        SequenceClassifier [1,16,8] → [1,4]
          lstm LSTM [1,16,8] → [1,16,32] [1,1,32] [1,1,32]
          · hidden[-1] aten.select [1,1,32] → [1,32]
          fc Linear [1,32] → [1,4]
        """,
    "transformer": """
        TextClassifier [1,16] → [1,2]
          embedding Embedding [1,16] → [1,16,64]
          · positions[:ids.shape[1]] aten.slice [128,64] → [16,64]
          · x + self.positions[…] aten.add [1,16,64] [16,64] → [1,16,64]
          encoder TransformerEncoder [1,16,64] → [1,16,64]
            layers.0 TransformerEncoderLayer [1,16,64] → [1,16,64]
            layers.1 TransformerEncoderLayer [1,16,64] → [1,16,64]
          · x.mean aten.mean [1,16,64] → [1,64]
          fc Linear [1,64] → [1,2]
        """,
}


@pytest.mark.parametrize("name", DEMOS)
def test_the_tree_of_a_demo(name):
    """Every call where it was made: submodules and the operations between them, in order."""
    made = target(name)
    with torch.inference_mode():
        trace = tracecall.trace(made.model, *made.args, **made.kwargs)
    assert drawn(trace) == drawing(TREES[name])


@pytest.mark.parametrize("name", ["linear", "feedforward", "cnn", "rnn"])
def test_the_tree_is_the_same_with_gradients(name):
    """Autograd takes some operations apart; the expressions are the same."""
    made = target(name, train=True)
    assert drawn(tracecall.trace(made.model, *made.args)) == drawing(TREES[name])


def test_the_fused_path_of_a_transformer_is_taken_in_eval_only():
    """Recording changes nothing: in eval no submodule of a layer is called, in train they all are."""
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    x = torch.randn(2, 3, 8)
    with torch.inference_mode():
        assert modules(tracecall.trace(encoder.eval(), x)) == ["TransformerEncoderLayer"]
        assert modules(tracecall.trace(encoder.train(), x))[1:] == (
            ["self_attn", "dropout1", "norm1", "linear1", "dropout", "linear2", "dropout2", "norm2"]
        )


def test_one_module_called_twice_is_two_calls():
    """And one ModuleInfo; the sites tell the calls apart."""
    made = target("cnn")
    trace = tracecall.trace(made.model, *made.args)
    first, second = trace.find("pool")
    assert list(trace.modules) == ["", "conv1", "pool", "conv2", "fc1", "fc2"]
    assert first.site is not None and second.site is not None
    assert first.site.line + 1 == second.site.line
    assert first.site.text == "self.pool(F.relu(self.conv1(x)))"


def test_every_call_has_the_line_and_expression_that_made_it():
    """Three calls on one line have three texts."""
    trace = tracecall.trace(Net(), batch())
    texts = {call.name: call.site.text for call in trace.calls[0].children if call.site}
    assert texts == {
        "fc1": "self.fc1(x)",
        "norm": "self.norm(self.fc1(x))",
        "F.relu": "F.relu(self.norm(self.fc1(x)))",
        "drop": "self.drop(x)",
        "fc2": "self.fc2(x)",
    }


def test_the_failing_call_ends_the_tree():
    """What was recorded until then is kept; the cause is the operation, and its callers say that it passed through."""
    made = target("cnn")
    with pytest.raises(RuntimeError, match="is invalid for input of size 2048"):
        tracecall.trace(made.model, torch.randn(1, 3, 32, 32))
    trace = tracecall.last_trace()
    assert trace is not None
    assert drawn(trace).splitlines()[0] == "CNN [1,3,32,32] → ✗"
    assert drawn(trace).splitlines()[-2:] == [
        "  pool MaxPool2d [1,32,16,16] → [1,32,8,8]",
        "  · x.view aten.view [1,32,8,8] → ✗",
    ]
    assert trace.error is not None and trace.error.site is not None
    assert (trace.error.type, trace.error.site.text) == ("RuntimeError", "x.view(-1, 32 * 7 * 7)")
    assert trace.error.site.file == "models/cnn.py"


def test_a_caught_error_is_no_failure():
    """The call that raised is marked, as caught; the trace has no error."""

    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fast = nn.Linear(3, 4)
            self.slow = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            try:
                return self.fast(x)
            except RuntimeError:
                return self.slow(x)

    trace = tracecall.trace(Careful(), batch())
    assert drawn(trace) == drawing("""
        Careful [5,8] → [5,4]
          fast Linear [5,8] → ✗
          slow Linear [5,8] → [5,4]
        """)
    assert trace.error is None
    (fast,) = trace.find("fast")
    assert fast.error is not None and fast.error.caught
    assert trace.modules["fast"].state == "raised"


def test_hooks_of_the_user_are_calls():
    """In the order in which torch runs them, with what each replaced."""

    def halve(module: nn.Module, args: Any) -> Any:
        return (args[0][:2],)

    def look(module: nn.Module, args: Any, output: Tensor) -> None:
        pass

    net = Net().eval()
    net.fc1.register_forward_pre_hook(halve)
    net.fc1.register_forward_hook(look)
    fc1 = tracecall.trace(net, batch()).find("fc1")[0]
    names = [(one.name.rpartition(".")[2], one.changed) for one in fc1.children if one.kind == "hook"]
    assert names == [("halve", ["args[0] 5,8 → 2,8"]), ("look", None)]
    assert fc1.output[0].value == tracecall.TensorSpec((2, 16), "float32", "cpu", requires_grad=True)


def test_keyword_arguments_have_their_names():
    """Also where they are mixed with positional ones."""

    class Mask(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
            return x if mask is None else x * mask * scale

    trace = tracecall.trace(Mask(), batch(), mask=torch.ones(5, 8), scale=2.0)
    assert [value.where for value in trace.calls[0].inputs] == ["x", "mask", "scale"]
    trace = tracecall.trace(Mask(), mask=None, x=batch())
    assert [value.where for value in trace.calls[0].inputs] == ["mask", "x"]


def test_starred_arguments_are_numbered_and_named():
    """`*parts` and `**options` under the names of the forward."""

    class Star(nn.Module):
        def forward(self, first: Tensor, *parts: Tensor, **options: Any) -> Tensor:
            return first + sum(parts)

    trace = tracecall.trace(Star(), batch(), batch(), batch(), mode="x", bias=torch.ones(1))
    places = [value.where for value in trace.calls[0].inputs]
    assert places == ["first", "parts[0]", "parts[1]", "options.mode", "options.bias"]
    assert trace.calls[0].inputs[3].value == "'x'"


def test_nested_inputs_and_outputs_have_their_way_in():
    """Tuples, lists, dicts and namedtuples; a value that is no tensor is a short repr."""
    Pair = namedtuple("Pair", ["left", "right"])

    class Nested(nn.Module):
        def forward(self, batch: Any) -> Any:
            return {"logits": batch["ids"] * 2, "pair": Pair(batch["parts"][0], None), "n": 3}

    given = {"ids": torch.zeros(2, 3), "parts": [torch.zeros(4), (torch.zeros(()), "text")]}
    call = tracecall.trace(Nested(), given).calls[0]
    assert [value.where for value in call.inputs] == [
        "batch['ids']",
        "batch['parts'][0]",
        "batch['parts'][1][0]",
        "batch['parts'][1][1]",
    ]
    assert [value.where for value in call.output] == ["['logits']", "['pair'].left", "['pair'].right", "['n']"]
    assert [value.value for value in call.output][2:] == ["None", "3"]


def test_the_prediction_has_first_values():
    """Shape and six numbers, those that forward returned."""
    made = target("cnn")
    with torch.inference_mode():
        trace = tracecall.trace(made.model, *made.args)
        expected = made.model(*made.args).flatten()[:6].tolist()
    assert [one.values for one in trace.prediction] == [expected]


@pytest.mark.parametrize("name", DEMOS)
def test_a_trace_is_json_and_back(name):
    """Nothing is lost in a file."""
    made = target(name)
    trace = tracecall.measure(made.model, made.args, made.kwargs, repeat=1)
    assert msgspec.json.decode(msgspec.json.encode(trace), type=Trace) == trace


def test_a_failed_trace_is_json_and_back():
    """With its error."""
    with pytest.raises(RuntimeError):
        tracecall.trace(Net(), torch.randn(5, 7))
    trace = tracecall.last_trace()
    assert trace is not None and trace.error is not None
    assert msgspec.json.decode(msgspec.json.encode(trace), type=Trace) == trace


def test_printing_a_trace_shows_the_tree():
    """print(trace); its repr is one line."""
    trace = tracecall.trace(Net(), batch())
    lines = str(trace).splitlines()
    assert lines[0].startswith("Net ")
    assert any(line.startswith("Net.__call__") for line in lines)
    assert any("─ fc1 " in line for line in lines)
    assert repr(trace) == "<Trace of Net: " + f"{len(list(trace.walk()))} calls>"


def test_last_trace_is_the_last_recording():
    """Of a run that succeeded, and of one that failed."""
    trace = tracecall.trace(Net(), batch())
    assert tracecall.last_trace() is trace
    with pytest.raises(RuntimeError):
        tracecall.trace(Net(), torch.randn(5, 7))
    failed = tracecall.last_trace()
    assert failed is not trace
    assert failed is not None and failed.error is not None


def test_what_is_no_module_is_refused():
    """A class instead of an instance is the common slip: the message says so."""
    with pytest.raises(tracecall.TracecallError, match="did you mean to make an instance first"):
        tracecall.trace(Net, batch())
    with pytest.raises(tracecall.TracecallError, match=r"tracecall needs an nn\.Module, got 3 "):
        tracecall.measure(3)


# the reader's own code


def test_tracing_records_every_root_call():
    """Each call of the model is a root of its own, in order."""
    net = Net()
    with tracecall.tracing(net) as trace:
        net(torch.randn(2, 8))
        net(torch.randn(3, 8))
    assert [
        call.inputs[0].value.shape[0] for call in trace.calls if isinstance(call.inputs[0].value, tracecall.TensorSpec)
    ] == [2, 3]
    assert [call.name for call in trace.calls] == ["Net", "Net"]


def test_tracing_records_a_submodule_called_without_the_root():
    """By its path."""
    net = Net()
    with tracecall.tracing(net) as trace:
        net.fc1(batch())
        net.fc2(torch.randn(5, 16))
    assert drawn(trace) == "fc1 Linear [5,8] → [5,16]\nfc2 Linear [5,16] → [5,4]"


def test_tracing_ignores_other_models():
    """Only calls under the root are recorded."""
    net, other = Net(), nn.Linear(4, 4)
    with tracecall.tracing(net) as trace:
        other(net(batch()))
    assert [call.name for call in trace.calls] == ["Net"]


def test_tracing_leaves_a_training_step_as_it_is():
    """Loss, backward and optimizer step run as without, and the Trace is filled when the block ends."""

    def step(net: nn.Module) -> list[Tensor]:
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        loss = net(batch()).square().mean()
        loss.backward()
        optimizer.step()
        return [
            loss.detach(),
            *(one.detach().clone() for one in net.parameters()),
            *net.buffers(),
            torch.get_rng_state(),
        ]

    torch.manual_seed(0)
    plain, traced = Net(), Net()
    traced.load_state_dict(plain.state_dict())
    expected = step(plain)
    with tracecall.tracing(traced) as trace:
        assert trace.calls == []
        got = step(traced)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert modules(trace) == ["Net", "fc1", "norm", "drop", "fc2"]


def test_tracing_passes_an_exception_on_and_keeps_what_was_recorded():
    """The same object, and the trace until then."""
    net = Net()
    error = ValueError("the reader's own")
    with pytest.raises(ValueError) as caught, tracecall.tracing(net) as trace:
        net(batch())
        raise error
    assert caught.value is error
    assert modules(trace) == ["Net", "fc1", "norm", "drop", "fc2"]


def test_an_error_that_the_reader_caught_is_no_failure_of_the_trace():
    """As inside a forward."""
    net = Net()
    with tracecall.tracing(net) as trace:
        with pytest.raises(RuntimeError):
            net(torch.randn(5, 7))
        net(batch())
    assert trace.error is None
    assert [call.error is not None for call in trace.calls] == [True, False]
    assert trace.calls[0].error is not None and trace.calls[0].error.caught


def test_a_recording_inside_a_recording():
    """Each sees its own model's calls, whichever ends first."""
    net = Net().eval()
    with tracecall.tracing(net) as outer:
        inner = tracecall.trace(net.fc1, batch())
        net(batch())
    assert modules(inner) == ["Linear"]
    assert modules(outer) == ["fc1", "Net", "fc1", "norm", "drop", "fc2"]


# nothing is changed


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", DEMOS)
def test_outputs_are_bit_identical(name, train):
    """To those of a run that nothing watches: with trace, with tracing, and with measure."""
    made = target(name, train=train)
    kept = Keep(made.model)
    torch.manual_seed(0)
    expected = made.model(*made.args)

    torch.manual_seed(0)
    tracecall.trace(kept, *made.args)
    with tracecall.tracing(made.model):
        kept(*made.args)
    torch.manual_seed(0)
    tracecall.measure(kept, made.args, repeat=2)
    assert len(kept.kept) > 5
    assert all(torch.equal(one, expected) for one in kept.kept)


RUNS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "trace": tracecall.trace,
    "measure": lambda model, x: tracecall.measure(model, (x,), repeat=2),
    "measure in inference mode": lambda model, x: tracecall.measure(model, (x,), repeat=2, inference=True),
}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Callable[[nn.Module, Tensor], object]:
    """Each way to run a model that must leave no trace of itself."""
    return RUNS[request.param]


def test_train_and_eval_are_as_before(run):
    """Of each module, also where they are mixed."""
    net = Net().train()
    net.norm.eval()
    run(net, batch())
    assert [module.training for module in net.modules()] == [True, True, False, True, True]


def test_random_state_is_as_before(run):
    """Dropout drew from it in between."""
    net = Net().train()
    x = batch()
    before = torch.get_rng_state()
    run(net, x)
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_are_as_before(run):
    """None stays None, and a gradient stays the same object with the same numbers."""
    net = Net()
    net.fc1.weight.grad = torch.full((16, 8), 3.0)
    kept = net.fc1.weight.grad
    run(net, batch())
    assert net.fc1.weight.grad is kept
    assert torch.equal(kept, torch.full((16, 8), 3.0))
    assert net.fc2.weight.grad is None


def test_the_buffers_of_batch_norm_are_as_before_in_train_mode(run):
    """The same tensors with the same numbers; the run updated them in between."""
    net = Net().train()
    buffers = dict(net.named_buffers())
    before = {name: one.clone() for name, one in buffers.items()}
    run(net, batch())
    assert all(one is buffers[name] for name, one in net.named_buffers())
    assert all(torch.equal(one, before[name]) for name, one in net.named_buffers())


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("in_place", [False, True], ids=["replaced", "in place"])
def test_a_models_own_buffer_is_as_before(run, train, in_place):
    """A counter or a cache that forward writes, in eval mode too."""

    class Counter(nn.Module):
        steps: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            if in_place:
                self.steps += 1
            else:
                self.steps = self.steps + 1
            return x * 2

    model = Counter().train(train)
    before = model.steps
    run(model, batch())
    assert model.steps is before
    assert model.steps.item() == 0


def test_gradients_that_a_forward_adds_to_are_as_before():
    """A forward that calls backward itself (a gradient penalty, say) adds to gradients in place."""

    class Penalty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            loss: Tensor = self.fc(x).sum()
            loss.backward()
            return loss.detach()

    model = Penalty()
    model.fc.weight.grad = torch.zeros(1, 8)
    tracecall.trace(model, batch())
    assert torch.equal(model.fc.weight.grad, torch.zeros(1, 8))
    assert model.fc.bias.grad is None


def test_parameters_are_as_before(run):
    """The very tensors, with their numbers and their version."""
    net = Net().train()
    before = [(one, one.detach().clone(), one._version) for one in net.parameters()]
    run(net, batch())
    assert all(
        now is one and torch.equal(now, numbers) and now._version == version
        for now, (one, numbers, version) in zip(net.parameters(), before, strict=True)
    )


def test_a_failed_run_puts_everything_back_too():
    """Train mode, buffers and random state, after an exception half-way."""

    class Fails(Net):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            self.eval()
            raise ValueError("half-way")

    net = Fails().train()
    before = [one.clone() for one in net.buffers()]
    state = torch.get_rng_state()
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="half-way"):
        tracecall.trace(net, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, two) for one, two in zip(net.buffers(), before, strict=True))
    assert all(module.training for module in net.modules())


def test_the_grad_mode_of_the_caller_is_kept():
    """And recorded."""
    net = Net()
    with torch.no_grad():
        assert tracecall.trace(net, batch()).settings.grad_mode == "no_grad"
    assert tracecall.measure(net, (batch(),), repeat=0, inference=True).settings.grad_mode == "inference"
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert tracecall.trace(net, batch()).settings.grad_mode == "grad"


# nothing is kept alive


@pytest.fixture
def intermediates() -> Iterator[tuple[nn.Module, list[weakref.ref[Tensor]]]]:
    """A model and weak references to each tensor that its forward makes."""
    seen: list[weakref.ref[Tensor]] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: Tensor, **more: Any) -> dict[str, Tensor]:
            a = self.fc(x)
            b = F.relu(a)
            c = b.view(-1)
            seen.extend(weakref.ref(one) for one in (a, b, c))
            if "fail" in more:
                raise ValueError("no")
            return {"out": c + 1}

    yield Watch(), seen


def test_a_trace_keeps_no_tensor_alive(intermediates):
    """Input, output and everything between die with the caller's own references, while the Trace lives: by reference
    counts alone, without gc."""
    model, seen = intermediates
    x = torch.randn(4, 8)
    seen.append(weakref.ref(x))
    with tracecall.tracing(model) as trace:
        output = model(x)["out"]
    seen.append(weakref.ref(output))
    del x, output
    assert [one() for one in seen] == [None] * 5
    assert modules(trace) == ["Watch", "fc"]


def test_trace_and_measure_keep_no_tensor_alive(intermediates):
    """Each run's tensors are gone when it returns."""
    model, seen = intermediates
    x = torch.randn(4, 8)
    seen.append(weakref.ref(x))
    traces = [tracecall.trace(model, x), tracecall.measure(model, (x,), repeat=2)]
    del x
    assert {one() for one in seen} == {None}
    assert len(traces) == 2


def test_a_failed_run_keeps_no_tensor_alive(intermediates):
    """An exception holds its frames, and frames hold tensors: a Trace holds the exception's text only."""
    model, seen = intermediates
    x = torch.randn(4, 8)
    seen.append(weakref.ref(x))
    with contextlib.suppress(ValueError):
        tracecall.trace(model, x, fail=True)
    del x
    assert [one() for one in seen] == [None] * 4
    trace = tracecall.last_trace()
    assert trace is not None and trace.error is not None


def test_a_failed_block_keeps_no_tensor_alive(intermediates):
    """The same for the reader's own code."""
    model, seen = intermediates
    x = torch.randn(4, 8)
    seen.append(weakref.ref(x))
    with contextlib.suppress(ValueError), tracecall.tracing(model) as trace:
        model(x, fail=True)
    del x
    assert [one() for one in seen] == [None] * 4
    assert trace.error is not None


def test_a_failed_measurement_keeps_no_tensor_alive(intermediates):
    """`measure` swallows the exception: nothing else may hold it."""
    model, seen = intermediates
    x = torch.randn(4, 8)
    seen.append(weakref.ref(x))
    trace = tracecall.measure(model, (x,), {"fail": True})
    del x
    assert [one() for one in seen] == [None] * 4
    assert trace.error is not None


def test_a_trace_keeps_no_model_alive():
    """A notebook may throw a model away and keep its Trace."""
    net = Net()
    gone = weakref.ref(net.fc1.weight)
    trace = tracecall.trace(net, batch())
    del net
    # a module and its hooks' closures are a cycle of torch's own, but nothing here has hooks
    assert gone() is None
    assert trace.model.name == "Net"
