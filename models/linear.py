"""Linear regression: the smallest model there is, one `nn.Linear` and nothing around it.

Shapes are in the comments: B is the number of examples in the batch.
"""

import torch
from torch import Tensor, nn


class LinearRegressionModel(nn.Module):
    """Predict one number from `features` numbers: y = x @ weight.T + bias."""

    def __init__(self, features: int = 10) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, features) to predictions (B, 1)."""
        x = self.linear(x)  # (B, 10) → (B, 1)
        return x


def build_model() -> nn.Module:
    """Return the model that `tracecall run` shows."""
    return LinearRegressionModel()


def example_input() -> Tensor:
    """Return one example of 10 features."""
    return torch.randn(1, 10)
