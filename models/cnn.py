"""A convolutional network for small colour images: 3 x 28 x 28 in, one score for each of 10 classes out.

One pool module is called twice: two calls, one module. `F.relu` and `view` are no modules: they run inside `forward`
without a `__call__`. Shapes are in the comments: B is the number of images in the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CNN(nn.Module):
    """Two rounds of convolution, ReLU and pooling, then two Linears."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(32 * 7 * 7, 120)
        self.fc2 = nn.Linear(120, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images x (B, 3, 28, 28) to scores (B, 10)."""
        x = self.pool(F.relu(self.conv1(x)))  # (B, 3, 28, 28) → (B, 16, 28, 28) → (B, 16, 14, 14)
        x = self.pool(F.relu(self.conv2(x)))  # → (B, 32, 14, 14) → (B, 32, 7, 7)
        x = x.view(-1, 32 * 7 * 7)  # → (B, 1568): only a 28 x 28 image gives 7 x 7 here
        x = F.relu(self.fc1(x))  # → (B, 120)
        x = self.fc2(x)  # → (B, 10)
        return x


def build_model() -> nn.Module:
    """Return the model that `tracecall run` shows."""
    return CNN()


def example_input() -> Tensor:
    """Return one image of random pixels."""
    return torch.randn(1, 3, 28, 28)
