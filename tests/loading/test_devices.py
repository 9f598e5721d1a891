"""--device and --dtype: resolved where they are, refused in one line where they are not."""

from __future__ import annotations

import re

import pytest
import torch

from tracecall.errors import TracecallError
from tracecall.loading import load
from tracecall.loading.devices import available_devices, dtype_name, resolve_device, resolve_dtype


@pytest.fixture
def two_gpus(monkeypatch):
    """A torch that says it has two CUDA devices, the second one current."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch):
    """A torch that finds no accelerator and is built without CUDA."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)


@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_no_cuda_is_one_line(no_gpu, name):
    """What was given, why not, what is available, what to type."""
    expected = (
        f"--device {name}: CUDA is not available here, and torch {torch.__version__} is built without it;"
        " available: cpu; type --device cpu"
    )
    with pytest.raises(TracecallError, match=f"^{re.escape(expected)}$"):
        resolve_device(name)


def test_no_mps_is_one_line(no_gpu):
    """MPS likewise."""
    with pytest.raises(
        TracecallError, match="--device mps: MPS is not available here; available: cpu; type --device cpu"
    ):
        resolve_device("mps")


def test_auto_without_an_accelerator_is_the_cpu(no_gpu):
    """auto never fails."""
    assert resolve_device("auto") == torch.device("cpu")


def test_cuda_is_the_current_device(two_gpus):
    """`cuda` resolves to a numbered device, so that the header can name it."""
    assert str(resolve_device("cuda")) == "cuda:1"
    assert str(resolve_device("cuda:0")) == "cuda:0"
    assert available_devices()[-2:] == ["cuda:0", "cuda:1"]


def test_a_number_out_of_range(two_gpus):
    """The error lists the devices that are there."""
    with pytest.raises(
        TracecallError, match=r"--device cuda:2: there is no CUDA device 2 here; available: cpu, .*cuda:1; type"
    ):
        resolve_device("cuda:2")


def test_dtype_moves_model_and_input():
    """Floating parameters and floating inputs; ids stay ids."""
    target = load("transformer", dtype="float64")
    assert {one.dtype for one in target.model.parameters()} == {torch.float64}
    assert target.args[0].dtype == torch.int64
    assert load("linear", dtype="bfloat16").args[0].dtype == torch.bfloat16


def test_names_of_dtypes():
    """There and back."""
    assert dtype_name(resolve_dtype("float16")) == "float16"


def test_a_model_without_numbers_is_one_line(tmp_path, monkeypatch):
    """A model on the meta device cannot be moved; torch's own reason is told."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meta_net.py").write_text("from torch import nn\nnet = nn.Linear(2, 2, device='meta')\n")
    with pytest.raises(TracecallError, match=r"moving Linear to cpu failed: .*Cannot copy out of meta tensor"):
        load("meta_net.py")


@pytest.mark.cuda
def test_on_cuda():
    """Model and inputs are on the device, and the target says which."""
    target = load("cnn", device="cuda")
    assert target.device == f"cuda:{torch.cuda.current_device()}"
    assert {str(one.device) for one in [*target.model.parameters(), *target.args]} == {target.device}
