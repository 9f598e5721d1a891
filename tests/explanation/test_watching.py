"""What the interpreter saw, and that its profile function is put back."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from tests.explanation.models import Net, X
from tracecall.explanation.watching import Function, _c_name, watch


def test_forward_is_seen_with_its_arguments_and_result() -> None:
    model = Net()
    watched = watch(lambda: model(X), Function(Net.forward.__code__, model))
    assert watched.forward is not None
    assert watched.given[1] is X
    assert watched.forward_returned is watched.output


def test_a_c_function_has_the_name_that_users_write() -> None:
    """Not how pybind11 names what it keeps beside it."""

    class Operation:
        __module__ = "torch._ops.quantized"
        __qualname__ = "pybind11_detail_function_record_v1_abi_1.linear_dynamic"

    assert _c_name(Operation) == "torch.ops.quantized.linear_dynamic"
    assert _c_name(torch.conv2d) == "torch.conv2d"


def test_another_model_s_forward_is_not_the_root_s() -> None:
    model, other = Net(), Net()
    assert watch(lambda: other(X), Function(Net.forward.__code__, model)).forward is None


def test_the_user_s_profile_function_is_put_back() -> None:
    """Also after an exception."""

    def mine(frame: Any, event: str, arg: Any) -> None:
        return None

    model = Net()
    sys.setprofile(mine)
    try:
        watch(lambda: model(X), Function(Net.forward.__code__, model))
        after = sys.getprofile()
        with pytest.raises(RuntimeError):
            watch(lambda: model(torch.ones(1, 9)), Function(Net.forward.__code__, model))
        raised = sys.getprofile()
    finally:
        sys.setprofile(None)
    assert after is mine
    assert raised is mine
