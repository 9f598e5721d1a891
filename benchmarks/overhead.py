"""What tracing adds to a module call, beside a do-nothing pair of hooks and beside the peers.

    python benchmarks/overhead.py [--rounds N] [--peers]

Every variant runs once a round, in a shuffled order and in one process, each between two untraced runs: what it added
is its time over theirs, and the median of all rounds is taken, so that a machine that changes its speed does not count.
Beside each ratio stands how far it would move, were the rounds drawn anew from these (nine times of ten).
The untraced run that comes straight after a variant does not count either: it pays for what the variant has left
behind, and every variant would seem to add less than it does, the floor most of all. Untraced runs are among the
variants too, and should add nothing.
Times are of the processor, on one thread: what another program takes in between is not in them. Before each run 8 MB
are written, so that it finds the processor's nearer caches as empty as a model's only run does. The floor is a
do-nothing global forward pre-hook and forward hook; with operations, the same pair under a do-nothing
TorchDispatchMode. torchinfo, torchlens (the extra `peers`) and torch's own DebugMode and FlopCounterMode run beside
them with --peers; torchlens patches torch as it is imported, so it runs in a process of its own, beside the same floor
there: what it added is told in floors, and times the floor here.
"""

import argparse
import gc
import importlib.util
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from shapes import MODELS
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode

from tracecall.recording.clocks import Clocks
from tracecall.recording.modes import suited
from tracecall.recording.recorder import Recorder
from tracecall.recording.user_hooks import listen, stop_listening

Runs = dict[str, Callable[[], object]]
Samples = dict[str, list[float]]  # nanoseconds, by the name of the variant


class Nothing(TorchDispatchMode):
    """Runs each operation and does nothing else."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as tracecall's own mode: the compiler is not imported for it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def before(module: nn.Module, args: object) -> None:
    """Do nothing."""


def after(module: nn.Module, args: object, output: object) -> None:
    """Do nothing."""


def nobody(module: nn.Module) -> None:
    """Hear of hooks and do nothing."""


def do_nothing(model: nn.Module, x: torch.Tensor) -> None:
    """The floor: a run with a global pair of hooks."""
    handles = [
        torch_module.register_module_forward_pre_hook(before),
        torch_module.register_module_forward_hook(after),
    ]
    timed(model, x)
    for handle in handles:
        handle.remove()


def variants(model: nn.Module, x: torch.Tensor, peers: bool) -> Runs:
    """Everything that is run side by side, by name."""
    modules = list(model.modules())

    def floor() -> None:
        do_nothing(model, x)

    def floor_with_operations() -> None:
        with suited(Nothing)():  # with the compiler loaded, as by a peer, one that it skips: as tracecall's own
            do_nothing(model, x)

    def clocks() -> None:
        listen(nobody)  # as `take_samples` does for all of its runs, so that what Python forgets by it is known again
        model(x)
        empty_caches()
        with Clocks().attached(modules):
            timed(model, x)
        stop_listening(nobody)

    def recording(operations: Any) -> Callable[[], None]:
        def run() -> None:
            recorder = Recorder(model, operations)
            recorder.start()
            timed(model, x)
            recorder.stop()
            if recorder.broken is not None:
                raise recorder.broken  # a recording that gave up costs nothing

        return run

    found: Runs = {
        "untraced": lambda: timed(model, x),
        "floor": floor,
        "timing run": clocks,
        "recording, no operations": recording("none"),
        "floor with operations": floor_with_operations,
        "recording with operations": recording("forward"),
    }
    return {**found, **(peer_variants(model, x) if peers else {})}


def peer_variants(model: nn.Module, x: torch.Tensor) -> Runs:
    """The peers that can share a process with the floor; their set-up is a part of what they do, so it counts."""
    from torch.utils._debug_mode import DebugMode
    from torch.utils.flop_counter import FlopCounterMode

    def debug_mode() -> None:
        with DebugMode(record_nn_module=True):
            timed(model, x)

    def flop_counter() -> None:
        with FlopCounterMode(display=False):
            timed(model, x)

    found: Runs = {"DebugMode with modules": debug_mode, "FlopCounterMode": flop_counter}
    if importlib.util.find_spec("torchinfo"):
        import torchinfo

        found["torchinfo.summary"] = lambda: timed(
            lambda _: torchinfo.summary(model, input_data=x, verbose=0, cache_forward_pass=False), x
        )
    return found


_elapsed = 0


def timed(model: Callable[[Any], object], x: torch.Tensor) -> None:
    """Run once between two readings of the clock: attaching and detaching are not in it."""
    global _elapsed
    begun = time.thread_time_ns()
    model(x)
    _elapsed = time.thread_time_ns() - begun


def interleave(runs: Runs, rounds: int) -> Samples:
    """The untraced runs, and what each variant added to them, one a round; the first two rounds do not count."""
    gc.collect()
    gc.freeze()  # what is there already is not walked through before every run: that takes longer than the run
    untraced = runs["untraced"]
    runs = {**runs, "untraced again": untraced}
    samples: Samples = {name: [] for name in runs}
    others = [name for name in runs if name != "untraced"]
    shuffle = random.Random(0).shuffle
    before = once(untraced)
    for number in range(rounds + 2):
        shuffle(others)  # what a variant leaves behind, freed memory say, must not always meet the same one
        for name in others:
            took = once(runs[name])
            once(untraced)
            after = once(untraced)
            if number >= 2:
                samples[name].append(took - (before + after) / 2)
                samples["untraced"].append(after)
            before = after
    return samples


_SWEEP = torch.zeros(8_000_000 // 4)


def once(run: Callable[[], object]) -> int:
    """One run, after the garbage of the one before is gone, and with it what the caches held."""
    gc.collect()
    empty_caches()
    run()
    return _elapsed


def empty_caches() -> None:
    """Write 8 MB."""
    _SWEEP.add_(1)


BOUNDS = (
    ("timing run", "floor", 1.5),
    ("recording, no operations", "floor", 4.0),
    ("recording, no operations", "torchinfo.summary", 1 / 5),
    ("recording with operations", "floor with operations", 2.5),
    ("recording with operations", "DebugMode with modules", 1 / 2),
    ("recording with operations", "FlopCounterMode", 1 / 2),
    ("recording with operations", "torchlens", 1 / 100),
)


def report(name: str, calls: int, samples: Samples) -> None:
    """One model's table, and the ratios that tracecall means to keep."""
    medians = {variant: statistics.median(times) for variant, times in samples.items()}
    print(f"\n{name}: {calls:,} module calls, untraced {medians['untraced'] / 1e6:.2f} ms")
    added = {variant: time / calls / 1e3 for variant, time in medians.items() if variant != "untraced"}
    for variant, cost in added.items():
        print(f"  {variant:<28} {cost:9.2f} µs added a call")
    for ours, theirs, bound in BOUNDS:
        if theirs in added and added[theirs] > 0:
            ratio = added[ours] / added[theirs]
            low, high = interval(samples[ours], samples[theirs])
            over = "   over" if ratio > bound else ""
            print(f"  {ours} / {theirs}: {ratio:.3g} ({low:.3g} to {high:.3g})   bound {bound:.3g}{over}")


def interval(ours: list[float], theirs: list[float], times: int = 400) -> tuple[float, float]:
    """Where nine of ten such ratios of medians lie, were the rounds drawn anew from these."""
    draw = random.Random(0).choices
    found = sorted(
        statistics.median(draw(ours, k=len(ours))) / statistics.median(draw(theirs, k=len(theirs)))
        for _ in range(times)
    )
    return found[times // 20], found[-times // 20]


def torchlens_alone(name: str, rounds: int) -> float | None:
    """What torchlens adds to one model, in times of what the floor with operations adds beside it, in its process."""
    if not importlib.util.find_spec("torchlens"):
        return None
    command = [sys.executable, __file__, "--torchlens", name, "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  torchlens failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        return None
    return float(json.loads(done.stdout.splitlines()[-1]))


def run_torchlens(name: str, rounds: int) -> None:
    """The child process: few rounds of torchlens, since one takes seconds, beside all of the floor's."""
    import torchlens

    model, x = MODELS[name]()
    log = torchlens.log_forward_pass if hasattr(torchlens, "log_forward_pass") else torchlens.trace
    floor = variants(model, x, peers=False)
    both = {name: floor[name] for name in ("untraced", "floor with operations")}
    with torch.inference_mode():
        below = interleave(both, rounds)["floor with operations"]
        runs = {"untraced": floor["untraced"], "torchlens": lambda: timed(lambda _: log(model, x), x)}
        added = interleave(runs, 5)["torchlens"]
    print(json.dumps(statistics.median(added) / statistics.median(below)))


def memory_and_growth() -> None:
    """Bytes of a Trace for each call, and the cost of a call as a trace grows."""
    import tracemalloc

    print("\nlong traces (nn.Identity, no operations)")
    model, x = nn.Sequential(*(nn.Identity() for _ in range(999))).eval(), torch.zeros(1)
    for runs in (1, 10, 100):
        recorder = Recorder(model, "none")
        recorder.start()
        begun = time.perf_counter_ns()
        for _ in range(runs):
            model(x)
        each = (time.perf_counter_ns() - begun) / (runs * 1000)
        recorder.stop()
        print(f"  {runs * 1000:>7,} calls   {each / 1e3:6.2f} µs a call", end="")
        tracemalloc.start()
        recorder = Recorder(model, "none")
        recorder.start()
        for _ in range(min(runs, 10)):
            model(x)
        recorder.stop()
        trace = recorder.trace()
        del recorder
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        print(f"   {held / (min(runs, 10) * 1000):7.0f} bytes a call in the Trace" if runs < 100 else "")
        del trace


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=401)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--torchlens", metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.torchlens:
        run_torchlens(options.torchlens, options.rounds)
        return
    print(f"torch {torch.__version__}, one thread, medians of {options.rounds} rounds, time of the processor")
    for name, make in MODELS.items():
        model, x = make()
        with torch.inference_mode():
            samples = interleave(variants(model, x, options.peers), options.rounds)
        recorder = Recorder(model, "none")
        with torch.inference_mode():
            recorder.start()
            model(x)
            recorder.stop()
        calls = sum(1 for _, call in recorder.trace().walk() if call.kind == "module")
        if options.peers and (alone := torchlens_alone(name, options.rounds)) is not None:
            samples["torchlens"] = [alone * statistics.median(samples["floor with operations"])]
        report(name, calls, samples)
    with torch.inference_mode():
        memory_and_growth()


if __name__ == "__main__":
    main()
