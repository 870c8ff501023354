"""Forward and backward graphs: together they are the joint graph, and what crosses is little."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sol.ops  # noqa: F401  fills the table
from sol.core.dims import B
from sol.core.dtypes import F32, F64, I64
from sol.core.errors import UnsupportedError
from sol.ir.check import verify
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.reference import evaluate
from sol.ops.registry import builder, infer
from sol.passes.autodiff import differentiate
from sol.passes.mincut import Network
from sol.passes.partition import Halves, partition
from sol.passes.pipeline import run

CONV = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "ceil": False}


def batch_norm(b: Builder, x: Node, channels: int, name: str) -> Node:
    """By the statistics of the batch."""
    axes = (0, 2, 3)
    mean = b.add("mean", x, axes=axes, keepdims=False)
    var = b.add("var", x, axes=axes, correction=0, keepdims=False)
    affine = [b.parameter(f"{name}.{p}", TensorType((channels,), F32)) for p in ("w", "b")]
    return b.add("batch_norm", x, mean, var, *affine, eps=1e-5, affine=True)


def network(*, dropout: bool = False) -> Graph:
    """conv, batch norm, ReLU, conv, ReLU, max-pooling, linear."""
    b = builder()
    x = b.input("x", TensorType((B, 3, 8, 8), F32))
    seed = b.input("seed", TensorType((1,), I64)) if dropout else None
    w = b.parameter("c1", TensorType((4, 3, 3, 3), F32))
    x = b.add("relu", batch_norm(b, b.add("conv", x, w, name="c1", **CONV), 4, "bn"), name="r1")
    w = b.parameter("c2", TensorType((6, 4, 3, 3), F32))
    x = b.add("max_pool", b.add("relu", b.add("conv", x, w, name="c2", **CONV)), name="p", **POOL)
    if seed is not None:
        chance = b.add("random", seed, shape=x.shape, stream=0)
        kept = b.add("ge", chance, b.constant(0.5, F32))
        scaled = b.add("mul", x, b.constant(2.0, F32))
        x = b.add("where", kept, scaled, b.constant(0.0, F32), name="dropped")
    x = b.add("reshape", x, shape=(B, 96))
    w, bias = b.parameter("w", TensorType((5, 96), F32)), b.parameter("b", TensorType((5,), F32))
    return b.finish([b.add("linear", x, w, bias)])


def values(graph: Graph, batch: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and parameters."""
    rng = np.random.default_rng(0)
    fixed = graph.at_batch(batch)
    given = {
        n.name: rng.integers(0, 99, n.shape) if n.dtype == I64 else rng.standard_normal(n.shape)
        for n in (*fixed.inputs, *fixed.parameters)
    }
    keys = {n.name: n["key"] for n in fixed.parameters}
    return given, {keys[n]: given[n] for n in keys}


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("optimise", [False, True])
def test_both_halves_are_the_whole(dropout: bool, optimise: bool) -> None:
    graph = network(dropout=dropout)
    wanted = ["x", *(n.name for n in graph.parameters)]
    joint = differentiate(graph, wanted)
    given, parameters = values(joint.graph, 3)
    expected = evaluate(joint.graph, given, parameters, 3, F64)
    halves = partition(joint)
    forward, backward = halves.forward, halves.backward
    if optimise:
        forward, backward = run(forward, check=True), run(backward, check=True)
    verify(forward, infer)
    verify(backward, infer)
    results = evaluate(forward, given, parameters, 3, F64)
    kept = dict(zip(halves.forward.outputs, results))
    saved = {n: kept[n] if n in kept else given[n] for n in halves.saved}
    inputs = saved | {s: given[s] for s in halves.seeds}
    assert [n.name for n in backward.inputs] == list(inputs)
    gradients = evaluate(backward, inputs, parameters, 3, F64)
    np.testing.assert_allclose(results[0], expected[0])
    for n, value in enumerate(gradients):
        np.testing.assert_allclose(value, expected[1 + n], rtol=1e-9, atol=1e-12)
    assert halves.gradients == tuple(range(len(wanted)))


def crossing(halves: Halves) -> list[str]:
    return [f"{halves.forward[n].op} {halves.forward[n].type}" for n in halves.saved]


def test_what_is_saved() -> None:
    """Inputs of layers, statistics, places of the pooling, a byte of the last ReLU."""
    graph = network()
    halves = partition(differentiate(graph, [n.name for n in graph.parameters]))
    assert crossing(halves) == [
        "input f32[B, 3, 8, 8]",
        "conv f32[B, 4, 8, 8]",
        "mean f32[4]",
        "var f32[4]",
        "max_pool f32[B, 6, 4, 4]",
        "cast u8[B, 6, 4, 4]",
        "le bool[B, 6, 8, 8]",
    ]


def test_dropout_keeps_a_byte() -> None:
    graph = network(dropout=True)
    halves = partition(differentiate(graph, [n.name for n in graph.parameters]))
    assert "ge bool[B, 6, 4, 4]" in crossing(halves)
    assert "input i64[1]" not in crossing(halves)


def test_a_relu_whose_result_nobody_keeps_is_a_byte() -> None:
    b = builder()
    x, w = b.input("x", TensorType((B, 64), F32)), b.parameter("w", TensorType((64, 64), F32))
    y = b.add("relu", b.add("linear", x, w))
    graph = b.finish([b.add("sum", y, axes=(1,), keepdims=False)])
    halves = partition(differentiate(graph, [w.name]))
    assert crossing(halves) == ["input f32[B, 64]", "le bool[B, 64]"]


def test_what_no_result_depends_on_has_no_gradient() -> None:
    b = builder()
    x, y = (b.input(n, TensorType((B, 3), F32)) for n in "xy")
    places = b.add("argmax", x, axis=1, keepdims=False)
    graph = b.finish([places, b.add("exp", y), b.add("detach", x)])
    joint = differentiate(graph, ["x", "y"])
    assert joint.seeds[0] == joint.seeds[2] == ""
    assert joint.gradients[0] == ""
    halves = partition(joint)
    assert halves.gradients == (-1, 0)
    assert halves.saved == (graph.outputs[1],)


def test_an_operator_without_a_gradient_is_named() -> None:
    b = builder()
    x = b.input("x", TensorType((2, 3, 4, 4), F32))
    grid = b.input("grid", TensorType((2, 4, 4, 2), F32))
    b.origin = "sampler"
    attrs = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": False}
    graph = b.finish([b.add("grid_sample", x, grid, **attrs)])
    with pytest.raises(UnsupportedError, match=r"grid_sample .* no gradient \(sampler\)"):
        differentiate(graph, ["x"])


def test_a_minimal_cut() -> None:
    """The example of Cormen et al., Introduction to Algorithms, section 26.2."""
    network = Network()
    for a, b, c in (
        ("s", "v1", 16), ("s", "v2", 13), ("v2", "v1", 4), ("v1", "v3", 12), ("v3", "v2", 9),
        ("v2", "v4", 14), ("v4", "v3", 7), ("v3", "t", 20), ("v4", "t", 4),
    ):  # fmt: skip
        network.edge(a, b, c)
    assert network.cut("s", "t") == {"s", "v1", "v2", "v4"}
