"""Whether gradients by Sol may differ from PyTorch's: as rounding does, also at corners."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sol.pytorch import training_race
from sol.pytorch.inputs import signature_of
from sol.pytorch.training_race import _compared, _difference, _rounded

OWN = [torch.ones(100, 100), torch.full((4,), 1e-9)]
ENTRY: Any = SimpleNamespace(captured=SimpleNamespace(signature=signature_of((OWN[0],), {})[1]))


def off_by(size: float) -> list[torch.Tensor]:
    """Gradients of which one element is off by the given part of the first one's norm."""
    found = OWN[0].clone()
    found[0, 0] += size * 100
    return [found, torch.zeros(4)]


def test_differences_are_of_whole_gradients() -> None:
    assert _difference(OWN, OWN) == 0
    assert _difference(off_by(1e-3), OWN) == pytest.approx(1e-3, rel=1e-3)
    assert _difference([OWN[0] * float("nan"), OWN[1]], OWN) == float("inf")


def test_rounding_may_make_gradients_jump(caplog: pytest.LogCaptureFixture) -> None:
    near = training_race._FAR / 2
    assert _compared(ENTRY, off_by(near), OWN, lambda: OWN).error == pytest.approx(near, rel=1e-3)
    assert not _compared(ENTRY, off_by(0.1), OWN, lambda: off_by(0.05)).wrong
    assert not caplog.records
    assert _compared(ENTRY, off_by(0.1), OWN, lambda: off_by(0.001)).wrong
    assert "differ by 1.0e-01" in caplog.text


def test_inputs_that_are_nearly_the_same() -> None:
    x = torch.rand(3, 5, requires_grad=True)
    near = _rounded(x)
    assert near.requires_grad
    assert 0 < float((near - x).detach().abs().max()) < 1e-5
    index = torch.arange(3)
    assert _rounded(index) is index
