"""Modules in every arrangement: shared, repeated, recursive, built on the fly, in threads, traces inside traces."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

import tracecall
from tests.witness import drawn as seen_lines
from tests.witness import recorded, witness
from tests.zoo.drawing import drawing, drawn, names, only
from tracecall.calls import Trace

X = torch.ones(2, 3)


class Pair(nn.Module):
    """Two linear layers, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


PAIR = drawing("""
    Pair [2,3] → [2,3]
      first Linear [2,3] → [2,3] ← input x
      second Linear [2,3] → [2,3] ← first
""")


def agrees_with_the_profiler(model: nn.Module, run: Callable[[], object]) -> Trace:
    """Trace `run` and hold its module calls against what torch.profiler sees of the same run, untraced."""
    expected = seen_lines(witness(model, run))
    with tracecall.tracing(model) as trace:
        run()
    assert seen_lines(recorded(model, trace)) == expected
    return trace


# the same module twice


def test_a_module_under_two_paths_is_one_module_with_an_alias() -> None:
    """Listed once, its parameters counted once, each call named as its caller wrote it, found by either path."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = self.a

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    trace = agrees_with_the_profiler(model := Shared(), lambda: model(X))
    assert drawn(trace) == drawing("""
        Shared [2,3] → [2,3]
          a Linear [2,3] → [2,3] ← input x
          b Linear [2,3] → [2,3] ← a
    """)
    assert list(trace.modules) == ["", "a"]
    assert trace.modules["a"].aliases == ["b"]
    assert trace.model.parameters == trace.modules["a"].parameters == 12
    assert trace.find("a") == trace.find("b") == trace.calls[0].children
    assert trace.find("c") == []


def test_a_shared_block_inside_two_blocks_has_the_paths_of_both() -> None:
    """An alias may have another parent; its name is the one in the parent that called it."""

    class Holder(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    inner = nn.Linear(3, 3)
    trace = tracecall.trace(nn.Sequential(Holder(inner), Holder(inner)), X)
    assert trace.modules["0.inner"].aliases == ["1.inner"]
    assert names(trace, "module") == ["Sequential", "0", "inner", "1", "inner"]


def test_tied_parameters_are_counted_once() -> None:
    """Two modules, one weight."""
    model = Pair()
    model.second.weight = model.first.weight
    trace = tracecall.trace(model, X)
    assert trace.model.parameters == sum(p.numel() for p in model.parameters()) == 15
    assert (trace.modules["first"].parameters, trace.modules["second"].parameters) == (12, 3)


def test_a_module_called_many_times_is_many_calls() -> None:
    """Each call feeds the next, numbered from the second place of its name on."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                x = self.cell(x)
            return x

    trace = tracecall.trace(Loop(), X)
    assert drawn(trace) == drawing("""
        Loop [2,3] → [2,3]
          cell Linear [2,3] → [2,3] ← input x
          cell Linear [2,3] → [2,3] ← cell #1
          cell Linear [2,3] → [2,3] ← cell #2
    """)
    assert len(trace.find("cell")) == 3


def test_a_module_that_holds_itself_is_walked_once() -> None:
    """A cycle in the model's own structure ends."""
    model = Pair()
    model.first.add_module("up", model)
    trace = tracecall.trace(model, X)
    assert trace.modules[""].aliases == ["first.up"]
    assert drawn(trace) == PAIR


# recursion


class Recursive(nn.Module):
    """Calls itself `left` times."""

    def forward(self, x: torch.Tensor, left: int) -> torch.Tensor:
        return self(x, left - 1) if left else x + 1


def fits(model: nn.Module, left: int) -> bool:
    """Whether that many calls inside each other fit on Python's stack."""
    try:
        model(X, left)
    except RecursionError:
        return False
    return True


def test_a_recursive_module_is_a_call_inside_a_call() -> None:
    """Module calls nest as deep as they happen."""
    trace = agrees_with_the_profiler(model := Recursive(), lambda: model(X, 2))
    assert drawn(trace, operations=False) == drawing("""
        Recursive [2,3] → [2,3]
          self Recursive [2,3] → [2,3] ← input x
            self Recursive [2,3] → [2,3] ← input x
    """)


def test_a_model_that_just_fits_on_the_stack_fits_traced() -> None:
    """The deepest recursion that runs untraced runs traced, as a tree of that depth that can be printed and saved."""
    model = Recursive()
    left, too_many = 1, sys.getrecursionlimit()
    while too_many - left > 1:
        middle = (left + too_many) // 2
        left, too_many = (middle, too_many) if fits(model, middle) else (left, middle)
    with tracecall.tracing(model) as trace:
        assert fits(model, left)
    assert trace.error is None
    assert max(depth for depth, call in trace.walk() if call.kind == "module") == left
    assert len(str(trace).splitlines()) > left
    assert msgspec.json.decode(msgspec.json.encode(trace), type=Trace) == trace


def test_a_model_that_overflows_the_stack_overflows_traced() -> None:
    """The error is the model's own, the tree shows how deep it was, and the limit is as before."""
    model, limit = Recursive(), sys.getrecursionlimit()
    with pytest.raises(RecursionError), tracecall.tracing(model) as trace:
        model(X, 10**9)
    assert sys.getrecursionlimit() == limit
    assert trace.error is not None
    assert trace.error.type == "RecursionError"
    assert "RecursionError" in str(trace)


def test_a_model_that_catches_its_own_overflow_goes_on() -> None:
    """A RecursionError that the model expects is caught by the model, and the tree goes on after it."""

    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep, self.last = Recursive(), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                x = self.deep(x, 10**9)
            except RecursionError:
                x = x * 2
            return self.last(x)

    trace = tracecall.trace(Careful(), X)
    assert [call.name for call in trace.calls[0].children] == ["deep", "x * 2", "last"]
    assert trace.error is None
    assert trace.modules["deep"].state == "raised"


# where modules come from


def test_a_module_built_inside_forward_has_a_path_of_its_own() -> None:
    """`<Linear>` inside its maker; it is no part of the model, and no parameter of it is counted."""

    class Builder(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            layer = nn.Linear(3, 4)
            return nn.Sequential(nn.Linear(4, 2))(layer(x))

    trace = agrees_with_the_profiler(model := Builder(), lambda: model(X))
    assert drawn(trace, operations=False) == drawing("""
        Builder [2,3] → [2,2]
          <Linear> Linear [2,3] → [2,4] ← input x
          <Sequential> Sequential [2,4] → [2,2] ← <Linear>
            <Linear> Linear [2,4] → [2,2] ← input input
    """)
    assert all(info.built_inside for path, info in trace.modules.items() if path)
    assert trace.model.parameters == 0


def test_a_module_built_inside_forward_dies_as_early_as_untraced() -> None:
    """Its weights are not kept until the run ends: a loop that builds modules needs no more memory."""
    alive: list[bool] = []

    class Builder(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(2):
                layer = nn.Linear(3, 3)
                weight = weakref.ref(layer.weight)
                x = layer(x)
                del layer
                gc.collect()
                alive.append(weight() is not None)
            return x

    with torch.no_grad():
        tracecall.trace(Builder(), X)
    assert alive == [False, False]


def test_containers_are_a_part_of_paths_and_never_calls() -> None:
    """ModuleList and ModuleDict hold modules; nothing calls them."""

    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3), nn.ReLU()])
            self.heads = nn.ModuleDict({"mean": nn.Linear(3, 1), "other": nn.ModuleList([nn.Linear(3, 1)])})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)
            return self.heads["mean"](x)

    trace = agrees_with_the_profiler(model := Held(), lambda: model(X))
    assert drawn(trace) == drawing("""
        Held [2,3] → [2,1]
          layers.0 Linear [2,3] → [2,3] ← input x
          layers.1 ReLU [2,3] → [2,3] ← layers.0
          heads.mean Linear [2,3] → [2,1] ← layers.1
    """)
    assert trace.modules["layers"].container
    assert {path: trace.modules[path].state for path in ("layers", "heads", "heads.other")} == {
        "layers": "called",
        "heads": "called",
        "heads.other": "unused",
    }


def test_only_the_branch_that_ran_is_in_the_tree() -> None:
    """The other branch's module is unused in this run."""

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positive, self.negative = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.positive(x) if x.sum() > 0 else self.negative(x)

    model = Branch()
    for x, ran, other in ((X, "positive", "negative"), (-X, "negative", "positive")):
        trace = tracecall.trace(model, x)
        assert [call.name for call in trace.calls[0].children if call.kind == "module"] == [ran]
        assert (trace.modules[ran].state, trace.modules[other].state) == ("called", "unused")


def test_a_generator_forward_is_recorded_as_it_is_consumed() -> None:
    """Its submodules run after forward returned the generator, inside `tracing`."""

    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
            for _ in range(2):
                x = self.cell(x)
                yield x

    model = Stream()
    with tracecall.tracing(model) as trace:
        outputs = list(model(X))
    assert [tuple(out.shape) for out in outputs] == [(2, 3), (2, 3)]
    assert len(trace.find("cell")) == 2
    assert trace.modules["cell"].state == "called"
    assert trace.error is None
    assert trace.find("cell")[1].inputs[0].source in ("cell", "cell #1")


def test_data_parallel_on_the_cpu_calls_its_module() -> None:
    """Without devices nn.DataParallel is a call around the module's."""
    trace = agrees_with_the_profiler(model := nn.DataParallel(Pair()), lambda: model(X))
    assert drawn(trace, operations=False, sources=False).splitlines() == [
        "DataParallel [2,3] → [2,3]",
        "  module Pair [2,3] → [2,3]",
        "    first Linear [2,3] → [2,3]",
        "    second Linear [2,3] → [2,3]",
    ]


def test_a_generator_that_was_consumed_is_whole() -> None:
    """Its operations are recorded as its calls are, and nobody is told to consume it inside `tracing`."""

    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
            yield self.cell(x) * 2

    model = Stream()
    with tracecall.tracing(model) as trace:
        list(model(X))
    assert "cell(…) * 2" in names(trace)
    assert [finding.kind for finding in trace.findings] == []


# threads


class Threaded(nn.Module):
    """Runs its two branches in two threads that both are inside their branch at one time."""

    def __init__(self, pool: bool) -> None:
        super().__init__()
        self.pool, self.meeting = pool, threading.Barrier(2, timeout=10)
        self.left, self.right, self.last = Branch(self.meeting), Branch(self.meeting), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool:
            with ThreadPoolExecutor(2, thread_name_prefix="branch") as pool:
                a, b = pool.map(lambda branch: branch(x), (self.left, self.right))
        else:
            found: dict[str, torch.Tensor] = {}
            threads = [
                threading.Thread(target=lambda n=n, m=m: found.update({n: m(x)}), name=n)  # type: ignore[misc]
                for n, m in (("left", self.left), ("right", self.right))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            a, b = found["left"], found["right"]
        return self.last(a + b)


class Branch(nn.Module):
    """A linear layer between two meetings."""

    def __init__(self, meeting: threading.Barrier) -> None:
        super().__init__()
        self.meeting, self.inner = meeting, Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.meeting.wait()
        x = self.inner(x) * 2
        self.meeting.wait()
        return x


@pytest.mark.parametrize("pool", [True, False], ids=["ThreadPoolExecutor", "Thread"])
def test_a_thread_of_the_model_has_its_own_stack(pool: bool) -> None:
    """Calls of two threads at once do not mix: each branch is whole, under forward, and says its thread."""
    model = Threaded(pool)
    trace = tracecall.trace(model, X)
    (root,) = trace.calls
    branches = [call for call in root.children if call.name in ("left", "right")]
    assert len(branches) == 2
    assert len({call.thread for call in branches}) == 2
    assert None not in {call.thread for call in branches}
    for branch in branches:
        assert [call.name for call in branch.children] == ["inner", "self.inner(…) * 2".removeprefix("self.")]
        assert [call.name for call in branch.children[0].children if call.kind == "module"] == ["first", "second"]
        assert all(call.thread is None for call in branch.children)
    assert [call.name for call in root.children if call not in branches] == ["a + b", "last"]
    sum_of = next(call for call in root.children if call.name == "a + b")
    assert sorted(value.source or "" for value in sum_of.inputs if value.source) == ["left", "right"]
    if not pool:
        assert {call.name: call.thread for call in branches} == {"left": "left", "right": "right"}


def test_a_thread_that_is_not_the_models_leaves_nothing() -> None:
    """Another model that runs in another thread meanwhile is no part of the tree."""
    model, other = Pair(), Pair()
    ready, done = threading.Event(), threading.Event()

    def busy() -> None:
        while not done.is_set():
            other(X)
            ready.set()

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        ready.wait(10)
        traces = [tracecall.trace(model, X) for _ in range(5)]
    finally:
        done.set()
        thread.join()
    assert {drawn(trace) for trace in traces} == {PAIR}


def at_once(runs: list[Callable[[], Trace]]) -> list[Trace]:
    """Run each in a thread of its own."""
    with ThreadPoolExecutor(len(runs)) as pool:
        return [future.result(30) for future in [pool.submit(run) for run in runs]]


@pytest.mark.parametrize("same", [False, True], ids=["two models", "one model"])
def test_two_traces_at_once_know_nothing_of_each_other(same: bool) -> None:
    """Each has its own calls only, and when both are over nothing of either is left."""
    meeting = threading.Barrier(2, timeout=20)
    first = Branch(meeting)
    models = [first, first if same else Branch(meeting)]
    ran: list[int] = []

    def spy(*args: object) -> None:
        ran.append(1)

    handles = [model.inner.register_forward_hook(spy) for model in {id(m): m for m in models}.values()]
    traces = at_once([lambda model=model: tracecall.trace(model, X) for model in models])  # type: ignore[misc]
    expected = drawing("""
        Branch [2,3] → [2,3]
          inner Pair [2,3] → [2,3] ← input x
            first Linear [2,3] → [2,3] ← input x
            second Linear [2,3] → [2,3] ← first
            ⚓ test_two_traces_at_once_know_nothing_of_each_other.spy
          · inner(…) * 2 [2,3] → [2,3] ← inner
    """)
    assert [drawn(trace) for trace in traces] == [expected, expected]
    assert len(ran) == 2
    assert all(call.thread is None for trace in traces for _, call in trace.walk())
    for model in models:
        assert [type(hook).__name__ for hook in model.inner._forward_hooks.values()] == ["function"]
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_recordings_that_overlap_leave_nothing(first_out: int) -> None:
    """Whichever of two ends first, hooks and the recursion limit are as found when both have ended."""
    limit, model = sys.getrecursionlimit(), Pair()
    handle = model.first.register_forward_pre_hook(lambda module, args: None)
    hook = model.first._forward_pre_hooks[handle.id]
    started = [threading.Event(), threading.Event()]
    ended = [threading.Event(), threading.Event()]

    def record(number: int) -> Trace:
        if number == 1:
            started[0].wait(10)
        with tracecall.tracing(model) as trace:
            started[number].set()
            started[1].wait(10)
            model(X)
            if number != first_out:
                ended[first_out].wait(10)
        ended[number].set()
        return trace

    traces = at_once([lambda: record(0), lambda: record(1)])
    found, now = sys.getrecursionlimit(), model.first._forward_pre_hooks[handle.id]
    sys.setrecursionlimit(limit)
    handle.remove()
    assert [names(trace, "module") for trace in traces] == [["Pair", "first", "second"]] * 2
    assert found == limit
    assert now is hook


# a trace inside a trace


def test_a_hook_may_trace_another_model() -> None:
    """The inner trace has the other model's calls; the outer one shows them as what the hook ran."""
    model, other = Pair(), Pair()
    inner: list[Trace] = []
    model.first.register_forward_hook(lambda *args: inner.append(tracecall.trace(other, X)))
    trace = tracecall.trace(model, X)
    assert drawn(inner[0]) == PAIR
    assert drawn(trace, sources=False) == drawing("""
        Pair [2,3] → [2,3]
          first Linear [2,3] → [2,3]
            ⚓ test_a_hook_may_trace_another_model.<lambda>
              <Pair> Pair [2,3] → [2,3]
                <Linear> Linear [2,3] → [2,3]
                <Linear 2> Linear [2,3] → [2,3]
          second Linear [2,3] → [2,3]
    """)


def test_tracing_inside_tracing_of_the_same_model() -> None:
    """Both have the whole tree, and neither shows the other's hooks."""
    model = Pair()
    model.first.register_forward_hook(lambda *args: None)
    with tracecall.tracing(model) as alone:
        model(X)
    with tracecall.tracing(model) as outer:
        with tracecall.tracing(model) as inner:
            model(X)
        model.second(X)
    assert drawn(inner) == drawn(alone)
    assert "⚓" in drawn(inner)
    assert drawn(outer) == drawn(alone) + "\nsecond Linear [2,3] → [2,3]"


def test_the_readers_own_code_may_call_any_submodule() -> None:
    """Under `tracing`, calls of parts of the model are roots of their own; other modules' are nothing."""
    model = Pair()
    with tracecall.tracing(model) as trace:
        model.second(model.first(X))
        nn.Linear(3, 3)(X)
        X + 1
    assert drawn(trace) == drawing("""
        first Linear [2,3] → [2,3]
        second Linear [2,3] → [2,3] ← first
    """)


# contexts that change how a module runs


def test_autocast_changes_dtypes_and_no_call() -> None:
    """The same calls; the output is what autocast made it, and operations still have the source's names."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return y @ x.t()

    model = Mixed()
    with torch.autocast("cpu", torch.bfloat16):
        trace = agrees_with_the_profiler(model, lambda: model(X))
    assert names(trace) == ["x.t", "y @ x.t(…)"]
    assert {value.source for value in only(trace, "y @ x.t(…)").inputs if value.source} == {"first", "x.t"}
    assert trace.find("first")[0].output[0].value.dtype == "bfloat16"  # type: ignore[union-attr]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_block_is_called_again_by_backward(reentrant: bool) -> None:
    """Forward calls it once; backward, inside `tracing`, calls it once more."""

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.last = Pair(), nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(checkpoint(self.block, x, use_reentrant=reentrant))

    model, x = Checkpointed(), X.clone().requires_grad_()
    trace = agrees_with_the_profiler(model, lambda: model(x).sum().backward())
    assert drawn(trace, sources=False, operations=False) == drawing("""
        Checkpointed [2,3] → [2,1]
          block Pair [2,3] → [2,3]
            first Linear [2,3] → [2,3]
            second Linear [2,3] → [2,3]
          last Linear [2,3] → [2,1]
        block Pair [2,3] → [2,3]
          first Linear [2,3] → [2,3]
          second Linear [2,3] → [2,3]
    """) or drawn(trace, sources=False, operations=False).splitlines()[:5] == [
        "Checkpointed [2,3] → [2,1]",
        "  block Pair [2,3] → [2,3]",
        "    first Linear [2,3] → [2,3]",
        "    second Linear [2,3] → [2,3]",
        "  last Linear [2,3] → [2,1]",
    ]  # checkpointing without reentry stops the second run as soon as it has what it needs
    assert len(trace.find("block")) == 2
    assert trace.error is None
    assert trace.modules["block"].state == "called"
    assert [finding.kind for finding in trace.findings] == []
    assert x.grad is not None


def test_functional_call_is_a_call() -> None:
    """torch.func.functional_call runs the module with other parameters, through `__call__`."""
    model = Pair()
    parameters = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    run = lambda: torch.func.functional_call(model, parameters, (X,))  # noqa: E731
    assert drawn(agrees_with_the_profiler(model, run)) == PAIR


def test_gradients_by_torch_func_are_recorded() -> None:
    """torch.func.grad over functional_call: the calls are the same."""
    model = Pair()

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(model, parameters, (X,)).sum()
        return result

    parameters = {name: value.detach() for name, value in model.named_parameters()}
    trace = agrees_with_the_profiler(model, lambda: torch.func.grad(loss)(parameters))
    assert drawn(trace, sources=False) == drawing("""
        Pair [2,3] → [2,3]
          first Linear [2,3] → [2,3]
          second Linear [2,3] → [2,3]
    """)


def test_vmap_shows_the_module_as_it_sees_itself() -> None:
    """Inside torch.vmap a module sees one example: so does the tree."""
    model = Pair()
    trace = agrees_with_the_profiler(model, lambda: torch.vmap(model)(torch.ones(5, 2, 3)))
    assert drawn(trace) == PAIR


def test_a_lazy_module_gets_its_parameters_in_its_first_call() -> None:
    """The hook that makes them is a call; afterwards they are counted."""
    model = nn.Sequential(nn.LazyLinear(4))
    trace = tracecall.trace(model, X)
    assert trace.model.parameters == 16
    assert [call.name.rpartition(".")[2] for _, call in trace.walk() if call.kind == "hook"] == ["_infer_parameters"]
    assert trace.find("0")[0].output[0].value.shape == (2, 4)  # type: ignore[union-attr]
    assert drawn(tracecall.trace(model, X)) == drawing("""
        Sequential [2,3] → [2,4]
          0 Linear [2,3] → [2,4] ← input input
    """)


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * 2


def test_a_parametrization_is_a_call_each_time_that_the_weight_is_read() -> None:
    """torch.nn.utils.parametrize computes `self.weight` by calling modules: they are in the tree."""
    model = nn.Sequential(nn.Linear(3, 3))
    parametrize.register_parametrization(model[0], "weight", Doubled())
    trace = agrees_with_the_profiler(model, lambda: model(X))
    assert drawn(trace, sources=False) == drawing("""
        Sequential [2,3] → [2,3]
          0 ParametrizedLinear [2,3] → [2,3]
            parametrizations.weight ParametrizationList · → [3,3]
              0 Doubled [3,3] → [3,3]
                · weight * 2 [3,3] → [3,3]
    """)


def test_recording_reads_no_parametrized_weight_of_its_own() -> None:
    """Spectral norm changes its buffers at each read in train mode: traced as often as untraced."""
    models = []
    for traced in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 3)), nn.BatchNorm1d(3)).train()
        if traced:
            with tracecall.tracing(model):
                model(X)
        else:
            model(X)
        models.append(model)
    (one, other) = ({**model.state_dict()} for model in models)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_old_weight_norm_is_a_hook() -> None:
    """torch.nn.utils.weight_norm recomputes the weight in a forward pre-hook, which is a call."""
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)))
    trace = agrees_with_the_profiler(model, lambda: model(X))
    (hook,) = [call for _, call in trace.walk() if call.kind == "hook"]
    assert (hook.name, hook.path) == ("WeightNorm", "0")
    assert hook.site is not None
    assert hook.site.file.endswith("weight_norm.py")
    assert trace.modules["0"].state == "called"
    assert [finding.kind for finding in trace.findings] == []


def test_a_pruned_weight_is_made_by_a_hook() -> None:
    """torch.nn.utils.prune masks the weight in a forward pre-hook."""
    model = nn.Sequential(nn.Linear(3, 3))
    prune.l1_unstructured(model[0], "weight", 2)  # type: ignore[no-untyped-call]
    trace = tracecall.trace(model, X)
    assert names(trace, "hook") == ["L1Unstructured"]
    assert [finding.kind for finding in trace.findings] == []
