"""Integers of every size and float64 as native code, which wraps and rounds as the reference."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from sol.compiler import compile_graph
from sol.core.dtypes import DTYPES, F32, F64, I8, I16, I32, I64, U16, U64, DType, promote
from sol.ir.graph import Graph, TensorType
from sol.ops.reference import evaluate
from sol.ops.registry import builder

INTEGERS = (U64, I32, U16)
BINARY = ("add", "sub", "mul", "max", "min", "eq", "lt", "ge", "bitwise_and", "bitwise_xor")
DIVISIONS = ("floordiv", "mod", "fmod")
UNARY = ("neg", "abs", "sign", "relu", "square", "bitwise_not", "floor")
REDUCTIONS = ("sum", "prod", "max_reduce", "min_reduce")
DOUBLE = ("exp", "expm1", "sin", "cos", "tan", "tanh", "sinh", "cosh", "erf", "ndtr", "sigmoid",
          "log1p", "atan", "neg", "abs", "sign", "relu", "ceil", "round", "trunc", "isnan",
          "isinf")  # fmt: skip


def agree(graph: Graph, arrays: dict[str, Any], rtol: float = 0.0) -> None:
    expected = evaluate(graph, arrays)
    found = [np.empty(e.shape, graph[o].dtype.numpy) for o, e in zip(graph.outputs, expected)]
    given = [arrays[n.name].ctypes.data for n in graph.inputs]
    compile_graph(graph).run(given, [f.ctypes.data for f in found], 1, 1)
    for name, a, b in zip(graph.outputs, found, expected):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, err_msg=f"{name} = {graph[name].op}")


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers(dtype: DType) -> None:
    rng, info = np.random.default_rng(0), np.iinfo(dtype.numpy)

    def numbers(low: int, high: int, *shape: int) -> Any:
        return rng.integers(low, high, shape, dtype=dtype.numpy, endpoint=True)

    arrays = {
        "a": numbers(info.min, info.max, 3, 7), "b": numbers(info.min, info.max, 7),
        "divisor": numbers(1, info.max, 7), "places": numbers(0, 70, 3, 7),
        "low": numbers(info.min, info.min + 9, 3, 7),
    }  # fmt: skip
    net = builder()
    x = {n: net.input(n, TensorType(a.shape, dtype)) for n, a in arrays.items()}
    results = [net.add(op, x["a"], x["b"]) for op in BINARY]
    results += [net.add(op, x["a"], x["divisor"]) for op in DIVISIONS]
    results += [net.add(op, x["a"], x["places"]) for op in ("left_shift", "right_shift")]
    results += [net.add(op, x["a"]) for op in UNARY]
    results += [net.add(op, x["low"], axes=(1,), keepdims=False) for op in REDUCTIONS]
    results += [net.add(op, x["a"], axis=1) for op in ("cumsum", "cumprod")]
    results += [net.add("cast", x["a"], dtype=t) for t in (I8, U64, F32, F64)]
    agree(net.finish(results), arrays)


def test_float64() -> None:
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 9), "b": (9,), "w": (5, 9), "x": (1, 2, 6, 6), "k": (3, 2, 3, 3)}
    arrays = {n: rng.standard_normal(s) for n, s in shapes.items()}
    net = builder()
    x = {n: net.input(n, TensorType(s, F64)) for n, s in shapes.items()}
    results = [net.add(op, x["a"], x["b"]) for op in (*BINARY[:8], *DIVISIONS, "div", "atan2")]
    results += [net.add(op, x["a"]) for op in DOUBLE]
    positive = net.add("square", x["a"])
    results += [net.add(op, positive) for op in ("sqrt", "rsqrt", "log", "log2", "log10")]
    results += [net.add(op, x["a"], axes=(1,), keepdims=False) for op in (*REDUCTIONS, "mean")]
    results += [net.add("softmax", x["a"], axis=1), net.add("linear", x["a"], x["w"])]
    window: Any = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    results.append(net.add("conv", x["x"], x["k"], **window))
    agree(net.finish(results), arrays, rtol=1e-13)


def test_promotion_is_that_of_numpy() -> None:
    """But float32 stays so beside integers, and uint64 beside signed ones gives int64."""
    for a, b in product(DTYPES.values(), repeat=2):
        found, kinds = promote(a, b), {a.kind, b.kind}
        assert found == promote(b, a)
        if kinds <= {"int", "bool"} and not (U64 in (a, b) and {a, b} & {I8, I16, I32, I64}):
            assert found.numpy == np.promote_types(a.numpy, b.numpy).name
        else:
            expected = I64 if kinds == {"int"} else F64 if F64 in (a, b) else F32
            assert found == expected
