"""A memory budget, with the real compiler: obeyed to the byte, right results, or refused with the
smallest possible figure."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from sol.compiler import Compiled
from sol.core.errors import MemoryBudgetError
from sol.pytorch import optimize
from sol.runtime.arena import arenas

X = (6, 32, 20, 20)


class Net(nn.Module):
    """Convolutions that Winograd's algorithm is chosen for, a shared normalisation, a linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(32, 64, 3, padding=1)
        self.bn = nn.BatchNorm2d(64)
        self.second = nn.Conv2d(64, 64, 3, padding=1)
        self.third = nn.Conv2d(64, 48, 1)
        self.fc = nn.Linear(48, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.relu(self.bn(self.first(x))))
        result: torch.Tensor = self.fc(torch.relu(self.third(y)).mean((2, 3)))
        return result


class Mixing(nn.Module):
    """Images are not independent: a batch cannot be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.conv(x))
        return torch.relu(y - y.mean(0, keepdim=True)) @ torch.ones(8, 8)


class Parts(nn.Module):
    """Two parts of Sol with an operator of PyTorch between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = ((32, 64), (64, 64), (64, 64), (64, 64))
        self.convs = nn.ModuleList(nn.Conv2d(*s, 3, padding=1) for s in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c, d = self.convs
        return torch.relu(d(c(torch.hypot(b(a(x)), torch.ones(())))))


def compiled(fast: Any) -> list[Compiled]:
    return fast.__dict__["_sol_session"].entries[0].program.executables  # type: ignore[no-any-return]


def winograd(fast: Any) -> int:
    steps = [m for c in compiled(fast) for m in c.steps]
    return sum(m.why.startswith("Winograd") for m in steps)


def used(fast: Any, x: torch.Tensor, net: nn.Module) -> int:
    """Bytes that a call takes, as `memory` says and as is found when it has run."""
    memory = fast.sol.memory
    arenas.trim()
    with torch.no_grad():
        found, wanted = fast(x), net(x)
    assert arenas.bytes == memory.arena
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5
    return int(memory.total)


def smallest(net: nn.Module, size: Any, memory: int = 1, **options: Any) -> int:
    """What a refusal says; of a network in parts, the figure of the first part without a way."""
    with pytest.raises(MemoryBudgetError, match="is too little") as refused:
        optimize(net, size, memory=memory, **options)
    found = re.search(r"a call needs (\d+) bytes at least", str(refused.value))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("threads", [1, 2])
def test_any_budget_is_kept(threads: int) -> None:
    net, x = Net().eval(), torch.randn(X)
    free: Any = optimize(net, X, threads=threads)
    most, least = used(free, x, net), smallest(net, X, threads=threads)
    assert least < most
    seen = set()
    for share in (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, 0.0):
        budget = int(least + share * (most - least))
        fast: Any = optimize(net, X, memory=budget, threads=threads)
        assert used(fast, x, net) <= budget
        seen.add((compiled(fast)[0].program.group, winograd(fast)))
        for batch in (1, 7, 20):  # whatever the batch is
            fast(torch.randn(batch, *X[1:]))
            assert arenas.bytes <= fast.sol.memory.arena
    # one thread computes one image alone, so fewer of them at a time save it nothing
    assert len(seen) > (2 if threads > 1 else 1)
    assert used(fast, x, net) == least


def test_what_was_not_asked_for_is_not_given_up() -> None:
    net = Net().eval()
    free: Any = optimize(net, X)
    fast: Any = optimize(net, X, memory="1GB")
    assert winograd(fast) == winograd(free) > 0
    assert fast.sol.memory == free.sol.memory


def test_the_refusal_names_what_takes_it() -> None:
    net = Net().eval()
    least = smallest(net, X)
    with pytest.raises(MemoryBudgetError) as refused:
        optimize(net, X, memory=least - 1)
    text = str(refused.value)
    assert f"memory={least} or more" in text
    assert "for intermediates of one image" in text
    assert "packed weights (most: second)" in text
    assert optimize(net, X, memory=least)


def test_explain_says_what_the_budget_cost() -> None:
    net = Net().eval()
    fast: Any = optimize(net, X, memory=smallest(net, X))
    assert "the memory budget allows no Winograd" in str(fast.sol.report)


def test_a_batch_that_cannot_be_cut() -> None:
    size = (2, 4, 8, 8)
    net = Mixing().eval()
    budget = 2 * smallest(net, size)
    fast: Any = optimize(net, size, memory=budget)
    fast(torch.randn(size))
    with pytest.raises(MemoryBudgetError, match="a call with batch 500"):
        fast(torch.randn(500, *size[1:]))


def test_parts_share_a_budget() -> None:
    net, x = Parts().eval(), torch.randn(X)
    free: Any = optimize(net, X, threads=2)
    most = used(free, x, net)
    assert len(compiled(free)) == 2
    assert winograd(free) == 2
    for budget in (most, most - 1, int(0.8 * most), int(0.5 * most)):
        fast: Any = optimize(net, X, memory=budget, threads=2)
        assert used(fast, x, net) <= budget
    first = smallest(net, X, threads=2)
    second = smallest(net, X, memory=first, threads=2)
    assert first < second < most // 2
    # enough for each of the parts, if the other one kept no weights
    with pytest.raises(MemoryBudgetError, match="other parts"):
        optimize(net, X, memory=second, threads=2)


def test_figures_are_known_before_parameters() -> None:
    for net, size in ((Net(), X), (nn.LSTM(8, 16, batch_first=True), (2, 5, 8))):
        fast: Any = optimize(net.eval(), size)
        (executable,) = compiled(fast)
        kept, arena = executable.reserved
        assert executable.packed_bytes == 0
        fast(torch.randn(size))
        assert executable.packed_bytes == kept
        assert arena > 0
