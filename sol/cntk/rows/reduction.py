"""Rows of reductions, softmax, and the largest elements."""

from __future__ import annotations

from sol.cntk.dictionary import Axis
from sol.cntk.model import BATCH
from sol.cntk.rows.table import row
from sol.cntk.value import Context, Value
from sol.core.dtypes import F32, I64
from sol.ir.graph import Node

_STATIC, _ALL = "AllStaticAxes", "AllAxes"
_OPS = {
    "Sum": "sum", "Mean": "mean", "Max": "max_reduce", "Min": "min_reduce", "Prod": "prod",
    "LogSum": "logsumexp",
}  # fmt: skip
_PLACES = {"Argmax": "argmax", "Argmin": "argmin"}
_MOST_LARGEST = 32


@row("ReduceElements")
def reduce_elements(c: Context, x: Value) -> Value:
    """Sum, mean, largest, least, product, `ln Σ e^x` or the place of the largest or least, over
    static axes, the batch, or all"""
    kind = c.attribute("reductionOpName", str)
    keep = c.attribute("reductionKeepDimensions", bool, True)
    named: list[Axis] = c.list("axisVec", Axis) if c.has("axisVec") else [c.attribute("axis", Axis)]
    names = [a.name for a in named]
    lead = len(x.axes)
    if names == [_STATIC]:
        axes, keep = list(range(lead, lead + x.rank)), False
    elif names == [_ALL]:
        axes, keep = list(range(lead + x.rank)), False
        x = Value(x.node)
    elif names == [BATCH] and lead == 1:
        axes, keep = [0], False
        x = Value(x.node)
    else:
        axes = sorted({_place(c, a, x) for a in named})
    if kind in _PLACES:
        return _place_of(c, x, _PLACES[kind], axes, keep)
    if kind not in _OPS:
        c.refuse(f"it reduces by {kind[:40]!r}")
    if not axes:
        return x
    return c.keep(x, c.op(_OPS[kind], x.node, axes=tuple(axes), keepdims=keep))


def _place(c: Context, axis: Axis, x: Value) -> int:
    if abs(axis.index) > 1000:
        c.refuse(f"it reduces over {axis.name[:40] or 'an axis without a name'}")
    place = c.axis(axis, x.rank)
    if place < 0:
        c.refuse("it reduces over an axis that is not there")
    return len(x.axes) + place


def _place_of(c: Context, x: Value, op: str, axes: list[int], keep: bool) -> Value:
    """The place along one axis, or among all static ones."""
    node, lead = x.node, len(x.axes)
    if len(axes) != 1:
        if axes != list(range(lead, lead + x.rank)):
            c.refuse("the place of an element among several axes")
        node = c.reshape(node, (*x.lead, _count(c, x)))
        axes = [lead]
    return c.keep(x, c.floating(c.op(op, node, axis=axes[0], keepdims=keep)))


def _count(c: Context, x: Value) -> int:
    count = 1
    for size in c.sizes_of(x):
        count *= size
    return count


@row("Softmax")
def softmax(c: Context, x: Value) -> Value:
    """`e^x / Σ e^x`, all static axes as one"""
    return _flat(c, x, "softmax")


@row("LogSoftmax")
def log_softmax(c: Context, x: Value) -> Value:
    """`x - ln Σ e^x`, all static axes as one"""
    return _flat(c, x, "log_softmax")


def _flat(c: Context, x: Value, op: str) -> Value:
    if x.rank == 0:
        c.refuse("a value without axes")
    flat = c.reshape(x.node, (*x.lead, _count(c, x)))
    return c.keep(x, c.reshape(c.op(op, flat, axis=len(x.axes)), x.node.shape))


@row("Hardmax")
def hardmax(c: Context, x: Value) -> Value:
    """1 where the first of the largest elements is, else 0, all static axes as one"""
    count = _count(c, x)
    flat = c.reshape(x.node, (*x.lead, count))
    place = c.op("argmax", flat, axis=len(x.axes), keepdims=False)
    chosen = c.floating(c.op("one_hot", place, classes=count))
    return c.keep(x, c.reshape(chosen, x.node.shape))


@row("TopK")
def top_k(c: Context, x: Value) -> tuple[Value, Value]:
    """The k largest elements along an axis in falling order, and their places (k up to 32)"""
    count = c.attribute("numItems", int)
    axis = len(x.axes) + c.axis(c.attribute("axis", Axis), x.rank)
    size = x.node.shape[axis] if axis >= len(x.axes) else 0
    if not isinstance(size, int) or not 0 < count <= size:
        c.refuse(f"{count} of {size} elements")
    if count > _MOST_LARGEST:
        c.refuse(f"{count} elements, {_MOST_LARGEST} at most")
    values: list[Node] = []
    places: list[Node] = []
    rest = x.node
    shape = tuple(size if k == axis else 1 for k in range(x.node.tensor.rank))
    index = c.op("iota", shape=shape, axis=axis, dtype=I64)
    for _ in range(count):
        place = c.op("argmax", rest, axis=axis, keepdims=True)
        values.append(c.op("max_reduce", rest, axes=(axis,), keepdims=True))
        places.append(c.floating(place))
        taken = c.op("eq", index, place)
        rest = c.op("where", taken, c.constant(float("-inf"), F32), rest)
    joined = (v[0] if count == 1 else c.op("concat", *v, axis=axis) for v in (values, places))
    first, second = (c.keep(x, node) for node in joined)
    return first, second
