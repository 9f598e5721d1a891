"""What a saved trace costs: `python benchmarks/files.py [rounds]`.

Saves, loads, folds and shows traces of 1,000, 10,000 and 100,000 calls: what a decoder of 32 blocks makes as it
generates 2, 20 and 200 tokens. Then shows a trace of 10,001 calls in which nothing folds, the most there is to show.
The traces are made by hand, with the shapes, sources and lines that a recording has.
Each number is the median of the rounds, each in a process of its own, which says its peak memory; `least` is the least
of them. The commands run from compiled bytecode, as they do where tracecall is installed, whatever
PYTHONDONTWRITEBYTECODE says here. Each stands beside a process that only imports what such a command is made of, typer
and rich: `ratio` is the median of the two's, which changes little with the machine's speed.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tracecall.calls import Call, Environment, ModelInfo, ModuleInfo, Settings, Site, TensorSpec, Timing, Trace, Value

ROOT = Path(__file__).resolve().parent.parent
BLOCKS, HIDDEN = 32, 512
TOKENS = (2, 20, 200)
UNALIKE = 2500  # blocks of four calls
WIDEST = 97
COLOURS = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}


def generated(tokens: int) -> Trace:
    """The trace of a decoder that generates some tokens: 500 calls for each."""
    noise = random.Random(0)
    times = TracedCalls(noise)
    decoder = [times.decoder(length) for length in range(16, 16 + tokens)]
    total = sum(call.host_ns or 0 for call in decoder)
    out = [Value("", TensorSpec((1, 16 + tokens), "int64", "cpu"))]
    root = Call("module", "", "Generator", "Generator", [], out, host_ns=total, host_self_ns=0, children=decoder)
    return Trace(
        ModelInfo("Generator", "generator.py:9", 100_000_000, 100_000_000),
        Environment("2.13.0", "3.11"),
        settings=Settings("inference", seed=0),
        modules=dict(times.modules),
        calls=[root],
        timing=Timing(total, total, runs=3),
    )


class TracedCalls:
    """Calls of one decoder, with the times of a steady machine and every module that they are of."""

    def __init__(self, noise: random.Random) -> None:
        self._noise = noise
        self.modules = {"": ModuleInfo("", "Generator", state="called")}

    def decoder(self, length: int) -> Call:
        """One run of the decoder for a text of some length: 500 calls."""
        blocks = [self._block(f"decoder.blocks.{i}", f"blocks.{i}", length) for i in range(BLOCKS)]
        parts = [
            self._call("decoder.embed", "embed", "Embedding", length, "input ids"),
            *blocks,
            self._call("decoder.norm", "norm", "LayerNorm", length, f"blocks.{BLOCKS - 1}"),
            self._call("decoder.head", "head", "Linear", length, "norm"),
        ]
        parts += [self._operation("decoder", name, length) for name in ("x.argmax", "torch.cat", "x.view", "x.add") * 4]
        return self._call("decoder", "decoder", "Decoder", length, "input ids", parts)

    def _block(self, path: str, name: str, length: int) -> Call:
        attention = [
            *(self._call(f"{path}.attention.{one}", one, "Linear", length, "norm1") for one in ("q", "k", "v")),
            *(self._operation(f"{path}.attention", f"q.{one}", length) for one in ("view", "transpose")),
            self._operation(f"{path}.attention", "F.scaled_dot_product_attention", length),
            self._call(f"{path}.attention.out", "out", "Linear", length, "F.scaled_dot_product_attention"),
        ]
        return self._call(
            path,
            name,
            "Block",
            length,
            "embed",
            [
                self._call(f"{path}.norm1", "norm1", "LayerNorm", length, "input x"),
                self._call(f"{path}.attention", "attention", "Attention", length, "norm1", attention),
                self._operation(path, "x + a", length),
                self._call(f"{path}.norm2", "norm2", "LayerNorm", length, "x + a"),
                self._call(f"{path}.up", "up", "Linear", length, "norm2"),
                self._call(f"{path}.down", "down", "Linear", length, "up"),
                self._operation(path, "x + h", length),
            ],
        )

    def _call(
        self, path: str, name: str, kind: str, length: int, source: str, inside: list[Call] | None = None
    ) -> Call:
        info = ModuleInfo(path, kind, state="called", parameters=262_656, trainable=262_656, parameter_bytes=1_050_624)
        self.modules.setdefault(path, info)
        took = self._noise.randint(90_000, 110_000) if not inside else 20_000
        return Call(
            "module",
            path,
            name,
            kind,
            [Value("x", TensorSpec((1, length, HIDDEN), "float32", "cpu"), source)],
            [Value("", TensorSpec((1, length, HIDDEN), "float32", "cpu"))],
            Site("generator.py", 24, 13, f"self.{name}(x)", "forward"),
            host_ns=took + sum(call.host_ns or 0 for call in inside or []),
            host_self_ns=took,
            samples=3,
            spread_ns=2_000,
            flops=2 * length * HIDDEN * HIDDEN,
            output_bytes=4 * length * HIDDEN,
            children=inside or [],
        )

    def _operation(self, path: str, name: str, length: int) -> Call:
        return Call(
            "operation",
            path,
            name,
            "aten.view",
            [Value("x", TensorSpec((1, length, HIDDEN), "float32", "cpu"), "norm1")],
            [Value("", TensorSpec((1, length, HIDDEN), "float32", "cpu"))],
            Site("generator.py", 31, 9, f"{name}(1, n, -1)", "forward"),
            operations={"aten.view": 1},
        )


def unalike(blocks: int) -> Trace:
    """The trace of blocks of two nn.Linear and an nn.ReLU, all of random widths: four calls for each, none repeats."""
    widths = random.Random(0)
    modules = {"": ModuleInfo("", "Net", state="called")}

    def call(path: str, kind: str, takes: int, gives: int, source: str, inside: list[Call] | None = None) -> Call:
        own = takes * gives + gives if kind == "Linear" else 0
        modules[path] = ModuleInfo(path, kind, state="called", parameters=own, trainable=own, parameter_bytes=4 * own)
        return Call(
            "module",
            path,
            path,
            kind,
            [Value("input", TensorSpec((1, takes), "float32", "cpu"), source)],
            [Value("", TensorSpec((1, gives), "float32", "cpu"))],
            Site("torch/nn/modules/container.py", 250, 21, "module(input)", "Sequential.forward"),
            host_ns=30_000 + takes * gives if not inside else 20_000 + sum(one.host_ns or 0 for one in inside),
            host_self_ns=20_000,
            samples=3,
            spread_ns=2_000,
            flops=2 * takes * gives,
            output_bytes=4 * gives,
            children=inside or [],
        )

    made = []
    gives = widths.randint(1, WIDEST)
    for i in range(blocks):
        takes, hidden, gives = gives, widths.randint(1, WIDEST), widths.randint(1, WIDEST)
        parts = [
            call(f"{i}.0", "Linear", takes, hidden, "input input"),
            call(f"{i}.1", "ReLU", hidden, hidden, f"{i}.0"),
            call(f"{i}.2", "Linear", hidden, gives, f"{i}.1"),
        ]
        made.append(call(str(i), "Sequential", takes, gives, f"{i - 1}" if i else "input input", parts))
    total = sum(one.host_ns or 0 for one in made)
    root = Call("module", "", "Net", "Net", made[0].inputs, made[-1].output, host_ns=total, children=made)
    return Trace(
        ModelInfo("Net", "net.py:9", 6_000_000, 6_000_000),
        Environment("2.13.0", "3.11"),
        settings=Settings("inference", seed=0),
        modules=modules,
        calls=[root],
        timing=Timing(total, total, runs=3),
    )


def measured(what: str, tokens: int, folder: Path) -> dict[str, float]:
    """One measurement in this process: seconds, and what else there is to say about it."""
    file = folder / f"{tokens}.json{'.gz' if what.endswith('.gz') else ''}"
    if what.startswith("save"):
        trace = generated(tokens)
        start = time.perf_counter()
        trace.save(file)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "calls": sum(1 for _ in trace.walk()), "bytes": file.stat().st_size}
    from tracecall.tracefile import load

    start = time.perf_counter()
    trace = load(file)
    seconds = time.perf_counter() - start
    if what == "fold":
        from tracecall.folding import folded

        start = time.perf_counter()
        folded(trace)
        seconds = time.perf_counter() - start
    return {"seconds": seconds}


def in_process(*arguments: str, **more: str) -> dict[str, float]:
    """Run Python once; returns its wall time, its peak memory, and what it printed as JSON, if it did.

    `more` are variables of its environment.
    """
    env = {**os.environ, "COLUMNS": "80", **more}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None and run.stderr is not None
        out, error = run.stdout.read(), run.stderr.read()
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode != 0:
        raise SystemExit(f"python {' '.join(arguments)} exited with {run.returncode}:\n{error.decode()}")
    wall = time.perf_counter() - start
    said = json.loads(out) if out.startswith(b'{"seconds"') else {}
    return {"seconds": wall, **said, "peak": usage.ru_maxrss * 1024}


def main(rounds: int) -> None:
    """Measure everything at every size and print it as a table."""
    print(f"medians of {rounds} rounds    Python {sys.version.split()[0]}, {os.cpu_count()} CPUs\n")
    figures = f"{'seconds':>7} {'least':>6}  {'µs a call':>9}  {'peak MB':>7}  {'file MB':>7}  ratio"
    print(f"{'calls':>8}  {'what':<42} {figures}")
    with tempfile.TemporaryDirectory() as folder:
        for tokens in TOKENS:
            calls, file = 0.0, str(Path(folder) / f"{tokens}.json")
            for what in ("save", "save .gz", "load", "load .gz", "fold"):
                rows = [in_process(__file__, "--one", what, str(tokens), folder) for _ in range(rounds)]
                calls = rows[0].get("calls", calls)
                report(calls, what, rows)
            shown(calls, file, "show", VIEWS, rounds)
        trace, file = unalike(UNALIKE), str(Path(folder) / "unalike.json")
        trace.save(file)
        shown(sum(1 for _ in trace.walk()), file, "show, nothing folds", UNALIKE_VIEWS, rounds)


Views = tuple[tuple[str, list[str], dict[str, str]], ...]
VIEWS: Views = (
    ("", [], {}),
    (" --no-fold", ["--no-fold"], {}),
    (" --no-fold, in colours", ["--no-fold"], COLOURS),
    (" --no-fold --explain", ["--no-fold", "--explain"], {}),
    (" --sort time", ["--sort", "time"], {}),
    (" --depth 2", ["--depth", "2"], {}),
)
UNALIKE_VIEWS: Views = (
    ("", [], {}),
    (": --no-fold", ["--no-fold"], {}),
    (": --depth 2", ["--depth", "2"], {}),
    (": --explain", ["--explain"], {}),
)


def shown(calls: float, file: str, what: str, views: Views, rounds: int) -> None:
    """Measure and report what it takes to show a file in several views: their names, options and environments."""
    bytecode = {"PYTHONPYCACHEPREFIX": str(Path(file).parent / "bytecode")}
    for name, options, more in views:
        command = ("-m", "tracecall", "show", file, *options)
        in_process(*command, **bytecode, **more)  # compiles what it imports
        rows = []
        for _ in range(rounds):
            beside = in_process("-c", "import typer, rich.console", **bytecode)["seconds"]
            row = in_process(*command, **bytecode, **more)
            rows.append({**row, "ratio": row["seconds"] / beside})
        report(calls, f"tracecall {what}{name}", rows)


def report(calls: float, what: str, rows: list[dict[str, float]]) -> None:
    """Print one line of the table."""
    seconds = statistics.median(row["seconds"] for row in rows)
    least = min(row["seconds"] for row in rows)
    peak = max(row["peak"] for row in rows) / 1e6
    size = f"{rows[0]['bytes'] / 1e6:.1f}" if "bytes" in rows[0] else ""
    ratio = f"{statistics.median(row['ratio'] for row in rows):.2f}" if "ratio" in rows[0] else ""
    figures = f"{seconds:7.3f} {least:6.3f}  {seconds / calls * 1e6:9.2f}  {peak:7.0f}  {size:>7}  {ratio:>5}"
    print(f"{calls:8,.0f}  {what:<42} {figures}".rstrip(), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
