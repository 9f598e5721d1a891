"""Whether the times in a Trace are those of the model.

    python benchmarks/accuracy.py [--rounds N] [--threads N] [--narrow]

For each model, medians of several measurements (`--rounds`), with the least and the most:

- the corrected total beside the control run's median;
- whether the self times add up to the total: in each run they do exactly, their medians do so about;
- the order of the modules' times beside that which torch.utils.benchmark gives when the module runs alone on the
  arguments that it had, over all modules of more than 20 µs, blocks as well as what they are made of (Spearman's rank
  correlation). Alone in two ways: *in a loop*, where weights and input stay in the processor's caches; and *once at a
  time*, before which as many bytes as the model's weights have gone through the caches and the input was newly made, as
  in the model. The distance between the two is the caches'. `alike as one` gives modules of equal type, configuration
  and input shapes the median of their group on both sides: they do the same work, and their order among themselves is
  noise. How much noise tells each way beside itself: its every other round beside those between.

Both kinds of running alone are interleaved with the measurements, so that a change of the machine's speed meets all.
One thread unless told otherwise: where other programs run, two threads that wait for each other measure the scheduler.
The models have their originals' widths. --narrow takes those of overhead.py, whose modules do so little that half of a
time is that of reaching weights which a loop finds in the caches. With a CUDA device the modules' device times are held
against the sum of their kernels, which tests marked `cuda` check.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from typing import Any

import torch
from shapes import MODELS, WIDE
from torch import nn
from torch.utils.benchmark import Timer

import tracecall
from tracecall.calls import Trace

LEAST_NS = 20_000

Given = tuple[tuple[Any, ...], dict[str, Any]]
Inputs = dict[str, Given]
Times = dict[str, list[float]]


def recorded_inputs(model: nn.Module, x: torch.Tensor) -> Inputs:
    """Of each module, in call order, the arguments of its first call."""
    found: Inputs = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # a copy: what follows may write into it, as nn.ReLU(inplace=True) does
            if path not in found:
                found[path] = copy.deepcopy((args, kwargs))

        return hook

    handles = [module.register_forward_pre_hook(keep(path), with_kwargs=True) for path, module in model.named_modules()]
    model(x)
    for handle in handles:
        handle.remove()
    return found


def in_a_loop(model: nn.Module, inputs: Inputs, times: Times) -> None:
    """torch.utils.benchmark's median of each module alone, in nanoseconds."""
    for path, (args, kwargs) in inputs.items():
        timer = Timer(
            "module(*args, **kwargs)",
            globals={"module": model.get_submodule(path), "args": args, "kwargs": kwargs},
            num_threads=torch.get_num_threads(),
        )
        times.setdefault(path, []).append(timer.blocked_autorange(min_run_time=0.01).median * 1e9)


def once_at_a_time(model: nn.Module, inputs: Inputs, times: Times) -> None:
    """torch.utils.benchmark's time of one run of each module alone, with the caches emptied, in nanoseconds."""
    others = torch.ones(sum(parameter.numel() for parameter in model.parameters()))
    for path, given in inputs.items():
        timer = Timer(
            "module(*args, **kwargs)",
            # Timer warms up before it measures; the setup runs again between the two
            setup="others.sum(); args, kwargs = copy.deepcopy(given)",
            globals={"module": model.get_submodule(path), "others": others, "copy": copy, "given": given},
            num_threads=torch.get_num_threads(),
        )
        times.setdefault(path, []).append(timer.timeit(1).median * 1e9)


def spearman(first: list[float], second: list[float]) -> float:
    """Spearman's rank correlation; equal values take the mean of their ranks."""
    return statistics.correlation(ranks(first), ranks(second))


def ranks(values: list[float]) -> list[float]:
    """The rank of each value, from 1."""
    ordered = sorted(values)
    return [(ordered.index(value) + 1 + len(ordered) - ordered[::-1].index(value)) / 2 for value in values]


def self_sum(trace: Trace) -> int:
    """The self times of all module calls added up."""
    return sum(call.host_self_ns or 0 for _, call in trace.walk() if call.kind == "module")


def grouped(model: nn.Module, inputs: Inputs, times: dict[str, float]) -> list[float]:
    """Each module's time, as the median of all that are configured alike and had inputs of the same shapes."""
    groups: dict[object, list[float]] = {}
    keys = {}
    for path, ns in times.items():
        module = model.get_submodule(path)
        args, kwargs = inputs[path]
        shapes = tuple(tuple(one.shape) for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor))
        keys[path] = (repr(module), shapes)
        groups.setdefault(keys[path], []).append(ns)
    return [statistics.median(groups[keys[path]]) for path in times]


def report(name: str, make: Callable[[], tuple[nn.Module, torch.Tensor]], rounds: int) -> None:
    """One model's lines."""
    model, x = make()
    traces: list[Trace] = []
    loop: Times = {}
    once: Times = {}
    with torch.inference_mode():
        inputs = recorded_inputs(model, x)
        for number in range(rounds):
            traces.append(tracecall.measure(model, (x,), operations="none"))
            if number == 0:  # modules that are nothing but a call are in no order
                inputs = {path: given for path, given in inputs.items() if median_ns(traces, path) > LEAST_NS / 2}
            in_a_loop(model, inputs, loop)
            once_at_a_time(model, inputs, once)
    times = [trace.timing for trace in traces if trace.timing is not None]
    totals = [trace.calls[0].host_ns or 0 for trace in traces]
    print(f"\n{name}: {rounds} measurements of {min(t.runs for t in times)} to {max(t.runs for t in times)} runs")
    untraced = statistics.median(one.untraced_ns for one in times)
    traced = statistics.median(one.traced_ns for one in times)
    total = statistics.median(totals)
    print(f"  untraced {untraced / 1e3:.1f} µs   traced {traced / 1e3:.1f} µs   corrected total {total / 1e3:.1f} µs")
    line(
        "corrected total, of the control run's median",
        [ns / one.untraced_ns for ns, one in zip(totals, times, strict=True)],
        "0.95 … 1.05",
    )
    line(
        "self times added up, of the total",
        [self_sum(trace) / ns for trace, ns in zip(traces, totals, strict=True)],
        "about 1 (medians do not add up exactly)",
    )
    ours = {path: ns for path in inputs if (ns := median_ns(traces, path)) > LEAST_NS}
    if len(ours) < 3:
        print(f"  {len(ours)} modules of more than 20 µs: too few for an order")
        return
    print(
        f"  Spearman over {len(ours)} modules of more than 20 µs, beside torch.utils.benchmark   bound: at least 0.95"
    )
    for label, alone_in_rounds in (("in a loop", loop), ("once at a time", once)):
        alone = {path: statistics.median(alone_in_rounds[path]) for path in ours}
        every = spearman(list(ours.values()), list(alone.values()))
        by_group = spearman(grouped(model, inputs, ours), grouped(model, inputs, alone))
        ratio = statistics.median(ours[path] / alone[path] for path in ours)
        halves = [[statistics.median(alone_in_rounds[path][half::2]) for path in ours] for half in (0, 1) if rounds > 1]
        itself = f"   beside itself {spearman(*halves):.3f}" if halves else ""
        print(f"    alone {label:15s} {every:.3f}   alike as one {by_group:.3f}{itself}", end="")
        print(f"   in the model / alone, median {ratio:.2f}")


def median_ns(traces: list[Trace], path: str) -> float:
    """A module's first call, the median over the measurements."""
    return statistics.median(next(iter(trace.find(path))).host_ns or 0 for trace in traces)


def line(text: str, values: list[float], bound: str) -> None:
    """A figure's median, least and most, and what it should be."""
    print(f"  {text}: {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})   bound: {bound}")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--narrow", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, threads: {options.threads}")
    for name, make in (MODELS if options.narrow else WIDE).items():
        report(name, make, options.rounds)


if __name__ == "__main__":
    main()
