"""A model of random numbers and in-place changes, in a small file: a Trace reads the source each time."""

from __future__ import annotations

import torch
from torch import nn


class Noise(nn.Module):
    """Random numbers, buffers, a residual, an in-place operation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.drop, self.norm = nn.Linear(8, 8), nn.Dropout(0.5), nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.drop(self.fc(x)))
        y += torch.rand_like(y)
        y[:, 0].mul_(2)
        return x + y
