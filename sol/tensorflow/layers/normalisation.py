"""Rows of normalisations and of the scaling of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers as k

from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.tensorflow.activations import clamp, scalar
from sol.tensorflow.context import Context
from sol.tensorflow.layers.table import layer, optional, weight
from sol.tensorflow.layout import inverse, permute, pointwise


def _second(c: Context, x: Node, axis: int) -> tuple[Node, tuple[int, ...]]:
    """x with an axis at place 1, and the order that takes it back."""
    rest = [a for a in range(x.tensor.rank) if a not in (0, axis)]
    order = (0, axis, *rest)
    return permute(c, x, order), inverse(order)


def _affine(c: Context, size: int, scale: Any, shift: Any) -> list[Node]:
    """Both scale and shift or neither; one that is missing is 1 or 0."""
    if scale is None and shift is None:
        return []
    found = [optional(c, scale), optional(c, shift)]
    return [
        c.op("full", shape=(size,), value=value, dtype=F32) if node is None else node
        for node, value in zip(found, (1.0, 0.0))
    ]


@layer(k.BatchNormalization)
def batch_norm(c: Context, of: Any, x: Node, mask: Any = None) -> Node:
    """By the statistics that the layer keeps; in training by those of the batch."""
    if getattr(of, "renorm", False):
        c.refuse("renormalisation")
    rank = x.tensor.rank
    axis = c.axis(of.axis, rank)
    if axis == 0:
        c.refuse("channels on the axis of the batch")
    y, back = _second(c, c.floating(x), axis)
    tensors = _affine(c, of.moving_mean.shape[0], of.gamma, of.beta)
    statistics = _of_batch if c.training and of.trainable else _kept
    y = c.op(
        "batch_norm", y, *statistics(c, of, y), *tensors, eps=float(of.epsilon),
        affine=bool(tensors),
    )  # fmt: skip
    return permute(c, y, back)


def _kept(c: Context, of: Any, x: Node) -> tuple[Node, Node]:
    return weight(c, of.moving_mean), weight(c, of.moving_variance)


def _of_batch(c: Context, of: Any, x: Node) -> tuple[Node, Node]:
    """Mean and variance over all but the channels; the layer keeps a part of them."""
    if getattr(of, "synchronized", False):
        c.refuse("statistics of several devices")
    axes = tuple(a for a in range(x.tensor.rank) if a != 1)
    mean = c.op("mean", x, axes=axes, keepdims=False)
    variance = c.op("var", x, axes=axes, correction=0.0, keepdims=False)
    updates = c.reading.updates
    for kept, own in ((of.moving_mean, mean), (of.moving_variance, variance)):
        before = next((new for v, new in reversed(updates) if v is kept), None)
        old = scalar(c, "mul", before or weight(c, kept), float(of.momentum))
        part = scalar(c, "mul", c.op("detach", own), 1.0 - float(of.momentum))
        updates.append((kept, c.op("add", old, part)))
    return mean, variance


@layer(k.LayerNormalization)
def layer_norm(c: Context, of: Any, x: Node) -> Node:
    """Over the last axes together."""
    axes = of.axis if isinstance(of.axis, (list, tuple)) else [of.axis]
    if c.axes(axes, x.tensor.rank) != tuple(range(x.tensor.rank - len(axes), x.tensor.rank)):
        c.refuse("axes that are not the last ones")
    if getattr(of, "rms_scaling", False):
        c.refuse("rms_scaling")
    tensors = [t for t in (optional(c, of.gamma), optional(c, of.beta)) if t is not None]
    return c.op(
        "layer_norm", c.floating(x), *tensors, axes_count=len(axes), eps=float(of.epsilon),
        has_weight=of.gamma is not None, has_bias=of.beta is not None,
    )  # fmt: skip


@layer(k.GroupNormalization)
def group_norm(c: Context, of: Any, x: Node) -> Node:
    """Over groups of channels of each image."""
    rank = x.tensor.rank
    axis = c.axis(of.axis, rank)
    if axis == 0 or (axis != rank - 1 and rank > 2):
        c.refuse("channels that are not last")
    y, back = _second(c, c.floating(x), axis)
    channels = x.shape[axis]
    if not isinstance(channels, int):
        c.refuse("channels that follow the batch")
    tensors = _affine(c, channels, of.gamma if of.scale else None, of.beta if of.center else None)
    groups = channels if of.groups == -1 else of.groups
    y = c.op("group_norm", y, *tensors, groups=groups, eps=float(of.epsilon), affine=bool(tensors))
    return permute(c, y, back)


@layer(k.Rescaling)
def rescaling(c: Context, of: Any, x: Node) -> Node:
    """x * scale + offset"""
    y = pointwise(c, "mul", c.floating(x), _numbers(c, of.scale))
    return pointwise(c, "add", y, _numbers(c, of.offset))


def _numbers(c: Context, values: Any) -> Node:
    array = np.asarray(values, np.float32)
    if array.ndim > 1:
        c.refuse("scales with several axes")
    return c.constant(array, F32)


@layer(k.Normalization)
def normalization(c: Context, of: Any, x: Node) -> Node:
    """(x - mean) / deviation, with statistics of the data."""
    if of.mean is None or of.variance is None:
        c.refuse("it has no statistics yet")
    arrays: Sequence[Any] = [np.asarray(v, np.float32) for v in (of.mean, of.variance)]
    mean, variance = (c.constant(a, F32) for a in arrays)
    deviation = clamp(c, c.op("sqrt", variance), 1e-7, None)
    if of.invert:
        return pointwise(c, "add", mean, pointwise(c, "mul", c.floating(x), deviation))
    return pointwise(c, "div", pointwise(c, "sub", c.floating(x), mean), deviation)
