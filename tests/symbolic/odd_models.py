"""Models whose shapes hang on their input in ways of their own."""

import torch
import torch.nn.functional as F
from torch import nn


class Patches(nn.Module):
    """Cuts an image into squares of 4 × 4."""

    def forward(self, x):
        images, channels, height, width = x.shape
        if height % 4 or width % 4:
            raise ValueError("height and width must be divisible by 4")
        x = x.view(images, channels, height // 4, 4, width // 4, 4)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(images, -1, channels * 16)


class UNet(nn.Module):
    """Down, up and side by side: sizes must be even."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 8, 3, 2, 1)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)

    def forward(self, x):
        x = self.inside(x)
        return torch.cat([x, self.up(self.down(x))], 1)


class Fixed(nn.Module):
    """Compares a size itself."""

    def forward(self, x):
        if x.shape[2] != 224:
            raise ValueError("224 expected")
        return x.flatten(1)


class Two(nn.Module):
    """Two inputs, two outputs."""

    def forward(self, a, b):
        return {"sum": a + b, "cat": torch.cat([a, b], 1)}


class Loop(nn.Module):
    """As many calls as the sequence is long."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(8, 16)

    def forward(self, x):
        state = x.new_zeros(x.shape[0], 16)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return state


class Branch(nn.Module):
    """Another way for large batches."""

    def forward(self, x):
        return x.sum(0) if x.shape[0] > 4 else x


class Values(nn.Module):
    """Asks for numbers that fake tensors do not have."""

    def forward(self, x):
        if x.sum() > 0:
            x = x * 2
        return x[x > 0]


class Recurrent(nn.Module):
    """A GRU, which refuses symbolic sizes in train mode."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 16, 2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(32, 3)

    def forward(self, x):
        return self.fc(self.gru(x)[0])


class Larger(nn.Module):
    """An interpolation, which asks symbolic sizes for numbers."""

    def forward(self, x):
        return F.interpolate(x, scale_factor=2)


class Normed(nn.Module):
    """In train mode one example is too few."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        return self.norm(x)


class Mismatch(nn.Module):
    """Runs with no input at all."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 4)
        self.second = nn.Linear(5, 2)

    def forward(self, x):
        return self.second(self.first(x))


class Counting(nn.Module):
    """Assigns to itself as it runs."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(4))
        self.last = None

    def forward(self, x):
        self.total = self.total + x.sum(0)
        self.last = x
        return x + self.total


class Halved(nn.Module):
    """Pads to an even size: with some sizes a divisor in its formulas is 0."""

    def forward(self, x):
        if x.shape[1] % 2:
            x = F.pad(x, (0, 1))
        return x.view(x.shape[0], -1, 2)


class Stacked(nn.Module):
    """As many pieces as there are: all must be of one size."""

    def forward(self, x):
        return torch.stack(x.split(16, dim=1))


class TwoDown(nn.Module):
    """Down twice and up twice, with both put side by side: both ask for something of the size."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 3, 2, stride=2)

    def forward(self, x):
        half = F.max_pool2d(x, 2)
        half = half + self.up(F.max_pool2d(half, 2))
        return x + self.up(half)


class LastState(nn.Module):
    """A loop over time whose output is the last state."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(8, 16)

    def forward(self, x):
        state = torch.zeros(x.shape[0], 16)
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return state
