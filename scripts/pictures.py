"""Draws the pictures in docs/ from real runs: `python scripts/pictures.py`.

Each is what the command prints on a terminal of WIDTH columns, as an SVG exported by rich. The times are those of the
machine that ran it.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 110  # columns: GitHub shows the README about this wide

PICTURES = {
    "cnn": ["run", "cnn"],
    "cnn-does-not-fit": ["run", "cnn", "--input", "1,3,32,32"],
    "explain-linear": ["explain", "linear"],
}


def main() -> None:
    """Draw every picture of PICTURES."""
    folder = ROOT / "docs"
    folder.mkdir(exist_ok=True)
    for name, arguments in PICTURES.items():
        path = folder / f"{name}.svg"
        command = "tracecall " + " ".join(arguments)
        path.write_text(svg(terminal_output(arguments), title=command, name=name), encoding="utf-8")
        print(f"{path.relative_to(ROOT)}   {command}")


def terminal_output(arguments: list[str]) -> str:
    """What `tracecall ARGUMENTS` writes to a terminal of WIDTH columns, ANSI escapes included."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    environment |= {"PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "tracecall", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode not in (0, 1):  # 1 is a model whose forward failed: worth a picture
        raise SystemExit(f"tracecall {' '.join(arguments)} exited with {done.returncode}")
    return done.stdout


def svg(output: str, *, title: str, name: str) -> str:
    """ANSI text as an SVG of a terminal. `name` keeps the ids inside it the same from run to run."""
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(Text.from_ansi(output.rstrip("\n")), soft_wrap=True)
    return console.export_svg(title=title, unique_id=name)


if __name__ == "__main__":
    main()
