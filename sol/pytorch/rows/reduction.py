"""Rows of reductions: sums, means, extremes, variances, norms, softmax and running sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sol.core.dims import Dim, product
from sol.core.dtypes import BOOL, F32, I64, DType
from sol.ir.graph import Node
from sol.pytorch.context import Context, Result, Scalar
from sol.pytorch.rows.table import Row, put, row

Axes = Sequence[int] | int | None  # several axes, one, or all


def _whole(x: Node) -> DType:
    """What PyTorch adds up x in: integers and booleans in 64 bits."""
    return I64 if x.dtype.kind != "float" else x.dtype


def reduce_(c: Context, op: str, x: Node, dim: Axes, keepdim: bool) -> Node:
    """op over some axes, all if none is named; a tensor without axes is its own reduction."""
    if not x.tensor.rank:
        return x
    return c.op(op, x, axes=c.axes(dim, x.tensor.rank), keepdims=keepdim)


@row("sum", "sum.dim_IntList")
def sum_(
    c: Context, x: Node, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None
) -> Result:
    """The sum over axes."""
    return c.cast(
        reduce_(c, "sum", c.cast(x, c.dtype(dtype, _whole(x))), dim, keepdim), c.type.dtype
    )


@row("mean", "mean.dim")
def mean(
    c: Context, x: Node, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None
) -> Result:
    """The mean over axes."""
    return reduce_(c, "mean", c.cast(x, c.dtype(dtype, x.dtype)), dim, keepdim)


@row("prod", "prod.dim_int")
def prod(
    c: Context, x: Node, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None
) -> Result:
    """The product over an axis or all."""
    return c.cast(
        reduce_(c, "prod", c.cast(x, c.dtype(dtype, _whole(x))), dim, keepdim), c.type.dtype
    )


def _plain(op: str) -> Row:
    def translate(c: Context, x: Node, dim: Axes = None, keepdim: bool = False) -> Result:
        return reduce_(c, op, x, dim, keepdim)

    return translate


def _truth(op: str) -> Row:
    def translate(c: Context, x: Node, dim: Axes = None, keepdim: bool = False) -> Result:
        return c.cast(reduce_(c, op, c.cast(x, BOOL), dim, keepdim), c.type.dtype)

    return translate


for _name, _op in (
    ("amax", "max_reduce"),
    ("amin", "min_reduce"),
    ("max", "max_reduce"),
    ("min", "min_reduce"),
):
    put(_name, _plain(_op))
for _op in ("any", "all"):
    for _overload in ("default", "dim", "dims"):
        put(f"{_op}.{_overload}", _truth(_op))


@row("max.dim", "min.dim")
def extreme(c: Context, x: Node, dim: int, keepdim: bool = False) -> Result:
    """The extreme of an axis and where it is."""
    op = "max" if c.target.startswith("aten.max") else "min"
    values = reduce_(c, f"{op}_reduce", x, dim, keepdim)
    if not x.tensor.rank:
        return values, c.constant(0, I64)
    axis = c.axis(dim, x.tensor.rank)
    if c.training:  # the gradient goes to one of equal extremes, the one that is named
        place = c.op(f"arg{op}", x, axis=axis, keepdims=True)
        taken = c.op("gather", x, place, axis=axis)
        return c.reshape(taken, values.shape), c.reshape(place, values.shape)
    return values, c.op(f"arg{op}", x, axis=axis, keepdims=keepdim)


@row("argmax", "argmin")
def arg(c: Context, x: Node, dim: int | None = None, keepdim: bool = False) -> Result:
    """Where the first extreme of an axis is, or of the flattened tensor."""
    op = "argmax" if c.target.startswith("aten.argmax") else "argmin"
    if dim is None:
        flat = c.reshape(x, (product(x.shape),))
        return c.reshape(c.op(op, flat, axis=0, keepdims=False), c.shape)
    if not x.tensor.rank:
        return c.constant(0, I64)
    return c.op(op, x, axis=c.axis(dim, x.tensor.rank), keepdims=keepdim)


@row("count_nonzero", "count_nonzero.dim_IntList")
def count_nonzero(c: Context, x: Node, dim: Axes = None) -> Result:
    """How many elements are not 0."""
    return reduce_(c, "sum", c.cast(c.cast(x, BOOL), I64), dim, False)


# ---- variance


def variance(c: Context, x: Node, dim: Axes, correction: float, keepdim: bool) -> Node:
    """The variance over axes with a corrected number of elements."""
    axes = c.axes(dim, x.tensor.rank)
    count = product(x.shape[a] for a in axes)
    if isinstance(count, Dim):
        c.refuse("the number of elements depends on the batch size B")
    if not axes:
        c.refuse("a tensor without axes")
    return c.op("var", x, axes=axes, correction=correction, keepdims=keepdim)


Statistic = Callable[[Context, Node, Any, float, bool], Result]


def _var(c: Context, x: Node, dim: Axes, correction: float, keepdim: bool) -> Result:
    return variance(c, x, dim, correction, keepdim)


def _std(c: Context, x: Node, dim: Axes, correction: float, keepdim: bool) -> Result:
    return c.op("sqrt", variance(c, x, dim, correction, keepdim))


def _with_mean(spread: Statistic) -> Statistic:
    def both(c: Context, x: Node, dim: Axes, correction: float, keepdim: bool) -> Result:
        first = spread(c, x, dim, correction, keepdim)
        assert isinstance(first, Node)
        return first, reduce_(c, "mean", x, dim, keepdim)

    return both


def _statistic(statistic: Statistic) -> tuple[Row, Row, Row]:
    """The rows of its three overloads: of everything, over axes, with a correction."""

    def everything(c: Context, x: Node, unbiased: bool = True) -> Result:
        return statistic(c, x, None, float(unbiased), False)

    def axes(
        c: Context, x: Node, dim: Axes, unbiased: bool = True, keepdim: bool = False
    ) -> Result:
        return statistic(c, x, dim, float(unbiased), keepdim)

    def corrected(
        c: Context,
        x: Node,
        dim: Axes = None,
        *,
        correction: Scalar | None = None,
        keepdim: bool = False,
    ) -> Result:
        return statistic(c, x, dim, 1.0 if correction is None else float(correction), keepdim)

    return everything, axes, corrected


for _name, _function in (
    ("var", _var), ("std", _std), ("var_mean", _with_mean(_var)), ("std_mean", _with_mean(_std)),
):  # fmt: skip
    for _overload, _row in zip(("default", "dim", "correction"), _statistic(_function)):
        put(f"{_name}.{_overload}", _row)


# ---- norms


@row("linalg_vector_norm")
def vector_norm(
    c: Context,
    x: Node,
    ord: Scalar = 2,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Result:
    """(sum |x|^ord)^(1/ord) over axes."""
    x = c.cast(x, c.dtype(dtype, x.dtype))
    if not x.tensor.rank:
        return c.op("abs", x)
    return c.op("norm", x, ord=float(ord), axes=c.axes(dim, x.tensor.rank), keepdims=keepdim)


@row("norm.Scalar")
def norm(c: Context, x: Node, p: Scalar = 2) -> Result:
    """The norm of all elements."""
    return vector_norm(c, x, p)


@row("norm.ScalarOpt_dim")
def norm_dim(c: Context, x: Node, p: Scalar | None, dim: Axes, keepdim: bool = False) -> Result:
    """The norm over axes."""
    return vector_norm(c, x, 2 if p is None else p, dim, keepdim)


@row("frobenius_norm.dim")
def frobenius_norm(c: Context, x: Node, dim: Axes, keepdim: bool = False) -> Result:
    """The square root of the sum of squares."""
    return vector_norm(c, x, 2, dim, keepdim)


@row("_cdist_forward")
def cdist(c: Context, a: Node, b: Node, p: float, compute_mode: int | None) -> Result:
    """The p-norm of the difference of every row of a and every row of b."""
    left = c.reshape(a, (*a.shape[:-1], 1, a.shape[-1]))
    right = c.reshape(b, (*b.shape[:-2], 1, *b.shape[-2:]))
    difference = c.op("sub", left, right)
    last = difference.tensor.rank - 1
    return c.op("norm", difference, ord=float(p), axes=(last,), keepdims=False)


@row("logsumexp")
def logsumexp(c: Context, x: Node, dim: Axes, keepdim: bool = False) -> Result:
    """log(sum(exp(x))) over axes."""
    return reduce_(c, "logsumexp", c.floating(x), dim, keepdim) if x.tensor.rank else c.floating(x)


# ---- softmax and running sums


def _soft(c: Context, op: str, x: Node, dim: int, dtype: torch.dtype | None) -> Node:
    x = c.cast(x, c.dtype(dtype, x.dtype))
    if not x.tensor.rank:
        return c.constant(1.0 if op == "softmax" else 0.0, F32)
    return c.op(op, x, axis=c.axis(dim, x.tensor.rank))


@row("softmax.int", "log_softmax.int", "special_softmax", "special_log_softmax")
def softmax(c: Context, x: Node, dim: int, dtype: torch.dtype | None = None) -> Result:
    """exp(x) / sum(exp(x)) along an axis, or its logarithm."""
    return _soft(c, "log_softmax" if "log_softmax" in c.target else "softmax", x, dim, dtype)


@row("_softmax", "_log_softmax")
def softmax_kernel(c: Context, x: Node, dim: int, half_to_float: bool) -> Result:
    """The same, as kernels have it."""
    return _soft(c, "log_softmax" if "log_softmax" in c.target else "softmax", x, dim, None)


@row("_safe_softmax")
def safe_softmax(c: Context, x: Node, dim: int, dtype: torch.dtype | None = None) -> Result:
    """softmax, and 0 where all of an axis is -inf."""
    x = c.cast(x, c.dtype(dtype, x.dtype))
    axis = c.axis(dim, x.tensor.rank)
    lost = c.op("eq", x, c.constant(-math.inf, x.dtype))
    lost = c.op("all", lost, axes=(axis,), keepdims=True)
    return c.op("where", lost, c.constant(0, x.dtype), c.op("softmax", x, axis=axis))


@row("cumsum", "cumprod")
def cumulative(c: Context, x: Node, dim: int, *, dtype: torch.dtype | None = None) -> Result:
    """The running sum or product along an axis."""
    op = "cumsum" if c.target.startswith("aten.cumsum") else "cumprod"
    x = c.cast(x, c.dtype(dtype, _whole(x)))
    if not x.tensor.rank:
        return x
    return c.cast(c.op(op, x, axis=c.axis(dim, x.tensor.rank)), c.type.dtype)
