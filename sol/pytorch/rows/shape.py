"""Rows that give a tensor another shape or order of axes, repeat it, or put tensors together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sol.core.dims import Dim, Shape, Size, product
from sol.ir.graph import Node
from sol.pytorch.context import Context, Result, result_dtype
from sol.pytorch.rows.table import row

_SAME_ORDER = (
    "view", "_unsafe_view", "reshape", "view_as", "reshape_as", "_reshape_alias", "view_copy",
    "flatten.using_ints", "unflatten.int", "unsqueeze", "unsqueeze_copy", "ravel",
    "squeeze", "squeeze.dim", "squeeze.dims",
    "squeeze_copy", "squeeze_copy.dim", "squeeze_copy.dims",
)  # fmt: skip


@row(*_SAME_ORDER)
def reshape(c: Context, x: Node, *_: Any, **__: Any) -> Result:
    """The same elements in the same order: the shape is the one PyTorch infers."""
    return c.reshape(x, c.shape)


@row("expand", "expand_as", "broadcast_to", "expand_copy")
def expand(c: Context, x: Node, *_: Any, **__: Any) -> Result:
    """x broadcast to the shape that PyTorch infers."""
    return c.expand(x, c.shape)


@row("permute", "permute_copy")
def permute(c: Context, x: Node, dims: Sequence[int]) -> Result:
    """Axes in another order."""
    return c.permute(x, [c.axis(d, x.tensor.rank) for d in dims])


@row("transpose.int", "swapaxes", "swapdims", "transpose_copy.int")
def transpose(c: Context, x: Node, dim0: int, dim1: int) -> Result:
    """Two axes change places."""
    axes = list(range(x.tensor.rank))
    if not axes:
        return x
    a, b = c.axis(dim0, len(axes)), c.axis(dim1, len(axes))
    axes[a], axes[b] = axes[b], axes[a]
    return c.permute(x, axes)


@row("t", "t_copy", "numpy_T")
def t(c: Context, x: Node) -> Result:
    """All axes in reverse."""
    return c.permute(x, tuple(reversed(range(x.tensor.rank))))


@row("mT", "adjoint")
def matrix_transpose(c: Context, x: Node) -> Result:
    """The last two axes change places."""
    return transpose(c, x, -2, -1)


@row("movedim.int", "movedim.intlist", "moveaxis.int", "moveaxis.intlist")
def movedim(c: Context, x: Node, source: Any, destination: Any) -> Result:
    """Some axes move to given places, the others keep their order."""
    rank = x.tensor.rank
    pairs = [(source, destination)] if isinstance(source, int) else list(zip(source, destination))
    places = {c.axis(d, rank): c.axis(s, rank) for s, d in pairs}
    rest = iter(a for a in range(rank) if a not in places.values())
    return c.permute(x, [places[a] if a in places else next(rest) for a in range(rank)])


# ---- repeating


@row("repeat", "tile")
def repeat(c: Context, x: Node, repeats: Sequence[Size]) -> Result:
    """The tensor several times along each axis; new axes in front."""
    counts = [1] * max(0, x.tensor.rank - len(repeats)) + list(repeats)
    if all(n == 1 for n in counts):
        return c.reshape(x, c.shape)
    if any(isinstance(n, Dim) for n in counts):
        return _repeat_by_batch(c, x, counts)
    return c.op("repeat", x, repeats=tuple(counts))


def _repeat_by_batch(c: Context, x: Node, counts: Sequence[Size]) -> Node:
    """Each axis s repeated r times: [s] -> [1, s] -> [r, s] -> [r * s]."""
    sizes = (1,) * (len(counts) - x.tensor.rank) + x.shape
    apart = c.reshape(x, tuple(n for s in sizes for n in (1, s)))
    wide = c.expand(apart, tuple(n for r, s in zip(counts, sizes) for n in (r, s)))
    return c.reshape(wide, c.shape)


@row("repeat_interleave.self_int")
def repeat_interleave(
    c: Context, x: Node, repeats: Size, dim: int | None = None, **_: Any
) -> Result:
    """Each element several times, next to each other."""
    if dim is None:
        x, dim = c.reshape(x, (product(x.shape),)), 0
    axis = c.axis(dim, x.tensor.rank)
    head, tail = x.shape[: axis + 1], x.shape[axis + 1 :]
    spread = c.expand(c.reshape(x, (*head, 1, *tail)), (*head, repeats, *tail))
    return c.reshape(spread, c.shape)


# ---- together and apart


@row("cat", "concat", "concatenate")
def cat(c: Context, tensors: Sequence[Node], dim: int = 0) -> Result:
    """Tensors one after the other along an axis; PyTorch ignores those of shape (0,)."""
    dtype = result_dtype(*tensors)
    kept = [c.cast(x, dtype) for x in tensors if x.shape != (0,)]
    if not kept:
        c.refuse("nothing but empty tensors")
    return (
        kept[0] if len(kept) == 1 else c.op("concat", *kept, axis=c.axis(dim, kept[0].tensor.rank))
    )


@row("stack")
def stack(c: Context, tensors: Sequence[Node], dim: int = 0) -> Result:
    """Tensors one after the other along a new axis."""
    axis = c.axis(dim, len(c.shape))
    return cat(c, [_unsqueeze(c, x, axis) for x in tensors], axis)


def _unsqueeze(c: Context, x: Node, axis: int) -> Node:
    return c.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def cut(c: Context, x: Node, axis: int, start: Size, length: Size) -> Node:
    """`length` places of an axis from `start` on."""
    if start == 0 and length == x.shape[axis]:
        return x
    return c.op("slice", x, axis=axis, start=start, stop=start + length, step=1)


@row("split.Tensor", "split.sizes", "split_with_sizes", "chunk", "split_copy.Tensor",
     "split_with_sizes_copy", "tensor_split.sections", "tensor_split.indices")  # fmt: skip
def split(c: Context, x: Node, parts: Any, dim: int = 0) -> Result:
    """Consecutive parts of an axis; how large each is PyTorch has inferred."""
    axis = c.axis(dim, x.tensor.rank)
    pieces: list[Node] = []
    start: Size = 0
    for piece in c.result:
        pieces.append(cut(c, x, axis, start, piece.shape[axis]))
        start = start + piece.shape[axis]
    return tuple(pieces)


@row("unbind.int", "unbind_copy.int")
def unbind(c: Context, x: Node, dim: int = 0) -> Result:
    """Each place of an axis as a tensor without that axis."""
    axis = c.axis(dim, x.tensor.rank)
    shape = _without(x.shape, axis)
    return tuple(c.reshape(cut(c, x, axis, n, 1), shape) for n in range(len(c.result)))


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


# ---- moving within


@row("roll")
def roll(c: Context, x: Node, shifts: Any, dims: Sequence[int] = ()) -> Result:
    """Elements moved along axes, around the end; without axes in the flattened tensor."""
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    if dims:
        axes = tuple(c.axis(d, x.tensor.rank) for d in dims)
        return c.op("roll", x, axes=axes, shifts=shifts)
    flat = c.op("roll", c.reshape(x, (product(x.shape),)), axes=(0,), shifts=shifts)
    return c.reshape(flat, x.shape)


@row("flip")
def flip(c: Context, x: Node, dims: Sequence[int]) -> Result:
    """Axes backwards."""
    return c.op("flip", x, axes=tuple(c.axis(d, x.tensor.rank) for d in dims)) if dims else x


@row("fliplr")
def fliplr(c: Context, x: Node) -> Result:
    """The second axis backwards."""
    return flip(c, x, [1])


@row("flipud")
def flipud(c: Context, x: Node) -> Result:
    """The first axis backwards."""
    return flip(c, x, [0])


@row("tril", "triu")
def triangle(c: Context, x: Node, diagonal: int = 0) -> Result:
    """The lower or upper triangle of matrices, 0 elsewhere."""
    op = "tril" if c.target.startswith("aten.tril") else "triu"
    return c.op(op, x, diagonal=diagonal)


@row("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(c: Context, x: Node, factor: int) -> Result:
    """Channels to pixels, or pixels to channels; axes before the channels stay."""
    op = "pixel_shuffle" if c.target.startswith("aten.pixel_shuffle") else "pixel_unshuffle"
    if x.tensor.rank == 4:
        return c.op(op, x, factor=factor)
    image = c.reshape(x, (product(x.shape[:-3]), *x.shape[-3:]))
    return c.reshape(c.op(op, image, factor=factor), c.shape)


@row("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(c: Context, x: Node, groups: int) -> Result:
    """Channels of all groups in turn."""
    return c.op("channel_shuffle", x, groups=groups)


@row("unfold", "unfold_copy")
def unfold(c: Context, x: Node, dimension: int, size: int, step: int) -> Result:
    """Windows of an axis as a new last axis."""
    return c.op("unfold", x, axis=c.axis(dimension, x.tensor.rank), size=size, step=step)


@row("im2col")
def im2col(
    c: Context,
    x: Node,
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Result:
    """Windows of images as columns."""
    image = x if x.tensor.rank == 4 else c.reshape(x, (1, *x.shape))
    attrs = {"kernel": kernel, "dilation": dilation, "padding": padding, "stride": stride}
    given = {k: _of_two(v) for k, v in attrs.items()}
    return c.reshape(c.op("im2col", image, **given), c.shape)


@row("col2im")
def col2im(
    c: Context,
    x: Node,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Result:
    """Columns as windows of images, which are added up where they overlap: rows, then lines."""
    size, kernel, dilation, padding, stride = map(
        _of_two, (size, kernel, dilation, padding, stride)
    )
    places = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(size, kernel, dilation, padding, stride)
    ]
    lead = x.shape[:-2]
    images, channels = (lead[0] if len(lead) == 1 else 1), c.shape[-3]
    y = c.reshape(x, (images, channels, *kernel, *places))
    for k, axis, order in ((1, 4, (0, 1, 2, 4, 5, 3)), (0, 2, (0, 1, 3, 4, 2))):
        attrs = {"step": stride[k], "dilation": dilation[k], "low": padding[k], "extent": size[k]}
        y = c.op("fold", c.permute(y, order), axis=axis, **attrs)
    return c.reshape(y, c.shape)


def _of_two(sizes: Sequence[int]) -> tuple[int, ...]:
    """A size for each of two axes; one alone counts for both."""
    return (tuple(sizes) * 2)[:2] if len(sizes) == 1 else tuple(sizes)
