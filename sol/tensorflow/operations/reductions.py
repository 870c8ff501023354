"""Rows of reductions, softmax and running sums."""

from __future__ import annotations

from sol.ir.graph import Node
from sol.tensorflow.activations import softmax as softmax_along
from sol.tensorflow.context import Context, Value, dtype_of
from sol.tensorflow.layout import along, reduce
from sol.tensorflow.operations.table import OPERATIONS, operation

_OPERATORS = {
    "Sum": "sum", "Mean": "mean", "Max": "max_reduce", "Min": "min_reduce", "Prod": "prod",
    "All": "all", "Any": "any",
}  # fmt: skip


def _reduction(c: Context, x: Value, axes: Value) -> Node:
    x = c.node(x)
    over = c.numbers(axes, "the axes") if c.known(axes, "the axes").size else []
    if c.target == "Mean" and x.dtype.kind != "float":
        c.refuse(f"a mean of {x.dtype}")
    y = reduce(c, _OPERATORS[c.target], x, c.axes(over, x.tensor.rank), c.attrs["keep_dims"])
    return c.cast(y, x.dtype)


for _name in _OPERATORS:
    OPERATIONS[_name] = _reduction


@operation("ArgMax", "ArgMin")
def arg_extreme(c: Context, x: Node, dimension: Value) -> Node:
    """The first place of the largest or least element."""
    x = c.node(x)
    axis = c.axis(int(c.number(dimension, "the axis")), x.tensor.rank)
    op = "argmax" if c.target == "ArgMax" else "argmin"
    y = c.op(op, x, axis=axis, keepdims=False)
    return c.cast(y, dtype_of(c.attrs["output_type"].name, c.target))


@operation("Softmax", "LogSoftmax")
def softmax(c: Context, x: Node) -> Node:
    """Along the last axis."""
    op = "softmax" if c.target == "Softmax" else "log_softmax"
    return softmax_along(c, c.node(x), -1, op)


@operation("Cumsum")
def cumsum(c: Context, x: Node, axis: Value) -> Node:
    """Running sums along an axis."""
    if c.attrs["exclusive"] or c.attrs["reverse"]:
        c.refuse("sums without the element itself, or from the end")
    x = c.node(x)
    y = along(c, "cumsum", x, c.axis(int(c.number(axis, "the axis")), x.tensor.rank))
    return y if y.dtype == x.dtype else c.cast(y, x.dtype)


@operation("L2Loss")
def l2_loss(c: Context, x: Node) -> Node:
    """Half the sum of squares."""
    x = c.node(x)
    total = c.op("sum", c.op("square", x), axes=tuple(range(x.tensor.rank)), keepdims=False)
    return c.op("mul", total, c.constant(0.5, x.dtype))
