"""Rows that pick parts of a tensor by position or by index, and those that write parts of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sol.core.dims import Dim, Size, product
from sol.core.dtypes import BOOL, I64
from sol.ir.graph import Node
from sol.pytorch.context import Context, Missing, Result
from sol.pytorch.rows.shape import cut
from sol.pytorch.rows.table import row

_MODES = ("sum", "mean", "max")
_MOST_PLACES = 64
_MOST_PAIRS = 1 << 16  # of a place that is written and one that there is, which are compared


# ---- by position


def _start(c: Context, start: Size | None, size: Size) -> Size:
    """Where a slice begins: negative counts from the end, and it stays within the axis."""
    if start is None:
        return 0
    if isinstance(start, int) and start < 0:
        start = size + start
    if isinstance(start, Dim) and not isinstance(size, Dim):
        c.refuse(f"a slice that begins at {start}, which depends on the batch size B")
    if isinstance(start, int) and isinstance(size, int):
        return min(max(start, 0), size)
    return start


def _stop(start: Size, length: Size, step: int) -> Size:
    return start + (length - 1) * step + 1


@row("slice.Tensor", "slice_copy.Tensor")
def slice_(
    c: Context,
    x: Node,
    dim: int = 0,
    start: Size | None = None,
    end: Size | None = None,
    step: int = 1,
) -> Result:
    """Every step-th place of an axis; how many there are PyTorch has inferred."""
    axis = c.axis(dim, x.tensor.rank)
    first = _start(c, start, x.shape[axis])
    length = c.shape[axis]
    if step == 1:
        return cut(c, x, axis, first, length)
    return c.op("slice", x, axis=axis, start=first, stop=_stop(first, length, step), step=step)


@row("narrow")
def narrow(c: Context, x: Node, dim: int, start: Size, length: Size) -> Result:
    """`length` places of an axis from `start` on."""
    axis = c.axis(dim, x.tensor.rank)
    return cut(c, x, axis, _start(c, start, x.shape[axis]), length)


@row("select.int", "select_copy.int")
def select(c: Context, x: Node, dim: int, index: Size) -> Result:
    """One place of an axis, without that axis."""
    axis = c.axis(dim, x.tensor.rank)
    first = x.shape[axis] + index if isinstance(index, int) and index < 0 else index
    return c.reshape(cut(c, x, axis, first, 1), c.shape)


# ---- by index


@row("gather")
def gather(c: Context, x: Node, dim: int, index: Node, *, sparse_grad: bool = False) -> Result:
    """result[i][j] = x[index[i][j]][j], for axis 0."""
    if not x.tensor.rank or not index.tensor.rank:
        c.refuse("a tensor without axes")
    return c.op("gather", x, index, axis=c.axis(dim, x.tensor.rank))


@row("take_along_dim")
def take_along_dim(c: Context, x: Node, index: Node, dim: int | None = None) -> Result:
    """gather with the other axes broadcast; without an axis in the flattened tensors."""
    if dim is None:
        flat = c.reshape(x, (product(x.shape),))
        return c.op("gather", flat, c.reshape(index, (product(index.shape),)), axis=0)
    axis = c.axis(dim, x.tensor.rank)
    wide = [index.shape[axis] if a == axis else s for a, s in enumerate(c.shape)]
    tall = [x.shape[axis] if a == axis else s for a, s in enumerate(c.shape)]
    return c.op("gather", c.expand(x, tuple(tall)), c.expand(index, tuple(wide)), axis=axis)


@row("index_select")
def index_select(c: Context, x: Node, dim: int, index: Node) -> Result:
    """Places of an axis by a list of them."""
    if not x.tensor.rank:
        return x
    axis = c.axis(dim, x.tensor.rank)
    found = c.op("take", x, c.reshape(index, (product(index.shape),)), axis=axis)
    return c.reshape(found, c.shape)


@row("take")
def take(c: Context, x: Node, index: Node) -> Result:
    """Elements of the flattened tensor."""
    return c.op("take", c.reshape(x, (product(x.shape),)), index, axis=0)


@row("embedding")
def embedding(
    c: Context, weight: Node, index: Node, padding: int = -1, by_frequency: bool = False,
    sparse: bool = False,
) -> Result:  # fmt: skip
    """A row of the weight for each index; that of `padding` is not trained."""
    y = c.op("take", weight, index, axis=0)
    if not c.training:
        return y
    if by_frequency or sparse:
        c.refuse("an embedding whose gradient is sparse or scaled by frequency")
    if padding < 0:
        return y
    is_padding = c.op("eq", index, c.constant(padding, index.dtype))
    is_padding = c.reshape(is_padding, (*index.shape, 1))
    return c.op("where", is_padding, c.op("detach", y), y)


@row("index.Tensor", "_unsafe_index.Tensor")
def index_(c: Context, x: Node, indices: Sequence[Node | None]) -> Result:
    """x[i, j, :, …] with tensors of indices."""
    axes = tuple(a for a, i in enumerate(indices) if i is not None)
    used = [i for i in indices if i is not None]
    if any(i.dtype == BOOL for i in used):
        c.refuse("an index by a mask has a size that depends on its values")
    if len(used) == 1:
        return c.op("take", x, used[0], axis=axes[0])
    return c.op("index", x, *used, axes=axes)


@row("diagonal", "diagonal_copy")
def diagonal(c: Context, x: Node, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Result:
    """The diagonal of two axes as a new last axis."""
    rank = x.tensor.rank
    a, b = c.axis(dim1, rank), c.axis(dim2, rank)
    length = c.shape[-1]
    if isinstance(length, Dim):
        c.refuse("the length of the diagonal depends on the batch size B")
    rest = [k for k in range(rank) if k not in (a, b)]
    front = c.permute(x, [a, b, *rest])
    steps = np.arange(length)
    rows = c.constant(steps + max(-offset, 0), I64)
    columns = c.constant(steps + max(offset, 0), I64)
    picked = c.op("index", front, rows, columns, axes=(0, 1))
    return c.permute(picked, [*range(1, rank - 1), 0])


@row("one_hot")
def one_hot(c: Context, x: Node, classes: int = -1) -> Result:
    """1 at the place that x names, 0 elsewhere, along a new last axis."""
    if classes < 0:
        c.refuse("the number of classes depends on the values")
    return c.op("one_hot", x, classes=classes)


# ---- bags of embeddings


@row("embedding_bag", "embedding_bag.padding_idx", "_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    c: Context,
    weight: Node,
    index: Node,
    offsets: Node,
    scale: bool = False,
    mode: int = 0,
    sparse: bool = False,
    weights: Node | None = None,
    include_last: bool = False,
    padding: int | None = None,
) -> Result:
    """Sum, mean or maximum over bags of rows, where all bags are of one size."""
    if c.training and (scale or sparse):
        c.refuse("bags of embeddings whose gradient is sparse or scaled by frequency")
    size = _bag_size(c)
    if size is None or include_last or (padding is not None and padding >= 0):
        c.refuse("bags of different sizes, or with padding")
    bags = product(index.shape) // size
    rows = c.reshape(c.op("take", weight, index, axis=0), (bags, size, weight.shape[1]))
    if weights is not None:
        rows = c.op("mul", rows, c.reshape(weights, (bags, size, 1)))
    op = "max_reduce" if mode == 2 else _MODES[mode]
    reduced = c.op(op, rows, axes=(1,), keepdims=False)
    other = Missing("what embedding_bag keeps for its gradient")
    return reduced, other, other, other


def _bag_size(c: Context) -> int | None:
    """The step of `offsets = arange(0, number of indices, step)`, or None if it is not one."""
    given = () if c.fx is None else c.fx.args
    node = given[2] if len(given) > 2 else None
    if str(getattr(node, "target", "")) != "aten.arange.start_step":
        return None
    start, _, step = getattr(node, "args", (None, None, None))
    return step if start == 0 and isinstance(step, int) else None


# ---- writing a part


@row("slice_scatter")
def slice_scatter(
    c: Context,
    x: Node,
    source: Node,
    dim: int = 0,
    start: Size | None = None,
    end: Size | None = None,
    step: int = 1,
) -> Result:
    """x with a slice of it replaced."""
    axis = c.axis(dim, x.tensor.rank)
    value = c.cast(source, x.dtype)
    if value.shape == x.shape and step == 1:
        return value
    first = _start(c, start, x.shape[axis])
    stop = _stop(first, value.shape[axis], step)
    return c.op("slice_assign", x, value, axis=axis, start=first, stop=stop, step=step)


@row("select_scatter")
def select_scatter(c: Context, x: Node, source: Node, dim: int, index: int) -> Result:
    """x with one place of an axis replaced."""
    axis = c.axis(dim, x.tensor.rank)
    place = x.shape[axis] + index if index < 0 else index
    return c.op("select_assign", x, c.cast(source, x.dtype), axis=axis, index=place)


@row("index_put")
def index_put(
    c: Context, x: Node, indices: Sequence[Node | None], values: Node, accumulate: bool = False
) -> Result:
    """x[mask] = number, or x[:, i] = values with a list of places of one axis."""
    used = [(a, i) for a, i in enumerate(indices) if i is not None]
    if accumulate or len(used) != 1:
        c.refuse("it adds, or picks places by several tensors of indices")
    axis, index = used[0]
    value = c.cast(values, x.dtype)
    if index.dtype == BOOL:
        return _masked(c, x, axis, index, value)
    return _placed(c, x, axis, index, value)


def _masked(c: Context, x: Node, axis: int, mask: Node, value: Node) -> Node:
    """x with one number where the mask, of some axes from `axis` on, is true."""
    if any(size != 1 for size in value.shape):
        c.refuse("a mask with a number of values that depends on it")
    after = x.tensor.rank - axis - mask.tensor.rank
    wide = c.reshape(mask, (*mask.shape, *[1] * after))
    return c.op("where", c.expand(wide, x.shape), c.expand(c.reshape(value, ()), x.shape), x)


def _placed(c: Context, x: Node, axis: int, index: Node, value: Node) -> Node:
    """x with values at a list of places of an axis; of equal places the last one counts."""
    count, extent = product(index.shape), x.shape[axis]
    if index.tensor.rank != 1 or not isinstance(count, int) or not isinstance(extent, int):
        c.refuse("places that are no list of a known length")
    if count > _MOST_PLACES or count * extent > _MOST_PAIRS:
        c.refuse(f"{count} places of {extent}")
    index = c.cast(index, I64)
    below = c.op("lt", index, c.constant(0, I64))
    index = c.op("where", below, c.op("add", index, c.constant(extent, I64)), index)
    hit = c.op(
        "eq", c.reshape(index, (count, 1)), c.op("iota", shape=(1, extent), axis=1, dtype=I64)
    )
    number = c.op("iota", shape=(count, 1), axis=0, dtype=I64)
    numbered = c.op("where", hit, number, c.constant(-1, I64))
    last = c.op("max_reduce", numbered, axes=(0,), keepdims=False)  # of the values, -1 for none
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    first = c.op("max", last, c.constant(0, I64))
    taken = c.op("take", c.expand(value, shape), first, axis=axis)
    is_hit = c.op("ge", last, c.constant(0, I64))
    wide = c.reshape(is_hit, (extent, *[1] * (x.tensor.rank - axis - 1)))
    return c.op("where", c.expand(wide, x.shape), taken, x)


@row("copy")
def copy(c: Context, x: Node, source: Node, non_blocking: bool = False) -> Result:
    """The source in x's shape and type: x.copy_(source) as a value."""
    return c.expand(c.cast(source, x.dtype), x.shape)
