"""Random nested models: whatever calls whatever, the recorded tree is the true one, and nothing else changes."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Callable

import torch
from hypothesis import HealthCheck, given, settings
from torch import nn
from torch.nn.modules import module as torch_module

import tracecall
from tests.random_models import NOT_IN_THE_MODEL, PLANS, Boom, Happened, Plan, Truth, World
from tracecall.calls import Trace

EXAMPLES = 1500
LEAST = 500  # what CI promises
MOST_PATHS = 100


def test_the_tree_of_a_random_model_is_the_true_one(record_property: Callable[[str, object], None]):
    """Order, depth, paths, argument names, hooks, errors and who caught them, states; outputs equal, no hook left."""
    tried: list[Plan] = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,  # the same models on every run: a change that breaks one is the cause
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(PLANS)
    def check(plan: Plan) -> None:
        tried.append(plan)
        check_one(plan)

    check()
    assert len(tried) >= LEAST
    record_property("random models", len(tried))


def check_one(plan: Plan) -> None:
    torch.manual_seed(0)
    world = World(plan)
    with warnings.catch_warnings(), world.mode():
        # what a hook raises while another exception is on its way
        warnings.filterwarnings("ignore", message=".*silenced", category=UserWarning)
        output, error = _outcome(world.run)
        truth = world.truth
        hooks = _hooks(world.modules)
        traces = []

        def traced() -> torch.Tensor:
            with tracecall.tracing(world.root) as trace:
                traces.append(trace)
                return world.run()

        traced_output, traced_error = _outcome(traced)
    [trace] = traces

    assert _tree(world.truth) == _tree(truth), "tracing changed what the model does"
    assert _recorded(trace, world) == _tree(truth)
    assert _states(trace) == _true_states(truth, world.root)
    finds = _true_finds(truth, world.root)
    assert {path: len(trace.find(path)) for path in finds} == finds
    assert _hooks(world.modules) == hooks
    assert str(error) == str(traced_error)
    if output is not None and traced_output is not None:
        assert torch.equal(output.nan_to_num(), traced_output.nan_to_num())
        assert output.requires_grad == traced_output.requires_grad


def _outcome(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor | None, Boom | None]:
    try:
        return run(), None
    except Boom as error:
        return None, error


def _tree(truth: Truth) -> list[str]:
    """The truth, one line a call."""
    lines = []
    escaped = truth.top.children[0].error
    waiting: list[tuple[int, Happened]] = [(0, one) for one in reversed(truth.top.children)]
    while waiting:
        depth, one = waiting.pop()
        here = one.error is not None and all(inner.error is not one.error for inner in one.children)
        caught = one.error is not None and one.error is not escaped
        lines.append(_line(depth, one.kind, one.type, one.path, one.inputs, one.error is not None, here, caught))
        waiting.extend((depth + 1, inner) for inner in reversed(one.children))
    return lines


def _recorded(trace: Trace, world: World) -> list[str]:
    """The same of a Trace; its operations are left out."""
    paths = set(world.paths.values())
    lines = []
    for depth, call in trace.walk():
        if call.kind == "operation":
            continue
        path = call.path if call.path in paths else NOT_IN_THE_MODEL
        inputs = tuple(value.where for value in call.inputs) if call.kind == "module" else ()
        error = call.error
        raised, here, caught = error is not None, bool(error and error.raised_here), bool(error and error.caught)
        lines.append(_line(depth, call.kind, call.type, path, inputs, raised, here, caught))
    return lines


def _line(
    depth: int, kind: str, name: str, path: str, inputs: tuple[str, ...], raised: bool, here: bool, caught: bool
) -> str:
    marks = f"{' raised' * raised}{' here' * here}{' caught' * caught}"
    return f"{'  ' * depth}{kind} {name} {path or '(root)'} ({', '.join(inputs)}){marks}"


def _all(truth: Truth) -> list[Happened]:
    found, waiting = [], [*truth.top.children]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(one.children)
    return [one for one in found if one.kind == "module"]


def _true_states(truth: Truth, root: nn.Module) -> dict[str, str]:
    calls = _all(truth)
    states = {}
    for path, module in root.named_modules():
        if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            continue
        errors = [call.error for call in calls if call.path == path]
        if errors:
            states[path] = "called" if None in errors else "raised"
        elif path in truth.bypassed:
            states[path] = "bypassed"
        else:
            states[path] = "weights-used" if path in truth.weights_used else "unused"
    return states


def _states(trace: Trace) -> dict[str, str]:
    in_the_model = {path: info for path, info in trace.modules.items() if "<" not in path and not info.container}
    return {path: info.state for path, info in in_the_model.items()}


def _true_finds(truth: Truth, root: nn.Module) -> dict[str, int]:
    """How often each module was called, under each of its paths: `left.linear` and `right.linear` if left is right."""
    times = Counter(call.path for call in _all(truth))
    # sharing inside shared modules multiplies paths
    named = itertools.islice(root.named_modules(remove_duplicate=False), MOST_PATHS)
    return {path: times[truth.path(module)] for path, module in named}


def _hooks(modules: list[nn.Module]) -> list[dict[int, object]]:
    tables = [torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks]
    for module in modules:
        tables += [module._forward_pre_hooks, module._forward_hooks]
    return [dict(table) for table in tables]


def test_a_boom_that_leaves_the_block_is_caught_by_no_one():
    """`tracing` lets an exception through, and the calls that it passed are not marked as caught."""
    for number in range(2):
        world = World(Plan(_raising_below_the_root(), (), "grad", number))
        try:
            with tracecall.tracing(world.root) as trace:
                world.truth.call(world.root, torch.ones(2, 4))
        except Boom:
            pass
        errors = [call.error for _, call in trace.walk() if call.kind == "module"]
        assert [error is not None and error.caught for error in errors] == [False, False]
        assert trace.error is not None
        assert trace.error.type == "Boom"


def _raising_below_the_root():
    from tests.random_models import Part, Step

    return (Part("own", (("attribute", 1),), (Step("call"),)), Part("own", (), (Step("raise"),)))
