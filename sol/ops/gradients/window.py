"""Gradients of windows: each result's gradient back to what its window held. Interpolation and
adaptive pooling are matrices on each axis, and so are their gradients."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from sol.core.dtypes import F64, U8
from sol.core.errors import UnsupportedError
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.gradients.parts import Gradients, permuted, reshaped
from sol.ops.reference import by_compute
from sol.ops.registry import infer
from sol.ops.rules import numbers

Ints = tuple[int, ...]
Window = dict[str, Any]  # kernel, stride, padding, dilation
_MOST_PLACES = 255  # of a window, whose numbers fit into a byte


def max_pool(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """To the first largest element, whose number in its window is kept, a byte."""
    window: Window = {k: node[k] for k in ("kernel", "stride", "padding", "dilation")}
    return [_to_largest(graph, node, dy, x, window)]


def _to_largest(graph: Builder, node: Node, dy: Node, x: Node, window: Window) -> Node:
    place = graph.add("max_pool_index", x, node, **window)
    if prod(window["kernel"]) <= _MOST_PLACES:
        place = graph.add("cast", graph.add("cast", place, dtype=U8), dtype=x.dtype)
    size = numbers(node.op, "a spatial size", x.shape[2:])
    return graph.add("spread", dy, place, size=size, **window)


def avg_pool(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """dy / count to every element of the window."""
    kernel: Ints = node["kernel"]
    ones = (1,) * len(kernel)
    size = numbers("avg_pool", "a spatial size", x.shape[2:])
    share = graph.add("mul", dy, graph.constant(1.0 / _counts(node, size), dy.dtype))
    window: Window = {"kernel": kernel, "stride": node["stride"], "padding": node["padding"]}
    return [graph.add("spread", share, size=size, dilation=ones, **window)]


def _counts(node: Node, size: Ints) -> Any:
    """The divisor of every window."""
    places = numbers("avg_pool", "a spatial size", node.shape[2:])
    if node["divisor"] is not None:
        return np.full(places, float(node["divisor"]))
    count = np.ones(())
    for n, k, s, p, extent in zip(places, node["kernel"], node["stride"], node["padding"], size):
        border = p if node["count_include_pad"] else 0
        start = np.arange(n) * s - p
        length = np.minimum(start + k, extent + border) - np.maximum(start, -border)
        count = count[..., None] * length
    return count


# ---- adaptive pooling, interpolation ---------------------------------------------------------


def _even(size: Ints, extents: Ints) -> Ints | None:
    """The length of all windows where they divide the input evenly."""
    even = all(n % o == 0 for n, o in zip(extents, size))
    return tuple(n // o for n, o in zip(extents, size)) if even else None


def adaptive_avg_pool(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """As avg_pool where all windows are of one size, else by the matrix of each axis."""
    extents = numbers("adaptive_avg_pool", "a spatial size", x.shape[2:])
    length = _even(node["size"], extents)
    if length is None:
        return [_by_matrices(graph, node, dy, x, lambda n, o: {"size": (o,)})]
    share = graph.add("mul", dy, graph.constant(1.0 / prod(length), dy.dtype))
    ones, none = (1,) * len(length), (0,) * len(length)
    window: Window = {"kernel": length, "stride": length, "padding": none, "dilation": ones}
    return [graph.add("spread", share, size=extents, **window)]


def adaptive_max_pool(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """As max_pool; refused where windows overlap."""
    length = _even(node["size"], numbers("adaptive_max_pool", "a spatial size", x.shape[2:]))
    if length is None:
        raise UnsupportedError(
            "adaptive_max_pool",
            f"the gradient with windows that overlap: {node['size']} results of {x.type}",
            expected="sizes that divide the input's",
        )
    ones, none = (1,) * len(length), (0,) * len(length)
    window: Window = {"kernel": length, "stride": length, "padding": none, "dilation": ones}
    return [_to_largest(graph, node, dy, x, window)]


def interpolate(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """By the matrix of each axis, transposed."""
    scales = iter(node["scales"] or (None,) * len(node["size"]))

    def attrs(extent: int, results: int) -> dict[str, Any]:
        scale = next(scales)
        mode = node["mode"]
        more = mode == "cubic"  # it is defined for two axes only
        return {
            "size": (results, 1) if more else (results,),
            "mode": mode,
            "align_corners": node["align_corners"],
            "scales": None if scale is None else (scale, 1.0) if more else (scale,),
        }

    return [_by_matrices(graph, node, dy, x, attrs)]


Attributes = Callable[[int, int], dict[str, Any]]


def _by_matrices(graph: Builder, node: Node, dy: Node, x: Node, attrs: Attributes) -> Node:
    """dy times the matrix of every axis: y = M x on that axis."""
    extents = numbers(node.op, "a spatial size", x.shape[2:])
    for axis, (extent, results) in enumerate(zip(extents, node["size"]), 2):
        given = attrs(extent, results)
        matrix = _matrix(node.op, extent, given)
        if extent == results and np.array_equal(matrix, np.eye(extent)):
            continue
        order = [k for k in range(dy.tensor.rank) if k != axis]
        last = permuted(graph, dy, [*order, axis])
        last = graph.add("linear", last, graph.constant(matrix, dy.dtype))
        dy = permuted(graph, last, [*range(axis), dy.tensor.rank - 1, *range(axis, len(order))])
    return reshaped(graph, dy, x.shape)


def _matrix(op: str, extent: int, attrs: dict[str, Any]) -> Any:
    """What the operator makes of each unit vector of an axis, [extent, results]."""
    unit = np.eye(extent).reshape(extent, 1, extent, *[1] * (len(attrs["size"]) - 1))
    kind = TensorType(unit.shape, F64)
    result: Any = infer(op, (kind,), attrs)
    node = Node("y", op, ("x",), tuple(sorted(attrs.items())), result)
    return by_compute(node, unit).reshape(extent, -1)
