"""Rows of normalisations and of softmax."""

from __future__ import annotations

from sol.core.dims import Size
from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.onnx.rows.reduction import matrix_before
from sol.onnx.rows.table import row
from sol.onnx.values import Call, Results


@row("BatchNormalization")
def batch_normalization(c: Call) -> Results:
    """(x - mean) / √(var + eps) * scale + bias, with given statistics or those of the batch."""
    x, scale, bias, mean, var = c.all()[:5]
    eps = float(c.attr("epsilon", 1e-5))
    training = c.attr("training_mode", 0) if c.version >= 14 else c.results > 1
    if not training:
        return c.add("batch_norm", x, mean, var, scale, bias, eps=eps, affine=True)
    if c.version < 14:
        c.refuse("it is in training mode")
    axes = tuple(a for a in range(x.tensor.rank) if a != 1)
    own_mean = c.add("mean", x, axes=axes, keepdims=False)
    own_var = c.add("var", x, axes=axes, correction=0.0, keepdims=False)
    y = _normalised(c, x, own_mean, own_var, scale, bias, eps)
    keep = float(c.attr("momentum", 0.9))
    mixed = [
        c.add("add", c.scaled(old, keep), c.scaled(new, 1 - keep))
        for old, new in ((mean, own_mean), (var, own_var))
    ]
    return (y, *mixed)


def _normalised(
    c: Call, x: Node, mean: Node, var: Node, scale: Node, bias: Node, eps: float
) -> Node:
    shape = (1, x.shape[1], *[1] * (x.tensor.rank - 2))
    centred = c.add("sub", x, c.reshape(mean, shape))
    factor = c.add("rsqrt", c.add("add", var, c.constant(eps)))
    factor = c.add("mul", factor, scale)
    return c.add("add", c.add("mul", centred, c.reshape(factor, shape)), c.reshape(bias, shape))


def _grouped(c: Call, x: Node, groups: int, scale: Node, bias: Node) -> Node:
    eps = float(c.attr("epsilon", 1e-5))
    return c.add("group_norm", x, scale, bias, groups=groups, eps=eps, affine=True)


@row("InstanceNormalization")
def instance_normalization(c: Call) -> Results:
    """Each channel of each image by itself."""
    x, scale, bias = c.all()
    channels = x.shape[1]
    if not isinstance(channels, int):
        c.refuse("a number of channels that depends on the batch size B")
    return _grouped(c, x, channels, scale, bias)


@row("GroupNormalization")
def group_normalization(c: Call) -> Results:
    """Groups of channels of each image; before opset 21 with a scale for each group."""
    x, scale, bias = c.all()
    groups, channels = c.needed("num_groups"), x.shape[1]
    if c.version < 21 and isinstance(channels, int) and groups:
        scale, bias = (_repeated(c, t, groups, channels // groups) for t in (scale, bias))
    return _grouped(c, x, groups, scale, bias)


def _repeated(c: Call, x: Node, groups: int, times: int) -> Node:
    wide = c.expand(c.reshape(x, (groups, 1)), (groups, times))
    return c.reshape(wide, (groups * times,))


@row("LayerNormalization")
def layer_normalization(c: Call) -> Results:
    """The last axes together."""
    x = c.x()
    axis = c.axis(c.attr("axis", -1), x.tensor.rank)
    inner = x.shape[axis:]
    tensors = [c.expand(c.x(n), inner) for n in (1, 2) if c.has(n)]
    eps = float(c.attr("epsilon", 1e-5))
    y = c.add(
        "layer_norm", x, *tensors, axes_count=len(inner), eps=eps, has_weight=c.has(1),
        has_bias=c.has(2),
    )  # fmt: skip
    if c.results == 1:
        return y
    axes = tuple(range(axis, x.tensor.rank))
    mean = c.add("mean", x, axes=axes, keepdims=True)
    var = c.add("var", x, axes=axes, correction=0.0, keepdims=True)
    return y, mean, c.add("rsqrt", c.add("add", var, c.constant(eps)))


@row("RMSNormalization")
def rms_normalization(c: Call) -> Results:
    """The last axes divided by the root of their mean square."""
    x = c.x()
    axis = c.axis(c.attr("axis", -1), x.tensor.rank)
    inner = x.shape[axis:]
    weight = c.expand(c.x(1), inner)
    return c.add("rms_norm", x, weight, axes_count=len(inner), eps=float(c.attr("epsilon", 1e-5)))


@row("LRN")
def lrn(c: Call) -> Results:
    """x / (bias + alpha/size Σ x²)^beta over neighbouring channels."""
    x, size = c.x(), c.needed("size")
    attrs = {
        "size": size, "alpha": float(c.attr("alpha", 1e-4)), "beta": float(c.attr("beta", 0.75)),
        "k": float(c.attr("bias", 1.0)),
    }  # fmt: skip
    if size % 2:
        return c.add("local_response_norm", x, **attrs)
    turned = c.add("flip", x, axes=(1,))  # the longer half of an even window is behind
    return c.add("flip", c.add("local_response_norm", turned, **attrs), axes=(1,))


@row("LpNormalization")
def lp_normalization(c: Call) -> Results:
    """x / ‖x‖ along an axis, 0 where the norm is 0."""
    x = c.x()
    axis = c.axis(c.attr("axis", -1), x.tensor.rank)
    norm = c.add("norm", x, ord=float(c.attr("p", 2)), axes=(axis,), keepdims=True)
    empty = c.add("eq", norm, c.constant(0.0))
    return c.add("where", empty, c.constant(0.0), c.add("div", x, norm))


@row("Softmax", "LogSoftmax")
def softmax(c: Call) -> Results:
    """e^x / Σ e^x along an axis."""
    x, back, axis = matrix_before(c, c.x(), c.attr("axis", -1 if c.version >= 13 else 1))
    op = "softmax" if c.op == "Softmax" else "log_softmax"
    return back(c.add(op, x, axis=axis))


@row("Attention")
def attention(c: Call) -> Results:
    """softmax(scale q kᵀ + mask) v, for heads that are an axis, or parts of the last one."""
    plain = c.results == 1 and not any(c.has(n) for n in (4, 5, 6))
    plain = plain and not c.attr("softcap", 0.0) and not c.attr("qk_matmul_output_mode", 0)
    known = {"is_causal", "kv_num_heads", "q_num_heads", "qk_matmul_output_mode", "scale"}
    plain = plain and set(c.attrs) <= known | {"softcap", "softmax_precision"}
    if not plain:
        c.refuse("with past keys, windows, or more results")
    flat = c.rank(0) == 3
    heads, shared = c.attr("q_num_heads", 0), c.attr("kv_num_heads", 0)
    q, k, v = (
        _heads(c, c.x(n), count) if flat else c.x(n)
        for n, count in ((0, heads), (1, shared), (2, shared))
    )
    head, kv = q.shape[1], k.shape[1]
    if not isinstance(head, int) or not isinstance(kv, int) or head % kv:
        c.refuse("a number of heads that depends on the batch size B")
    width = q.shape[-1]
    assert isinstance(width, int)
    scale = float(c.attr("scale", 0) or width**-0.5)
    groups = head // kv
    mask = [_mask(c, c.x(3), k.shape[-2])] if c.has(3) else []
    y = c.add(
        "attention", q, k, v, *mask, scale=scale, causal=bool(c.attr("is_causal", 0)),
        groups=groups,
    )  # fmt: skip
    if not flat:
        return y
    n, _, length, depth = y.shape
    return c.reshape(c.permute(y, (0, 2, 1, 3)), (n, length, head * depth))


def _heads(c: Call, x: Node, heads: int) -> Node:
    n, length, width = x.shape
    if not heads:
        c.refuse("three axes without a number of heads")
    each: Size = width // heads
    return c.permute(c.reshape(x, (n, length, heads, each)), (0, 2, 1, 3))


def _mask(c: Call, mask: Node, keys: Size) -> Node:
    if mask.shape[-1] != keys:
        c.refuse("a mask that is shorter than the keys")
    return mask if mask.dtype.kind == "bool" else c.cast(mask, F32)
