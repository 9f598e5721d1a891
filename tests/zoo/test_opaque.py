"""Parts that Python cannot look into say so, and run as they run when nobody watches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import Function

import tracecall
from tests.zoo.drawing import drawing, drawn, only

X = torch.ones(2, 3)


class Inner(nn.Module):
    """What is compiled or scripted here."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x).relu()


class Outer(nn.Module):
    """A model with an opaque part in its middle."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(3, 3), inner, nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(self.first(x)))


class Backend:
    """Runs graphs eagerly and counts how many it was given: one for each compilation."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward  # type: ignore[no-any-return]


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A counting backend and a compiler that has seen nothing."""
    torch._dynamo.reset()
    yield Backend()
    torch._dynamo.reset()


def compiled(way: str, backend: Backend) -> nn.Module:
    """The same inner module compiled by either way."""
    inner = Inner()
    if way == "torch.compile":
        return torch.compile(inner, backend=backend)  # type: ignore[return-value]
    inner.compile(backend=backend)
    return inner


LAST = "self.last(self.inner(self.first(x)))"
WAYS = pytest.mark.parametrize("way", ["torch.compile", "module.compile"])


@WAYS
def test_a_compiled_submodule_is_one_call_that_says_so(way: str, backend: Backend) -> None:
    """Its inside is not shown; what is around it is, with what feeds what."""
    model = Outer(compiled(way, backend)).eval()
    with torch.no_grad():
        model(X)
        trace = tracecall.trace(model, X)
    name = "OptimizedModule" if way == "torch.compile" else "Inner"
    assert drawn(trace) == drawing(f"""
        Outer [2,3] → [2,3]
          first Linear [2,3] → [2,3] ← input x
          inner {name} [2,3] → [2,3] ← first
          last Linear [2,3] → [2,3] ← inner
    """)
    assert only(trace, "inner").opaque == "compiled by torch.compile"
    sites = [call.site for call in trace.calls[0].children]
    assert [site and site.text for site in sites] == ["self.first(x)", "self.inner(self.first(x))", LAST]
    assert "opaque: compiled by torch.compile" in str(trace)
    assert [finding.kind for finding in trace.findings] == []
    assert {info.state for info in trace.modules.values() if info.path.startswith("inner.")} == {"unseen"}


@WAYS
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler's own, untraced too
@pytest.mark.parametrize("grad", [True, False])
def test_tracing_compiles_nothing_anew(way: str, grad: bool, backend: Backend) -> None:
    """A compiled model is compiled once: not again under a trace, not again after one."""
    model = Outer(compiled(way, backend)).eval()
    with torch.set_grad_enabled(grad):
        expected = model(X)
        assert backend.graphs == 1
        for _ in range(2):
            tracecall.trace(model, X)
            assert torch.equal(model(X), expected)
        tracecall.measure(model, (X,), repeat=1, warmup=0)
        model(X)
    assert backend.graphs == 1


@WAYS
def test_a_first_call_under_a_trace_compiles_what_the_next_untraced_call_uses(way: str, backend: Backend) -> None:
    """What was compiled while a trace ran is valid without one."""
    model = Outer(compiled(way, backend)).eval()
    with torch.no_grad():
        trace = tracecall.trace(model, X)
        graphs = backend.graphs
        model(X)
        model(X)
    assert (graphs, backend.graphs) == (1, 1)
    assert [call.name for call in trace.calls[0].children] == ["first", "inner", "last"]


@WAYS
def test_a_compiled_root_is_one_call(way: str, backend: Backend) -> None:
    """The whole model may be compiled."""
    model = compiled(way, backend).eval()
    with torch.no_grad():
        model(X)
        trace = tracecall.trace(model, X)
    assert len(trace.calls) == 1
    assert [call for _, call in trace.walk()] == trace.calls
    assert trace.calls[0].opaque == "compiled by torch.compile"
    assert trace.prediction[0].tensor.shape == (2, 3)
    assert backend.graphs == 1


@WAYS
def test_a_compiled_module_that_raises_is_a_failed_call(way: str, backend: Backend) -> None:
    """The error is the compiled call's own, and later traces are whole."""
    model = Outer(compiled(way, backend)).eval()
    model.first = nn.Linear(3, 5)
    with torch.no_grad(), pytest.raises(Exception):  # noqa: B017  # the compiler's own kind
        tracecall.trace(model, X)
    trace = tracecall.last_trace()
    assert trace is not None
    assert [call.name for call in trace.calls[0].children] == ["first", "inner"]
    assert only(trace, "inner").error is not None


def test_a_compiled_function_inside_forward_is_not_compiled_anew(backend: Backend) -> None:
    """A decorated helper is compiled once, traced or not."""
    helper = torch.compile(lambda x: x.sin() + 1, backend=backend)

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return helper(x) * 2

    model = Model()
    model(X)
    trace = tracecall.trace(model, X)
    model(X)
    assert backend.graphs == 1
    assert "· helper(…) * 2" in drawn(trace)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_script_module_is_one_call_that_says_so(how: str) -> None:
    """Scripted or traced, as a part or as the root."""
    inner = torch.jit.script(Inner()) if how == "script" else torch.jit.trace(Inner(), X)
    model = Outer(inner)
    trace = tracecall.trace(model, X)
    assert [call.name for call in trace.calls[0].children] == ["first", "inner", "last"]
    assert only(trace, "inner").opaque == "TorchScript"
    assert only(trace, "inner").children == []
    assert only(trace, "last").inputs[0].source == "inner"
    assert [finding.kind for finding in trace.findings] == []
    root = tracecall.trace(inner, X)
    assert [call.opaque for _, call in root.walk()] == ["TorchScript"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_part_of_a_script_module_raises_no_warning() -> None:
    """A trace of TorchScript is as silent as an untraced run."""
    inner = torch.jit.script(Inner())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracecall.trace(Outer(inner), X)


class Cube(Function):
    """An operation with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return 3 * x * x * grad


@pytest.mark.parametrize("grad", [True, False])
def test_a_custom_autograd_function_is_one_operation(grad: bool) -> None:
    """`Cube.apply(x)` is one expression, however much is inside; it says that it is opaque."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Cube.apply(self.fc(x)) + 1  # type: ignore[no-any-return]

    model = Model()
    with torch.set_grad_enabled(grad), tracecall.tracing(model) as trace:
        out = model(X)
        if grad:
            out.sum().backward()
    assert drawn(trace) == drawing("""
        Model [2,3] → [2,3]
          fc Linear [2,3] → [2,3] ← input x
          · Cube.apply [2,3] [2,3] [2,3] → [2,3] ← fc
          · Cube.apply(…) + 1 [2,3] → [2,3] ← Cube.apply
    """)  # three times: what `x * x * x` inside takes from outside
    assert only(trace, "Cube.apply").opaque == "autograd.Function"
    assert "opaque: autograd.Function" in str(trace)


def test_a_module_inside_a_custom_autograd_function_is_still_a_call() -> None:
    """Python code runs there too: a module that it calls is a call."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = fc = nn.Linear(3, 3)

            class Through(Function):
                @staticmethod
                def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
                    return fc(x)

                @staticmethod
                def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
                    return grad

            self.through = Through

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.through.apply(x)  # type: ignore[no-any-return]

    trace = tracecall.trace(Model(), X)
    assert len(trace.find("fc")) == 1
    assert trace.modules["fc"].state == "called"
