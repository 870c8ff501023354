"""Rows of reductions, norms, and what finds the place of an extreme value."""

from __future__ import annotations

from functools import cache

from sol.core.dtypes import F32, I64, DType
from sol.ir.graph import Node
from sol.mxnet.attributes import Ints
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import Function, put, row

_REDUCTIONS = {
    "sum": "sum", "sum_axis": "sum", "mean": "mean", "prod": "prod", "max": "max_reduce",
    "max_axis": "max_reduce", "min": "min_reduce", "min_axis": "min_reduce", "nansum": "sum",
    "nanprod": "prod",
}  # fmt: skip
_NUMPY = {"_np_sum": "sum", "_np_prod": "prod", "_np_max": "max_reduce", "_np_amax": "max_reduce",
          "_np_min": "min_reduce", "_np_amin": "min_reduce", "_npi_mean": "mean",
          "_np_any": "any", "_np_sometrue": "any", "_np_all": "all"}  # fmt: skip


def _reduced(c: Context, op: str, x: Node, axes: tuple[int, ...], keepdims: bool) -> Node:
    """Of integers too, in their own type."""
    if not axes and x.tensor.rank:
        return x
    result = c.op(op, x, axes=axes, keepdims=keepdims)
    return c.cast(result, x.dtype) if x.dtype.kind == "int" and op != "mean" else result


@cache
def _reduction(op: str, without_nan: bool) -> Function:
    def translate(
        c: Context,
        x: Node,
        *,
        axis: Ints | None = None,
        keepdims: bool = False,
        exclude: bool = False,
    ) -> Result:
        axes = c.axes(axis, x.tensor.rank, exclude)
        if without_nan:
            neutral = c.constant(0 if op == "sum" else 1, x.dtype)
            x = c.op("where", c.op("isnan", x), neutral, x)
        y = _reduced(c, op, x, axes, keepdims)
        return y if y.tensor.rank else c.reshape(y, (1,))  # there are no tensors without axes

    nan = " without NaN" if without_nan else ""
    translate.__doc__ = f"Sol's {op} over axes, or over all others (exclude){nan}."
    return translate


@cache
def _numpy_reduction(op: str) -> Function:
    def translate(
        c: Context,
        x: Node,
        *,
        axis: Ints | None = None,
        dtype: DType | None = None,
        keepdims: bool = False,
        initial: float | None = None,
    ) -> Result:
        if initial is not None:
            c.refuse(f"initial={initial}")
        if dtype is not None:
            x = c.cast(x, dtype)
        axes = c.axes(axis, x.tensor.rank) if x.tensor.rank else ()
        if x.dtype.kind == "bool" and op in ("sum", "prod", "mean"):
            x = c.cast(x, I64)
        if op == "mean":
            x = c.floating(x)
        return _reduced(c, op, x, axes, keepdims)

    translate.__doc__ = f"Sol's {op} over axes."
    return translate


for _name, _op in _REDUCTIONS.items():
    put(_name, _reduction(_op, _name.startswith("nan")))
for _name, _op in _NUMPY.items():
    put(_name, _numpy_reduction(_op))


@row("_npi_var", "_npi_std")
def variance(
    c: Context, x: Node, *, axis: Ints | None = None, dtype: DType | None = None, ddof: int = 0,
    keepdims: bool = False,
) -> Result:  # fmt: skip
    """Variance, or its root."""
    c.computable(dtype or F32)
    axes = c.axes(axis, x.tensor.rank)
    y = c.op("var", c.floating(x), axes=axes, correction=ddof, keepdims=keepdims)
    return c.op("sqrt", y) if c.target.endswith("std") else y


@row("norm")
def norm(
    c: Context, x: Node, *, ord: int = 2, axis: Ints | None = None,
    out_dtype: DType | None = None, keepdims: bool = False,
) -> Result:  # fmt: skip
    """(Σ |x|^ord)^(1/ord) for ord 1 and 2."""
    if ord not in (1, 2):
        c.refuse(f"ord={ord}")
    c.computable(out_dtype or F32)
    axes = c.axes(axis, x.tensor.rank)
    y = c.op("norm", x, ord=float(ord), axes=axes, keepdims=keepdims)
    return y if y.tensor.rank else c.reshape(y, (1,))


@row("argmax", "argmin", "_npi_argmax", "_npi_argmin")
def arg_extreme(c: Context, x: Node, *, axis: int | None = None, keepdims: bool = False) -> Result:
    """The first place of the maximum or minimum, along an axis or of all elements."""
    numpy = c.target.startswith("_npi")
    op = c.target.removeprefix("_npi_")
    if axis is None:
        y = c.op(op, c.reshape(x, (_count(c, x),)), axis=0, keepdims=False)
        shape = (1,) * x.tensor.rank if keepdims else () if numpy else (1,)
        y = c.reshape(y, shape)
    else:
        y = c.op(op, x, axis=c.axis(axis, x.tensor.rank), keepdims=keepdims)
    return c.cast(y, I64 if numpy else F32)


@row("argmax_channel")
def argmax_channel(c: Context, x: Node) -> Result:
    """The first place of the maximum along axis 1, as a number."""
    return c.cast(c.op("argmax", x, axis=1, keepdims=False), F32)


def _count(c: Context, x: Node) -> int:
    count = 1
    for k in range(x.tensor.rank):
        count *= c.size(x, k)
    return count


@row("cumsum", "_np_cumsum")
def cumsum(c: Context, x: Node, *, axis: int | None = None, dtype: DType | None = None) -> Result:
    """Sums up to each place along an axis, or of all elements in a row."""
    x = c.cast(x, dtype or x.dtype)
    if axis is None:
        x, axis = c.reshape(x, (_count(c, x),)), 0
    return c.cast(c.op("cumsum", x, axis=c.axis(axis, x.tensor.rank)), x.dtype)


@row("softmax_cross_entropy")
def softmax_cross_entropy(c: Context, x: Node, label: Node) -> Result:
    """-Σ ln softmax(x)[label], over all rows."""
    logs = c.op("log_softmax", x, axis=1)
    places = c.indices(c.reshape(label, (*label.shape, 1)), c.size(x, 1))
    found = c.op("gather", logs, places, axis=1)
    return c.reshape(c.op("neg", c.op("sum", found, axes=(0, 1), keepdims=False)), (1,))
