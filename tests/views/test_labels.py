"""Shapes, times, counts and names as short text."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.views.traces import module, operation, spec, trace
from tracecall.calls import Hook, ModuleInfo, Site, TensorSpec, Value
from tracecall.views import labels


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("conv1", "conv1"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines", r"two\nlines"),
        ("tab\there\r", r"tab\there\r"),
        ("\u202egnirts", r"\u202egnirts"),
        ("卷积", "卷积"),
        ("", ""),
    ],
)
def test_a_name_is_printed_as_text(text, printed):
    """Control characters become visible; everything that a terminal prints as it is stays."""
    assert labels.safe(text) == printed


@given(st.text())
def test_no_text_can_control_a_terminal(text):
    """Whatever a model calls its parts, only printable characters reach the terminal."""
    assert labels.safe(text).isprintable()


def test_a_shape_is_in_brackets():
    """With spaces where there is room, without where there is not; a scalar is empty brackets."""
    assert labels.shape(spec((1, 3, 28, 28))) == "[1, 3, 28, 28]"
    assert labels.shape(spec((1, 3, 28, 28)), roomy=False) == "[1,3,28,28]"
    assert labels.shape(spec(())) == "[]"
    assert labels.shape(TensorSpec(("B", 16, "H//2"), "float32", "cpu")) == "[B, 16, H//2]"


def test_a_tensor_is_named_by_what_sets_it_apart():
    """Class, layout and dtype."""
    assert labels.tensor(spec((1, 3))) == "float32[1, 3]"
    assert labels.tensor(TensorSpec((4, 4), "float32", "cpu", layout="sparse_coo")) == "sparse_coo float32[4, 4]"
    assert labels.tensor(TensorSpec((4,), "int64", "cpu", type="Image")) == "Image int64[4]"
    assert labels.tensor(TensorSpec((4,), "int64", "cpu", type="\x1bX")) == r"\x1bX int64[4]"


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0.0 µs"),
        (8_140, "8.1 µs"),
        (184_200, "184.2 µs"),
        (1_020_000, "1.020 ms"),
        (43_940_000, "43.94 ms"),
        (430_940_000, "430.9 ms"),
        (12_345_000_000, "12.35 s"),
    ],
)
def test_a_time_has_the_unit_that_suits_it(ns, text):
    """Three or four digits that mean something."""
    assert labels.duration(ns) == text


def test_times_side_by_side_share_the_unit_of_the_largest():
    """So that they can be compared at a glance."""
    assert labels.duration(950_000, of=1_050_000) == "0.950 ms"


@pytest.mark.parametrize(
    ("share", "drawn"),
    [(0, ""), (0.001, "▏"), (0.125, "▌"), (0.5, "██"), (0.97, "███▉"), (1, "████"), (1.5, "████"), (-0.5, "")],
)
def test_a_bar_shows_a_share_to_an_eighth_of_a_character(share, drawn):
    """Anything above nothing is seen; nothing is longer than the whole."""
    assert labels.bar(share, 4) == drawn


@given(st.floats(0, 2), st.floats(0, 2), st.integers(1, 12))
def test_a_longer_bar_is_never_the_smaller_share(one, other, width):
    """Bars keep the order of what they show, and their place."""
    small, large = (labels.bar(share, width) for share in sorted((one, other)))
    eighths = [sum(" ▏▎▍▌▋▊▉█".index(char) for char in drawn) for drawn in (small, large)]
    assert eighths[0] <= eighths[1]
    assert len(large) <= width


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1.00K"),
        (9_999, "10.0K"),
        (99_950, "100K"),
        (194_578, "195K"),
        (999_499, "999K"),
        (999_500, "1.00M"),
        (7_241_732_096, "7.24B"),
        (1_500_000_000_000, "1.50T"),
    ],
)
def test_a_brief_count_has_three_digits(number, text):
    """Never "1000K", never "10.00K"."""
    assert labels.brief(number) == text


@given(st.integers(0, 10**15))
@example(9_999)
@example(99_950)
def test_a_brief_count_fits_in_five_characters(number):
    """A column of them is narrow."""
    assert cell_len(labels.brief(number)) <= 5


def test_a_count_has_its_thousands_apart():
    """As the header prints parameters."""
    assert labels.count(194_578) == "194,578"


def test_a_place_is_file_and_line():
    """As editors and terminals open it."""
    assert labels.place(Site("models/cnn.py", 24)) == "models/cnn.py:24"
    assert labels.place(None) == ""


def test_sources_are_told_once_each():
    """`x + x` has one source."""
    call = operation("x + x", "aten.add", (1,), (1,), Value("other", spec((1,)), "conv1"), source="conv1")
    assert labels.sources(call) == ["conv1"]


def test_a_hook_says_how_it_was_registered():
    """On the module or global, and with what."""
    assert labels.registered(Hook("forward pre-hook", "module")) == "forward pre-hook"
    assert labels.registered(Hook("forward pre-hook", "global")) == "global forward pre-hook"
    assert labels.registered(Hook("forward hook", "module", True, True)) == "forward hook, with kwargs, always_call"


def test_aten_operations_under_one_expression_are_counted():
    """One by its name, one several times, several."""
    call = operation("F.linear", "aten.addmm", (1, 8), (1, 4))
    assert labels.grouped(call) == "aten.addmm"
    call.operations = {"aten.sin": 3}
    call.type = "aten.sin"
    assert labels.grouped(call) == "aten.sin ×3"
    call.operations, call.type = {"aten.t": 1, "aten.addmm": 1}, "aten.addmm"
    assert labels.grouped(call) == "aten.addmm +1"


def test_parameters_are_those_of_a_module_with_all_below_it():
    """Each counted once, at its own path; modules that are none of the trace's are passed over."""
    made = trace(module("Net", "Net", (1, 2), (1, 2), path=""))
    own = {"": 1, "a": 2, "a.b": 0, "a.b.c": 4, "ab": 8, "x.y.z": 16, "a.made": 32}
    made.modules = {path: ModuleInfo(path, "M", parameters=number) for path, number in own.items()}
    made.modules["a.made"].built_inside = True
    assert labels.parameters(made) == {"": 31, "a": 6, "a.b": 4, "a.b.c": 4, "ab": 8, "x.y.z": 16}


def test_a_path_of_many_names_is_read_once():
    """Its hundred thousand starts are not made: those would be ten billion characters."""
    long = ".".join("a" * 100_000)
    made = trace(module("Net", "Net", (1, 2), (1, 2), path=""))
    made.modules = {path: ModuleInfo(path, "M", parameters=3) for path in ("", "a.a", long, f"{long}.b")}
    assert labels.parameters(made) == {"": 12, "a.a": 9, long: 6, f"{long}.b": 3}
