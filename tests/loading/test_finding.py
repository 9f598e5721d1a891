"""MODEL to a module: what is imported, picked and built, and what is said where that fails."""

from __future__ import annotations

import inspect
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch

from tracecall.errors import TracecallError
from tracecall.loading import load

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, size=3):
        super().__init__()
        self.fc = nn.Linear(size, 2)

    def forward(self, x):
        return self.fc(x)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes files below the current folder."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return write_file


def fails(model: str, message: str, **options: str) -> TracecallError:
    with pytest.raises(TracecallError, match=re.escape(message)) as caught:
        load(model, **options)  # type: ignore[arg-type]  # device and dtype only
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_only_class_of_a_file(write):
    """Without a Name, imported classes do not count; the origin is the class's line."""
    write("net.py", "from torch.nn import ReLU\n" + NET)
    target = load("net.py")
    assert (target.name, target.origin, target.device) == ("Net", "net.py:5", "cpu")


def test_build_model_comes_first(write):
    """A file that says how its model is built is believed."""
    write("net.py", NET + "\nclass Other(Net): pass\n\ndef build_model():\n    return Net(7)\n")
    target = load("net.py")
    assert target.model.fc.in_features == 7
    assert target.origin == "net.py:4"


def test_the_only_instance_of_the_files_own_classes(write):
    """`model = Net(5)` beside the class says how it is built; a loss at the side is no model."""
    write("net.py", NET + "\nclass Block(Net): pass\nloss = nn.MSELoss()\nmodel = again = Net(5)\n")
    assert load("net.py").model.fc.in_features == 5


def test_an_instance_alone(write):
    """A file may hold nothing but an nn.Sequential; it is found in the file, not in torch."""
    write("net.py", "from torch import nn\nnet = nn.Sequential(nn.Linear(3, 4))\n")
    assert load("net.py").origin == "net.py"


def test_several_models_are_listed(write):
    """The error lists the candidates, and names one to type."""
    write("net.py", NET + "\nclass Big(Net): pass\n")
    fails(
        "net.py", "net.py has several models: Net, Big; type for example net.py:Big, or add build_model() to the file"
    )


def test_no_model_at_all(write):
    """A file without a model says what it lacks."""
    write("net.py", "x = 1\n")
    fails("net.py", "net.py has no nn.Module class, no module instance and no build_model()")


def test_names_of_every_kind(write):
    """A class, a function, an instance, a dotted name, each with arguments where it takes some."""
    write(
        "net.py",
        NET
        + "\ndef make(size, *, twice=False):\n    return Net(size * (1 + twice))\n\nnet = Net(9)\nclass A:\n    B = Net\n",
    )
    sizes = {
        name: load(f"net.py:{name}").model.fc.in_features
        for name in ("Net", "Net(4)", "make(4, twice=True)", "net", "A.B(6)")
    }
    assert list(sizes.values()) == [3, 4, 8, 9, 6]


def test_what_is_no_model(write):
    """Each wrong kind of name has its own line."""
    write("net.py", NET + "\nnet = Net()\nx = 1\nclass A: pass\ndef make(): return {}\n")
    fails("net.py:Nte", "net.py has no 'Nte'; its models: Net, net; did you mean net.py:Net?")
    fails("net.py:Zzzz", "net.py has no 'Zzzz'; its models: Net, net; type for example net.py:Net")
    fails("net.py:net(3)", "net in net.py is a module instance and takes no arguments here; type net.py:net")
    fails("net.py:x", "x in net.py is of type int; type the name of an nn.Module class")
    fails("net.py:A", "A in net.py is a class, but no nn.Module")
    fails("net.py:make", "make() in net.py returned dict, not an nn.Module; let it return the module")


def test_missing_arguments_show_the_signature(write):
    """The error shows what the class takes and what to type; what no literal can be needs a function."""
    write(
        "net.py",
        NET
        + "\nclass Sized(Net):\n    def __init__(self, a, b: int): pass\n\nclass Config: pass\nclass Configured(Net):\n    def __init__(self, config: Config): pass\n",
    )
    fails(
        "net.py:Sized(1)", "Sized(a, b): missing a required argument: 'b'; type 'net.py:Sized(a=…, b=…)' with literals"
    )
    fails(
        "net.py:Configured",
        "Configured(config): missing a required argument: 'config'; config is of type Config, which cannot be typed here:"
        " write a function that returns the module, and type path/to/file.py:function",
    )


def test_an_error_in_the_users_file_names_its_line(write):
    """File, line and exception; the original is chained."""
    write("net.py", "import torch\n\nx = 1 / 0\n")
    error = fails(
        "net.py", "importing net.py failed: net.py:3: ZeroDivisionError: division by zero; type python net.py"
    )
    assert isinstance(error.__cause__, ZeroDivisionError)
    write("syntax.py", "x = 1\ndef f(:\n")
    fails("syntax.py", "importing syntax.py failed: syntax.py:2: SyntaxError: invalid syntax")
    write("script.py", "import sys\nsys.exit(3)\n")
    fails("script.py", "script.py:2: SystemExit(3), the file ends the program when imported")
    write("needs.py", "import no_such_thing\n")
    fails(
        "needs.py",
        "needs.py:1: ModuleNotFoundError: No module named 'no_such_thing'; it must be importable by tracecall's own",
    )
    assert not {"net", "syntax", "script", "needs"} & set(sys.modules)


def test_an_error_in_the_constructor_names_the_users_line(write):
    """The line is the user's, where it can be changed, not torch's."""
    write("net.py", NET)
    fails("net.py:Net('3')", "Net('3') failed: net.py:7: TypeError: empty()")


def test_siblings_and_packages(write):
    """A file may import what lies beside it, and relatively from its package."""
    write("flat/helper_one.py", "size = 4\n")
    write("flat/net.py", "from helper_one import size\n" + NET.replace("size=3", "size=size"))
    write("pack/__init__.py", "")
    write("pack/helper_two.py", "size = 5\n")
    write("pack/net.py", "from .helper_two import size\n" + NET.replace("size=3", "size=size"))
    assert load("flat/net.py").model.fc.in_features == 4
    assert load("pack/net.py").model.fc.in_features == 5
    assert load("pack.net:Net").model.fc.in_features == 5


def test_two_folders_with_the_same_names_are_kept_apart(write):
    """Each net.py gets the utils.py of its own folder."""
    for folder, size in (("one", 4), ("two", 5)):
        write(f"{folder}/utils_of_net.py", f"size = {size}\n")
        write(f"{folder}/net.py", "from utils_of_net import size\n" + NET.replace("size=3", "size=size"))
    assert load("one/net.py").model.fc.in_features == 4
    assert load("two/net.py").model.fc.in_features == 5


@pytest.mark.parametrize("name", ["net.py", "my-net.py", "random.py", "1.2.py"])
def test_a_loaded_file_is_a_module_like_any_other(write, name):
    """sys.path is as before; pickle, inspect and dataclasses find the module, whatever the file's name."""
    import random

    write(
        name,
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        + NET
        + "\n@dataclass\nclass C:\n    a: int\n",
    )
    path = list(sys.path)
    model = load(name).model
    assert sys.path == path
    assert sys.modules["random"] is random
    assert type(pickle.loads(pickle.dumps(model))) is type(model)
    assert "self.fc(x)" in inspect.getsource(type(model))


def test_installed_modules(write):
    """`package.module:Name(args)`; the origin is told from site-packages on."""
    target = load("torch.nn:Linear(10, 5)")
    assert target.name == "Linear"
    assert re.fullmatch(r"torch/nn/modules/linear\.py:\d+", target.origin)
    fails("torch.nn:Linaer(10)", "torch.nn has no 'Linaer'; did you mean torch.nn:Linear?")
    fails("torch.nosuch:A", "MODEL names the module torch.nosuch, and 'torch.nosuch' is not importable from")
    fails("nosuch.a:A", "MODEL names the module nosuch.a, and 'nosuch' is not importable from")
    write("broken.py", "import no_such_thing\n")
    fails("broken:A", "importing broken failed: broken.py:1: ModuleNotFoundError")


def test_the_origin_of_a_demo(monkeypatch, tmp_path):
    """`models/cnn.py:N` in the checkout, `tracecall/models/cnn.py:N` elsewhere."""
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(r"tracecall/models/cnn\.py:\d+", load("cnn").origin)
    monkeypatch.chdir(Path(__file__).parents[2])
    assert re.fullmatch(r"models/cnn\.py:\d+", load("models/cnn.py:CNN").origin)


def test_the_seed_decides_the_weights():
    """0 where none is given, so that two runs are alike."""
    weights = [load("linear", seed=seed).model.linear.weight for seed in (None, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_eval_unless_train():
    """As the model will be used, unless it is said otherwise."""
    assert not load("cnn").model.training
    assert load("cnn", train=True).model.training
