"""A Trace as the last value of a notebook's cell: the tree as HTML, in a notebook that is really run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
MISSING = [name for name in ("nbclient", "nbformat", "ipykernel") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

# In a process of its own: what Jupyter warns of as it starts is not ours.
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in sys.argv[2:]])
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""
MAKE = """
import torch, tracecall
from torch import nn
trace = tracecall.trace(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), torch.randn(2, 8))
"""


def outputs(folder: Path, *cells: str) -> list[list[dict[str, Any]]]:
    """What each cell of a notebook put out, once it was run."""
    file = folder / "run.ipynb"
    own = {name: str(folder / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")}
    environment = os.environ | own | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, file, *cells],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [cell["outputs"] for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]]


def test_a_trace_shows_its_tree_and_prints_it(tmp_path: Path) -> None:
    """As the last value it is HTML, with plain text beside it for who shows none; print() has the terminal's tree."""
    made, shown, printed = outputs(tmp_path, MAKE, "trace", "print(trace)")
    assert made == []
    (value,) = shown
    html = "".join(value["data"]["text/html"])
    assert "<details" in html
    assert "<script" not in html
    for name in ("Sequential.__call__", "Linear", "[2, 8] → [2, 4]", "ReLU"):
        assert name in html
    assert "".join(value["data"]["text/plain"]).startswith("<Trace of Sequential: ")
    assert "Sequential.__call__" in "".join(printed[0]["text"])
