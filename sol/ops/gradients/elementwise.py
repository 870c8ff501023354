"""Gradients of element-wise operators: derivatives of their scalar meaning.

A derivative of one or two operations becomes nodes that passes know (`mul(dy, b)`), a longer one
the operator `derivative`, which is an epilogue like any other.
"""

from __future__ import annotations

from sol.ir.expr import SCALAR_OPS, Expr, walk
from sol.ir.graph import Builder, Node
from sol.ops.derivative import Derivative, derivative
from sol.ops.gradients.parts import Gradients, reshaped, summed_to
from sol.ops.registry import OPS

_FEW = 2  # operations that are nodes of their own


def elementwise(graph: Builder, node: Node, dy: Node, *inputs: Node) -> Gradients:
    """`dy * ∂y/∂x`, summed over the axes on which x was broadcast."""
    return [
        summed_to(graph, _by(graph, node, dy, inputs, n), x.shape)
        if x.dtype.kind == "float"
        else None
        for n, x in enumerate(inputs)
    ]


def _by(graph: Builder, node: Node, dy: Node, inputs: tuple[Node, ...], wrt: int) -> Node:
    dtypes = tuple(x.dtype for x in inputs)
    found = derivative(node.op, node.attrs, dtypes, node.dtype, wrt)
    known = dict(zip((found.dy, found.result, *found.operands), (dy, node, *inputs)))
    operations = [p for p in walk(found.value) if p.op in (*SCALAR_OPS, "cast")]
    if len(operations) <= _FEW and all(p.op in (*OPS, "cast") for p in operations):
        value = _as_node(graph, found.value, known)
        return value if value.shape == node.shape else graph.add("expand", value, shape=node.shape)
    return _as_derivative(graph, node, dy, inputs, found, wrt)


def _as_derivative(
    graph: Builder, node: Node, dy: Node, inputs: tuple[Node, ...], found: Derivative, wrt: int
) -> Node:
    read = (node,) if found.by_result else inputs
    return graph.add("derivative", dy, *read, of=node.op, given=node.attrs, wrt=wrt)


def _as_node(graph: Builder, x: Expr, known: dict[Expr, Node]) -> Node:
    if x in known:
        return known[x]
    if x.op == "const":
        return graph.constant(x.value, x.dtype)
    operands = [_as_node(graph, a, known) for a in x.args]
    if x.op == "cast":
        return graph.add("cast", *operands, dtype=x.dtype)
    return graph.add(x.op, *operands)


def prelu(graph: Builder, node: Node, dy: Node, x: Node, slope: Node) -> Gradients:
    """x > 0: dy and nothing; else dy * slope and dy * x, summed for each channel."""
    channels = x.tensor.rank > 1 and slope.shape == x.shape[1:2] and slope.shape != (1,)
    wide = slope.shape if not channels else (slope.shape[0], *[1] * (x.tensor.rank - 2))
    factor = reshaped(graph, slope, wide if channels else (1,) * slope.tensor.rank)
    zero = graph.constant(0.0, x.dtype)
    positive = graph.add("gt", x, zero)
    by_x = graph.add("where", positive, dy, graph.add("mul", dy, factor))
    by_slope = graph.add("where", positive, zero, graph.add("mul", dy, x))
    return by_x, reshaped(graph, summed_to(graph, by_slope, factor.shape), slope.shape)


def cast(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """dy in the type of x."""
    return [graph.add("cast", dy, dtype=x.dtype)] if x.dtype.kind == "float" else [None]
