"""Writes into values: the short way where nothing shares them, the long way where something may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from sol.pytorch import optimize, trace
from tests.pytorch.networks import Apply


def fresh(m: Any, x: torch.Tensor) -> torch.Tensor:
    return (x + 1).relu_().mul_(2).add_(x, alpha=3)


def read_before(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = x * 2
    z = y + 1
    y.relu_()
    return z, y + z


def returned_and_written(m: Any, x: torch.Tensor) -> list[torch.Tensor]:
    y = x * 2
    z = y.neg_()
    return [y * 1, z + y]


def view_before(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    z = y[:, 0]
    y.add_(1)
    return z + 1


def view_written(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, 0].zero_()
    return y + 1


def view_after(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = (x * 2).relu_()
    z = y.view(-1)
    y.add_(1)
    return z * 1


def parts_written(m: Any, x: torch.Tensor) -> torch.Tensor:
    a, b = (x * 2).chunk(2, 1)
    a.add_(b)
    return a * b


def input_written(m: Any, x: torch.Tensor) -> torch.Tensor:
    return x.add_(1) * 2


def dropout_written(m: Any, x: torch.Tensor) -> torch.Tensor:
    return functional.dropout(x * 2, 0.5, False).add_(1)


def of_another_type(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x, dtype=torch.int64)
    y.add_(x.long())
    return y.clamp_(0, 3)


def copied(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = torch.empty(x.shape[0], 2, 4)
    y[:, 0].copy_(x)
    y[:, 1] = 3
    return y * 2


SHORT = [fresh, read_before, returned_and_written, of_another_type]
LONG = [
    view_before,
    view_written,
    view_after,
    parts_written,
    input_written,
    dropout_written,
    copied,
]


@pytest.mark.parametrize("function", SHORT + LONG)
def test_writes(function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    short: list[bool] = []
    make = trace.make_functional

    def noted(*args: Any) -> bool:
        short.append(make(*args))
        return short[-1]

    monkeypatch.setattr(trace, "make_functional", noted)
    net = Apply(function).eval()
    fast: Any = optimize(net, (2, 4))
    for batch in (2, 3):
        x = torch.randn(batch, 4)
        torch.testing.assert_close(fast(x.clone()), net(x.clone()))
    assert set(short) == {function in SHORT}
    assert not fast.sol.captured.left
