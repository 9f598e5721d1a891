"""Whether the times in a Trace are those of the model.

    python benchmarks/accuracy.py [--rounds N] [--threads N] [--narrow]

For each model, medians of several measurements (`--rounds`), with the least and the most:

- the corrected total beside the control run's median;
- whether the self times add up to the total: in each run they do exactly, their medians do so about;
- the order of the modules' times beside that of each module alone on the input that it had, over modules of more than
  20 µs (Spearman's rank correlation). Alone in two ways: in a loop by torch.utils.benchmark, where weights, input and
  code stay in the processor's caches; and called once a round after all other modules, in the order of the model's
  calls, as cold as in the model. The first is the yardstick that the project named; the second tells how much of the
  distance to it is the caches'. `alike as one` gives modules of equal type, configuration and input shapes the median
  of their group on both sides: they do the same work, and their order among themselves is noise. How much noise tells
  the loop itself: its every other round beside those between.

Both kinds of running alone are interleaved with the measurements, so that a change of the machine's speed meets all.
One thread unless told otherwise: where other programs run, two threads that wait for each other measure the scheduler.
The models have their originals' widths. --narrow takes those of overhead.py, whose modules do so little that half of a
time is that of reaching weights which a loop finds in the caches. With a CUDA device the modules' device times are held
against the sum of their kernels, which tests marked `cuda` check.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from shapes import MODELS, WIDE
from torch import nn
from torch.utils.benchmark import Timer

import tracecall
from tracecall.calls import Trace

LEAST_NS = 20_000
PASSES = 10  # of all modules in the model's order, a round

Inputs = dict[str, tuple[Any, ...]]
Times = dict[str, list[float]]


def leaf_inputs(model: nn.Module, x: torch.Tensor) -> Inputs:
    """Of each module without submodules, in call order, the arguments of its first call."""
    found: Inputs = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            # a copy: what follows may write into it, as nn.ReLU(inplace=True) does
            found.setdefault(path, tuple(one.clone() if isinstance(one, torch.Tensor) else one for one in args))

        return hook

    handles = [
        module.register_forward_pre_hook(keep(path))
        for path, module in model.named_modules()
        if path and not list(module.children())
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return found


def in_a_loop(model: nn.Module, inputs: Inputs, times: Times) -> None:
    """torch.utils.benchmark's median of each module alone, in nanoseconds."""
    for path, args in inputs.items():
        timer = Timer(
            "module(*args)",
            globals={"module": model.get_submodule(path), "args": args},
            num_threads=torch.get_num_threads(),
        )
        times.setdefault(path, []).append(timer.blocked_autorange(min_run_time=0.01).median * 1e9)


def in_model_order(model: nn.Module, inputs: Inputs, times: Times) -> None:
    """Each module alone, once a pass, with nothing attached."""
    modules = [(path, model.get_submodule(path), args) for path, args in inputs.items()]
    for _ in range(PASSES):
        for path, module, args in modules:
            begun = time.perf_counter_ns()
            module(*args)
            times.setdefault(path, []).append(time.perf_counter_ns() - begun)


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
        shapes = tuple(tuple(one.shape) for one in inputs[path] if isinstance(one, torch.Tensor))
        keys[path] = (type(module), module.extra_repr(), shapes)
        groups.setdefault(keys[path], []).append(ns)
    return [statistics.median(groups[keys[path]]) for path in times]


def report(name: str, make: Callable[[], tuple[nn.Module, torch.Tensor]], rounds: int) -> None:
    """One model's lines."""
    model, x = make()
    traces: list[Trace] = []
    loop: Times = {}
    ordered: Times = {}
    with torch.inference_mode():
        inputs = leaf_inputs(model, x)
        for number in range(rounds):
            traces.append(tracecall.measure(model, (x,), operations="none"))
            if number == 0:  # modules that are nothing but a call are in no order
                inputs = {path: args for path, args in inputs.items() if median_ns(traces, path) > LEAST_NS / 2}
            in_a_loop(model, inputs, loop)
            in_model_order(model, inputs, ordered)
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
    print(f"  Spearman over {len(ours)} modules of more than 20 µs   bound: at least 0.95")
    halves = [[statistics.median(loop[path][half::2]) for path in ours] for half in (0, 1) if rounds > 1]
    if halves:
        print(f"    torch.utils.benchmark beside itself      {spearman(*halves):.3f}   every other round")
    for label, times_alone in (
        ("alone in a loop (torch.utils.benchmark)", loop),
        ("alone in the model's order", ordered),
    ):
        alone = {path: statistics.median(times_alone[path]) for path in ours}
        every = spearman(list(ours.values()), list(alone.values()))
        by_group = spearman(grouped(model, inputs, ours), grouped(model, inputs, alone))
        ratio = statistics.median(ours[path] / alone[path] for path in ours)
        print(f"    {label:40s} {every:.3f}   alike as one {by_group:.3f}   in the model / alone, median {ratio:.2f}")


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
