"""Results have a gradient history where PyTorch's have one, and the gradients are PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sol.pytorch import optimize
from tests.pytorch.conftest import Compiler
from tests.pytorch.networks import Apply, Counting, Net, Sorting

X = (3, 3, 6, 6)


def gradients(net: nn.Module, x: torch.Tensor) -> list[Any]:
    net.zero_grad()
    x = x.clone().requires_grad_()
    net(x).square().sum().backward()
    return [x.grad, *(None if p.grad is None else p.grad.clone() for p in net.parameters())]


@pytest.mark.parametrize(("make", "size"), [(Net, X), (Sorting, (2, 4))])
def test_gradients_are_the_originals(make: Any, size: Any, compiler: Compiler) -> None:
    net = make().eval()
    fast = optimize(net, size)
    x = torch.randn(size)
    for a, b in zip(gradients(fast, x), gradients(net, x)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert compiler.runs >= 1


def test_grad_mode() -> None:
    fast = optimize(Net().eval(), X)
    x = torch.randn(X)
    assert fast(x).requires_grad
    with torch.no_grad():
        assert not fast(x).requires_grad
    with torch.inference_mode():
        assert fast(x).is_inference()


def test_gradient_of_an_input_only(compiler: Compiler) -> None:
    net = Net().eval().requires_grad_(False)
    fast = optimize(net, X)
    x = torch.randn(X, requires_grad=True)
    (found,) = torch.autograd.grad(fast(x).sum(), x)
    (expected,) = torch.autograd.grad(net(x).sum(), x)
    torch.testing.assert_close(found, expected)
    assert compiler.runs == 1


def test_gradient_of_a_gradient() -> None:
    net = Apply(lambda m, x: torch.tanh(m.fc(x)).pow(3), fc=nn.Linear(4, 4)).eval()
    fast = optimize(net, (2, 4))
    x = torch.randn(2, 4, requires_grad=True)

    def penalty(module: nn.Module) -> torch.Tensor:
        (g,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), net.fc.weight)[0]  # type: ignore[union-attr, arg-type]

    torch.testing.assert_close(penalty(fast), penalty(net), rtol=1e-4, atol=1e-5)


def test_a_parameter_changed_before_backward() -> None:
    net = Net().eval()
    result = optimize(net, X)(torch.randn(X))
    with torch.no_grad():
        net.fc.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_a_parameter_replaced_before_backward() -> None:
    net = Net().eval()
    weight = net.fc.weight
    result = optimize(net, X)(torch.ones(X))
    expected = net(torch.ones(X))
    net.fc.weight = nn.Parameter(torch.zeros(5, 4))
    (a,) = torch.autograd.grad(result.sum(), weight)
    (b,) = torch.autograd.grad(expected.sum(), weight)
    torch.testing.assert_close(a, b)


def test_results_without_gradient() -> None:
    net = Apply(lambda m, x: (m.fc(x).argmax(1), m.fc(x) > 0, m.fc(x)), fc=nn.Linear(4, 4)).eval()
    results = optimize(net, (2, 4))(torch.randn(2, 4))
    assert [r.requires_grad for r in results] == [False, False, True]


def test_views_of_a_result_have_a_history(compiler: Compiler) -> None:
    net = Apply(lambda m, x: (y := m.fc(x), y[:, 0]), fc=nn.Linear(4, 4)).eval()
    fast = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    y, first = fast(x)
    assert first.data_ptr() == y.data_ptr()
    (a,) = torch.autograd.grad(first.sum() + y.square().sum(), net.fc.weight)  # type: ignore[union-attr, arg-type]
    z, other = net(x)
    (b,) = torch.autograd.grad(other.sum() + z.square().sum(), net.fc.weight)  # type: ignore[union-attr, arg-type]
    torch.testing.assert_close(a, b)
    assert compiler.runs == 1


def test_a_network_that_writes_is_trained(compiler: Compiler) -> None:
    fast: Any = optimize(Counting().eval(), (2, 4))
    result = fast(torch.randn(2, 4))
    result.sum().backward()
    assert fast.count.tolist() == [1] * 4
    assert fast.fc.bias.grad.tolist() == [2] * 4
    assert compiler.runs == 2


def test_training_around_it(compiler: Compiler) -> None:
    """A frozen backbone by Sol inside a network that trains."""
    net = Net().eval()
    fast = optimize(net, X)
    head = nn.Linear(5, 1)
    loss = head(fast(torch.randn(X))).sum()
    loss.backward()
    assert net.conv.weight.grad is not None
    assert head.weight.grad is not None
    assert compiler.runs == 1
