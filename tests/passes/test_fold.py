"""Constant folding, common subexpressions, dead nodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sol.core.dims import B
from sol.core.dtypes import BOOL, F32, F64, I64
from sol.ir.graph import Graph, Literal
from sol.ir.rewrite import Fuel
from sol.passes.duplicates import dead, duplicates
from sol.passes.fold import fold


def result(graph: Graph) -> Any:
    return graph[graph.outputs[0]]


def test_arithmetic_of_constants(net: Any, becomes: Any) -> None:
    c = net("add", net.constant([1.0, 2.0]), net.constant([10.0, 20.0]))
    y = net("mul", net.input(B, 2), net("exp", c))
    after = becomes(fold, net.graph(y), "mul")
    exp = after[after[after.outputs[0]].inputs[1]]
    assert (exp.op, exp.name) == ("constant", "exp")
    np.testing.assert_array_equal(exp["value"].array, np.exp([11.0, 22.0]))


def test_the_result_has_its_type(net: Any) -> None:
    half = net("div", net.constant(1, I64), net.constant(3, I64))
    whole = net("cast", net("iota", shape=(3,), axis=0, dtype=F32), dtype=I64)
    after = fold(net.graph(half, whole))
    assert result(after)["value"] == Literal.of(1 / 3, F32)
    assert after[after.outputs[1]]["value"] == Literal.of([0, 1, 2], I64)


def test_a_large_result_is_not_stored(net: Any, becomes: Any) -> None:
    row = net("iota", shape=(400, 1), axis=0, dtype=I64)
    column = net("iota", shape=(1, 400), axis=1, dtype=I64)
    mask = net("le", column, row)  # 160 kB of two times 3.2 kB
    graph = net.graph(net("where", mask, net.input(400, 400), 0.0))
    assert fold(graph) is graph
    part = net("slice", mask, axis=0, start=0, stop=2, step=1)
    after = fold(net.graph(part))
    assert result(after).op == "slice"  # its input is not known, so neither is it


def test_a_large_constant_may_be_moved(net: Any) -> None:
    table = net.constant(np.arange(20_000.0).reshape(100, 200))
    after = fold(net.graph(net("permute", table, axes=(1, 0))))
    np.testing.assert_array_equal(
        result(after)["value"].array, np.arange(20_000.0).reshape(100, 200).T
    )


def test_sources_that_are_never_stored_stay(net: Any) -> None:
    wide = net("expand", net.constant([1.0, 2.0]), shape=(3, 2))
    graph = net.graph(net("iota", shape=(3,), axis=0, dtype=I64), wide)
    assert fold(graph) is graph
    positions = net("add", net("iota", shape=(3,), axis=0, dtype=I64), net.constant(2, I64))
    after = fold(net.graph(positions, net("neg", wide)))
    assert result(after)["value"] == Literal.of([2, 3, 4], I64)
    assert after[after.outputs[1]].op == "constant"


@pytest.mark.parametrize("number", [0.0, -0.0, math.nan, math.inf, 1.5])
def test_equal_elements_become_full(number: float, net: Any) -> None:
    zeros = net("full", shape=(B, 3), value=number, dtype=F64)
    moved = net("permute", net("expand", zeros, shape=(2, B, 3)), axes=(2, 0, 1))
    after = fold(net.graph(net("neg", moved)))
    node = result(after)
    assert (node.op, node.shape) == ("full", (3, 2, B))
    assert np.array_equal(node["value"], -number, equal_nan=True)
    assert math.copysign(1, node["value"]) == math.copysign(1, -number)


def test_a_mask_of_a_symbolic_batch(net: Any) -> None:
    """What language models compute if no mask is given."""
    ones = net("full", shape=(B, 7), value=1, dtype=I64)
    mask = net("ne", net("reshape", ones, shape=(B, 1, 1, 7)), net.constant(0, I64))
    hidden = net("where", mask, net.constant(0.0), net.constant(-1e30))
    after = fold(net.graph(net("expand", hidden, shape=(B, 2, 7, 7))))
    assert (result(after).op, result(after)["value"]) == ("full", 0.0)


def test_full_without_axes_is_a_constant(net: Any) -> None:
    after = fold(net.graph(net("full", shape=(), value=2, dtype=I64)))
    assert result(after)["value"] == Literal.of(2, I64)


def test_sums_of_equal_elements_are_computed(net: Any) -> None:
    ones = net("full", shape=(3, 5), value=1.0, dtype=F64)
    after = fold(net.graph(net.reduce("sum", ones, 1, keepdims=False)))
    assert (result(after).op, result(after)["value"]) == ("full", 5.0)
    assert fold(after) is after


def test_what_turns_out_to_be_equal_is_known_to_be(net: Any) -> None:
    """A comparison of positions that is always true, then expanded to a symbolic batch."""
    positions = net("iota", shape=(1, 5), axis=1, dtype=I64)
    mask = net("ge", positions, net.constant(0, I64))
    after = fold(net.graph(net("expand", mask, shape=(B, 5))))
    assert (result(after).op, result(after)["value"]) == ("full", True)
    assert fold(after) is after


def test_parameters_are_not_constants(net: Any) -> None:
    graph = net.graph(net("add", net.parameter(3), 1.0))
    assert fold(graph) is graph


def test_an_index_out_of_range_is_left_to_the_call(net: Any) -> None:
    y = net("take", net.constant([1.0, 2.0]), net.constant([0, 5], I64), axis=0)
    graph = net.graph(y)
    assert fold(graph) is graph


def test_fuel_stops_folding(net: Any) -> None:
    y = net("neg", net("exp", net.constant(1.0)))
    after = fold(net.graph(y), Fuel(1))
    assert [n.op for n in after] == ["constant", "constant", "neg"]


# ---- duplicates and dead nodes ------------------------------------------------


def test_equal_nodes_are_one(net: Any, becomes: Any) -> None:
    x = net.images()
    y = net("add", net("exp", x), net("exp", x))
    becomes(duplicates, net.graph(y), "exp add")


def test_chains_of_equal_nodes_are_one(net: Any, becomes: Any) -> None:
    x = net.images()
    a, b = (net("mul", net("sub", x, 1.0), 0.5) for _ in range(2))
    becomes(duplicates, net.graph(net("atan2", a, b), b), "sub mul atan2")


def test_operands_in_another_order_where_it_is_the_same(net: Any, becomes: Any) -> None:
    x, y = net.input(3), net.input(3, name="y")
    pair = net("concat", net("add", x, y), net("add", y, x), axis=0)
    becomes(duplicates, net.graph(pair), "add concat")
    pair = net("concat", net("sub", x, y), net("sub", y, x), axis=0)
    becomes(lambda g: duplicates(dead(g)), net.graph(pair), "sub sub concat")


@pytest.mark.parametrize(
    ("a", "b", "dtype", "kept"),
    [(0.0, -0.0, F64, 2), (1.0, 1.0, F64, 1), (math.nan, math.nan, F64, 1), (1, True, I64, 2)],
)
def test_attributes_are_compared_exactly(a: Any, b: Any, dtype: Any, kept: int, net: Any) -> None:
    parts = [net("full", shape=(3,), value=v, dtype=dtype) for v in (a, b)]
    after = duplicates(net.graph(net("concat", *parts, axis=0)))
    assert len(after) == kept + 1


def test_constants_of_another_type_differ(net: Any) -> None:
    a, b = net.constant(0, I64), net.constant(False, BOOL)
    graph = net.graph(a, b)
    assert duplicates(graph) is graph


def test_inputs_are_never_one(net: Any) -> None:
    graph = net.graph(net("add", net.input(3), net.input(3, name="y")))
    assert duplicates(graph) is graph


def test_dead_nodes_go_but_inputs_stay(net: Any, becomes: Any) -> None:
    x, y = net.input(3), net.input(3, name="y")
    net("mul", y, net.parameter(3))
    after = becomes(dead, net.graph(net("exp", x)), "exp")
    assert [n.name for n in after] == ["x", "y", "exp"]
