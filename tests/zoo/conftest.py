"""What every test of the zoo proves besides its own rule: a recording leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

REGISTERING = ("register_forward_pre_hook", "register_forward_hook")


def state() -> list[tuple[str, Any]]:
    """Torch's global hook tables, its modes and Python's recursion limit, as they are now."""
    tables = [
        (name, dict(table))
        for name, table in sorted(vars(torch_module).items())
        if name.startswith("_global_") and isinstance(table, dict)
    ]
    return [
        *tables,
        ("dispatch modes", torch._C._len_torch_dispatch_stack()),
        ("function modes", torch._C._len_torch_function_stack()),
        ("recursion limit", sys.getrecursionlimit()),
        ("profile function", sys.getprofile()),
        ("nn.Module's methods", [vars(nn.Module)[name] for name in REGISTERING]),
    ]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Hook tables, modes and the recursion limit are after each test as before it."""
    before, limit = state(), sys.getrecursionlimit()
    yield
    after = state()
    sys.setrecursionlimit(limit)
    assert after == before
