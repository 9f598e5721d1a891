"""Whether the times in a Trace are those of the model: `python benchmarks/accuracy.py [--repeat N]`.

For each model: the corrected total beside the control run's median; the order of the modules' times beside that of
torch.utils.benchmark, which runs each module alone on the input that it had (Spearman's rank correlation over modules
of more than 20 µs); and whether the self times add up to the total. With a CUDA device the modules' device times are
held against the sum of their kernels, which tests marked `cuda` check.
"""

import argparse
import statistics
from typing import Any

import torch
from shapes import MODELS
from torch import nn
from torch.utils.benchmark import Timer

import tracecall
from tracecall.calls import Call, Trace

LEAST_NS = 20_000


def leaf_inputs(model: nn.Module, x: torch.Tensor) -> dict[str, tuple[Any, ...]]:
    """The arguments with which each module without submodules is called first."""
    found: dict[str, tuple[Any, ...]] = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            found.setdefault(path, args)

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


def alone(module: nn.Module, args: tuple[Any, ...]) -> float:
    """The median of one module alone, in nanoseconds."""
    timer = Timer("module(*args)", globals={"module": module, "args": args}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=0.05).median * 1e9)


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


def report(name: str, repeat: int | None) -> None:
    """One model's lines."""
    model, x = MODELS[name]()
    with torch.inference_mode():
        trace = tracecall.measure(model, (x,), operations="none", repeat=repeat)
        inputs = leaf_inputs(model, x)
    assert trace.timing is not None
    root = trace.calls[0]
    total, control = root.host_ns or 0, trace.timing.untraced_ns
    print(f"\n{name}: {trace.timing.runs} runs")
    print(f"  untraced {control / 1e3:10.1f} µs   traced {trace.timing.traced_ns / 1e3:10.1f} µs")
    line(f"corrected total {total / 1e3:10.1f} µs, of the control run's median", total / control, "0.95 … 1.05")
    line("self times added up, of the total", self_sum(trace) / total, "about 1 (medians do not add up exactly)")
    calls: dict[str, Call] = {}
    for _, call in trace.walk():
        if call.path in inputs and (call.host_ns or 0) > LEAST_NS:
            calls.setdefault(call.path, call)
    if len(calls) < 3:
        print(f"  {len(calls)} modules of more than 20 µs: too few for an order")
        return
    with torch.inference_mode():
        apart = [alone(model.get_submodule(path), inputs[path]) for path in calls]
    traced = [float(call.host_ns or 0) for call in calls.values()]
    line(f"Spearman over {len(calls)} modules of more than 20 µs", spearman(traced, apart), "at least 0.95")


def line(text: str, value: float, bound: str) -> None:
    """A figure and what it should be."""
    print(f"  {text}: {value:.3f}   bound: {bound}")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=None)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in MODELS:
        report(name, options.repeat)


if __name__ == "__main__":
    main()
