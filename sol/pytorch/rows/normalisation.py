"""Rows of normalisations: by batch statistics, layer, group, instance, root mean square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sol.core.dims import product
from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.pytorch.context import Context, Missing, Result
from sol.pytorch.rows.reduction import reduce_, variance
from sol.pytorch.rows.table import row

_EPS = 1.1920928955078125e-07  # of float32, what rms_norm takes where none is given
_SAVED = Missing("statistics that a normalisation keeps for its gradient")


def _affine(c: Context, x: Node, weight: Node | None, bias: Node | None) -> tuple[Node, ...]:
    """Both weight and bias or neither; one that is missing is 1 or 0."""
    if weight is None and bias is None:
        return ()
    other = weight if weight is not None else bias
    assert other is not None
    if weight is None:
        weight = c.op("full", shape=other.shape, value=1.0, dtype=F32)
    if bias is None:
        bias = c.op("full", shape=other.shape, value=0.0, dtype=F32)
    return weight, bias


def _fixed(
    c: Context, x: Node, weight: Node | None, bias: Node | None, mean: Node, var: Node, eps: float
) -> Node:
    """Normalisation by statistics that are given."""
    tensors = _affine(c, x, weight, bias)
    return c.op("batch_norm", x, mean, var, *tensors, eps=float(eps), affine=bool(tensors))


def _by_batch(c: Context, x: Node, weight: Node | None, bias: Node | None, eps: float) -> Node:
    """Normalisation by the statistics of this very batch."""
    axes = [a for a in range(x.tensor.rank) if a != 1]
    centred = c.op("sub", x, reduce_(c, "mean", x, axes, True))
    var = variance(c, x, axes, 0.0, True)
    scale = c.op("rsqrt", c.op("add", var, c.constant(float(eps), x.dtype)))
    y = c.op("mul", centred, scale)
    shape = (1, x.shape[1], *[1] * (x.tensor.rank - 2))
    if weight is not None:
        y = c.op("mul", y, c.reshape(weight, shape))
    return y if bias is None else c.op("add", y, c.reshape(bias, shape))


@row("batch_norm")
def batch_norm(
    c: Context,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node | None,
    var: Node | None,
    training: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Result:
    """Batch normalisation while evaluating, or without running statistics."""
    if mean is not None and var is not None and not training:
        return _fixed(c, x, weight, bias, mean, var, eps)
    if mean is not None or var is not None:
        c.refuse("batch normalisation while training changes its statistics")
    return _by_batch(c, x, weight, bias, eps)


@row("_native_batch_norm_legit_no_training")
def batch_norm_evaluating(
    c: Context,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node,
    var: Node,
    momentum: float,
    eps: float,
) -> Result:
    """Batch normalisation while evaluating, as kernels have it."""
    return _fixed(c, x, weight, bias, mean, var, eps), _SAVED, _SAVED


@row("_native_batch_norm_legit_functional")
def batch_norm_training(
    c: Context,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node,
    var: Node,
    training: bool,
    momentum: float,
    eps: float,
) -> Result:
    """Batch normalisation by the statistics of the batch, and the new running ones."""
    if not training:
        return _fixed(c, x, weight, bias, mean, var, eps), _SAVED, _SAVED, mean, var
    if not c.training:
        c.refuse("batch normalisation while training changes its statistics")
    axes = tuple(a for a in range(x.tensor.rank) if a != 1)
    count = product(x.shape[a] for a in axes)
    own_mean = c.reshape(c.op("mean", x, axes=axes, keepdims=True), mean.shape)
    own_var = c.op("var", x, axes=axes, correction=0.0, keepdims=False)
    y = _fixed(c, x, weight, bias, own_mean, own_var, eps)
    part, rest = c.constant(float(momentum), F32), c.constant(1 - float(momentum), F32)
    sizes = (c.op("extent", size=n, dtype=F32) for n in (count, count - 1))
    unbiased = c.op("div", c.op("mul", own_var, next(sizes)), next(sizes))
    new = (
        c.op("add", c.op("mul", c.op("detach", own), part), c.op("mul", old, rest))
        for own, old in ((own_mean, mean), (unbiased, var))
    )
    return y, _SAVED, _SAVED, *new


@row("_native_batch_norm_legit.no_stats")
def batch_norm_without(
    c: Context,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Result:
    """Batch normalisation without running statistics."""
    return _by_batch(c, x, weight, bias, eps), _SAVED, _SAVED


@row("native_batch_norm")
def native_batch_norm(
    c: Context,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node | None,
    var: Node | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Result:
    """Either, as kernels have it."""
    y: Any = batch_norm(c, x, weight, bias, mean, var, training, momentum, eps)
    return y, _SAVED, _SAVED


@row("instance_norm")
def instance_norm(
    c: Context,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node | None,
    var: Node | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Result:
    """Each channel of each image by itself: as many groups as channels."""
    if not use_input_stats:
        if mean is None or var is None:
            c.refuse("neither statistics of the input nor running ones")
        return _fixed(c, x, weight, bias, mean, var, eps)
    if mean is not None or var is not None:
        c.refuse("instance normalisation while training changes its statistics")
    channels = x.shape[1]
    if not isinstance(channels, int):
        c.refuse("the number of channels depends on the batch size B")
    return group_norm(c, x, channels, weight, bias, eps)


@row("group_norm")
def group_norm(
    c: Context,
    x: Node,
    groups: int,
    weight: Node | None = None,
    bias: Node | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Result:
    """Groups of channels of each image."""
    tensors = _affine(c, x, weight, bias)
    return c.op("group_norm", x, *tensors, groups=groups, eps=float(eps), affine=bool(tensors))


@row("native_group_norm")
def native_group_norm(
    c: Context,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    n: Any,
    channels: Any,
    pixels: Any,
    groups: int,
    eps: float,
) -> Result:
    """The same, as kernels have it."""
    y: Any = group_norm(c, x, groups, weight, bias, eps)
    return y, _SAVED, _SAVED


@row("layer_norm")
def layer_norm(
    c: Context,
    x: Node,
    shape: Sequence[int],
    weight: Node | None = None,
    bias: Node | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Result:
    """The last axes together."""
    tensors = [t for t in (weight, bias) if t is not None]
    return c.op(
        "layer_norm", x, *tensors, axes_count=len(shape), eps=float(eps),
        has_weight=weight is not None, has_bias=bias is not None,
    )  # fmt: skip


@row("native_layer_norm")
def native_layer_norm(
    c: Context, x: Node, shape: Sequence[int], weight: Node | None, bias: Node | None, eps: float
) -> Result:
    """The same, as kernels have it."""
    y: Any = layer_norm(c, x, shape, weight, bias, eps)
    return y, _SAVED, _SAVED


@row("rms_norm")
def rms_norm(
    c: Context, x: Node, shape: Sequence[int], weight: Node | None = None, eps: float | None = None
) -> Result:
    """The last axes divided by the root of their mean square."""
    tensors = [] if weight is None else [weight]
    return c.op(
        "rms_norm", x, *tensors, axes_count=len(shape), eps=_EPS if eps is None else float(eps)
    )


@row("_fused_rms_norm")
def fused_rms_norm(
    c: Context, x: Node, shape: Sequence[int], weight: Node | None, eps: float | None
) -> Result:
    """The same, as kernels have it."""
    y: Any = rms_norm(c, x, shape, weight, eps)
    return y, _SAVED
