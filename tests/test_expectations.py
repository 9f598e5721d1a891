"""Expected shapes: what is written, what is read, and what counts as a difference."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from tests.views.traces import cnn, module, spec, trace
from tracecall.calls import CallError, TensorSpec, Trace, Value
from tracecall.errors import TracecallError
from tracecall.expectations import (
    FORMAT_VERSION,
    CallShapes,
    Difference,
    Expected,
    changes,
    differences,
    from_trace,
    load,
    save,
)


def shapes(taken: str, given: str) -> CallShapes:
    return CallShapes({"x": taken}, {"": given})


def reshaped(shown: Trace, path: str, given: TensorSpec, number: int = 0) -> Trace:
    """The same run with another output of one call."""
    again = copy.deepcopy(shown)
    again.find(path)[number].output = [Value("", given)]
    return again


# what is expected


def test_every_module_call_is_expected_by_path_and_number():
    """Operations are not; the calls of one module stand in call order, paths in alphabetical order."""
    expected = from_trace(cnn())
    assert list(expected.modules) == ["", "conv1", "conv2", "fc1", "fc2", "pool"]
    assert expected.modules["pool"] == [
        shapes("float32[1, 16, 28, 28]", "float32[1, 16, 14, 14]"),
        shapes("float32[1, 32, 14, 14]", "float32[1, 32, 7, 7]"),
    ]


def test_formulas_are_text_as_they_are():
    """A size may be a formula: nothing is solved."""
    root = module(
        "Net", "Net", TensorSpec(("B", 3, "H"), "float32", "cpu"), TensorSpec(("B", "H//2"), "int64", "cpu"), path=""
    )
    assert from_trace(trace(root)).modules == {"": [shapes("float32[B, 3, H]", "int64[B, H//2]")]}


def test_devices_classes_and_values_that_are_no_tensors_are_left_out():
    """The same shapes hold on a GPU and on fake tensors; a layout is no detail."""
    fake = TensorSpec((2,), "float32", "cuda:0", type="FakeTensor")
    root = module("Net", "Net", fake, TensorSpec((4, 4), "float32", "cpu", layout="sparse_coo"), path="")
    root.inputs.append(Value("n", "3"))
    assert from_trace(trace(root)).modules == {"": [shapes("float32[2]", "sparse_coo float32[4, 4]")]}


def test_a_run_that_failed_is_no_expectation():
    """Its shapes end in the middle."""
    failed = cnn()
    failed.error = CallError("RuntimeError", "no")
    with pytest.raises(TracecallError, match="CNN raised RuntimeError"):
        from_trace(failed)


# the file


def test_what_is_saved_is_what_is_loaded(tmp_path: Path):
    """And the same shapes give the same bytes, one tensor a line, with a line's end at the end."""
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    save(from_trace(cnn()), first)
    save(load(first), str(second))
    assert load(first) == from_trace(cnn())
    assert first.read_bytes() == second.read_bytes()
    assert first.read_text().endswith("}\n")
    assert '          "x": "float32[1, 3, 28, 28]"\n' in first.read_text()


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path):
    """A link stays a link, and the file's permissions stay."""
    target, link = tmp_path / "shapes.json", tmp_path / "link.json"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    save(from_trace(cnn()), link)
    assert link.is_symlink()
    assert load(target) == from_trace(cnn())
    assert target.stat().st_mode & 0o777 == 0o640
    assert {one.name for one in tmp_path.iterdir()} == {"shapes.json", "link.json"}


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path):
    """No such folder, a folder in its place, a name that is none."""
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "shapes.json", tmp_path / "folder", "a\0b"):
        with pytest.raises(TracecallError, match="cannot be written") as caught:
            save(from_trace(cnn()), path)
        assert len(str(caught.value).splitlines()) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_missing_file_says_how_to_write_it(tmp_path: Path):
    """With the same command: the option that writes it stands where --expect stood."""
    path = tmp_path / "shapes.json"
    with pytest.raises(TracecallError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path} cannot be read: No such file or directory; to write it, type --save-expected {path} in place of --expect"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\xff\xfe",
        '{"format_version": "1"}',
        '{"format_version": 1}',
        '{"format_version": 1, "model": "CNN", "modules": {"": [{"inputs": {}}]}}',
        '{"format_version": 1, "model": "CNN", "modules": {"": [{"inputs": {"x": 3}, "output": {}}]}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_one_line(text: str, tmp_path: Path):
    """It says what is wrong and how a file is written: another one, since this may be a trace or a model's source."""
    path = tmp_path / "shapes.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TracecallError, match="no whole file of expected shapes") as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).endswith("; to write one, type --save-expected with another name in place of --expect")


def test_half_a_file_is_damaged(tmp_path: Path):
    """Wherever it ends."""
    save(from_trace(cnn()), path := tmp_path / "shapes.json")
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(TracecallError):
            load(path)


def test_another_version_is_one_line(tmp_path: Path):
    """Also where nothing else in the file is as it is now."""
    path = tmp_path / "shapes.json"
    for version, advice in ((FORMAT_VERSION + 1, "update it: pip install --upgrade tracecall"), (-1, "another name")):
        path.write_text(json.dumps({"format_version": version, "modules": 3}))
        with pytest.raises(TracecallError, match=f"format version {version}.*reads version {FORMAT_VERSION}.*{advice}"):
            load(path)


# differences


def test_the_same_run_has_no_differences():
    """Nor has one on another device."""
    assert differences(from_trace(cnn()), cnn()) == []
    assert differences(from_trace(cnn()), reshaped(cnn(), "fc2", spec((1, 10), device="cuda:0"))) == []


def test_a_changed_shape_or_dtype_is_a_difference():
    """With the whole call before and after."""
    for given in (spec((1, 12)), spec((1, 10), "float16")):
        (found,) = differences(from_trace(cnn()), reshaped(cnn(), "fc2", given))
        assert (found.kind, found.path, found.call) == ("changed", "fc2", None)
        assert found.before == shapes("float32[1, 120]", "float32[1, 10]")
        assert found.after is not None
        assert found.after != found.before


def test_calls_of_one_module_are_compared_one_by_one():
    """A module that is called more often has calls added; its calls are numbered."""
    (found,) = differences(from_trace(cnn()), reshaped(cnn(), "pool", spec((1, 2)), number=1))
    assert (found.kind, found.path, found.call) == ("changed", "pool", 2)
    more = cnn()
    more.calls[0].children.append(module("conv1", "Conv2d", (1, 2), (1, 3)))
    assert differences(from_trace(cnn()), more) == [
        Difference("added", "conv1", 2, after=shapes("float32[1, 2]", "float32[1, 3]"))
    ]
    assert differences(from_trace(more), cnn()) == [
        Difference("removed", "conv1", 2, before=shapes("float32[1, 2]", "float32[1, 3]"))
    ]


def test_a_module_that_is_new_or_gone_is_a_difference():
    """New ones in the order of the run, then those that are no more."""
    other = cnn()
    other.calls[0].children[-1].path = "head"
    assert [(one.kind, one.path) for one in differences(from_trace(cnn()), other)] == [
        ("added", "head"),
        ("removed", "fc2"),
    ]


def test_another_name_of_a_parameter_is_no_difference():
    """Unless the shape under it is another one."""
    assert changes({"x": "float32[2]", "y": "float32[3]"}, {"a": "float32[2]", "b": "float32[3]"}) == []
    assert changes({"x": "float32[2]"}, {"a": "float32[3]"}) == [("a", "float32[2]", "float32[3]")]


def test_the_order_of_keyword_arguments_is_no_difference():
    """Tensors are compared by name where the names are the same."""
    assert changes({"x": "float32[2]", "y": "float32[3]"}, {"y": "float32[3]", "x": "float32[2]"}) == []


def test_one_tensor_more_is_a_change_of_its_own():
    """And where no name is left, all of them are one change."""
    assert changes({"x": "float32[2]"}, {"x": "float32[2]", "mask": "bool[2]"}) == [("mask", None, "bool[2]")]
    assert changes({"": "float32[2]"}, {"[0]": "float32[2]", "[1]": "int64[]"}) == [
        ("", "float32[2]", "float32[2], int64[]")
    ]


def test_nothing_expected_is_all_added():
    """An empty file of expected shapes."""
    assert {one.kind for one in differences(Expected(model="CNN"), cnn())} == {"added"}
