"""A feedforward network, also called a multilayer perceptron: Linear, ReLU, Linear.

The ReLU is a module here (`nn.ReLU`); cnn.py uses the function (`F.relu`). Both compute the same; only the module
goes through `__call__` and its hooks. Shapes are in the comments: B is the number of examples in the batch.
"""

import torch
from torch import Tensor, nn


class FeedforwardNetwork(nn.Module):
    """Score `output_size` classes from `input_size` numbers through one hidden layer."""

    def __init__(self, input_size: int = 20, hidden_size: int = 50, output_size: int = 2) -> None:
        super().__init__()
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, input_size) to scores (B, output_size)."""
        x = self.fc1(x)  # (B, 20) → (B, 50)
        x = self.relu(x)  # without it, the two Linears would collapse into one
        x = self.fc2(x)  # (B, 50) → (B, 2)
        return x


def build_model() -> nn.Module:
    """Return the model that `tracecall run` shows."""
    return FeedforwardNetwork()


def example_input() -> Tensor:
    """Return one example of 20 features."""
    return torch.randn(1, 20)
