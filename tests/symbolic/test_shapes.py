"""`shapes`: formulas of the named dimensions, what the model demands of them, and what cannot be symbolic."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from models.cnn import CNN
from models.rnn import SequenceClassifier
from models.transformer import TextClassifier
from tests.symbolic import odd_models as odd
from tests.zoo.drawing import drawing, drawn
from tracecall.symbolic import SizedInput, shapes
from tracecall.symbolic import report as report_module
from tracecall.symbolic.demands import MOST
from tracecall.symbolic.solving import sizes_text


def report(model, *sizes, train=False, dtype=torch.float32, examples=(), operations="forward", **named):
    """The report on a model whose inputs have these sizes."""
    args = tuple(SizedInput(one, dtype) for one in sizes)
    kwargs = {name: SizedInput(one, dtype) for name, one in named.items()}
    with torch.inference_mode(not train):
        found = shapes(model.train(train), args, kwargs, examples=examples, operations=operations)
    texts = [str(size) for _, call in found.trace.walk() for one in call.inputs + call.output for size in sizes_of(one)]
    # neither torch's symbols nor its functions
    assert not [text for text in texts if re.search(r"\b[suz]+\d+\b|FloorDiv|Mod|Indexing", text)]
    return found


def sizes_of(value):
    return [] if isinstance(value.value, str) else value.value.shape


def demands(found):
    return [(one.text, one.name, one.solved) for one in found.demands]


def test_the_cnn():
    """The tree in formulas; the one demand is view's, solved for square images, and the sizes that mix are told."""
    found = report(CNN(), ("B", 3, "H", "W"), examples=[(1, 3, 28, 28)])
    assert drawn(found.trace, sources=False) == drawing("""
        CNN [B,3,H,W] → [B,10]
          conv1 Conv2d [B,3,H,W] → [B,16,H,W]
          · F.relu [B,16,H,W] → [B,16,H,W]
          pool MaxPool2d [B,16,H,W] → [B,16,H//2,W//2]
          conv2 Conv2d [B,16,H//2,W//2] → [B,32,H//2,W//2]
          · F.relu [B,32,H//2,W//2] → [B,32,H//2,W//2]
          pool MaxPool2d [B,32,H//2,W//2] → [B,32,H//4,W//4]
          · x.view [B,32,H//4,W//4] → [B,32·(H//4)·(W//4)]
          fc1 Linear [B,32·(H//4)·(W//4)] → [B,120]
          · F.relu [B,120] → [B,120]
          fc2 Linear [B,120] → [B,10]
    """)
    assert found.signature == "CNN: B,3,H,W → B,10"
    assert demands(found) == [("(H//4)·(W//4) = 49", "x.view", "H, W ∈ 28…31 when square")]
    (demand,) = found.demands
    assert (demand.site.file, demand.site.text) == ("models/cnn.py", "x.view(-1, 32 * 7 * 7)")
    assert (demand.tried["H"] // 4) * (demand.tried["W"] // 4) != 49
    (note,) = found.notes
    assert note.endswith("6,3,56,58 → 24,10")


def test_sizes_are_found_without_an_example():
    """Sizes with which the model runs and keeps its batch are looked for."""
    found = report(CNN(), ("B", 3, "H", "W"))
    assert found.signature == "CNN: B,3,H,W → B,10"
    assert demands(found) == [("(H//4)·(W//4) = 49", "x.view", "H, W ∈ 28…31 when square")]


@pytest.mark.parametrize(
    ("model", "sizes", "signature", "expected"),
    [
        (TextClassifier, ("B", "T"), "B,T → B,2", ["T ≤ 128"]),
        (lambda: nn.Linear(20, 5), ("B", "F"), "B,F → B,5", ["F = 20"]),
        (lambda: nn.Conv1d(4, 4, 9, stride=3), ("B", 4, "T"), "B,4,T → B,4,T//3 - 2", ["T ≥ 9"]),
        (odd.Patches, ("B", "C", "H", "W"), "B,C,H,W → B,(H·W)/16,16·C", ["H divisible by 4", "W divisible by 4"]),
        (odd.UNet, ("B", 3, "H", "W"), "B,3,H,W → B,16,H,W", ["H divisible by 2", "W divisible by 2"]),
        (odd.Fixed, ("B", 3, "H"), "B,3,H → B,672", ["H = 224"]),
    ],
)
def test_a_demand(model, sizes, signature, expected):
    """Solved where one name is in it."""
    model = model()
    dtype = torch.int64 if isinstance(model, TextClassifier) else torch.float32
    found = report(model, sizes, dtype=dtype)
    assert found.signature.partition(": ")[2] == signature
    assert [(one.text, one.solved) for one in found.demands] == [(text, None) for text in expected]


@pytest.mark.parametrize(
    ("model", "sizes"),
    [(lambda: nn.Conv2d(3, 8, 3, padding=1), ("B", 3, "H", "W")), (lambda: nn.Linear(8, 4), ("B", "T", 8))],
)
def test_what_the_model_does_not_demand_is_not_shown(model, sizes):
    """torch guards on sizes of 1, on kernels for small batches: the model runs all the same."""
    found = report(model(), sizes)
    assert found.demands == []
    assert found.notes == []


def test_every_demand_was_broken_and_failed():
    """The sizes that a demand was tried with make the model fail on real tensors too."""
    model = CNN().eval()
    found = report(model, ("B", 3, "H", "W"), examples=[(1, 3, 28, 28)])
    for demand in found.demands:
        with pytest.raises(RuntimeError):
            model(torch.zeros(demand.tried["B"], 3, demand.tried["H"], demand.tried["W"]))


def test_equal_names_are_one_dimension():
    """And different names are two, whose equality is then a demand."""
    same = report(odd.Two(), a=("B", "T"), b=("B", "T"))
    assert same.signature == "Two: a B,T; b B,T → sum B,T; cat B,2·T"
    assert same.demands == []
    assert "T = S" in [one.text for one in report(odd.Two(), a=("B", "T"), b=("B", "S")).demands]


def test_numbers_alone_check_one_size():
    """The tree has numbers; a failure is in the Trace."""
    fine = report(CNN(), (1, 3, 28, 28))
    assert (fine.signature, fine.demands, fine.sizes) == ("CNN: 1,3,28,28 → 1,10", [], {})
    failed = report(CNN(), (1, 3, 32, 32))
    assert failed.trace.failing().name == "x.view"


def test_any_size_costs_no_memory():
    """A batch of a million images of a megapixel each."""
    found = report(nn.Conv2d(3, 64, 3), (10**6, 3, 1000, 1000))
    assert found.signature == "Conv2d: 1000000,3,1000,1000 → 1000000,64,998,998"


def test_a_size_of_one_that_fails_is_a_demand():
    """torch's symbols begin at 2, so no guard tells."""
    assert [one.text for one in report(odd.Normed(), ("B", 8), train=True).demands] == ["B ≥ 2"]


# what cannot be symbolic


def test_an_lstm_in_eval_is_symbolic():
    found = report(SequenceClassifier(), ("B", "T", 8))
    assert found.signature == "SequenceClassifier: B,T,8 → B,4"


@pytest.mark.parametrize(
    ("model", "sizes", "train", "signature"),
    [
        (SequenceClassifier, ("B", "T", 8), True, "SequenceClassifier: B,T,8 → B,4"),
        (odd.Recurrent, ("B", "T", 8), True, "Recurrent: B,T,8 → B,T,3"),
        (odd.Larger, ("B", 3, "H", "W"), False, "Larger: B,3,H,W → B,3,2·H,2·W"),
    ],
)
def test_what_refuses_symbolic_sizes_is_read_off_several_runs(model, sizes, train, signature):
    """The note says so, with the line."""
    found = report(model(), sizes, train=train)
    assert found.signature == signature
    assert re.search(r"at \S+\.py:\d+.* runs on concrete fake sizes agree on", found.notes[0])


def test_a_loop_over_a_dimension_fixes_it():
    """The tree is that of a short sequence, and the note names the loop."""
    found = report(odd.Loop(), ("B", "T", 8))
    assert found.signature == "Loop: B,T,8 → B,16"
    assert len(found.trace.find("cell")) == 2
    assert "T = 2" in found.notes[0]
    assert "range at tests/symbolic/odd_models.py" in found.notes[0]


def test_a_comparison_that_changes_the_shapes_is_told():
    """With the other way, and the line that decides."""
    found = report(odd.Branch(), ("B", "T"))
    assert found.demands == []
    assert found.notes[0].startswith("the tree is that of B ≤ 4, on which x.shape[0] > 4 at ")
    assert "with B = 5 the model runs too" in found.notes[0]


def test_what_depends_on_values_is_assumed_and_said():
    """A branch on a sum is taken as if it were true; how many values are positive is "?"."""
    found = report(odd.Values(), ("B", "T"))
    assert found.signature == "Values: B,T → ?"
    assert any(re.match(r"x\.sum\(\) > 0 at \S+ depends on values.*taken to be true", note) for note in found.notes)
    assert "? is a size that depends on values" in found.notes


def test_a_model_that_runs_with_no_sizes_shows_where_it_fails():
    found = report(odd.Mismatch(), ("B", 8))
    assert found.trace.failing().path == "second"
    assert "with none of" in found.notes[0]


def test_the_model_is_left_as_it_was():
    """Attributes, buffers, random state: nothing of a fake run stays."""
    model = odd.Counting()
    before, state = model.total, torch.get_rng_state()
    report(model, ("B", 4))
    assert model.total is before
    assert model.last is None
    assert torch.equal(torch.get_rng_state(), state)
    model(torch.ones(2, 4))


def test_weights_on_the_meta_device():
    """Nothing of them is made, and the tree is the same."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(1 << 20, 1 << 20), nn.ReLU())
    found = report(model, ("B", 1 << 20))
    assert found.signature == "Sequential: B,1048576 → B,1048576"
    assert next(model.parameters()).device.type == "meta"


# models of transformers


@pytest.mark.parametrize(
    ("name", "settings", "inputs", "output", "expected"),
    [
        ("BertModel", {"vocab_size": 100}, {"input_ids": ("B", "S")}, "last_hidden_state B,S,32", ["S ≤ 512"]),
        ("ViTModel", {"image_size": 32, "patch_size": 8}, {"pixel_values": ("B", 3, "H", "W")}, "B,17,32", ["H = 32", "W = 32"]),
        ("LlamaForCausalLM", {"vocab_size": 100}, {"input_ids": ("B", "T")}, "B,T,100", []),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_a_model_of_transformers(name, settings, inputs, output, expected):
    """Its limits are found in its own code."""
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, name)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.device("meta"):
        model = kind(kind.config_class(**small, **settings))
    found = report(model, dtype=torch.float32 if "pixel_values" in inputs else torch.int64, **inputs)
    assert output in found.signature
    assert [one.text for one in found.demands] == expected


def test_a_formula_that_has_no_value_with_some_sizes():
    """A divisor that is 0 with the sizes of a trial: the size is unknown then, and the report stands."""
    assert report(odd.Halved(), ("B", "T")).signature.startswith("Halved: B,T → ")


def test_a_refuted_demand_is_not_needed():
    """Other sizes run with another tree and keep every name in the output."""
    found = report(odd.Stacked(), ("B", "N"))
    assert found.demands == []
    assert found.notes[0].startswith("shown for N = 64, on which torch.stack at ")
    assert found.notes[0].endswith("B = 6, N = 128 runs too, with other shapes: 6,128 → 8,6,16")


def test_sizes_are_solved_for_all_demands_of_a_name():
    """H = 5 fulfils one of two demands: it is in no list."""
    found = report(odd.TwoDown(), ("B", 3, "H", "W"))
    of_h = [one for one in found.demands if one.dims == ["H"]]
    assert "H divisible by 4" in {text for one in of_h for text in (one.text, one.solved)}
    assert not any(" ∈ " in (one.solved or "") for one in of_h)


def test_a_list_that_the_search_ended_is_open():
    """4096 is where the search ends, not where the sizes do."""
    assert sizes_text("H", [3, 6, 7, *range(9, MOST + 1)]) == "H ∈ 3, 6…7, 9…"


def test_other_calls_are_no_other_shapes():
    """With another length the loop turns more often; every shape is the same."""
    found = report(odd.LastState(), ("B", "T", 8))
    assert found.notes[0].endswith("with T = 3 the model runs too, with other calls")


def test_the_end_of_the_time_is_no_fact_about_the_model(monkeypatch):
    """Sizes were given up for lack of time."""
    monkeypatch.setattr(report_module, "SEARCH", -1.0)
    found = report(nn.Linear(7, 3), ("B", 5))
    assert found.notes[0].endswith("the time for trying ended after 1 choice of sizes, none of which runs")
