"""Rows of operations on shapes: reshape, transpose, joining and cutting, padding, repeating."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sol.core.dims import Dim, Size, product
from sol.core.dtypes import I64
from sol.ir.graph import Node
from sol.ops.rules import broadcast
from sol.tensorflow.context import Context, Known, Value
from sol.tensorflow.layout import concat, pad, permute, slice_axes
from sol.tensorflow.operations.table import operation


@operation("Reshape")
def reshape(c: Context, x: Value, shape: Value) -> Value:
    """The same elements in another shape; one size may be -1."""
    sizes = c.sizes(shape, "the new shape")
    if c.known(shape, "the new shape").ndim == 0:
        sizes = []
    wanted = c.filled(sizes, product(x.shape))
    if isinstance(x, Known):
        return Known(x.array.reshape([s for s in wanted if not isinstance(s, Dim)]), x.dtype)
    return c.reshape(x, wanted)


@operation("Squeeze")
def squeeze(c: Context, x: Value) -> Value:
    """Without axes of size 1."""
    given = c.attrs["squeeze_dims"]
    axes = c.axes(given, len(x.shape)) if given else [k for k, s in enumerate(x.shape) if s == 1]
    if isinstance(x, Known):
        return Known(np.squeeze(x.array, tuple(axes)), x.dtype)
    return c.reshape(x, tuple(s for k, s in enumerate(x.shape) if k not in axes))


@operation("ExpandDims")
def expand_dims(c: Context, x: Value, axis: Value) -> Value:
    """With one more axis of size 1."""
    place = int(c.number(axis, "the axis"))
    place += len(x.shape) + 1 if place < 0 else 0
    if isinstance(x, Known):
        return Known(np.expand_dims(x.array, place), x.dtype)
    return c.reshape(x, (*x.shape[:place], 1, *x.shape[place:]))


def _block(c: Context, sizes: Value) -> list[int]:
    steps = c.numbers(sizes, "the size of a block")
    if any(n < 1 for n in steps):
        c.refuse(f"blocks of {steps} places")
    return steps


@operation("SpaceToBatchND")
def space_to_batch(c: Context, x: Node, block: Value, pads: Value) -> Node:
    """Every n-th place of the axes behind the batch as an image of its own: how TensorFlow
    dilates windows."""
    x, steps = c.node(x), _block(c, block)
    ends = c.known(pads, "the padding").tolist()
    rank, count = x.tensor.rank, len(steps)
    rest = (0,) * (rank - count - 1)
    low, high = ((0, *(e[side] for e in ends), *rest) for side in (0, 1))
    x = pad(c, x, low, high, 0)
    batch, *sizes = x.shape
    split = [s for size, n in zip(sizes, steps) for s in (size // n, n)]
    y = c.reshape(x, (batch, *split, *sizes[count:]))
    order = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2)]
    y = permute(c, y, [*order, *range(2 * count + 1, y.tensor.rank)])
    kept = (size // n for size, n in zip(sizes, steps))
    return c.reshape(y, (batch * math.prod(steps), *kept, *sizes[count:]))


@operation("BatchToSpaceND")
def batch_to_space(c: Context, x: Node, block: Value, crops: Value) -> Node:
    """The inverse of SpaceToBatchND; crops: of both ends."""
    x, steps = c.node(x), _block(c, block)
    ends = c.known(crops, "what is cut off").tolist()
    count, (batch, *sizes) = len(steps), x.shape
    images = batch // math.prod(steps)
    y = c.reshape(x, (*steps, images, *sizes))
    order = [count, *(a for n in range(count) for a in (count + 1 + n, n))]
    y = permute(c, y, [*order, *range(2 * count + 1, y.tensor.rank)])
    whole = [size * n for size, n in zip(sizes, steps)]
    y = c.reshape(y, (images, *whole, *sizes[count:]))
    cuts = [(n + 1, low, size - high, 1) for n, (size, (low, high)) in enumerate(zip(whole, ends))]
    return slice_axes(c, y, cuts)


@operation("Transpose")
def transpose(c: Context, x: Node, order: Value) -> Node:
    """Axes in another order."""
    return permute(c, c.node(x), [int(a) for a in c.numbers(order, "the order of axes")])


@operation("ConcatV2")
def concat_v2(c: Context, *inputs: Value) -> Value:
    """One after the other along an axis."""
    *values, last = inputs
    axis = c.axis(int(c.number(last, "the axis")), len(values[0].shape))
    if all(isinstance(v, Known) for v in values):
        joined = np.concatenate([np.asarray(v.array, object) for v in values], axis)
        return Known.of(joined, values[0].dtype)
    return concat(c, [c.node(v) for v in values], axis)


@operation("Pack")
def pack(c: Context, *values: Value) -> Value:
    """Stacked along a new axis."""
    axis = c.attrs["axis"]
    axis += len(values[0].shape) + 1 if axis < 0 else 0
    if all(isinstance(v, Known) for v in values):
        stacked = np.stack([np.asarray(v.array, object) for v in values], axis)
        return Known.of(stacked, values[0].dtype)
    nodes = [c.node(v) for v in values]
    shape = nodes[0].shape
    parts = [c.reshape(n, (*shape[:axis], 1, *shape[axis:])) for n in nodes]
    return c.op("concat", *parts, axis=axis)


@operation("Unpack")
def unpack(c: Context, x: Value) -> tuple[Value, ...]:
    """The slices along an axis."""
    axis, count = c.axis(c.attrs["axis"], len(x.shape)), c.attrs["num"]
    if isinstance(x, Known):
        return tuple(Known.of(np.take(x.array, k, axis), x.dtype) for k in range(count))
    kept = tuple(s for k, s in enumerate(x.shape) if k != axis)
    return tuple(c.reshape(c.slice(x, axis, k, k + 1), kept) for k in range(count))


@operation("Split")
def split(c: Context, axis: Value, x: Node) -> tuple[Node, ...]:
    """Equal parts along an axis."""
    place = c.axis(int(c.number(axis, "the axis")), x.tensor.rank)
    count = c.attrs["num_split"]
    each = x.shape[place] // count
    return tuple(slice_axes(c, x, [(place, k * each, (k + 1) * each, 1)]) for k in range(count))


@operation("SplitV")
def split_v(c: Context, x: Node, sizes: Value, axis: Value) -> tuple[Node, ...]:
    """Parts of given sizes along an axis; one may be -1."""
    place = c.axis(int(c.number(axis, "the axis")), x.tensor.rank)
    lengths: list[Size] = list(c.sizes(sizes, "the sizes"))
    if -1 in lengths:
        rest: Size = x.shape[place]
        for length in lengths:
            rest = rest if length == -1 else rest - length
        lengths[lengths.index(-1)] = rest
    parts: list[Node] = []
    start: Size = 0
    for length in lengths:
        parts.append(slice_axes(c, x, [(place, start, start + length, 1)]))
        start = start + length
    return tuple(parts)


@operation("Slice")
def slice_row(c: Context, x: Value, begin: Value, size: Value) -> Value:
    """A part of given sizes; -1 is all that follows."""
    starts, sizes = c.numbers(begin, "where a slice begins"), c.sizes(size, "the size of a slice")
    ends = [n if s == -1 else b + s for b, s, n in zip(starts, sizes, x.shape)]
    if isinstance(x, Known):
        cuts = tuple(slice(b, int(e)) for b, e in zip(starts, ends) if not isinstance(e, Dim))
        return Known.of(x.array[cuts], x.dtype)
    return slice_axes(c, x, [(k, b, e, 1) for k, (b, e) in enumerate(zip(starts, ends))])


# ---- strided slices ------------------------------------------------------------------------------


@operation("StridedSlice")
def strided_slice(c: Context, x: Value, begin: Value, end: Value, strides: Value) -> Value:
    """x[begin:end:stride, …] as in Python, with new axes, single elements and an ellipsis."""
    spec = _spec(c, len(x.shape), begin, end, strides)
    if isinstance(x, Known):
        return Known.of(x.array[tuple(spec)], x.dtype)
    cuts: list[tuple[int, Any, Any, int]] = []
    flips: list[int] = []
    shape: list[tuple[int | None, bool]] = []  # (axis of x or None for a new one, kept)
    axis = 0
    for entry in spec:
        if entry is None:
            shape.append((None, True))
            continue
        if isinstance(entry, slice):
            cut = _cut(c, x.shape[axis], entry)
            if cut[2] < 0:
                flips.append(axis)
                cut = _reversed(c, x.shape[axis], *cut)
            cuts.append((axis, *cut))
            shape.append((axis, True))
        else:
            at = _place(c, x.shape[axis], entry)
            cuts.append((axis, at, at + 1, 1))
            shape.append((axis, False))
        axis += 1
    if flips:
        x = c.op("flip", x, axes=tuple(flips))
    y = slice_axes(c, x, cuts)
    kept = tuple(1 if a is None else y.shape[a] for a, stays in shape if stays)
    return c.reshape(y, kept)


def _spec(c: Context, rank: int, begin: Value, end: Value, strides: Value) -> list[Any]:
    """One entry for each place of the subscript: a slice, a number, or None for a new axis."""
    begins = _entries(c, begin)
    ends, steps = _entries(c, end), c.numbers(strides, "the strides of a slice")
    bits = {
        n: c.attrs[f"{n}_mask"] for n in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    used = sum(
        not (bits["new_axis"] >> k & 1 or bits["ellipsis"] >> k & 1) for k in range(len(steps))
    )
    spec: list[Any] = []
    for k, (b, e, s) in enumerate(zip(begins, ends, steps)):
        if bits["ellipsis"] >> k & 1:
            spec.extend([slice(None)] * (rank - used))
        elif bits["new_axis"] >> k & 1:
            spec.append(None)
        elif bits["shrink_axis"] >> k & 1:
            spec.append(b)
        else:
            low = None if bits["begin"] >> k & 1 else b
            spec.append(slice(low, None if bits["end"] >> k & 1 else e, s))
    axes = sum(entry is not None for entry in spec)
    return spec + [slice(None)] * (rank - axes)


def _entries(c: Context, x: Value) -> list[Size]:
    return c.sizes(x, "the bounds of a slice")


def _place(c: Context, size: Size, at: Size) -> Size:
    if isinstance(at, Dim):
        c.refuse("an element at a place that follows the batch")
    return size + at if at < 0 else at


def _bound(size: Size, bound: Size) -> Size:
    """A bound of a slice within 0 … size."""
    if isinstance(bound, int) and bound < 0:
        bound = size + bound
    if isinstance(bound, int) and isinstance(size, int):
        return min(max(bound, 0), size)
    return bound


def _cut(c: Context, size: Size, entry: slice) -> tuple[Any, Any, int]:
    step = 1 if entry.step is None else int(entry.step)
    if step < 0:
        if isinstance(size, Dim) and (entry.start is not None or entry.stop is not None):
            c.refuse("a part of the batch backwards")
        if isinstance(size, Dim):
            return size - 1, -1, step
        first, last, _ = entry.indices(size)
        return first, last, step
    start: Size = 0 if entry.start is None else _bound(size, entry.start)
    stop: Size = size if entry.stop is None else _bound(size, entry.stop)
    if isinstance(start, int) and isinstance(stop, int):
        stop = max(start, stop)
    return start, stop, step


def _reversed(c: Context, size: Size, start: Any, stop: Any, step: int) -> tuple[Any, Any, int]:
    """The same elements of the axis turned round."""
    first, last = size - 1 - start, size - 1 - stop
    if isinstance(first, int) and isinstance(last, int):
        last = max(first, last)
    return first, last, -step


# ---- padding, repeating, filling -----------------------------------------------------------------


@operation("Pad", "PadV2")
def pad_row(c: Context, x: Node, amounts: Value, value: Value | None = None) -> Node:
    """Elements of one value around."""
    pairs = np.reshape(c.numbers(_flat(c, amounts), "padding"), (-1, 2))
    fill = 0.0 if value is None else float(c.number(value, "the value of padding"))
    x = c.node(x)
    if x.dtype.kind != "float":
        c.refuse(f"padding of {x.dtype}")
    return pad(c, x, pairs[:, 0].tolist(), pairs[:, 1].tolist(), fill)


def _flat(c: Context, x: Value) -> Known:
    array = c.known(x, "padding")
    return Known(array.reshape(-1), x.dtype)


@operation("MirrorPad")
def mirror_pad(c: Context, x: Node, amounts: Value) -> Node:
    """Mirrored elements around."""
    if c.attrs["mode"] != "REFLECT":
        c.refuse("a mirror that repeats the border")
    pairs = np.reshape(c.numbers(_flat(c, amounts), "padding"), (-1, 2))
    return pad(c, c.node(x), pairs[:, 0].tolist(), pairs[:, 1].tolist(), 0.0, "reflect")


@operation("BroadcastTo")
def broadcast_to(c: Context, x: Node, shape: Value) -> Node:
    """Axes of size 1 repeated."""
    x = c.node(x)
    sizes = tuple(c.sizes(shape, "the shape"))
    return c.expand(x, broadcast(c.target, x.shape, sizes))


@operation("BroadcastArgs")
def broadcast_args(c: Context, a: Value, b: Value) -> Known:
    """The shape that broadcasting gives."""
    shapes = [tuple(c.sizes(x, "a shape")) for x in (a, b)]
    return Known.of(list(broadcast(c.target, *shapes)), a.dtype)


@operation("Tile")
def tile(c: Context, x: Node, multiples: Value) -> Node:
    """x laid side by side."""
    x = c.node(x)
    times = c.sizes(multiples, "how often it is repeated")
    if all(t == 1 for t in times):
        return x
    if all(s == 1 or t == 1 for s, t in zip(x.shape, times)):
        return c.expand(x, tuple(t if s == 1 else s for s, t in zip(x.shape, times)))
    return c.op("repeat", x, repeats=tuple(c.numbers(multiples, "how often it is repeated")))


@operation("Fill")
def fill(c: Context, shape: Value, value: Value) -> Node:
    """One value in a shape."""
    sizes = tuple(c.sizes(shape, "the shape")) if c.known(shape, "the shape").size else ()
    return c.op("full", shape=sizes, value=c.number(value, "the value"), dtype=value.dtype)


@operation("Range")
def range_row(c: Context, start: Value, limit: Value, delta: Value) -> Node:
    """0, 1, … below a size that follows the batch; others are known."""
    first, step = c.number(start, "where a range begins"), c.number(delta, "the step of a range")
    (end,) = c.sizes(limit, "where a range ends")
    if (first, step) != (0, 1) or start.dtype.kind != "int":
        c.refuse("a range of the batch with another beginning or step")
    y = c.op("iota", shape=(end,), axis=0, dtype=I64)
    return c.cast(y, start.dtype)


@operation("ReverseV2")
def reverse(c: Context, x: Node, axes: Value) -> Node:
    """Axes turned round."""
    x = c.node(x)
    found = c.numbers(axes, "the axes") if c.known(axes, "the axes").size else []
    return c.op("flip", x, axes=c.axes(found, x.tensor.rank)) if found else x


@operation("Roll")
def roll(c: Context, x: Node, shift: Value, axis: Value) -> Node:
    """Elements moved round along axes."""
    x = c.node(x)
    axes = tuple(c.axis(a, x.tensor.rank) for a in c.numbers(axis, "the axes"))
    shifts = c.numbers(shift, "the shifts")
    total: dict[int, int] = {}
    for a, s in zip(axes, shifts):
        total[a] = total.get(a, 0) + s
    return c.op("roll", x, axes=tuple(total), shifts=tuple(total.values()))


@operation("DepthToSpace")
def depth_to_space(c: Context, x: Node) -> Node:
    """Channels as pixels: [N, H, W, b b C] -> [N, H b, W b, C]"""
    if c.attrs["data_format"] != "NHWC":
        c.refuse("channels that are not last")
    block = c.attrs["block_size"]
    n, h, w, channels = c.node(x).shape
    y = c.reshape(c.node(x), (n, h, w, block, block, channels // (block * block)))
    y = permute(c, y, (0, 1, 3, 2, 4, 5))
    return c.reshape(y, (n, h * block, w * block, channels // (block * block)))


@operation("SpaceToDepth")
def space_to_depth(c: Context, x: Node) -> Node:
    """Pixels as channels: [N, H b, W b, C] -> [N, H, W, b b C]"""
    if c.attrs["data_format"] != "NHWC":
        c.refuse("channels that are not last")
    block = c.attrs["block_size"]
    n, h, w, channels = c.node(x).shape
    y = c.reshape(c.node(x), (n, h // block, block, w // block, block, channels))
    y = permute(c, y, (0, 1, 3, 2, 4, 5))
    return c.reshape(y, (n, h // block, w // block, channels * block * block))
