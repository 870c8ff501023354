"""Small networks whose second layer a library may take, joined to one graph and one program.

The first layer of each is a 1x1 convolution or a linear layer that brings the input into the order
of Sol's intermediate values: channels innermost.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import sol.ops  # noqa: F401  fills the table
from sol.compiler import Compiled
from sol.core.dims import B, concrete
from sol.core.dtypes import F32, F64
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.libraries import contest
from sol.libraries.base import Absent, Found
from sol.libraries.onednn import probe
from sol.ops.reference import evaluate
from sol.ops.registry import builder

Array = NDArray[Any]


@dataclass(frozen=True)
class Conv:
    """A convolution of an image with channels innermost, and what follows it.

    after: names of operators applied to the result in turn; "residual" adds the first layer's
    result where the shapes agree, else another convolution of it.
    """

    inputs: int
    outputs: int
    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = True
    after: tuple[str, ...] = ()

    def add(self, b: Builder, name: str) -> Node:
        """Append the network and return its result."""
        x = b.input(f"{name}_x", TensorType((B, 3, *self.size), F32))
        x = convolve(b, f"{name}_stem", x, self.inputs, (1,) * len(self.size))
        stored = b.add("sigmoid", x)
        rank = len(self.window)
        y = convolve(
            b,
            f"{name}_conv",
            stored,
            self.outputs,
            self.window,
            self.stride or (1,) * rank,
            self.padding or ((0, 0),) * rank,
            self.dilation or (1,) * rank,
            self.groups,
            self.bias,
        )
        for operator in self.after:
            y = b.add("add", y, stored) if operator == "residual" else apply(b, operator, y)
        around = (0, 0, *(1,) * rank)  # results of a network are not channels innermost
        return b.add("pad", y, low=around, high=around, mode="constant", value=0.5)


def apply(b: Builder, operator: str, x: Node) -> Node:
    """Append an element-wise operator."""
    attrs = {"approximate": "none"} if operator == "gelu" else {}
    return b.add(operator, x, **attrs)


def convolve(
    b: Builder,
    name: str,
    x: Node,
    outputs: int,
    window: tuple[int, ...],
    stride: tuple[int, ...] = (),
    padding: tuple[tuple[int, int], ...] = (),
    dilation: tuple[int, ...] = (),
    groups: int = 1,
    bias: bool = True,
) -> Node:
    """Append a convolution with parameters of its own."""
    rank, inputs = len(window), x.shape[1]
    assert isinstance(inputs, int)
    operands = [b.parameter(f"{name}_w", TensorType((outputs, inputs // groups, *window), F32))]
    if bias:
        operands.append(b.parameter(f"{name}_b", TensorType((outputs,), F32)))
    return b.add(
        "conv",
        x,
        *operands,
        name=name,
        stride=stride or (1,) * rank,
        padding=padding or ((0, 0),) * rank,
        dilation=dilation or (1,) * rank,
        groups=groups,
    )


@dataclass(frozen=True)
class Linear:
    """A linear layer on tokens."""

    inputs: int
    outputs: int
    leading: tuple[int, ...]
    after: tuple[str, ...] = ()

    def add(self, b: Builder, name: str) -> Node:
        """Append the network and return its result."""
        x = b.input(f"{name}_x", TensorType((B, *self.leading, self.inputs), F32))
        w = b.parameter(f"{name}_w", TensorType((self.outputs, self.inputs), F32))
        bias = b.parameter(f"{name}_b", TensorType((self.outputs,), F32))
        y = b.add("linear", x, w, bias, name=f"{name}_conv")
        for operator in self.after:
            y = apply(b, operator, y)
        return y


CASES: Mapping[str, Conv | Linear] = {
    "plain": Conv(32, 64, (14, 13), (3, 3), padding=((1, 1), (1, 1))),
    "no_bias": Conv(32, 64, (14, 13), (3, 3), padding=((1, 1), (1, 1)), bias=False),
    "one_by_one": Conv(48, 64, (9, 7), (1, 1)),
    "strided_point": Conv(48, 64, (9, 8), (1, 1), stride=(2, 2)),
    "relu": Conv(32, 32, (12, 12), (3, 3), padding=((1, 1), (1, 1)), after=("relu",)),
    "residual": Conv(32, 32, (9, 9), (3, 3), padding=((1, 1), (1, 1)), after=("residual",)),
    "residual_relu": Conv(64, 64, (7, 7), (1, 1), after=("residual", "relu")),
    "relu_residual": Conv(64, 64, (7, 7), (1, 1), after=("relu", "residual")),
    "gelu": Conv(32, 48, (8, 8), (3, 3), after=("gelu",)),
    "uneven": Conv(
        31, 37, (13, 11), (5, 3), (2, 1), ((2, 1), (0, 2)), (1, 2), after=("hardswish",)
    ),
    "wide_window": Conv(16, 32, (15, 10), (7, 7), (1, 1), ((3, 3), (3, 3))),
    "groups": Conv(64, 64, (10, 10), (3, 3), padding=((1, 1), (1, 1)), groups=2, after=("relu",)),
    "many_groups": Conv(128, 128, (7, 7), (3, 3), padding=((1, 1), (1, 1)), groups=32),
    "line": Conv(32, 48, (50,), (5,), (2,), ((2, 2),)),
    "volume": Conv(16, 32, (5, 6, 7), (3, 3, 3), padding=((1, 1), (1, 1), (1, 1))),
    "one_pixel": Conv(64, 32, (3, 3), (3, 3)),
    "linear": Linear(48, 96, (17,)),
    "linear_gelu": Linear(96, 48, (33,), ("gelu",)),
    "windows": Linear(32, 64, (4, 9), ("relu",)),
}


def joined(cases: Mapping[str, Conv | Linear] = CASES) -> Graph:
    """All networks as one graph; result k is that of case k."""
    b = builder()
    return b.finish([case.add(b, name) for name, case in cases.items()])


def random_array(name: str, shape: Sequence[int]) -> Array:
    """Numbers that only depend on the name and the shape, small for weights of many inputs."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), *shape])
    scale = 1 / np.sqrt(np.prod(shape[1:])) if name.endswith("_w") else 1.0
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def parameters_of(graph: Graph) -> dict[str, Array]:
    """Values for all parameters, by key."""
    return {n["key"]: random_array(n["key"], concrete(n.shape, 1)) for n in graph.parameters}


def inputs_of(graph: Graph, batch: int) -> dict[str, Array]:
    """Values for all inputs, by name."""
    return {n.name: random_array(n.name, concrete(n.shape, batch)) for n in graph.inputs}


def run(compiled: Compiled, inputs: Mapping[str, Array], batch: int, threads: int) -> list[Array]:
    """The results of a program that has its parameters."""
    graph = compiled.graph
    given = [inputs[n.name] for n in graph.inputs]
    results = [np.full(concrete(graph[o].shape, batch), np.nan, np.float32) for o in graph.outputs]
    compiled.run([a.ctypes.data for a in given], [a.ctypes.data for a in results], batch, threads)
    return results


def reference(graph: Graph, inputs: Mapping[str, Array], batch: int) -> list[Array]:
    """The results in float64."""
    return evaluate(graph, inputs, parameters_of(graph), batch, F64)


def onednn() -> Found:
    """oneDNN; a test that calls this is skipped, and says why, where it is not installed."""
    found = probe()
    if isinstance(found, Absent):
        pytest.skip(found.reason)
    return found


@contextmanager
def preferring(
    patch: pytest.MonkeyPatch, wins: Callable[[contest.Verdict], bool] = lambda v: v.agrees
) -> Iterator[None]:
    """Libraries are taken wherever they can be, and measured as briefly as possible."""
    with patch.context() as inner:
        inner.setattr(contest, "_SECONDS", 0.0)
        inner.setattr(contest, "_LEAST_ROUNDS", 1)
        inner.setattr(contest.Verdict, "wins", property(wins))
        inner.setenv("SOL_LIBRARIES", "onednn")
        yield
