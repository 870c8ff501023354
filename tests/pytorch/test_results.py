"""Results have the structure, the identity and the memory that they have in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sol.pytorch import optimize
from tests.pytorch.conftest import Compiler
from tests.pytorch.networks import Apply, Nested, Output, Pair


def fast_of(function: Any, *sizes: Any, **parts: Any) -> Any:
    return optimize(Apply(function, **parts).eval(), *(sizes or [(3, 4)]))


def shares(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def test_containers(compiler: Compiler) -> None:
    net = Nested().eval()
    batch = {"x": torch.randn(3, 4), "rest": [torch.randn(3, 4), torch.randn(3, 2)]}
    fast: Any = optimize(net, batch, scale=0.5)
    found, expected = fast(batch, scale=0.5), net(batch, scale=0.5)
    assert type(found) is type(expected)
    assert list(found) == list(expected)
    assert type(found["pair"]) is Pair
    assert type(found["output"]) is Output
    assert found["output"].extra[1:] == [None, 7]
    assert found["name"] == "nested"
    torch.testing.assert_close(found["pair"].low, expected["pair"].low)
    torch.testing.assert_close(found["output"].extra[0], expected["output"].extra[0])
    assert compiler.runs == 1


def test_nested_sizes(compiler: Compiler) -> None:
    net = Nested().eval()
    fast = optimize(net, {"x": (2, 4), "rest": [(2, 4), (2, 2)]})
    batch = {"x": torch.randn(5, 4), "rest": [torch.randn(5, 4), torch.randn(5, 2)]}
    torch.testing.assert_close(fast(batch)["pair"], net(batch)["pair"])
    assert compiler.runs == 1


def test_results_of_pytorchs_own_types() -> None:
    found = fast_of(lambda m, x: (torch.max(x, 1), x.size(), x.dtype))(torch.randn(3, 4))
    assert type(found[0]) is torch.return_types.max
    assert found[1] == (3, 4)
    assert type(found[1]) is torch.Size
    assert found[2] is torch.float32


def test_nothing_and_constants() -> None:
    assert fast_of(lambda m, x: None)(torch.ones(3, 4)) is None
    assert fast_of(lambda m, x: [1, "a", {}, ()])(torch.ones(3, 4)) == [1, "a", {}, ()]
    made = fast_of(lambda m, x: (torch.ones(2), torch.tensor(3), x + 1))(torch.ones(3, 4))
    assert made[0].tolist() == [1, 1]
    assert made[1].item() == 3


def test_a_constant_is_a_new_tensor_each_time() -> None:
    fast = fast_of(lambda m, x: torch.tensor([1.0, 2.0]))
    fast(torch.ones(3, 4)).zero_()
    assert fast(torch.ones(3, 4)).tolist() == [1, 2]


def test_an_argument_is_returned_itself(compiler: Compiler) -> None:
    fast = fast_of(lambda m, x: (x, x + 1, {"again": x}))
    x = torch.randn(3, 4)
    first, second, third = fast(x)
    assert first is x
    assert third["again"] is x
    assert torch.equal(second, x + 1)
    assert compiler.runs == 1


def test_a_parameter_is_returned_itself() -> None:
    table = nn.Parameter(torch.randn(4))
    fast = fast_of(lambda m, x: (m.table, x * m.table, m.table[1:]), table=table)
    found, _, part = fast(torch.randn(3, 4))
    assert found is table
    assert shares(part, table)


def test_views_of_an_argument_share_its_memory(compiler: Compiler) -> None:
    fast = fast_of(lambda m, x: (x.view(-1), x[:, 1], x.t(), torch.relu(x)))
    x = torch.randn(3, 4)
    flat, column, turned, _ = fast(x)
    assert shares(flat, x)
    assert shares(column, x)
    flat.zero_()
    assert not x.any()
    assert not turned.any()
    assert turned.stride() == (1, 4)
    assert compiler.runs == 1


def test_results_that_share_memory(compiler: Compiler) -> None:
    fast = fast_of(lambda m, x: (y := torch.exp(x), y.view(-1), y[1:]))
    with torch.no_grad():
        y, flat, rest = fast(torch.randn(3, 4))
    flat.zero_()
    assert not y.any()
    assert not rest.any()
    assert compiler.runs == 1


def test_overlapping_views_of_a_hidden_tensor() -> None:
    fast = fast_of(lambda m, x: [(y := torch.exp(x))[:2], y[1:]])
    first, second = fast(torch.randn(3, 4))
    first.zero_()
    assert not second[0].any()


def test_parts_that_do_not_overlap_are_computed_apart(compiler: Compiler) -> None:
    fast = fast_of(lambda m, x: torch.chunk(m.fc(x), 2, 1), fc=nn.Linear(4, 6))
    first, second = fast(torch.randn(3, 4))
    assert first.requires_grad
    assert first.shape == second.shape == (3, 3)
    assert compiler.runs == 1


def test_the_same_result_twice() -> None:
    fast = fast_of(lambda m, x: (y := x + 1, y))
    first, second = fast(torch.ones(3, 4))
    assert first is second


def test_copies_are_apart() -> None:
    fast = fast_of(lambda m, x: (y := x + 1, y.clone(), x.clone()))
    x = torch.ones(3, 4)
    first, second, third = fast(x)
    first.zero_()
    third.zero_()
    assert second.sum() == 24
    assert x.sum() == 12


def test_results_are_new_in_every_call() -> None:
    fast = fast_of(lambda m, x: x + 1)
    first = fast(torch.zeros(3, 4))
    second = fast(torch.ones(3, 4))
    assert first.sum() == 12
    assert second.sum() == 24


def test_an_argument_that_the_network_writes(compiler: Compiler) -> None:
    def function(m: Any, x: torch.Tensor) -> Any:
        y = torch.relu_(x)
        return y, y + 1

    fast = fast_of(function)
    x = torch.randn(3, 4)
    expected = x.relu()
    first, second = fast(x)
    assert first is x
    assert torch.equal(x, expected)
    assert torch.equal(second, expected + 1)
    assert compiler.runs == 1
    y = torch.randn(4, 3).t()  # not row-major: the original runs
    expected = y.relu()
    fast(y)
    assert torch.equal(y, expected)
    assert compiler.runs == 1


def test_arguments_that_share_memory_with_what_is_written(compiler: Compiler) -> None:
    fast = fast_of(lambda m, x, y: (x.add_(1), y * 2)[1], (3, 4), (3, 4))
    x = torch.zeros(3, 4)
    assert torch.equal(fast(x, x), torch.full((3, 4), 2.0))
    assert compiler.runs == 0


def test_a_cache_of_keys_and_values(compiler: Compiler) -> None:
    class Cache:
        def __init__(self, keys: Any) -> None:
            self.layers = [(keys, None)]
            self.length = 3

    fast = fast_of(lambda m, x: {"cache": Cache(x * 2)})
    made = fast(torch.ones(3, 4))["cache"]
    assert type(made) is Cache
    assert made.length == 3
    assert made.layers[0][0].sum() == 24
    assert compiler.runs == 1
