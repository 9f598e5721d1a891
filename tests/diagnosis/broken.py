"""Models and inputs that do not fit, each with its cause and what is proposed for it.

An entry is data: `build()` makes the model, `args()` and `kwargs()` what it is called with. Lines of this file are
written as "…" in the expected sentences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cnn import CNN


class Model(nn.Module):
    """Submodules by name, and a forward that is written beside them: `self` is the model."""

    def __init__(self, run: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Any, y: Any = None) -> Any:
        return self.run(self, x) if y is None else self.run(self, x, y)


class Positions(nn.Module):
    """Patches of an image of 8 × 8, each with its learned position."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.positions = nn.Parameter(torch.zeros(1, 4, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return x + self.positions


class Words(nn.Module):
    """Words and their positions, of which there are eight."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.positions = nn.Embedding(8, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.words(ids) + self.positions(torch.arange(ids.size(1)))


class Scaled(nn.Module):
    """A tensor that is an attribute and no buffer: `to` leaves it where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3, device="meta")
        self.scale = torch.ones(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * self.scale


class Masked(nn.Module):
    """Takes a mask, always."""

    def forward(self, x: Tensor, mask: Tensor, *, fill: float = 0.0) -> Tensor:
        return x.masked_fill(mask == 0, fill)


class Unpacking(nn.Module):
    """Takes images in a batch, and says so."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, c, h * w)


class Picky(nn.Module):
    """Refuses an odd number of features."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 2:
            raise ValueError("an odd number of features")
        return x


class Weights(nn.Module):
    """A Linear without nn.Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 5))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


@dataclass(frozen=True)
class Broken:
    """One model or input that fails, and what is to be said of it."""

    name: str
    build: Callable[[], nn.Module]
    args: Callable[[], tuple[Any, ...]]
    kind: str
    sentence: str
    proposals: tuple[str, ...] = ()
    kwargs: Callable[[], dict[str, Any]] = dict


def floats(*shape: int) -> Callable[[], tuple[Tensor]]:
    """One float input of a shape."""
    return lambda: (torch.randn(*shape),)


def numbers(high: int, *shape: int) -> Callable[[], tuple[Tensor]]:
    """One input of whole numbers from 0 to `high`, `high` among them."""
    return lambda: (torch.full(shape, high),)


BROKEN = [
    Broken(
        "the demo, on an image that is too large",
        CNN,
        floats(1, 3, 32, 32),
        "view-size",
        "x.view(-1, 32 * 7 * 7): 2048 values (32·8·8, from pool) do not divide into rows of 1568 = 32·7·7",
        ("an input of {sizes}", "x.view(-1, 2048) and fc1 = nn.Linear(2048, 120)"),
    ),
    Broken(
        "features that a flatten made",
        lambda: Model(
            lambda self, x: self.fc(self.pool(x).flatten(1)), pool=nn.MaxPool2d(2), fc=nn.Linear(3 * 7 * 7, 4)
        ),
        floats(2, 3, 16, 16),
        "linear-features",
        "fc (Linear) takes 147 features, got 192 = 3·8·8 from pool, flattened at tests/diagnosis/broken.py:…",
        ("an input of {sizes}", "fc = nn.Linear(192, 4)"),
    ),
    Broken(
        "features straight from the input",
        lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)),
        floats(2, 7),
        "linear-features",
        "0 (Linear) takes 5 features, got 7 from the input",
        ("--input 2,5", "0 = nn.Linear(7, 8)"),
    ),
    Broken(
        "too many channels",
        lambda: Model(lambda self, x: self.conv(x), conv=nn.Conv2d(3, 8, 3, padding=1)),
        floats(2, 4, 9, 9),
        "conv-channels",
        "conv (Conv2d) takes 3 channels, got 4 from input x",
        ("--input 2,3,9,9", "conv = nn.Conv2d(4, 8, kernel_size=3, padding=1)"),
    ),
    Broken(
        "a kernel larger than its input",
        lambda: Model(lambda self, x: self.conv(x), conv=nn.Conv2d(3, 8, 5)),
        floats(2, 3, 4, 4),
        "kernel-size",
        "conv (Conv2d) has a kernel of 5 × 5, its input is 4 × 4",
        ("an input of {sizes}", "conv = nn.Conv2d(3, 8, kernel_size=4)"),
    ),
    Broken(
        "rows that do not divide",
        lambda: Model(lambda self, x: x.view(-1, 7)),
        floats(2, 4),
        "view-size",
        "x.view(-1, 7): 8 values (2·4, from input x) do not divide into rows of 7",
        (
            "x.view(-1, 4)",
            "--input 2,7",
        ),
    ),
    Broken(
        "matrices the wrong way round",
        lambda: Model(lambda self, x, y: x @ y),
        lambda: (torch.randn(2, 4), torch.randn(3, 4)),
        "matmul",
        "x @ y: [2, 4] @ [3, 4]: rows of 4 meet columns of 3",
        ("x @ y.transpose(-2, -1)",),
    ),
    Broken(
        "a sum that does not broadcast",
        lambda: Model(lambda self, x, y: x + y),
        lambda: (torch.randn(2, 4), torch.randn(2)),
        "broadcast",
        "x + y: [2, 4] and [2] do not broadcast: the last dimension is 4 from input x, and 2 from input y",
        ("x + y.unsqueeze(1)",),
    ),
    Broken(
        "an index that the table does not have",
        lambda: Model(lambda self, x: self.words(x), words=nn.Embedding(10, 4)),
        lambda: (torch.tensor([[1, 12]]),),
        "embedding-index",
        "words (Embedding) has rows 0…9, got indices 1…12 from input x",
        ("numbers of 0…9 in x", "words = nn.Embedding(13, 4)"),
    ),
    Broken(
        "one value a channel",
        lambda: Model(lambda self, x: self.norm(x), norm=nn.BatchNorm1d(4)),
        floats(1, 4),
        "one-value-per-channel",
        "norm (BatchNorm1d) in train mode needs more than one value per channel, got [1, 4]",
        ("model.eval()", "--input 2,4"),
    ),
    Broken(
        "features in the wrong dimension",
        lambda: Model(lambda self, x: self.fc(x), fc=nn.Linear(6, 4)),
        floats(2, 6, 9),
        "linear-features",
        "fc (Linear) takes 6 features, got 9 from input x; [2, 6, 9] has 6 in dimension 1",
        (
            "self.fc(x.transpose(1, -1))",
            "fc = nn.Linear(9, 4)",
        ),
    ),
    Broken(
        "features of a Bilinear",
        lambda: Model(lambda self, x, y: self.both(x, y), both=nn.Bilinear(4, 5, 2)),
        lambda: (torch.randn(2, 4), torch.randn(2, 6)),
        "linear-features",
        "both (Bilinear) takes 5 features as input2, got 6 from input y",
        (
            "--input x=2,4 --input y=2,5",
            "both = nn.Bilinear(4, 6, 2)",
        ),
    ),
    Broken(
        "channels that do not divide into groups",
        lambda: Model(lambda self, x: self.conv(x), conv=nn.Conv2d(4, 8, 3, groups=2)),
        floats(2, 6, 9, 9),
        "conv-channels",
        "conv (Conv2d) takes 4 channels in 2 groups, got 6 from input x",
        (
            "--input 2,4,9,9",
            "conv = nn.Conv2d(6, 8, kernel_size=3, groups=2)",
        ),
    ),
    Broken(
        "channels from another convolution",
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(16, 4, 3)),
        floats(1, 3, 9, 9),
        "conv-channels",
        "2 (Conv2d) takes 16 channels, got 8 from 0",
        ("2 = nn.Conv2d(8, 4, kernel_size=3)",),
    ),
    Broken(
        "channels of a transposed convolution",
        lambda: Model(lambda self, x: self.up(x), up=nn.ConvTranspose2d(4, 8, 3)),
        floats(2, 6, 9, 9),
        "conv-channels",
        "up (ConvTranspose2d) takes 4 channels, got 6 from input x",
        (
            "--input 2,4,9,9",
            "up = nn.ConvTranspose2d(6, 8, kernel_size=3)",
        ),
    ),
    Broken(
        "a convolution over text with its features last",
        lambda: Model(lambda self, x: self.conv(self.words(x)), words=nn.Embedding(10, 4), conv=nn.Conv1d(4, 8, 3)),
        numbers(9, 2, 7),
        "channels-last",
        "conv (Conv1d) takes 4 channels, got 7 from words; [2, 7, 4] has 4 in its last dimension",
        ("self.conv(self.words(x).permute(0, 2, 1))",),
    ),
    Broken(
        "too many dimensions for a convolution",
        lambda: Model(lambda self, x: self.conv(x), conv=nn.Conv2d(3, 8, 3)),
        floats(2, 2, 3, 9, 9),
        "dimensions",
        "conv (Conv2d) takes [C, H, W] or [N, C, H, W], got 5 dimensions [2, 2, 3, 9, 9]",
    ),
    Broken(
        "one grey image without batch and channel",
        lambda: Model(lambda self, x: self.conv(x), conv=nn.Conv2d(1, 8, 3)),
        floats(9, 9),
        "dimensions",
        "conv (Conv2d) takes [C, H, W] or [N, C, H, W], got 2 dimensions [9, 9]",
        ("add batch and channel dimensions: --input 1,1,9,9",),
    ),
    Broken(
        "grey images without their channel",
        lambda: Model(lambda self, x: self.conv(x), conv=nn.Conv2d(1, 8, 3)),
        floats(4, 9, 9),
        "missing-channel",
        "conv (Conv2d) takes 1 channel, got 4 from input x; [4, 9, 9] was taken as one example without a batch dimension",
        ("add the channel dimension: --input 4,1,9,9",),
    ),
    Broken(
        "images with their channels last",
        CNN,
        floats(1, 28, 28, 3),
        "channels-last",
        "conv1 (Conv2d) takes 3 channels, got 28 from input x; [1, 28, 28, 3] has 3 in its last dimension, as images with their channels last",
        ("x.permute(0, 3, 1, 2): --input 1,3,28,28",),
    ),
    Broken(
        "one image with its channels last",
        lambda: Model(lambda self, x: self.conv(x), conv=nn.Conv2d(3, 8, 3)),
        floats(28, 28, 3),
        "channels-last",
        "conv (Conv2d) takes 3 channels, got 28 from input x; [28, 28, 3] has 3 in its last dimension, and no batch dimension",
        ("channels first, and the batch dimension: --input 1,3,28,28",),
    ),
    Broken(
        "a dilated kernel that reaches too far",
        lambda: Model(lambda self, x: self.conv(x), conv=nn.Conv1d(3, 8, 3, dilation=4)),
        floats(2, 3, 8),
        "kernel-size",
        "conv (Conv1d) has a kernel of 3 that reaches over 9, its input is 8",
        ("an input of {sizes}",),
    ),
    Broken(
        "a window larger than what is left",
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(4)),
        floats(2, 3, 5, 5),
        "kernel-size",
        "1 (MaxPool2d) has a window of 4 × 4, its input is 3 × 3 from 0",
        ("an input of {sizes}",),
    ),
    Broken(
        "an average over more than there is",
        lambda: Model(lambda self, x: self.pool(x), pool=nn.AvgPool2d(4)),
        floats(2, 3, 3, 3),
        "kernel-size",
        "pool (AvgPool2d) has a window of 4 × 4, its input is 3 × 3",
        ("an input of {sizes}",),
    ),
    Broken(
        "a missing batch dimension",
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 3 * 3, 2)),
        floats(3, 5, 5),
        "linear-features",
        "2 (Linear) takes 36 features, got 9 = 3·3 from 0, flattened by 1; 0 (Conv2d) took input [3, 5, 5] as one example without a batch dimension",
        (
            "add the batch dimension: --input 1,3,5,5",
            "an input of {sizes}",
            "2 = nn.Linear(9, 2)",
        ),
    ),
    Broken(
        "a missing batch dimension at a BatchNorm",
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval(),
        floats(3, 5, 5),
        "missing-batch",
        "1 (BatchNorm2d) takes 4 dimensions, got 3: [4, 3, 3]; 0 (Conv2d) took input [3, 5, 5] as one example without a batch dimension",
        ("add the batch dimension: --input 1,3,5,5",),
    ),
    Broken(
        "sizes that are not filled",
        lambda: Model(lambda self, x: x.reshape(x.size(0), 3, 3)),
        floats(2, 8),
        "view-size",
        "x.reshape(x.size(0), 3, 3): the last dimension of [2, 8] does not split into 3·3 = 9",
        ("--input 2,9",),
    ),
    Broken(
        "a head size that does not divide",
        lambda: Model(lambda self, x: x.view(x.size(0), x.size(1), 4, 10 // 4)),
        floats(2, 5, 10),
        "view-size",
        "x.view(x.size(0), x.size(1), 4, 10 // 4): the last dimension of [2, 5, 10] does not split into 4·2 = 8",
        (
            "x.view(2, 5, 5, 2)",
            "--input 2,5,8",
        ),
    ),
    Broken(
        "a view of what is not contiguous",
        lambda: Model(lambda self, x: x.transpose(1, 2).view(2, -1)),
        floats(2, 4, 3),
        "view-stride",
        "x.transpose(1, 2).view(2, -1): [2, 3, 4], made by x.transpose, is not contiguous (strides [12, 1, 3]), and view copies nothing",
        ("x.transpose(1, 2).reshape(2, -1)",),
    ),
    Broken(
        "a dimension that does not unflatten",
        lambda: Model(lambda self, x: self.split(x), split=nn.Unflatten(1, (2, 3))),
        floats(2, 8),
        "unflatten-size",
        "split (Unflatten) splits dimension 1 into 2·3 = 6, that of [2, 8] is 8",
        ("--input 2,6",),
    ),
    Broken(
        "parts that do not sum up",
        lambda: Model(lambda self, x: torch.split(x, [2, 2], 1)),
        floats(4, 5),
        "split-sizes",
        "torch.split(x, [2, 2], 1): 2 + 2 = 4, dimension 1 of [4, 5] is 5",
        ("torch.split into [2, 3]",),
    ),
    Broken(
        "a dimension that does not expand",
        lambda: Model(lambda self, x: x.expand(3, 4)),
        floats(3, 2),
        "expand-size",
        "x.expand(3, 4): dimension 1 of [3, 2] is 2, and only a dimension of 1 expands to 4",
    ),
    Broken(
        "matrices that fit in no way",
        lambda: Model(lambda self, x, y: torch.matmul(x, y)),
        lambda: (torch.randn(2, 4), torch.randn(3, 5)),
        "matmul",
        "torch.matmul(x, y): [2, 4] @ [3, 5]: rows of 4 meet columns of 3",
        (
            "--input x=2,4 --input y=4,5",
            "--input x=2,3 --input y=3,5",
        ),
    ),
    Broken(
        "batches of matrices",
        lambda: Model(lambda self, x, y: torch.bmm(x, y)),
        lambda: (torch.randn(2, 4, 5), torch.randn(3, 5, 2)),
        "matmul",
        "torch.bmm(x, y): [2, 4, 5] @ [3, 5, 2]: batches of 2 and 3",
        (
            "--input x=2,4,5 --input y=2,5,2",
            "--input x=3,4,5 --input y=3,5,2",
        ),
    ),
    Broken(
        "scores without a transpose",
        lambda: Model(lambda self, q, k: (q @ k).softmax(-1)),
        lambda: (torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)),
        "matmul",
        "q @ k: [2, 2, 5, 8] @ [2, 2, 5, 8]: rows of 8 meet columns of 5",
        (
            "q @ k.transpose(-2, -1)",
            "q.transpose(-2, -1) @ k",
        ),
    ),
    Broken(
        "batches that do not broadcast",
        lambda: Model(lambda self, x, y: x @ y),
        lambda: (torch.randn(2, 3, 5, 8), torch.randn(2, 4, 8, 5)),
        "matmul",
        "x @ y: [2, 3, 5, 8] @ [2, 4, 8, 5]: batches of 2·3 and 2·4",
        (
            "--input x=2,3,5,8 --input y=2,3,8,5",
            "--input x=2,4,5,8 --input y=2,4,8,5",
        ),
    ),
    Broken(
        "a residual of other channels",
        lambda: Model(lambda self, x: self.conv(x) + x, conv=nn.Conv2d(3, 8, 3, padding=1)),
        floats(1, 3, 9, 9),
        "broadcast",
        "self.conv(x) + x: [1, 8, 9, 9] and [1, 3, 9, 9] do not broadcast: dimension -3 is 8 from conv, and 3 from input x",
        ("conv = nn.Conv2d(3, 3, kernel_size=3, padding=1)",),
    ),
    Broken(
        "positions for another image",
        Positions,
        floats(1, 3, 12, 12),
        "broadcast",
        "x + self.positions: [1, 9, 6] and [1, 4, 6] do not broadcast: dimension -2 is 9 = 3·3 from patches, flattened at tests/diagnosis/broken.py:…, and 4 from parameter positions",
        ("an input of {sizes}",),
    ),
    Broken(
        "an addition into a smaller tensor",
        lambda: Model(lambda self, x, y: x.add_(y)),
        lambda: (torch.randn(4), torch.randn(3, 4)),
        "broadcast",
        "x.add_(y) writes into [4], and with [3, 4] the result is [3, 4]",
    ),
    Broken(
        "a mask of another shape",
        lambda: Model(lambda self, x, mask: x.masked_fill(mask, 0.0)),
        lambda: (torch.randn(2, 4), torch.zeros(3, 4, dtype=torch.bool)),
        "broadcast",
        "x.masked_fill(mask, 0.0): [2, 4] and [3, 4] do not broadcast: dimension -2 is 2 from input x, and 3 from input y",
        (
            "--input x=2,4 --input y=2,4:bool",
            "--input x=3,4 --input y=3,4:bool",
        ),
    ),
    Broken(
        "joined in the wrong dimension",
        lambda: Model(lambda self, x, y: torch.cat([x, y], 1)),
        lambda: (torch.randn(2, 4), torch.randn(3, 4)),
        "cat",
        "torch.cat([x, y], 1) joins in dimension 1, [2, 4] and [3, 4] differ in dimension 0",
        ("torch.cat([x, y], dim=0)",),
    ),
    Broken(
        "joined with another number of dimensions",
        lambda: Model(lambda self, x, y: torch.cat([x, y], 1)),
        lambda: (torch.randn(2, 4), torch.randn(2, 4, 1)),
        "cat",
        "torch.cat([x, y], 1) joins tensors with equally many dimensions, got [2, 4] and [2, 4, 1]",
    ),
    Broken(
        "stacked although unequal",
        lambda: Model(lambda self, x, y: torch.stack([x, y])),
        lambda: (torch.randn(2, 4), torch.randn(3, 4)),
        "cat",
        "torch.stack([x, y]) takes tensors of one shape, got [2, 4] and [3, 4]",
        ("--input x=2,4 --input y=2,4",),
    ),
    Broken(
        "one letter for two sizes",
        lambda: Model(lambda self, x, y: torch.einsum("ij,jk->ik", x, y)),
        lambda: (torch.randn(4, 3), torch.randn(4, 3)),
        "einsum",
        "torch.einsum 'ij,jk->ik': j is 3 in x, and 4 in y",
    ),
    Broken(
        "indices that are floats",
        lambda: Model(lambda self, x: self.words(x), words=nn.Embedding(10, 4)),
        floats(2, 3),
        "embedding-dtype",
        "words (Embedding) takes indices of int64 or int32, got float32 from input x",
        ("--input 2,3:int64",),
    ),
    Broken(
        "a negative index",
        lambda: Model(lambda self, x: self.words(x - 1), words=nn.Embedding(10, 4)),
        lambda: (torch.tensor([[0, 1]]),),
        "embedding-index",
        "words (Embedding) has rows 0…9, got indices -1…0 from x - 1",
    ),
    Broken(
        "positions beyond the table",
        Words,
        numbers(5, 1, 12),
        "embedding-index",
        "positions (Embedding) has rows 0…7, got indices 0…11 from torch.arange",
        ("positions = nn.Embedding(12, 4)",),
    ),
    Broken(
        "an index beyond a dimension",
        lambda: Model(lambda self, x: x[:, 7]),
        floats(4, 3),
        "index",
        "x[:, 7]: index 7, and dimension 1 of [4, 3] has 0…2",
    ),
    Broken(
        "channels of a BatchNorm",
        lambda: Model(lambda self, x: self.norm(x), norm=nn.BatchNorm2d(4)),
        floats(2, 5, 3, 3),
        "norm-channels",
        "norm (BatchNorm2d) takes 4 channels, got 5 from input x",
        (
            "--input 2,4,3,3",
            "norm = nn.BatchNorm2d(5)",
        ),
    ),
    Broken(
        "dimensions of a BatchNorm",
        lambda: Model(lambda self, x: self.norm(x), norm=nn.BatchNorm2d(4)),
        floats(2, 4),
        "dimensions",
        "norm (BatchNorm2d) takes 4 dimensions, got 2: [2, 4]",
    ),
    Broken(
        "features last in a BatchNorm",
        lambda: Model(lambda self, x: self.norm(x), norm=nn.BatchNorm1d(4)),
        floats(2, 7, 4),
        "norm-channels",
        "norm (BatchNorm1d) takes 4 channels, got 7 from input x; [2, 7, 4] has 4 in its last dimension",
        (
            "self.norm(x.transpose(1, 2))",
            "norm = nn.BatchNorm1d(7)",
        ),
    ),
    Broken(
        "a LayerNorm over other features",
        lambda: Model(lambda self, x: self.norm(x), norm=nn.LayerNorm(4)),
        floats(2, 5),
        "normalized-shape",
        "norm (LayerNorm) normalizes over 4, [2, 5] ends in 5 from input x",
        (
            "--input 2,4",
            "norm = nn.LayerNorm(5)",
        ),
    ),
    Broken(
        "a LayerNorm over images",
        lambda: Model(lambda self, x: self.norm(x), norm=nn.LayerNorm([3, 8, 8])),
        floats(2, 3, 9, 9),
        "normalized-shape",
        "norm (LayerNorm) normalizes over [3, 8, 8], [2, 3, 9, 9] ends in [3, 9, 9]",
        ("norm = nn.LayerNorm((3, 9, 9))",),
    ),
    Broken(
        "a LayerNorm with features not last",
        lambda: Model(lambda self, x: self.norm(x), norm=nn.LayerNorm(4)),
        floats(2, 4, 7),
        "normalized-shape",
        "norm (LayerNorm) normalizes over 4, [2, 4, 7] ends in 7 from input x",
        (
            "self.norm(x.transpose(1, -1))",
            "norm = nn.LayerNorm(7)",
        ),
    ),
    Broken(
        "channels of a GroupNorm",
        lambda: Model(lambda self, x: self.norm(x), norm=nn.GroupNorm(2, 4)),
        floats(2, 6, 3),
        "norm-channels",
        "norm (GroupNorm) takes 4 channels, got 6 from input x",
        (
            "--input 2,4,3",
            "norm = nn.GroupNorm(2, 6)",
        ),
    ),
    Broken(
        "features of an attention",
        lambda: Model(lambda self, x: self.attention(x, x, x), attention=nn.MultiheadAttention(8, 2, batch_first=True)),
        floats(2, 5, 6),
        "attention-features",
        "attention (MultiheadAttention) takes embed_dim = 8 features, got 6 from input x",
        ("--input 2,5,8",),
    ),
    Broken(
        "an attention mask of another length",
        lambda: Model(
            lambda self, x, mask: self.attention(x, x, x, attn_mask=mask),
            attention=nn.MultiheadAttention(8, 2, batch_first=True),
        ),
        lambda: (torch.randn(2, 5, 8), torch.zeros(4, 4)),
        "attention-mask",
        "attention (MultiheadAttention) takes an attn_mask of [queries, keys] = [5, 5], got [4, 4]",
        ("--input x=2,5,8 --input y=5,5",),
    ),
    Broken(
        "a padding mask the wrong way round",
        lambda: Model(
            lambda self, x, mask: self.attention(x, x, x, key_padding_mask=mask),
            attention=nn.MultiheadAttention(8, 2, batch_first=True),
        ),
        lambda: (torch.randn(2, 5, 8), torch.zeros(5, 2, dtype=torch.bool)),
        "attention-mask",
        "attention (MultiheadAttention) takes a key_padding_mask of [batch, keys] = [2, 5], got [5, 2]",
        ("--input x=2,5,8 --input y=2,5:bool",),
    ),
    Broken(
        "keys of another batch",
        lambda: Model(
            lambda self, x, y: self.attention(x, y, y), attention=nn.MultiheadAttention(8, 2, batch_first=True)
        ),
        lambda: (torch.randn(2, 5, 8), torch.randn(3, 5, 8)),
        "attention-shapes",
        "attention (MultiheadAttention): query [2, 5, 8], key [3, 5, 8], value [3, 5, 8] (batch first): batches of 2 and 3",
        ("--input x=2,5,8 --input y=2,5,8",),
    ),
    Broken(
        "head sizes that differ",
        lambda: Model(lambda self, q, k: F.scaled_dot_product_attention(q, k, k)),
        lambda: (torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 6)),
        "attention-shapes",
        "F.scaled_dot_product_attention: query [2, 2, 5, 8] has 8 features a head, key [2, 2, 5, 6] has 6",
        ("--input x=2,2,5,8 --input y=2,2,5,8",),
    ),
    Broken(
        "a mask for fewer keys",
        lambda: Model(lambda self, q, mask: F.scaled_dot_product_attention(q, q, q, attn_mask=mask)),
        lambda: (torch.randn(2, 2, 5, 8), torch.zeros(4, 4)),
        "attention-mask",
        "F.scaled_dot_product_attention takes a mask that ends in [queries, keys] = [5, 5], got [4, 4]",
        ("--input x=2,2,5,8 --input y=5,5",),
    ),
    Broken(
        "the input size of an LSTM",
        lambda: Model(lambda self, x: self.rnn(x)[0], rnn=nn.LSTM(4, 5, batch_first=True)),
        floats(2, 3, 6),
        "recurrent-input",
        "rnn (LSTM) takes input_size = 4, got 6 from input x",
        (
            "--input 2,3,4",
            "rnn = nn.LSTM(6, 5, batch_first=True)",
        ),
    ),
    Broken(
        "one number a time for an RNN",
        lambda: Model(lambda self, x: self.rnn(x)[0], rnn=nn.RNN(1, 5, batch_first=True)),
        floats(2, 7),
        "recurrent-input",
        "rnn (RNN) takes input_size = 1, got 7 from input x",
        (
            "add the feature dimension: --input 2,7,1",
            "rnn = nn.RNN(7, 5, batch_first=True)",
        ),
    ),
    Broken(
        "a missing length for an LSTM",
        lambda: Model(lambda self, x: self.rnn(x)[0], rnn=nn.LSTM(4, 5)),
        floats(4),
        "dimensions",
        "rnn (LSTM) takes [L, input_size] or [L, N, input_size], got 1 dimension [4]",
        ("add a dimension for the length: --input 1,4",),
    ),
    Broken(
        "a hidden state with its batch first",
        lambda: Model(lambda self, x, h: self.rnn(x, h)[0], rnn=nn.GRU(4, 5, batch_first=True)),
        lambda: (torch.randn(2, 3, 4), torch.zeros(2, 1, 5)),
        "recurrent-hidden",
        "rnn (GRU) takes a hidden state of [layers·directions, N, hidden_size] = [1, 2, 5], got [2, 1, 5]",
        ("--input x=2,3,4 --input y=1,2,5",),
    ),
    Broken(
        "hidden states of two LSTMs in one",
        lambda: Model(lambda self, x, h: self.rnn(x, (h, h))[0], rnn=nn.LSTM(4, 5)),
        lambda: (torch.randn(2, 3, 4), torch.zeros(2, 3, 5)),
        "recurrent-hidden",
        "rnn (LSTM) takes a hidden state of [layers·directions, N, hidden_size] = [1, 3, 5], got [2, 3, 5]",
        ("--input x=2,3,4 --input y=1,3,5",),
    ),
    Broken(
        "the input size of a cell",
        lambda: Model(lambda self, x: self.cell(x), cell=nn.GRUCell(4, 5)),
        floats(2, 6),
        "recurrent-input",
        "cell (GRUCell) takes input_size = 4, got 6 from input x",
        (
            "--input 2,4",
            "cell = nn.GRUCell(6, 5)",
        ),
    ),
    Broken(
        "doubles into floats",
        lambda: Model(lambda self, x: self.fc(x), fc=nn.Linear(5, 3)),
        lambda: (torch.randn(2, 5, dtype=torch.float64),),
        "dtype",
        "fc (Linear) has float32 parameters, got float64 from input x",
        (
            "x.float()",
            "model.to(torch.float64)",
        ),
    ),
    Broken(
        "floats into halves",
        lambda: Model(lambda self, x: self.fc(x), fc=nn.Linear(5, 3).half()),
        floats(2, 5),
        "dtype",
        "fc (Linear) has float16 parameters, got float32 from input x",
        (
            "x.half()",
            "model.to(torch.float32)",
        ),
    ),
    Broken(
        "whole numbers into a Linear",
        lambda: Model(lambda self, x: self.fc(x), fc=nn.Linear(5, 3)),
        numbers(9, 2, 5),
        "dtype",
        "fc (Linear) has float32 parameters, got int64 from input x",
        ("x.float()",),
    ),
    Broken(
        "bytes into a convolution",
        lambda: Model(lambda self, x: self.conv(x), conv=nn.Conv2d(3, 4, 3)),
        lambda: (torch.zeros(1, 3, 8, 8, dtype=torch.uint8),),
        "dtype",
        "conv (Conv2d) has float32 parameters, got uint8 from input x",
        ("x.float()",),
    ),
    Broken(
        "two dtypes in one product",
        lambda: Model(lambda self, x, y: x @ y),
        lambda: (torch.randn(2, 4), torch.randn(4, 5, dtype=torch.float64)),
        "dtype",
        "x @ y takes tensors of one dtype, got float32 from input x and float64 from input y",
        ("x @ y.float()",),
    ),
    Broken(
        "whole numbers into a LayerNorm",
        lambda: Model(lambda self, x: self.norm(x), norm=nn.LayerNorm(4)),
        lambda: (torch.randint(9, (2, 4)),),
        "dtype",
        "norm (LayerNorm) has float32 parameters, got int64 from input x",
        ("x.float()",),
    ),
    Broken(
        "halves where the CPU has none",
        lambda: Model(lambda self, x: torch.linalg.inv(self.fc(x)), fc=nn.Linear(3, 3).half()),
        lambda: (torch.randn(3, 3).half(),),
        "dtype-unsupported",
        "torch.linalg.inv(self.fc(x)): torch 2.13.0+cpu has no torch.linalg.inv for float16 on cpu",
        ("--dtype float32",),
    ),
    Broken(
        "halves in a Fourier transform on the CPU",
        lambda: Model(lambda self, x: torch.fft.fft(self.fc(x)), fc=nn.Linear(3, 3).half()),
        lambda: (torch.randn(3, 3).half(),),
        "dtype-unsupported",
        "torch.fft.fft(self.fc(x)): torch 2.13.0+cpu has no torch.fft.fft for float16 on cpu",
        ("--dtype float32",),
    ),
    Broken(
        "a tensor that a forward made elsewhere",
        lambda: Model(lambda self, x: self.fc(x) + torch.zeros(2, 3), fc=nn.Linear(5, 3).to("meta")),
        lambda: (torch.randn(2, 5, device="meta"),),
        "device",
        "self.fc(x) + torch.zeros(2, 3): torch.zeros, made at tests/diagnosis/broken.py:…, is on cpu, the rest on meta",
        ("self.fc(x) + torch.zeros(2, 3).to('meta')",),
    ),
    Broken(
        "an input that stayed on the CPU",
        lambda: Model(lambda self, x: self.fc(x), fc=nn.Linear(5, 3).to("meta")),
        floats(2, 5),
        "device",
        "fc (Linear): input x is on cpu, the rest on meta",
        ("x.to('meta')",),
    ),
    Broken(
        "a tensor that is no buffer",
        Scaled,
        lambda: (torch.randn(2, 5, device="meta"),),
        "device",
        "self.fc(x) * self.scale: self.scale is on cpu, the rest on meta",
        ("self.fc(x) * self.scale.to('meta')",),
    ),
    Broken(
        "an argument that is missing",
        lambda: Masked(),
        floats(2, 5),
        "arguments",
        "Masked is called without mask; its forward takes (x, mask, *, fill=0.0)",
    ),
    Broken(
        "a submodule without its argument",
        lambda: Model(lambda self, x: self.masked(x), masked=Masked()),
        floats(2, 5),
        "arguments",
        "masked (Masked) is called without mask; its forward takes (x, mask, *, fill=0.0)",
    ),
    Broken(
        "too many arguments",
        Masked,
        lambda: (torch.randn(2, 5), torch.ones(2, 5), 1),
        "arguments",
        "Masked is given 3 positional arguments, and takes 2; its forward takes (x, mask, *, fill=0.0)",
        ("only the first 2",),
    ),
    Broken(
        "the tuple that an LSTM returns",
        lambda: nn.Sequential(nn.LSTM(4, 5), nn.Linear(5, 1)),
        floats(2, 3, 4),
        "not-a-tensor",
        "1 (Linear) takes a tensor as input, got a tuple that holds 3 tensors from 0",
    ),
    Broken(
        "a target for each example",
        lambda: Model(lambda self, x, y: F.cross_entropy(x, y)),
        lambda: (torch.randn(4, 3), torch.tensor([0, 1])),
        "loss-target",
        "F.cross_entropy(x, y): scores [4, 3] take a target of [4], got [2]",
        ("--input x=4,3 --input y=4:int64",),
    ),
    Broken(
        "a target with a dimension too many",
        lambda: Model(lambda self, x, y: self.loss(x, y), loss=nn.CrossEntropyLoss()),
        lambda: (torch.randn(4, 3), torch.tensor([[0], [1], [2], [0]])),
        "loss-target",
        "loss (CrossEntropyLoss): scores [4, 3] take a target of [4], got [4, 1]",
        ("self.loss(x, y.squeeze(-1))",),
    ),
    Broken(
        "a target of floats",
        lambda: Model(lambda self, x, y: F.cross_entropy(x, y)),
        lambda: (torch.randn(4, 3), torch.tensor([0.0, 1.0, 2.0, 0.0])),
        "loss-target",
        "F.cross_entropy(x, y) takes a target of class numbers (int64), got float32 [4]",
        ("F.cross_entropy(x, y.long())",),
    ),
    Broken(
        "a class that is not there",
        lambda: Model(lambda self, x, y: F.cross_entropy(x, y)),
        lambda: (torch.randn(4, 3), torch.tensor([1, 2, 3, 1])),
        "loss-target",
        "F.cross_entropy(x, y): 3 classes 0…2 in scores [4, 3], got targets 1…3",
        ("numbers of 0…2 in y",),
    ),
    Broken(
        "a binary target without its dimension",
        lambda: Model(lambda self, x, y: F.binary_cross_entropy_with_logits(x, y)),
        lambda: (torch.randn(4, 1), torch.randn(4)),
        "loss-target",
        "F.binary_cross_entropy_with_logits(x, y) takes a target of the shape of its scores, [4, 1], got [4]",
        ("F.binary_cross_entropy_with_logits(x, y.unsqueeze(-1))",),
    ),
    Broken(
        "a dimension that is not there",
        lambda: Model(lambda self, x: F.softmax(x, dim=2)),
        floats(4, 3),
        "dimension",
        "F.softmax(x, dim=2): no dimension 2 in [4, 3], which has 2",
        ("add the batch dimension: --input 1,4,3",),
    ),
    Broken(
        "an order of other dimensions",
        lambda: Model(lambda self, x: x.permute(0, 2, 1)),
        floats(4, 3),
        "dimension",
        "x.permute(0, 2, 1): orders 3 dimensions, [4, 3] has 2",
        ("add the batch dimension: --input 1,4,3",),
    ),
    Broken(
        "a shape with too few dimensions",
        Unpacking,
        floats(3, 8, 8),
        "unpack",
        "4 values are unpacked as b, c, h, w, and Unpacking got x [3, 8, 8] with 3 dimensions",
        ("add the batch dimension: --input 1,3,8,8",),
    ),
    Broken(
        "a check of the model's own",
        Picky,
        floats(2, 5),
        "unknown",
        "Picky raised ValueError: an odd number of features (got x float32[2, 5])",
    ),
    Broken(
        "weights of the functional interface",
        lambda: Weights(),
        floats(2, 7),
        "linear-features",
        "F.linear(x, self.weight) takes 5 features, got 7 from input x",
        ("--input 2,5",),
    ),
]
