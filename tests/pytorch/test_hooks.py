"""Hooks that hand a layer's result to the model around it, as transformers' models have them."""

from __future__ import annotations

import sys
import types
from contextvars import ContextVar
from typing import Any

import pytest
import torch
from torch import nn

from sol.pytorch import optimize
from tests.pytorch.conftest import Compiler

HOME = "transformers.utils.output_capturing"
collector: ContextVar[list[torch.Tensor] | None] = ContextVar("collector", default=None)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType(HOME)
    module._active_collector = collector
    monkeypatch.setitem(sys.modules, HOME, module)


def collect(module: nn.Module, args: Any, result: torch.Tensor) -> None:
    asked = collector.get()
    if asked is not None:
        asked.append(result)


collect.__module__ = HOME


class Collecting(nn.Module):
    """Returns the results of its layers if asked; then it installs hooks, once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x: torch.Tensor, states: bool = False) -> Any:
        if not states:
            return self.layers(x)
        if not getattr(self, "_output_capturing_hooks_installed", False):
            for layer in self.layers:
                layer.register_forward_hook(collect)
            self._output_capturing_hooks_installed = True
        found: list[torch.Tensor] = []
        token = collector.set(found)
        try:
            return self.layers(x), tuple(found)
        finally:
            collector.reset(token)


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_hooks_of_the_library_are_read_with_the_network(compiler: Compiler) -> None:
    net = Collecting().eval()
    fast: Any = optimize(net, (2, 4), states=True)
    x = torch.randn(3, 4)
    same(fast(x, states=True), net(x, states=True))
    assert len(fast(x, states=True)[1]) == 3
    same(fast(x), net(x))  # the first of its kind: the original
    same(fast(x), net(x))
    assert compiler.runs == 3
    assert not fast.sol.report.refused


def test_a_model_around_it_gets_what_it_asks_for(compiler: Compiler) -> None:
    net = Collecting().eval()
    net(torch.randn(2, 4), states=True)
    net.layers = inner = optimize(net.layers, (2, 4))  # type: ignore[assignment]
    x = torch.randn(2, 4)
    assert len(net(x, states=True)[1]) == 3
    assert compiler.runs == 0
    net(x)
    assert compiler.runs == 1
    assert "asks for the results of its layers" in str(inner.sol.report)  # type: ignore[operator,union-attr]


def test_any_other_hook_keeps_the_original(compiler: Compiler) -> None:
    net = Collecting().eval()
    net.layers[0].register_forward_hook(lambda module, args, result: result * 2)
    fast = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    same(fast(x), net(x))
    assert compiler.runs == 0
