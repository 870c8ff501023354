"""Rows of layers that move elements: shapes, padding, cropping, larger images."""

from __future__ import annotations

from typing import Any

from keras import layers as k

from sol.core.dims import product
from sol.ir.graph import Node
from sol.tensorflow import windows
from sol.tensorflow.context import Context
from sol.tensorflow.layers.table import is_last, layer
from sol.tensorflow.layout import channels_last, pad, permute, slice_axes


@layer(k.Flatten)
def flatten(c: Context, of: Any, x: Node) -> Node:
    """All but the batch in one axis."""
    if not is_last(of) and x.tensor.rank > 1:
        x = channels_last(c, x)
    return c.reshape(x, (x.shape[0], product(x.shape[1:])))


@layer(k.Reshape)
def reshape(c: Context, of: Any, x: Node) -> Node:
    """Another shape for each element of the batch."""
    wanted = c.filled(of.target_shape, product(x.shape[1:]))
    return c.reshape(x, (x.shape[0], *wanted))


@layer(k.Permute)
def permute_layer(c: Context, of: Any, x: Node) -> Node:
    """Another order of the axes behind the batch."""
    return permute(c, x, (0, *of.dims))


@layer(k.RepeatVector)
def repeat_vector(c: Context, of: Any, x: Node) -> Node:
    """The same vector n times."""
    batch, features = x.shape
    return c.expand(c.reshape(x, (batch, 1, features)), (batch, of.n, features))


def _pairs(amounts: Any) -> list[tuple[int, int]]:
    """(before, after) of each axis; layers for one axis have one pair."""
    return [tuple(amounts)] if isinstance(amounts[0], int) else [tuple(p) for p in amounts]


def _axes(of: Any, rank: int) -> range:
    first = 1 if is_last(of) else 2
    return range(first, first + rank - 2)


@layer(k.ZeroPadding1D, k.ZeroPadding2D, k.ZeroPadding3D)
def zero_padding(c: Context, of: Any, x: Node) -> Node:
    """Zeros around an image."""
    low, high = [0] * x.tensor.rank, [0] * x.tensor.rank
    for axis, (before, after) in zip(_axes(of, x.tensor.rank), _pairs(of.padding)):
        low[axis], high[axis] = before, after
    return pad(c, x, low, high)


@layer(k.Cropping1D, k.Cropping2D, k.Cropping3D)
def cropping(c: Context, of: Any, x: Node) -> Node:
    """An image without its border."""
    axes = range(1, 2) if isinstance(of, k.Cropping1D) else _axes(of, x.tensor.rank)
    pairs = zip(axes, _pairs(of.cropping))
    cuts = [(axis, before, x.shape[axis] - after, 1) for axis, (before, after) in pairs]
    return slice_axes(c, x, cuts)


@layer(k.UpSampling1D, k.UpSampling2D, k.UpSampling3D)
def up_sampling(c: Context, of: Any, x: Node) -> Node:
    """A larger image: each element several times, or between its neighbours."""
    mode = getattr(of, "interpolation", "nearest")
    if mode not in ("nearest", "bilinear"):
        c.refuse(f"interpolation={mode!r}")
    last = isinstance(of, k.UpSampling1D) or is_last(of)
    factors = (of.size,) if isinstance(of.size, int) else tuple(of.size)
    first = 1 if last else 2
    size = [x.shape[first + n] * factor for n, factor in enumerate(factors)]
    if any(not isinstance(s, int) for s in size):
        c.refuse("a size that follows the batch")
    kind = "nearest" if mode == "nearest" else "linear"
    return windows.resize(c, x if kind == "nearest" else c.floating(x), size, kind, last=last)
