"""The float64 reference: a few images at a time, unless they look at each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sol.bench import rivals
from sol.bench.zoo import Network


class Watched(nn.Module):
    """Keeps the sizes of the batches that it gets."""

    def __init__(self, mixed: bool) -> None:
        super().__init__()
        self.linear, self.mixed = nn.Linear(3, 2), mixed
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> Any:
        self.seen.append(len(x))
        y = self.linear(x)
        return (y - y.mean(0) if self.mixed else y), torch.ones(())


@pytest.mark.parametrize(("mixed", "last"), [(False, [4, 4, 2]), (True, [10])])
def test_images_of_the_reference(mixed: bool, last: list[int]) -> None:
    module = Watched(mixed)
    x = torch.randn(10, 3)
    expected = module(x)[0].detach().numpy()
    setting: Any = None
    runner = rivals.REFERENCE.prepare_module(Network("watched", module, (x,)), setting)
    module.seen.clear()
    found = runner.outputs(runner.call())
    assert module.seen == last
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
    assert found[0].dtype == np.float64
    assert found[1].shape == ()
