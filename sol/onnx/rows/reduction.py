"""Rows of reductions: sums, extremes, places of extremes, running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sol.core.dims import product
from sol.core.dtypes import BOOL, I64
from sol.ir.graph import Node
from sol.onnx.rows.table import put, row
from sol.onnx.values import Call, Results
from sol.ops.rules import reduced

Axes = tuple[int, ...]
Reduce = Callable[[Call, Node, Axes, bool], Node]


def _axes(c: Call, rank: int) -> Axes | None:
    """The axes to reduce; None if there are none and that means to do nothing."""
    axes = c.listed("axes", 1)
    if not axes:
        return None if c.attr("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({c.axis(a, rank) for a in axes}))


def _simple(op: str) -> Reduce:
    def reduce(c: Call, x: Node, axes: Axes, keepdims: bool) -> Node:
        return c.add(op, x, axes=axes, keepdims=keepdims)

    return reduce


def _extreme(op: str, logical: str, sign: float) -> Reduce:
    def reduce(c: Call, x: Node, axes: Axes, keepdims: bool) -> Node:
        if any(x.shape[a] == 0 for a in axes):
            limit: Any = sign * float("inf") if x.dtype != BOOL else sign > 0
            if x.dtype.kind == "int":
                info = np.iinfo(x.dtype.numpy)
                limit = int(info.min if sign < 0 else info.max)
            shape = reduced(x.shape, axes, keepdims)
            return c.add("full", shape=shape, value=limit, dtype=x.dtype)
        name = logical if x.dtype == BOOL else op
        return c.add(name, x, axes=axes, keepdims=keepdims)

    return reduce


def _after(first: str, op: str, last: str = "") -> Reduce:
    def reduce(c: Call, x: Node, axes: Axes, keepdims: bool) -> Node:
        y = c.add(op, c.add(first, x) if first else x, axes=axes, keepdims=keepdims)
        return c.add(last, y) if last else y

    return reduce


def _mean(c: Call, x: Node, axes: Axes, keepdims: bool) -> Node:
    if x.dtype.kind == "float":
        return c.add("mean", x, axes=axes, keepdims=keepdims)
    total = c.add("sum", x, axes=axes, keepdims=keepdims)
    count = product(x.shape[a] for a in axes)
    if not isinstance(count, int) or not count:
        c.refuse("a mean of integers over the axis that has the batch size B, or of none")
    rest = c.add("fmod", total, c.constant(count, I64))
    return c.add("floordiv", c.add("sub", total, rest), c.constant(count, I64))


def _norm(c: Call, x: Node, axes: Axes, keepdims: bool) -> Node:
    return c.add("norm", c.floating(x), ord=2.0, axes=axes, keepdims=keepdims)


def _logsumexp(c: Call, x: Node, axes: Axes, keepdims: bool) -> Node:
    if any(x.shape[a] == 0 for a in axes):
        return _after("exp", "sum", "log")(c, x, axes, keepdims)
    return c.add("logsumexp", c.floating(x), axes=axes, keepdims=keepdims)


_REDUCTIONS: dict[str, Reduce] = {
    "ReduceSum": _simple("sum"),
    "ReduceProd": _simple("prod"),
    "ReduceMean": _mean,
    "ReduceMax": _extreme("max_reduce", "any", -1.0),
    "ReduceMin": _extreme("min_reduce", "all", 1.0),
    "ReduceL1": _after("abs", "sum"),
    "ReduceL2": _norm,
    "ReduceLogSum": _after("", "sum", "log"),
    "ReduceLogSumExp": _logsumexp,
    "ReduceSumSquare": _after("square", "sum"),
}
_OF_ONE = {"ReduceL1": "abs", "ReduceL2": "abs", "ReduceLogSum": "log", "ReduceSumSquare": "square"}


def _row(reduce: Reduce) -> Callable[[Call], Results]:
    def translate(c: Call) -> Results:
        x = c.x()
        axes = _axes(c, x.tensor.rank)
        if axes is None:  # each element by itself
            return c.add(_OF_ONE[c.op], x) if c.op in _OF_ONE else x
        return reduce(c, x, axes, bool(c.attr("keepdims", 1)))

    return translate


for _name, _reduce in _REDUCTIONS.items():
    put(_name, _row(_reduce))


@row("ArgMax", "ArgMin")
def place(c: Call) -> Results:
    """The first or last place of the largest or smallest element."""
    x = c.x()
    axis = c.axis(c.attr("axis", 0), x.tensor.rank)
    op = "argmax" if c.op == "ArgMax" else "argmin"
    keepdims = bool(c.attr("keepdims", 1))
    if not c.attr("select_last_index", 0):
        return c.add(op, x, axis=axis, keepdims=keepdims)
    extent = x.shape[axis]
    if not isinstance(extent, int):
        c.refuse("the last index on the axis that has the batch size B")
    found = c.add(op, c.add("flip", x, axes=(axis,)), axis=axis, keepdims=keepdims)
    return c.add("sub", c.constant(extent - 1, I64), found)


@row("Hardmax")
def hardmax(c: Call) -> Results:
    """1 at the first largest element, else 0."""
    x, back, axis = matrix_before(c, c.x(), c.attr("axis", -1 if c.version >= 13 else 1))
    place = c.add("argmax", x, axis=axis, keepdims=True)
    number = c.add("iota", shape=x.shape, axis=axis, dtype=I64)
    return back(c.cast(c.add("eq", number, place), x.dtype))


def matrix_before(c: Call, x: Node, axis: int) -> tuple[Node, Callable[[Node], Node], int]:
    """Before opset 13, softmax and its like treat all axes from `axis` on as one."""
    rank, shape = x.tensor.rank, x.shape
    axis = c.axis(axis, rank)
    if c.version >= 13 or axis == rank - 1:
        return x, lambda y: y, axis
    flat = c.reshape(x, (product(shape[:axis]), product(shape[axis:])))
    return flat, lambda y: c.reshape(y, shape), 1


@row("CumSum", "CumProd")
def cumulated(c: Call) -> Results:
    """Running sums or products along an axis."""
    op, neutral = ("cumsum", 0) if c.op == "CumSum" else ("cumprod", 1)
    x = c.x()
    axis = c.axis(int(c.number(1)), x.tensor.rank)
    back = c.attr("reverse", 0)
    y = c.add("flip", x, axes=(axis,)) if back else x
    y = c.cast(c.add(op, y, axis=axis), x.dtype)
    extent = x.shape[axis]
    if c.attr("exclusive", 0):
        low = tuple(int(k == axis) for k in range(x.tensor.rank))
        high = tuple(-n for n in low)
        first: Any = float(neutral) if x.dtype.kind == "float" else neutral
        if extent != 0:
            y = c.add("pad", y, low=low, high=high, mode="constant", value=first)
    return c.add("flip", y, axes=(axis,)) if back else y
