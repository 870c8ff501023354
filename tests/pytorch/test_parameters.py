"""Parameters stay PyTorch's: every way of changing them is seen at the next call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from sol.pytorch import connect, optimize
from tests.pytorch.conftest import Compiler
from tests.pytorch.networks import Apply, Counting, Net, Tied

X = (3, 3, 6, 6)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def in_place(net: Net) -> None:
    with torch.no_grad():
        net.fc.weight.mul_(2)


def load(net: Net) -> None:
    net.load_state_dict(Net().state_dict())


def optimiser(net: Net) -> None:
    step = torch.optim.SGD(net.parameters(), lr=0.5)
    net(torch.ones(X)).sum().backward()
    step.step()


def replaced(net: Net) -> None:
    net.fc.weight = nn.Parameter(torch.ones(5, 4))


def other_memory(net: Net) -> None:
    net.conv.weight.data = torch.ones(4, 3, 3, 3)


def buffer(net: Net) -> None:
    net.bn.running_mean.add_(1)


def whole_layer(net: Net) -> None:
    net.fc = nn.Linear(4, 5).eval()


def other_size(net: Net) -> None:
    net.fc = nn.Linear(4, 7).eval()


def removed(net: Net) -> None:
    net.bn = nn.Identity().eval()  # type: ignore[assignment]


def channels_last(net: Net) -> None:
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    in_place(net)


CHANGES = [in_place, load, optimiser, replaced, other_memory, buffer, whole_layer, other_size,
           removed, channels_last]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_seen(change: Callable[[Net], None], compiler: Compiler) -> None:
    net = Net().eval()
    fast = optimize(net, X)
    x = torch.randn(X)
    close(fast(x), net(x))
    change(net)
    for _ in range(2):
        close(fast(x), net(x))
    assert compiler.runs >= 2


def test_nothing_is_prepared_anew_without_a_change(compiler: Compiler) -> None:
    fast = optimize(Net().eval(), X)
    for _ in range(5):
        fast(torch.randn(X))
    assert compiler.prepared == 1
    assert compiler.runs == 5


def test_writes_through_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """They leave the version counter alone; the fingerprint of the memory sees them."""
    monkeypatch.setattr(connect, "fingerprint", sum_of_words)
    net = Net().eval()
    fast = optimize(net, X)
    x = torch.randn(X)
    fast(x)
    net.fc.weight.data.mul_(3)
    close(fast(x), net(x))


def sum_of_words(addresses: Any, sizes: Any) -> int:
    import ctypes

    return hash(tuple(ctypes.string_at(a, s) for a, s in zip(addresses, sizes)))


def test_a_shared_parameter(compiler: Compiler) -> None:
    net = Tied().eval()
    fast = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    close(fast(x), net(x))
    with torch.no_grad():
        net.first.weight.add_(1)
    close(fast(x), net(x))
    assert compiler.runs == 2
    net.second.weight = nn.Parameter(torch.ones(4, 4))  # shared no more
    for _ in range(2):
        close(fast(x), net(x))
    assert compiler.runs == 3


def test_a_plain_tensor_attribute() -> None:
    net = Apply(lambda m, x: x * m.table[0]).eval()
    net.table = [torch.ones(4)]
    net.direct = torch.full((4,), 2.0)
    net.function = lambda m, x: x * m.direct
    fast: Any = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    close(fast(x), 2 * x)
    net.direct.fill_(3)
    close(fast(x), 3 * x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precision_runs_in_pytorch(dtype: torch.dtype, compiler: Compiler) -> None:
    net = Net().eval()
    fast = optimize(net, X)
    x = torch.randn(X)
    expected = fast(x)
    fast.to(dtype)
    assert fast(x.to(dtype)).dtype == dtype
    assert fast(x.to(dtype)).dtype == dtype
    assert compiler.runs == 1
    assert "Sol computes in float32" in str(fast.sol.report)
    fast.float()
    fast(x)
    torch.testing.assert_close(fast(x), expected, rtol=0.1, atol=0.1)
    assert compiler.runs == 2


def test_parameters_of_inference_mode(compiler: Compiler) -> None:
    with torch.inference_mode():
        net = nn.Linear(4, 4).eval()
    fast: Any = optimize(net, (2, 4))
    with torch.inference_mode():
        close(fast(torch.ones(2, 4)), net(torch.ones(2, 4)))
    assert compiler.runs == 0
    assert "inference mode" in str(fast.sol.report)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
def test_weights_that_hooks_recompute(compiler: Compiler) -> None:
    old = nn.utils.weight_norm(nn.Linear(4, 4))
    net = nn.Sequential(old, nn.utils.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 4)).eval()
    prune.l1_unstructured(net[2], "weight", 0.5)  # type: ignore[no-untyped-call]
    fast: Any = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    with torch.no_grad():
        close(fast(x), net(x))
        old.weight_g.mul_(2)
        net[2].weight_orig.mul_(2)
        close(fast(x), net(x))
    assert compiler.runs == 2
    assert not fast.sol.report.refused


class Tabled(nn.Module):
    """Makes a table in its first forward, and keeps it."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("table", torch.zeros(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.table) != x.shape[1]:
            self.table = torch.arange(float(x.shape[1]))
        return self.fc(x) + self.table


def test_a_table_that_was_made_in_inference_mode(compiler: Compiler) -> None:
    net = Tabled().eval()
    with torch.inference_mode():
        net(torch.ones(2, 4))
    assert net.table.is_inference()
    fast: Any = optimize(net, (2, 4))
    x = torch.randn(3, 4)
    with torch.no_grad():
        close(fast(x), net(x))
        close(fast(x), net(x))
    with torch.inference_mode():
        net.table[0] = 7.0  # in no word that is sampled
        close(fast(x), net(x))
    assert compiler.runs == 3
    assert compiler.prepared == 2


def test_weight_and_spectral_norm(compiler: Compiler) -> None:
    layer = parametrizations.weight_norm(nn.Linear(4, 4))
    net = nn.Sequential(layer, parametrizations.spectral_norm(nn.Linear(4, 4))).eval()
    fast = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    close(fast(x), net(x))
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(2)  # type: ignore[union-attr, operator]
    close(fast(x), net(x))
    assert compiler.runs == 2


def test_a_buffer_that_the_network_changes(compiler: Compiler) -> None:
    net = Counting().eval()
    fast: Any = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    with torch.no_grad():
        for n in range(1, 4):
            close(fast(x), net.fc(x) * n)
            assert net.count.tolist() == [n] * 4
        net.count.zero_()
        close(fast(x), net.fc(x))
    assert compiler.runs == 4
    assert compiler.prepared == 1  # it is no weight


def test_a_buffer_that_the_network_replaces(compiler: Compiler) -> None:
    net = Counting(in_place=False).eval()
    fast: Any = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    with torch.no_grad():
        for n in range(1, 4):
            close(fast(x), net.fc(x) * n)
            assert fast.count.tolist() == [n] * 4


def test_frozen_parameters(compiler: Compiler) -> None:
    net = Net().eval().requires_grad_(False)
    fast = optimize(net, X)
    assert not fast(torch.randn(X)).requires_grad
    net.fc.weight.requires_grad_(True)
    assert fast(torch.randn(X)).requires_grad
    assert compiler.runs == 2
