"""Normalisations and softmax: graphs of simpler operators, numerically stable.

Means come first, squared differences second (never E[x²] - E[x]²), and softmax subtracts the
maximum. What depends on parameters only becomes nodes of its own, computed once at set-up.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from sol.core.dims import Shape
from sol.ir.expr import Expr, apply, const, where
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.gradients import norm as gradient_of
from sol.ops.maps import axes_of, inside, over
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import (
    need,
    need_axis,
    need_kind,
    need_number,
    need_positive,
    need_shape,
)
from sol.ops.sampling import f32


def _number(graph: Builder, value: float, like: Node) -> Node:
    return graph.constant(value, like.dtype)


# ---- batch_norm ----------------------------------------------------------------------------------


def _infer_batch_norm(
    x: TensorType, mean: TensorType, var: TensorType, *weight_and_bias: TensorType,
    eps: float, affine: bool,
) -> TensorType:  # fmt: skip
    op = "batch_norm"
    need(x.rank >= 2, op, f"an input {x}", "at least 2 axes: batch and channels")
    need_kind(op, x, "float")
    need_inputs(op, weight_and_bias, 2 if affine else 0, "weight and bias", f"affine={affine}")
    for name, p in zip(("mean", "var", "weight", "bias"), (mean, var, *weight_and_bias)):
        need_shape(op, f"the {name}", p, x.shape[1:2])
    return x


def need_inputs(
    op: str, given: tuple[TensorType, ...], count: int, names: str, because: str
) -> None:
    """Optional inputs are there if the attribute says so."""
    need(len(given) == count, op, f"{len(given)} of the inputs {names}", f"{count}, as {because}")


def _expand_batch_norm(
    graph: Builder, node: Node, x: Node, mean: Node, var: Node, *weight_and_bias: Node
) -> Node:
    """y = x * scale + shift, with scale and shift of the parameters only."""
    scale = graph.add("rsqrt", graph.add("add", var, _number(graph, node["eps"], var)))
    if weight_and_bias:
        scale = graph.add("mul", weight_and_bias[0], scale)
    shift = graph.add("neg", graph.add("mul", mean, scale))
    if weight_and_bias:
        shift = graph.add("add", weight_and_bias[1], shift)
    shape = (x.shape[1],) + (1,) * (x.tensor.rank - 2)
    scaled = graph.add("mul", x, graph.add("reshape", scale, shape=shape))
    return graph.add("add", scaled, graph.add("reshape", shift, shape=shape))


def _reference_batch_norm(node: Node, x: Any, mean: Any, var: Any, *affine: Any) -> Any:
    shape = (-1,) + (1,) * (x.ndim - 2)
    y = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + node["eps"])
    if affine:
        y = y * affine[0].reshape(shape) + affine[1].reshape(shape)
    return y


register(
    OpDef(
        "batch_norm",
        "norm",
        _infer_batch_norm,
        "`y = (x - mean) / √(var + eps) * weight + bias` for each channel (axis 1), with given "
        "statistics: inference. Weight and bias are there if `affine`.",
        samples=(
            Sample((f32(2, 3, 5, 7), *[f32(3)] * 4), {"eps": 1e-5, "affine": True}, 0.1, 2),
            Sample((f32(2, 24), *[f32(24)] * 2), {"eps": 1e-3, "affine": False}, 0.1, 2),
            Sample((f32(1, 13, 3), *[f32(13)] * 4), {"eps": 1e-5, "affine": True}, 0.1, 2),
            Sample((f32(2, 1, 2, 3, 5), *[f32(1)] * 4), {"eps": 0.1, "affine": True}, 0.1, 2),
        ),
        expand=_expand_batch_norm,
        reference=_reference_batch_norm,
        gradient=gradient_of.batch_norm,
    )
)

# ---- layer_norm, rms_norm: over the last axes ----------------------------------------------------


def _trailing(x: Node, count: int) -> tuple[int, ...]:
    return tuple(range(x.tensor.rank - count, x.tensor.rank))


def _check_trailing(op: str, x: TensorType, count: int) -> Shape:
    need_kind(op, x, "float")
    need(1 <= count <= x.rank, op, f"axes_count={count} of {x}", f"1 to {x.rank}")
    return x.shape[x.rank - count :]


def _standardised(graph: Builder, x: Node, axes: tuple[int, ...], eps: float) -> Node:
    """(x - mean) / √(var + eps) over axes."""
    mean = graph.add("mean", x, axes=axes, keepdims=True)
    return _divided_by_rms(graph, graph.add("sub", x, mean), axes, eps)


def _divided_by_rms(graph: Builder, x: Node, axes: tuple[int, ...], eps: float) -> Node:
    """x / √(mean x² + eps) over axes."""
    power = graph.add("mean", graph.add("square", x), axes=axes, keepdims=True)
    scale = graph.add("rsqrt", graph.add("add", power, _number(graph, eps, x)))
    return graph.add("mul", x, scale)


def _infer_layer_norm(
    x: TensorType, *weight_and_bias: TensorType,
    axes_count: int, eps: float, has_weight: bool, has_bias: bool,
) -> TensorType:  # fmt: skip
    shape = _check_trailing("layer_norm", x, axes_count)
    because = f"has_weight={has_weight}, has_bias={has_bias}"
    need_inputs("layer_norm", weight_and_bias, has_weight + has_bias, "weight and bias", because)
    for p in weight_and_bias:
        need_shape("layer_norm", "a weight or bias", p, shape)
    return x


def _expand_layer_norm(graph: Builder, node: Node, x: Node, *weight_and_bias: Node) -> Node:
    y = _standardised(graph, x, _trailing(x, node["axes_count"]), node["eps"])
    if node["has_weight"]:
        y = graph.add("mul", y, weight_and_bias[0])
    return graph.add("add", y, weight_and_bias[-1]) if node["has_bias"] else y


def _reference_layer_norm(node: Node, x: Any, *weight_and_bias: Any) -> Any:
    axes = tuple(range(-node["axes_count"], 0))
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    y = (x - mean) / np.sqrt(var + node["eps"])
    if node["has_weight"]:
        y = y * weight_and_bias[0]
    return y + weight_and_bias[-1] if node["has_bias"] else y


def _layer(axes_count: int, eps: float, has_weight: bool, has_bias: bool) -> dict[str, Any]:
    return {
        "axes_count": axes_count, "eps": eps, "has_weight": has_weight, "has_bias": has_bias,
    }  # fmt: skip


register(
    OpDef(
        "layer_norm",
        "norm",
        _infer_layer_norm,
        "`y = (x - mean) / √(var + eps) * weight + bias`, mean and variance over the last "
        "`axes_count` axes, which are the axes of weight and bias (if there are any).",
        samples=(
            Sample((f32(3, 7), f32(7), f32(7)), _layer(1, 1e-5, True, True)),
            Sample((f32(2, 5, 24), f32(24)), _layer(1, 1e-6, True, False)),
            Sample((f32(2, 3, 5, 7), f32(5, 7), f32(5, 7)), _layer(2, 1e-5, True, True)),
            Sample((f32(2, 33),), _layer(1, 1e-5, False, False), 100, 101),
            Sample((f32(13, 17), f32(17)), _layer(1, 0.1, False, True)),
            Sample((f32(5, 1), f32(1), f32(1)), _layer(1, 1e-5, True, True)),
        ),
        expand=_expand_layer_norm,
        reference=_reference_layer_norm,
        gradient=gradient_of.layer_norm,
    )
)


def _infer_rms_norm(x: TensorType, *weight: TensorType, axes_count: int, eps: float) -> TensorType:
    shape = _check_trailing("rms_norm", x, axes_count)
    need(len(weight) <= 1, "rms_norm", f"{len(weight)} weights", "at most one")
    for p in weight:
        need_shape("rms_norm", "the weight", p, shape)
    return x


def _expand_rms_norm(graph: Builder, node: Node, x: Node, *weight: Node) -> Node:
    y = _divided_by_rms(graph, x, _trailing(x, node["axes_count"]), node["eps"])
    return graph.add("mul", y, weight[0]) if weight else y


def _reference_rms_norm(node: Node, x: Any, *weight: Any) -> Any:
    axes = tuple(range(-node["axes_count"], 0))
    y = x / np.sqrt((x * x).mean(axis=axes, keepdims=True) + node["eps"])
    return y * weight[0] if weight else y


register(
    OpDef(
        "rms_norm",
        "norm",
        _infer_rms_norm,
        "`y = x / √(mean x² + eps) * weight`, the mean over the last `axes_count` axes.",
        samples=(
            Sample((f32(3, 7), f32(7)), {"axes_count": 1, "eps": 1e-6}),
            Sample((f32(2, 5, 24),), {"axes_count": 1, "eps": 1e-5}),
            Sample((f32(2, 3, 13), f32(3, 13)), {"axes_count": 2, "eps": 1e-6}),
        ),
        expand=_expand_rms_norm,
        reference=_reference_rms_norm,
        gradient=gradient_of.rms_norm,
    )
)

# ---- group_norm ----------------------------------------------------------------------------------


def _infer_group_norm(
    x: TensorType, *weight_and_bias: TensorType, groups: int, eps: float, affine: bool
) -> TensorType:
    op = "group_norm"
    need(x.rank >= 2, op, f"an input {x}", "at least 2 axes: batch and channels")
    need_kind(op, x, "float")
    need_positive(op, "groups", (groups,))
    channels = need_number(op, "the number of channels", x.shape[1])
    need(channels % groups == 0, op, f"{channels} channels", f"a multiple of groups={groups}")
    need_inputs(op, weight_and_bias, 2 if affine else 0, "weight and bias", f"affine={affine}")
    for p in weight_and_bias:
        need_shape(op, "a weight or bias", p, x.shape[1:2])
    return x


def _expand_group_norm(graph: Builder, node: Node, x: Node, *weight_and_bias: Node) -> Node:
    groups = node["groups"]
    per_group = need_number("group_norm", "the number of channels", x.shape[1]) // groups
    split = graph.add("reshape", x, shape=(x.shape[0], groups, per_group, *x.shape[2:]))
    y = _standardised(graph, split, tuple(range(2, split.tensor.rank)), node["eps"])
    y = graph.add("reshape", y, shape=x.shape)
    if not weight_and_bias:
        return y
    shape = (x.shape[1],) + (1,) * (x.tensor.rank - 2)
    weight, bias = (graph.add("reshape", p, shape=shape) for p in weight_and_bias)
    return graph.add("add", graph.add("mul", y, weight), bias)


def _reference_group_norm(node: Node, x: Any, *weight_and_bias: Any) -> Any:
    rest = prod(x.shape[1:]) // node["groups"]
    split = x.reshape(x.shape[0], node["groups"], rest)
    mean, var = split.mean(axis=2, keepdims=True), split.var(axis=2, keepdims=True)
    y = ((split - mean) / np.sqrt(var + node["eps"])).reshape(x.shape)
    if not weight_and_bias:
        return y
    shape = (-1,) + (1,) * (x.ndim - 2)
    return y * weight_and_bias[0].reshape(shape) + weight_and_bias[1].reshape(shape)


register(
    OpDef(
        "group_norm",
        "norm",
        _infer_group_norm,
        "`y = (x - mean) / √(var + eps) * weight + bias`, mean and variance over each of `groups` "
        "groups of channels of each image, weight and bias by channel (if `affine`). One channel "
        "per group is instance normalisation.",
        samples=tuple(
            Sample((x, *[p] * 2 * affine), {"groups": g, "eps": 1e-5, "affine": affine})
            for x, p, g, affine in (
                (f32(2, 6, 5, 3), f32(6), 2, True),
                (f32(2, 24, 7), f32(24), 24, True),
                (f32(1, 3, 7, 5), f32(3), 1, False),
                (f32(3, 8), f32(8), 4, True),
                (f32(1, 4, 2, 3, 5), f32(4), 2, True),
            )
        ),
        expand=_expand_group_norm,
        reference=_reference_group_norm,
        gradient=gradient_of.group_norm,
    )
)

# ---- softmax -------------------------------------------------------------------------------------


def _infer_softmax(x: TensorType, *, axis: int) -> TensorType:
    need_axis("softmax", axis, x.rank)
    need_kind("softmax", x, "float")
    return x


def _expand_softmax(graph: Builder, node: Node, x: Node) -> Node:
    along: dict[str, Any] = {"axes": (node["axis"],), "keepdims": True}
    shifted = graph.add("sub", x, graph.add("max_reduce", x, **along))
    powers = graph.add("exp", shifted)
    return graph.add("mul", powers, graph.add("reciprocal", graph.add("sum", powers, **along)))


def _expand_log_softmax(graph: Builder, node: Node, x: Node) -> Node:
    along: dict[str, Any] = {"axes": (node["axis"],), "keepdims": True}
    shifted = graph.add("sub", x, graph.add("max_reduce", x, **along))
    total = graph.add("sum", graph.add("exp", shifted), **along)
    return graph.add("sub", shifted, graph.add("log", total))


def _reference_softmax(node: Node, x: Any) -> Any:
    powers = np.exp(x - x.max(axis=node["axis"], keepdims=True))
    return powers / powers.sum(axis=node["axis"], keepdims=True)


def _reference_log_softmax(node: Node, x: Any) -> Any:
    shifted = x - x.max(axis=node["axis"], keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=node["axis"], keepdims=True))


_SOFTMAX = (
    Sample((f32(3, 7),), {"axis": 1}),
    Sample((f32(2, 13, 5),), {"axis": 1}, -50, 50),
    Sample((f32(2, 3, 5, 33),), {"axis": 3}),
    Sample((f32(17),), {"axis": 0}, 300, 310),
    Sample((f32(4, 1),), {"axis": 1}),
)
register(
    OpDef(
        "softmax",
        "norm",
        _infer_softmax,
        "`y = e^(x - m) / Σ e^(x - m)` along `axis`, m the largest x there.",
        samples=_SOFTMAX,
        expand=_expand_softmax,
        reference=_reference_softmax,
        gradient=gradient_of.softmax,
    )
)
register(
    OpDef(
        "log_softmax",
        "norm",
        _infer_softmax,
        "`y = x - m - ln Σ e^(x - m)` along `axis`, m the largest x there.",
        samples=_SOFTMAX,
        expand=_expand_log_softmax,
        reference=_reference_log_softmax,
        gradient=gradient_of.log_softmax,
    )
)

# ---- local_response_norm -------------------------------------------------------------------------


def _infer_response_norm(
    x: TensorType, *, size: int, alpha: float, beta: float, k: float
) -> TensorType:
    op = "local_response_norm"
    need(x.rank >= 3, op, f"an input {x}", "at least 3 axes: batch, channels, positions")
    need_kind(op, x, "float")
    need_positive(op, "size", (size,))
    return x


def _compute_response_norm(node: Node, index: Index, x: Read) -> Expr:
    n, c, *place = index
    count = node["size"]
    (tap,) = axes_of(node, [count])
    channel = c + tap - count // 2
    neighbour = x(n, channel, *place)
    exists = inside(channel, 0, x.shape[1])
    power = where(exists, neighbour * neighbour, const(0, node.dtype))
    scale = over("sum", [tap], power) * (node["alpha"] / count) + node["k"]
    return x(*index) * apply("pow", scale, -node["beta"])


def _reference_response_norm(node: Node, x: Any) -> Any:
    count, channels = node["size"], x.shape[1]
    pads = [(0, 0), (count // 2, count - 1 - count // 2)] + [(0, 0)] * (x.ndim - 2)
    squares = np.pad(x * x, pads)
    total = sum(squares[:, t : t + channels] for t in range(count))
    return x / (node["k"] + node["alpha"] / count * total) ** node["beta"]


register(
    OpDef(
        "local_response_norm",
        "norm",
        _infer_response_norm,
        "`y[c] = x[c] / (k + alpha/size * Σ_{|j - c| ≤ size/2} x[j]²)^beta` over neighbouring "
        "channels (axis 1).",
        samples=(
            Sample((f32(2, 7, 3, 5),), {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}),
            Sample((f32(1, 3, 13),), {"size": 2, "alpha": 0.5, "beta": 0.5, "k": 2.0}),
        ),
        compute=_compute_response_norm,
        reference=_reference_response_norm,
        gradient=gradient_of.local_response_norm,
    )
)
