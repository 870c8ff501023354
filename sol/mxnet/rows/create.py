"""Rows that make tensors of nothing, or of the shape of another."""

from __future__ import annotations

from math import ceil

import numpy as np

from sol.core.dims import Shape
from sol.core.dtypes import F32, I64, DType
from sol.ir.graph import Node
from sol.mxnet.attributes import Ints
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import row

_MOST = 1 << 24  # elements of a constant that attributes ask for


def _sizes(c: Context, shape: Ints) -> Shape:
    """A shape of attributes; what it leaves open is the batch."""
    unknown = -1 if c.numpy_shapes else 0
    return tuple(c.open if s == unknown else s for s in shape)


@row("_zeros", "_npi_zeros")
def zeros(c: Context, *, shape: Ints = (), dtype: DType = F32) -> Result:
    """0 everywhere."""
    return c.full(_sizes(c, shape), 0, dtype)


@row("_zeros_without_dtype")
def zeros_of_any_type(c: Context, *, shape: Ints = (), dtype: int = -1) -> Result:
    """0 everywhere."""
    if dtype not in (-1, 0):
        c.refuse(f"dtype={dtype}")
    return c.full(_sizes(c, shape), 0, F32)


@row("_ones", "_npi_ones")
def ones(c: Context, *, shape: Ints = (), dtype: DType = F32) -> Result:
    """1 everywhere."""
    return c.full(_sizes(c, shape), 1, dtype)


@row("_full", "_npi_full")
def full(c: Context, *, shape: Ints = (), value: float, dtype: DType = F32) -> Result:
    """A number everywhere."""
    return c.full(_sizes(c, shape), value, dtype)


@row("zeros_like", "ones_like")
def like(c: Context, x: Node) -> Result:
    """0 or 1 everywhere, in the shape of another tensor."""
    return c.full(x.shape, c.target == "ones_like", x.dtype)


@row("_npi_full_like")
def full_like(c: Context, x: Node, *, fill_value: float, dtype: DType | None = None) -> Result:
    """A number everywhere, in the shape of another tensor."""
    return c.full(x.shape, fill_value, dtype or x.dtype)


@row("_eye", "_npi_eye")
def eye(c: Context, *, N: int, M: int | None = 0, k: int = 0, dtype: DType = F32) -> Result:
    """1 on a diagonal, else 0."""
    columns = M or N
    c.need(0 < N * columns <= _MOST, f"{N} x {columns}", f"{_MOST} elements at most")
    c.computable(dtype)
    return c.constant(np.eye(N, columns, k, dtype.numpy), dtype)


@row("_arange", "_npi_arange")
def arange(
    c: Context,
    *,
    start: float,
    stop: float | None = None,
    step: float = 1.0,
    repeat: int = 1,
    infer_range: bool = False,
    dtype: DType = F32,
) -> Result:
    """start, start + step, … below stop, each `repeat` times."""
    if infer_range:
        c.refuse("infer_range: the size follows from what reads it")
    first, last = (0.0, start) if stop is None else (start, stop)
    c.need(step != 0 and repeat > 0, f"{step=}, {repeat=}", "a step, and 1 or more")
    count = (last - first) / step
    c.need(0 < count * repeat <= _MOST, f"{count * repeat:.4g} elements", f"1 to {_MOST}")
    c.computable(dtype)
    values = np.repeat(first + step * np.arange(ceil(count)), repeat)
    return c.constant(values.astype(dtype.numpy), dtype)


@row("_linspace", "_npi_linspace")
def linspace(
    c: Context, *, start: float, stop: float, num: int, endpoint: bool = True, dtype: DType = F32
) -> Result:
    """`num` numbers from start to stop, evenly spaced."""
    c.need(0 < num <= _MOST, f"{num=}", f"1 to {_MOST}")
    c.computable(dtype)
    return c.constant(np.linspace(start, stop, num, endpoint).astype(dtype.numpy), dtype)


@row("_contrib_arange_like", "_npx_arange_like")
def arange_like(
    c: Context, x: Node, *, start: float = 0.0, step: float = 1.0, repeat: int = 1,
    axis: int | None = None,
) -> Result:  # fmt: skip
    """start, start + step, …: as many as x has along an axis, or in the shape of x."""
    c.need(repeat > 0, f"{repeat=}", "1 or more")
    if axis is None:
        shape: Shape = x.shape
        count = 1
        for k in range(x.tensor.rank):
            count *= c.size(x, k)
    else:
        count = c.size(x, c.axis(axis, x.tensor.rank))
        shape = (count,)
    places = c.op("iota", shape=(count,), axis=0, dtype=I64)
    if repeat > 1:
        places = c.op("floordiv", places, c.constant(repeat, I64))
    scaled = c.op("mul", c.cast(places, F32), c.constant(step, F32))
    return c.reshape(c.op("add", scaled, c.constant(start, F32)), shape)


@row("shape_array", "_npx_shape_array")
def shape_array(c: Context, x: Node) -> Result:
    """The sizes of x."""
    return c.constant(np.array([c.size(x, k) for k in range(x.tensor.rank)], np.int64), I64)


@row("size_array")
def size_array(c: Context, x: Node) -> Result:
    """How many elements x has."""
    count = 1
    for k in range(x.tensor.rank):
        count *= c.size(x, k)
    return c.constant(np.array([count], np.int64), I64)
