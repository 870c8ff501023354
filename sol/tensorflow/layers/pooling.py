"""Rows of pooling layers, global ones included."""

from __future__ import annotations

from typing import Any

from keras import layers as k

from sol.ir.graph import Node
from sol.tensorflow import windows
from sol.tensorflow.context import Context
from sol.tensorflow.layers.table import is_last, layer
from sol.tensorflow.layout import reduce


@layer(k.MaxPooling1D, k.MaxPooling2D, k.MaxPooling3D)
def max_pool(c: Context, of: Any, x: Node) -> Node:
    """The maximum of windows."""
    attrs = {"window": of.pool_size, "stride": of.strides, "padding": of.padding}
    return windows.max_pool(c, x, **attrs, last=is_last(of))


@layer(k.AveragePooling1D, k.AveragePooling2D, k.AveragePooling3D)
def avg_pool(c: Context, of: Any, x: Node) -> Node:
    """The mean of windows."""
    attrs = {"window": of.pool_size, "stride": of.strides, "padding": of.padding}
    return windows.avg_pool(c, c.floating(x), **attrs, last=is_last(of))


def _over_places(c: Context, op: str, of: Any, x: Node) -> Node:
    rank = x.tensor.rank
    axes = range(1, rank - 1) if is_last(of) else range(2, rank)
    return reduce(c, op, x, tuple(axes), bool(of.keepdims))


@layer(k.GlobalAveragePooling1D, k.GlobalAveragePooling2D, k.GlobalAveragePooling3D)
def global_average(c: Context, of: Any, x: Node, mask: Any = None) -> Node:
    """The mean of all places."""
    if mask is not None:
        c.refuse("a mask")
    return _over_places(c, "mean", of, c.floating(x))


@layer(k.GlobalMaxPooling1D, k.GlobalMaxPooling2D, k.GlobalMaxPooling3D)
def global_maximum(c: Context, of: Any, x: Node) -> Node:
    """The maximum of all places."""
    return _over_places(c, "max_reduce", of, x)
