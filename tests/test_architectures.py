"""Real architectures: the tree of a traced run equals what torch.profiler saw of a run without hooks, call for call."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.modules import module as torch_module
from torch.utils import _pytree as pytree

import tracecall
from tests.architectures import ARCHITECTURES, NOT_REPEATABLE, Architecture, build
from tests.witness import Seen, drawn, recorded, witness

numpy = pytest.importorskip("numpy", reason="the extra `architectures` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `architectures` is not installed")

FEWEST = 40
IN_TRAINING = [one for one in ARCHITECTURES[::3] if one.model not in NOT_REPEATABLE]
RUNS = [
    *(pytest.param(one, False, id=f"{one.model}-inference") for one in ARCHITECTURES),
    *(pytest.param(one, True, id=f"{one.model}-training") for one in IN_TRAINING),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny tensors: a pool of threads costs more than it saves, and the order of sums stays the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    yield
    torch.set_num_threads(threads)


def test_at_least_forty_architectures_are_there_to_be_compared():
    assert sum(hasattr(transformers, architecture.model) for architecture in ARCHITECTURES) >= FEWEST
    assert len({architecture.model for architecture in ARCHITECTURES}) == len(ARCHITECTURES)


@pytest.mark.parametrize(("architecture", "training"), RUNS)
def test_the_tree_equals_the_profilers_record(
    architecture: Architecture, training: bool, record_property: Callable[[str, object], None]
):
    """Same calls, order, depth, classes and modules; the same bits come out; nothing is left attached."""
    record_property("architecture", architecture.model)
    if not hasattr(transformers, architecture.model):
        pytest.skip(f"transformers {transformers.__version__} has no {architecture.model}")
    seed(0)
    model = build(architecture).train(training)
    inputs = architecture.inputs()

    def run() -> Any:
        seed(1)
        return model(**inputs)

    with torch.inference_mode(not training):
        expected = run()
        hooks = hooks_on(model)
        seen = witness(model, run)
        with tracecall.tracing(model) as trace:
            output = run()

    assert drawn(recorded(model, trace)) == drawn(seen)
    assert differences(output, expected) == []
    agrees_with_its_own_modules(model, trace, seen)
    assert hooks_on(model) == hooks


def seed(number: int) -> None:
    """Every source of chance that a model may use: SpecAugment's masks come from numpy, LayerDrop's from either."""
    torch.manual_seed(number)
    numpy.random.seed(number)
    random.seed(number)


def hooks_on(model: torch.nn.Module) -> list[dict[int, Any]]:
    """The global hooks, and those on modules: some architectures bring their own."""
    tables = [torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks]
    for module in model.modules():
        tables += [module._forward_pre_hooks, module._forward_hooks]
    return [dict(table) for table in tables]


def agrees_with_its_own_modules(model: torch.nn.Module, trace: tracecall.Trace, seen: list[list[Seen]]) -> None:
    """`find` returns every call of each module, states say which ones ran, and parameters are counted once."""
    times = Counter(call.path for calls in seen for call in calls)
    paths = [path for path, _ in model.named_modules()]
    assert {path: len(trace.find(path)) for path in paths} == {path: times[path] for path in paths}
    called = {path for path, info in trace.modules.items() if info.state == "called" and not info.container}
    assert called & set(paths) == times.keys() & set(paths)
    assert trace.model.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert trace.model.training == model.training
    assert trace.error is None


def differences(output: object, expected: object) -> list[str]:
    """Every tensor of an output that is not, bit for bit, the expected one: NaN equals NaN, and 0.0 is not -0.0."""
    pairs = list(zip(tensors(output), tensors(expected), strict=True))
    assert pairs
    return [
        f"tensor {i}, {tuple(one.shape)}: off by at most {(one.double() - other.double()).abs().max().item():.2g}"
        for i, (one, other) in enumerate(pairs)
        if (one.dtype, one.shape) != (other.dtype, other.shape) or one.numpy().tobytes() != other.numpy().tobytes()
    ]


def tensors(output: object) -> list[torch.Tensor]:
    return [leaf.detach().contiguous() for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]
