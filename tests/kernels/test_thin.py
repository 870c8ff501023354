"""Heads of classifiers, forwards and backwards: the weight is read where the framework keeps it."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from sol.compiler import compile_graph
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Graph, TensorType
from sol.ops.registry import builder
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

# depth, columns: parts of k, blocks of columns and lanes that are whole or not
SIZES = ((1, 1), (37, 16), (64, 35), (65, 70), (100, 37), (129, 1030), (512, 96))


def _layer(depth: int, columns: int, turned: bool) -> Graph:
    """A layer; with a transposed weight it is a gradient, beside that of the weight."""
    b = builder()
    given = b.input("x", TensorType((B, depth), F32))
    x = b.add("tanh", given)
    shape = (depth, columns) if turned else (columns, depth)
    weight = b.parameter("weight", TensorType(shape, F32))
    weight = b.add("permute", weight, axes=(1, 0)) if turned else weight
    y = b.add("linear", x, weight, b.parameter("bias", TensorType((columns,), F32)))
    results = [b.add("relu", y)]
    if turned:
        results.append(b.add("linear_weight_gradient", given, x))
    return b.finish(results)


@functools.cache
def program() -> Joined:
    """All layers in one program."""
    return build_joined([Case(f"{d} to {c}", _layer(d, c, True), -1, 1) for d, c in SIZES])


@pytest.mark.parametrize("batch", [1, 7, 16, 33, 70])
def test_layers_agree_with_the_reference(batch: int) -> None:
    compare(program(), batch, threads=2)


def test_rows_longer_than_weights_are_fetched_ahead() -> None:
    cases = [Case(f"{d} to {c}", _layer(d, c, False), -1, 1) for d, c in ((2048, 7), (2500, 20))]
    compare(build_joined(cases, flags=("-O1",)), 5, threads=2)


def test_threads_change_no_bit() -> None:
    assert same_bits(program().run(19, 1), program().run(19, 2))


@pytest.mark.parametrize("turned", [False, True])
def test_no_weight_is_copied(turned: bool) -> None:
    compiled = compile_graph(_layer(300, 200, turned))
    shape = (300, 200) if turned else (200, 300)
    weight = np.ones(shape, np.float32)
    given = {"weight": weight, "bias": np.zeros(200, np.float32)}
    compiled.prepare({n["key"]: given[n["key"]] for n in compiled.graph.parameters})
    assert compiled.packed_bytes == 0
    assert any(np.shares_memory(weight, w) for w in compiled.weights)
