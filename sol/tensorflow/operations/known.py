"""Arithmetic of sizes: what operations make of values that are known when the graph is read.

Plain numbers are computed by TensorFlow itself (reader.py). These rows are for arrays that hold
sizes which follow the batch, and for what is known about a value whose elements are not.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from sol.core.dims import product
from sol.core.dtypes import I32
from sol.tensorflow.context import Context, Known, Value, dtype_of
from sol.tensorflow.operations.table import operation


def _dividing(a: Any, b: Any) -> Any:
    return np.frompyfunc(operator.floordiv, 2, 1)(a, b)


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply,
    "FloorDiv": _dividing, "Neg": np.negative, "Identity": lambda x: x, "StopGradient": lambda x: x,
}  # fmt: skip


def computed(c: Context, inputs: tuple[Known, ...]) -> Known | None:
    """What arithmetic makes of sizes; None if the operation is no arithmetic."""
    if c.target == "Cast":
        wanted = dtype_of(c.attrs["DstT"].name, c.target)
        return Known(inputs[0].array, wanted) if wanted.kind == "int" else None
    if c.target == "Prod":
        return _product(c, *inputs)
    function = ARITHMETIC.get(c.target)
    if function is None:
        return None
    return Known.of(function(*(np.asarray(x.array, object) for x in inputs)), inputs[0].dtype)


def _product(c: Context, x: Known, axes: Known) -> Known:
    if x.array.ndim != 1:
        c.refuse("a product of a table of sizes")
    total = product(x.array.tolist()) if axes.array.size else None
    if total is None:
        return x
    return Known.of([total] if c.attrs["keep_dims"] else total, x.dtype)


@operation("Shape")
def shape(c: Context, x: Value) -> Known:
    """The sizes of x."""
    return Known.of(list(x.shape), dtype_of(c.attrs["out_type"].name, c.target))


@operation("ShapeN")
def shape_n(c: Context, *inputs: Value) -> tuple[Known, ...]:
    """The sizes of several values."""
    return tuple(shape(c, x) for x in inputs)


@operation("Rank")
def rank(c: Context, x: Value) -> Known:
    """The number of axes."""
    return Known.of(len(x.shape), I32)


@operation("Size")
def size(c: Context, x: Value) -> Known:
    """The number of elements."""
    return Known.of(product(x.shape), dtype_of(c.attrs["out_type"].name, c.target))
