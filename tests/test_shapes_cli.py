"""`tracecall shapes`: exit statuses, one-line refusals, --json, --meta, --expect."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from tracecall import cli
from tracecall.demands import ShapeReport

ROOT = Path(__file__).resolve().parent.parent


class Done(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str


@pytest.fixture
def shapes(monkeypatch, capsys):
    """Run `tracecall shapes ARGUMENTS` in this process, in the checkout, at 100 columns."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["tracecall", "shapes", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return Done(stopped.value.code, out, err)

    return run


def test_names_give_formulas_and_demands(shapes):
    """The tree, the signature and what the input must be, and no times."""
    done = shapes("cnn", "--input", "B,3,H,W")
    assert (done.status, done.err) == (0, "")
    assert "[B, 32, H//4, W//4] → [B, 32·(H//4)·(W//4)]" in done.out
    assert "CNN: B,3,H,W → B,10\nneeds  (H//4)·(W//4) = 49, from x.view at models/cnn.py:27; H, W ∈ 28…31" in done.out
    assert "untraced" not in done.out
    assert "prediction" not in done.out


@pytest.mark.parametrize(
    ("arguments", "signature"),
    [
        (["rnn", "--input", "B,T,8"], "SequenceClassifier: B,T,8 → B,4"),
        (["transformer", "--input", "B,T:int64"], "needs  T ≤ 128, from positions[:ids.shape[1]]"),
        (["linear", "--input", "B,F"], "needs  F = 10, from linear at models/linear.py"),
        (["feedforward", "--input", "x=B,20", "--meta"], "weights not made"),
        (["cnn"], "CNN: 1,3,28,28 → 1,10"),
    ],
)
def test_a_demo(shapes, arguments, signature):
    """By position or name, with weights or without, and without --input the example's sizes."""
    done = shapes(*arguments)
    assert (done.status, done.err) == (0, "")
    assert signature in done.out


def test_one_size_is_checked(shapes):
    """Exit status 0 where it fits; where it does not 1, with the tree and the failure as `tracecall run` has them."""
    assert shapes("cnn", "--input", "2,3,30,30").status == 0
    done = shapes("cnn", "--input", "1,3,32,32")
    assert done.status == 1
    assert "[1, 3, 32, 32]" in done.out
    assert "✗ models/cnn.py:27" in done.out
    assert "invalid for input of size 2048" in done.out


def test_depth_and_json(shapes):
    """--depth 0 hides the submodules; --json is the report and nothing else."""
    assert "conv1" not in shapes("cnn", "--input", "B,3,H,W", "--depth", "0").out
    report = msgspec.json.decode(shapes("cnn", "--input", "B,3,H,W", "--json").out, type=ShapeReport)
    assert report.signature == "CNN: B,3,H,W → B,10"
    assert report.trace.find("fc2")[0].output[0].value.shape == ("B", 10)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cnn", "--input", "B,3,0,W"], "the size 0: sizes are whole numbers of at least 1 or names such as B"),
        (["cnn", "--input", "3x,H"], "the size 3x"),
        (["cnn", "--input", "B,,H"], "a missing size"),
        (["cnn", "--input", "B,3,H,W", "--input", "B"], "CNN.forward(x) takes 1"),
        (["cnn", "--input", "B,3,H,W:flat"], "names no dtype"),
        (["cnn", "--ops", "some"], "--ops 'some' is unknown"),
        (["cnn", "--depth", "all"], "--depth 'all' is no whole number"),
        (["cnn", "--meta", "--device", "cuda"], "--meta makes no weights"),
        (["cnn", "--expect", "no-such-file.json"], "cannot be read"),
        (["cnn", "--expect", "a.json", "--save-expected", "b.json"], "exclude each other"),
    ],
)
def test_what_cannot_be_meant_is_one_line(shapes, arguments, said):
    """Exit status 2, nothing on stdout, one line on stderr."""
    done = shapes(*arguments)
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert said in done.err


def test_names_are_not_for_run(shapes, monkeypatch, capsys):
    """`tracecall run` makes tensors."""
    monkeypatch.setattr(sys, "argv", ["tracecall", "run", "cnn", "--input", "B,3,H,W"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2


def test_expected_shapes(shapes, tmp_path):
    """Saved, then expected: 0 and one line where nothing changed, else 1 and what changed, without the tree."""
    file = str(tmp_path / "shapes.json")
    assert shapes("cnn", "--input", "B,3,H,W", "--save-expected", file).status == 0
    same = shapes("cnn", "--input", "B,3,H,W", "--expect", file)
    assert (same.status, len(same.out.splitlines())) == (0, 1)
    other = shapes("cnn", "--input", "B,3,28,28", "--expect", file)
    assert other.status == 1
    assert "[B, 16, H, W] → [B, 16, 28, 28]" in other.out
    assert "forward pre-hooks" not in other.out


def test_the_model_is_not_written_over(shapes, tmp_path):
    """Expected shapes go elsewhere: refused before the model is run, as is a folder that is not there."""
    file = tmp_path / "net.py"
    file.write_text("raise RuntimeError")
    done = shapes(str(file), "--save-expected", str(file))
    said = f"--save-expected {file} is the file that MODEL comes from; type another name for --save-expected"
    assert done == (2, "", f"tracecall: {said}\n")
    assert file.read_text() == "raise RuntimeError"
    done = shapes(str(file), "--save-expected", str(tmp_path / "none" / "e.json"))
    assert (done.status, done.out) == (2, "")
    assert "cannot be written: there is no folder" in done.err
