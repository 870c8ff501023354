"""Calls like the last one take a short way; whatever differs is seen there, too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sol.pytorch import connect, optimize
from tests.pytorch.conftest import Compiler
from tests.pytorch.networks import Apply, Net
from tests.pytorch.test_parameters import CHANGES, sum_of_words

X = (3, 3, 6, 6)


class Warm:
    """A network that was called often enough, and how many calls took the long way since."""

    def __init__(self, net: nn.Module, *args: torch.Tensor) -> None:
        self.net, self.args, self.long = net, args, 0
        self.fast = optimize(net, never_slower=False)
        self.session: Any = self.fast.__dict__["_sol_session"]
        if args:
            self.warm()
        at_length = self.session.at_length

        def counted(*given: Any) -> Any:
            self.long += 1
            return at_length(*given)

        self.session.at_length = counted

    def warm(self) -> None:
        with torch.no_grad():
            for _ in range(4):
                self.fast(*self.args)

    def check(self, long: int) -> None:
        """A call is right, and so many of this and earlier ones were long."""
        with torch.no_grad():
            got, expected = self.fast(*self.args), self.net(*self.args)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert self.long == long


def warmed() -> Warm:
    """Not a fixture: after one, pytest writes into the environment, which is a change."""
    return Warm(Net().eval(), torch.randn(X))


def test_the_short_way(compiler: Compiler) -> None:
    warm = warmed()
    before = compiler.runs
    results = []
    for _ in range(3):
        warm.args = (torch.randn(X),)
        warm.check(long=0)
        with torch.no_grad():
            results.append(warm.fast(*warm.args))
    assert compiler.runs == before + 6
    assert warm.session.runs == compiler.runs
    assert len({r.data_ptr() for r in results}) == 3


@pytest.mark.parametrize("change", CHANGES)
def test_changes_of_parameters(change: Callable[[Net], None]) -> None:
    warm = warmed()
    warm.check(long=0)
    change(warm.net)  # type: ignore[arg-type]
    warm.long = 0
    warm.check(long=1)
    warm.warm()
    warm.long = 0
    warm.check(long=0)


def doubled(module: nn.Module, args: Any, result: torch.Tensor) -> torch.Tensor:
    return 2 * result


HOOKS: list[Callable[[Any, Any], Any]] = [
    lambda fast, hook: fast.register_forward_hook(hook),
    lambda fast, hook: fast.fc.register_forward_hook(hook),
    lambda fast, hook: torch_module.register_module_forward_hook(hook),
]


@pytest.mark.parametrize("register", HOOKS)
def test_hooks(register: Callable[[Any, Any], Any]) -> None:
    warm = warmed()
    handle = register(warm.fast, doubled)
    try:
        with torch.no_grad():
            # the original has the same hooks
            torch.testing.assert_close(warm.fast(*warm.args), warm.net(*warm.args))
    finally:
        handle.remove()
    warm.long = 0
    warm.check(long=1)


def test_hooks_around_the_module() -> None:
    warm = warmed()
    seen = []
    warm.fast.register_forward_pre_hook(lambda module, args: seen.append(len(args)))
    warm.check(long=1)
    warm.warm()
    warm.check(long=6)
    assert seen == [1] * 8  # two of them by the original, which has the same hooks


def test_attributes_and_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "fingerprint", sum_of_words)
    warm = warmed()
    warm.fast.scale = 5.0  # type: ignore[assignment]
    warm.net.scale = 5.0  # type: ignore[assignment]
    warm.check(long=1)
    warm.warm()
    warm.fast.train()
    with torch.no_grad():
        assert torch.allclose(warm.fast(*warm.args), warm.net(*warm.args), atol=1e-4)
    warm.fast.eval()
    warm.long = 0
    warm.check(long=1)


class _Seeing(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Dispatching(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


CIRCUMSTANCES: list[Callable[[], Any]] = [
    torch.enable_grad,
    torch.inference_mode,
    _Seeing,
    _Dispatching,
    lambda: torch.autocast("cpu"),
    lambda: torch.device("cpu"),
]


@pytest.mark.parametrize("mode", CIRCUMSTANCES)
def test_modes_of_pytorch(mode: Callable[[], Any]) -> None:
    warm = warmed()
    with mode():
        got = warm.fast(*warm.args)
        assert warm.long == 1
        assert got.requires_grad == torch.is_grad_enabled()
        torch.testing.assert_close(got, warm.net(*warm.args), rtol=1e-2, atol=1e-2)
        assert got.is_inference() == torch.is_inference_mode_enabled()


def test_transforms() -> None:
    warm = warmed()
    several = torch.randn(2, *X)
    with torch.no_grad():
        got = torch.vmap(warm.fast)(several)
        torch.testing.assert_close(got, torch.vmap(warm.net)(several), rtol=1e-4, atol=1e-5)
        assert warm.long == 1
        traced = torch.jit.trace(warm.fast, warm.args, check_trace=False)
        assert warm.long == 2
    ops = {n.kind() for n in traced.inlined_graph.nodes()}
    assert "aten::_convolution" in ops


def test_fake_tensors() -> None:
    warm = warmed()
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        assert warm.fast(torch.empty(X)).shape == (3, 5)
    assert warm.long == 1


OTHERS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda x: x[:2],
    lambda x: x.transpose(2, 3),
    lambda x: x.to(memory_format=torch.channels_last),
    lambda x: torch._neg_view(x),
    lambda x: nn.Parameter(x, requires_grad=False),
    lambda x: torch.cat([x, x], 3),
]


@pytest.mark.parametrize("other", OTHERS)
def test_other_arguments(other: Callable[[torch.Tensor], torch.Tensor]) -> None:
    warm = warmed()
    warm.args = (other(*warm.args),)
    warm.check(long=1)


def test_arguments_by_name() -> None:
    warm = warmed()
    x = warm.args[0]
    with torch.no_grad():
        expected = warm.net(x)
        for _ in range(4):  # a signature of its own, which is read first
            torch.testing.assert_close(warm.fast(x=x), expected, rtol=1e-4, atol=1e-5)
            warm.fast(x=x)
        assert warm.long < 8
        warm.long = 0
        torch.testing.assert_close(warm.fast(x=x), expected, rtol=1e-4, atol=1e-5)
        assert warm.long == 0
        torch.testing.assert_close(warm.fast(x), expected, rtol=1e-4, atol=1e-5)
        assert warm.long == 1
        with pytest.raises(TypeError, match="unexpected keyword"):
            warm.fast(y=x)


def test_names_in_another_order() -> None:
    net = Apply(lambda m, *, a, b: a - m.table * b, table=torch.randn(4)).eval()
    warm = Warm(net)
    a, b = torch.randn(2, 3, 4)
    with torch.no_grad():
        for _ in range(5):
            torch.testing.assert_close(warm.fast(b=b, a=a), net(a=a, b=b))
        warm.long = 0
        torch.testing.assert_close(warm.fast(a=b, b=a), net(a=b, b=a))
        assert warm.long == 0
        torch.testing.assert_close(warm.fast(a=b, b=a[:1]), net(a=b, b=a[:1]))
        assert warm.long == 1


def test_a_large_batch() -> None:
    warm = Warm(Net().eval(), torch.randn(300, 3, 4, 4))
    warm.check(long=0)


def test_wrong_arguments() -> None:
    warm = warmed()
    with torch.no_grad():
        for args in ((), (1,), (*warm.args, *warm.args)):
            with pytest.raises((TypeError, AttributeError)):
                warm.fast(*args)


def test_several_results_and_arguments() -> None:
    net = Apply(lambda m, a, b: (a * b, (a * m.table).sum(1)), table=torch.randn(4)).eval()
    warm = Warm(net, torch.randn(3, 4), torch.randn(3, 4))
    warm.check(long=0)
    with torch.no_grad():
        assert isinstance(warm.fast(*warm.args), tuple)
        got, expected = warm.fast(warm.args[0], warm.args[0]), net(warm.args[0], warm.args[0])
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = warmed()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        warm.check(long=1)
    monkeypatch.setenv("SOL_THREADS", "1")
    warm.check(long=2)
    warm.warm()
    warm.long = 0
    warm.check(long=0)
    monkeypatch.setenv("SOL_THREADS", "2")
    warm.check(long=1)


def test_another_way(compiler: Compiler) -> None:
    warm = warmed()
    before = compiler.runs
    with warm.session.forced("framework"):
        warm.check(long=1)
    assert compiler.runs == before
    warm.check(long=1)
    warm.session.entries[0].ways[2] = "framework"
    warm.check(long=2)


def test_other_executables() -> None:
    warm = warmed()
    program = warm.session.entries[0].program
    program.exchange(list(program.executables))
    warm.check(long=1)


def test_around_torch_compile() -> None:
    warm = warmed()
    outer = nn.Sequential(warm.fast, nn.ReLU())
    compiled = torch.compile(outer, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(*warm.args), torch.relu(warm.net(*warm.args)), rtol=1e-4, atol=1e-5
        )
