"""Small graphs for tests of passes, and what every pass must keep: the results, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sol.core.dims import B, Size, concrete
from sol.core.dtypes import BOOL, F64, DType
from sol.ir.check import verify
from sol.ir.graph import Graph, Node, TensorType
from sol.ops.reference import evaluate
from sol.ops.registry import builder, infer

BATCH = 2


class Net:
    """Builds a graph: `net("add", x, 1.0)`; a number becomes a constant of the type of x.

    Everything is float64, so that constants are as exact as the comparison.
    """

    def __init__(self) -> None:
        self.builder = builder()

    def input(self, *shape: Size, dtype: DType = F64, name: str = "x") -> Node:
        return self.builder.input(name, TensorType(shape, dtype))

    def images(self, channels: int = 4, size: int = 6) -> Node:
        """An input [B, channels, size, size]."""
        return self.input(B, channels, size, size)

    def parameter(self, *shape: int, name: str = "w", dtype: DType = F64) -> Node:
        return self.builder.parameter(self.builder.fresh(name), TensorType(shape, dtype))

    def constant(self, value: Any, dtype: DType = F64) -> Node:
        return self.builder.constant(value, dtype)

    def __call__(self, op: str, *inputs: Node | float, **attrs: Any) -> Node:
        like = next((i.dtype for i in inputs if isinstance(i, Node)), F64)
        return self.builder.add(
            op, *(i if isinstance(i, Node) else self.constant(i, like) for i in inputs), **attrs
        )

    def graph(self, *outputs: Node) -> Graph:
        return self.builder.finish(outputs)

    # operators with many attributes, with the common ones

    def conv(self, x: Node, channels: int = 4, kernel: int = 3, **attrs: Any) -> Node:
        groups, bias = attrs.pop("groups", 1), attrs.pop("bias", True)
        rank = x.tensor.rank - 2
        inputs = x.shape[1]
        assert isinstance(inputs, int)
        weight = self.parameter(channels, inputs // groups, *(kernel,) * rank)
        rest = [self.parameter(channels, name="bias")] if bias else []
        one = (1,) * rank
        given = {"stride": one, "padding": ((0, 0),) * rank, "dilation": one, "groups": groups}
        return self("conv", x, weight, *rest, **{**given, **attrs})

    def linear(self, x: Node, outputs: int = 5, bias: bool = True) -> Node:
        inputs = x.shape[-1]
        assert isinstance(inputs, int)
        rest = [self.parameter(outputs, name="bias")] if bias else []
        return self("linear", x, self.parameter(outputs, inputs), *rest)

    def batch_norm(self, x: Node, affine: bool = True) -> Node:
        channels = x.shape[1]
        assert isinstance(channels, int)
        names = ("mean", "var", "weight", "bias") if affine else ("mean", "var")
        statistics = [self.parameter(channels, name=n) for n in names]
        return self("batch_norm", x, *statistics, eps=1e-3, affine=affine)

    def reduce(self, op: str, x: Node, *axes: int, keepdims: bool = True) -> Node:
        return self(op, x, axes=axes, keepdims=keepdims)


def random_array(type: TensorType, rng: np.random.Generator, positive: bool) -> NDArray[Any]:
    shape = concrete(type.shape, BATCH)
    if type.dtype == BOOL:
        return rng.random(shape) < 0.5
    if type.dtype.kind == "int":
        return rng.integers(0, 3, shape).astype(type.dtype.numpy)
    low = 0.5 if positive else -2.0
    return rng.uniform(low, 2.0, shape).astype(type.dtype.numpy)


def results(graph: Graph, seed: int = 0) -> list[NDArray[Any]]:
    """The results for random inputs and parameters, which depend on their names only."""

    def array(name: str, type: TensorType) -> NDArray[Any]:
        rng = np.random.default_rng([seed, *name.encode()])
        return random_array(type, rng, positive="var" in name)

    inputs = {n.name: array(n.name, n.tensor) for n in graph.inputs}
    parameters = {n["key"]: array(n["key"], n.tensor) for n in graph.parameters}
    return evaluate(graph, inputs, parameters, batch=BATCH)


def _compare(before: Graph, after: Graph, rtol: float) -> None:
    verify(after, infer)
    for a, b in zip(results(before), results(after), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol, equal_nan=True)


def _ops(graph: Graph) -> str:
    """The operators that run at each call, in order; not sources, not what is static."""
    hidden = ("input", "parameter", "constant", "full", "iota")
    names = (n.op for n in graph.nodes if n.op not in hidden and n.name not in graph.static)
    return " ".join(names)


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture(scope="session")
def ops() -> Callable[[Graph], str]:
    return _ops


Apply = Callable[[Graph], Graph]
Check = Callable[..., Graph]


@pytest.fixture(scope="session")
def becomes() -> Check:
    """becomes(apply, before, "relu add"): apply and compare operators and results; the new graph.

    Also that applying again changes nothing.
    """

    def check(apply: Apply, before: Graph, expected: str, rtol: float = 1e-10) -> Graph:
        verify(before, infer)
        after = apply(before)
        assert _ops(after) == expected
        _compare(before, after, rtol)
        assert apply(after) is after
        return after

    return check


@pytest.fixture(scope="session")
def same() -> Callable[..., None]:
    """same(before, after): both compute the same."""

    def check(before: Graph, after: Graph, rtol: float = 1e-10) -> None:
        _compare(before, after, rtol)

    return check
