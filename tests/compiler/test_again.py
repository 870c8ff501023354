"""Calls like the last one on compiled kernels, while weights change and many threads call."""

from __future__ import annotations

import threading

import torch
from torch import nn

from sol.pytorch import optimize


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5),
    ).eval()  # fmt: skip


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_changed_weights() -> None:
    net = network()
    fast = optimize(net, (2, 3, 12, 12), never_slower=False)
    for round_ in range(3):
        for _ in range(4):
            x = torch.randn(2, 3, 12, 12)
            close(fast(x), net(x))
        again = fast.__dict__["_sol_session"].again
        assert again is not None, round_
        result = again((x,), {})
        assert torch.equal(result, fast(x))
        net[0].weight.data.mul_(1.5)  # type: ignore[operator]
        close(fast(x), net(x))


def test_weights_change_while_threads_call() -> None:
    """Each element is one of the weights before or after: a bias is read where it is written."""
    net = network()
    fast = optimize(net, (2, 3, 12, 12), never_slower=False)
    x = torch.randn(2, 3, 12, 12)
    wrong: list[float] = []
    with torch.no_grad():
        expected = []
        for scale in (1.0, 2.0):
            net[6].bias.fill_(scale)  # type: ignore[operator]
            expected.append(net(x))

    @torch.no_grad()
    def call() -> None:
        for _ in range(300):
            got = fast(x)
            off = float(torch.stack([(got - e).abs() for e in expected]).amin(0).max())
            if off > 1e-4:
                wrong.append(off)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    with torch.no_grad():
        for number in range(100):
            net[6].bias.copy_(torch.full((5,), 1.0 + number % 2))  # type: ignore[operator]
    for thread in threads:
        thread.join()
    assert not wrong
