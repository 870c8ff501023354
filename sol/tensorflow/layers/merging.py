"""Rows of layers that join values: sums, products, extremes, concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers as k

from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.tensorflow.activations import scalar
from sol.tensorflow.context import Context
from sol.tensorflow.layers.table import layer
from sol.tensorflow.layout import concat, pointwise

_OPERATORS = {
    k.Add: "add",
    k.Multiply: "mul",
    k.Maximum: "max",
    k.Minimum: "min",
    k.Subtract: "sub",
    k.Average: "add",
}


@layer(*_OPERATORS)
def merge(c: Context, of: Any, xs: Sequence[Node]) -> Node:
    """Element by element."""
    operator = _OPERATORS[type(of)]
    rank = max(x.tensor.rank for x in xs)
    if any(x.tensor.rank != rank for x in xs):
        c.refuse("values with different numbers of axes")
    y = c.floating(xs[0])
    for x in xs[1:]:
        y = pointwise(c, operator, y, c.floating(x))
    return scalar(c, "mul", y, 1.0 / len(xs)) if type(of) is k.Average else y


@layer(k.Concatenate)
def concatenate(c: Context, of: Any, xs: Sequence[Node]) -> Node:
    """One after the other along an axis."""
    if len({x.dtype for x in xs}) > 1:
        xs = [c.cast(x, F32) for x in xs]
    return concat(c, xs, c.axis(of.axis, xs[0].tensor.rank))
