"""Run a model and record it: `trace` runs it once, `tracing` records the reader's own code, `measure` adds times."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from tracecall.calls import Finding, Prediction, Trace
from tracecall.errors import TracecallError
from tracecall.recording import differences, flops, tensor_specs, timing, values
from tracecall.recording.preserved import preserved, random_state
from tracecall.recording.recorder import Operations, Recorder
from tracecall.recording.rounds import ForwardRaised

if TYPE_CHECKING:
    from tracecall.recording.device_clocks import DeviceRuns
    from tracecall.recording.devices import Device

FIRST_VALUES = 6

_last: Trace | None = None


def trace(model: nn.Module, /, *args: Any, **kwargs: Any) -> Trace:
    """Run `model(*args, **kwargs)` once and record it.

    The model's buffers, gradients and mode, and torch's random state, are afterwards as before; what else a forward
    changes stays changed. Times are not measured: a recording disturbs them (`tracecall.measure` has them). What the
    model raises passes through; what was recorded until then is `tracecall.last_trace()`.
    """
    return _record(Recorder(_checked(model), "forward"), args, kwargs, reraise=True)


@contextmanager
def tracing(model: nn.Module, *, operations: Operations = "forward") -> Iterator[Trace]:
    """Record every call of the model and its submodules that the code inside `with` makes; it runs as it would without.

    The Trace is filled when the block ends. `operations`: "none", "forward" (those of the model's own forwards) or
    "all" (those inside torch.nn's forwards too, which are otherwise recorded only where they fail or read the
    parameters of other modules).
    """
    recorder = Recorder(_checked(model), operations)
    found = recorder.empty_trace()
    error: BaseException | None = None
    recorder.start()
    try:
        yield found
    except BaseException as raised:
        error = raised
        raise
    finally:
        recorder.stop(error)
        error = None
        _fill(found, recorder)


def _record(recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any], *, reraise: bool) -> Trace:
    """One recorded run; with `reraise` false an exception of the model ends up in the Trace's `error` only."""
    model = recorder.modules.root
    found = recorder.empty_trace()
    with preserved(model):
        error: BaseException | None = None
        output: Any = None
        recorder.start()
        try:
            output = model(*args, **kwargs)
        except Exception as raised:
            error = raised
            if reraise:
                raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            recorder.stop(error)
            failed = error is not None
            error = None  # its traceback refers to this frame, and through it to every tensor
            _fill(found, recorder)
        if not failed:
            found.prediction = predictions(output)
            recorder.output = output
            if isinstance(output, Generator):
                found.findings.append(_generator(found))
    return found


def measure(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    operations: Operations = "forward",
    inference: bool = False,
    warmup: int = timing.WARMUP,
    repeat: int | None = None,
    progress: timing.Progress | None = None,
    prove: bool = False,
    nan: bool = False,
) -> Trace:
    """Record one run as `trace` does, then time others: host times are medians over runs that only read clocks.

    One more run counts FLOPs, a multiply-add as two; a call that does what torch has no formula for is left without.
    `repeat` runs of each kind, None for as many as fit in half a second (3 to 100), 0 for none. With `inference` they
    run in torch.inference_mode. If forward raises, the exception is in the Trace's `error`, and nothing is timed. If a
    later run does, that is a finding, and times are of the runs before it.
    With `prove` a few runs more, with other inputs, prove findings, where one forward is not slow; with `nan` too, one
    looks at the tensors of every call if the output holds NaN or Inf.
    On an accelerator, device times and memory come from runs of their own, and a whole run ends as the device is done.
    `progress` is told (runs done, runs wanted).
    """
    kwargs = kwargs or {}
    for name, given in (("warmup", warmup), ("repeat", repeat)):
        _check_runs(name, given)
    recorder = Recorder(_checked(model), operations)

    def run() -> Any:
        try:
            return model(*args, **kwargs)
        except Exception as error:
            raise ForwardRaised from error

    with torch.inference_mode() if inference else nullcontext():
        found = _record(recorder, args, kwargs, reraise=False)
        if found.error is not None:
            return found
        modules = recorder.modules.by_path

        def record_again() -> Trace:
            return _record(Recorder(model, operations), args, kwargs, reraise=True)

        found.findings.extend(filter(None, [differences.changed_by_hooks(found, modules, record_again)]))
        try:
            with preserved(model):
                begun = time.perf_counter_ns()
                repeatable = differences.same_output(recorder.output, run())
                forward_ns = time.perf_counter_ns() - begun
        except ForwardRaised as raised:
            found.findings.append(differences.not_again(raised.__cause__ or raised, 0))
            recorder.output = None
            return found
        if not repeatable:
            found.findings.append(differences.other_output())
        output, recorder.output = recorder.output if prove else None, None

        def prove_findings() -> None:
            # last of all: a model may keep something of these inputs, in a way that no one can put back
            if prove:
                from tracecall.recording import proofs

                quick = forward_ns < proofs.SLOW_NS
                found.findings.extend(
                    proofs.proofs(found, recorder, (args, kwargs), output, nan=nan, compare=repeatable and quick)
                )

        if repeat == 0:
            prove_findings()
            return found
        counted = None
        with preserved(model):
            prepare = random_state(model)
            devices = _accelerators(model, args, kwargs)
            hooked = [*modules.values(), *recorder.modules.outside()]
            device_runs = _device_runs(devices, run, prepare, hooked)

            def run_to_the_end() -> None:
                run()
                for device in devices:
                    device.synchronize()

            def measure_devices() -> None:
                for one in device_runs:
                    one.time()

            samples = timing.take_samples(
                run_to_the_end if devices else run,
                prepare=prepare,
                modules=hooked,
                operations=operations != "none",
                warmup=warmup,
                repeat=repeat,
                progress=progress,
                more=measure_devices if devices else None,
            )
            ended, samples.raised = samples.raised, None  # its traceback refers to frames, they to every tensor
            if ended is None:
                for one in device_runs:
                    one.allocate()
                prepare()
                counted = flops.count_flops(run, hooked)
        if ended is None:
            prove_findings()
        else:
            found.findings.append(differences.not_again(ended, len(samples.untraced)))
            ended = None
    timing.add_times(found, samples, recorder.operation_order, recorder.modules.paths)
    if device_runs and found.timing is not None:
        from tracecall.recording.device_times import add_device_times, homes

        add_device_times(found, [one.samples for one in device_runs], recorder.modules.paths, homes(modules))
    flops.add_flops(found, counted, recorder.modules.paths)
    return found


def _accelerators(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Device]:
    """The devices, other than the CPU, that hold parameters, buffers or inputs and that torch can measure."""
    inputs = (leaf for _, leaf in values.leaves("", (args, kwargs)) if isinstance(leaf, torch.Tensor))
    tensors = [*model.parameters(), *model.buffers(), *inputs]
    found = dict.fromkeys(tensor.device for tensor in tensors if tensor.device.type not in ("cpu", "meta"))
    here = torch.accelerator.current_accelerator(check_available=True) if found else None
    if here is None:
        return []
    from tracecall.recording.devices import TorchDevice  # nothing of it on the CPU

    return [TorchDevice(device) for device in found if device.type == here.type]


def _device_runs(
    devices: list[Device], run: Callable[[], None], prepare: Callable[[], None], modules: list[nn.Module]
) -> list[DeviceRuns]:
    if not devices:
        return []
    from tracecall.recording.device_clocks import DeviceRuns

    return [DeviceRuns(device, run, prepare, modules) for device in devices]


def last_trace() -> Trace | None:
    """The Trace of the last recording in this process, also of one that an exception ended."""
    return _last


def _fill(found: Trace, recorder: Recorder) -> None:
    global _last
    if recorder.broken is not None:
        raise RuntimeError("tracecall could not record this run; the model itself ran on") from recorder.broken
    finished = recorder.trace()
    for name in Trace.__struct_fields__:
        setattr(found, name, getattr(finished, name))
    _last = found


def _generator(trace: Trace) -> Finding:
    return Finding(
        "generator",
        f"{trace.model.name}.forward returned a generator: what is in it runs as it is consumed; consume it inside "
        "`with tracecall.tracing(model)`",
    )


def predictions(output: object) -> list[Prediction]:
    """Shape of each tensor that a model returned, up to 4,096; first values of as many as a structure lists."""
    found: list[Prediction] = []
    with torch._C.DisableTorchFunction():  # what is asked of a tensor here is not for a mode of the user's
        for where, leaf in (
            values.leaves("", output, most=values.MANY) if not isinstance(output, torch.Tensor) else (("", output),)
        ):
            if isinstance(leaf, torch.Tensor):
                read = _first_values(leaf) if len(found) < values.LEAVES else []
                found.append(Prediction(where, tensor_specs.spec(leaf), read))
    return found


def _first_values(tensor: torch.Tensor) -> list[float | int | bool | str]:
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized or tensor.device.type == "meta":
        return []
    try:
        # without modes: a recording around this one must not see what is done for it
        with torch.no_grad(), _disable_current_modes():
            first = tensor.detach().reshape(-1)[:FIRST_VALUES].tolist()
    except Exception:  # a subclass may hold no numbers (a FakeTensor does not), and each says so in its own way
        return []
    return [value if isinstance(value, (bool, int, float)) else str(value) for value in first]


def _check_runs(name: str, given: object) -> None:
    if name == "repeat" and given is None:
        return
    if type(given) is not int or given < 0:
        what = "a number of runs, 0 or more" + (", or None for as many as fit" if name == "repeat" else "")
        raise TracecallError(f"{name}={values.short(given)}: it is {what}; write {name}=3")


def _checked(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        hint = "; did you mean to make an instance first?" if isinstance(model, type) else ""
        raise TracecallError(f"tracecall needs an nn.Module, got {values.short(model)} ({type(model).__name__}){hint}")
    return model
