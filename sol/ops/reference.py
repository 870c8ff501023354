"""Runs graphs in NumPy: the living definition of every operator, and what set-up computes.

`evaluate` runs a whole graph, in float32 or, with `dtype=F64`, with everything that is float32 in
float64; tests and `check` compare with it. `evaluate_nodes` computes some values of a graph from
others: constants that a pass folds, and what depends on parameters only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import Dim, coefficients, concrete
from sol.core.dtypes import F32, F64, DType
from sol.core.errors import InputError, UnsupportedError
from sol.ir.expr import axis
from sol.ir.graph import Graph, Literal, Node, TensorType, types_of
from sol.ops.interpret import dtype_of, tabulate
from sol.ops.registry import OPS, Read, builder, expanded

Array = NDArray[Any]
Value = Array | tuple[Array, ...]


def evaluate(
    graph: Graph,
    inputs: Mapping[str, Any],
    parameters: Mapping[str, Any] | None = None,
    batch: int | None = None,
    dtype: DType | None = None,
) -> list[Array]:
    """The results of a graph, in order.

    inputs: arrays by the name of the input node; parameters: by their `key`. batch: the value of
    B, else found from the inputs. dtype: F64 computes in float64 what the graph has in float32.
    InputError if an array is missing or has another shape than its node.
    """
    batch = batch_of(graph, inputs) if batch is None else batch
    graph = graph.at_batch(batch)
    if dtype == F64:
        graph = in_float64(graph)
    values = {n.name: _given(n, inputs, n.name) for n in graph.inputs}
    values |= {n.name: _given(n, parameters or {}, n["key"]) for n in graph.parameters}
    found = evaluate_nodes(graph, graph.outputs, values)
    return [_array(found[name]) for name in graph.outputs]


def evaluate_nodes(
    graph: Graph, names: Iterable[str], values: Mapping[str, Value]
) -> dict[str, Value]:
    """The named values of a graph of fixed sizes, computed from the given ones and constants.

    Only what they need is computed, and nothing is kept longer than needed.
    InputError if an input or parameter that they need is not among `values`.
    """
    wanted = tuple(dict.fromkeys(names))
    needed = _needed(graph, wanted, values)
    uses = {n.name: 0 for n in needed}
    for n in needed:
        for i in n.inputs:
            uses[i] = uses.get(i, 0) + 1
    known: dict[str, Value] = dict(values)
    for n in needed:
        known[n.name] = evaluate_node(n, *(known[i] for i in n.inputs))
        for i in n.inputs:
            uses[i] -= 1
            if uses[i] == 0 and i not in wanted:
                known.pop(i, None)
    return {name: known[name] for name in wanted}


def evaluate_node(node: Node, *arrays: Value) -> Value:
    """The result of one node of fixed sizes: by its reference, its expression, or its graph."""
    entry = OPS[node.op]
    with np.errstate(all="ignore"):
        if entry.reference is not None:
            value = entry.reference(node, *arrays)
        elif entry.compute is not None:
            value = by_compute(node, *map(_array, arrays))
        else:
            value = by_expansion(node, *map(_array, arrays))
    types = types_of(node)
    results = value if isinstance(value, tuple) else (value,)
    kept = tuple(_conformed(node, r, t) for r, t in zip(results, types, strict=True))
    return kept if isinstance(node.type, tuple) else kept[0]


# ---- the three ways to a value -------------------------------------------------------------------


def by_compute(node: Node, *arrays: Array) -> Array:
    """The result of a node by its index expression, evaluated at every index."""
    entry = OPS[node.op]
    if entry.compute is None:
        raise UnsupportedError(node.op, "it has no index expression")
    names = [f"x{n}" for n in range(len(arrays))]
    axes = [axis(f"{node.name}_i{n}", size) for n, size in enumerate(node.shape)]
    reads = [Read.of(name, type_of(a)) for name, a in zip(names, arrays)]
    return tabulate(entry.compute(node, axes, *reads), axes, dict(zip(names, arrays)))


def by_expansion(node: Node, *arrays: Array) -> Value:
    """The result of a node by the graph that it expands into."""
    graph = expansion(node, [type_of(a) for a in arrays])
    inputs = dict(zip((n.name for n in graph.inputs), arrays))
    results = tuple(evaluate(graph, inputs, batch=1))
    return results if isinstance(node.type, tuple) else results[0]


def expansion(node: Node, types: Sequence[TensorType]) -> Graph:
    """A graph of what a node expands into; its inputs have these types."""
    entry = OPS[node.op]
    if entry.expand is None:
        raise UnsupportedError(node.op, "it does not expand into other operators")
    graph = builder()
    inputs = [graph.input(f"x{n}", t) for n, t in enumerate(types)]
    return graph.finish(expanded(graph, node, inputs))


# ---- types, sizes, float64 -----------------------------------------------------------------------


def type_of(array: Array) -> TensorType:
    """The type of an array."""
    return TensorType(array.shape, dtype_of(array))


def batch_of(graph: Graph, inputs: Mapping[str, Any]) -> int:
    """The batch size B that the shapes of the inputs give; 1 if no input depends on it."""
    for node in graph.inputs:
        if node.name not in inputs:
            continue
        for size, actual in zip(node.shape, np.shape(inputs[node.name])):
            if isinstance(size, Dim):
                coef, const = coefficients(size)
                return (int(actual) - const) // coef
    return 1


def in_float64(graph: Graph) -> Graph:
    """The graph with float64 wherever it has float32: types, attributes and constants."""
    return Graph(tuple(_node_in_float64(n) for n in graph.nodes), graph.outputs)


def _node_in_float64(node: Node) -> Node:
    types = tuple(TensorType(t.shape, _double(t.dtype)) for t in types_of(node))
    attrs = tuple((k, _double(v)) for k, v in node.attrs)
    return replace(node, type=types if isinstance(node.type, tuple) else types[0], attrs=attrs)


def _double(value: Any) -> Any:
    match value:
        case DType() if value == F32:
            return F64
        case Literal() if value.dtype == F32:
            return Literal.of(value.array.astype("float64"), F64)
    return value


def _needed(graph: Graph, wanted: Sequence[str], values: Mapping[str, Value]) -> list[Node]:
    """The nodes to compute, in order."""
    needed: set[str] = set()
    for n in reversed(graph.nodes):
        if (n.name in wanted or n.name in needed) and n.name not in values:
            needed.add(n.name)
            needed.update(i for i in n.inputs if i not in values)
    nodes = [n for n in graph.nodes if n.name in needed]
    missing = [n.name for n in nodes if n.op in ("input", "parameter")]
    if missing:
        raise InputError(f"no values for {', '.join(missing)}", do="give an array for each")
    return nodes


def _given(node: Node, arrays: Mapping[str, Any], key: str) -> Array:
    if key not in arrays:
        raise InputError(
            f"no array for the {node.op} {key}", expected=f"{node.type}", do=f"given: {[*arrays]}"
        )
    array = np.asarray(arrays[key])
    if array.shape != concrete(node.shape, 1):
        raise InputError(f"the {node.op} {key} has shape {array.shape}", expected=f"{node.type}")
    return array.astype(node.dtype.numpy, copy=False)


def _array(value: Value) -> Array:
    assert not isinstance(value, tuple), "a node with several results is read through `item`"
    return value


def _conformed(node: Node, value: Any, type: TensorType) -> Array:
    array = np.asarray(value)
    shape = concrete(type.shape, 1)
    assert array.shape == shape, f"{node.name} = {node.op}: {array.shape}, not {shape}"
    return array.astype(type.dtype.numpy, copy=False)
