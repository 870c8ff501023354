"""Networks that no library has by name, for benchmarks: `benchmarks.models:unet`.

Each function returns a module with random weights and an example input of `batch` samples.
"""

from __future__ import annotations

import torch
from torch import nn

Example = tuple[nn.Module, torch.Tensor]


class Sequences(nn.Module):
    """An LSTM that returns its hidden states only."""

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, T, inputs] -> [N, T, hidden]."""
        states: torch.Tensor = self.lstm(x)[0]
        return states


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer, Brox, 2015) with padding and BatchNorm: four levels below the
    input's resolution, channels doubled on each."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(map(_two_convolutions, [channels, *widths[:-1]], widths))
        pairs = list(zip(widths[:0:-1], widths[-2::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in pairs)
        self.merge = nn.ModuleList(_two_convolutions(i, o) for i, o in pairs)
        self.last = nn.Conv2d(width, classes, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, channels, H, W] -> [N, classes, H, W]; H and W are multiples of 16."""
        kept = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            kept.append(x)
        for up, merge, beside in zip(self.up, self.merge, kept[-2::-1]):
            x = merge(torch.cat([beside, up(x)], 1))
        result: torch.Tensor = self.last(x)
        return result


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        convolution = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def lstm(batch: int = 1) -> Example:
    """Two layers, 256 inputs, 512 hidden units, 64 steps of time."""
    return Sequences(256, 512, 2), torch.rand(batch, 64, 256)


def unet(batch: int = 1) -> Example:
    """32 channels at 512 x 512 pixels."""
    return UNet(3, 2, 32), torch.rand(batch, 3, 512, 512)


def tiny(batch: int = 1) -> Example:
    """Two linear layers of 16 units: a call is nothing but overhead."""
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)), torch.rand(batch, 16)
