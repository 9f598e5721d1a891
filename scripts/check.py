"""Everything that must hold before a change lands, in one command: `python scripts/check.py`.

Runs ruff's format and rules, mypy --strict, import-linter and pytest, each to its end, then says in a line each how it
went. Exits 1 if any failed.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHECKS = {
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "ruff check": ["-m", "ruff", "check", "."],
    "mypy --strict": ["-m", "mypy"],
    # import-linter has no `python -m`; its script may not be on PATH. Its cache outlives a renamed module.
    "import-linter": [
        "-c",
        "from importlinter.cli import lint_imports_command as main; main(['--no-logo', '--no-cache'])",
    ],
    "pytest": ["-m", "pytest"],
}


def main() -> int:
    """Run every check; 0 if all hold, 1 otherwise."""
    summary = []
    failed = False
    for name, arguments in CHECKS.items():
        print(f"── {name}", flush=True)
        start = time.perf_counter()
        status = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode
        failed = failed or status != 0
        result = "ok" if status == 0 else f"FAILED (exit status {status})"
        summary.append(f"{name:<14} {time.perf_counter() - start:6.1f} s   {result}")
        print(flush=True)
    print("── summary", *summary, sep="\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
