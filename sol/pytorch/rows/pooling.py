"""Rows of pooling in one, two and three dimensions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sol.core.dims import product
from sol.ir.graph import Node
from sol.pytorch.context import Context, Missing, Result
from sol.pytorch.rows.convolution import Ints, spread
from sol.pytorch.rows.table import row

_POSITIONS = Missing("the positions of the maxima")


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
    """The maximum of windows; not where it was."""
    y = _max_pool(c, x, kernel, stride, padding, dilation, ceil_mode)
    return c.reshape(y, c.result[0].shape), _POSITIONS


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
