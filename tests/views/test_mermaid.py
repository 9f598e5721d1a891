"""The diagram: drawn as it looks, and read by a strict parser of the part of Mermaid that is used.

The same texts were drawn by Mermaid 11 itself, in Chromium; it is a large npm package and no part of the tests.
"""

from __future__ import annotations

import html
import re
import textwrap
from typing import NamedTuple

import pytest

from tests.views.traces import cnn, hook, module, operation, spec, trace
from tracecall.calls import CallError, Trace, Value
from tracecall.folding import folded
from tracecall.views.mermaid import EDGES, MOST, mermaid

LABEL = r'"((?:[^"<>&`\[\]{}|\\#;]|#(?:[0-9]+|quot|lt|gt|amp);)+)"'
ID = r"(c\d+|input\d+|output|note)"


class Diagram(NamedTuple):
    """What was read: labels by id, what stands in which subgraph, edges with their labels."""

    labels: dict[str, str]
    within: dict[str, str | None]
    edges: list[tuple[str, str, str]]


def plain(label: str) -> str:
    """A label as Mermaid shows it."""
    return html.unescape(re.sub(r"#(\d+);", r"&#\1;", re.sub(r"#([a-z]+);", r"&\1;", label)))


def parsed(text: str) -> Diagram:
    """Read a diagram; whatever is not in the grammar is an error."""
    first, *lines = text.splitlines()
    assert first == "flowchart TD"
    found = Diagram({}, {}, [])
    around: list[str | None] = [None]
    for line in lines:
        line = line.strip()
        if box := re.fullmatch(rf"{ID}(?:\[{LABEL}\]|\({LABEL}\)|\(\[{LABEL}\]\))", line):
            label = next(one for one in box.groups()[1:] if one is not None)
            assert box[1] not in found.labels
            found.labels[box[1]], found.within[box[1]] = plain(label), around[-1]
        elif group := re.fullmatch(rf"subgraph {ID}\[{LABEL}\]", line):
            assert group[1] not in found.labels
            found.labels[group[1]], found.within[group[1]] = plain(group[2]), around[-1]
            around.append(group[1])
        elif line == "end":
            assert around.pop() is not None
        elif edge := re.fullmatch(rf"{ID} -->\|{LABEL}\| {ID}", line):
            assert {edge[1], edge[3]} <= set(found.labels), "an edge between boxes that are there"
            found.edges.append((edge[1], edge[3], plain(edge[2])))
        else:
            assert re.fullmatch(r"style c\d+ stroke:#d33,stroke-width:3px", line), line
    assert around == [None], "every subgraph ends"
    for start, end, _ in found.edges:  # Mermaid cannot draw an edge from a box to what is inside it
        outer: str | None = end
        while outer is not None:
            outer = found.within[outer]
            assert outer != start
    return found


def named(text: str) -> list[str]:
    """The edges by the labels of their ends."""
    found = parsed(text)
    return [f"{found.labels[start]} → {found.labels[end]}: {shape}" for start, end, shape in found.edges]


def drawing(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def residual() -> Trace:
    """A block whose input goes two ways, inside a root."""
    add = operation("x + y", "aten.add", (2, 8), (2, 8), Value("other", spec((2, 8)), "fc"), source="input x")
    inside = [module("fc", "Linear", (2, 8), (2, 8), path="block.fc", source="input x"), add]
    block = module("block", "Block", (2, 8), (2, 8), *inside, source="stem")
    stem, head = (
        module(name, "Linear", (2, 8), (2, 8), source=source)
        for name, source in [("stem", "input x"), ("head", "block")]
    )
    return trace(module("Net", "Net", (2, 8), (2, 8), stem, block, head, path=""))


def test_the_cnn():
    """Calls in order, one pool called twice, shapes on the edges."""
    assert mermaid(cnn()) == drawing("""
        flowchart TD
            input0(["input x"])
            subgraph c0["CNN"]
                c1["conv1 (Conv2d)"]
                c2("F.relu #35;1")
                c3["pool #35;1 (MaxPool2d)"]
                c4["conv2 (Conv2d)"]
                c5("F.relu #35;2")
                c6["pool #35;2 (MaxPool2d)"]
                c7("x.view")
                c8["fc1 (Linear)"]
                c9("F.relu #35;3")
                c10["fc2 (Linear)"]
            end
            output(["output"])
            input0 -->|"1, 3, 28, 28"| c1
            c1 -->|"1, 16, 28, 28"| c2
            c2 -->|"1, 16, 28, 28"| c3
            c3 -->|"1, 16, 14, 14"| c4
            c4 -->|"1, 32, 14, 14"| c5
            c5 -->|"1, 32, 14, 14"| c6
            c6 -->|"1, 32, 7, 7"| c7
            c7 -->|"1, 1568"| c8
            c8 -->|"1, 120"| c9
            c9 -->|"1, 120"| c10
            c0 -->|"1, 10"| output
    """)
    parsed(mermaid(cnn()))


def test_a_residual_connection_is_two_edges_into_the_sum():
    """The block's input comes from outside it, and goes to the first module inside and to the sum."""
    assert mermaid(residual()) == drawing("""
        flowchart TD
            input0(["input x"])
            subgraph c0["Net"]
                c1["stem (Linear)"]
                subgraph c2["block (Block)"]
                    c3["fc (Linear)"]
                    c4("x + y")
                end
                c5["head (Linear)"]
            end
            output(["output"])
            input0 -->|"2, 8"| c1
            c1 -->|"2, 8"| c3
            c1 -->|"2, 8"| c4
            c3 -->|"2, 8"| c4
            c2 -->|"2, 8"| c5
            c0 -->|"2, 8"| output
    """)
    parsed(mermaid(residual()))


def test_depth_counts_modules_below_the_root():
    """A module at that depth is one box; what is fed into it is fed into the box."""
    assert named(mermaid(residual(), depth=1)) == [
        "input x → stem (Linear): 2, 8",
        "stem (Linear) → block (Block): 2, 8",
        "block (Block) → head (Linear): 2, 8",
        "Net → output: 2, 8",
    ]
    assert named(mermaid(residual(), depth=0)) == ["input x → Net: 2, 8", "Net → output: 2, 8"]
    assert mermaid(residual(), depth=None) == mermaid(residual(), depth=2)


def test_an_input_that_nothing_drawn_takes_goes_to_the_subgraph():
    """Its use is inside, and not seen."""
    view = operation("F.relu", "aten.relu", (2, 8), (2, 8), source="parameter w")
    block = module("block", "Block", (2, 8), (2, 8), view, source="input x")
    assert "input x → block (Block): 2, 8" in named(
        mermaid(trace(module("Net", "Net", (2, 8), (2, 8), block, path="")))
    )


def test_the_same_tensor_several_times_is_one_edge():
    """Query, key and value of self-attention."""
    at = module("at", "MultiheadAttention", (2, 8), (2, 8), source="input x")
    at.inputs += [Value("key", spec((2, 8)), "input x"), Value("value", spec((2, 8)), "input x")]
    made = trace(module("Net", "Net", (2, 8), (2, 8), at, path=""))
    assert "input x → at (MultiheadAttention): 2, 8 ×3" in named(mermaid(made))


def test_dtypes_other_than_float32_are_on_the_edge():
    """Ids and masks are told apart."""
    ids = module("embed", "Embedding", spec((2, 8), "int64"), (2, 8, 4), source="input ids")
    root = module("Net", "Net", spec((2, 8), "int64"), (2, 8, 4), ids, path="")
    root.inputs[0].where = "ids"
    assert "input ids → embed (Embedding): int64 2, 8" in named(mermaid(trace(root)))


def test_from_inside_another_module():
    """A source that is called by its path or by module and expression is found; one that was not recorded is left out."""
    first = module(
        "a", "A", (2,), (2,), operation("x.exp", "aten.exp", (2,), (2,), path="a", source="input x"), source="input x"
    )
    user = module("b", "B", (2,), (2,), source="a: x.exp")
    other = module("c", "C", (2,), (2,), source="a")
    lost = module("d", "D", (2,), (2,), source="nowhere")
    found = named(mermaid(trace(module("Net", "Net", (2,), (2,), first, user, other, lost, path=""))))
    assert "x.exp → b (B): 2" in found
    assert "a (A) → c (C): 2" in found
    assert not any("d (D)" in one for one in found)


def test_hooks_and_torchs_own_operations_are_no_boxes():
    """What feeds what goes past them."""
    inside = operation("F.linear", "aten.linear", (2, 8), (2, 8), internal=True, path="fc")
    fc = module("fc", "Linear", (2, 8), (2, 8), inside, source="input x")
    made = trace(module("Net", "Net", (2, 8), (2, 8), hook("log", "forward pre-hook"), fc, path=""))
    assert set(parsed(mermaid(made)).labels.values()) == {"input x", "Net", "fc (Linear)", "output"}


def test_a_call_that_failed_is_marked():
    """It has no output, and a border of its own."""
    error = CallError("RuntimeError", "no", True)
    view = operation("x.view", "aten.view", (2, 8), None, source="input x", error=error)
    made = trace(module("Net", "Net", (2, 8), None, view, path="", error=error))
    made.error = error
    assert parsed(mermaid(made)).labels["c1"] == "✗ x.view"
    assert "    style c1 stroke:#d33,stroke-width:3px" in mermaid(made).splitlines()
    assert "output" not in parsed(mermaid(made)).labels


@pytest.mark.parametrize(
    "name",
    [
        'a"]; click c0 "javascript:alert(1)"',
        "<script>alert(1)</script>",
        "`md` **bold** __x__",
        "1. list",
        "- x",
        "end",
        "}}%% x",
        "%%{init: {}}%%",
        "x|y|z",
        "#quot;&lt;",
        "$$x^2$$",
        "subgraph",
        "@{shape: x}",
        "graph TD; A-->B",
        "日本語",
    ],
)
def test_hostile_names_are_text(name):
    """They stand in the label as they are, and change nothing else."""
    made = trace(module("Net", "Net", (2,), (2,), module(name, name, (2,), (2,), path="p", source="input x"), path=""))
    found = parsed(mermaid(made))
    assert found.labels["c1"].lstrip("\u200b") == name
    assert found.edges == [("input0", "c1", "2"), ("c0", "output", "2")]


def test_control_characters_and_long_names():
    """What cannot be printed is written out, what is long is cut."""
    made = trace(module("Net", "Net", (2,), (2,), module("a\x1b[31m\nb", "T" * 500, (2,), (2,), path="p"), path=""))
    label = parsed(mermaid(made)).labels["c1"]
    assert label.startswith("a\\x1b[31m b (TTT")
    assert len(label) == 60


def chain(count: int, wide: bool = False) -> Trace:
    calls = [module(f"m{i}", "B", (2,), (2,), source=f"m{i - 1}" if i else "input x") for i in range(count)]
    if wide:
        for i, call in enumerate(calls):
            call.inputs += [Value(f"x{j}", spec((2,)), f"m{j}") for j in range(i)]
    return trace(module("Net", "Net", (2,), (2,), *calls, path=""))


def test_what_is_too_much_for_a_diagram_is_cut_and_said():
    """The first calls are drawn."""
    found = parsed(mermaid(chain(500)))
    assert len(found.labels) == MOST + 3  # input, output and the note
    assert found.labels["note"] == "the first 200 calls; 301 more are not drawn"


def test_edges_stay_below_mermaids_own_limit():
    """Everything feeds everything, as in a DenseNet."""
    found = parsed(mermaid(chain(60, wide=True)))
    assert len(found.edges) == EDGES
    assert re.fullmatch(r"the first 450 edges; \d+ more are not drawn", found.labels["note"])


def test_where_a_level_is_too_much_the_one_above_is_drawn():
    """Fewer levels say more than the first few calls of all."""
    blocks = [
        module(f"b{i}", "Block", (2,), (2,), *[module(f"b{i}.{j}", "X", (2,), (2,)) for j in range(9)])
        for i in range(30)
    ]
    found = parsed(mermaid(trace(module("Net", "Net", (2,), (2,), *blocks, path=""))))
    assert len([one for one in found.labels if one.startswith("c")]) == 31
    assert found.labels["note"] == "drawn to depth 1: more than 200 calls stand at depth 2"


def test_folded_calls_are_one_box():
    """It goes by the names of all its repeats: what comes from the last one comes from the box."""
    blocks = [
        module(f"b{i}", "Block", (2,), (2,), us=5, line=20, source=f"b{i - 1}" if i else "input x") for i in range(12)
    ]
    head = module("head", "Linear", (2,), (2,), source="b11")
    made = trace(module("Net", "Net", (2,), (2,), *blocks, head, us=100, path=""))
    assert named(mermaid(folded(made))) == [
        "input x → b0 … b11 ×12 (Block): 2",
        "b0 … b11 ×12 (Block) → head (Linear): 2",
        "Net → output: 2",
    ]


def test_calls_that_repeat_in_turn_are_a_subgraph():
    """What they take from each other, and what the rest takes from them, is still seen."""
    calls = []
    for i in range(12):
        calls.append(module(f"c{i}", "Linear", (2,), (2,), line=20, source=f"F.relu #{i}" if i else "input x"))
        calls.append(operation("F.relu", "aten.relu", (2,), (2,), line=20, source=f"c{i}"))
    made = trace(
        module("Net", "Net", (2,), (2,), *calls, module("head", "Linear", (2,), (2,), source="F.relu #12"), path="")
    )
    found = named(mermaid(folded(made)))
    assert "×12 in turn" in parsed(mermaid(folded(made))).labels.values()
    assert "input x → c0 … c11 (Linear): 2" in found
    assert "c0 … c11 (Linear) → F.relu: 2" in found
    assert "F.relu → head (Linear): 2" in found
