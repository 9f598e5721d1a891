"""assert_shapes: what passes, what fails, and what the message says."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tracecall
from models.cnn import CNN
from tracecall import TracecallError, assert_shapes

ROOT = Path(__file__).resolve().parent.parent
IMAGES = torch.zeros(4, 3, 28, 28)


class Pair(nn.Module):
    """Several inputs, a dictionary of outputs, one module under two names, and some that are not called."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.again = self.embed
        self.fails = nn.Linear(9, 9)
        self.unused = nn.Linear(1, 1)
        self.passed = nn.Linear(3, 4)
        self.many = nn.ModuleList([nn.Identity()])

    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 1.0) -> dict[str, Any]:
        with contextlib.suppress(RuntimeError):
            self.fails(x)
        self.passed.forward(x)
        return {"logits": self.embed(x) * scale, "mask": mask, "n": 3}


def message(kind: type[Exception], model: nn.Module, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(kind) as caught:
        assert_shapes(model, *args, **kwargs)
    assert type(caught.value) is kind
    return str(caught.value)


def drawing(shown: str) -> str:
    return textwrap.dedent(shown).strip("\n")


# what passes


@pytest.mark.parametrize(
    "shapes",
    [
        {"conv1": "B,16,H,W", "fc2": "B,10"},
        {"fc2": "B,10", "conv1": "B,16,H,W"},
        {"": "B,10"},
        {"": "B,3,H,W → B,10", "conv1": "B,3,H,W -> B,16,H,W"},
        {"conv2": "B,32,H//2,W//2", "conv1": "B,16,H,W", "fc1": "B,H*4+8"},
        {"conv1": "B,4*B,_,*", "pool": "B,*,_,_"},
        {"conv1": "..., 28", "conv2": "B,...", "fc1": "B,...,120", "fc2": "...,B,10"},
        {"conv1": " [ B , 16 , H , H ] "},
        {"conv1": (4, 16, 28, 28), "fc2": ("B", 10), "fc1": torch.Size([4, 120])},
        {"conv1": "4,16,28,14*2", "fc2": "(B+4)//2,B+6", "fc1": "B,_"},
    ],
    ids=str,
)
def test_these_shapes_hold(shapes: dict[str, Any]) -> None:
    """Sizes are numbers, names, formulas of names, any size or any number of them; the order is free."""
    assert_shapes(CNN(), IMAGES, shapes)


@pytest.mark.parametrize(
    "shape",
    [
        "S,B,E → [S,B,H], [1,B,H], [1,B,H]",
        "[S,B,E] → [S,B,H], [1,B,H], [1,B,H]",
        ("S,B,H", ("1,B,H", "1,B,H")),
        ("5,2,16", "...", "1,...,16"),
        {"[0]": "S,B,H"},
    ],
    ids=str,
)
def test_several_outputs(shape: Any) -> None:
    """A tuple of shapes, nested or not, shapes in brackets, or some of them by name."""
    assert_shapes(nn.LSTM(8, 16), torch.zeros(5, 2, 8), {"": shape})


def test_several_inputs_and_keyword_arguments() -> None:
    """The dictionary is the last positional argument; everything else goes to the model."""
    mask = torch.ones(2)
    assert_shapes(Pair(), torch.zeros(2, 3), mask, {"": {"logits": "B,4", "mask": "B"}}, scale=2.0)
    assert_shapes(Pair(), torch.zeros(2, 3), {"": "[B,3], [B] → [B,4], [B]"}, mask=mask)


def test_an_alias_is_a_path() -> None:
    """A module that two attributes hold has both names."""
    assert_shapes(Pair(), torch.zeros(2, 3), {"again": "B,4", "embed": "B,4"})


def test_a_scalar_has_no_sizes() -> None:
    """ "" is the shape of a scalar, and so is an empty tuple."""
    for shape in ("", (), "[]", "..."):
        assert_shapes(nn.MSELoss(), torch.zeros(2), torch.zeros(2), {"": shape})


def test_the_model_is_left_as_it_was() -> None:
    """It runs once, in the mode that it is in; buffers and the random state are as before."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    before, x = {name: value.clone() for name, value in model.state_dict().items()}, torch.randn(4, 3)
    state = torch.get_rng_state()
    modes: list[bool] = []
    model.register_forward_hook(lambda module, args, output: modes.append(module.training))
    assert_shapes(model, x, {"0": "B,3"})
    assert modes == [True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


# what fails


def test_the_message_shows_the_tree_around_the_mismatch() -> None:
    """What was expected, what was seen, why it is not that, where each name was bound, and the lines around it."""
    said = message(AssertionError, CNN(), IMAGES, {"conv1": "B,16,H,W", "conv2": "B,32,H,W", "fc2": "B,12"})
    line = next(
        i for i, text in enumerate((ROOT / "models/cnn.py").read_text().splitlines(), 1) if "self.conv1(x)" in text
    )
    assert said == drawing(f"""
        conv2 (Conv2d): output is not as expected
          expected  [B, 32, H, W]
          seen      [4, 32, 14, 14]
          because   H = 28 expected, got 14; W = 28 expected, got 14
          names     B = 4, H = 28, W = 28, from conv1
          also      fc2 (Linear): output: expected [B, 12], seen [4, 10]

          CNN.__call__            [4, 3, 28, 28] → [4, 10]
          ├─ forward  models/cnn.py:{line - 2}
          │  ├─ conv1  Conv2d     [4, 3, 28, 28] → [4, 16, 28, 28]   :{line}  ← input x
          │  ├─ F.relu            [4, 16, 28, 28]                    :{line}  ← conv1
          │  ├─ pool   MaxPool2d  [4, 16, 28, 28] → [4, 16, 14, 14]  :{line}  ← F.relu #1
        > │  ├─ conv2  Conv2d     [4, 16, 14, 14] → [4, 32, 14, 14]  :{line + 1}  ← pool #1
          │  ├─ F.relu            [4, 32, 14, 14]                    :{line + 1}  ← conv2
          │  ├─ pool   MaxPool2d  [4, 32, 14, 14] → [4, 32, 7, 7]    :{line + 1}  ← F.relu #2
          …
    """)


def test_a_module_must_match_in_every_call() -> None:
    """The message says which call it is."""
    said = message(AssertionError, CNN(), IMAGES, {"pool": "B,16,_,_"})
    assert said.startswith("pool (MaxPool2d), call 2: output is not as expected")
    assert "B = 4, from pool, call 1" in said


def test_the_first_mismatch_of_the_run_is_told() -> None:
    """Whatever the order of the dictionary; a name is bound where the run has it first."""
    said = message(AssertionError, CNN(), IMAGES, {"fc2": "N,N", "conv1": "N,15,_,_", "": "N,3,_,_ → N,10"})
    assert said.startswith("conv1 (Conv2d): output")
    assert "N = 4, from the input of CNN" in said
    assert "also      fc2 (Linear): output: expected [N, N], seen [4, 10]" in said


@pytest.mark.parametrize(
    ("shape", "because"),
    [
        ("B,10", "2 dimensions expected, got 4"),
        ("A,B,C,D,...,E", "at least 5 dimensions expected, got 4"),
        ("B,17,_,_", "17 expected, got 16"),
        ("B,B,_,_", "B = 4 expected, got 16"),
        ("B,2*B,_,_", "2*B = 8 expected, got 16"),
        ("B,C,C//(B-4),_", "C//(B-4): it divides by 0"),
        (("B,_,_,_", "B"), "2 tensors expected, got 1 tensor"),
        ({"logits": "B"}, "the tensors there are: output"),
        ("B,4,H,W → _,_,_,_", "4 expected, got 3"),
        ("[_,_,_,_], [_] → _,_,_,_", "2 tensors expected, got 1 tensor"),
    ],
    ids=str,
)
def test_why_it_does_not_match(shape: Any, because: str) -> None:
    """Each kind of mismatch in its own words."""
    assert f"because   {because}\n" in message(AssertionError, CNN(), IMAGES, {"conv1": shape})


def test_a_formula_over_a_name_whose_own_shape_does_not_match() -> None:
    """The shape that should bind the name is what is told."""
    said = message(AssertionError, CNN(), IMAGES, {"conv2": "B,32,H//2,_", "conv1": "B,H"})
    assert said.startswith("conv1 (Conv2d)")
    assert "also" not in said


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("unused", "this input does not reach it"),
        ("passed", "without __call__"),
        ("many", "only holds others"),
        ("many.0", "this input does not reach it"),
    ],
)
def test_a_module_that_was_not_called(path: str, why: str) -> None:
    """One line says why, as far as it is known."""
    said = message(AssertionError, Pair(), torch.zeros(2, 3), {path: "B,4"})
    assert said.startswith(f"{path} (")
    assert "was not called" in said
    assert why in said
    assert len(said.splitlines()) == 1


def test_a_module_below_an_alias_that_was_not_called() -> None:
    """It is a module under that name too."""
    model = Pair()
    model.other = model.many
    said = message(AssertionError, model, torch.zeros(2, 3), {"other.0": "B,4"})
    assert said.startswith("other.0 (Identity) was not called")


def test_a_call_that_raised_has_no_output() -> None:
    """The exception was caught, so the run went on."""
    said = message(AssertionError, Pair(), torch.zeros(2, 3), {"fails": "B,9"})
    assert "because   it raised RuntimeError, which was caught" in said


def test_a_message_is_short_however_large_the_model() -> None:
    """The tree around the mismatch has at most 16 lines, wherever it is."""
    block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.Sequential(nn.Sequential(nn.Sequential(nn.TransformerEncoder(block, 6), nn.Linear(16, 4))))
    x = torch.zeros(2, 5, 16)
    paths = [call.path for _, call in tracecall.trace(model, x).walk() if call.kind == "module"]
    assert len(paths) > 50
    for path in dict.fromkeys(paths):
        tree = message(AssertionError, model, x, {path: "99"}).partition("\n\n")[2].splitlines()
        assert len(tree) <= 16
        assert sum(line.startswith("> ") for line in tree) == 1


# what cannot be read


@pytest.mark.parametrize(
    "shape",
    [
        *(
            "B,,4",
            "[B,4",
            "B,4]",
            "[B],4",
            "[[B]]",
            "B.x",
            "f(1)",
            "H**2",
            "H/2",
            "H%2",
            "-1,4",
            "1.5",
            "True",
            "'a'",
            "\0",
        ),
        *("(" * 150, "(" * 9000, "B → C → D", "...,...", "if", "lambda: 0", "__import__('os')", "_+1", "a b", "B:=3"),
        *(None, 3.5, 3, object(), (True, 2), ("B", 2.5), {"a": None}, {3: "B"}, ("B", None)),
    ],
    ids=lambda shape: str(shape)[:14],
)
def test_a_shape_that_cannot_be_read_is_one_line(shape: Any) -> None:
    """Before anything runs: what was given, what is possible, what to type. Nothing in it is run as code."""

    class Never(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise SystemExit

    said = message(TracecallError, Never(), IMAGES, {"conv1": shape})
    assert "of 'conv1' cannot be read" in said
    assert 'type for example "B,16,H//2,_"' in said
    assert len(said.splitlines()) == 1
    assert len(said) < 800


def test_a_name_that_only_formulas_have() -> None:
    """It could not be bound."""
    assert "H//2 of 'conv1' needs H, which is bound nowhere" in message(
        TracecallError, CNN(), IMAGES, {"conv1": "B,16,H//2,_"}
    )


def test_a_path_that_is_no_module() -> None:
    """What was called, and the nearest name."""
    said = message(TracecallError, CNN(), IMAGES, {"conv3": "B"})
    assert "CNN has no module 'conv3'" in said
    assert "'fc1'" in said
    assert "did you mean 'conv" in said


def test_no_dictionary() -> None:
    """Where it stands, and an example; an empty one would check nothing."""
    assert "got Tensor" in message(TracecallError, CNN(), IMAGES)
    assert "got nothing after the model" in message(TracecallError, CNN())
    assert "is empty" in message(TracecallError, CNN(), IMAGES, {})
    assert "got int" in message(TracecallError, CNN(), IMAGES, {3: "B"})


def test_no_model() -> None:
    """A class is not an instance."""
    assert "did you mean to make an instance" in message(TracecallError, CNN, IMAGES, {"": "B"})  # type: ignore[arg-type]


def test_the_models_own_exception_passes_through() -> None:
    """The same object, whatever was expected."""
    raised = ValueError("mine")

    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise raised

    with pytest.raises(ValueError, match="mine") as caught:
        assert_shapes(Raises(), IMAGES, {"": "B"})
    assert caught.value is raised


def test_pytest_shows_the_readers_line(tmp_path: Path) -> None:
    """A failure points at the line of the test, and at none of tracecall."""
    (tmp_path / "test_net.py").write_text(
        textwrap.dedent("""
            import torch, tracecall

            def test_wrong():
                tracecall.assert_shapes(torch.nn.Linear(3, 4), torch.zeros(2, 3), {"": "B,5"})

            def test_unreadable():
                tracecall.assert_shapes(torch.nn.Linear(3, 4), torch.zeros(2, 3), {"": "B,-5"})

            def test_unknown():
                tracecall.assert_shapes(torch.nn.Linear(3, 4), torch.zeros(2, 3), {"fc": "B"})
        """)
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert "3 failed" in done.stdout, done.stdout + done.stderr
    assert "5 expected, got 4" in done.stdout
    assert "test_net.py:5: AssertionError" in done.stdout
    assert "test_net.py:8: TracecallError" in done.stdout
    assert "test_net.py:11: TracecallError" in done.stdout
    assert "tracecall/asserting" not in done.stdout
