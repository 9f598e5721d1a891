"""Why a run failed and what is proposed, over the table of broken models and inputs."""

from __future__ import annotations

import re

import msgspec
import pytest
import torch
from torch import nn

from models.cnn import CNN
from tests.diagnosis.broken import BROKEN, Broken, Model
from tracecall import recording
from tracecall.calls import Cause, Trace
from tracecall.diagnosis import diagnose
from tracecall.proposals import Proposal, SearchSizes

_LINE = re.compile(r"(broken\.py|test_causes\.py):\d+")


def failed(model: nn.Module, *args: object, **kwargs: object) -> Trace:
    """The Trace of a run that an exception ended."""
    raised: BaseException | None = None
    try:
        recording.trace(model, *args, **kwargs)
    except Exception as error:
        raised = error
    trace = recording.last_trace()
    assert trace is not None
    assert trace.error is not None
    assert trace.error.type == type(raised).__name__
    return trace


def diagnosed(model: nn.Module, *args: object, **kwargs: object) -> tuple[Cause, list[Proposal]]:
    """The diagnosis of a run that fails."""
    found = diagnose(failed(model, *args, **kwargs))
    assert found is not None
    return found


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_cause_and_proposals(broken: Broken) -> None:
    """The cause is one sentence with the numbers, and the proposals are what might fit."""
    torch.manual_seed(0)
    cause, proposals = diagnosed(broken.build(), *broken.args(), **broken.kwargs())
    assert (cause.kind, _LINE.sub(r"\1:…", cause.sentence)) == (broken.kind, broken.sentence)
    assert tuple(_LINE.sub(r"\1:…", proposal.text) for proposal in proposals) == broken.proposals
    assert all(proposal.edits for proposal in proposals)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_inference_mode_changes_no_cause(broken: Broken) -> None:
    """torch runs other operations in inference mode; the diagnosis is the same."""
    torch.manual_seed(0)
    with torch.inference_mode():
        cause, proposals = diagnosed(broken.build(), *broken.args(), **broken.kwargs())
    assert (cause.kind, _LINE.sub(r"\1:…", cause.sentence)) == (broken.kind, broken.sentence)
    assert tuple(_LINE.sub(r"\1:…", proposal.text) for proposal in proposals) == broken.proposals


def test_a_run_that_succeeds_has_no_cause() -> None:
    """So has one whose exception the model caught."""

    def caught(self: Model, x: torch.Tensor) -> torch.Tensor:
        try:
            return torch.relu(self.fc(x))  # type: ignore[operator]  # a submodule by its name
        except RuntimeError:
            return x

    for model in (CNN(), Model(caught, fc=nn.Linear(5, 2))):
        assert diagnose(recording.trace(model, torch.randn(1, 3, 28, 28))) is None


def test_a_trace_that_was_saved_is_diagnosed_alike() -> None:
    """Everything that the rules need is in the Trace."""
    for broken in BROKEN:
        torch.manual_seed(0)
        trace = failed(broken.build(), *broken.args(), **broken.kwargs())
        assert diagnose(msgspec.json.decode(msgspec.json.encode(trace), type=Trace)) == diagnose(trace)


def test_the_cause_is_at_the_line_of_the_model() -> None:
    """A failure inside torch.nn is where the model's own code called it."""
    cause, _ = diagnosed(CNN(), torch.randn(1, 28, 28, 3))
    assert cause.site is not None
    assert (cause.path, cause.site.file, cause.site.text) == ("conv1", "models/cnn.py", "self.conv1(x)")


def test_a_search_varies_height_and_width_of_the_image() -> None:
    """Batch and channels stay what they are."""
    _, proposals = diagnosed(CNN(), torch.randn(1, 3, 32, 32))
    assert proposals[0].edits == [SearchSizes("x", (2, 3))]


def test_several_inputs_are_typed_by_name() -> None:
    """The command line needs every input when one of them gets another shape."""
    model = Model(lambda self, x, y: self.fc(x) + y, fc=nn.Linear(5, 3))
    _, proposals = diagnosed(model, torch.randn(2, 6), torch.ones(2, 3, dtype=torch.int64))
    assert proposals[0].command == "--input x=2,5 --input y=2,3:int64"


def test_an_exception_of_a_hook_is_unknown() -> None:
    """The hook is named, and no more is claimed."""

    def refuse(module: nn.Module, args: object) -> None:
        raise ValueError("not today\nnor tomorrow")

    model = CNN()
    model.conv1.register_forward_pre_hook(refuse)
    cause, proposals = diagnosed(model, torch.randn(1, 3, 28, 28))
    assert (cause.kind, proposals) == ("unknown", [])
    assert "refuse raised ValueError: not today (" in cause.sentence


def test_an_exception_without_a_message() -> None:
    """Its type is all there is to say."""

    def run(self: Model, x: torch.Tensor) -> torch.Tensor:
        raise KeyError

    cause, _ = diagnosed(Model(run), torch.randn(2))
    assert cause.sentence == "Model raised KeyError (got x float32[2])"


@pytest.mark.parametrize(
    ("left", "right", "kind"),
    [
        ((3, 4), (2, 5, 6), "matmul"),
        ((2, 3, 4), (5, 6), "matmul"),
        ((4,), (5, 6), "matmul"),
        ((2, 3, 4), (5,), "matmul"),
    ],
)
def test_a_product_is_told_as_it_is_written(left: tuple[int, ...], right: tuple[int, ...], kind: str) -> None:
    """Torch may exchange the two, or view them as other shapes, before it multiplies."""
    cause, _ = diagnosed(Model(lambda self, x, y: x @ y), torch.ones(left), torch.ones(right))
    shapes = f"{list(left)} @ {list(right)}"
    assert (cause.kind, cause.sentence) == (kind, f"x @ y: {shapes}: rows of 4 meet columns of 5")


def test_nothing_is_claimed_of_a_product_inside_another_function() -> None:
    """What met inside torch.cdist is not what went in."""
    cause, _ = diagnosed(Model(lambda self, x, y: torch.cdist(x, y)), torch.ones(5, 8), torch.ones(4, 6))
    assert cause.kind == "unknown"


def test_a_mask_of_bools_is_told_from_the_query() -> None:
    """Torch looks at such a mask before anything else."""
    model = Model(lambda self, x, y: nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=y))
    cause, _ = diagnosed(model, torch.ones(1, 4, 7, 8), torch.ones(1, 1, 7, 8, dtype=torch.bool))
    assert cause.kind == "attention-mask"
    assert cause.sentence.endswith("ends in [queries, keys] = [7, 7], got [1, 1, 7, 8]")


def test_equal_sizes_of_a_normalized_shape_stay_two() -> None:
    """(8, 8) is not 8 there, as it is for a kernel."""
    _, proposals = diagnosed(Model(lambda self, x: self.norm(x), norm=nn.LayerNorm([4, 4])), torch.ones(2, 8, 8))
    assert [proposal.text for proposal in proposals] == ["norm = nn.LayerNorm((8, 8))"]


def test_a_subclass_of_linear_is_a_linear() -> None:
    """The forward that runs is torch's; how the subclass is built nobody knows, so nothing is proposed for it."""

    class Own(nn.Linear):
        pass

    cause, proposals = diagnosed(
        Model(lambda self, x: self.fc(self.act(x)), act=nn.PReLU(), fc=Own(5, 3)), torch.ones(2, 6)
    )
    assert (cause.kind, cause.sentence) == ("linear-features", "fc (Own) takes 5 features, got 6 from input x")
    assert [proposal.text for proposal in proposals] == ["--input 2,5"]


def test_a_module_of_the_same_name_is_not_torchs() -> None:
    """A Linear that is not nn.Linear is not said to take what its extra_repr happens to say."""

    class Linear(nn.Module):
        def extra_repr(self) -> str:
            return "in_features=5, out_features=3"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ torch.ones(4, 3)

    cause, _ = diagnosed(Model(lambda self, x: self.fc(x), fc=Linear()), torch.ones(2, 6))
    assert cause.kind == "matmul"


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_a_failed_index_keeps_its_span(dtype: torch.dtype) -> None:
    """The smallest and largest index are noted where the look-up failed, in the Trace that is left of it."""
    trace = failed(nn.Embedding(10, 4), torch.tensor([[3, 12]], dtype=dtype))
    failing = trace.failing()
    assert failing is not None
    assert [value.span for value in failing.inputs if value.where == "indices"] == [(3, 12)]


def test_only_a_call_that_did_not_fit_has_a_signature() -> None:
    """A TypeError from inside a forward is not about its arguments."""

    def run(self: Model, x: torch.Tensor) -> object:
        return x + object()  # type: ignore[operator]

    assert not any(info.signature for info in failed(Model(run), torch.ones(2)).modules.values())
    assert failed(CNN()).modules[""].signature == "(x)"
