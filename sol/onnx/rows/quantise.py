"""Rows of quantisation: numbers as small integers with a scale and a zero point, and products of
such numbers. Products are exact, in int32; what scales them is float64, and is rounded once.
"""

from __future__ import annotations

import numpy as np
import onnx

from sol.core.dtypes import F32, F64, I32, I64
from sol.ir.graph import Node
from sol.onnx.rows.contraction import convolved, product
from sol.onnx.rows.table import row
from sol.onnx.types import BITS, COMPUTED
from sol.onnx.values import Call, Results, Typed

_T = onnx.TensorProto
_NARROW = (_T.UINT8, _T.INT8, _T.UINT16, _T.INT16, *BITS)


def limits(elem: int) -> tuple[int, int]:
    """The smallest and the largest number of an integer type."""
    info = np.iinfo(COMPUTED[elem].numpy)
    if elem not in BITS:
        return int(info.min), int(info.max)
    bits = BITS[elem]
    return (0, (1 << bits) - 1) if info.min == 0 else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _along(c: Call, x: Node, data: Node) -> Node:
    """A scale or zero point so that it broadcasts: one number, one for each place of an axis, or
    one for each block of an axis."""
    rank, block = data.tensor.rank, c.attr("block_size", 0)
    if block:
        return _in_blocks(c, x, data, block)
    if x.tensor.rank == 0 or x.shape == (1,):
        return c.reshape(x, ())
    if x.tensor.rank != 1:
        c.refuse(f"scales with {x.tensor.rank} axes")
    axis = c.axis(c.attr("axis", 1), rank)
    return c.reshape(x, tuple(x.shape[0] if k == axis else 1 for k in range(rank)))


def _in_blocks(c: Call, x: Node, data: Node, block: int) -> Node:
    axis = c.axis(c.attr("axis", 1), data.tensor.rank)
    if x.tensor.rank != data.tensor.rank or block < 1:
        c.refuse(f"blocks of {block} with scales of {x.tensor.rank} axes")
    before, count, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    wide = c.expand(c.reshape(x, (*before, count, 1, *after)), (*before, count, block, *after))
    return c.slice(c.reshape(wide, (*before, count * block, *after)), axis, 0, data.shape[axis])


def _scale(c: Call, place: int) -> Node:
    """A scale; as a constant of the program it would be divided by in another way, which may round
    to the other side."""
    known = c.known(place)
    return c.x(place) if known is None else c.parts.stored(known)


@row("QuantizeLinear")
def quantize_linear(c: Call) -> Results:
    """round(x / scale) + zero point, within the range of the type."""
    elem = c.elem(2) if c.has(2) else c.attr("output_dtype", 0) or _T.UINT8
    if elem not in _NARROW:
        c.refuse("to a type that Sol does not compute with")
    x = c.x(0)
    x = c.cast(x, F32 if x.dtype.kind == "float" else F64)
    y = c.add("round", c.add("div", x, _along(c, _scale(c, 1), x)))
    if c.has(2):
        y = c.add("add", y, c.cast(_along(c, c.x(2), x), F32))
    return _limited(c, y, elem)


def _limited(c: Call, y: Node, elem: int) -> Typed:
    """Whole numbers in floating point as an integer type, those beyond it as its ends."""
    low, high = limits(elem)
    y = c.add("clamp", y, low=float(low), high=float(high))
    return Typed(c.cast(c.cast(y, I32), COMPUTED[elem]), elem)


@row("DequantizeLinear")
def dequantize_linear(c: Call) -> Results:
    """(x - zero point) * scale."""
    x = c.x(0)
    y = c.cast(x, F32)
    if c.has(2):
        y = c.add("sub", y, c.cast(_along(c, c.x(2), x), F32))
    elem = c.attr("output_dtype", 0) or c.elem(1)
    return Typed(c.add("mul", y, _along(c, c.x(1), x)), elem)


# ---- products of quantised numbers


def _centred(c: Call, x: int, zero: int, axis: int) -> Node:
    """x without its zero point, in int32: one for all, or one for each place of an axis."""
    node = c.cast(c.x(x), I32)
    if not c.has(zero):
        return node
    point = c.cast(c.x(zero), I32)
    return c.add("sub", node, _placed(c, point, node, axis))


def _placed(c: Call, numbers: Node, x: Node, axis: int) -> Node:
    """Numbers so that they broadcast against x; with several axes they do."""
    if numbers.tensor.rank == 0 or numbers.shape == (1,):
        return c.reshape(numbers, ())
    if numbers.tensor.rank > 1 or x.tensor.rank == 1:
        return numbers
    axis %= x.tensor.rank
    return c.reshape(numbers, tuple(s if k == axis else 1 for k, s in enumerate(x.shape)))


@row("MatMulInteger")
def matmul_integer(c: Call) -> Results:
    """(a - zero point) (b - zero point), in int32."""
    return product(c, _centred(c, 0, 2, -2), _centred(c, 1, 3, -1))


@row("ConvInteger")
def conv_integer(c: Call) -> Results:
    """The convolution of x - zero point by w - zero point, in int32."""
    return convolved(c, _centred(c, 0, 2, 1), _centred(c, 1, 3, 0))


@row("QLinearMatMul")
def qlinear_matmul(c: Call) -> Results:
    """The product of quantised matrices, quantised."""
    total = product(c, _centred(c, 0, 2, -2), _centred(c, 3, 5, -1))
    a, b, y = (_placed(c, c.x(n), total, axis) for n, axis in ((1, -2), (4, -1), (6, -2)))
    return _requantised(c, total, c.add("mul", a, b), y, 7, -2)


@row("QLinearConv")
def qlinear_conv(c: Call) -> Results:
    """The convolution of quantised numbers, quantised; the bias is in int32."""
    x, weight = _centred(c, 0, 2, 1), _centred(c, 3, 5, 0)
    total = convolved(c, x, weight, [c.x(8)] if c.has(8) else [])
    a, b, y = (_placed(c, c.x(n), total, 1) for n in (1, 4, 6))
    return _requantised(c, total, c.add("mul", a, b), y, 7, 1)


def _requantised(c: Call, total: Node, scale: Node, result: Node, zero: int, axis: int) -> Typed:
    """round(total * scale / result + zero point) within the range of the type."""
    elem = c.elem(zero) if c.has(zero) else c.elem(0)
    factor = c.cast(c.add("div", scale, result), F64)
    y = c.add("mul", c.cast(total, F64), factor)
    if c.has(zero):
        point = _placed(c, c.cast(c.x(zero), I64), total, axis)
        y = c.add("add", y, c.cast(point, F64))
    return _limited(c, c.add("round", y), elem)
