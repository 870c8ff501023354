"""Rows of pooling in one, two and three dimensions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from sol.core.dims import product
from sol.core.dtypes import F32, I64
from sol.ir.graph import Node
from sol.pytorch.context import Context, Missing, Result
from sol.pytorch.rows.convolution import Ints, spread
from sol.pytorch.rows.table import row

_POSITIONS = Missing("the positions of the maxima")
_WINDOW = ("kernel", "stride", "padding", "dilation")
_ARGUMENTS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")  # of a pooling


def _rank(c: Context) -> int:
    """The number in the operator's name: max_pool2d pools over two axes."""
    found = re.search(r"pool(\d)d", c.target)
    assert found is not None
    return int(found[1])


def _images(c: Context, x: Node, rank: int) -> Node:
    """x with exactly one axis of images and one of channels before the `rank` that are pooled."""
    if x.tensor.rank == rank + 2:
        return x
    return c.reshape(
        x,
        (1, *x.shape)
        if x.tensor.rank == rank + 1
        else (1, product(x.shape[:-rank]), *x.shape[-rank:]),
    )


def _max_pool(
    c: Context,
    x: Node,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil: bool = False,
) -> Node:
    rank = _rank(c)
    size = spread(kernel, rank)
    step = spread(stride, rank) if stride else size
    attrs = {
        "kernel": size,
        "stride": step,
        "padding": spread(padding, rank),
        "dilation": spread(dilation, rank),
    }
    return c.op("max_pool", _images(c, x, rank), **attrs, ceil=ceil)


@row("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(
    c: Context,
    x: Node,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Result:
    """The maximum of windows."""
    return c.reshape(_max_pool(c, x, kernel, stride, padding, dilation, ceil_mode), c.shape)


@row("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices")
def max_pool_with_indices(
    c: Context,
    x: Node,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Result:
    """The maximum of windows, and where in the image it was."""
    y = _max_pool(c, x, kernel, stride, padding, dilation, ceil_mode)
    result = c.reshape(y, c.result[0].shape)
    if c.training or x.dtype != F32 or not all(isinstance(n, int) for n in y.shape[2:]):
        return result, _POSITIONS
    place = _place(c, _images(c, x, _rank(c)), y)
    return result, c.reshape(place, c.result[1].shape)


def _place(c: Context, x: Node, y: Node) -> Node:
    """Where in an image the maximum of each window is: lines * width + column."""
    window = {name: y[name] for name in _WINDOW}
    tap = c.cast(c.op("max_pool_index", x, y, **window), I64)
    place = c.constant(0, I64)
    for axis, at in enumerate(_from_tap(c, tap, window["kernel"])):
        here = c.op("iota", shape=y.shape, axis=axis + 2, dtype=I64)
        first = _affine(c, here, window["stride"][axis], -window["padding"][axis])
        at = c.op("add", first, _affine(c, at, window["dilation"][axis], 0))
        place = c.op("add", c.op("mul", place, c.constant(x.shape[axis + 2], I64)), at)
    return place


def _from_tap(c: Context, tap: Node, sizes: Sequence[int]) -> list[Node]:
    """A number of a place in a box of these sizes as its place on each axis."""
    places = []
    for axis, size in enumerate(sizes):
        inner = c.constant(math.prod(sizes[axis + 1 :]), I64)
        places.append(c.op("mod", c.op("floordiv", tap, inner), c.constant(size, I64)))
    return places


def _affine(c: Context, x: Node, factor: int, term: int) -> Node:
    x = x if factor == 1 else c.op("mul", x, c.constant(factor, I64))
    return x if term == 0 else c.op("add", x, c.constant(term, I64))


@row("max_unpool2d", "max_unpool3d")
def max_unpool(
    c: Context, x: Node, place: Node, size: Sequence[int], stride: Ints = (), padding: Ints = ()
) -> Result:
    """Elements back to where they were maxima, in an image of zeros."""
    rank = len(size)
    window = _window_of(c, size)
    taps = c.constant(0, I64)
    y, where_to = _images(c, x, rank), _images(c, place, rank)
    for axis, at in enumerate(_from_tap(c, where_to, size)):
        here = c.op("iota", shape=y.shape, axis=axis + 2, dtype=I64)
        first = _affine(c, here, window["stride"][axis], -window["padding"][axis])
        taps = _affine(c, taps, window["kernel"][axis], 0)
        taps = c.op("add", taps, c.op("sub", at, first))
    spread_ = c.op("spread", y, c.cast(taps, F32), size=tuple(size), **window)
    return c.reshape(spread_, c.shape)


def _window_of(c: Context, size: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The window, without overlaps, of the pooling that has found the places."""
    rank = len(size)
    places: Any = c.fx.args[1] if c.fx is not None else None
    arguments: Any = getattr(places, "args", (None, None))
    pool, number = arguments[:2]
    if (
        number != 1
        or str(getattr(pool, "target", "")) != f"aten.max_pool{rank}d_with_indices.default"
    ):
        c.refuse("places that do not come from a pooling of this network")
    if tuple(pool.args[0].meta["val"].shape[-rank:]) != tuple(size):
        c.refuse("an image of another size than that which was pooled")
    given = dict(zip(_ARGUMENTS, pool.args[1:])) | dict(pool.kwargs)
    kernel = spread(given["kernel_size"], rank)
    window = {
        "kernel": kernel,
        "stride": spread(given["stride"], rank) if given.get("stride") else kernel,
        "padding": spread(given.get("padding", 0), rank),
        "dilation": (1,) * rank,
    }
    if any(s < k for s, k in zip(window["stride"], kernel)):
        c.refuse("windows that overlap: a place may be the maximum of two")
    if tuple(spread(given.get("dilation", 1), rank)) != window["dilation"]:
        c.refuse("dilated windows")
    return window


@row("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(
    c: Context,
    x: Node,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Result:
    """The mean of windows."""
    rank = _rank(c)
    size = spread(kernel, rank)
    step = spread(stride, rank) if stride else size
    y = c.op(
        "avg_pool", _images(c, x, rank), kernel=size, stride=step, padding=spread(padding, rank),
        ceil=ceil_mode, count_include_pad=count_include_pad, divisor=divisor_override,
    )  # fmt: skip
    return c.reshape(y, c.shape)


@row("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d",
     "_adaptive_avg_pool3d")  # fmt: skip
def adaptive_avg_pool(c: Context, x: Node, size: Sequence[int]) -> Result:
    """The mean of windows that divide the image into `size` parts."""
    rank = _rank(c)
    y = c.op("adaptive_avg_pool", _images(c, x, rank), size=spread(size, rank))
    return c.reshape(y, c.shape)


@row("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(c: Context, x: Node, size: Sequence[int]) -> Result:
    """The maximum of windows that divide the image into `size` parts; not where it was."""
    rank = _rank(c)
    y = c.op("adaptive_max_pool", _images(c, x, rank), size=spread(size, rank))
    return c.reshape(y, c.result[0].shape), _POSITIONS
