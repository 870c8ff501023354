"""Rows of normalisations, in inference: with the statistics that training has found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.mxnet.attributes import Ints
from sol.mxnet.context import Context, Missing, Result
from sol.mxnet.rows.table import row

_STATISTICS = Missing("the mean and the deviation")


def _hidden(y: Node, more: int = 2) -> Result:
    """Statistics are further results, which networks rarely read."""
    return (y, *(_STATISTICS,) * more)


@row("BatchNorm", "BatchNorm_v1", "_npx_batch_norm", "_contrib_SyncBatchNorm")
def batch_norm(
    c: Context,
    x: Node,
    gamma: Node,
    beta: Node,
    mean: Node,
    var: Node,
    *,
    eps: float = 1e-3,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
    axis: int = 1,
) -> Result:
    """(x - mean) / √(var + eps) * gamma + beta with moving statistics; fix_gamma: gamma is 1."""
    k = c.axis(axis, x.tensor.rank)
    if fix_gamma:
        gamma = c.constant(np.ones(c.size(x, k), np.float32), F32)
    if x.tensor.rank == 1:
        c.refuse(f"an input {x.tensor} without images")
    y = c.op("batch_norm", c.swap(x, 1, k), mean, var, gamma, beta, eps=eps, affine=True)
    return _hidden(c.swap(y, 1, k))


@row("_contrib_BatchNormWithReLU")
def batch_norm_relu(
    c: Context,
    x: Node,
    gamma: Node,
    beta: Node,
    mean: Node,
    var: Node,
    *,
    eps: float = 1e-3,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
    axis: int = 1,
) -> Result:
    """BatchNorm and ReLU."""
    y = batch_norm(c, x, gamma, beta, mean, var, eps=eps, fix_gamma=fix_gamma, axis=axis)
    assert isinstance(y, tuple)
    assert isinstance(y[0], Node)
    return _hidden(c.op("relu", y[0]))


@row("LayerNorm", "_npx_layer_norm")
def layer_norm(
    c: Context,
    x: Node,
    gamma: Node,
    beta: Node,
    *,
    axis: int = -1,
    eps: float = 1e-5,
    output_mean_var: bool = False,
) -> Result:
    """Normalised along one axis."""
    k, last = c.axis(axis, x.tensor.rank), x.tensor.rank - 1
    y = c.op(
        "layer_norm", c.swap(x, k, last), gamma, beta, axes_count=1, eps=eps, has_weight=True,
        has_bias=True,
    )  # fmt: skip
    return _hidden(c.swap(y, k, last))


@row("GroupNorm")
def group_norm(
    c: Context,
    x: Node,
    gamma: Node,
    beta: Node,
    *,
    num_groups: int = 1,
    eps: float = 1e-5,
    output_mean_var: bool = False,
) -> Result:
    """Normalised over groups of channels of each image; gamma and beta by group."""
    channels = c.size(x, 1)
    fits = num_groups > 0 and channels % num_groups == 0
    c.need(fits, f"{num_groups} groups of {channels} channels", "groups of equal size")
    c.need(
        gamma.shape == beta.shape == (num_groups,), f"gamma {gamma.tensor}, beta {beta.tensor}",
        f"{num_groups} numbers: one for each group",
    )  # fmt: skip
    affine = [
        c.reshape(c.expand(c.reshape(p, (num_groups, 1)), (num_groups, channels // num_groups)),
                  (channels,)) for p in (gamma, beta)
    ]  # fmt: skip
    return _hidden(c.op("group_norm", x, *affine, groups=num_groups, eps=eps, affine=True))


@row("InstanceNorm")
def instance_norm(c: Context, x: Node, gamma: Node, beta: Node, *, eps: float = 1e-3) -> Result:
    """Each channel of each image normalised by itself."""
    return c.op("group_norm", x, gamma, beta, groups=c.size(x, 1), eps=eps, affine=True)


@row("L2Normalization")
def l2_normalization(c: Context, x: Node, *, eps: float = 1e-10, mode: str = "instance") -> Result:
    """x / √(Σ x² + eps) over all axes but the first, over channels, or over the spatial axes."""
    axes = {
        "instance": range(1, x.tensor.rank), "channel": (1,), "spatial": range(2, x.tensor.rank)
    }.get(mode)  # fmt: skip
    if axes is None:
        c.refuse(f"mode={mode!r}")
    return _divided_by_norm(c, x, tuple(axes), eps)


def _divided_by_norm(c: Context, x: Node, axes: Sequence[int], eps: float) -> Node:
    total = c.op("sum", c.op("square", x), axes=tuple(axes), keepdims=True)
    return c.op("mul", x, c.op("rsqrt", c.op("add", total, c.constant(eps, F32))))


@row("LRN")
def lrn(
    c: Context, x: Node, *, alpha: float = 1e-4, beta: float = 0.75, knorm: float = 2.0,
    nsize: int,
) -> Result:  # fmt: skip
    """x / (knorm + alpha / nsize Σ x²)^beta over neighbouring channels."""
    y = c.op("local_response_norm", x, size=nsize, alpha=alpha, beta=beta, k=knorm)
    return _hidden(y, 1)


@row("moments")
def moments(c: Context, x: Node, *, axes: Ints | None = None, keepdims: bool = False) -> Result:
    """Mean and variance."""
    named = c.axes(axes, x.tensor.rank)
    return (
        c.op("mean", x, axes=named, keepdims=keepdims),
        c.op("var", x, axes=named, correction=0, keepdims=keepdims),
    )
