"""The models that the benchmarks run: their shapes are those of known models, their weights are random."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def identities() -> tuple[nn.Module, Tensor]:
    """1,000 nn.Identity in a row: nothing but calls."""
    return nn.Sequential(*(nn.Identity() for _ in range(1000))).eval(), torch.zeros(1)


class Block(nn.Module):
    """One layer of GPT-2: attention and a feedforward network, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.c_fc = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU(approximate="tanh")
        self.mlp_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, C) to the same shape."""
        q, k, v = self.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.c_proj(attended)
        return x + self.mlp_proj(self.gelu(self.c_fc(self.ln_2(x))))  # type: ignore[no-any-return]  # a module's call


class GPT2(nn.Module):
    """GPT-2's 12 layers and 12 heads, narrower than the original by default."""

    def __init__(self, layers: int = 12, width: int = 192, heads: int = 12, vocabulary: int = 1000) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(1024, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (B, T) to logits (B, T, vocabulary)."""
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))  # type: ignore[no-any-return]  # as above


def gpt2() -> tuple[nn.Module, Tensor]:
    """12 layers of an eighth of GPT-2's width, on 16 tokens: a call takes about as long as one of the ResNet below."""
    return GPT2(width=96).eval(), torch.randint(1000, (1, 16))


class Bottleneck(nn.Module):
    """ResNet's bottleneck: 1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inside != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, inside, H, W) to (B, 4 * width, H // stride, W // stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)  # type: ignore[no-any-return]  # as above


class ResNet50(nn.Module):
    """ResNet-50's 53 convolutions; `width` 64 is the original."""

    def __init__(self, width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inside, stages = width, []
        for number, blocks in enumerate((3, 4, 6, 3)):
            size = width * 2**number
            stage = [Bottleneck(inside, size, 1 if number == 0 else 2)]
            inside = 4 * size
            stage += [Bottleneck(inside, size, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
        self.layers = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inside, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images x (B, 3, H, W) to scores (B, classes)."""
        x = self.layers(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]  # as above


def resnet50() -> tuple[nn.Module, Tensor]:
    """A quarter of ResNet-50's width, on one image of 64 x 64."""
    return ResNet50(width=16).eval(), torch.randn(1, 3, 64, 64)


def gpt2_wide() -> tuple[nn.Module, Tensor]:
    """GPT-2's own width, on 32 tokens; its vocabulary is shorter, or one product would take a third of the time."""
    return GPT2(width=768).eval(), torch.randint(1000, (1, 32))


def resnet50_wide() -> tuple[nn.Module, Tensor]:
    """ResNet-50 as it is, on one image of 224 x 224."""
    return ResNet50().eval(), torch.randn(1, 3, 224, 224)


# narrow, so that what tracing adds is a large part of what is measured
MODELS = {"1,000 nn.Identity": identities, "GPT-2-shaped, 12 layers": gpt2, "ResNet-50-shaped": resnet50}
# as wide as the originals, so that a module's time is its work's and not only its memory's
WIDE = {
    "1,000 nn.Identity": identities,
    "GPT-2-shaped, 12 layers, original width": gpt2_wide,
    "ResNet-50, original size": resnet50_wide,
}
