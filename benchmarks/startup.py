"""What starting tracecall costs, beside what it cannot do without: `python benchmarks/startup.py [rounds]`.

Each line is a command beside a yardstick. Both run once a round, in turn, so that a machine that slows down slows both;
the first round only warms the file cache and is not counted. Reports medians, their ratio, and the bound to hold.
"""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PLAIN_CNN = """
import sys
sys.path.insert(0, "models")
import torch
import cnn
model, x = cnn.build_model().eval(), cnn.example_input()
with torch.inference_mode():
    print(model(*x) if isinstance(x, tuple) else model(x))
"""


@dataclass(frozen=True)
class Comparison:
    """A command of tracecall and its yardstick, both as arguments of Python. `bound` is the ratio to stay within."""

    name: str
    arguments: list[str]
    yardstick_name: str
    yardstick: list[str]
    bound: float


COMPARISONS = [
    Comparison(
        "tracecall --help", ["-m", "tracecall", "--help"], "import typer, rich", ["-c", "import typer, rich"], 1.5
    ),
    Comparison(
        "tracecall --version", ["-m", "tracecall", "--version"], "import typer, rich", ["-c", "import typer, rich"], 1.5
    ),
    Comparison("tracecall run cnn", ["-m", "tracecall", "run", "cnn"], "torch, CNN, print", ["-c", PLAIN_CNN], 1.15),
]


def main(rounds: int) -> None:
    """Measure every comparison and print them as a table."""
    print(f"medians of {rounds} rounds, seconds    Python {sys.version.split()[0]}, {os.cpu_count()} CPUs\n")
    print(f"{'command':<20} {'median':>7}   {'yardstick':<18} {'median':>7}   {'ratio':>5}   bound")
    for one in COMPARISONS:
        measured = [(seconds(one.arguments), seconds(one.yardstick)) for _ in range(rounds + 1)][1:]
        ours, theirs = (statistics.median(column) for column in zip(*measured, strict=True))
        ratio = ours / theirs
        over = "" if ratio <= one.bound else "   over"
        yardstick = f"{one.yardstick_name:<18} {theirs:7.3f}"
        print(f"{one.name:<20} {ours:7.3f}   {yardstick}   {ratio:5.2f}   {one.bound:4.2f}{over}", flush=True)


def seconds(arguments: list[str]) -> float:
    """How long `python ARGUMENTS` takes, from start to exit; it must exit with 0."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"python {' '.join(arguments)} exited with {done.returncode}:\n{done.stderr}")
    return elapsed


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
