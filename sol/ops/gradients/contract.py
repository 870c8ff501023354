"""Gradients of contractions are contractions: a convolution's is a transposed one, and the other
way round; weights get the products of what came in and what came back, summed over places."""

from __future__ import annotations

from sol.ir.graph import Builder, Node
from sol.ops.gradients.move import cut, padded
from sol.ops.gradients.parts import Gradients, permuted, summed, summed_to
from sol.ops.rules import numbers


def conv(graph: Builder, node: Node, dy: Node, x: Node, weight: Node, *bias: Node) -> Gradients:
    """dx: `conv_transpose(dy, W)`; dW: `conv_weight_gradient(x, dy)`; db: sums of dy."""
    kernel = numbers("conv", "a weight size", weight.shape[2:])
    extents = numbers("conv", "a size", x.shape[2:])
    places = numbers("conv", "a size", dy.shape[2:])
    low = [before for before, _ in node["padding"]]
    window = {k: node[k] for k in ("stride", "dilation", "groups")}
    missing = [
        n - ((o - 1) * s - 2 * p + d * (k - 1) + 1)
        for n, o, s, p, d, k in zip(extents, places, node["stride"], low, node["dilation"], kernel)
    ]
    more = tuple(max(0, m) for m in missing)
    dx = graph.add("conv_transpose", dy, weight, padding=tuple(low), output_padding=more, **window)
    for axis, extent in enumerate(extents, 2):
        dx = cut(graph, dx, axis, 0, extent)
    dw = graph.add("conv_weight_gradient", x, dy, kernel=kernel, padding=node["padding"], **window)
    return dx, dw, *(_bias(graph, dy) for _ in bias)


def conv_transpose(
    graph: Builder, node: Node, dy: Node, x: Node, weight: Node, *bias: Node
) -> Gradients:
    """dx: `conv(dy, W)`; dW: `conv_weight_gradient(dy, x)`; db: sums of dy."""
    kernel = numbers("conv_transpose", "a weight size", weight.shape[2:])
    extents = numbers("conv_transpose", "a size", x.shape[2:])
    totals = numbers("conv_transpose", "a size", dy.shape[2:])
    window = {k: node[k] for k in ("stride", "dilation", "groups")}
    high = [
        (n - 1) * s + d * (k - 1) + 1 - total - p
        for n, s, d, k, total, p in zip(
            extents, node["stride"], node["dilation"], kernel, totals, node["padding"]
        )
    ]
    read = padded(graph, dy, [0] * dy.tensor.rank, [0, 0, *(min(0, h) for h in high)])
    pads = tuple((p, max(0, h)) for p, h in zip(node["padding"], high))
    dx = graph.add("conv", read, weight, padding=pads, **window)
    dw = graph.add("conv_weight_gradient", read, x, kernel=kernel, padding=pads, **window)
    return dx, dw, *(_bias(graph, dy) for _ in bias)


def _bias(graph: Builder, dy: Node) -> Node:
    return summed(graph, dy, [k for k in range(dy.tensor.rank) if k != 1], False)


def linear(graph: Builder, node: Node, dy: Node, x: Node, weight: Node, *bias: Node) -> Gradients:
    """dx: `linear(dy, Wᵀ)`; dW: `linear_weight_gradient(x, dy)`; db: sums of dy."""
    dx = graph.add("linear", dy, graph.add("permute", weight, axes=(1, 0)))
    dw = graph.add("linear_weight_gradient", x, dy)
    return dx, dw, *(summed(graph, dy, range(dy.tensor.rank - 1), False) for _ in bias)


def matmul(graph: Builder, node: Node, dy: Node, a: Node, b: Node) -> Gradients:
    """da: dy bᵀ; db: aᵀ dy, of one matrix b for all as a sum over all rows."""
    by_a = graph.add("matmul", dy, _transposed(graph, b))
    if b.tensor.rank == 2:
        return summed_to(graph, by_a, a.shape), graph.add("linear_weight_gradient", dy, a)
    by_b = graph.add("matmul", _transposed(graph, a), dy)
    return summed_to(graph, by_a, a.shape), summed_to(graph, by_b, b.shape)


def _transposed(graph: Builder, x: Node) -> Node:
    rank = x.tensor.rank
    return permuted(graph, x, (*range(rank - 2), rank - 1, rank - 2))
