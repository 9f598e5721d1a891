"""Operations: named as the source has them, one for each expression, each with what feeds it."""

from __future__ import annotations

import gc
import importlib.util
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tracecall
from tests.zoo.drawing import drawing, drawn, names, only
from tracecall.calls import Trace

X = torch.ones(2, 4)


def traced(forward: Callable[..., Any], *inputs: Any, **tensors: torch.Tensor) -> Trace:
    """The trace of a model with that forward; `tensors` become its parameters, those without gradient its buffers."""

    class Model(nn.Module):
        pass

    Model.forward = forward  # type: ignore[assignment,method-assign]
    model = Model()
    for name, value in tensors.items():
        if value.requires_grad:
            model.register_parameter(name, nn.Parameter(value))
        else:
            model.register_buffer(name, value)
    return tracecall.trace(model, *(inputs or (X,)))


W = torch.ones(4, 4, requires_grad=True)


# names


def relu(self: Any, x: Any) -> Any:
    return F.relu(x)


def view(self: Any, x: Any) -> Any:
    return x.view(-1, 2)


def add(self: Any, a: Any) -> Any:
    b = a
    return a + b


def index(self: Any, x: Any) -> Any:
    return x[:, 0]


def inplace(self: Any, x: Any) -> Any:
    x = x + 1
    x += 2
    return x


def negative(self: Any, x: Any) -> Any:
    return -x


def matmul(self: Any, x: Any) -> Any:
    return x @ self.w


def chained(self: Any, x: Any) -> Any:
    return x.view(-1).relu().sum()


def nested(self: Any, x: Any) -> Any:
    return F.relu(torch.sin(x))


def compare(self: Any, x: Any) -> Any:
    return x > 0


def assign(self: Any, x: Any) -> Any:
    y = x.clone()
    y[:, 0] = 5
    return y


def transpose(self: Any, x: Any) -> Any:
    return x.T


def power(self: Any, x: Any) -> Any:
    return x**2 / 3


def attribute(self: Any, x: Any) -> Any:
    return x.t().contiguous()


def ellipsis(self: Any, x: Any) -> Any:
    return x[..., None]


def several_lines(self: Any, x: Any) -> Any:
    return torch.cat(
        [
            x,
            x,
        ],
        dim=1,
    )


def walrus(self: Any, x: Any) -> Any:
    if (y := x * 2) is not None:
        return y
    return x


def comprehension(self: Any, x: Any) -> Any:
    return [row * 2 for row in x.unbind(0)]


def starred(self: Any, x: Any) -> Any:
    shape = (1, 8)
    return x.reshape(*shape)


def conditional(self: Any, x: Any) -> Any:
    return x.cos() if x.shape[0] == 2 else x.sin()


def fstring(self: Any, x: Any) -> Any:
    return torch.einsum(f"{'ij'}->ji", x)


NAMES = [
    (relu, ["F.relu"]),
    (view, ["x.view"]),
    (add, ["a + b"]),
    (index, ["x[:, 0]"]),
    (inplace, ["x + 1", "x += 2"]),
    (negative, ["-x"]),
    (matmul, ["x @ self.w"]),
    (chained, ["x.view", "x.view(…).relu", "x.view(…).relu(…).sum"]),
    (nested, ["torch.sin", "F.relu"]),
    (compare, ["x > 0"]),
    (assign, ["x.clone", "y[:, 0] = 5"]),  # not "y[:, 0]": that would read
    (transpose, ["x.T"]),
    (power, ["x ** 2", "(x ** 2) / 3"]),
    (attribute, ["x.t", "x.t(…).contiguous"]),
    (ellipsis, ["x[..., None]"]),
    (several_lines, ["torch.cat"]),
    (walrus, ["x * 2"]),
    (comprehension, ["x.unbind", "row * 2", "row * 2"]),
    (starred, ["x.reshape"]),
    (conditional, ["x.cos"]),
    (fstring, ["torch.einsum"]),
]


@pytest.mark.parametrize(("forward", "expected"), NAMES, ids=[forward.__name__ for forward, _ in NAMES])
@pytest.mark.parametrize("mode", ["grad", "inference"])
def test_an_operation_is_named_as_the_source_has_it(forward: Any, expected: list[str], mode: str) -> None:
    """One operation for each expression, the same in every grad mode."""
    with torch.inference_mode(mode == "inference"):
        assert names(traced(forward, X.clone(), w=W)) == expected


def test_an_operation_has_the_file_the_line_and_the_column_of_its_expression() -> None:
    """Three expressions on one line have three columns and three texts."""
    first, second, third = traced(chained).calls[0].children
    line = chained.__code__.co_firstlineno + 1
    for call, text in (
        (first, "x.view(-1)"),
        (second, "x.view(-1).relu()"),
        (third, "x.view(-1).relu().sum()"),
    ):
        assert call.site is not None
        assert call.site.file == "tests/zoo/test_operations.py"
        assert (call.site.line, call.site.column, call.site.text) == (line, 12, text)
        assert call.site.function == "chained"


def test_an_expression_over_several_lines_begins_on_its_first() -> None:
    """Its text is put on one line."""
    site = only(traced(several_lines), "torch.cat").site
    assert site is not None
    assert site.line == several_lines.__code__.co_firstlineno + 1
    assert site.text is not None
    assert "\n" not in site.text
    assert site.text.replace(" ", "") in (
        "torch.cat([x,x,],dim=1,)",
        "torch.cat([x,x],dim=1)",
        "torch.cat([x,x,],dim=1)",
    )


def test_an_expression_with_wide_characters_is_cut_out_exactly() -> None:
    """Columns count bytes, texts count characters."""

    def forward(self: Any, x: Any) -> Any:
        größe = "ä→"; y = x.relu() if größe else x  # noqa: E702  # fmt: skip
        return y

    site = only(traced(forward), "x.relu").site
    assert site is not None
    assert site.text == "x.relu()"


def test_code_without_source_has_a_line_and_no_text() -> None:
    """A forward made by exec: the operation is named by what it runs."""
    space: dict[str, Any] = {}
    exec("def forward(self, x):\n    return x.relu()\n", space)
    (call,) = traced(space["forward"]).calls[0].children
    assert call.name == "aten.relu"
    assert call.site is not None
    assert (call.site.line, call.site.text) == (2, None)


# helpers


def helper(x: torch.Tensor) -> torch.Tensor:
    """In the same package as the forwards that call it."""
    y = x * 3
    return y - 1


def test_a_helper_of_the_same_package_is_named_inside() -> None:
    """The reader's own function is read, not skipped: its lines, its function."""
    trace = traced(lambda self, x: helper(x))
    assert names(trace) == ["x * 3", "y - 1"]
    assert {call.site.function for call in trace.calls[0].children if call.site} == {"helper"}


def test_a_method_of_the_model_is_named_inside() -> None:
    """`self.split(x)` too; the operations belong to the module whose method it is."""

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scaled(x) + self.scaled(x)

        def scaled(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    trace = tracecall.trace(Model(), X)
    assert names(trace) == ["x * 2", "x * 2", "scaled(…) + scaled(…)"]
    assert {call.path for call in trace.calls[0].children} == {""}


def imported(file: Path, text: str) -> ModuleType:
    """A Python module of its own, of which nothing stays."""
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ModuleType]:
    """A package of somebody else's, einops-like: one function of many operations."""
    text = "def rearrange(x, pattern):\n    x = x.reshape(-1)\n    x = x + 0\n    return x.view(2, 2, 2)\n"
    yield imported(tmp_path / "rearranging.py", text)
    del sys.modules["rearranging"]


@pytest.fixture
def inherited(tmp_path: Path) -> Iterator[ModuleType]:
    """Somebody else's module, to be subclassed."""
    text = (
        "from torch import nn\n"
        "class Base(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(4, 4)\n"
        "    def forward(self, x):\n"
        "        x = x + self.fc(x)\n"
        "        return x * 2\n"
    )
    yield imported(tmp_path / "inherited_base.py", text)
    del sys.modules["inherited_base"]


def test_an_inherited_forward_is_the_modules_own_wherever_it_is_written(inherited: ModuleType) -> None:
    """`super().forward(x)` is no call of a library: its operations are the module's, each with its line."""
    base: Any = inherited.Base

    class Kid(base):  # type: ignore[misc]  # mypy cannot see the file
        def forward(self, x: Any) -> Any:
            """Go on with what the base gives."""
            return super().forward(x) - 1

    trace = tracecall.trace(Kid(), X)
    assert names(trace) == ["x + fc(…)", "x * 2", "super(…).forward(…) - 1"]


def test_a_function_of_another_package_is_one_expression(library: ModuleType) -> None:
    """What the reader wrote is `rearrange(x, "…")`: one operation, its aten operations counted."""

    def forward(self: Any, x: Any) -> Any:
        y = library.rearrange(x, "b (c d) -> b c d")
        return y * 2

    trace = traced(forward)
    assert drawn(trace) == drawing("""
        Model [2,4] → [2,2,2]
          · library.rearrange [2,4] → [2,2,2] ← input x
          · y * 2 [2,2,2] → [2,2,2] ← library.rearrange
    """)
    operations = only(trace, "library.rearrange").operations
    assert operations is not None
    assert operations["aten.add"] == 1


# which operations


class Block(nn.Module):
    """A residual connection around a layer, with a position added before."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(4))
        self.register_buffer("scale", torch.ones(4))
        self.conv1 = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.pos_embed
        y = y * self.scale
        return self.conv1(y) + y


def test_the_operations_inside_torchs_own_forwards_are_internal() -> None:
    """Recorded by default are the model's own, with `operations="all"` (`--ops all`) these too."""
    from tracecall.views.tree import text

    trace = tracecall.trace(Block(), X)
    assert trace.find("conv1")[0].children == []
    assert [call.internal for call in trace.calls[0].children if call.kind == "operation"] == [False] * 3
    assert "x + self.pos_embed" not in text(trace, operations="none")
    model = Block()
    with tracecall.tracing(model, operations="all") as trace:
        model(X)
    assert [call.internal for call in trace.find("conv1")[0].children] == [True]
    assert "F.linear" not in text(trace, operations="forward")
    assert "F.linear" in text(trace, operations="all")


def test_the_operations_of_a_torch_module_that_is_the_root_are_what_it_does() -> None:
    """So are those that fail, and those that read the parameters of other modules."""
    assert names(tracecall.trace(nn.Linear(3, 3), X[:, :3])) == ["F.linear"]
    attention = nn.Sequential(nn.MultiheadAttention(4, 2, batch_first=True))
    with tracecall.tracing(attention) as trace:
        attention[0](X, X, X)
    assert [call.reads for call in trace.find("0")[0].children] == [["0.out_proj.weight", "0.out_proj.bias"]]


@pytest.mark.parametrize("mode", ["grad", "inference"])
def test_aten_operations_under_one_expression_are_one_operation_with_counts(mode: str) -> None:
    """F.scaled_dot_product_attention in parts under autograd, whole in inference mode: one operation either way."""

    def forward(self: Any, q: Any) -> Any:
        return F.linear(q, self.w, self.b)

    with torch.inference_mode(mode == "inference"):
        trace = traced(forward, X, w=W, b=torch.ones(4, requires_grad=True))
    (call,) = trace.calls[0].children
    assert call.name == "F.linear"
    assert call.operations == ({"aten.linear": 1} if mode == "inference" else {"aten.t": 1, "aten.addmm": 1})


def test_a_loop_makes_an_operation_each_time_round() -> None:
    """Two runs of one expression are two operations, not one with a count."""

    def forward(self: Any, x: Any) -> Any:
        for _ in range(3):
            x = x * 2
        return x

    trace = traced(forward)
    assert drawn(trace) == drawing("""
        Model [2,4] → [2,4]
          · x * 2 [2,4] → [2,4] ← input x
          · x * 2 [2,4] → [2,4] ← x * 2 #1
          · x * 2 [2,4] → [2,4] ← x * 2 #2
    """)


# what feeds what


def test_every_input_says_where_it_came_from() -> None:
    """An input, a parameter, a buffer, a call: a residual connection can be read in the tree."""
    assert drawn(tracecall.trace(Block(), X)) == drawing("""
        Block [2,4] → [2,4]
          · x + self.pos_embed [2,4] [4] → [2,4] ← input x, parameter pos_embed
          · y * self.scale [2,4] [4] → [2,4] ← x + self.pos_embed, buffer scale
          conv1 Linear [2,4] → [2,4] ← y * self.scale
          · conv1(…) + y [2,4] [2,4] → [2,4] ← conv1, y * self.scale
    """)


def test_printed_a_residual_connection_names_both_of_its_sides() -> None:
    """In the terminal too."""
    (line,) = [line for line in str(tracecall.trace(Block(), X)).splitlines() if "conv1(…) + y" in line]
    assert "← conv1, y * self.scale" in line


def test_what_a_submodule_took_in_and_gave_back_keeps_its_source() -> None:
    """A module that returns its own input: what follows came from that module."""
    model = nn.Sequential(nn.Identity(), nn.Identity(), nn.Linear(4, 4))
    trace = tracecall.trace(model, X)
    assert [call.inputs[0].source for call in trace.calls[0].children] == ["input input", "0", "1"]


def test_an_input_that_was_passed_twice_has_its_first_name() -> None:
    """`model(x, x)`: the tensor has one identity."""

    def forward(self: Any, a: Any, b: Any) -> Any:
        return b * 2

    assert only(traced(forward, X, X), "b * 2").inputs[0].source in ("input a", "input b")


def test_a_tensor_from_an_outer_module_names_the_module_that_made_it() -> None:
    """A tensor passed round through an attribute, not through an argument, still has a source."""

    class Reader(nn.Module):
        memory: torch.Tensor

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.memory

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.writer, self.reader = nn.Linear(4, 4), Reader()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.reader.memory = self.writer(x)
            return self.reader(x)

    trace = tracecall.trace(Model(), X)
    assert [value.source for value in only(trace, "x + self.memory").inputs if value.source] == ["input x", "writer"]


VIEWS = [
    ("chunk", lambda x: x.chunk(2, dim=1)),
    ("transpose", lambda x: x.transpose(0, 1)),
    ("view", lambda x: x.view(-1)),
    ("index", lambda x: x[:, 1:]),
]


@pytest.mark.parametrize(("name", "make"), VIEWS)
def test_identity_is_followed_through_views(name: str, make: Any) -> None:
    """A view came from the operation that made it, which came from the layer."""

    def forward(self: Any, x: Any) -> Any:
        y = torch.sin(x)
        part = make(y)
        part = part[0] if isinstance(part, tuple) else part
        return part.cos()

    trace = traced(forward)
    view, last = trace.calls[0].children[1], trace.calls[0].children[-1]
    assert [value.source for value in view.inputs if value.source] == ["torch.sin"]
    assert [value.source for value in last.inputs if value.source] == [view.name]


def test_each_part_of_a_chunk_came_from_it() -> None:
    """Several outputs of one operation."""

    def forward(self: Any, x: Any) -> Any:
        a, b = x.chunk(2, dim=1)
        return a * b

    assert drawn(traced(forward)) == drawing("""
        Model [2,4] → [2,2]
          · x.chunk [2,4] → [2,2] [2,2] ← input x
          · a * b [2,2] [2,2] → [2,2] ← x.chunk
    """)


def test_what_was_written_in_place_came_from_the_write() -> None:
    """`x += 1`, `x.mul_(2)`: the tensor is the same, its source is the last that wrote to it."""

    def forward(self: Any, x: Any) -> Any:
        y = x + 1
        y.mul_(2)
        y += 3
        return y.sum()

    assert drawn(traced(forward)) == drawing("""
        Model [2,4] → []
          · x + 1 [2,4] → [2,4] ← input x
          · y.mul_ [2,4] → [2,4] ← x + 1
          · y += 3 [2,4] → [2,4] ← y.mul_
          · y.sum [2,4] → [] ← y += 3
    """)


@pytest.mark.parametrize("mode", ["grad", "inference"])
def test_what_was_written_through_a_view_came_from_the_write(mode: str) -> None:
    """`y[:, 0].mul_(2)` changes y: what reads y next came from that."""

    def forward(self: Any, x: Any) -> Any:
        y = x + 1
        y[:, 0].mul_(2)
        return y.sum()

    with torch.inference_mode(mode == "inference"):
        trace = traced(forward, X.clone())
    assert drawn(trace) == drawing("""
        Model [2,4] → []
          · x + 1 [2,4] → [2,4] ← input x
          · y[:, 0] [2,4] → [2] ← x + 1
          · y[:, 0].mul_ [2] → [2] ← y[:, 0]
          · y.sum [2,4] → [] ← y[:, 0].mul_
    """)


def test_what_was_written_by_an_index_assignment_came_from_it() -> None:
    """`y[0] = x[1]`: one statement that writes."""

    def forward(self: Any, x: Any) -> Any:
        y = torch.zeros(2, 4)
        y[0] = x[1]
        return y.sum()

    trace = traced(forward)
    (total,) = [call for call in trace.calls[0].children if call.name == "y.sum"]
    assert [value.source for value in total.inputs if value.source] == ["y[0] = x[1]"]


def test_an_input_that_was_written_in_place_came_from_the_write() -> None:
    """The model changed its own input."""

    def forward(self: Any, x: Any) -> Any:
        x.add_(1)
        return x.sum()

    assert only(traced(forward, X.clone()), "x.sum").inputs[0].source == "x.add_"


def test_an_output_given_by_out_came_from_the_call() -> None:
    """`torch.add(x, 1, out=y)` writes y."""

    def forward(self: Any, x: Any) -> Any:
        y = torch.empty(2, 4)
        torch.add(x, 1, out=y)
        return y.sum()

    assert only(traced(forward), "y.sum").inputs[0].source == "torch.add"


def test_an_address_that_is_used_again_is_no_identity() -> None:
    """Tensors that died leave their id to others: no source is made up from it."""

    def forward(self: Any, x: Any) -> Any:
        for _ in range(50):
            torch.sin(x)
        y = torch.ones(2, 4)
        return y + 1

    assert only(traced(forward), "y + 1").inputs[0].source == "torch.ones"


# nothing is kept alive


@pytest.mark.parametrize("grad", [True, False])
def test_no_tensor_is_kept_alive_during_the_run(grad: bool) -> None:
    """An intermediate dies as early as untraced: peak memory is the model's own."""
    alive: list[bool] = []

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = self.fc(x)
            b = a + 1
            refs = [weakref.ref(a), weakref.ref(b)]
            c = b * 2
            del a, b
            c = c.detach()
            alive.extend(ref() is not None for ref in refs)
            return c

    model = Model()
    gc.disable()
    try:
        with torch.set_grad_enabled(grad):
            model(X)
            untraced = list(alive)
            alive.clear()
            with tracecall.tracing(model):
                model(X)
    finally:
        gc.enable()
    assert alive == untraced == [False, False]


def test_no_tensor_is_kept_alive_after_the_run() -> None:
    """A Trace is plain data: input, output and intermediates go with their owners."""
    model, x = Block(), X.clone()
    gc.disable()
    try:
        with tracecall.tracing(model) as trace:
            out = model(x)
        refs = [weakref.ref(x), weakref.ref(out)]
        del x, out
        assert [ref() is None for ref in refs] == [True, True]
    finally:
        gc.enable()
    assert len(trace.calls) == 1


def test_storage_that_was_written_in_place_is_freed_during_the_run() -> None:
    """Following identity through in-place operations keeps no storage."""
    freed: list[bool] = []

    def forward(self: Any, x: Any) -> Any:
        y = torch.ones(1000)
        y[:10].mul_(2)
        storage = weakref.ref(y.untyped_storage())
        del y
        freed.append(storage() is None)
        return x + 1

    traced(forward)
    assert freed == [True]


def test_output_of_a_generator_expression_and_a_lambda_is_named_where_it_is_written() -> None:
    """Code objects inside a forward: generator expressions and lambdas have lines of their own."""

    def forward(self: Any, x: Any) -> Any:
        double = lambda t: t * 2  # noqa: E731
        return sum(double(row) for row in x)

    trace = traced(forward)
    assert names(trace).count("t * 2") == 2
    functions = {call.site.function for call in trace.calls[0].children if call.site and call.name == "t * 2"}
    assert {function.rpartition(".")[2] for function in functions if function} == {"<lambda>"}


def test_an_operation_on_no_tensor_is_still_one() -> None:
    """A constructor: its size is its input."""

    def forward(self: Any, x: Any) -> Any:
        return torch.zeros(2, 4) + x

    trace = traced(forward)
    assert names(trace) == ["torch.zeros", "torch.zeros(…) + x"]
    assert only(trace, "torch.zeros").output[0].value.shape == (2, 4)  # type: ignore[union-attr]


def test_the_output_is_that_of_the_whole_expression() -> None:
    """Not of the last aten operation that ran for it, where that is not the result."""

    def forward(self: Any, x: Any) -> Any:
        values, indices = x.max(dim=1)
        return values, indices

    call = only(traced(forward), "x.max")
    assert [value.value.dtype for value in call.output] == ["float32", "int64"]  # type: ignore[union-attr]
