"""A transformer that classifies text: token ids in, one score for each class out.

In eval mode each encoder layer runs as one fused operation, and none of its submodules is called; in train mode they
all are. Shapes are in the comments: B texts in the batch, T tokens in each, C numbers for each token.
"""

import torch
from torch import Tensor, nn


class TextClassifier(nn.Module):
    """Embed tokens, add where they stand, let them attend to each other, average, score."""

    def __init__(self, vocabulary: int = 1000, max_tokens: int = 128, width: int = 64, classes: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(max_tokens, width))
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=2 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.fc = nn.Linear(width, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (B, T), int64, T at most max_tokens, to scores (B, classes)."""
        x: Tensor = self.embedding(ids)  # (B, T) → (B, T, C)
        x = x + self.positions[: ids.shape[1]]  # (B, T, C) + (T, C): the same positions for every text
        x = self.encoder(x)  # (B, T, C)
        x = x.mean(dim=1)  # → (B, C): one vector for the whole text
        x = self.fc(x)  # → (B, 2)
        return x


def build_model() -> nn.Module:
    """Return the model that `tracecall run` shows."""
    return TextClassifier()


def example_input() -> Tensor:
    """Return one text of 16 random tokens."""
    return torch.randint(0, 1000, (1, 16))
