"""Arguments of every kind behave as in PyTorch: they run by Sol or by the original, and say so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sol.pytorch import optimize
from tests.pytorch.conftest import Compiler
from tests.pytorch.networks import Apply, Net

X = (3, 3, 6, 6)


@pytest.fixture
def net() -> Net:
    return Net().eval().requires_grad_(False)


@pytest.fixture
def fast(net: Net) -> Any:
    return optimize(net, X)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_one_program_for_every_batch(batch: int, net: Net, fast: Any, compiler: Compiler) -> None:
    x = torch.randn(batch, 3, 6, 6)
    close(fast(x), net(x))
    assert compiler.runs == 1
    assert len(compiler.made) == 1


def test_zero_batch(net: Net, fast: Any, compiler: Compiler) -> None:
    x = torch.randn(0, 3, 6, 6)
    assert fast(x).shape == net(x).shape == (0, 5)
    assert compiler.runs == 0
    assert "batch 0" in str(fast.sol.report)


LAYOUTS: list[Callable[[], torch.Tensor]] = [
    lambda: torch.randn(X).to(memory_format=torch.channels_last),
    lambda: torch.randn(6, 6, 3, 3).permute(3, 2, 0, 1),
    lambda: torch.randn(1, 3, 6, 6).expand(3, 3, 6, 6),
    lambda: torch.randn(3, 3, 1, 1).expand(X),
    lambda: torch.randn(5, 3, 6, 6)[2:],
    lambda: torch.randn(6, 3, 6, 6)[::2],
    lambda: torch.randn(3, 3, 6, 8)[..., 1:7],
    lambda: torch.imag(torch.randn(X, dtype=torch.complex64).conj()),
    lambda: nn.Parameter(torch.randn(X), requires_grad=False),
]


@pytest.mark.parametrize("make", LAYOUTS)
def test_any_memory(make: Any, net: Net, fast: Any, compiler: Compiler) -> None:
    x = make()
    close(fast(x), net(x))
    assert compiler.runs == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_wrong_dtype_is_pytorchs_error(dtype: torch.dtype, net: Net, fast: Any) -> None:
    x = torch.ones(X, dtype=dtype)
    with pytest.raises(RuntimeError) as expected:
        net(x)
    with pytest.raises(RuntimeError) as found:
        fast(x)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("shape", [(3, 4, 6, 6), (3, 3, 6), (2,), ()])
def test_wrong_shape_is_pytorchs_error(shape: Any, net: Net, fast: Any) -> None:
    x = torch.ones(shape)
    with pytest.raises((RuntimeError, IndexError, ValueError)) as expected:
        net(x)
    with pytest.raises(type(expected.value)) as found:
        fast(x)
    assert str(found.value) == str(expected.value)


def test_wrong_arguments_are_pytorchs_errors(fast: Any) -> None:
    with pytest.raises(TypeError):
        fast()
    with pytest.raises(TypeError):
        fast(torch.ones(X), 3)
    with pytest.raises(TypeError, match="conv2d"):
        fast("image")


def test_other_sizes_get_a_program(net: Net, fast: Any, compiler: Compiler) -> None:
    x = torch.randn(2, 3, 8, 9)
    for _ in range(3):
        close(fast(x), net(x))
    assert compiler.runs == 2  # the first call was PyTorch's
    close(fast(torch.ones(X)), net(torch.ones(X)))
    assert compiler.runs == 3
    assert len(compiler.made) == 2


def test_an_image_without_batch(net: Net, fast: Any, compiler: Compiler) -> None:
    conv: Any = optimize(net.conv, X)
    x = torch.randn(3, 6, 6)
    for _ in range(2):
        close(conv(x), net.conv(x))
    assert compiler.runs == 1


def test_many_sizes_end_in_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sol.pytorch.session._MOST_CAPTURES", 3)
    net = Apply(lambda m, x: torch.relu(x)).eval()
    fast: Any = optimize(net, (2, 3))
    for n in range(3, 10):
        for _ in range(2):
            close(fast(torch.ones(2, n)), torch.ones(2, n))
    assert "more than 3 different shapes" in str(fast.sol.report)


def test_one_image_is_another_network(compiler: Compiler) -> None:
    net = Apply(lambda m, x: x * 2 if x.shape[0] == 1 else x + 1).eval()
    fast = optimize(net, (4, 3))
    for batch in (1, 2, 1, 3):
        x = torch.randn(batch, 3)
        close(fast(x), net(x))
    assert compiler.runs == 3  # all but the first call with one image
    squeeze = Apply(lambda m, x: x.squeeze() + 1).eval()
    fast = optimize(squeeze, (4, 3))
    for batch in (1, 1, 2):
        assert fast(torch.ones(batch, 3)).shape == squeeze(torch.ones(batch, 3)).shape


def test_what_is_not_linear_in_the_batch(compiler: Compiler) -> None:
    net = Apply(lambda m, x: (x @ x.T).reshape(x.shape[0] * x.shape[0]) / x.shape[0]).eval()
    fast = optimize(net, (4, 3))
    for batch in (4, 2, 2):
        x = torch.randn(batch, 3)
        close(fast(x), net(x))
    assert compiler.runs == 2
    assert "for this batch size only" in str(fast.sol.report)


def test_code_that_asks_for_the_batch_size(compiler: Compiler) -> None:
    net = Apply(lambda m, x: x + 1 if x.shape[0] == 4 else x * 2).eval()
    fast = optimize(net, (4, 3))
    for batch in (4, 2, 2):
        x = torch.randn(batch, 3)
        close(fast(x), net(x))
    assert "the code does not hold for every batch size" in " ".join(str(fast.sol.report).split())


def test_scalars_are_part_of_the_signature(compiler: Compiler) -> None:
    net = Apply(lambda m, x, factor, flag=None: x * factor if flag is None else x + factor).eval()
    fast = optimize(net, (2, 3), 2)
    x = torch.randn(2, 3)
    for args in ((2,), (3,), (3,), (2.0,), (2.0, True), (2.0, True), (True,)):
        torch.testing.assert_close(fast(x, *args), net(x, *args))
    assert compiler.runs == 3


def test_keyword_arguments(compiler: Compiler) -> None:
    net = Apply(lambda m, x, *, y, z=1: x - y * z).eval()
    fast: Any = optimize(net, (2, 3), y=(2, 3), z=3)
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    close(fast(x, y=y, z=3), x - y * 3)
    close(fast(x, z=3, y=y), x - y * 3)
    assert compiler.runs == 2


def test_batches_that_differ(compiler: Compiler) -> None:
    net = Apply(lambda m, x, y: x[:, None] + y).eval()
    fast = optimize(net, (2, 3), (2, 3))
    for shapes in (((2, 3), (4, 3)), ((4, 3), (4, 3)), ((2, 3), (4, 3))):
        x, y = torch.randn(shapes[0]), torch.randn(shapes[1])
        close(fast(x, y), net(x, y))
    assert compiler.runs == 2


def test_the_same_tensor_twice(compiler: Compiler) -> None:
    net = Apply(lambda m, x, y: x * 2 + y).eval()
    x = torch.randn(2, 3)
    close(optimize(net, (2, 3), (2, 3))(x, x), x * 3)
    assert compiler.runs == 1


def test_token_numbers(compiler: Compiler) -> None:
    net = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2)).eval()
    ids = torch.randint(0, 10, (3, 5))
    for example in (ids, ids.shape):  # a size means token numbers, for nothing else fits
        close(optimize(net, example)(ids), net(ids))
    assert compiler.runs == 2


def test_integer_and_boolean_inputs(compiler: Compiler) -> None:
    net = Apply(lambda m, x, mask: torch.where(mask, x + 1, 0).sum(1)).eval()
    x, mask = torch.randint(0, 9, (3, 4)), torch.rand(3, 4) > 0.5
    fast = optimize(net, x, mask)
    assert torch.equal(fast(x, mask), net(x, mask))
    assert fast(x, mask).dtype == torch.int64
    assert compiler.runs == 2


class Marked(torch.Tensor):
    pass


def test_modes_of_pytorch_run_the_original(net: Net, fast: Any, compiler: Compiler) -> None:
    x = torch.randn(X)
    close(torch.vmap(fast)(x[None])[0], net(x))
    close(torch.func.jvp(fast, (x,), (x,))[0], net(x))
    with torch.device("cpu"):
        close(fast(x), net(x))
    with torch.autocast("cpu"):
        assert fast(x).dtype == torch.bfloat16
    assert type(fast(x.as_subclass(Marked))) is Marked  # type: ignore[arg-type]
    assert compiler.runs == 0
    close(torch.compile(fast, backend="eager")(x), net(x))
    exported = torch.export.export(fast, (x,), strict=False)
    close(exported.module()(x), net(x))
    assert compiler.runs == 0
    assert "torch.func" in str(fast.sol.report)


def test_calls_at_the_same_time(net: Net, fast: Any, compiler: Compiler) -> None:
    inputs = [torch.randn(1 + n % 3, 3, 6, 6 + n % 2) for n in range(12)]
    results: dict[int, torch.Tensor] = {}

    def run(n: int) -> None:
        results[n] = fast(inputs[n])

    threads = [threading.Thread(target=run, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for n, x in enumerate(inputs):
        close(results[n], net(x))
    assert len(compiler.made) == 2


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, net: Net) -> None:
    from sol.core.errors import CompilerFailed

    def fail(*_: Any) -> Any:
        raise CompilerFailed("gcc ended with 1")

    monkeypatch.setattr("sol.pytorch.connect.compile_with", fail)
    fast: Any = optimize(net, X)
    x = torch.randn(X)
    close(fast(x), net(x))
    assert "gcc ended with 1" in str(fast.sol.report)


def test_a_fault_of_sol_itself(monkeypatch: pytest.MonkeyPatch, net: Net) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("conv")

    monkeypatch.setattr("sol.pytorch.connect.compile_with", fail)
    fast: Any = optimize(net, X)
    x = torch.randn(X)
    close(fast(x), net(x))
    assert "KeyError: 'conv'" in str(fast.sol.report)
    monkeypatch.setenv("SOL_CHECK", "1")
    with pytest.raises(KeyError):
        optimize(net, X)
