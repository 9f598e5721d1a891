"""What users type: read as meant, or refused in one line that says what to type."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracecall.errors import TracecallError
from tracecall.loading.places import check, demo_file, locate, shown
from tracecall.loading.specs import (
    DEMOS,
    DTYPES,
    parse_device,
    parse_dtype,
    parse_input,
    parse_model,
    parse_seed,
)


@pytest.mark.parametrize(
    ("text", "kind", "place", "name", "args", "kwargs"),
    [
        ("cnn", "demo", "cnn", None, (), {}),
        ("models/cnn.py", "file", "models/cnn.py", None, (), {}),
        ("models/cnn.py:CNN", "file", "models/cnn.py", "CNN", (), {}),
        (
            "a.py:Net(20, sizes=[1, -2], act='x.py:y')",
            "file",
            "a.py",
            "Net",
            (20,),
            {"sizes": [1, -2], "act": "x.py:y"},
        ),
        ("my (copy)/a.py:Net()", "file", "my (copy)/a.py", "Net", (), {}),
        ("C:/a.py:Net", "file", "C:/a.py", "Net", (), {}),
        ("torch.nn:Linear(10,5)", "module", "torch.nn", "Linear", (10, 5), {}),
        ("package.module:Outer.Inner(None)", "module", "package.module", "Outer.Inner", (None,), {}),
        (" torch.nn : Linear ".replace(" :", ":"), "module", "torch.nn", "Linear", (), {}),
    ],
)
def test_model_is_taken_apart(text, kind, place, name, args, kwargs):
    """A demo, a file or a module; a name; arguments as in Python."""
    spec = parse_model(text)
    assert (spec.kind, spec.place, spec.name, spec.args, spec.kwargs) == (kind, place, name, args, kwargs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "MODEL is empty: type a demo (linear, feedforward, mlp, cnn, rnn, transformer), path/to/file.py or"),
        ("a.py:", "'' after the colon is not a name"),
        ("a.py:1", "'1' after the colon is not a name"),
        ("a.py:Net(1", "'Net(1' after the colon is not a name"),
        ("a.py:Net()()", "after the colon is not a name"),
        ("a.py:" + "(" * 5000, "after the colon is not a name"),
        ("a b:Net", "'a b' before the colon is neither a .py file nor a module's name"),
        ("a.py:Net(1, nn.ReLU())", "argument 2 of Net(…), nn.ReLU(), is not a literal: type a number, string"),
        ("a.py:Net(size=2 + x)", "the argument 'size' of Net(…), 2 + x, is not a literal"),
        ("a.py:Net(*[1])", "argument 1 of Net(…), *[1], is not a literal"),
        ("a.py:Net(**{})", "the argument of Net(…), **{}, is not a literal"),
        ("a.py:Net({[]: 1})", "argument 1 of Net(…), {[]: 1}, is not a literal"),
        ("a.py:Net(a=1, a=2)", "gives Net the argument 'a' twice"),
    ],
)
def test_model_that_cannot_be_meant(text, message):
    """The error says which part is wrong."""
    with pytest.raises(TracecallError, match=re.escape(message)):
        parse_model(text)


def test_arguments_are_never_run():
    """Not even to find out what they are."""
    with pytest.raises(TracecallError, match="is not a literal"):
        parse_model("a.py:Net(__import__('sys').exit(3))")


@pytest.mark.parametrize(
    ("text", "shape", "name", "dtype"),
    [
        ("1,3,28,28", (1, 3, 28, 28), None, None),
        ("5", (5,), None, None),
        (" 1, 3 ", (1, 3), None, None),
        ("[1, 3]", (1, 3), None, None),
        ("x=1,16", (1, 16), "x", None),
        ("ids=1,16:int64", (1, 16), "ids", "int64"),
        ("1,16:torch.long", (1, 16), None, "int64"),
    ],
)
def test_input_is_taken_apart(text, shape, name, dtype):
    """Sizes; before them a name, after them a dtype."""
    spec = parse_input(text)
    assert (spec.shape, spec.name, spec.dtype) == (shape, name, dtype)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,x", "--input '1,x' has the size x: sizes are whole numbers of at least 1, with commas between them; type for"),
        ("0,3,28,28", "has the size 0: sizes are whole numbers of at least 1, with commas between them; type for example"
         " --input 1,3,28,28"),
        ("x=-1,3", "type for example --input x=1,3"),
        ("1,,3", "has a missing size"),
        ("1.5,3", "has the size 1.5"),
        ("²,3", "has the size ²"),
        ("1x3x28x28", "type for example --input 1,3,28,28"),
        ("", "gives no sizes; type for example --input 1,3,28,28"),
        ("x=", "gives no sizes"),
        ("()", "gives no sizes"),
        ("1,2:int46", "names no dtype that can be used here: did you mean int64? type one of float32,"),
        ("1,2:", "names no dtype"),
        ("1:2:3", "is not [name=]sizes[:dtype]; type for example --input 1,3,28,28 or --input ids=1,16:int64"),
        ("2a=1", "is not [name=]sizes[:dtype]"),
    ],
)  # fmt: skip
def test_input_that_cannot_be_meant(text, message):
    """The error says what was given, what is possible, and an example to type."""
    with pytest.raises(TracecallError, match=re.escape(message)):
        parse_input(text)


@given(st.text(), st.text())
def test_no_text_is_a_crash(first, second):
    """Whatever is typed is read or refused, in one line."""
    for parse, text in (
        (parse_input, first),
        (parse_model, first),
        (parse_model, f"a.py:{second}"),
        (parse_device, first),
    ):
        try:
            parse(text)
        except TracecallError as error:
            assert "\n" not in str(error) or "\n" in text


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
def test_any_shape_survives(shape):
    """Sizes come back as typed."""
    assert parse_input(",".join(map(str, shape))).shape == tuple(shape)


def test_every_dtype_is_one_of_torch():
    """The list that is kept without torch is true of torch."""
    for name in DTYPES:
        assert isinstance(getattr(torch, name), torch.dtype)


def test_device_dtype_and_seed():
    """What is wrong in the text alone is refused without torch."""
    assert [parse_device(text) for text in ("cpu", "CUDA:1", "auto")] == ["cpu", "cuda:1", "auto"]
    assert parse_dtype("half") == "float16"
    for parse, value, message in (
        (parse_device, "tpu", "--device 'tpu' is none of cpu, cuda, cuda:N, mps, auto; type for example --device cpu"),
        (parse_device, "cuda:x", "is none of"),
        (parse_dtype, "int8", "type one of float32, float64, float16, bfloat16"),
        (parse_seed, -1, "--seed -1 is not between 0 and 2**63 - 1"),
    ):
        with pytest.raises(TracecallError, match=re.escape(message)):
            parse(value)


def test_a_missing_file_is_one_line(tmp_path, monkeypatch):
    """A folder, another kind of file, a file without its .py, a slip of the pen: each says what to type."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "resnet.py").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "weights.pt").touch()
    for text, message in {
        "nets": "MODEL 'nets' is a folder; type a .py file, for example nets/resnet.py",
        "notes.txt": "MODEL 'notes.txt' is not a Python file; type a .py file that defines the model",
        "weights.pt": "MODEL 'weights.pt' is an empty file; save or download it again",
        "nets/resnet": "MODEL 'nets/resnet' does not exist; type nets/resnet.py",
        "nets/resnt.py": "does not exist; did you mean nets/resnet.py? type path/to/file.py,",
        "nosuch": "is neither a demo nor a file; the demos are linear, feedforward, mlp, cnn, rnn, transformer; or type",
        "transfomer": "did you mean transformer?",
        "Linear(10, 5)": "does not say where Linear is; type path/to/file.py:Linear(10, 5) or",
        "torch.nn.Linear": "if it is in a module, type torch.nn:Linear",
    }.items():
        with pytest.raises(TracecallError, match=re.escape(message)):
            check(text)


def test_the_demos_are_found():
    """Each from the package or from the checkout; `cnn:CNN` is one, too."""
    assert all(demo_file(name).is_file() for name in DEMOS)
    assert locate(parse_model("cnn:CNN")) == demo_file("cnn")


def test_a_users_module_goes_before_a_demo(tmp_path, monkeypatch):
    """`cnn:Net` is the user's cnn.py where there is one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cnn.py").touch()
    assert locate(parse_model("cnn:Net")) is None


def test_files_are_shown_as_a_reader_knows_them(tmp_path, monkeypatch):
    """Relative to the current folder, to site-packages, or absolute."""
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a" / "net.py") == "a/net.py"
    assert shown("/x/lib/python3.11/site-packages/torch/nn/modules/linear.py") == "torch/nn/modules/linear.py"
    assert shown(Path("/elsewhere/net.py")) == "/elsewhere/net.py"


def test_bad_text_is_refused_without_torch():
    """The command line is checked before torch is paid for."""
    code = (
        "import sys; from tracecall.loading import check; check('cnn', ['1,3'], device='cuda', dtype='half', seed=1);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
