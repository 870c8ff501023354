"""A memory budget of training is obeyed by computing again, or refused with the smallest figure;
what was found is found again."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

import sol.compiler
from sol.core.errors import MemoryBudgetError
from sol.pytorch import halves, optimize, store

BATCH = 2048


def network() -> nn.Module:
    """Eight layers whose results are all kept."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.Tanh()) for _ in range(8)))


def trained(model: nn.Module, **options: Any) -> Any:
    """By Sol."""
    return optimize(copy.deepcopy(model).train(), never_slower=False, progress=False, **options)


def step(model: Any) -> tuple[Any, list[torch.Tensor]]:
    """The two programs of a step, and gradients."""
    x = torch.randn(BATCH, 32, generator=torch.Generator().manual_seed(1))
    (model(x).square().sum() / BATCH).backward()
    gradients = [p.grad for p in model.parameters()]
    if not hasattr(model, "sol"):
        return None, gradients
    ((entry,),) = (model.__dict__["_sol_session"].trainer.entries,)
    (pair,) = entry.program.pairs
    return pair, gradients


def nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in another process: networks are neither read nor cut nor planned."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("it is in the cache")

    monkeypatch.setattr(store, "capture", refuse)
    for module, name in (
        (halves, "partition"),
        (halves, "make_plan"),
        (sol.compiler, "plan_layers"),
    ):
        monkeypatch.setattr(module, name, refuse)


def test_a_step_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(network()[0], nn.Dropout(0.5))
    first, gradients = step(trained(model))
    nothing_new(monkeypatch)
    second, again = step(trained(model))
    assert first is not second
    assert [e.program.path for e, _ in first.parts] == [e.program.path for e, _ in second.parts]
    assert [g.shape for g in gradients] == [g.shape for g in again]


def need(pair: Any) -> int:
    """Bytes of a step."""
    return int(pair.need(BATCH, torch.get_num_threads()))


def test_a_budget_is_obeyed_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    pair, _ = step(trained(model))
    assert pair.again == 0
    assert need(pair) > 7 * BATCH * 32 * 4
    assert pair.layout(BATCH, torch.get_num_threads()).forward > 0  # behind what is kept
    budget = need(pair) * 7 // 10
    less = trained(model, memory=budget)
    pair, gradients = step(less)
    assert need(pair) <= budget
    assert pair.again > 0
    assert "float32" not in [e.options.precision for e, _ in pair.parts]  # of kinks, both times
    assert pair.again_share == pytest.approx(pair.again / 8)
    assert f"computes {pair.again} layers again" in str(less.sol.report)
    with monkeypatch.context() as patch:
        nothing_new(patch)
        assert step(trained(model, memory=budget))[0].again == pair.again
    _, exact = step(model)
    for found, own in zip(gradients, exact):
        torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-6)
    with pytest.raises(MemoryBudgetError, match="a smaller batch") as refused:
        step(trained(model, memory=1000))
    smallest = int(re.search(r"at least (\d+) bytes", str(refused.value))[1])  # type: ignore[index]
    pair, _ = step(trained(model, memory=smallest))
    assert need(pair) <= smallest
