"""Gradients of reductions: the gradient of the result, laid over what was reduced."""

from __future__ import annotations

from math import inf

from sol.core.dims import Dim, product
from sol.ir.graph import Builder, Node
from sol.ops.gradients.parts import Gradients, divided, number, restored, scaled, zeros


def sum_(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """dy for every element."""
    return [_over(graph, restored(graph, node, dy, x), x)]


def mean(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """dy / count for every element."""
    share = divided(graph, dy, product(x.shape[a] for a in node["axes"]))
    return [_over(graph, restored(graph, node, share, x), x)]


def _over(graph: Builder, value: Node, x: Node) -> Node:
    return value if value.shape == x.shape else graph.add("expand", value, shape=x.shape)


def prod(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """dy times the product of the others: y / x, and where there is one 0, the product without it
    for the 0 itself."""
    along = {"axes": node["axes"], "keepdims": True}
    zero, one = number(graph, 0.0, x), number(graph, 1.0, x)
    is_zero = graph.add("eq", x, zero)
    filled = graph.add("where", is_zero, one, x)
    rest = graph.add("prod", filled, **along)
    count = graph.add("sum", graph.add("cast", is_zero, dtype=x.dtype), **along)
    nowhere = graph.add("eq", count, zero)
    alone = graph.add("logical_and", is_zero, graph.add("eq", count, one))
    others = graph.add("where", nowhere, graph.add("div", rest, filled), zero)
    others = graph.add("where", alone, rest, others)
    return [graph.add("mul", restored(graph, node, dy, x), others)]


def extreme(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """Equal shares of dy for all elements that are the extreme, as PyTorch's amax has it."""
    hit = graph.add("eq", x, restored(graph, node, node, x))
    return [_shared(graph, hit, restored(graph, node, dy, x), node["axes"])]


def _shared(graph: Builder, hit: Node, dy: Node, axes: tuple[int, ...]) -> Node:
    count = graph.add("sum", graph.add("cast", hit, dtype=dy.dtype), axes=axes, keepdims=True)
    return graph.add("where", hit, graph.add("div", dy, count), number(graph, 0.0, dy))


def cumsum(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """The running sum from the end."""
    axis = node["axis"]
    turned = graph.add("flip", dy, axes=(axis,))
    return [graph.add("flip", graph.add("cumsum", turned, axis=axis), axes=(axis,))]


# ---- statistics ------------------------------------------------------------------------------


def var(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """2 dy (x - mean) / (count - correction)."""
    axes = node["axes"]
    count = product(x.shape[a] for a in axes)
    mean = graph.add("mean", x, axes=axes, keepdims=False)  # as batch normalisation has it
    centred = graph.add("sub", x, restored(graph, mean, mean, x))
    share = scaled(graph, restored(graph, node, dy, x), 2.0)
    if isinstance(count, Dim):
        share = divided(graph, share, count - int(node["correction"]))
    else:
        least = count - node["correction"]
        share = scaled(graph, share, 1.0 / least if least > 0 else inf)
    return [graph.add("mul", centred, share)]


def norm(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """dy sign(x) (|x| / y)^(ord - 1), 0 where y is 0; equal shares of extremes for ord = ±∞."""
    order, axes = float(node["ord"]), node["axes"]
    zero = number(graph, 0.0, x)
    y, change = restored(graph, node, node, x), restored(graph, node, dy, x)
    if order == 0:
        return [zeros(graph, x.shape, x.dtype)]
    sign = graph.add("sign", x)
    if order == 1:
        return [graph.add("mul", sign, change)]
    if abs(order) == inf:
        hit = graph.add("eq", graph.add("abs", x), y)
        return [graph.add("mul", sign, _shared(graph, hit, change, axes))]
    nothing = graph.add("eq", y, zero)
    if order == 2:
        share = graph.add("where", nothing, zero, graph.add("div", change, y))
        return [graph.add("mul", x, share)]
    power = number(graph, order - 1, x)
    share = graph.add("div", change, graph.add("pow", y, power))
    share = graph.add("where", nothing, zero, share)
    size = graph.add("mul", sign, graph.add("pow", graph.add("abs", x), power))
    return [graph.add("mul", size, share)]


def logsumexp(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """dy e^(x - y)."""
    powers = graph.add("exp", graph.add("sub", x, restored(graph, node, node, x)))
    return [graph.add("mul", restored(graph, node, dy, x), powers)]
