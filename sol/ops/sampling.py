"""Short names for the types of samples, and the arrays and graph that a sample stands for.

Entries use the names; tests of the operators and of every backend use the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import concrete
from sol.core.dtypes import BOOL, F32, I32, I64, U8, DType
from sol.ir.graph import Graph, TensorType
from sol.ops.registry import OpDef, Sample, builder


def f32(*shape: int) -> TensorType:
    """A float32 tensor."""
    return TensorType(shape, F32)


def i64(*shape: int) -> TensorType:
    """An int64 tensor."""
    return TensorType(shape, I64)


def i32(*shape: int) -> TensorType:
    """An int32 tensor."""
    return TensorType(shape, I32)


def u8(*shape: int) -> TensorType:
    """A uint8 tensor."""
    return TensorType(shape, U8)


def boolean(*shape: int) -> TensorType:
    """A tensor of truth values."""
    return TensorType(shape, BOOL)


def sample_graph(entry: OpDef, sample: Sample) -> Graph:
    """A graph of one node, whose inputs are x0, x1, …; with several results all are outputs."""
    graph = builder()
    inputs = [graph.input(f"x{n}", t) for n, t in enumerate(sample.inputs)]
    node = graph.add(entry.name, *inputs, name="y", **sample.attrs)
    if not isinstance(node.type, tuple):
        return graph.finish([node])
    return graph.finish([graph.add("item", node, index=n) for n in range(len(node.type))])


def sample_arrays(sample: Sample, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random inputs of a sample, by input name, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    return {f"x{n}": _array(t, sample, rng) for n, t in enumerate(sample.inputs)}


def _array(type: TensorType, sample: Sample, rng: np.random.Generator) -> NDArray[Any]:
    shape = concrete(type.shape, 1)
    match type.dtype.kind:
        case "bool":
            return np.asarray(rng.random(shape) < 0.5)
        case "int":
            return _integers(type.dtype, sample, shape, rng)
        case _:
            return np.asarray(rng.uniform(sample.low, sample.high, shape), type.dtype.numpy)


def _integers(
    dtype: DType, sample: Sample, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[Any]:
    low, high = int(sample.low), int(sample.high)
    if dtype == U8:
        low = max(low, 0)
    return np.asarray(rng.integers(low, max(high, low + 1), shape), dtype.numpy)
