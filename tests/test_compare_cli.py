"""`tracecall diff` and `tracecall compare` as commands: what they print, their exit statuses and one-line refusals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.test_cli import ROOT, Command, tracecall
from tests.test_startup import imported_by
from tests.views.traces import cnn
from tracecall import tracefile
from tracecall.calls import Site
from tracecall.loading import load
from tracecall.loading.devices import available_devices

__all__ = ["tracecall"]  # the fixture

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, {classes})

    def forward(self, x):
        return self.two({between}(self.one(x)))

def build_model():
    return Net()

def example_input():
    return torch.randn(5, 4)
"""


@pytest.fixture
def nets(tmp_path: Path) -> tuple[str, str]:
    """Two files that differ in one operation."""
    for name, between in (("relu", "torch.relu"), ("gelu", "nn.functional.gelu")):
        (tmp_path / f"{name}.py").write_text(NET.format(classes=3, between=between))
    return str(tmp_path / "relu.py"), str(tmp_path / "gelu.py")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Two traces, the second with a Linear of another size."""
    before, after = cnn(), cnn()
    after.modules["fc2"].parameters = 99
    for name, trace in (("a", before), ("b", after)):
        tracefile.save(trace, tmp_path / f"{name}.json")
    return str(tmp_path / "a.json"), str(tmp_path / "b.json")


# diff


def test_diff_says_1_where_something_changed(tracecall: Command, files: tuple[str, str]) -> None:
    """And shows it."""
    done = tracecall("diff", *files)
    assert (done.status, done.err) == (1, "")
    assert "parameters  1,210 → 99" in done.out


def test_diff_says_0_where_nothing_changed(tracecall: Command, files: tuple[str, str]) -> None:
    """A trace and itself."""
    done = tracecall("diff", files[0], files[0])
    assert (done.status, done.err) == (0, "")
    assert "nothing changed" in done.out


@pytest.mark.parametrize("arguments", [("nothere.json",), ("README.md",)])
def test_diff_of_what_is_no_trace_is_one_line(
    tracecall: Command, files: tuple[str, str], arguments: tuple[str]
) -> None:
    """Exit status 2."""
    done = tracecall("diff", files[0], *arguments)
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)


def test_diff_never_imports_torch(files: tuple[str, str]) -> None:
    """Files are read without it."""
    assert not {"torch", "numpy"} & imported_by("-m", "tracecall", "diff", files[0], files[0])


def test_the_help_says_how_a_time_is_judged(tracecall: Command) -> None:
    """And what the exit status means."""
    words = " ".join(tracecall("diff", "--help").out.split())
    assert "medians ± their interquartile ranges, of at least 5 runs each, are more than 10 % apart" in words
    assert "times alone never make the exit status 1" in words


def test_diff_of_two_recorded_models(tracecall: Command, tmp_path: Path) -> None:
    """The CNN before and after conv2 got other channels, each run and saved."""
    source = (ROOT / "models" / "cnn.py").read_text()
    assert "nn.Conv2d(16, 32," in source
    (tmp_path / "wide.py").write_text(
        source.replace("nn.Conv2d(16, 32,", "nn.Conv2d(16, 48,").replace("32 * 7", "48 * 7")
    )
    for model, name in (("cnn", "a"), (str(tmp_path / "wide.py"), "b")):
        assert tracecall("run", model, "--repeat", "0", "--save", str(tmp_path / f"{name}.json")).status == 0
    done = tracecall("diff", str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    assert done.status == 1
    lines = [line.rstrip() for line in done.out.splitlines()]
    assert "→ ├─ conv2   Conv2d" in lines
    assert "  │     output shape  [1, 32, 14, 14] → [1, 48, 14, 14]" in lines
    assert "  │     parameters    4,640 → 6,960" in lines
    assert "  ├─ conv1   Conv2d" in lines


def test_diff_as_json(tracecall: Command, files: tuple[str, str]) -> None:
    """The same exit status; nothing but the JSON."""
    for pair, status in ((files, 1), ((files[0], files[0]), 0)):
        done = tracecall("diff", *pair, "--json", "--depth", "0", "--ops", "none")
        assert (done.status, done.err) == (status, "")
        found = json.loads(done.out)
        assert found["changed"] == bool(status)
        assert len(found["calls"]) == 11


def test_diff_as_json_of_a_file_whose_name_is_no_unicode(tracecall: Command, files: tuple[str, str]) -> None:
    """JSON can escape half a character."""
    odd = files[0] + "\udcff"
    Path(files[0]).rename(odd)
    done = tracecall("diff", odd, odd, "--json")
    assert (done.status, json.loads(done.out)["files"]) == (0, [odd, odd])


DEEP = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(size), nn.Linear(size, size)

    def forward(self, x):
        return x + torch.relu(self.fc(self.norm(x)))

class Deep(nn.Module):
    def __init__(self, size=16, count=24):
        super().__init__()
        self.layers = nn.ModuleList(Block(size) for _ in range(count))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
"""


@pytest.fixture
def deep(tmp_path: Path) -> str:
    """A file with a model of 24 layers."""
    (tmp_path / "deep.py").write_text(DEEP)
    return str(tmp_path / "deep.py")


@pytest.fixture
def depths(tracecall: Command, deep: str, tmp_path: Path) -> tuple[str, str]:
    """Two traces of it, the second with layers of another size."""
    for name, size in (("a", 16), ("b", 12)):
        saved = str(tmp_path / f"{name}.json")
        arguments = (f"{deep}:Deep({size})", "--input", f"2,{size}", "--repeat", "0", "--save", saved)
        assert tracecall("run", *arguments).status == 0
    return str(tmp_path / "a.json"), str(tmp_path / "b.json")


def test_diff_folds_the_same_change_of_many_layers(tracecall: Command, depths: tuple[str, str]) -> None:
    """The sum counts all calls; --no-fold shows them."""
    done = tracecall("diff", *depths)
    assert done.status == 1
    assert "→ └─ layers.0 … layers.23 ×24  Block" in done.out
    assert done.out.count("[2, 16] → [2, 12]") < 12
    assert "121 changed, 0 calls as before" in done.out
    whole = tracecall("diff", *depths, "--no-fold")
    assert whole.status == 1
    assert all(f"─ layers.{i} " in whole.out for i in range(24))
    assert "121 changed, 0 calls as before" in whole.out


def test_diff_of_a_part_is_judged_by_all(tracecall: Command, depths: tuple[str, str]) -> None:
    """As `show` chooses it; the JSON is of all in any case."""
    done = tracecall("diff", *depths, "--only", "layers.3")
    assert (done.status, "layers.3" in done.out, "layers.4" in done.out) == (1, True, False)
    assert "121 changed, 115 of them not in this part of the tree" in " ".join(done.out.split())
    done = tracecall("diff", *depths, "--filter", "LayerNorm")
    assert (done.status, "norm" in done.out, "fc" in done.out) == (1, True, False)
    whole, chosen = tracecall("diff", *depths, "--json"), tracecall("diff", *depths, "--json", "--only", "layers.3")
    assert (whole.status, whole.out) == (chosen.status, chosen.out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "layer.3"), "--only layer.3: Deep has no module at that path; did you mean layers.3"),
        (("--filter", "Conv2d"), "--filter Conv2d"),
    ],
)
def test_a_part_that_is_not_there_is_refused_in_one_line(
    tracecall: Command, deep: str, depths: tuple[str, str], arguments: tuple[str, str], said: str
) -> None:
    """By both commands, and as JSON, too: exit status 2."""
    for command in (("diff", *depths), ("compare", f"{deep}:Deep", "--input", "2,16", "--dtype", "float32,float64")):
        for more in ((), ("--json",)):
            done = tracecall(*command, *arguments, *more)
            assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
            assert said in done.err


# compare


def test_compare_folds_layers_that_are_alike(tracecall: Command, deep: str) -> None:
    """With the largest of their errors; --no-fold shows each."""
    arguments = ("compare", f"{deep}:Deep", "--input", "2,16", "--dtype", "float32,bfloat16", "--repeat", "0")
    done = tracecall(*arguments)
    assert (done.status, done.err) == (0, "")
    assert "└─ layers.0 … layers.23 ×24" in done.out
    assert "×N: N calls alike, with their largest errors and lowest cosine; --no-fold shows all" in done.out
    assert "the outputs of 121 calls" in done.out
    whole = tracecall(*arguments, "--no-fold")
    errors = [line.split()[-3:] for line in whole.out.splitlines() if "─ layers." in line]
    assert len(errors) == 24
    (line,) = [line for line in done.out.splitlines() if "×24" in line]
    columns = zip(*errors, strict=True)
    worst = [choose(column, key=float) for choose, column in zip((max, max, min), columns, strict=True)]
    assert line.split()[-3:] == worst


def test_compare_of_a_part_is_judged_by_all(tracecall: Command, deep: str) -> None:
    """A first call beyond the tolerance that is elsewhere is named, and said to be elsewhere."""
    arguments = ("compare", f"{deep}:Deep", "--input", "2,16", "--dtype", "float32,bfloat16", "--repeat", "0")
    done = tracecall(*arguments, "--tolerance", "0", "--only", "layers.7", "--ops", "none")
    assert done.status == 1
    assert "layers.7" in done.out
    assert "✗ they part first at layers.0.norm (LayerNorm)" in done.out
    assert "the first of them is not in this part of the tree" in done.out


def test_compare_shows_a_part_that_one_of_two_models_has(tracecall: Command, deep: str) -> None:
    """Only what neither has is refused."""
    arguments = ("compare", f"{deep}:Deep(16, 2)", "--against", f"{deep}:Deep(16, 3)", "--input", "2,16")
    done = tracecall(*arguments, "--repeat", "0", "--only", "layers.2")
    assert done.err == ""
    assert "+ └─ layers.2" in done.out


def test_compare_as_json(tracecall: Command, nets: tuple[str, str]) -> None:
    """The same exit status; what the model prints is not in the way."""
    Path(nets[1]).write_text(Path(nets[1]).read_text() + "\nprint('loaded')\n")
    done = tracecall("compare", nets[0], "--against", nets[1], "--repeat", "2", "--json")
    assert (done.status, done.err) == (1, "loaded\n")
    found = json.loads(done.out)
    assert found["failed"] is True
    first = found["calls"][found["first_beyond"]]
    assert (first["path"], first["beyond"]) == ("two", True)
    assert first["error"]["relative"] > found["tolerance"]
    assert first["time"]["ratio"] > 0
    within = tracecall("compare", "linear", "--dtype", "float32,float64", "--repeat", "0", "--json")
    assert (within.status, json.loads(within.out)["failed"]) == (0, False)


SCRIPTED = """
import warnings
import torch
from relu import Net, example_input

def build_model():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.{how}
"""


@pytest.mark.parametrize("how", ["script(Net().eval())", "trace(Net().eval(), example_input())"])
def test_torchscript_is_the_class_that_it_was_made_from(
    tracecall: Command, nets: tuple[str, str], tmp_path: Path, how: str
) -> None:
    """Not another type of model: that it runs as one call is what changed."""
    (tmp_path / "scripted.py").write_text(SCRIPTED.format(how=how))
    scripted = str(tmp_path / "scripted.py")
    done = tracecall("compare", nets[0], "--against", scripted, "--input", "5,4", "--repeat", "0")
    assert (done.status, done.err) == (0, "")
    assert "Module" not in done.out
    for model, name in ((nets[0], "a"), (scripted, "b")):
        made = tracecall("run", model, "--input", "5,4", "--repeat", "0", "--json")
        (tmp_path / f"{name}.json").write_text(made.out)
    found = json.loads(tracecall("diff", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json").out)
    assert found["settings"] == []
    assert found["calls"][0]["changes"] == [{"what": "opaque", "before": "none", "after": "TorchScript"}]


@pytest.mark.filterwarnings("ignore")  # torch's own, as the files are made
def test_compare_against_a_program_takes_models_inputs_and_says_the_programs_notes(
    tracecall: Command, nets: tuple[str, str], tmp_path: Path
) -> None:
    """TorchScript keeps no example input and needs none here; what must be known of the second is said with its name."""
    (tmp_path / "scripted.py").write_text(SCRIPTED.format(how="script(Net().eval())"))
    found = load(str(tmp_path / "scripted.py"), ["5,4"])
    torch.jit.save(found.model, tmp_path / "net.ts")
    torch.export.save(torch.export.export(load(nets[0]).model, (torch.randn(2, 4),)), tmp_path / "net.pt2")
    for name, note in (("net.ts", "TorchScript: run as one call"), ("net.pt2", "a program of torch.export: its mode")):
        against = str(tmp_path / name)
        done = tracecall("compare", nets[0], "--against", against, "--input", "2,4", "--repeat", "0")
        assert (done.status, done.err) == (0, "")
        assert f"{against}: {note}" in " ".join(done.out.split())
        assert "Warning" not in done.out
    done = tracecall("compare", nets[0], "--against", str(tmp_path / "net.ts"), "--repeat", "0")
    assert (done.status, done.err) == (0, "")
    assert "the program's own example" not in done.out  # its inputs are not the program's
    done = tracecall("compare", str(tmp_path / "net.ts"), "--against", nets[0])
    assert (done.status, done.out) == (2, "")
    assert "keeps no example input" in done.err


@pytest.mark.filterwarnings("ignore")  # torch.export's own, as the file is made
def test_compare_of_a_program_is_without_torchs_own_warnings(tracecall: Command, tmp_path: Path) -> None:
    """What torch says about its own code as a program is copied is no note about the model; `run` has none either."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 4)).eval()
    torch.export.save(torch.export.export(model, (torch.randn(2, 8),)), tmp_path / "net.pt2")
    done = tracecall("compare", str(tmp_path / "net.pt2"), "--dtype", "float32,float64", "--repeat", "1")
    assert (done.status, done.err) == (0, "")
    assert "Warning" not in done.out
    assert "a program of torch.export" in done.out


def test_a_programs_modules_do_not_tell_what_they_were_made_with(tracecall: Command, tmp_path: Path) -> None:
    """That is no change."""
    before, after = cnn(), cnn()
    before.modules["fc1"].extra_repr = "in_features=1568, out_features=120, bias=True"
    after.modules["fc1"].source = Site("<net.pt2>", 7)
    for name, made in (("a", before), ("b", after)):
        tracefile.save(made, tmp_path / f"{name}.json")
    assert tracecall("diff", str(tmp_path / "a.json"), str(tmp_path / "b.json")).status == 0


def test_compare_with_itself_is_identical(tracecall: Command) -> None:
    """A check that the comparison adds nothing of its own."""
    done = tracecall("compare", "cnn", "--device", "cpu,cpu", "--repeat", "0")
    assert (done.status, done.err) == (0, "")
    assert "identical: the outputs of 11 calls, to the last bit" in done.out


def test_compare_of_two_dtypes_is_within_the_tolerance_that_it_states(
    tracecall: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights in bfloat16; exit status 0, with times of both."""
    monkeypatch.setenv("COLUMNS", "160")
    done = tracecall("compare", "cnn", "--dtype", "float32,bfloat16", "--repeat", "5")
    assert (done.status, done.err) == (0, "")
    assert "float32 against bfloat16" in done.out
    assert "tolerance 0.05, the default for bfloat16" in done.out
    assert re.search(r"float32 [mµ]?s +bfloat16 [mµ]?s +ratio", done.out)
    assert "within the tolerance: the outputs of 11 calls" in done.out


def test_compare_beyond_the_tolerance_names_the_first_call(tracecall: Command) -> None:
    """Exit status 1, the call and its line."""
    done = tracecall("compare", "cnn", "--dtype", "float32,bfloat16", "--repeat", "0", "--tolerance", "1e-9")
    assert (done.status, done.err) == (1, "")
    assert "✗ they part first at conv1 (Conv2d), models/cnn.py:25: relative 0.00" in done.out
    assert "11 calls of 11 beyond the tolerance" in done.out


def test_compare_against_another_model_takes_the_weights_over(tracecall: Command, nets: tuple[str, str]) -> None:
    """Until the operation that differs, both are the same; what only one does has a sign."""
    done = tracecall("compare", nets[0], "--against", nets[1], "--repeat", "0")
    assert done.status == 1
    (one,) = [line for line in done.out.splitlines() if "─ one" in line]
    assert one.split()[-3:] == ["0", "0", "1"]
    assert "relu.py against gelu.py" in done.out
    assert "− ├─ torch.relu" in done.out
    assert "+ ├─ nn.functional.gelu" in done.out
    assert "they part first at two (Linear)" in done.out
    assert "are its own" not in done.out


def test_compare_says_which_weights_are_not_the_same(tracecall: Command, nets: tuple[str, str], tmp_path: Path) -> None:
    """And an output of another shape is beyond any tolerance."""
    (tmp_path / "five.py").write_text(NET.format(classes=5, between="torch.relu"))
    done = tracecall("compare", nets[0], "--against", str(tmp_path / "five.py"), "--repeat", "0")
    assert done.status == 1
    words = " ".join(done.out.split())
    assert "2 of 4 weights of" in words
    assert "shapes 5,3 and 5,5" in words


def test_compare_of_two_files_of_weights(tracecall: Command, nets: tuple[str, str], tmp_path: Path) -> None:
    """The same model with each; what differs in one bias parts there."""
    torch.manual_seed(0)
    state = {
        "one.weight": torch.randn(8, 4),
        "one.bias": torch.randn(8),
        "two.weight": torch.randn(3, 8),
        "two.bias": torch.zeros(3),
    }
    for name in ("before", "after"):
        torch.save(state, tmp_path / f"{name}.pt")
        state["two.bias"] = torch.ones(3)
    pair = ",".join(str(tmp_path / f"{name}.pt") for name in ("before", "after"))
    done = tracecall("compare", nets[0], "--weights", pair, "--repeat", "0")
    assert done.status == 1
    assert "before.pt against after.pt" in done.out
    assert "they part first at two (Linear)" in done.out
    assert done.out.count("weights from") == 2
    one = tracecall("compare", nets[0], "--weights", pair.split(",")[0], "--dtype", "float32,float64", "--repeat", "0")
    assert (one.status, one.err, one.out.count("weights from")) == (0, "", 1)  # both take the same file


def test_compare_where_a_forward_raises(tracecall: Command, nets: tuple[str, str], tmp_path: Path) -> None:
    """Exit status 1, with the call that failed, its line and its exception; the calls before it stand in the tree."""
    (tmp_path / "breaks.py").write_text(NET.format(classes=3, between="torch.nothing"))
    done = tracecall("compare", nets[0], "--against", str(tmp_path / "breaks.py"))
    assert done.status == 1
    words = " ".join(done.out.split())
    assert "✗ breaks.py failed at torch.nothing, " in words
    assert "breaks.py:11: AttributeError: module 'torch' has no attribute 'nothing'" in words
    assert "+ └─ torch.nothing AttributeError in breaks.py" in words
    assert "✗ Net " in words
    assert "identical" not in words


def test_compare_where_both_forwards_raise(tracecall: Command, tmp_path: Path) -> None:
    """The same failure is said once, and what came before it is not all that is said."""
    (tmp_path / "net.py").write_text(RETURNS.format(returned="return self.one(self.one(x))"))
    done = tracecall("compare", f"{tmp_path / 'net.py'}:Net", "--dtype", "float32,bfloat16")
    assert done.status == 1
    words = " ".join(done.out.split())
    assert "✗ both failed at one (Linear), " in words
    assert "RuntimeError in both" in words
    assert "before that, within the tolerance: the outputs of" in words


def test_compare_in_train_mode(tracecall: Command) -> None:
    """Dropout drops the same in both."""
    done = tracecall(
        "compare", "transformer", "--train", "--dtype", "float32,float64", "--repeat", "0", "--ops", "none"
    )
    assert (done.status, done.err) == (0, "")
    assert "train, grad" in done.out


RETURNS = """
import torch
from torch import nn

class Weird:
    pass

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 8)

    def forward(self, x):
        wide = x.dtype == torch.float64
        {returned}

def example_input():
    return torch.randn(5, 4)
"""


@pytest.mark.parametrize(
    ("returned", "status", "said"),
    [
        ("return Weird()", 1, "✗ no output could be compared"),
        ("return self.one(x), Weird()", 0, "not compared: Weird in the output of 1 call"),
        ("return float(self.one(x).sum()) * (2 if wide else 1)", 1, "they part first at the root (Net)"),
        ("return float(self.one(x).sum())", 0, "within the tolerance: the outputs of 2 calls"),
        ("return {i: self.one(x) * (2 if wide and i == 99 else 1) for i in range(100)}", 1, "first at the root (Net)"),
        ("return self.one(x) * float('nan')", 0, "NaN or Inf in both runs, first at the root: errors are of"),
        ("return self.one(x)[:0]", 0, "1 output is empty in both runs, first at the root"),
        ("return {'y': self.one(x)} if wide else self.one(x)", 1, "(Net): a tensor and a dict; the numbers compared"),
        ("return self.one(x).double()", 0, "within the tolerance"),
        ("return x.to(torch.complex64) if wide else x", 0, "first float32 and complex64 at"),
    ],
)
def test_compare_says_only_what_it_compared(
    tracecall: Command, tmp_path: Path, returned: str, status: int, said: str
) -> None:
    """Objects are no agreement, numbers are compared, and so are all tensors, however many."""
    (tmp_path / "net.py").write_text(RETURNS.format(returned=returned))
    done = tracecall(
        "compare", f"{tmp_path / 'net.py'}:Net", "--dtype", "float32,float64", "--repeat", "0", "--ops", "none"
    )
    assert (done.status, done.err) == (status, "")
    assert said in " ".join(done.out.split())


def test_the_prediction_counts_every_tensor(tracecall: Command, tmp_path: Path) -> None:
    """Also beyond those that a Trace lists of a call's output."""
    (tmp_path / "net.py").write_text(RETURNS.format(returned="return [self.one(x)] * 1100"))
    assert "and 1,096 more tensors" in tracecall("run", f"{tmp_path / 'net.py'}:Net", "--repeat", "0").out
    (tmp_path / "five.py").write_text(RETURNS.format(returned="return [self.one(x)] * 5"))
    assert "and 1 more tensor\n" in tracecall("run", f"{tmp_path / 'five.py'}:Net", "--repeat", "0").out


def test_json_counts_what_is_nan_in_both(tracecall: Command, tmp_path: Path) -> None:
    """At how many places, beside the error of the others."""
    (tmp_path / "net.py").write_text(RETURNS.format(returned="return torch.log(x - x + torch.tensor([-1, 0, 1, 2]))"))
    done = tracecall("compare", f"{tmp_path / 'net.py'}:Net", "--dtype", "float32,float64", "--repeat", "0", "--json")
    assert done.status == 0
    error = json.loads(done.out)["calls"][0]["error"]
    assert (error["elements"], error["nonfinite_both"]) == (20, 10)
    assert "nonfinite" not in error
    assert error["relative"] < 1e-6


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(tracecall: Command, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Columns go where room is short."""
    monkeypatch.setenv("COLUMNS", str(width))
    done = tracecall("compare", "transformer", "--dtype", "float32,bfloat16", "--repeat", "1")
    assert max(map(len, done.out.splitlines())) <= width


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "both runs would be the same"),
        (("--dtype", "bfloat16"), "both runs would be the same"),
        (("--device", "cpu,cpu,cpu"), "type --device cpu,cuda"),
        (("--dtype", "float32,"), "type --dtype float32,bfloat16"),
        (("--dtype", "float32,flaot16"), "did you mean float16?"),
        (("--device", "cpu,gpu"), "--device 'gpu' is none of cpu"),
        (("--dtype", "float32,bfloat16", "--tolerance", "small"), "type for example --tolerance 1e-3"),
        (("--dtype", "float32,bfloat16", "--tolerance", "-1"), "type for example --tolerance 1e-3"),
        (("--dtype", "float32,bfloat16", "--ops", "some"), "possible: none, forward, all"),
        (("--against", "nothere.py"), "nothere.py"),
        (("--weights", "nothere.pt,nothere.pt"), "nothere.pt"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(tracecall: Command, arguments: tuple[str, ...], said: str) -> None:
    """Exit status 2, what is possible, what to type."""
    done = tracecall("compare", "cnn", *arguments)
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert said in done.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_cuda_what_is_advised_can_be_done(tracecall: Command) -> None:
    """One device would make both runs the same: another difference is named, unless there is one already."""
    done = tracecall("compare", "cnn", "--device", "cpu,cuda")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("tracecall: --device cuda: CUDA is not available here")
    here = available_devices()
    other = f"type --device cpu,{here[-1]}" if len(here) > 1 else "type --dtype float32,bfloat16 instead, or compare"
    assert other in done.err
    done = tracecall("compare", "cnn", "--device", "cpu,cuda", "--dtype", "float32,bfloat16")
    assert done.err == tracecall("run", "cnn", "--device", "cuda").err


@pytest.mark.cuda
def test_cpu_and_cuda_agree(tracecall: Command) -> None:
    """The CNN's outputs are within the tolerance on both."""
    done = tracecall("compare", "cnn", "--device", "cpu,cuda")
    assert (done.status, done.err) == (0, "")


def test_help_of_both_comes_without_torch() -> None:
    """Nothing is loaded to be read."""
    for command in ("diff", "compare"):
        assert not {"torch", "rich", "msgspec"} & imported_by("-m", "tracecall", command, "--help")


def test_a_process_of_its_own_leaves_stderr_empty() -> None:
    """As a user runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "tracecall", "compare", "linear", "--dtype", "float32,float64", "--repeat", "0"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
