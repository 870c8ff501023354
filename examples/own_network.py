"""A network of one's own for the command line: a function that returns a model and example inputs.

cd examples && sol explain own_network:encoder
cd examples && sol bench own_network:encoder --batch 1 8 --against eager openvino
"""

import torch
from torch import nn


class Encoder(nn.Module):
    """Two convolutions, then a transformer layer over what they leave."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.SiLU(),
        )
        self.layer = nn.TransformerEncoderLayer(channels, nhead=4, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        return self.layer(tokens).mean(dim=1)


def encoder(batch: int = 1) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """What the command line calls."""
    torch.manual_seed(0)
    return Encoder().eval(), (torch.rand(batch, 3, 64, 64),)
