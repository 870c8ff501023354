"""Rows of gathering: elements at places that a tensor holds. Places are not checked, as TensorFlow
does not on every device; those outside are the user's mistake."""

from __future__ import annotations

import numpy as np

from sol.core.dtypes import I32, I64
from sol.ir.graph import Node
from sol.tensorflow.context import Context, Known, Value, dtype_of
from sol.tensorflow.operations.table import operation


@operation("GatherV2", "Gather")
def gather(c: Context, x: Value, index: Value, axis: Value | None = None) -> Value:
    """Slices of x at the places of an index."""
    place = 0 if axis is None else c.axis(int(c.number(axis, "the axis")), len(x.shape))
    if c.target == "GatherV2" and c.attrs["batch_dims"]:
        c.refuse("an index for each element of leading axes")
    if isinstance(x, Known) and isinstance(index, Known):
        return Known.of(np.take(x.array, index.array.astype(int), place), x.dtype)
    at = c.node(index)
    return c.op("take", c.node(x), at if at.dtype in (I32, I64) else c.cast(at, I64), axis=place)


@operation("ResourceGather")
def resource_gather(c: Context, x: Node, index: Node) -> Node:
    """Rows of a variable."""
    if c.attrs["batch_dims"]:
        c.refuse("an index for each element of leading axes")
    return c.op("take", x, c.node(index), axis=0)


@operation("OneHot")
def one_hot(c: Context, index: Node, depth: Value, on: Value, off: Value) -> Node:
    """1 at the place that an index names, else 0, along a new last axis."""
    index = c.node(index)
    if c.attrs["axis"] not in (-1, index.tensor.rank):
        c.refuse("an axis that is not the last one")
    y = c.op("one_hot", index, classes=int(c.number(depth, "the number of classes")))
    values = (c.number(on, "its value"), c.number(off, "its value"))
    if values != (1, 0):
        c.refuse(f"values other than 1 and 0: {values}")
    return c.cast(y, dtype_of(c.attrs["T"].name, c.target))


@operation("MatrixBandPart")
def band_part(c: Context, x: Node, lower: Value, upper: Value) -> Node:
    """A band around the diagonal of matrices."""
    x = c.node(x)
    below, above = int(c.number(lower, "the band")), int(c.number(upper, "the band"))
    if below >= 0:
        x = c.op("triu", x, diagonal=-below)
    return c.op("tril", x, diagonal=above) if above >= 0 else x
