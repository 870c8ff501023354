"""Steps of training for `sol bench --train`, and the error of their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sol.bench.training import for_training, gradient_errors, gradients, loss_of, step_of
from sol.bench.zoo import Network


def test_an_error_is_relative_to_its_gradient_or_to_a_part_of_the_largest() -> None:
    exact = [np.array([3.0, 4.0]), np.array([0.0])]
    found = [np.array([3.0, 4.5]), np.array([1e-4])]
    assert gradient_errors(found, exact) == pytest.approx([0.1, 1e-4 / 5e-3])
    assert gradient_errors(found[:1], exact) == [float("inf")]
    assert gradient_errors(exact, exact) == [0.0, 0.0]
    assert np.isnan(gradient_errors([exact[0] * np.nan], exact[:1])[0])


def test_a_step_changes_weights_by_the_gradient_of_a_loss() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    network = for_training(Network("toy", module, (torch.ones(2, 3),)))
    before = [p.detach().clone() for p in module.parameters()]
    step = step_of(module, network)
    step()
    expected = torch.autograd.grad(loss_of(module[0](torch.ones(2, 3))), list(module.parameters()))
    step()  # gradients of two steps do not add up
    for found, own in zip(gradients(network), expected):
        np.testing.assert_allclose(found, own.numpy(), rtol=1e-5)
    assert all(not torch.equal(a, b) for a, b in zip(before, module.parameters()))


def test_losses_of_scores_and_of_anything_else() -> None:
    scores = torch.zeros(2, 5, requires_grad=True)
    assert loss_of(scores).item() == pytest.approx(np.log(5))
    pair = {"a": torch.full((2, 3, 4), 2.0, requires_grad=True), "b": torch.zeros(1), "c": None}
    assert loss_of(pair).item() == 4.0
