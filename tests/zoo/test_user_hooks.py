"""The user's own hooks are calls: named, placed, in torch's order, each with what it changed."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

import tracecall
from tests.zoo.drawing import drawing, drawn, names
from tracecall.calls import Call, Hook, Trace
from tracecall.recording import calibration

X = torch.ones(4, 3)


class Net(nn.Module):
    """Two submodules, so that hooks sit on the root and inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor, scale: Any = None) -> torch.Tensor:
        return self.act(self.fc(x))


def hooks(trace: Trace) -> list[Call]:
    """The hook calls in call order."""
    return [call for _, call in trace.walk() if call.kind == "hook"]


def one(trace: Trace) -> Call:
    """The only hook call."""
    (found,) = hooks(trace)
    return found


def halve(module: nn.Module, args: Any) -> Any:
    """A pre-hook that slices the batch."""
    return (args[0][:2],)


# what a hook is


def test_a_hook_has_its_name_its_line_and_how_it_was_registered() -> None:
    """Name, file and line of the function; the module that it is on."""
    model = Net()
    model.fc.register_forward_pre_hook(halve)
    trace = tracecall.trace(model, X)
    hook = one(trace)
    assert (hook.name, hook.path, hook.hook) == ("halve", "fc", Hook("forward pre-hook", "module"))
    assert hook.site is not None
    assert hook.site.file == "tests/zoo/test_user_hooks.py"
    assert hook.site.line == inspect.getsourcelines(halve)[1]
    assert trace.modules["fc"].hooks == [f"forward pre-hook halve ({hook.site.file}:{hook.site.line})"]


@pytest.mark.parametrize("with_kwargs", [False, True])
@pytest.mark.parametrize("always_call", [False, True])
def test_the_ways_of_registering_are_told_apart(with_kwargs: bool, always_call: bool) -> None:
    """with_kwargs and always_call are facts of a hook's registration."""
    model = Net()
    before = lambda *rest: None  # noqa: E731
    model.fc.register_forward_pre_hook(before, with_kwargs=with_kwargs)
    model.fc.register_forward_hook(before, with_kwargs=with_kwargs, always_call=always_call)
    assert [call.hook for call in hooks(tracecall.trace(model, X))] == [
        Hook("forward pre-hook", "module", with_kwargs),
        Hook("forward hook", "module", with_kwargs, always_call),
    ]


@pytest.fixture
def on_every_module() -> Iterator[list[str]]:
    """A global pre-hook and a global forward hook that write down the modules they ran for."""
    log: list[str] = []

    def entered(module: nn.Module, args: Any) -> None:
        log.append(f"entered {type(module).__name__}")

    def left(module: nn.Module, args: Any, output: Any) -> None:
        log.append(f"left {type(module).__name__}")

    handles = [torch_module.register_module_forward_pre_hook(entered), torch_module.register_module_forward_hook(left)]
    yield log
    for handle in handles:
        handle.remove()


def test_a_global_hook_is_a_call_in_every_module(on_every_module: list[str]) -> None:
    """Global hooks run for each module, and run as they would untraced."""
    model = Net()
    model(X)
    untraced = list(on_every_module)
    on_every_module.clear()
    trace = tracecall.trace(model, X)
    assert on_every_module == untraced
    assert [(call.path, call.name.rpartition(".")[2]) for call in hooks(trace)] == [
        ("", "entered"), ("fc", "entered"), ("fc", "left"), ("act", "entered"), ("act", "left"), ("", "left"),
    ]  # fmt: skip
    assert {call.hook.scope for call in hooks(trace) if call.hook} == {"global"}


def test_a_partial_and_a_callable_object_are_named_by_what_they_are() -> None:
    """A partial by its function, an object by its class, each with the line of the code that runs."""

    class Counter:
        def __call__(self, module: nn.Module, args: Any) -> None: ...

    def scaled(factor: int, module: nn.Module, args: Any) -> None: ...

    class Owner:
        def method(self, module: nn.Module, args: Any) -> None: ...

    model = Net()
    model.fc.register_forward_pre_hook(Counter())
    model.fc.register_forward_pre_hook(functools.partial(scaled, 2))
    model.fc.register_forward_pre_hook(Owner().method)
    model.fc.register_forward_pre_hook(lambda module, args: None)
    found = hooks(tracecall.trace(model, X))
    name = "test_a_partial_and_a_callable_object_are_named_by_what_they_are"
    assert [call.name for call in found] == [
        f"{name}.Counter",
        f"{name}.scaled",
        f"{name}.Owner.method",
        f"{name}.<lambda>",
    ]
    lines = [inspect.getsourcelines(code)[1] for code in (Counter.__call__, scaled, Owner.method)]
    assert [call.site.line for call in found if call.site][:3] == lines


# what a hook changed


CHANGES = [
    pytest.param(lambda m, a: (a[0][:2],), {}, ["args[0] 4,3 → 2,3"], id="a shape"),
    pytest.param(lambda m, a: a[0][:2], {}, ["args[0] 4,3 → 2,3"], id="a bare tensor for the only argument"),
    pytest.param(lambda m, a: (a[0] * 2,), {}, ["args[0] replaced, float32[4,3]"], id="values"),
    pytest.param(lambda m, a: a, {}, None, id="the same again"),
    pytest.param(lambda m, a: None, {}, None, id="nothing"),
    pytest.param(lambda m, a: (a[0].mul_(2), None)[1], {}, ["args[0] changed in place"], id="in place"),
    pytest.param(lambda m, a, k: (a, {"scale": 2}), {"with_kwargs": True}, ["kwargs['scale'] added, 2"], id="a keyword added"),
]  # fmt: skip


@pytest.mark.parametrize(("hook", "how", "changed"), CHANGES)
def test_a_pre_hook_says_what_it_changed(hook: Any, how: dict[str, bool], changed: list[str] | None) -> None:
    """Shapes, values, keywords, or a tensor written in place; None where it changed nothing."""
    model = Net()
    model.register_forward_pre_hook(hook, **how)
    assert one(tracecall.trace(model, X.clone())).changed == changed


def test_keywords_that_a_pre_hook_replaces_or_removes() -> None:
    """with_kwargs: each keyword by name."""
    model = Net()
    handle = model.register_forward_pre_hook(lambda m, a, k: (a, {"scale": 3}), with_kwargs=True)
    assert one(tracecall.trace(model, X, scale=2)).changed == ["kwargs['scale'] 2 → 3"]
    handle.remove()
    model.register_forward_pre_hook(lambda m, a, k: (a, {}), with_kwargs=True)
    assert one(tracecall.trace(model, X, scale=2)).changed == ["kwargs['scale'] removed"]


OUTPUTS = [
    pytest.param(lambda m, a, out: out[:1], ["output 4,3 → 1,3"], id="a shape"),
    pytest.param(lambda m, a, out: out.half(), ["output float32 → float16"], id="a dtype"),
    pytest.param(lambda m, a, out: out + 1, ["output replaced, float32[4,3]"], id="values"),
    pytest.param(lambda m, a, out: (out, 1), ["output[0] added, float32[4,3]", "output[1] added, 1", "output removed"], id="a structure"),
    pytest.param(lambda m, a, out: None, None, id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("hook", "changed"), OUTPUTS)
def test_a_forward_hook_says_what_it_changed(hook: Any, changed: list[str] | None) -> None:
    """And the call's output in the tree is what came out after its hooks."""
    model = nn.Sequential(Net())
    model[0].register_forward_hook(hook)
    with torch.no_grad():
        trace = tracecall.trace(model, X)
    assert one(trace).changed == changed
    (call,) = trace.find("0")
    assert call.output == trace.calls[0].output


def test_a_change_in_place_is_seen_in_inference_mode() -> None:
    """The CLI runs in inference mode: an input that a hook writes to there changes all the same."""
    model = Net()

    def write(module: nn.Module, args: Any) -> None:
        args[0].mul_(2)

    model.register_forward_pre_hook(write)
    with torch.inference_mode():
        assert one(tracecall.trace(model, X.clone())).changed == ["args[0] changed in place"]


def test_a_slice_by_a_hook_is_in_the_tree() -> None:
    """Issue 3, show 4: the hook, what is inside it, and 4 → 2 from there on."""
    model = Net()
    model.fc.register_forward_pre_hook(halve)
    assert drawn(tracecall.trace(model, X)) == drawing("""
        Net [4,3] → [2,3]
          fc Linear [4,3] → [2,3] ← input x
            ⚓ halve args[0] 4,3 → 2,3
              · args[0][:2] [4,3] → [2,3] ← input args[0]
          act ReLU [2,3] → [2,3] ← fc
    """)


def test_printed_a_hook_stands_with_its_line_and_change() -> None:
    """What the reader sees: name, line, 4,3 → 2,3."""
    model = Net()
    model.fc.register_forward_pre_hook(halve)
    (line,) = [line for line in str(tracecall.trace(model, X)).splitlines() if "halve" in line]
    assert "args[0] 4,3 → 2,3" in line
    assert (
        line.rstrip().endswith(f":{inspect.getsourcelines(halve)[1]}")
        or f":{inspect.getsourcelines(halve)[1]} " in line
    )


# order


def test_hooks_are_in_the_order_in_which_torch_runs_them(on_every_module: list[str]) -> None:
    """Global and own, prepended or not, with or without kwargs: as the hooks' own log has it."""
    model, log = Net(), on_every_module

    def logging(name: str) -> Any:
        def hook(*rest: Any, **more: Any) -> None:
            log.append(name)

        hook.__qualname__ = name
        return hook

    model.fc.register_forward_hook(logging("hook a"))
    model.fc.register_forward_hook(logging("hook b"), prepend=True)
    model.fc.register_forward_hook(logging("hook c"), always_call=True, with_kwargs=True)
    model.fc.register_forward_pre_hook(logging("pre-hook a"))
    model.fc.register_forward_pre_hook(logging("pre-hook b"), prepend=True, with_kwargs=True)
    trace = tracecall.trace(model, X)
    short = {"entered": "entered", "left": "left"}
    found = [short.get(call.name.rpartition(".")[2], call.name) for call in hooks(trace)]
    assert found == [entry.split()[0] if entry.startswith(("entered", "left")) else entry for entry in log]
    assert [call.name.rpartition(".")[2] for call in trace.find("fc")[0].children if call.kind == "hook"] == [
        "entered", "pre-hook b", "pre-hook a", "left", "hook b", "hook a", "hook c",
    ]  # fmt: skip


def test_operations_of_forward_stand_between_pre_hooks_and_hooks() -> None:
    """The children of a call are in the order in which they ran."""
    model = nn.ReLU()
    model.register_forward_pre_hook(halve)
    model.register_forward_hook(lambda m, a, out: out + 1)
    trace = tracecall.trace(model, X)
    assert [call.kind for call in trace.calls[0].children] == ["hook", "operation", "hook"]


# odd hooks


def test_a_hook_that_removes_itself_ran_once() -> None:
    """In the first call it is a call; afterwards it is gone, as untraced."""
    model = Net()

    def once(module: nn.Module, args: Any) -> None:
        handle.remove()

    handle = model.fc.register_forward_pre_hook(once)
    first, second = tracecall.trace(model, X), tracecall.trace(model, X)
    assert [len(hooks(trace)) for trace in (first, second)] == [1, 0]
    assert not model.fc._forward_pre_hooks
    assert second.modules["fc"].hooks == []


def test_a_forward_hook_that_removes_itself_closes_its_call() -> None:
    """The last hook leaves while it runs: the tree goes on beside the call, not inside it."""
    model = Net()

    def once(module: nn.Module, args: Any, output: Any) -> None:
        handle.remove()

    handle = model.fc.register_forward_hook(once)
    trace = tracecall.trace(model, X)
    assert [call.name for call in trace.calls[0].children] == ["fc", "act"]
    assert trace.error is None


def test_a_hook_that_registers_another_is_recorded_with_it() -> None:
    """What a hook adds to a module that is called later runs, and is recorded."""
    model = Net()

    def adding(module: nn.Module, args: Any, output: Any) -> None:
        model.act.register_forward_pre_hook(halve)

    model.fc.register_forward_hook(adding)
    trace = tracecall.trace(model, X)
    assert [call.name.rpartition(".")[2] for call in hooks(trace)] == ["adding", "halve"]


def test_a_pre_hook_that_raises_is_where_the_error_was_raised() -> None:
    """Forward never ran; the error is the hook's, and passes through the module."""
    model = Net()

    def refuse(module: nn.Module, args: Any) -> None:
        raise ValueError("no")

    model.fc.register_forward_pre_hook(refuse)
    with pytest.raises(ValueError, match="no"):
        tracecall.trace(model, X)
    trace = tracecall.last_trace()
    assert trace is not None
    assert drawn(trace) == drawing("""
        Net [4,3] → ✗ ValueError
          fc Linear [4,3] → ✗ ValueError ← input x
            ⚓ test_a_pre_hook_that_raises_is_where_the_error_was_raised.refuse ✗ ValueError
    """)
    assert one(trace).error is not None
    assert one(trace).error.raised_here  # type: ignore[union-attr]
    assert trace.error is not None
    assert trace.error.site is not None
    assert trace.error.site.line == inspect.getsourcelines(refuse)[1] + 1


def test_a_forward_hook_that_raises_fails_a_call_whose_forward_returned() -> None:
    """And an always_call hook behind it still runs, as untraced."""
    model, ran = Net(), []

    def refuse(module: nn.Module, args: Any, output: Any) -> None:
        raise ValueError("no")

    def always(module: nn.Module, args: Any, output: Any) -> None:
        ran.append(output)

    model.fc.register_forward_hook(refuse)
    model.fc.register_forward_hook(always, always_call=True)
    with pytest.raises(ValueError, match="no"):
        model(X)
    untraced = len(ran)
    with pytest.raises(ValueError, match="no"):
        tracecall.trace(model, X)
    assert len(ran) == 2 * untraced
    trace = tracecall.last_trace()
    assert trace is not None
    assert [call.name.rpartition(".")[2] for call in hooks(trace)] == ["refuse", "always"][: 1 + untraced]
    assert trace.calls[0].error is not None
    assert not trace.calls[0].error.raised_here


def test_an_always_call_hook_runs_when_forward_raised() -> None:
    """It is a call inside the failed one, after the operation that failed."""
    model = Net()
    model.fc.register_forward_hook(lambda m, a, out: None, always_call=True)
    with pytest.raises(RuntimeError):
        tracecall.trace(model, torch.ones(4, 5))
    trace = tracecall.last_trace()
    assert trace is not None
    (fc,) = trace.find("fc")
    assert [call.kind for call in fc.children] == ["operation", "hook"]
    assert fc.error is not None
    assert fc.children[1].error is None


def test_a_hook_that_calls_a_module_has_that_call_inside() -> None:
    """Of the model or of any other; the other one is no part of the model."""
    model, other = Net(), nn.Linear(3, 3)
    model.fc.register_forward_hook(lambda m, a, out: other(model.act(out)))
    trace = tracecall.trace(model, X)
    assert drawn(trace, sources=False) == drawing("""
        Net [4,3] → [4,3]
          fc Linear [4,3] → [4,3]
            ⚓ test_a_hook_that_calls_a_module_has_that_call_inside.<lambda> output replaced, float32[4,3]
              model.act ReLU [4,3] → [4,3]
              <Linear> Linear [4,3] → [4,3]
          act ReLU [4,3] → [4,3]
    """)
    assert trace.model.parameters == 12


def test_what_a_hook_made_feeds_what_comes_next() -> None:
    """The source of the next call's input is the hooked module; of forward's own operations, the hook's argument."""
    model = Net()
    model.register_forward_pre_hook(halve)
    trace = tracecall.trace(model, X)
    (fc,) = trace.find("fc")
    assert [value.source for value in fc.inputs] == ["input x"]


def test_a_hook_has_its_own_time() -> None:
    """After `measure`, in nanoseconds, and it is a part of the call that it ran for."""
    model = Net()

    def slow(module: nn.Module, args: Any, output: Any) -> None:
        for _ in range(20_000):
            pass

    model.fc.register_forward_hook(slow)
    model.fc.register_forward_pre_hook(halve)
    trace = tracecall.measure(model, (X,), repeat=5, warmup=1)
    before, after = hooks(trace)
    (fc,) = trace.find("fc")
    assert before.host_ns is not None
    assert after.host_ns is not None
    assert fc.host_ns is not None
    assert after.host_ns > before.host_ns > 0  # thousands of steps beside one slice
    assert fc.host_ns >= after.host_ns
    assert fc.host_self_ns is not None
    assert 0 < fc.host_self_ns < fc.host_ns
    assert after.samples == 5


def test_hooks_are_the_same_objects_afterwards() -> None:
    """Nothing stands in their place, nothing moved."""
    model = Net()
    model.fc.register_forward_hook(lambda m, a, out: None)
    model.fc.register_forward_pre_hook(halve)
    tables = lambda: [list(t.items()) for t in (model.fc._forward_hooks, model.fc._forward_pre_hooks)]  # noqa: E731
    before = tables()
    tracecall.measure(model, (X,), repeat=1, warmup=0)
    assert tables() == before
    assert names(tracecall.trace(model, X), "hook") == ["halve", "test_hooks_are_the_same_objects_afterwards.<lambda>"]


def test_a_gradient_hook_of_the_users_is_left_alone() -> None:
    """Full backward hooks wrap inputs and outputs: they still run, and the tree is whole."""
    model, ran = Net(), []
    model.fc.register_full_backward_hook(lambda *rest: ran.append(1))
    x = X.clone().requires_grad_()
    with tracecall.tracing(model) as trace:
        model(x).sum().backward()
    assert ran == [1]
    assert drawn(trace, operations=False) == drawing("""
        Net [4,3] → [4,3]
          fc Linear [4,3] → [4,3] ← input x
          act ReLU [4,3] → [4,3] ← fc
    """)


# hooks on modules that are no part of the model, and hooks of every module


def double(module: nn.Module, args: Any) -> Any:
    """A pre-hook that replaces its input."""
    return (args[0] * 2,)


class Builds(nn.Module):
    """Builds a module in its forward, and puts a pre-hook on it before it is called."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        built = nn.ReLU()
        built.register_forward_pre_hook(double)
        return built(x)


def test_a_pre_hook_on_a_module_that_a_forward_builds_is_a_call_from_the_first_on() -> None:
    """torch lists a call's pre-hooks before it runs any: the hook is watched as it is registered."""
    trace = tracecall.measure(Builds(), (X,), repeat=3, warmup=0)
    hook = one(trace)
    assert (hook.path, hook.changed) == ("<ReLU>", ["args[0] replaced, float32[4,3]"])
    assert hook.host_ns is not None
    assert trace.findings == []


def test_registering_is_torchs_own_after_the_last_of_two_recordings() -> None:
    """In whatever order they end."""
    own = vars(nn.Module)["register_forward_hook"]
    with tracecall.tracing(Net()) as outer, tracecall.tracing(Builds()) as inner:
        Builds()(X)
        assert vars(nn.Module)["register_forward_hook"] is not own
    assert vars(nn.Module)["register_forward_hook"] is own
    assert (outer.calls, inner.calls) == ([], [])


class Borrows(nn.Module):
    """Calls a module that it keeps in a plain list: torch does not know it as a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = [nn.Linear(3, 3)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.kept[0](self.kept[0](x))


def test_a_pre_hook_that_could_not_be_watched_stands_in_its_place_and_is_a_finding(on_every_module: list[str]) -> None:
    """On a module that is no part of the model, and registered before: in its first call only, after the global ones."""
    model = Borrows()
    model.kept[0].register_forward_pre_hook(double)
    trace = tracecall.measure(model, (X,), repeat=3, warmup=0)
    first, second = trace.find("<Linear>")
    for call in first, second:
        assert [one.name.rpartition(".")[2] for one in call.children if one.kind == "hook"] == [
            "entered",
            "double",
            "left",
        ]
        assert all(one.host_ns is not None for one in call.children if one.kind == "hook")
    assert [one.changed for one in first.children if one.name == "double"] == [["not watched"]]
    assert [one.changed for one in second.children if one.name == "double"] == [["args[0] replaced, float32[4,3]"]]
    (finding,) = trace.findings
    assert finding.kind == "hook-not-watched"
    assert finding.message.startswith("the forward pre-hook double ran in the first call of <Linear>, which is no part")


def test_a_global_hook_has_its_own_time(on_every_module: list[str]) -> None:
    """And the time is not its module's own."""
    trace = tracecall.measure(Net(), (X,), repeat=3, warmup=1)
    assert all(call.host_ns is not None and call.samples == 3 for call in hooks(trace))
    for call in trace.find("fc") + trace.find(""):
        inside = sum(one.host_ns or 0 for one in call.children if one.kind == "hook")
        assert call.host_ns is not None
        assert call.host_self_ns is not None
        assert 0 < inside < call.host_ns
        assert call.host_self_ns < call.host_ns
    assert trace.findings == []


def test_no_hook_of_the_users_runs_for_the_tracers_own_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls empty modules, which a global hook of the user's need not expect."""
    monkeypatch.setattr(calibration, "_operation", None)
    ran: list[str] = []
    with torch_module.register_module_forward_pre_hook(lambda module, args: ran.append(type(module).__name__)):
        calibration.Empties(2, time.perf_counter_ns).measure()
        calibration.operation_overhead(calls=2, rounds=1)
        Net()(X)
    assert ran == ["Net", "Linear", "ReLU"]


class Forgives(nn.Module):
    """Catches what its submodule raises."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            return self.fc(x[:, :2])
        except RuntimeError:
            return x


@pytest.mark.parametrize("everywhere", [False, True])
def test_hooks_that_run_after_an_exception_are_timed_like_others(everywhere: bool) -> None:
    """always_call hooks, on the module and global: the timing runs make the calls that were recorded."""
    model = Forgives()
    after = lambda module, args, output: None  # noqa: E731
    register = torch_module.register_module_forward_hook if everywhere else model.fc.register_forward_hook
    with register(after, always_call=True):  # type: ignore[operator]
        model.fc.register_forward_hook(lambda module, args, output: None)  # torch leaves this one out
        trace = tracecall.measure(model, (X,), repeat=3, warmup=0)
    assert [call.path for call in hooks(trace)] == (["fc", ""] if everywhere else ["fc"])
    assert all(call.host_ns is not None for call in hooks(trace))
    assert [finding.kind for finding in trace.findings] == ["raised-and-caught"]
