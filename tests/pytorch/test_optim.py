"""SGD and AdamW of Sol beside torch.optim: the same parameters and states, step after step."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from sol import updates
from sol.pytorch import optim, optimize
from sol.pytorch.optim import native

SIZES = ((3,), (33, 65), (4, 3, 5, 3), (40000,), (0,), ())
SGDS = (
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.01, "maximize": True},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.2},
    {"lr": torch.tensor(0.1), "momentum": 0.8, "weight_decay": 0.01, "nesterov": True},
)
ADAMS = (
    {},
    {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.0, "maximize": True},
    {"lr": 0.01, "amsgrad": True},
)
CASES = [*(("SGD", options) for options in SGDS), *(("AdamW", options) for options in ADAMS)]


def both(name: str) -> tuple[Any, Any]:
    """Sol's class and PyTorch's."""
    return getattr(optim, name), getattr(torch.optim, name)


def twice(sizes: Sequence[tuple[int, ...]] = SIZES, **more: Any) -> tuple[list[Tensor], ...]:
    """The same parameters, two times."""
    first = [torch.randn(s, **more).requires_grad_() for s in sizes]
    return first, [p.detach().clone().requires_grad_() for p in first]


def step(optimisers: Sequence[Any], *parameters: Sequence[Tensor]) -> None:
    """A step of each on the same new gradients."""
    for same in zip(*parameters):
        gradient = torch.randn_like(same[0])
        for p in same:
            p.grad = gradient.clone()
    for optimiser in optimisers:
        optimiser.step()


def check_states(mine: Any, theirs: Any) -> None:
    """States are the same, within rounding."""
    torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_some_steps(name: str, options: dict[str, Any]) -> None:
    sol, torchs = both(name)
    a, b = twice()
    mine, theirs = sol(a, **options), torchs(b, **options)
    for _ in range(3):
        step((mine, theirs), a, b)
    assert not mine.fallback
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert [[*s] for s in mine.state.values()] == [[*s] for s in theirs.state.values()]
    check_states(mine, theirs)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_states_are_exchanged(name: str) -> None:
    sol, torchs = both(name)
    options = {"lr": 0.1, **({"momentum": 0.9} if name == "SGD" else {"amsgrad": True})}
    a, b = twice()
    mine, theirs = sol(a, **options), torchs(b, **options)
    step((mine, theirs), a, b)
    swapped = torchs(a, **options), sol(b, **options)
    swapped[0].load_state_dict(copy.deepcopy(mine.state_dict()))
    swapped[1].load_state_dict(copy.deepcopy(theirs.state_dict()))
    step(swapped, a, b)
    assert not swapped[1].fallback
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    check_states(*swapped)
    again = pickle.loads(pickle.dumps(swapped[1]))
    assert type(again) is sol
    check_states(again, swapped[1])


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = twice()
    for parameters, threads in ((a, 1), (b, 2)):
        monkeypatch.setattr(native, "count", lambda *_, n=threads: n)
        torch.manual_seed(7)
        optimiser = optim.AdamW(parameters)
        step((optimiser,), parameters)
        step((optimiser,), parameters)
    assert all(torch.equal(x, y) for x, y in zip(a, b))


def test_groups_schedulers_hooks_and_closures() -> None:
    """A rate that changes compiles nothing."""
    a, b = twice()
    found: list[Tensor] = []
    optimisers = []
    for kind, parameters in ((optim.SGD, a), (torch.optim.SGD, b)):
        groups: Any = [
            {"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.3, "momentum": 0.5},
        ]  # fmt: skip
        optimisers.append(kind(groups, lr=0.1, weight_decay=0.1))
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for o in optimisers]
    calls: list[str] = []
    optimisers[0].register_step_pre_hook(lambda *_: calls.append("before"))
    optimisers[0].register_step_post_hook(lambda *_: calls.append("after"))
    step(optimisers, a, b)
    with patch.object(updates, "build", side_effect=AssertionError("nothing is compiled")):
        for _ in range(3):
            for scheduler in schedulers:
                scheduler.step()
            step(optimisers, a, b)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert calls == ["before", "after"] * 4

    def loss() -> Tensor:
        optimisers[0].zero_grad()
        value = a[0].square().sum()
        value.backward()
        found.append(value)
        return value

    before = a[0].detach().clone()
    assert optimisers[0].step(loss) is found[0]
    assert a[0].grad is not None
    assert not torch.equal(a[0], before)
    assert a[1].grad is None


def odd() -> list[Tensor]:
    """Parameters with gradients: another type, gaps, another order, a sparse gradient; and one that
    is only unusual."""
    torch.manual_seed(3)
    sparse = torch.sparse_coo_tensor([[1, 3]], torch.randn(2, 2), (5, 2), check_invariants=True)
    pairs = [
        (torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)),
        (torch.randn(4, 6)[:, ::2], torch.randn(4, 3)),
        (torch.randn(4, 6), torch.randn(6, 4).t()),
        (torch.randn(5, 2), sparse),
        tuple(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last) for _ in range(2)),
    ]
    for p, g in pairs:
        p.requires_grad_().grad = g
    return [p for p, _ in pairs]


def test_what_pytorch_updates_is_named() -> None:
    a, b = odd(), odd()
    mine, theirs = optim.SGD(a, lr=0.1), torch.optim.SGD(b, lr=0.1)
    mine.step()
    theirs.step()
    assert mine.fallback == {
        0: "it is float64 on cpu",
        1: "its gradient or a state has another order in memory",
        2: "its gradient or a state has another order in memory",
        3: "its gradient or a state is sparse",
    }
    torch.testing.assert_close(a, b)


def test_memory_that_is_shared() -> None:
    whole = torch.arange(8.0)
    parts = [nn.Parameter(whole[:5]), nn.Parameter(whole[3:])]
    for p in parts:
        p.grad = torch.ones(5)
    optimiser = optim.SGD(parts, lr=1.0)
    optimiser.step()
    assert optimiser.fallback == dict.fromkeys((0, 1), "its memory is another tensor's, too")
    assert whole.tolist() == [-1.0, 0.0, 1.0, 1.0, 2.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize("option", ["fused", "differentiable"])
def test_options_that_ask_for_pytorch(option: str) -> None:
    a, b = twice()
    mine, theirs = optim.AdamW(a, **{option: True}), torch.optim.AdamW(b, **{option: True})
    if option == "differentiable":
        a, b = [p.clone() for p in a], [p.clone() for p in b]  # as PyTorch demands
        mine.param_groups[0]["params"], theirs.param_groups[0]["params"] = a, b
    step((mine, theirs), a, b)
    assert set(mine.fallback.values()) == {f"{option}=True asks for PyTorch's"}
    torch.testing.assert_close(a, b)


def test_a_network_sees_the_step(compiler: Callable[..., Any]) -> None:
    """Packed weights are made anew, and PyTorch notices a change before the backward pass."""
    own = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4))
    fast = optimize(copy.deepcopy(own))
    x = torch.randn(2, 3, 6, 6)
    losses = []
    for model, kind in ((own, torch.optim.SGD), (fast, optim.SGD)):
        optimiser = kind(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimiser.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
    torch.testing.assert_close(losses[:3], losses[3:], rtol=1e-4, atol=1e-6)
    loss = fast(x).square().mean()
    optimiser.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
