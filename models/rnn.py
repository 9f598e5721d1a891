"""A recurrent network: an LSTM reads a sequence one element after the other, its last state says what it was.

The loop over the sequence is inside `nn.LSTM`: one call, however long the sequence. It returns a tensor and a tuple of
tensors. Shapes are in the comments: B sequences in the batch, T elements in each.
"""

import torch
from torch import Tensor, nn


class SequenceClassifier(nn.Module):
    """Score `classes` classes from a sequence of measurements, `features` numbers each."""

    def __init__(self, features: int = 8, hidden_size: int = 32, classes: int = 4) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden_size, batch_first=True)
        self.fc = nn.Linear(hidden_size, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences x (B, T, features) to scores (B, classes)."""
        _, (hidden, _) = self.lstm(x)  # (B, T, 8) → hidden (1, B, 32): one state for each of the LSTM's layers
        x = hidden[-1]  # (1, B, 32) → (B, 32)
        x = self.fc(x)  # → (B, 4)
        return x


def build_model() -> nn.Module:
    """Return the model that `tracecall run` shows."""
    return SequenceClassifier()


def example_input() -> Tensor:
    """Return one sequence of 16 measurements."""
    return torch.randn(1, 16, 8)
