"""MODEL as a saved program: torch.export's .pt2 with its modules back, TorchScript, and files that are no program."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tracecall
from tracecall.errors import TracecallError
from tracecall.loading import load
from tracecall.loading.specs import DEMOS

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",  # torch's own, about its tree specs
    "ignore::DeprecationWarning",  # torch.jit
    "ignore:The tensor attributes:UserWarning",  # torch.export, of nn.LSTM's flat weights
)


class Block(nn.Module):
    """A residual block that takes a scale by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x))) * scale


class Net(nn.Module):
    """Two blocks, with nested inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: dict[str, Tensor], scale: Tensor) -> dict[str, Tensor]:
        x = inputs["x"]
        for block in self.blocks:
            x = block(x, scale=scale)
        return {"scores": self.head(x), "hidden": x}


def saved(model: nn.Module, file: Path, *args: object, **kwargs: object) -> nn.Module:
    """Export a model to a file, and return it."""
    torch.export.save(torch.export.export(model.eval(), args, kwargs), file)
    return model


def fails(model: str | Path, *said: str, inputs: tuple[str, ...] = ()) -> None:
    with pytest.raises(TracecallError) as caught:
        load(str(model), inputs)
    assert "\n" not in str(caught.value)
    for one in said:
        assert one in str(caught.value)


def modules(trace: tracecall.Trace) -> list[tuple[int, str, str]]:
    return [(depth, call.path, call.type) for depth, call in trace.walk() if call.kind == "module"]


# torch.export


@pytest.mark.parametrize("demo", sorted(set(DEMOS) - {"mlp"}))
def test_a_demos_program_has_the_demos_tree(demo, tmp_path):
    """Paths, types, shapes and numbers are those of the model that was exported."""
    original = load(demo)
    saved(original.model, tmp_path / "program.pt2", *original.args, **original.kwargs)
    target = load(str(tmp_path / "program.pt2"))
    assert target.name == original.name
    with torch.inference_mode():
        recorded = tracecall.trace(target.model, *target.args, **target.kwargs)
    own = tracecall.trace(original.model, *original.args, **original.kwargs)
    if demo != "transformer":  # there, the fused path that eager takes is not the one that is exported
        assert modules(recorded) == modules(own)
    assert recorded.model.parameters == own.model.parameters
    assert [one.tensor.shape for one in recorded.prediction] == [one.tensor.shape for one in own.prediction]
    with torch.no_grad():
        expected = original.model(*original.args, **original.kwargs)
        torch.testing.assert_close(target.model(*target.args, **target.kwargs), expected)


def test_a_transformers_hierarchy_is_back(tmp_path):
    """nn.TransformerEncoder's modules stand at their paths, under their own types."""
    original = load("transformer")
    saved(original.model, tmp_path / "program.pt2", *original.args)
    target = load(str(tmp_path / "program.pt2"))
    trace = tracecall.trace(target.model, *target.args)
    types = {call.path: call.type for _, call in trace.walk() if call.kind == "module"}
    assert types["encoder.layers.1.self_attn"] == "MultiheadAttention"
    assert types["encoder.layers.0.norm2"] == "LayerNorm"


def test_each_operation_has_its_own_line(tmp_path):
    """Operations are named by torch's own names, at the lines of the program's code."""
    saved(Net(), tmp_path / "net.pt2", {"x": torch.randn(2, 8)}, scale=torch.tensor(2.0))
    target = load(str(tmp_path / "net.pt2"))
    trace = tracecall.trace(target.model, *target.args, **target.kwargs)
    block = trace.find("blocks.0")[0]
    assert [call.name for call in block.children] == [
        "first",
        "aten.relu.default",
        "second",
        "aten.mul.Tensor",
        "aten.add.Tensor",
    ]
    sites = [call.site for call in block.children]
    assert len({site.line for site in sites}) == 5
    assert {site.file for site in sites} == {"<net.pt2>"}
    assert sites[1].text == "aten.relu.default(first)"


def test_nested_and_keyword_inputs_and_outputs(tmp_path):
    """The root takes what the model took, under the names of its parameters, and gives back what it gave."""
    model = saved(Net(), tmp_path / "net.pt2", {"x": torch.randn(2, 8)}, scale=torch.tensor(2.0))
    target = load(str(tmp_path / "net.pt2"))
    assert list(target.kwargs) == ["scale"]
    given = target.model(*target.args, **target.kwargs)
    torch.testing.assert_close(given, model(*target.args, **target.kwargs))
    trace = tracecall.trace(target.model, *target.args, **target.kwargs)
    assert [value.where for value in trace.calls[0].inputs] == ["inputs['x']", "scale"]


class Odd(nn.Module):
    """A submodule called `self`, as BERT has one, and one that is called twice with different shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("self", nn.Linear(8, 8))
        self.pool = nn.MaxPool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.pool(self.get_submodule("self")(x)))


def test_odd_names_and_modules_that_are_called_twice(tmp_path):
    """The code that is run has no name in the way of another."""
    model = saved(Odd(), tmp_path / "odd.pt2", torch.randn(2, 8))
    target = load(str(tmp_path / "odd.pt2"))
    recorded, own = (tracecall.trace(one, *target.args) for one in (target.model, model))
    assert modules(recorded) == modules(own)
    torch.testing.assert_close(target.model(*target.args), model(*target.args))


def test_without_an_example_inputs_are_made_from_the_signature(tmp_path):
    """Fixed sizes are as exported; one that was left open is small."""
    batch = torch.export.Dim("batch", min=3)
    program = torch.export.export(nn.Sequential(nn.Linear(8, 4)), (torch.randn(5, 8),), dynamic_shapes=({0: batch},))
    program._example_inputs = None
    torch.export.save(program, tmp_path / "net.pt2")
    target = load(str(tmp_path / "net.pt2"))
    assert target.args[0].shape == (3, 8)
    assert "input made from the program's signature: float32[3, 8]" in target.notes
    assert load(str(tmp_path / "net.pt2"), ["7,8"]).args[0].shape == (7, 8)


def test_a_size_that_the_program_does_not_take(tmp_path):
    """It is refused where the program checks it, and the trace shows that."""
    saved(nn.Sequential(nn.Linear(8, 4)), tmp_path / "net.pt2", torch.randn(5, 8))
    target = load(str(tmp_path / "net.pt2"), ["6,8"])
    with pytest.raises(RuntimeError, match="to be equal to 5, but got 6"):
        tracecall.trace(target.model, *target.args)
    assert tracecall.last_trace().error is not None


def test_loading_leaves_the_process_as_it_was(tmp_path):
    """The guard against pickles and the silence of torch's log end with the loading."""
    from torch.export.pt2_archive import _package

    saved(nn.Sequential(nn.Linear(8, 4)), tmp_path / "net.pt2", torch.randn(5, 8))
    load(str(tmp_path / "net.pt2"))
    assert _package.pickle is pickle
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


class Bomb:
    """Something that runs code as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_in_a_program_runs_nothing(tmp_path):
    """torch.export would unpickle weights that say so; here that is an error, and the code is not run."""
    saved(nn.Sequential(nn.Linear(8, 4)), tmp_path / "good.pt2", torch.randn(5, 8))
    with (
        zipfile.ZipFile(tmp_path / "good.pt2") as good,
        zipfile.ZipFile(tmp_path / "bad.pt2", "w", zipfile.ZIP_STORED) as bad,
    ):
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("model_weights_config.json"):
                config = json.loads(content)
                for entry in config["config"].values():
                    entry["use_pickle"] = True
                content = json.dumps(config).encode()
            elif re.search(r"weights/weight_\d+$", name):
                content = pickle.dumps(Bomb(tmp_path / "ran"))
            bad.writestr(name.replace("good", "bad"), content)
    fails(tmp_path / "bad.pt2", "cannot be read as a torch.export program")
    assert not (tmp_path / "ran").exists()


# TorchScript


def scripted(file: Path) -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), file)
    return model


@pytest.mark.parametrize("name", ["model.ts", "model.pt"])
def test_torchscript_is_one_opaque_call(name, tmp_path):
    """It runs, its modules' parameters are counted at their paths, and a note says what is not seen."""
    model = scripted(tmp_path / name)
    target = load(str(tmp_path / name), ["2,8"])
    trace = tracecall.trace(target.model, *target.args)
    assert [call.opaque for _, call in trace.walk()] == ["TorchScript"]
    assert [info.type for info in trace.modules.values()] == ["Sequential", "Linear", "ReLU"]
    assert trace.modules["0"].parameters == 36
    assert trace.model.parameters == 36
    assert any("TorchScript: run as one call" in note for note in target.notes)
    torch.testing.assert_close(target.model(*target.args), model(*target.args))


def test_torchscript_needs_an_input(tmp_path):
    """It keeps no example: the message has the names that its forward takes."""
    scripted(tmp_path / "model.ts")
    fails(tmp_path / "model.ts", "its forward takes input: Tensor; type --input 1,3,28,28 with your sizes")


def test_the_command_runs_programs(tmp_path):
    """What torch says about its own torch.jit is no note about the model, and stderr stays empty."""
    scripted(tmp_path / "model.ts")
    saved(nn.Sequential(nn.Linear(8, 4)), tmp_path / "model.pt2", torch.randn(5, 8))
    for arguments, said in [
        (["model.ts", "--input", "2,8"], "TorchScript: run as one call"),
        (["model.pt2"], "input: the program's own example"),
    ]:
        command = [sys.executable, "-m", "tracecall", "run", *arguments, "--repeat", "1"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
        assert "Warning" not in done.stdout
        if arguments[0] == "model.ts":  # no line of Python is its forward
            assert "├─ forward\n" in done.stdout


def test_fake_tensors_are_not_for_programs(tmp_path):
    """TorchScript does not take them; an exported program takes them at its own sizes, without names."""
    scripted(tmp_path / "model.ts")
    saved(nn.Sequential(nn.Linear(8, 4)), tmp_path / "model.pt2", torch.randn(5, 8))
    with pytest.raises(TracecallError, match="runs on real tensors alone"):
        load(str(tmp_path / "model.ts"), ["B,8"], unmade=True)
    with pytest.raises(TracecallError, match="not for any B"):
        load(str(tmp_path / "model.pt2"), ["B,8"], unmade=True)
    assert load(str(tmp_path / "model.pt2"), unmade=True).args[0].shape == (5, 8)


# no programs


def test_weights_alone_are_no_model(tmp_path):
    """The message says how weights are given."""
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "weights.pt")
    fails(tmp_path / "weights.pt", "holds weights and no program", "path/to/file.py:Name --weights")


def test_a_pickled_model_is_not_unpickled(tmp_path):
    """A model that torch.save wrote whole is code: nothing of it is made."""
    torch.save({"model": Bomb(tmp_path / "ran")}, tmp_path / "model.pt")
    fails(tmp_path / "model.pt", "holds weights and no program")
    torch.save(Bomb(tmp_path / "ran"), tmp_path / "model.pt")
    fails(tmp_path / "model.pt", "is a whole pickled object (posix.mkdir)")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_model_is_told_from_weights_and_how_to_run_it_is_said(legacy, tmp_path, monkeypatch):
    """What the message says to write and to type does run the model."""
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Sequential(nn.Linear(8, 4)), "whole.pt", _use_new_zipfile_serialization=not legacy)
    written = "import torch; model = torch.load('whole.pt', weights_only=False)"
    kind = "torch.nn.modules.container.Sequential"
    fails("whole.pt", f"is a whole pickled object ({kind})", f"`{written}`", "type tracecall run load.py:model")
    Path("load.py").write_text(written)
    assert load("load.py:model", ["2,8"]).name == "Sequential"


def test_a_plain_pickle_is_named(tmp_path):
    """pickle's own files are no weights either."""
    for name, held in (("a.pkl", nn.Linear(2, 3)), ("b.pkl", {"a": 1}), ("c.pickle", nn.Linear(2, 3).state_dict())):
        (tmp_path / name).write_bytes(pickle.dumps(held))
    fails(tmp_path / "a.pkl", "is a whole pickled object (torch.nn.modules.linear.Linear)", "pickle.load(open(")
    fails(tmp_path / "b.pkl", "is a plain pickle (dict) and no program: save the weights with")
    fails(tmp_path / "c.pickle", "is a plain pickle (collections.OrderedDict) and no program")


@pytest.mark.parametrize("there", ["", "./"])
def test_a_program_has_no_classes_to_name(there, tmp_path, monkeypatch):
    """One of its own is no module's name, though it looks like one; weights are still said to be weights."""
    monkeypatch.chdir(tmp_path)
    saved(nn.Sequential(nn.Linear(8, 4)), Path("m.pt2"), torch.randn(5, 8))
    torch.save(nn.Linear(2, 3).state_dict(), "w.pt")
    fails(f"{there}m.pt2:Foo", "is one model and has no Foo to choose; type tracecall run " + there + "m.pt2")
    fails(f"{there}m.pt2:Foo(3)", "has no Foo to choose")
    fails(
        f"{there}w.pt:Foo",
        f"holds weights and no program: give the model and its weights: tracecall run path/to/file.py:Foo --weights {there}w.pt",
    )
    fails("./none.pt2:Foo", "'./none.pt2' does not exist")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is an empty file"),
        (b"PK\x03\x04 and no more", "is damaged or was cut off"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"hello, this is text", "is no program that torch.export.save wrote; save it again with torch.export.save("),
    ],
)
def test_files_that_hold_nothing_of_the_kind(content, said, tmp_path):
    """One line each."""
    (tmp_path / "model.pt2").write_bytes(content)
    fails(tmp_path / "model.pt2", said)


@pytest.mark.parametrize(
    ("name", "said", "advice"),
    [
        ("a.ts", "is no program that torch.jit.save wrote", "torch.jit.save(torch.jit.script(model), path)"),
        ("a.jit", "is no program that torch.jit.save wrote", "torch.jit.save(torch.jit.script(model), path)"),
        ("a.pt", "is neither weights (torch.save, safetensors) nor a saved program", "type the .py file"),
    ],
)
def test_a_model_that_is_nothing_is_said_to_be_no_program(name, said, advice, tmp_path):
    """By what the file's name promises; weights alone would be no MODEL, so that saving those is no advice."""
    (tmp_path / name).write_text("hello")
    fails(tmp_path / name, said, advice)
    with pytest.raises(TracecallError) as caught:
        load(str(tmp_path / name))
    assert "state_dict" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_the_advice_for_a_program_that_is_none_writes_one(tmp_path):
    """What it says to type."""
    for name, promised in (("a.pt2", "torch.export"), ("a.ts", "torch.jit")):
        path = tmp_path / name
        path.write_text("hello")
        with pytest.raises(TracecallError) as caught:
            load(str(path))
        typed = str(caught.value).rpartition("save it again with ")[2]
        assert typed.startswith(promised)
        exec(typed, {"torch": torch, "model": nn.Linear(4, 3), "x": torch.randn(2, 4), "path": path})
        assert load(str(path), ["2,4"]).name == "Linear"


def test_a_program_that_was_cut_off(tmp_path):
    """Half a download is an error in one line."""
    saved(nn.Sequential(nn.Linear(8, 4)), tmp_path / "net.pt2", torch.randn(5, 8))
    whole = (tmp_path / "net.pt2").read_bytes()
    (tmp_path / "net.pt2").write_bytes(whole[: len(whole) // 2])
    fails(tmp_path / "net.pt2", "is damaged or was cut off")


def test_a_zip_file_of_something_else(tmp_path):
    """A .pt2 that is only a zip file."""
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("readme.txt", "hello")
    fails(tmp_path / "net.pt2", "is a zip file, but neither weights nor a saved program")
