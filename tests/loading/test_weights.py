"""Weights from a file: unwrapped, held against the model, and never run as code."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from tracecall.errors import TracecallError
from tracecall.loading import load
from tracecall.loading.weights import load_weights


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(mine, other.state_dict()[name]) for name, mine in one.state_dict().items())


def fails(model: nn.Module, path: Path, *said: str) -> TracecallError:
    with pytest.raises(TracecallError) as caught:
        load_weights(model, path)
    assert "\n" not in str(caught.value)
    for one in said:
        assert one in str(caught.value)
    return caught.value


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict(legacy, tmp_path):
    """Every tensor is loaded, from the zip format and from the one before it."""
    torch.save(net(1).state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    model = net(2)
    report = load_weights(model, tmp_path / "w.pt")
    assert same(model, net(1))
    assert report.tensors == 9
    assert report.notes == (f"weights from {tmp_path / 'w.pt'}: 9 tensors",)


def test_safetensors(tmp_path):
    """The same from safetensors."""
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(net(1).state_dict(), tmp_path / "w.safetensors")
    model = net(2)
    load_weights(model, tmp_path / "w.safetensors")
    assert same(model, net(1))


def test_safetensors_is_an_extra(tmp_path, monkeypatch):
    """Without it one line says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "w.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    fails(net(), tmp_path / "w.safetensors", "needs the package safetensors; type pip install safetensors")


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda state: {"epoch": 3, "state_dict": state}, "found under 'state_dict'"),
        (lambda state: {"model": state, "optimizer": {"state": {}}}, "found under 'model'"),
        (lambda state: {"model": {"state_dict": state}}, "found under 'model' → 'state_dict'"),
        (
            lambda state: {f"module.{name}": one for name, one in state.items()},
            "the keys' prefix 'module.' was taken off",
        ),
        (
            lambda state: {"state_dict": {f"_orig_mod.module.{name}": one for name, one in state.items()}},
            "the keys' prefix '_orig_mod.module.' was taken off",
        ),
    ],
)
def test_what_wraps_a_state_dict_is_taken_off_and_said(wrap, said, tmp_path):
    """Checkpoints, DataParallel and torch.compile put things around the state dict."""
    torch.save(wrap(dict(net(1).state_dict())), tmp_path / "w.pt")
    model = net(2)
    report = load_weights(model, tmp_path / "w.pt")
    assert same(model, net(1))
    assert said in report.notes[0]


def test_another_dtype_is_said(tmp_path):
    """Weights take the model's dtype, and a note says so."""
    torch.save(
        {name: one.half() if one.is_floating_point() else one for name, one in net(1).state_dict().items()},
        tmp_path / "w.pt",
    )
    assert "float16 weights became float32" in load_weights(net(), tmp_path / "w.pt").notes[0]


def test_what_does_not_fit_is_listed(tmp_path):
    """Missing, unexpected and of another shape: counted in the line, named below it."""
    state = dict(net().state_dict())
    del state["0.bias"]
    state["head.weight"] = torch.zeros(1)
    state["2.weight"] = torch.zeros(5, 3)
    torch.save(state, tmp_path / "w.pt")
    error = fails(net(), tmp_path / "w.pt", "does not fit Sequential: 1 missing, 1 unexpected, 1 of another shape")
    assert error.details == (
        "missing: 0.bias",
        "unexpected: head.weight",
        "of another shape: 2.weight is [5, 3] and the model's is [2, 3]",
    )


def test_a_long_list_is_cut(tmp_path):
    """Six keys of a kind are named."""
    torch.save({f"a{i}": torch.zeros(1) for i in range(20)}, tmp_path / "w.pt")
    error = fails(net(), tmp_path / "w.pt", "8 missing, 20 unexpected")  # num_batches_tracked may be missing
    assert error.details[1] == "unexpected: a0, a1, a2, a3, a4, a5 and 14 more"


def test_lazy_modules_take_their_shapes_from_the_file(tmp_path):
    """A parameter without a shape has none to differ from."""
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "w.pt")
    model = nn.LazyLinear(3)
    load_weights(model, tmp_path / "w.pt")
    assert model.weight.shape == (3, 4)


class Bomb:
    """Something that runs code as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_not_run(legacy, tmp_path):
    """It is refused with the name that it asked for."""
    torch.save(
        {"w": torch.zeros(1), "x": Bomb(tmp_path / "ran")}, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy
    )
    fails(
        net(),
        tmp_path / "w.pt",
        "holds more than tensors (posix.mkdir)",
        "could run code",
        "torch.save(model.state_dict(), path)",
    )
    assert not (tmp_path / "ran").exists()


def test_a_pickled_model_is_refused(tmp_path):
    """torch.save(model) keeps the class by name, and reading it imports that."""
    torch.save(net(), tmp_path / "w.pt")
    fails(net(), tmp_path / "w.pt", "is a whole pickled object (torch.nn.modules.container.Sequential)")
    torch.save({"model": net()}, tmp_path / "w.pt")
    fails(net(), tmp_path / "w.pt", "holds more than tensors (torch.nn.modules.container.Sequential)")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_plain_pickle_is_refused(protocol, tmp_path):
    """torch.load would say that a number in it is wrong."""
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(net().state_dict(), protocol))
    fails(net(), tmp_path / "w.pkl", "is a plain pickle (collections.OrderedDict), not what torch.save writes")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(net(), protocol))
    fails(net(), tmp_path / "w.pkl", "is a whole pickled object (torch.nn.modules.container.Sequential)")


def test_a_pickle_with_any_bytes_changed_is_one_line(tmp_path):
    """Its first words are read, whatever they are."""
    noise = random.Random(0)
    torch.save(net(), tmp_path / "z.pt")
    zipped = (tmp_path / "z.pt").read_bytes()
    for _ in range(100):
        data = bytearray(zipped)
        for _ in range(40):
            data[noise.randrange(2, len(data))] = noise.randrange(256)
        (tmp_path / "w.pt").write_bytes(data)
        fails(net(), tmp_path / "w.pt")
    torch.save(net().state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "w.pt").read_bytes()
    for head in (whole[:200], pickle.dumps(net(), 4)[:200], pickle.dumps({"a": 10**300}, 2)):
        for _ in range(100):
            data = bytearray(head)
            data[noise.randrange(2, len(data))] = noise.randrange(256)
            (tmp_path / "w.pt").write_bytes(data[: noise.randrange(3, len(data))])
            fails(net(), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is an empty file"),
        (b"PK\x03\x04 cut", "is damaged or was cut off"),
        (b"\x80\x02}q\x00", "is a plain pickle (dict)"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "is damaged or was cut off"),
        (b"plain text, no weights", "is neither weights"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    ],
)
def test_files_that_hold_no_weights(content, said, tmp_path):
    """One line each."""
    (tmp_path / "w.pt").write_bytes(content)
    fails(net(), tmp_path / "w.pt", said)


def test_a_safetensors_file_that_was_cut_off(tmp_path):
    """Half a file."""
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(net(1).state_dict(), tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[: len(whole) // 2])
    fails(net(), tmp_path / "w.safetensors", "is damaged or was cut off")


def test_a_file_that_was_cut_off(tmp_path):
    """Half of torch's own."""
    torch.save(net(1).state_dict(), tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) // 2])
    fails(net(), tmp_path / "w.pt", "is damaged or was cut off")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"epoch": 1, "optimizer": {}}, "holds no state dict: its keys are epoch, optimizer"),
        ([1, 2], "holds a list, not a state dict"),
        (torch.zeros(2), "holds a Tensor, not a state dict"),
    ],
)
def test_what_is_no_state_dict(held, said, tmp_path):
    """What it is instead is said."""
    torch.save(held, tmp_path / "w.pt")
    fails(net(), tmp_path / "w.pt", said)


def test_no_such_file(tmp_path):
    """A missing file and a folder."""
    fails(net(), tmp_path / "none.pt", "does not exist")
    fails(net(), tmp_path, "is a folder")


def test_load_takes_weights(tmp_path):
    """The model that is run has them, and the notes say where from."""
    torch.save(load("linear", seed=7).model.state_dict(), tmp_path / "w.pt")
    target = load("linear", weights=str(tmp_path / "w.pt"))
    assert same(target.model, load("linear", seed=7).model)
    assert target.notes[0].startswith("weights from ")


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """What `tracecall run ARGUMENTS` leaves: its status, stdout and stderr."""
    from tracecall import cli

    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["tracecall", "run", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return (stopped.value.code, *capsys.readouterr())


def test_the_command_says_where_the_weights_came_from(tmp_path, monkeypatch, capsys):
    """Above the tree, with the other notes."""
    torch.save(load("linear").model.state_dict(), tmp_path / "w.pt")
    status, out, err = run(monkeypatch, capsys, "linear", "--weights", str(tmp_path / "w.pt"), "--repeat", "0")
    assert (status, err) == (0, "")
    assert "weights from" in out


def test_the_command_lists_what_does_not_fit(tmp_path, monkeypatch, capsys):
    """Exit status 2: one line, and below it a short list."""
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "w.pt")
    status, out, err = run(monkeypatch, capsys, "cnn", "--weights", str(tmp_path / "w.pt"))
    assert (status, out) == (2, "")
    first, *others = err.splitlines()
    assert first.startswith(
        f"tracecall: --weights {tmp_path / 'w.pt'} does not fit CNN: 8 missing, 2 unexpected (of its 8 tensors); type"
    )
    assert others == [
        "  missing: conv1.weight, conv1.bias, conv2.weight, conv2.bias, fc1.weight, fc1.bias and 2 more",
        "  unexpected: weight, bias",
    ]


def test_the_command_refuses_what_is_no_weights_before_the_model_is_built(tmp_path, monkeypatch, capsys):
    """A file's first bytes tell."""
    torch.save(nn.Linear(2, 3), tmp_path / "w.pt")
    (tmp_path / "net.py").write_text("raise RuntimeError")
    status, _, err = run(monkeypatch, capsys, str(tmp_path / "net.py"), "--weights", str(tmp_path / "w.pt"))
    assert status == 2
    assert err.startswith(
        f"tracecall: --weights {tmp_path / 'w.pt'} is a whole pickled object (torch.nn.modules.linear.Linear)"
    )


def test_the_file_is_named_as_it_was_typed(tmp_path, monkeypatch, capsys):
    """A folder may hold many parts of one name."""
    (tmp_path / "w").mkdir()
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Linear(2, 3).state_dict(), "w/part.pt")
    _, _, err = run(monkeypatch, capsys, "cnn", "--weights", "w/part.pt")
    assert err.startswith("tracecall: --weights w/part.pt does not fit CNN")
    Path("w/part.pt").write_bytes(b"no weights")
    _, _, err = run(monkeypatch, capsys, "cnn", "--weights", "w/part.pt")
    assert err.startswith("tracecall: w/part.pt is neither weights")


@pytest.mark.parametrize("option", ["--save", "--html", "--svg", "--mermaid"])
def test_weights_are_not_written_over(option, tmp_path, monkeypatch, capsys):
    """By their own name or another."""
    file = tmp_path / "w.pt"
    torch.save(load("cnn").model.state_dict(), file)
    (tmp_path / "link").symlink_to(file)
    before = file.read_bytes()
    for name in (str(file), f"{tmp_path}/./w.pt", str(tmp_path / "link")):
        done = run(monkeypatch, capsys, "cnn", "--weights", str(file), option, name, "--repeat", "0")
        said = f"tracecall: {option} {name} is the file that --weights reads; type another name for {option}\n"
        assert done == (2, "", said)
    assert file.read_bytes() == before


@pytest.mark.parametrize("model", ["net.py", "net.py:Net", "net.py:Net(3)", "./net.py", "net:Net", "pack.net:Net(3)"])
def test_a_model_is_not_written_over(model, tmp_path, monkeypatch, capsys):
    """Nor is it run: however MODEL names its file."""
    (tmp_path / "pack").mkdir()
    monkeypatch.chdir(tmp_path)
    file = Path("pack/net.py" if "pack" in model else "net.py")
    file.write_text("raise RuntimeError")
    done = run(monkeypatch, capsys, model, "--save", str(file))
    said = f"tracecall: --save {file} is the file that MODEL comes from; type another name for --save\n"
    assert done == (2, "", said)
    assert file.read_text() == "raise RuntimeError"


def test_a_program_is_not_written_over(tmp_path, monkeypatch, capsys):
    """A saved program is MODEL's own file too."""
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("p.pt2", "w") as archive:
        archive.writestr("p/archive_format", "pt2")
    before = Path("p.pt2").read_bytes()
    done = run(monkeypatch, capsys, "p.pt2", "--html", "p.pt2")
    assert done == (2, "", "tracecall: --html p.pt2 is the file that MODEL comes from; type another name for --html\n")
    assert Path("p.pt2").read_bytes() == before


def test_the_command_refuses_a_missing_file_before_torch(monkeypatch, capsys):
    """What can be seen without the model is said at once."""
    status, _, err = run(monkeypatch, capsys, "cnn", "--weights", "none.pt")
    assert (status, err) == (2, "tracecall: --weights 'none.pt' does not exist; type the path of a file that does\n")
