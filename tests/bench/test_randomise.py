"""Weights that hide nothing: no constants left, statistics that fit the data, sizes that stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sol.bench import zoo
from sol.bench.randomise import randomise


def constants(module: nn.Module) -> list[str]:
    """Parameters and statistics whose elements are all equal."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return [n for n, t in tensors.items() if t.numel() > 1 and bool((t == t.flatten()[0]).all())]


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "vit-tiny"])
def test_no_constant_is_left(name: str) -> None:
    assert constants(zoo.build(name, random=False).module), "nothing to do: not a test"
    assert constants(zoo.build(name).module) == []


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_activations_keep_their_size(name: str) -> None:
    network = zoo.build(name, batch=2)
    sizes = []
    for module in network.module.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda m, x, y: sizes.append(float(y.std())))
    with torch.no_grad():
        network.module(*network.args)
    assert len(sizes) > 20
    assert 0.1 < min(sizes) < max(sizes) < 10


def test_a_single_number_and_integers_stay() -> None:
    module = nn.Module()
    module.scale = nn.Parameter(torch.ones(1), requires_grad=False)
    module.forward = lambda: None  # type: ignore[method-assign]
    randomise(module, (), {})
    assert float(module.scale) == 1.0


def test_norms_without_statistics_are_left_alone() -> None:
    module = nn.BatchNorm2d(4, track_running_stats=False).eval()
    randomise(module, (torch.randn(2, 4, 3, 3),), {})
    assert module.running_mean is None
