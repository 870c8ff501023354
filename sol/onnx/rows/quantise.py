"""Rows of quantisation: numbers as small integers with a scale and a zero point."""

from __future__ import annotations

import numpy as np
import onnx

from sol.core.dtypes import F32, I32
from sol.ir.graph import Node
from sol.onnx.rows.table import row
from sol.onnx.types import COMPUTED
from sol.onnx.values import Call, Results, Typed

_NARROW = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.INT16)


def _along(c: Call, x: Node, rank: int) -> Node:
    """A scale or zero point so that it broadcasts: one number, or one for each place of an axis."""
    if x.tensor.rank == 0 or x.shape == (1,):
        return c.reshape(x, ())
    if c.attr("block_size", 0) or x.tensor.rank != 1:
        c.refuse("it is quantised in blocks")
    axis = c.axis(c.attr("axis", 1), rank)
    return c.reshape(x, tuple(x.shape[0] if k == axis else 1 for k in range(rank)))


@row("QuantizeLinear")
def quantize_linear(c: Call) -> Results:
    """round(x / scale) + zero point, within the range of the type."""
    elem = c.elem(2) if c.has(2) else c.attr("output_dtype", 0) or onnx.TensorProto.UINT8
    if elem not in _NARROW:
        c.refuse("to a type that Sol does not compute with")
    x = c.cast(c.x(0), F32)
    rank, limits = x.tensor.rank, np.iinfo(COMPUTED[elem].numpy)
    y = c.add("round", c.add("div", x, _along(c, c.x(1), rank)))
    if c.has(2):
        y = c.add("add", y, c.cast(_along(c, c.x(2), rank), F32))
    y = c.add("clamp", y, low=float(limits.min), high=float(limits.max))
    return Typed(c.cast(c.cast(y, I32), COMPUTED[elem]), elem)


@row("DequantizeLinear")
def dequantize_linear(c: Call) -> Results:
    """(x - zero point) * scale."""
    x = c.x(0)
    rank = x.tensor.rank
    y = c.cast(x, F32)
    if c.has(2):
        y = c.add("sub", y, c.cast(_along(c, c.x(2), rank), F32))
    elem = c.attr("output_dtype", 0) or c.elem(1)
    return Typed(c.add("mul", y, _along(c, c.x(1), rank)), elem)
