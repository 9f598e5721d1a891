"""However a recording ends, nothing of it stays: no hook, no mode, no thread, no setting."""

from __future__ import annotations

import gc
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

import tracecall
from tracecall.recording import recorder, sources, tensor_specs, timing, values


def look(module: nn.Module, args: Any) -> None:
    """A forward pre-hook of the user."""


def look_too(module: nn.Module, args: Any) -> None:
    """Another one."""


def look_after(module: nn.Module, args: Any, output: Any) -> None:
    """A forward hook of the user."""


def look_with_kwargs(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    """A forward hook that takes keyword arguments and is always called."""


class Net(nn.Module):
    """Runs what a test wants in the middle of its forward, between two Linears."""

    def __init__(self, middle: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 4)
        self.fc2 = nn.Linear(4, 2)
        self.middle = middle
        self.register_forward_pre_hook(look)
        self.fc1.register_forward_pre_hook(look)
        self.fc1.register_forward_pre_hook(look_too)
        self.fc1.register_forward_hook(look_after)
        self.fc1.register_forward_hook(look_with_kwargs, with_kwargs=True, always_call=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        self.middle()
        out: Tensor = self.fc2(x)
        return out


TABLES = (
    "_global_forward_pre_hooks",
    "_global_forward_hooks",
    "_global_forward_hooks_always_called",
    "_global_forward_hooks_with_kwargs",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
OWN_TABLES = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
)


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that a recorder could leave behind; hooks by identity and in order."""
    found: dict[str, Any] = {
        f"{path}.{name}": [(key, id(hook)) for key, hook in getattr(module, name).items()]
        for path, module in model.named_modules()
        for name in OWN_TABLES
    }
    found |= {f"{path}.__dict__": sorted(module.__dict__) for path, module in model.named_modules()}
    found |= {name: [(key, id(hook)) for key, hook in getattr(torch_module, name).items()] for name in TABLES}
    found["modes"] = (torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack())
    found["threads"] = dict(recorder._recording_threads)
    found["recursion limit"] = sys.getrecursionlimit()
    found["warning filters"] = list(warnings.filters)
    found["grad"] = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    found["train"] = [module.training for module in model.modules()]
    found["collecting garbage"] = (gc.isenabled(), gc.get_threshold())
    return found


@pytest.fixture
def net() -> Iterator[Net]:
    """A model with hooks, and a global pre-hook of the user beside it; afterwards all must be as at the beginning."""
    with warnings.catch_warnings():
        handle = torch_module.register_module_forward_pre_hook(look)
        try:
            model = Net()
            before = state(model)
            assert (before["modes"], before["threads"]) == ((0, 0), {})
            yield model
            after = state(model)
        finally:
            handle.remove()
            # what one test finds left behind is no fault of the next
            recorder._recording_threads.clear()
    assert after == before


def x() -> Tensor:
    return torch.randn(3, 8)


def record(model: nn.Module) -> None:
    tracecall.trace(model, x())


def record_block(model: nn.Module) -> None:
    with tracecall.tracing(model):
        model(x())


def measure(model: nn.Module) -> None:
    tracecall.measure(model, (x(),), repeat=2, inference=True)


WAYS = pytest.mark.parametrize("way", [record, record_block, measure])


class Stop(BaseException):
    """What neither torch nor a model catches."""


def raising(error: BaseException) -> Callable[[], object]:
    def raise_it() -> object:
        raise error

    return raise_it


@WAYS
def test_after_a_run(net, way):
    """Nothing stays, and the user's hooks are the same objects in the same order."""
    way(net)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, Stop])
@WAYS
def test_after_an_exception_in_forward(net, way, error):
    """Of any kind, also those for which torch runs no hook; the exception itself arrives."""
    raised = error("in forward")
    net.middle = raising(raised)
    if way is measure and issubclass(error, Exception):
        way(net)  # that is its business: the error is in the Trace
        return
    with pytest.raises(error) as caught:
        way(net)
    assert caught.value is raised


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", ["forward pre-hook", "forward hook"])
@WAYS
def test_after_an_exception_in_a_users_hook(net, way, kind, error):
    """A hook that raises ends the run as it would untraced."""
    if kind == "forward hook":
        handle = net.fc2.register_forward_hook(lambda module, args, output: raising(error("in a hook"))())
    else:
        handle = net.fc2.register_forward_pre_hook(lambda module, args: raising(error("in a hook"))())
    before = state(net)
    if way is measure and error is ValueError:
        way(net)
    else:
        with pytest.raises(error, match="in a hook"):
            way(net)
    assert state(net) == before
    handle.remove()
    # torch keeps the emptied tables of options; what the fixture compares are the hooks
    for table in (net.fc2._forward_hooks, net.fc2._forward_pre_hooks):
        assert not table


def test_after_an_exception_in_the_block(net):
    """The reader's own code raised, outside of any call."""
    with pytest.raises(ValueError, match="own"), tracecall.tracing(net):
        raise ValueError("own")


def test_after_an_interrupt_between_timing_runs(net):
    """Ctrl-C while the clocks are attached."""
    runs = iter(range(100))

    def interrupt() -> None:
        if next(runs) == 5:
            raise KeyboardInterrupt

    net.middle = interrupt
    with pytest.raises(KeyboardInterrupt):
        tracecall.measure(net, (x(),), repeat=10)


def test_after_an_exception_in_every_timing_run(net):
    """A forward that works once, and then no more."""
    runs = iter(range(100))

    def once() -> None:
        if next(runs):
            raise ValueError("only once")

    net.middle = once
    trace = tracecall.measure(net, (x(),), repeat=2)
    assert [finding.kind for finding in trace.findings] == ["not-again"]


def test_after_a_block_that_is_left_by_a_generator(net):
    """A generator that is closed while it records (GeneratorExit at the yield)."""

    def recording() -> Iterator[Tensor]:
        with tracecall.tracing(net):
            yield net(x())
            yield net(x())

    running = recording()
    next(running)
    assert state(net)["modes"][0] == 1
    running.close()


# the recorder itself fails


class Broken(Exception):
    """Raised inside the recorder."""


PARTS: dict[str, Any] = {
    "tensor_specs.spec": tensor_specs,
    "values.leaves": values,
    "Sources.find": sources.Sources,
}


@pytest.fixture(params=PARTS)
def broken(request, monkeypatch):
    """A recorder with a bug: one of its parts raises."""

    def fail(*args: object, **kwargs: object) -> object:
        raise Broken(request.param)

    monkeypatch.setattr(PARTS[request.param], request.param.partition(".")[2], fail)


def test_a_broken_recorder_does_not_disturb_the_model(net, broken):
    """The reader's code runs to its end with the right output, and then is told, with the cause."""
    given = x()
    expected = net(given)
    ran = []
    with pytest.raises(RuntimeError, match="the model itself ran on") as caught, tracecall.tracing(net):
        ran.append(net(given))
        # `values.leaves` is for nested values only: pass one
        net.fc1(given.clone())
        ran.append(nested(net, given))
    assert len(ran) == 2
    assert all(torch.equal(one, expected) for one in ran)
    assert isinstance(caught.value.__cause__, Broken)


def nested(model: nn.Module, given: Tensor) -> Tensor:
    """A call with a keyword argument and, by a hook, a nested output: what the recorder looks at in other ways."""
    handle = model.register_forward_hook(lambda module, args, output: {"out": output})
    try:
        out: Tensor = model(x=given)["out"]
        return out
    finally:
        handle.remove()


@pytest.mark.parametrize("way", [record, measure])
def test_a_broken_recorder_tells_the_caller(net, monkeypatch, way):
    """`trace` and `measure` raise, for they have no Trace to return; nothing stays behind."""
    monkeypatch.setattr(tensor_specs, "spec", raising_broken)
    with pytest.raises(RuntimeError, match="tracecall could not record this run"):
        way(net)


def raising_broken(*args: object) -> object:
    raise Broken


def test_a_broken_recorder_does_not_hide_the_models_own_error(net, monkeypatch):
    """What the model raised is what the reader has to know: it arrives, or is the context of what does."""
    monkeypatch.setattr(tensor_specs, "spec", raising_broken)
    net.middle = raising(ValueError("the model's own"))
    with pytest.raises((ValueError, RuntimeError)) as caught:
        tracecall.trace(net, x())
    chain: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(str(error))
        error = error.__context__
    assert "the model's own" in chain


def test_a_recorder_that_fails_at_the_end(net, monkeypatch):
    """Putting the Trace together raised: the hooks are gone before that."""
    from tracecall.recording import assembly

    monkeypatch.setattr(assembly, "find_states", raising_broken)
    with pytest.raises((Broken, RuntimeError)):
        tracecall.trace(net, x())


def test_a_recorder_that_fails_at_the_start(net, monkeypatch):
    """Attaching raised half-way: what was attached is detached."""
    from tracecall.recording import operations

    monkeypatch.setattr(operations.OperationMode, "__init__", raising_broken)
    with pytest.raises(Broken):
        tracecall.trace(net, x())


def test_clocks_that_fail(net, monkeypatch):
    """Making sense of the clocks raised."""
    monkeypatch.setattr(timing, "timed_calls", raising_broken)
    with pytest.raises(Broken):
        tracecall.measure(net, (x(),), repeat=1)


# the user changes things meanwhile


def test_a_hook_that_is_removed_while_recording_stays_removed(net):
    """The recorder does not bring back what the model took away."""
    handle = net.fc2.register_forward_hook(look_after)
    net.middle = handle.remove
    tracecall.trace(net, x())
    assert not net.fc2._forward_hooks


def test_a_hook_that_is_added_while_recording_stays(net):
    """The recorder takes away its own only."""
    handles: list[Any] = []
    net.middle = lambda: handles.append(net.fc2.register_forward_hook(look_after))
    tracecall.trace(net, x())
    assert list(net.fc2._forward_hooks.values()) == [look_after]
    handles[0].remove()


def test_recordings_that_end_in_the_order_in_which_they_began(net):
    """Overlapping blocks need not be nested; the user's hooks come back as the same objects."""
    first, second = tracecall.tracing(net), tracecall.tracing(net.fc1)
    first.__enter__()
    second.__enter__()
    net(x())
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)


def test_after_a_recording_in_another_thread(net):
    """Its mode and its hooks are gone there as here."""
    seen: list[Any] = []

    def work() -> None:
        tracecall.trace(net, x())
        seen.append((torch._C._len_torch_dispatch_stack(), dict(recorder._recording_threads)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, {})]


def test_after_a_model_that_runs_a_thread_of_its_own(net):
    """The mode that was entered in the model's thread is left there."""
    seen: list[int] = []

    def inside() -> None:
        net.fc2(torch.randn(3, 4))
        seen.append(torch._C._len_torch_dispatch_stack())

    def middle() -> None:
        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()

    net.middle = middle
    tracecall.trace(net, x())
    assert seen == [0]
