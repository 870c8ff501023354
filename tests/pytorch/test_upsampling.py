"""Small networks that enlarge images, against PyTorch: decoders, generators, super-resolution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sol.pytorch import optimize
from tests.pytorch.networks import Apply


def _unet() -> nn.Module:
    """One step down, and up again next to what was there before."""

    def run(net: Apply, x: torch.Tensor) -> torch.Tensor:
        before = net.first(x)
        up = net.up(net.down(before))
        return net.last(torch.cat([before, up], 1))

    first = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
    down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(24, 48, 3, padding=1), nn.ReLU())
    return Apply(run, first=first, down=down, up=nn.ConvTranspose2d(48, 24, 2, 2),
                 last=nn.Conv2d(48, 2, 1))  # fmt: skip


def _generator() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, 1, 0),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(16, 3, 4, 2, 1),
        nn.Tanh(),
    )


def _super_resolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(16, 64, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(16, 3, 3, padding=1)
    )


def _segmentation() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(16, 21, 1), nn.Upsample(scale_factor=4, mode="bilinear"), nn.Softmax(1)
    )


def _fully_convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(16, 9, 1), nn.ConvTranspose2d(9, 9, 16, 8, 4))


NETWORKS: tuple[Callable[[], nn.Module], ...] = (
    _unet, _generator, _super_resolution, _segmentation, _fully_convolutional,
)  # fmt: skip


@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__.strip("_"))
def test_images_are_enlarged_as_in_pytorch(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = make().eval()
    fast = optimize(net, torch.rand(2, 16, 8, 12))
    with torch.no_grad():
        for batch in (2, 3):
            x = torch.rand(batch, 16, 8, 12)
            torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)
