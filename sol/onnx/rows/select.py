"""Rows that pick elements by numbers: gathers, one-hot codes."""

from __future__ import annotations

import numpy as np

from sol.core.dims import Dim
from sol.core.dtypes import I64
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node
from sol.onnx.rows.table import row
from sol.onnx.values import Call, Results


@row("Gather")
def gather(c: Call) -> Results:
    """x[…, index, …] on an axis: a slice where the index is a known range."""
    x = c.x(0)
    axis = c.axis(c.attr("axis", 0), x.tensor.rank)
    known, extent = c.known(1), x.shape[axis]
    if known is not None and known.ndim <= 1 and known.size and isinstance(extent, int):
        places = np.where(known < 0, known + extent, known).reshape(-1)
        if ((places < 0) | (places >= extent)).any():
            raise UnsupportedError("Gather", f"index {known.tolist()} of an axis of size {extent}")
        if (np.diff(places) == 1).all():
            y = c.slice(x, axis, int(places[0]), int(places[-1]) + 1)
            return y if known.ndim else c.reshape(y, (*x.shape[:axis], *x.shape[axis + 1 :]))
    if known is not None and known.ndim == 0 and known == 0:
        y = c.slice(x, axis, 0, 1)
        return c.reshape(y, (*x.shape[:axis], *x.shape[axis + 1 :]))
    return c.add("take", x, c.x(1), axis=axis)


@row("GatherElements")
def gather_elements(c: Call) -> Results:
    """y[i, j] = x[index[i, j], j] for axis 0, and so on."""
    x = c.x(0)
    return c.add("gather", x, c.x(1), axis=c.axis(c.attr("axis", 0), x.tensor.rank))


@row("GatherND")
def gather_nd(c: Call) -> Results:
    """Elements or slices of x at places that the last axis of the index lists."""
    x, index, lead = c.x(0), c.x(1), c.attr("batch_dims", 0)
    depth = index.shape[-1]
    if isinstance(depth, Dim) or not depth:
        raise UnsupportedError("GatherND", f"an index {index.type}")
    picked = [_part(c, index, n) for n in range(depth)]
    shape = index.shape[:-1]
    places = [c.add("iota", shape=shape, axis=n, dtype=I64) for n in range(lead)]
    return c.add("index", x, *places, *picked, axes=tuple(range(lead + depth)))


def _part(c: Call, index: Node, place: int) -> Node:
    last = index.tensor.rank - 1
    return c.reshape(c.slice(index, last, place, place + 1), index.shape[:-1])


@row("ReverseSequence")
def reverse_sequence(c: Call) -> Results:
    """The first elements of each sequence backwards, as many as it has, the others as they are."""
    batch, time = c.attr("batch_axis", 1), c.attr("time_axis", 0)
    if {batch, time} != {0, 1}:
        raise UnsupportedError("ReverseSequence", f"{batch=}, {time=}", expected="0 and 1")
    return turned(c, c.x(0), c.x(1), time)


def turned(c: Call, x: Node, lengths: Node, time: int) -> Node:
    """Sequences with their first elements backwards; x has the axes time and batch first."""
    shape = x.shape[:2]
    place = c.add("iota", shape=shape, axis=time, dtype=I64)
    length = c.reshape(lengths, (1, shape[1]) if time == 0 else (shape[0], 1))
    back = c.add("sub", c.add("sub", length, c.constant(1, I64)), place)
    place = c.add("where", c.add("lt", place, length), back, place)
    order = c.reshape(place, (*shape, *[1] * (x.tensor.rank - 2)))
    return c.add("gather", x, c.expand(order, x.shape), axis=time)


@row("OneHot")
def one_hot(c: Call) -> Results:
    """The second of two values where an index is, the first elsewhere."""
    index, depth, values = c.x(0), c.number(1), c.x(2)
    classes = int(depth)
    if index.dtype.kind != "int":
        index = c.cast(index, I64)
    negative = c.add("lt", index, c.constant(0, index.dtype))
    index = c.add("where", negative, c.add("add", index, c.constant(classes, I64)), index)
    hit = c.add("one_hot", index, classes=classes)
    rank = hit.tensor.rank
    axis = c.axis(c.attr("axis", -1), rank)
    order: list[int] = list(range(rank - 1))
    order.insert(axis, rank - 1)
    hit = c.permute(hit, order)
    off, on = (c.reshape(c.slice(values, 0, n, n + 1), ()) for n in (0, 1))
    return c.add("where", c.add("ne", hit, c.constant(0, I64)), on, off)
