"""Rows that make values of nothing but sizes."""

from __future__ import annotations

import numpy as np

from sol.core.dims import Dim, Size
from sol.core.dtypes import I64
from sol.core.errors import UnsupportedError
from sol.onnx.rows.table import row
from sol.onnx.tensors import array_of
from sol.onnx.types import numpy_of
from sol.onnx.values import Call, Results, Typed, computed_type, elem_of_value


@row("ConstantOfShape")
def constant_of_shape(c: Call) -> Results:
    """One number everywhere."""
    given = c.attr("value")
    value = np.zeros(1, np.float32) if given is None else array_of(given, None)
    elem = elem_of_value(value)
    dtype = computed_type(elem, f"{c.op}, node {c.label}")
    return Typed(c.add("full", shape=c.sizes(0), value=value.reshape(()).item(), dtype=dtype), elem)


@row("Range")
def range_(c: Call) -> Results:
    """start, start + delta, … below limit."""
    (start,), (limit,), (delta,) = (c.sizes(n) for n in range(3))
    length: Size = limit - start
    if not isinstance(delta, int) or delta != 1 or isinstance(start, Dim):
        raise UnsupportedError("Range", "more than a step of 1 up to the batch size B")
    y = c.add("iota", shape=(length,), axis=0, dtype=I64)
    return y if start == 0 else c.add("add", y, c.constant(start, I64))


@row("EyeLike")
def eye_like(c: Call) -> Results:
    """1 on a diagonal, else 0."""
    rows, columns = c.shape(0)
    elem = c.attr("dtype", c.elem(0))
    if isinstance(rows, Dim) or isinstance(columns, Dim):
        raise UnsupportedError("EyeLike", "its size depends on the batch size B")
    return np.eye(rows, columns, c.attr("k", 0), numpy_of(elem))
