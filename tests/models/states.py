"""One module of each state: called, bypassed, weights-used, raised and caught, unused."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Picky(nn.Module):
    """Takes only an even number of features."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] % 2:
            raise ValueError("an odd number of features")
        return x


class States(nn.Module):
    """(B, 5) → (B, 5)"""

    def __init__(self) -> None:
        super().__init__()
        self.called = nn.Linear(5, 5)
        self.bypassed = nn.Linear(5, 5)
        self.weights_used = nn.Linear(5, 5)
        self.picky = Picky()
        self.unused = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.called(x)
        x = self.bypassed.forward(x)
        x = F.linear(x, self.weights_used.weight)
        try:
            x = self.picky(x)
        except ValueError:
            x = x + 1
        return x
