"""Rows that take a part of a tensor: slices, splits, and what is found by an index."""

from __future__ import annotations

from collections.abc import Sequence

from sol.core.dims import Dim, Size
from sol.core.dtypes import F32, I64, DType
from sol.ir.graph import Node
from sol.mxnet.attributes import Bounds, Ints
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import row

# ---- slices --------------------------------------------------------------------------------------


def _place(c: Context, given: int, extent: Size) -> Size:
    """A bound from the front, within the axis."""
    if isinstance(extent, Dim):
        if given:
            c.refuse(f"cuts an axis that follows the batch size B at {given}")
        return 0
    return min(max(given + extent if given < 0 else given, 0), extent)


def _cut(c: Context, x: Node, axis: int, begin: int | None, end: int | None, step: int = 1) -> Node:
    """begin:end:step of an axis, as Python counts."""
    c.need(step != 0, "step=0", "another step")
    extent = x.shape[axis]
    if step < 0:
        return _cut_backwards(c, x, axis, begin, end, step)
    start = 0 if begin is None else _place(c, begin, extent)
    stop = extent if end is None else _place(c, end, extent)
    c.need(
        isinstance(stop, Dim) or isinstance(start, Dim) or start < stop,
        f"{begin}:{end} of {x.tensor} on axis {axis}", "some elements",
    )  # fmt: skip
    return c.slice(x, axis, start, stop, step)


def _cut_backwards(
    c: Context, x: Node, axis: int, begin: int | None, end: int | None, step: int
) -> Node:
    """From the last place to the first: of the axis turned around."""
    extent = c.size(x, axis)
    places = range(extent)[begin:end:step]
    c.need(len(places) > 0, f"{begin}:{end}:{step} of {x.tensor}", "some elements")
    start = extent - 1 - places[0]
    stop = start + (len(places) - 1) * -step + 1
    return c.slice(c.op("flip", x, axes=(axis,)), axis, start, stop, -step)


@row("slice", "crop", "_npx_slice", "_npi_slice")
def slice_(c: Context, x: Node, *, begin: Bounds, end: Bounds, step: Bounds = ()) -> Result:
    """begin:end:step on the first axes."""
    steps = (*step, *(None,) * (len(begin) - len(step)))
    c.need(
        len(begin) == len(end) == len(steps) <= x.tensor.rank,
        f"begin={begin}, end={end}, step={step} of {x.tensor}", "a bound for each axis",
    )  # fmt: skip
    for axis, (first, last, by) in enumerate(zip(begin, end, steps)):
        x = _cut(c, x, axis, first, last, 1 if by is None else by)
    return x


@row("slice_axis")
def slice_axis(c: Context, x: Node, *, axis: int, begin: int, end: int | None = None) -> Result:
    """begin:end on one axis."""
    return _cut(c, x, c.axis(axis, x.tensor.rank), begin, end)


@row("slice_like")
def slice_like(c: Context, x: Node, like: Node, *, axes: Ints = ()) -> Result:
    """The first elements, as many as another tensor has."""
    count = min(x.tensor.rank, like.tensor.rank)
    for k in axes or range(count):
        k = c.axis(k, x.tensor.rank)
        c.need(k < like.tensor.rank, f"axis {k} of {like.tensor}", "an axis of both")
        if x.shape[k] != like.shape[k]:
            extent, wanted = c.size(x, k), c.size(like, k)
            c.need(wanted <= extent, f"{wanted} of {x.tensor}", f"{extent} at most")
            x = c.slice(x, k, 0, wanted)
    return x


@row("Crop")
def crop(
    c: Context,
    x: Node,
    like: Node | None = None,
    *,
    offset: Ints = (0, 0),
    h_w: Ints = (0, 0),
    center_crop: bool = False,
) -> Result:
    """A part of images, of the size of other images or of h_w."""
    sizes = h_w if like is None else (c.size(like, 2), c.size(like, 3))
    for axis, (size, place) in enumerate(zip(sizes, offset), 2):
        extent = c.size(x, axis)
        start = (extent - size) // 2 if center_crop else place
        c.need(start >= 0 and start + size <= extent and size > 0, f"{size} of {x.tensor}", "less")
        x = c.slice(x, axis, start, start + size)
    return x


# ---- splits --------------------------------------------------------------------------------------


def _without_axis(c: Context, parts: Sequence[Node], axis: int, squeeze: bool) -> Result:
    if not squeeze:
        return tuple(parts)
    c.need(all(p.shape[axis] == 1 for p in parts), "squeeze_axis of longer parts", "sizes of 1")
    return tuple(c.reshape(p, (*p.shape[:axis], *p.shape[axis + 1 :])) for p in parts)


@row("SliceChannel", "split")
def split(
    c: Context, x: Node, *, num_outputs: int, axis: int = 1, squeeze_axis: bool = False
) -> Result:
    """Equal parts along an axis."""
    k = c.axis(axis, x.tensor.rank)
    return _without_axis(c, c.split(x, k, num_outputs), k, squeeze_axis)


@row("_split_v2", "_npi_split", "_npi_hsplit")
def split_at(
    c: Context, x: Node, *, indices: Ints, axis: int = 1, squeeze_axis: bool = False,
    sections: int = 0,
) -> Result:  # fmt: skip
    """Parts along an axis: some equal ones, or ones that begin at these places."""
    k = c.axis(axis, x.tensor.rank)
    if sections:
        return _without_axis(c, c.split(x, k, sections), k, squeeze_axis)
    size = c.size(x, k)
    ends = (*indices[1:], size)
    c.need(
        bool(indices) and all(0 <= a < b <= size for a, b in zip(indices, ends)),
        f"parts at {indices} of {x.tensor}", "places that grow",
    )  # fmt: skip
    parts = [c.slice(x, k, a, b) for a, b in zip(indices, ends)]
    return _without_axis(c, parts, k, squeeze_axis)


# ---- by index ------------------------------------------------------------------------------------


@row("take", "_npi_take")
def take(c: Context, x: Node, index: Node, *, axis: int = 0, mode: str = "clip") -> Result:
    """Elements along an axis; an index out of range is the nearest (clip) or goes around (wrap)."""
    if mode not in ("clip", "wrap"):
        c.refuse(f"mode={mode!r}: an index out of range is an error")
    k = c.axis(axis, x.tensor.rank)
    return c.op("take", x, c.indices(index, c.size(x, k), mode), axis=k)


@row("Embedding", "_npx_embedding", "_contrib_SparseEmbedding")
def embedding(
    c: Context, index: Node, weight: Node, *, input_dim: int, output_dim: int, dtype: DType = F32
) -> Result:
    """Rows of a weight."""
    c.computable(dtype)
    c.need(
        weight.shape == (input_dim, output_dim), f"a weight {weight.tensor}",
        f"({input_dim}, {output_dim})",
    )  # fmt: skip
    return c.op("take", weight, c.indices(index, input_dim), axis=0)


@row("batch_take")
def batch_take(c: Context, x: Node, index: Node) -> Result:
    """One element of each row."""
    return _picked(c, x, index, 1, False, "clip")


@row("pick", "choose_element_0index", "_npx_pick")
def pick(
    c: Context, x: Node, index: Node, *, axis: int | None = -1, keepdims: bool = False,
    mode: str = "clip",
) -> Result:  # fmt: skip
    """One element along an axis, for each place of all others."""
    if axis is None:
        c.refuse("axis=None")
    return _picked(c, x, index, c.axis(axis, x.tensor.rank), keepdims, mode)


def _picked(c: Context, x: Node, index: Node, axis: int, keepdims: bool, mode: str) -> Node:
    rest = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    y = c.op("gather", x, c.reshape(c.indices(index, c.size(x, axis), mode), rest), axis=axis)
    return y if keepdims else c.reshape(y, (*x.shape[:axis], *x.shape[axis + 1 :]))


@row("gather_nd", "_npi_gather_nd", "_npx_gather_nd")
def gather_nd(c: Context, x: Node, index: Node) -> Result:
    """Elements at places that are columns of the index."""
    count = c.size(index, 0)
    c.need(0 < count <= x.tensor.rank, f"an index {index.tensor} of {x.tensor}", "rows per axis")
    rows = [
        c.indices(c.reshape(c.slice(index, 0, k, k + 1), index.shape[1:]), c.size(x, k))
        for k in range(count)
    ]
    return c.op("index", x, *rows, axes=tuple(range(count)))


@row("one_hot", "_npx_one_hot")
def one_hot(
    c: Context, index: Node, *, depth: int, on_value: float = 1.0, off_value: float = 0.0,
    dtype: DType = F32,
) -> Result:  # fmt: skip
    """on_value at the index along a new last axis, else off_value."""
    c.need(depth > 0, f"depth={depth}", "1 or more")
    c.computable(dtype)
    places = c.op("iota", shape=(depth,), axis=0, dtype=I64)
    column = c.reshape(c.cast(index, I64), (*index.shape, 1))
    pair = (
        c.constant(v if dtype.kind == "float" else int(v), dtype) for v in (on_value, off_value)
    )
    return c.op("where", c.op("eq", column, places), *pair)


# ---- sequences: [time, batch, …], or [batch, time, …] with axis=1 --------------------------------


def _times(c: Context, x: Node, axis: int) -> Node:
    """The place along the axis of time, to be compared with lengths of sequences."""
    c.need(axis in (0, 1) and x.tensor.rank >= 2, f"axis={axis} of {x.tensor}", "0 or 1")
    count = c.size(x, axis)
    return c.reshape(
        c.op("iota", shape=(count,), axis=0, dtype=I64), (count, 1) if axis == 0 else (1, count)
    )


def _lengths(c: Context, length: Node, axis: int) -> Node:
    shape = (1, *length.shape) if axis == 0 else (*length.shape, 1)
    return c.reshape(c.cast(length, I64), shape)


@row("SequenceMask", "_npx_sequence_mask")
def sequence_mask(
    c: Context, x: Node, length: Node | None = None, *, use_sequence_length: bool = False,
    value: float = 0.0, axis: int = 0,
) -> Result:  # fmt: skip
    """A number from the end of each sequence on."""
    if not use_sequence_length or length is None:
        return x
    inside = c.op("lt", _times(c, x, axis), _lengths(c, length, axis))
    inside = c.reshape(inside, (*inside.shape, *(1,) * (x.tensor.rank - 2)))
    return c.op("where", inside, x, c.constant(value, x.dtype))


@row("SequenceLast")
def sequence_last(
    c: Context, x: Node, length: Node | None = None, *, use_sequence_length: bool = False,
    axis: int = 0,
) -> Result:  # fmt: skip
    """The last element of each sequence."""
    c.need(axis in (0, 1) and x.tensor.rank >= 2, f"axis={axis} of {x.tensor}", "0 or 1")
    count = c.size(x, axis)
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    if not use_sequence_length or length is None:
        return c.reshape(c.slice(x, axis, count - 1, count), rest)
    last = c.op("sub", c.cast(length, I64), c.constant(1, I64))
    return c.reshape(_along(c, x, _lengths(c, last, axis), axis), rest)


@row("SequenceReverse")
def sequence_reverse(
    c: Context, x: Node, length: Node | None = None, *, use_sequence_length: bool = False,
    axis: int = 0,
) -> Result:  # fmt: skip
    """Each sequence turned around, up to its length."""
    if axis != 0:
        c.refuse(f"axis={axis}")
    if not use_sequence_length or length is None:
        return c.op("flip", x, axes=(0,))
    times, lengths = _times(c, x, 0), _lengths(c, length, 0)
    turned = c.op("sub", c.op("sub", lengths, c.constant(1, I64)), times)
    return _along(c, x, c.op("where", c.op("lt", times, lengths), turned, times), 0)


def _along(c: Context, x: Node, place: Node, axis: int) -> Node:
    """Elements along the axis of time at places that are given for each sequence."""
    place = c.reshape(place, (*place.shape, *(1,) * (x.tensor.rank - 2)))
    shape = (*place.shape[:2], *x.shape[2:])
    index = c.op("clamp", place, low=0, high=c.size(x, axis) - 1)
    return c.op("gather", x, c.expand(index, shape), axis=axis)
