"""Rows of operations that move values: reshape, transpose, slice, splice, gather, pad, crop."""

from __future__ import annotations

from math import prod

import numpy as np

from sol.cntk.dictionary import Axis
from sol.cntk.rows.table import row
from sol.cntk.value import Context, Value
from sol.ir.graph import Node

_MOST_AXES = 12
_MOST_CLASSES = 1 << 24
_CONSTANT, _REFLECT, _SYMMETRIC = 0, 1, 2


@row("Reshape")
def reshape(c: Context, x: Value) -> Value:
    """The static axes from `beginAxis` up to `endAxis` in another shape; one size may be open"""
    begin, end = c.attribute("beginAxis", Axis), c.attribute("endAxis", Axis)
    last = x.rank - _bound(c, begin, x.rank)  # the file counts from the other end
    first = x.rank - _bound(c, end, x.rank)
    if not 0 <= first <= last <= x.rank:
        c.refuse("it reshapes axes that are not there")
    known, shape = c.sizes_of(x), list(c.sizes("newShape"))
    count = prod(known[first:last])
    open_sizes = [k for k, s in enumerate(shape) if s < 0]
    rest = prod(s for s in shape if s >= 0)
    if len(open_sizes) == 1 and rest and count % rest == 0:
        shape[open_sizes[0]] = count // rest
    if any(s < 0 for s in shape) or prod(shape) != count:
        c.refuse(f"{known[first:last]} in the shape {tuple(c.sizes('newShape'))}")
    return c.keep(x, c.reshape(x.node, (*x.lead, *known[:first], *shape, *known[last:])))


def _bound(c: Context, axis: Axis, rank: int) -> int:
    """Where an axis stands in the file's order; far beyond the last is behind it."""
    return min(axis.index, rank) if axis.index >= 0 else max(axis.index + rank, 0)


@row("TransposeAxes")
def transpose(c: Context, x: Value) -> Value:
    """Static axes in another order: two exchanged, or all"""
    order = list(range(x.rank))
    if c.has("axisVec"):
        named = [c.axis(a, x.rank) for a in c.list("axisVec", Axis)]
        order = named[::-1]
    else:
        a, b = (c.axis(c.attribute(f"axis{k}", Axis), x.rank) for k in (1, 2))
        order[a], order[b] = order[b], order[a]
    if sorted(order) != list(range(x.rank)):
        c.refuse(f"the order of axes {order}")
    lead = len(x.axes)
    return c.keep(x, c.permute(x.node, (*range(lead), *(lead + a for a in order))))


@row("Slice")
def slice_(c: Context, x: Value) -> Value:
    """`x[begin:end:step]` on static axes; a negative step goes backwards"""
    if c.has("axisVec"):
        axes, begins, ends, steps = (
            c.list("axisVec", Axis), c.list("beginIndexVec", int), c.list("endIndexVec", int),
            c.list("sliceStridesVec", int),
        )  # fmt: skip
    else:
        axes, begins, ends, steps = (
            [c.attribute("axis", Axis)], [c.attribute("beginIndex", int)],
            [c.attribute("endIndex", int)], [c.attribute("sliceStrides", int, 1)],
        )  # fmt: skip
    node = x.node
    for named, begin, end, step in zip(axes, begins, ends, steps):
        place = c.axis(named, x.rank) if abs(named.index) < 1000 else -1
        if place < 0:
            c.refuse(f"it cuts {named.name[:40] or 'an axis that is not there'}")
        node = _sliced(c, node, len(x.axes) + place, begin, end, step)
    return c.keep(x, node)


def _sliced(c: Context, x: Node, axis: int, begin: int, end: int, step: int) -> Node:
    size = x.shape[axis]
    if not isinstance(size, int):
        c.refuse("it cuts an axis that depends on the batch")
    start = begin + size if begin < 0 else begin
    stop = end + size if end <= 0 else end
    if not 0 <= start < stop <= size or step == 0:
        c.refuse(f"[{begin}:{end}:{step}] of {size} elements")
    node = c.slice(x, axis, start, stop)
    if step < 0:
        node = c.op("flip", node, axes=(axis,))
    return c.slice(node, axis, 0, stop - start, abs(step)) if abs(step) > 1 else node


@row("Splice")
def splice(c: Context, *values: Value) -> Value:
    """The inputs one after the other along a static axis, which may be a new one"""
    rank = max(v.rank for v in values)
    named = c.attribute("axis", Axis)
    if named.index < -rank:
        rank += 1
    if rank <= named.index < _MOST_AXES:
        rank = named.index + 1
    place = c.axis(named, rank)
    if place < 0:
        c.refuse("it joins along an axis that is not there")
    axes = max((v.axes for v in values), key=len)
    lead = max((v for v in values if v.axes == axes), key=lambda v: v.lead != (1,) * len(axes)).lead
    shapes = [(1,) * (rank - v.rank) + c.sizes_of(v) for v in values]
    common = tuple(max(sizes) for sizes in zip(*shapes))
    parts = []
    for v, shape in zip(values, shapes):
        (node, _), _ = c.aligned(v, Value(c.constant(np.zeros((1,) * rank, np.float32)), axes[:0]))
        if not v.axes:
            node = c.reshape(node, (*(1,) * len(axes), *shape))
        elif v.axes != axes:
            c.refuse("a sequence is joined with what is none")
        whole = tuple(s if k == place else m for k, (s, m) in enumerate(zip(shape, common)))
        parts.append(c.expand(node, (*lead, *whole)))
    return Value(c.op("concat", *parts, axis=len(axes) + place), axes)


@row("Gather")
def gather(c: Context, index: Value, source: Value) -> Value:
    """`source[index]` on the first static axis"""
    if source.axes:
        c.refuse("what it takes from differs from image to image")
    places = c.integers(index.node)
    return c.keep(index, c.op("take", source.node, places, axis=0))


@row("OneHot")
def one_hot(c: Context, x: Value) -> Value:
    """`y[…, k, …] = 1 where x[…] == k, else 0`, k along a new axis"""
    classes = c.attribute("numClass", int)
    if not 0 < classes <= _MOST_CLASSES:
        c.refuse(f"{classes} classes")
    named = c.attribute("onehotAxis", Axis)
    place = c.axis(named, x.rank + 1)
    if place < 0:
        c.refuse("its new axis is not there")
    node = c.floating(c.op("one_hot", c.integers(x.node), classes=classes))
    lead, last = len(x.axes), node.tensor.rank - 1
    order = list(range(last))
    order.insert(lead + place, last)
    return c.keep(x, c.permute(node, order))


@row("Pad")
def pad(c: Context, x: Value) -> Value:
    """Static axes made longer by a number, by mirrored elements, or by these and the last one"""
    low, high = c.list("paddingHead", int)[::-1], c.list("paddingFoot", int)[::-1]
    mode = c.attribute("paddingMode", int)
    if len(low) != x.rank or len(high) != x.rank or any(p < 0 for p in (*low, *high)):
        c.refuse(f"it adds {low} before and {high} behind {x.rank} axes")
    if mode not in (_CONSTANT, _REFLECT, _SYMMETRIC):
        c.refuse(f"the mode {mode}")
    lead = (0,) * len(x.axes)
    if mode == _SYMMETRIC:
        node = x.node
        for axis, (before, behind) in enumerate(zip(low, high), len(lead)):
            node = _mirrored(c, node, axis, before, behind)
        return c.keep(x, node)
    value = float(c.attribute("paddingConstantValue", float, 0.0))
    kind = "constant" if mode == _CONSTANT else "reflect"
    node = c.op("pad", x.node, low=(*lead, *low), high=(*lead, *high), mode=kind, value=value)
    return c.keep(x, node)


def _mirrored(c: Context, x: Node, axis: int, low: int, high: int) -> Node:
    """x with its first and last elements once more, in the order of a mirror."""
    size = x.shape[axis]
    if not isinstance(size, int) or low > size or high > size:
        c.refuse(f"{low} and {high} elements mirrored of {size}")
    parts = [x]
    if low:
        parts.insert(0, c.op("flip", c.slice(x, axis, 0, low), axes=(axis,)))
    if high:
        parts.append(c.op("flip", c.slice(x, axis, size - high, size), axes=(axis,)))
    return c.op("concat", *parts, axis=axis) if len(parts) > 1 else x


@row("Crop")
def crop(c: Context, x: Value, model: Value) -> Value:
    """x from an offset on in the size of another value, on the last two static axes"""
    offsets = c.list("offset", int) if c.has("offset") else []
    if len(offsets) != 2:
        c.refuse("where it begins is not in the file")
    sizes, wanted = c.sizes_of(x), c.sizes_of(model)
    if len(sizes) < 2 or len(wanted) < 2:
        c.refuse(f"{sizes} cut as {wanted}")
    node = x.node
    for axis, offset in zip((-1, -2), offsets):
        start, stop = offset, offset + wanted[axis]
        if not 0 <= start < stop <= sizes[axis]:
            c.refuse(f"{start} up to {stop} of {sizes[axis]} elements")
        node = c.slice(node, node.tensor.rank + axis, start, stop)
    return c.keep(x, node)


@row("Squeeze")
def squeeze(c: Context, x: Value) -> Value:
    """x without static axes of size 1: all, or those that are named"""
    sizes = c.sizes_of(x)
    places = [k for k, s in enumerate(sizes) if s == 1]
    if c.has("axisVec"):
        named = [c.axis(a, x.rank) for a in c.list("axisVec", Axis)]
        places = named or places
    if any(k < 0 or sizes[k] != 1 for k in places):
        c.refuse(f"axes {places} of {sizes}")
    kept = [s for k, s in enumerate(sizes) if k not in places]
    return c.keep(x, c.reshape(x.node, (*x.lead, *kept)))


@row("ConstantOp")
def constant(c: Context, x: Value) -> Value:
    """A number in the shape of x"""
    value = c.attribute("fillValue", float)
    shape = (*(s if isinstance(s, int) and k else 1 for k, s in enumerate(x.lead)), *c.sizes_of(x))
    return c.keep(x, c.expand(c.constant(np.full((1,) * len(shape), value, np.float32)), shape))


@row("EyeLike")
def eye(c: Context, x: Value) -> Value:
    """The unit matrix in the shape of x"""
    sizes = c.sizes_of(x)
    if len(sizes) != 2 or x.axes or max(sizes) > 4096:
        c.refuse(f"a unit matrix of the shape {sizes}")
    return Value(c.constant(np.eye(*sizes, dtype=np.float32)))
