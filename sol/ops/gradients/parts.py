"""What gradients of all families share: zeros, numbers, sums over axes that were broadcast."""

from __future__ import annotations

from collections.abc import Sequence

from sol.core.dims import Shape, Size
from sol.core.dtypes import DType
from sol.ir.graph import Builder, Node

Gradients = Sequence[Node | None]


def number(graph: Builder, value: float, like: Node) -> Node:
    """A number of the element type of another value."""
    return graph.constant(float(value), like.dtype)


def zeros(graph: Builder, shape: Shape, dtype: DType) -> Node:
    """Zeros of a shape, which take no memory."""
    return graph.add("full", shape=shape, value=0.0, dtype=dtype)


def scaled(graph: Builder, x: Node, factor: float) -> Node:
    """x times a number."""
    return x if factor == 1 else graph.add("mul", x, number(graph, factor, x))


def reshaped(graph: Builder, x: Node, shape: Shape) -> Node:
    """x in another shape; x itself if it has it."""
    return x if x.shape == tuple(shape) else graph.add("reshape", x, shape=tuple(shape))


def permuted(graph: Builder, x: Node, axes: Sequence[int]) -> Node:
    """x with its axes in another order; x itself if it is this order."""
    return x if list(axes) == sorted(axes) else graph.add("permute", x, axes=tuple(axes))


def summed(graph: Builder, x: Node, axes: Sequence[int], keepdims: bool = True) -> Node:
    """The sum over axes; x itself if there are none."""
    return graph.add("sum", x, axes=tuple(axes), keepdims=keepdims) if axes else x


def summed_to(graph: Builder, x: Node, shape: Shape) -> Node:
    """x summed over the axes on which a value of `shape` was broadcast to it."""
    more = x.tensor.rank - len(shape)
    spread = [k for k, s in enumerate(shape, more) if s == 1 and x.shape[k] != 1]
    return reshaped(graph, summed(graph, x, (*range(more), *spread)), shape)


def outside(x: Node, axes: Sequence[int]) -> Shape:
    """The shape that broadcasts to x of what was reduced over axes."""
    return tuple(1 if k in axes else s for k, s in enumerate(x.shape))


def restored(graph: Builder, node: Node, value: Node, x: Node) -> Node:
    """A value of the shape of a reduction of x, with the reduced axes as axes of size 1."""
    return reshaped(graph, value, outside(x, node["axes"]))


def divided(graph: Builder, x: Node, size: Size) -> Node:
    """x / a size, which may depend on the batch."""
    if isinstance(size, int):
        return scaled(graph, x, 1.0 / size if size else float("nan"))
    return graph.add("div", x, graph.add("extent", size=size, dtype=x.dtype))
