"""FLOPs of module calls: numbers worked out by hand, 2 for each multiply-add."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils import flop_counter

import tracecall
from tracecall.calls import Call, Trace


def flops(model: nn.Module, *args: torch.Tensor, inference: bool = True) -> dict[str, list[int | None]]:
    """The FLOPs of each module's calls."""
    trace = tracecall.measure(model.eval(), args, inference=inference, repeat=1, warmup=0)
    return by_path(trace)


def by_path(trace: Trace) -> dict[str, list[int | None]]:
    found: dict[str, list[int | None]] = {}
    for _, call in trace.walk():
        if call.kind == "module":
            found.setdefault(call.path, []).append(call.flops)
    return found


@pytest.mark.parametrize("inference", [True, False])
def test_a_linear_module(inference):
    """Each of 3 × 4 outputs sums 8 products; the bias is added by the same operation and is not counted."""
    assert flops(nn.Linear(8, 4), torch.zeros(3, 8), inference=inference) == {"": [2 * 3 * 4 * 8]}


@pytest.mark.parametrize("inference", [True, False])
def test_a_convolution(inference):
    """Each of 16 × 28 × 28 outputs sums 3 × 3 × 3 products."""
    conv = nn.Conv2d(3, 16, 3, padding=1)
    assert flops(conv, torch.zeros(2, 3, 28, 28), inference=inference) == {"": [2 * 2 * 16 * 28 * 28 * 27]}


class Shared(nn.Module):
    """One module called twice, with other shapes; and a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.fc(x))  # (4, 8)
        return self.fc(y[:1]) @ y.T  # (1, 4)


def test_each_call_of_a_shared_module_has_its_own():
    """And the root has everything inside it with its own product; what only adds or compares has none."""
    first, second, own = 2 * 4 * 8 * 8, 2 * 1 * 8 * 8, 2 * 1 * 8 * 4
    found = flops(Shared(), torch.zeros(4, 8))
    assert found == {"": [first + second + own], "fc": [first, second], "act": [0]}


@pytest.mark.parametrize("inference", [True, False])
def test_the_fused_path_of_a_transformer_counts_as_its_parts_do(inference):
    """In one operation or in many: projections, scores, weighted sums, the projection out, two linear modules."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    expected = 2 * 5 * 8 * 24 + 2 * (2 * 5 * 5 * 8) + 2 * 5 * 8 * 8 + 2 * (2 * 5 * 8 * 16)
    assert flops(layer, torch.zeros(1, 5, 8), inference=inference)[""] == [expected]


@pytest.mark.parametrize("inference", [True, False])
def test_a_recurrent_module_that_runs_as_one_operation_is_not_known(inference):
    """torch has no formula for it, and this project none of its own."""
    assert flops(nn.LSTM(4, 3), torch.zeros(2, 1, 4), inference=inference) == {"": [None]}


class Vector(nn.Module):
    """A matrix times a vector, for which torch has no formula, beside a linear module."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.product = nn.Linear(8, 8), Product()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(self.fc(x))


class Product(nn.Module):
    """The matrix times the vector."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mv(x, torch.ones(8))


def test_what_has_no_formula_is_not_called_zero():
    """The call that did it and those around it have no number; the others do."""
    assert flops(Vector(), torch.zeros(2, 8)) == {"": [None], "fc": [2 * 2 * 8 * 8], "product": [None]}


def test_compiled_code_is_not_looked_into():
    """Nor are the calls around it given the number of what was left."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1]._compiled_call_impl = model[1].forward
    assert flops(model, torch.zeros(2, 8)) == {"": [None], "0": [256], "1": [None]}


def test_a_run_that_cannot_be_counted_is_only_not_counted(monkeypatch):
    """Times and the rest are there."""

    def broken(*args: object, **kwargs: object) -> int:
        raise ValueError("no such shape")

    monkeypatch.setitem(flop_counter.flop_registry, torch.ops.aten.addmm, broken)
    trace = tracecall.measure(nn.Linear(8, 4), (torch.zeros(3, 8),), repeat=1)
    assert by_path(trace) == {"": [None]}
    assert trace.error is None and trace.timing is not None and trace.calls[0].host_ns is not None
    assert torch._C._len_torch_dispatch_stack() == 0


class Restless(nn.Module):
    """Takes another branch in every run."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return self.a(x) if self.runs == 1 else self.b(x)


def test_a_counting_run_that_made_other_calls_counts_nothing():
    """As with times."""
    assert flops(Restless(), torch.zeros(2, 8)) == {"": [None], "a": [None]}


def test_without_timing_runs_nothing_is_counted():
    """`repeat=0` runs nothing more."""
    trace = tracecall.measure(nn.Linear(8, 4), (torch.zeros(3, 8),), repeat=0)
    assert by_path(trace) == {"": [None]}


def test_the_compiler_is_not_imported(tmp_path):
    """torch's own FlopCounterMode imports it, which takes as long as importing torch."""
    import subprocess
    import sys

    code = """
import sys, torch, tracecall
tracecall.measure(torch.nn.Linear(2, 2), (torch.zeros(1, 2),), repeat=1)
assert "torch.utils.flop_counter" in sys.modules
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


# output bytes


def all_bytes(call: Call) -> list[tuple[str, int | None]]:
    return [(call.name, call.output_bytes), *(inner for child in call.children for inner in all_bytes(child))]


def test_output_bytes_are_elements_times_the_size_of_one():
    """Of module calls and of operations."""
    trace = tracecall.trace(Shared().double(), torch.zeros(4, 8, dtype=torch.float64))
    found = dict(all_bytes(trace.calls[0]))
    assert (found["Shared"], found["act"]) == (1 * 4 * 8, 4 * 8 * 8)
    assert found["y[:1]"] == 8 * 8


class Odd(nn.Module):
    """Gives back what `make` makes."""

    def __init__(self, make: object) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> object:
        return self.make(x)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: (x, {"half": x.half()}), 4 * 6 + 2 * 6),
        (lambda x: (x, "text", None), 4 * 6),
        (lambda x: None, 0),
        (lambda x: x[:0], 0),
        (lambda x: x > 0, 6),
        (lambda x: x.to_sparse(), None),  # what it holds, not its shape, says how many bytes
    ],
)
def test_output_bytes_of_several_none_and_odd_tensors(make, expected):
    """All of them together; None where it cannot be told from the shape."""
    assert tracecall.trace(Odd(make), torch.ones(2, 3)).calls[0].output_bytes == expected
