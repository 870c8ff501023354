"""The module that optimize returns is the module that it was given, but for its forward."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from sol.core.errors import InputError
from sol.pytorch import optimize
from tests.pytorch.conftest import Compiler
from tests.pytorch.networks import Apply, Net

X = (3, 3, 6, 6)


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture
def fast(net: Net) -> Any:
    return optimize(net, X)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_is_of_the_same_class(net: Net, fast: Any) -> None:
    assert isinstance(fast, Net)
    assert type(fast).__name__ == "Net"
    assert type(fast).__module__ == Net.__module__
    assert inspect.signature(fast.forward) == inspect.signature(net.forward)
    assert repr(fast) == repr(net)


def test_state_is_the_originals(net: Net, fast: Any) -> None:
    assert list(fast.state_dict()) == list(net.state_dict())
    assert list(map(id, fast.parameters())) == list(map(id, net.parameters()))
    assert [n for n, _ in fast.named_modules()] == [n for n, _ in net.named_modules()]
    assert list(map(id, fast.buffers())) == list(map(id, net.buffers()))
    assert fast.fc is net.fc
    assert fast.scale == 2.0


def test_methods_run_the_originals_code(net: Net, fast: Any, compiler: Compiler) -> None:
    x = torch.randn(X)
    close(fast.features(x), net.features(x))
    assert compiler.runs == 0


def test_the_original_stays_as_it_is(net: Net, fast: Any, compiler: Compiler) -> None:
    net(torch.randn(X))
    assert compiler.runs == 0
    assert type(net) is Net


def test_hooks_of_the_outer_module_run(net: Net, fast: Any, compiler: Compiler) -> None:
    seen = []
    handle = fast.register_forward_hook(lambda m, args, result: seen.append(result.shape))
    fast(torch.randn(X))
    handle.remove()
    fast(torch.randn(X))
    assert seen == [(3, 5)]
    assert compiler.runs == 2


def test_hooks_of_submodules_run_by_the_original(fast: Any, compiler: Compiler) -> None:
    seen = []
    handle = fast.fc.register_forward_hook(lambda m, args, result: seen.append(1))
    fast(torch.randn(X))
    assert seen == [1]
    assert compiler.runs == 0
    assert "fc has a forward hook" in str(fast.sol.report)
    handle.remove()
    fast(torch.randn(X))
    assert seen == [1]
    assert compiler.runs == 1


def test_deepcopy_has_parameters_of_its_own(net: Net, fast: Any, compiler: Compiler) -> None:
    x = torch.randn(X)
    other = copy.deepcopy(fast)
    with torch.no_grad():
        other.fc.weight.zero_()
        other.fc.bias.fill_(1.0)
    close(other(x), torch.full((3, 5), 2.0))
    close(other(x), torch.full((3, 5), 2.0))
    close(fast(x), net(x))
    assert compiler.runs == 2  # the first call of the copy makes its program


def test_copy_shares_parameters(net: Net, fast: Any) -> None:
    other = copy.copy(fast)
    assert other.fc is net.fc
    close(other(torch.ones(X)), net(torch.ones(X)))


def test_deepcopy_of_a_module_that_knows_its_parent() -> None:
    net = Apply(lambda m, x: m.fc(x), fc=nn.Linear(4, 4)).eval()
    fast = optimize(net, (2, 4))
    fast.fc.parent = [fast]
    other = copy.deepcopy(fast)
    assert other.fc.parent[0] is other


@pytest.mark.parametrize("way", ["pickle", "torch"])
def test_saved_and_loaded(way: str, net: Net, fast: Any, compiler: Compiler) -> None:
    if way == "pickle":
        other = pickle.loads(pickle.dumps(fast))
    else:
        file = io.BytesIO()
        torch.save(fast, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    x = torch.randn(X)
    before = compiler.runs
    for _ in range(2):
        close(other(x), net(x))
    assert compiler.runs == before + 1
    assert isinstance(other, Net)


def test_training_mode_is_seen(net: Net, fast: Any, compiler: Compiler) -> None:
    x = torch.randn(X)
    fast.train()
    assert net.conv.training
    before = net.bn.num_batches_tracked.clone()
    with torch.no_grad():
        fast(x)
    assert net.bn.num_batches_tracked == before + 1
    assert compiler.runs == 0
    assert "training mode without gradients" in str(fast.sol.report)
    fast.eval()
    close(fast(x), net(x))
    assert compiler.runs == 1


def test_optimized_in_training_mode(net: Net, compiler: Compiler) -> None:
    fast = optimize(net.train(), X)
    fast.eval()
    x = torch.randn(X)
    close(fast(x), net(x))
    close(fast(x), net(x))
    assert compiler.runs == 1


def test_attributes_that_are_set_are_seen(net: Net, fast: Any) -> None:
    x = torch.randn(X)
    fast.scale = 3.0
    for _ in range(2):
        close(fast(x), net(x) * 1.5)


def test_attributes_set_to_what_they_were(fast: Any, compiler: Compiler) -> None:
    for _ in range(3):
        fast.scale = 2.0
        fast.eval()
        fast(torch.randn(X))
    assert compiler.runs == 3


def test_reset_after_a_change_that_is_not_watched(net: Net, fast: Any) -> None:
    x = torch.randn(X)
    fast.conv.padding = (2, 2)
    fast.sol.reset()
    for _ in range(2):
        close(fast(x), net(x))


def test_optimize_twice(net: Net, fast: Any) -> None:
    again = optimize(fast, X)
    assert type(again) is type(fast)
    close(again(torch.ones(X)), net(torch.ones(X)))


def test_forward_put_on_the_instance(net: Net) -> None:
    net.forward = lambda x: Net.forward(net, x) + 1  # type: ignore[method-assign]
    fast = optimize(net, X)
    x = torch.randn(X)
    close(fast(x), Net.forward(net, x) + 1)
    close(copy.deepcopy(fast)(x), Net.forward(net, x) + 1)


def test_parts_of_a_sequential() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    fast: Any = optimize(net, (2, 4))
    x = torch.randn(2, 4)
    close(fast[:2](x), net[:2](x))
    close(fast[0](x), net[0](x))
    assert len(fast) == 3


def test_scripted_modules_are_refused(recwarn: pytest.WarningsRecorder) -> None:
    linear = nn.Linear(2, 2)
    for made in (torch.jit.script(linear), torch.jit.trace(linear, torch.ones(1, 2))):
        with pytest.raises(InputError, match="compiled code"):
            optimize(made, (1, 2))


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match="got a function"):
        optimize(lambda x: x, (1, 2))  # type: ignore[arg-type]
