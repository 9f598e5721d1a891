"""The demos: what they take, what they return, and that they stand alone."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tracecall.loading.finding import import_file, importable

MODELS = Path(__file__).parent.parent / "models"
FILES = {
    # file: class, shape in, shape out, parameters
    "linear": ("LinearRegressionModel", (1, 10), (1, 1), 11),
    "feedforward": ("FeedforwardNetwork", (1, 20), (1, 2), 20 * 50 + 50 + 50 * 2 + 2),
    "cnn": ("CNN", (1, 3, 28, 28), (1, 10), 194_578),
    "rnn": ("SequenceClassifier", (1, 16, 8), (1, 4), 5_508),
    "transformer": ("TextClassifier", (1, 16), (1, 2), 139_266),
}


def demo(name: str) -> ModuleType:
    file = MODELS / f"{name}.py"
    with importable(file):
        return import_file(file)


@pytest.mark.parametrize("name", FILES)
def test_a_demo_runs_on_its_own_example(name):
    """build_model() takes example_input(), and gives the documented shape."""
    class_name, shape_in, shape_out, parameters = FILES[name]
    module = demo(name)
    model, x = module.build_model().eval(), module.example_input()
    with torch.inference_mode():
        assert model(x).shape == shape_out
    assert type(model).__name__ == class_name
    assert x.shape == shape_in
    assert sum(one.numel() for one in model.parameters()) == parameters


@pytest.mark.parametrize("name", FILES)
def test_a_demo_takes_any_batch(name):
    """Nothing in forward fixes the batch size."""
    module = demo(name)
    x = module.example_input()
    assert module.build_model()(x.expand(3, *x.shape[1:])).shape[0] == 3


@pytest.mark.parametrize("name", FILES)
def test_a_demo_knows_nothing_of_tracecall(name):
    """A demo is code that a learner could have written."""
    lines = [line for line in (MODELS / f"{name}.py").read_text(encoding="utf-8").splitlines() if "import " in line]
    assert lines and all("torch" in line for line in lines)


def test_the_arguments_of_feedforward_are_its_sizes():
    """As in 'models/feedforward.py:FeedforwardNetwork(20, 64, 3)'."""
    model = demo("feedforward").FeedforwardNetwork(20, 64, 3)
    assert (model.fc1.out_features, model.fc2.out_features) == (64, 3)


def test_the_transformer_takes_the_fused_path():
    """In eval mode each encoder layer is one operation on the CPU, and nothing warns of a lost fast path."""

    class Operations(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen.append(str(func))
            return func(*args, **(kwargs or {}))

    module = demo("transformer")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = module.build_model().eval()
        with torch.inference_mode(), Operations() as operations:
            model(module.example_input())
    assert operations.seen.count("aten._transformer_encoder_layer_fwd.default") == 2


def test_importing_the_package_of_the_demos_costs_nothing():
    """`models/__init__.py` does not import torch."""
    code = "import sys, models; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=MODELS.parent, check=True)
