"""Findings that further runs prove; beside each model stands its nearest innocent twin, of which nothing is said."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.cnn import CNN
from tracecall.calls import Finding
from tracecall.diagnosis.findings import findings
from tracecall.recording import measure
from tracecall.recording.mixing import confined

KINDS = {"batch-size", "batch-mixed", "constant-output", "nonfinite"}


def proved(model: nn.Module, *args: object, nan: bool = False, train: bool = False, **kwargs: object) -> list[Finding]:
    """The findings of a run that takes no times, those of this file's kinds."""
    trace = measure(model.train(train), args, kwargs, inference=not train, repeat=0, prove=True, nan=nan)
    assert trace.error is None, trace.error
    return [one for one in trace.findings if one.kind in KINDS]


def text_of(finding: Finding) -> str | None:
    return finding.site.text if finding.site else None


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# examples that are mixed because a reshape changed their number


def test_a_view_that_cuts_through_examples_is_proved_by_changing_two_of_them():
    """49 images of 32 × 32 become 64 rows: row 1 holds parts of two."""
    (found,) = proved(CNN(), torch.randn(49, 3, 32, 32))
    assert found.kind == "batch-size"
    assert found.message.startswith("49 examples became 64 rows: x.view made [64, 1568] of [49, 32, 8, 8]")
    assert "only example 0 changes rows 0 and 1, changing only example 1 rows 1 and 2" in found.message
    assert found.message.endswith("row 1 holds parts of both")
    assert found.site is not None and (found.site.file, found.site.line) == ("models/cnn.py", 27)


def test_the_same_model_on_the_images_that_it_is_made_for_is_innocent():
    assert proved(CNN(), torch.randn(49, 3, 28, 28)) == []
    assert proved(CNN(), torch.randn(1, 3, 28, 28)) == []


def test_also_while_training():
    (found,) = proved(CNN(), torch.randn(49, 3, 32, 32), train=True)
    assert found.kind == "batch-size"


class Tokens(nn.Module):
    """One row for each patch of an image: more rows than examples, and each row of one example."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)

    def forward(self, x):
        return self.patches(x).flatten(2).transpose(1, 2).reshape(-1, 8)


def test_several_rows_of_each_example_are_no_mixing():
    assert proved(Tokens(), torch.randn(3, 3, 8, 8)) == []
    assert proved(Tokens(), torch.randn(1, 3, 8, 8)) == []


class Clip(nn.Module):
    """Frames in the first dimension, one row out for every two: what video models do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3)).view(x.shape[0] // 2, 8)


def test_rows_that_are_put_together_evenly_may_be_meant():
    assert proved(Clip(), torch.randn(6, 3, 8, 8)) == []


# examples that are mixed and keep their number


class ImageAttention(nn.Module):
    """A convolution, then attention over patches; `batch_first` is what torch's default is not."""

    def __init__(self, batch_first):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)
        x, _ = self.attention(x, x, x)
        return self.fc(x.mean(1))


@pytest.mark.parametrize("images", [1, 2, 3])
def test_attention_over_the_batch_is_proved_with_a_batch_of_two_or_more(images: int):
    (found,) = proved(ImageAttention(batch_first=False), torch.randn(images, 3, 8, 12))
    assert found.kind == "batch-mixed" and found.path == "attention"
    assert f"with only example 0 of {max(2, images)} changed, row" in found.message
    assert "from attention (MultiheadAttention) on; Conv2d takes dimension 0 for the batch" in found.message
    assert text_of(found) == "self.attention(x, x, x)"


@pytest.mark.parametrize("images", [1, 3])
def test_attention_inside_each_example_is_innocent(images: int):
    assert proved(ImageAttention(batch_first=True), torch.randn(images, 3, 8, 12)) == []


class PatchesFirst(nn.Module):
    """The convolution's batch goes to dimension 1, where attention looks for it, and back."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x):
        x = self.conv(x).flatten(2).permute(2, 0, 1)
        x, _ = self.attention(x, x, x)
        return x.permute(1, 2, 0)


def test_a_batch_that_moves_to_another_dimension_and_back_is_innocent():
    assert proved(PatchesFirst(), torch.randn(3, 3, 8, 12)) == []


class WrongView(nn.Module):
    """(B, C, T) seen as (B, T, C) by way of the wrong view: with the batch in it, or without."""

    def __init__(self, wrong):
        super().__init__()
        self.conv, self.wrong = nn.Conv1d(4, 6, 1), wrong

    def forward(self, x):
        x = self.conv(x)
        x = x.transpose(0, 1).reshape(len(x), -1) if self.wrong else x.reshape(len(x), -1)
        return x.cumsum(1)


def test_a_transpose_before_a_view_mixes_examples():
    (found,) = proved(WrongView(True), torch.randn(2, 4, 5))
    assert (
        found.kind == "batch-mixed" and found.site is not None and found.site.file == "tests/recording/test_proofs.py"
    )
    assert "row 1 of the output changed too, from x.cumsum on" in found.message or "x.transpose" in found.message


def test_the_view_without_it_does_not():
    assert proved(WrongView(False), torch.randn(2, 4, 5)) == []


class Pooled(nn.Module):
    """As many classes as images, by chance, and a mean over the images: what a model of frames may return."""

    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 4)

    def forward(self, x):
        return self.conv(x).mean((0, 2, 3))


def test_an_output_that_has_as_many_rows_by_chance_is_innocent():
    assert proved(Pooled(3), torch.randn(3, 3, 8, 8)) == []
    assert proved(Pooled(2), torch.randn(1, 3, 8, 8)) == []


class Texts(nn.Module):
    """Token ids (B, T) in, (B, classes) out, with torch's default of the length in dimension 0."""

    def __init__(self, batch_first):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.fc = nn.Linear(8, 4)

    def forward(self, ids):
        return self.fc(self.encoder(self.embedding(ids)).mean(1))


def test_batch_first_forgotten_is_seen_where_what_torch_takes_for_the_batch_is_gone_in_the_output():
    (found,) = proved(Texts(False), torch.randint(50, (3, 7)))
    assert "encoder (TransformerEncoderLayer) on; TransformerEncoderLayer has batch_first=False" in found.message


def test_batch_first_not_forgotten_is_innocent():
    assert proved(Texts(True), torch.randint(50, (3, 7))) == []
    assert proved(Texts(True), torch.randint(50, (1, 7))) == []


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.LSTM(6, 5), (7, 3, 6)),
        (nn.LSTM(6, 5), (7, 6)),
        (nn.GRU(6, 5, batch_first=True), (3, 7, 6)),
        (nn.TransformerEncoderLayer(6, 2, 8), (7, 3, 6)),
    ],
)
def test_sequences_before_the_batch_and_inputs_without_one_are_innocent(model: nn.Module, shape: tuple[int, ...]):
    """Their rows depend on each other, and are no examples."""
    assert proved(model, torch.randn(shape)) == []


class Frames(nn.Module):
    """Frames of one clip in the first dimension, read by an LSTM that is given no batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, 4)
        self.lstm = nn.LSTM(6, 5)

    def forward(self, x):
        return self.lstm(self.conv(x).mean((2, 3)))[0]


def test_an_lstm_over_frames_without_a_batch_is_innocent():
    assert proved(Frames(), torch.randn(4, 3, 8, 8)) == []


class Pairs(nn.Module):
    """The similarity of every image with every other one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, 4)

    def forward(self, x):
        x = self.conv(x).flatten(1)
        return x @ x.T


def test_scores_of_all_pairs_are_innocent():
    assert proved(Pairs(), torch.randn(3, 3, 8, 8)) == []


def test_batchnorm_in_train_mode_is_allowed_to_mix():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert proved(model, torch.randn(3, 3, 8, 8), train=True) == []
    assert proved(model, torch.randn(3, 3, 8, 8)) == []


def test_changes_are_confined_to_blocks_turns_rows_or_columns_of_an_example():
    changed = torch.zeros(6, 4, dtype=torch.bool)
    changed[0:2] = True
    assert confined(changed, 3, 0) and not confined(changed, 6, 0)
    turns = torch.zeros(6, dtype=torch.bool)
    turns[[0, 3]] = True
    assert confined(turns, 3, 0)
    pairs = torch.zeros(3, 3, dtype=torch.bool)
    pairs[0], pairs[:, 0] = True, True
    assert confined(pairs, 3, 0)
    pairs[1, 1] = True
    assert not confined(pairs, 3, 0)


# an output that no input changes


class Dead(nn.Module):
    """A ReLU that is given nothing but negative numbers, or not."""

    def __init__(self, bias):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 6), nn.Linear(6, 3)
        nn.init.constant_(self.fc1.bias, bias)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        return self.fc2(x)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_dead_relu_is_the_call_from_which_on_the_output_is_constant(rows: int):
    (found,) = proved(Dead(-100.0), torch.randn(rows, 8))
    assert found.kind == "constant-output" and text_of(found) == "F.relu(self.fc1(x))"
    assert (
        f"the {3 * rows} numbers of the output were the same for 3 inputs: two runs with other random inputs"
        in found.message
    )
    assert found.message.endswith("from F.relu on, which returns only zeros")


def test_a_relu_that_lives_is_innocent():
    assert proved(Dead(0.0), torch.randn(1, 8)) == []
    assert proved(Dead(100.0), torch.randn(4, 8)) == []


def test_weights_of_zero_make_the_output_constant():
    model = Dead(0.0)
    nn.init.zeros_(model.fc2.weight)
    (found,) = proved(model, torch.randn(2, 8))
    assert found.path == "fc2" and "from fc2 (Linear) on, whose input still differed" in found.message


def test_rows_that_are_alike_because_the_inputs_are_are_innocent():
    assert proved(Dead(0.0), torch.zeros(3, 8)) == []


def test_a_choice_that_random_inputs_seldom_change_is_innocent():
    """An output of whole numbers: a class may well be the same for three inputs."""

    class Choice(Dead):
        def forward(self, x):
            return super().forward(x).argmax(1)

    assert proved(Choice(0.0), torch.randn(1, 8)) == []


# NaN and Inf


class Root(nn.Module):
    """A logarithm of what may be negative, after a module and before another."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x, safe=False):
        x = self.fc1(x)
        x = torch.log(x.abs() + 1 if safe else -x.abs() - 1)
        return self.fc2(x)


def test_nan_in_the_output_says_how_to_find_where_it_began():
    (found,) = proved(Root(), torch.randn(2, 4))
    assert found.message == ("4 of the 4 numbers that the model returned are NaN; run with --nan to see where it began")


def test_the_first_call_whose_output_has_nan_while_its_inputs_had_none():
    (found,) = proved(Root(), torch.randn(2, 4), nan=True)
    assert "the first came from torch.log, given self float32[2, 4]" in found.message
    assert found.site is not None and found.site.text is not None and found.site.text.startswith("torch.log(")


def test_a_run_without_nan_is_innocent():
    assert proved(Root(), torch.randn(2, 4), nan=True, safe=True) == []


def test_a_module_of_torch_can_be_where_it_began():
    """A row of which every key is masked: the softmax inside attention divides nothing by nothing."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(dim=1))

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = model

        def forward(self, x):
            return self.scores[1](self.scores[0](x).masked_fill(x > -100, float("-inf")))

    (found,) = proved(Masked(), torch.randn(2, 4), nan=True)
    assert "the first came from scores.1 (Softmax), given input float32[2, 4] from x.masked_fill" not in found.message
    assert "scores.1 (Softmax)" in found.message and "its inputs had Inf and no NaN" in found.message


def test_masking_with_infinity_is_innocent():
    class Mask(nn.Module):
        def forward(self, x):
            return x.masked_fill(x > 0, float("-inf"))

    assert proved(Mask(), torch.randn(3, 4), nan=True) == []


def test_an_overflow_is_named_by_the_call_that_made_it():
    class Overflow(nn.Module):
        def forward(self, x):
            x = torch.exp(x * 1000)
            return x + 1

    (found,) = proved(Overflow(), torch.rand(3, 4) + 1, nan=True)
    assert "12 of the 12 numbers" in found.message and "the first came from torch.exp" in found.message


def test_a_parameter_or_an_input_that_holds_nan_is_where_it_began():
    model = Root()
    with torch.no_grad():
        model.fc2.weight[0, 0] = torch.nan
    (found,) = proved(model, torch.randn(2, 4), nan=True, safe=True)
    assert found.message.endswith("parameter fc2.weight holds NaN already")
    (found,) = proved(Root(), torch.full((2, 4), torch.nan), nan=True, safe=True)
    assert found.message.endswith("input x holds NaN already")


# what is left behind, and what is left alone


def test_everything_is_as_it_was():
    """Random state, buffers, gradients, train flags and the inputs: the proofs' runs leave nothing."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(0, 1)).train()
    x = torch.randn(3, 3, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, kept = torch.get_rng_state(), x.clone()
    measure(model, (x,), repeat=0, prove=True, nan=True)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(x, kept)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_measure_runs_no_other_inputs_unless_it_is_asked_to():
    assert measure(CNN().eval(), (torch.randn(49, 3, 32, 32),), inference=True, repeat=0).findings == []


def test_the_proofs_come_after_the_timing_runs():
    """A model that keeps what it saw is timed on the reader's inputs."""
    seen: list[torch.Tensor] = []

    class Keeping(nn.Linear):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    x = torch.randn(2, 4)
    trace = measure(Keeping(4, 4).eval(), (x,), repeat=1, warmup=0, prove=True)
    others = [one is not x for one in seen]
    assert trace.timing is not None and any(others) and others == sorted(others)


def test_a_slow_model_is_not_run_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tracecall.recording.proofs.SLOW_NS", 0)
    assert proved(CNN(), torch.randn(49, 3, 32, 32)) == []


def test_a_model_that_answers_differently_each_time_is_not_compared():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.count = nn.Conv2d(1, 1, 1), 0

        def forward(self, x):
            self.count += 1
            return self.conv(x).cumsum(0) + self.count

    assert proved(Counting(), torch.randn(3, 1, 4, 4)) == []


def test_a_compiled_model_is_not_compiled_anew_for_a_proof(monkeypatch: pytest.MonkeyPatch):
    model = CNN()
    monkeypatch.setattr("tracecall.recording.replays.opaque", lambda module: "compiled by torch.compile")
    assert proved(model, torch.randn(49, 3, 32, 32)) == []


def test_memory_that_nobody_has_written_is_not_compared():
    """torch.empty_like returns whatever was there, also a NaN."""

    class Filled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            x = self.conv(x)
            return torch.empty_like(x).copy_(x)

    assert proved(Filled(), torch.randn(3, 3, 4, 4), nan=True) == []


def test_warnings_of_the_proofs_are_not_the_readers():
    class Warning(nn.Linear):
        def forward(self, x):
            if float(x.detach()[0, 0]) != 3.0:
                warnings.warn("other numbers", stacklevel=1)
            return super().forward(x)

    assert proved(Warning(4, 4), torch.full((2, 4), 3.0)) == []


# known models

KNOWN = [
    "BertForSequenceClassification",
    "AlbertForMaskedLM",
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "MixtralForCausalLM",
    "T5ForConditionalGeneration",
    "ViTForImageClassification",
    "SwinForImageClassification",
    "ResNetForImageClassification",
    "BitModel",
    "CLIPModel",
    "ConvNextForImageClassification",
    "Wav2Vec2ForCTC",
]


@pytest.mark.parametrize("name", KNOWN)
def test_known_architectures_are_innocent(name: str):
    """Texts, images and both, two of them and one: nothing is said of models that are as they should be."""
    pytest.importorskip("transformers")
    from tests.architectures import ARCHITECTURES, build

    architecture = next(one for one in ARCHITECTURES if one.model == name)
    model, inputs = build(architecture), architecture.inputs()
    for some in (inputs, {key: value[:1] for key, value in inputs.items()}):
        trace = measure(model.eval(), (), some, inference=True, repeat=0, prove=True, nan=True)
        assert trace.error is None
        assert [one for one in (*trace.findings, *findings(trace)) if one.kind not in SEEN_BEFORE] == []


SEEN_BEFORE = {"weights-used", "unused", "bypassed"}  # what a recording says without a proof of this file


# the command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracecall", "run", *arguments, "--repeat", "0"],
        capture_output=True, encoding="utf-8", check=False, env={**os.environ, "COLUMNS": "400"},
    )  # fmt: skip


def test_run_shows_that_49_examples_became_64_with_line_and_proof():
    done = command("cnn", "--input", "49,3,32,32")
    assert done.returncode == 0, done.stderr
    assert "! 49 examples became 64 rows: x.view made [64, 1568] of [49, 32, 8, 8] and mixed them" in done.stdout
    assert "row 1 holds parts of both\n  models/cnn.py:27  x.view(-1, 32 * 7 * 7)\n" in done.stdout


def test_run_says_nothing_of_the_images_that_fit():
    done = command("cnn", "--input", "49,3,28,28")
    assert done.returncode == 0 and "\n! " not in done.stdout


def test_run_finds_where_nan_began(tmp_path: Path):
    """Without --nan only the output is looked at; with it, every call of one run more."""
    net = tmp_path / "net.py"
    net.write_text(NET)
    done = command(str(net), "--input", "2,4")
    assert done.returncode == 0 and "run with --nan to see where it began" in done.stdout
    done = command(str(net), "--input", "2,4", "--nan")
    assert "the first came from torch.log, given self float32[2, 4] from" in done.stdout
    assert "net.py:7  torch.log(-x.abs() - 1)" in done.stdout


NET = """from torch import nn
import torch


class Net(nn.Linear):
    def forward(self, x):
        return super().forward(torch.log(-x.abs() - 1))


def build_model():
    return Net(4, 2)
"""
