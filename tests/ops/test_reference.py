"""The NumPy reference: whole graphs, parts of graphs, float64, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import sol.ops  # noqa: F401  fills the table
from sol.core.dims import B
from sol.core.dtypes import BOOL, F32, F64, I64
from sol.core.errors import InputError, UnsupportedError
from sol.ir.expr import apply, axis, const, load, reduce, where
from sol.ir.graph import Graph, TensorType
from sol.ops.interpret import Scope, interpret, tabulate
from sol.ops.reference import (
    batch_of,
    by_compute,
    by_expansion,
    evaluate,
    evaluate_nodes,
    in_float64,
    type_of,
)
from sol.ops.registry import builder


def linear_graph() -> Graph:
    """relu(x w + 1) with a parameter w, and twice w."""
    graph = builder()
    x = graph.input("x", TensorType((B, 3), F32))
    w = graph.parameter("layer.weight", TensorType((2, 3), F32))
    one = graph.constant(1.0, F32)
    shifted = graph.add("add", graph.add("linear", x, w), one)
    return graph.finish([graph.add("relu", shifted), graph.add("add", w, w, name="twice")])


W = np.array([[1, 2, 3], [-4, -5, -6]], "float32")


@pytest.mark.parametrize("batch", [1, 4])
def test_a_graph_runs_for_any_batch(batch: int) -> None:
    x = np.ones((batch, 3), "float32")
    y, twice = evaluate(linear_graph(), {"x": x}, {"layer.weight": W})
    assert y.tolist() == [[7.0, 0.0]] * batch
    assert y.dtype == np.float32
    assert twice.tolist() == (2 * W).tolist()
    assert batch_of(linear_graph(), {"x": x}) == batch


def test_float64_computes_what_float32_rounds_away() -> None:
    graph = builder()
    x = graph.input("x", TensorType((), F32))
    third = graph.add("div", graph.add("cast", x, dtype=F32), graph.constant(3.0, F32))
    flags = graph.add("lt", third, graph.constant(np.float32(1), F32))
    whole = graph.finish([third, flags])
    one = np.array(1.0)
    assert evaluate(whole, {"x": one})[0] == np.float32(1) / np.float32(3)
    third_in_double, flag = evaluate(whole, {"x": one}, dtype=F64)
    assert third_in_double == 1 / 3
    assert flag.dtype == bool
    assert {n.dtype for n in in_float64(whole)} == {F64, BOOL}


def test_some_nodes_of_a_graph() -> None:
    graph = linear_graph()
    w = graph.parameters[0].name
    found = evaluate_nodes(graph, ["twice"], {w: W})
    assert list(found) == ["twice"]
    assert np.array_equal(np.asarray(found["twice"]), 2 * W)
    assert evaluate_nodes(graph, [w], {w: W})[w] is W
    assert evaluate_nodes(graph, [], {}) == {}


def test_several_results() -> None:
    graph = builder()
    x = graph.input("x", TensorType((2, 1, 3), F32))
    state = graph.input("h", TensorType((1, 1, 4), F32))
    weights = [graph.input(n, TensorType(s, F32)) for n, s in (("i", (4, 3)), ("w", (4, 4)))]
    attrs = {"layers": 1, "bidirectional": False, "bias": False, "batch_first": False}
    node = graph.add("rnn", x, state, *weights, nonlinearity="relu", **attrs)
    whole = graph.finish([graph.add("item", node, index=1), graph.add("item", node, index=0)])
    arrays = {n.name: np.full([int(s) for s in n.shape], 0.5) for n in whole.inputs}
    last, sequence = evaluate(whole, arrays)
    assert last.shape == (1, 1, 4)
    assert np.array_equal(sequence[-1:], last)


def test_a_missing_array_is_named() -> None:
    x = np.ones((1, 3))
    with pytest.raises(InputError, match=r"no array for the parameter layer\.weight"):
        evaluate(linear_graph(), {"x": x})
    with pytest.raises(InputError, match="no array for the input x"):
        evaluate(linear_graph(), {}, {"layer.weight": W})
    with pytest.raises(InputError, match="no values for layer_weight"):
        evaluate_nodes(linear_graph(), ["twice"], {})


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(InputError, match=r"x has shape \(2, 4\)\n.*f32\[2, 3\]"):
        evaluate(linear_graph(), {"x": np.ones((2, 4))}, {"layer.weight": W})


def test_an_index_out_of_range_is_refused_by_the_reference_and_clamped_by_the_expression() -> None:
    graph = builder()
    x = graph.input("x", TensorType((4,), F32))
    i = graph.input("i", TensorType((3,), I64))
    node = graph.add("take", x, i, axis=0)
    arrays = {"x": np.arange(4, dtype="float32"), "i": np.array([-9, -1, 4])}
    with pytest.raises(IndexError):
        evaluate(graph.finish([node]), arrays)
    assert by_compute(node, *arrays.values()).tolist() == [0.0, 3.0, 3.0]


def test_each_way_needs_its_definition() -> None:
    graph = linear_graph()
    relu = next(n for n in graph if n.op == "relu")
    with pytest.raises(UnsupportedError, match="does not expand"):
        by_expansion(relu, W)
    softmax = builder()
    x = softmax.input("x", TensorType((3,), F32))
    with pytest.raises(UnsupportedError, match="no index expression"):
        by_compute(softmax.add("softmax", x, axis=0), W[0])


def test_type_of_an_array() -> None:
    assert type_of(W) == TensorType((2, 3), F32)


# ---- expressions ---------------------------------------------------------------------------------

i, j, k = axis("i", 5), axis("j", 4), axis("k", 3)
X = np.arange(20, dtype="float32").reshape(5, 4)


def test_a_guarded_load_may_be_out_of_range() -> None:
    x = where(i < 3, load("x", F32, i + 2, j), const(-1.0))
    found = tabulate(x, [i, j], {"x": X})
    assert np.array_equal(found[:3], X[2:])
    assert (found[3:] == -1).all()


def test_a_load_out_of_range_without_a_guard_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="out of range"):
        tabulate(load("x", F32, i + 1, j), [i, j], {"x": X})
    with pytest.raises(AssertionError, match="out of range"):
        tabulate(where(i < 4, load("x", F32, i + 2, j), 0.0), [i, j], {"x": X})
    with pytest.raises(AssertionError, match="out of range"):
        tabulate(where(i < 3, 0.0, load("x", F32, i - 4, j)), [i, j], {"x": X})


def test_a_load_needs_an_index_for_each_axis() -> None:
    with pytest.raises(AssertionError, match="reads a tensor of shape"):
        tabulate(load("x", F32, i), [i], {"x": X})


def test_nested_reductions() -> None:
    top = reduce("max", [k], load("x", F32, i, k))
    total = reduce("sum", [j], load("x", F32, i, j) - top)
    expected = (X - X[:, :3].max(1, keepdims=True)).sum(1)
    assert np.array_equal(tabulate(total, [i], {"x": X}), expected)


@pytest.mark.parametrize(
    ("kind", "empty"), [("sum", 0), ("prod", 1), ("max", -np.inf), ("min", np.inf)]
)
def test_a_reduction_over_nothing_is_its_neutral_element(kind: str, empty: float) -> None:
    nothing = axis("z", 0)
    x = reduce(kind, [nothing], load("x", F32, i, nothing))  # type: ignore[arg-type]
    assert (tabulate(x, [i], {"x": np.zeros((5, 0), "float32")}) == empty).all()


def test_a_grid_is_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = apply("exp", load("x", F32, i, j)) * 2
    expected = tabulate(whole, [i, j], {"x": X})
    monkeypatch.setattr("sol.ops.interpret._PIECE", 6)
    assert np.array_equal(tabulate(whole, [i, j], {"x": X}), expected)


def test_without_axes_there_is_one_value() -> None:
    assert tabulate(const(2.5), [], {}).item() == 2.5
    assert interpret(load("x", F32), Scope({"x": X})) is X
