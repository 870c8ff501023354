"""Networks that Sol cannot take whole: operators in PyTorch, control flow that depends on data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sol.core.errors import ConfigError
from sol.pytorch import optimize
from sol.pytorch.capture import NotCaptured, capture
from sol.pytorch.steps import SolStep, TorchStep
from tests.pytorch.conftest import Compiler
from tests.pytorch.networks import Apply, Branching, Sorting

# torch.compile looks at .grad of everything that it meets
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute")


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# ---- operators without a row


def test_an_operator_in_the_middle(compiler: Compiler) -> None:
    net = Sorting().eval()
    fast: Any = optimize(net, (2, 4))
    for batch in (1, 2, 5):
        x = torch.randn(batch, 4)
        close(fast(x), net(x))
    captured = fast.sol.captured
    assert [type(s) for s in captured.steps] == [SolStep, TorchStep, TorchStep, SolStep]
    assert [e.op for e in captured.left] == ["aten.sort.default"]
    assert compiler.runs == 6
    text = fast.sol.explain()
    assert "aten.sort.default" in text
    assert "Sol has no row for it" in text


def test_memory_read_by_strides_is_laid_out_as_pytorch_does(compiler: Compiler) -> None:
    """Sol's results are row-major, a transposed one of PyTorch's is not."""

    def function(m: Any, x: torch.Tensor) -> torch.Tensor:
        turned = torch.tanh(x).transpose(1, 2)
        return turned.as_strided((x.shape[0], 3, 8), (48, 16, 1)) + 1

    net = Apply(function).eval()
    fast: Any = optimize(net, (2, 6, 8))
    for batch in (1, 2, 3):
        x = torch.randn(batch, 6, 8)
        close(fast(x), net(x))
    part = Apply(lambda m, x: torch.tanh(x)[:, 1:].as_strided((2, 3), (48, 1)) * 2).eval()
    x = torch.randn(2, 6, 8)
    close(optimize(part, x)(x), part(x))


def test_where_an_operator_was_is_named() -> None:
    net = nn.Sequential(nn.Linear(4, 4), Apply(lambda m, x: x.sort(1).values)).eval()
    (left,) = capture(net, (torch.ones(2, 4),)).left
    assert left.origin == "1"


def test_sizes_that_follow_the_batch(compiler: Compiler) -> None:
    """PyTorch gets the size of the call, not that of the example."""

    def function(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.erfc(x * 2).view(x.shape[0], 2, 2)
        return torch.cummax(y, 1).values.reshape(x.shape[0] * 2, 2) + 1

    net = Apply(function).eval()
    fast = optimize(net, (2, 4))
    for batch in (1, 2, 5):
        x = torch.randn(batch, 4)
        close(fast(x), net(x))
    assert compiler.runs


def test_operators_side_by_side(compiler: Compiler) -> None:
    """Few steps: what can run together does."""

    def function(m: Any, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.exp(x), torch.sin(x)
        c, d = torch.erfc(a), torch.erfc(b)
        return torch.cummax(torch.exp(c) + torch.sin(d), 1).values

    net = Apply(function).eval()
    captured = capture(net, (torch.ones(2, 4),))
    assert sum(isinstance(s, SolStep) for s in captured.steps) == 2
    x = torch.randn(3, 4)
    close(optimize(net, (2, 4))(x), net(x))


def test_parameters_of_steps_in_pytorch(compiler: Compiler) -> None:
    net = Apply(
        lambda m, x: torch.erfc(m.fc(x)) * torch.erfc(m.fc.weight).sum(), fc=nn.Linear(4, 4)
    )
    fast = optimize(net.eval(), (2, 4))
    x = torch.randn(2, 4)
    close(fast(x), net(x))
    with torch.no_grad():
        net.fc.weight.mul_(0.5)  # type: ignore[union-attr, operator]
    close(fast(x), net(x))
    assert compiler.runs >= 2


def test_sizes_that_depend_on_data(compiler: Compiler) -> None:
    net = Apply(lambda m, x: torch.relu(x)[x[:, 0] > 0] * 2).eval()
    fast: Any = optimize(net, (4, 4))
    for _ in range(3):
        x = torch.randn(4, 4)
        close(fast(x), net(x))
    assert compiler.runs
    assert "known only when values are known" in fast.sol.explain()


def test_random_numbers(compiler: Compiler) -> None:
    net = Apply(lambda m, x: m.fc(x + torch.rand_like(x)), fc=nn.Linear(4, 4)).eval()
    fast = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = net(x)
        torch.manual_seed(1)
        close(fast(x), expected)
    assert compiler.runs == 1
    fast(x).sum().backward()  # what gradients need is kept: a second run would draw other numbers
    assert compiler.runs == 3
    assert net.fc.bias.grad is not None  # type: ignore[union-attr]


def test_a_custom_operator(compiler: Compiler) -> None:
    @torch.library.custom_op("sol_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @twice.register_fake
    def _(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)

    net = Apply(lambda m, x: torch.relu(twice(torch.exp(x)))).eval()
    fast = optimize(net, (2, 4))
    for batch in (2, 3):
        x = torch.randn(batch, 4)
        close(fast(x), net(x))
    assert compiler.runs == 4


def test_float64_inside_a_network(compiler: Compiler) -> None:
    net = Apply(lambda m, x: m.fc(x).double().cumsum(1).float() + 1, fc=nn.Linear(4, 4)).eval()
    fast: Any = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    close(fast(x), net(x))
    assert "not in f64" in fast.sol.explain()
    assert compiler.runs == 2


def test_a_network_without_anything_for_sol(compiler: Compiler) -> None:
    fast: Any = optimize(Apply(lambda m, x: torch.erfc(x)).eval(), (2, 4))
    x = torch.randn(2, 4)
    close(fast(x), torch.erfc(x))
    assert compiler.runs == 0
    assert "aten.erfc.default" in fast.sol.explain()


# ---- control flow that depends on data


def both_ways(net: nn.Module) -> list[torch.Tensor]:
    return [torch.full((3, 4), 3.0), torch.full((3, 4), -3.0), torch.randn(3, 4)]


def test_branches(compiler: Compiler) -> None:
    net = Branching().eval()
    fast: Any = optimize(net, (2, 4))
    for x in both_ways(net):
        close(fast(x), net(x))
    assert compiler.runs >= 4
    text = fast.sol.explain()
    assert "data-dependent" in text
    assert "part 0" in text


def test_branches_and_gradients() -> None:
    net = Branching().eval()
    fast = optimize(net, (2, 4))
    for x in both_ways(net):
        (a,) = torch.autograd.grad(fast(x).square().sum(), net.first.weight)
        (b,) = torch.autograd.grad(net(x).square().sum(), net.first.weight)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_branches_and_changed_parameters() -> None:
    net = Branching().eval()
    fast = optimize(net, (2, 4))
    x = torch.full((3, 4), 3.0)
    close(fast(x), net(x))
    with torch.no_grad():
        net.second.weight.mul_(2)
    close(fast(x), net(x))
    net.second = nn.Linear(4, 4).eval()
    close(fast(x), net(x))


class Counts(nn.Module):
    """A forward with a side effect on a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.relu(x) + 1


def test_attributes_that_forward_sets() -> None:
    net = Counts().eval()
    with pytest.raises(NotCaptured, match="it sets calls"):
        capture(net, (torch.ones(2, 3),))
    assert net.calls == 0
    fast: Any = optimize(net, (2, 3))
    for n in range(1, 4):
        close(fast(torch.zeros(2, 3)), torch.ones(2, 3))
        assert fast.calls == n


# ---- torch.compile(model, backend="sol")


def test_backend_by_name(compiler: Compiler) -> None:
    net = Sorting().eval()
    compiled = torch.compile(net, backend="sol")
    for batch in (2, 3, 5):
        x = torch.randn(batch, 4)
        close(compiled(x), net(x))
    assert compiler.runs == 6
    x = torch.randn(5, 4, requires_grad=True)
    (a,) = torch.autograd.grad(compiled(x).sum(), x)
    (b,) = torch.autograd.grad(net(x).sum(), x)
    close(a, b)


def test_backend_while_training(compiler: Compiler) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    compiled = torch.compile(net, backend="sol")
    step = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        step.zero_grad()
        compiled(torch.randn(8, 4)).sum().backward()
        step.step()
    assert net[1].num_batches_tracked == 3  # type: ignore[union-attr]


def test_backend_options(compiler: Compiler) -> None:
    compiled = torch.compile(Sorting().eval(), backend="sol", options={"threads": 1})
    compiled(torch.randn(2, 4))
    assert compiler.runs
    wrong = torch.compile(Sorting().eval(), backend="sol", options={"speed": 3})
    with pytest.raises((ConfigError, torch._dynamo.exc.BackendCompilerFailed), match="speed"):
        wrong(torch.randn(2, 4))


FUNCTIONS: list[Callable[..., Any]] = [
    lambda x: (x + 1, x.view(-1)),
    lambda x: x.relu_() + 1,
    lambda x: {"a": x * 2, "b": [x.sum(1), 3]},
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_backend_of_functions(function: Callable[..., Any]) -> None:
    x = torch.randn(3, 4)
    expected = function(x.clone())
    found = torch.compile(function, backend="sol")(x.clone())
    torch.testing.assert_close(found, expected)


# ---- modules of torch.jit


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_traced_part_is_read_with_the_network(compiler: Compiler) -> None:
    traced = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4))
    net = Apply(lambda m, x: m.part(m.fc(x)), fc=nn.Linear(4, 4), part=traced).eval()
    fast = optimize(net, (2, 4))
    with torch.no_grad():
        for batch in (2, 3):
            x = torch.randn(batch, 4)
            close(fast(x), net(x))
        next(traced.parameters()).mul_(2)
        close(fast(x), net(x))
        assert compiler.runs == 3
        child = next(m for m in traced.modules() if "weight" in m._parameters)
        child.weight = nn.Parameter(torch.randn(4, 4))
        close(fast(x), net(x))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_scripted_part_runs_as_before(compiler: Compiler) -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    net = Apply(lambda m, x: m.part(m.fc(x)), fc=nn.Linear(4, 4), part=scripted).eval()
    fast: Any = optimize(net, (2, 4))
    x = torch.randn(3, 4)
    close(fast(x), net(x))
    close(fast(x), net(x))
    assert fast.sol.report.refused


# ---- products of several tensors


def test_einsum_of_three_tensors_leaves_the_batch_open(compiler: Compiler) -> None:
    def function(m: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bnd,dhe,he->bnh", x, m.a, m.b)

    net = Apply(function, a=torch.randn(6, 2, 3), b=torch.randn(2, 3)).eval()
    fast: Any = optimize(net, (2, 5, 6))
    for batch in (1, 2, 4):
        x = torch.randn(batch, 5, 6)
        close(fast(x), net(x))
    assert compiler.runs == 3
    assert len(fast.sol.report.programs) == 1
