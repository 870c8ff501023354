"""Rows of dense layers, embeddings, activations and what does nothing while predicting."""

from __future__ import annotations

from typing import Any

from keras import layers as k

from sol.core.dtypes import F32, I32, I64
from sol.ir.graph import Node
from sol.tensorflow.activations import activate, elu, leaky, relu_with, softmax
from sol.tensorflow.context import Context
from sol.tensorflow.layers.table import layer, optional, weight
from sol.tensorflow.layout import permute, pointwise


@layer(k.Dense)
def dense(c: Context, of: Any, x: Node) -> Node:
    """A linear layer with its bias and activation."""
    kernel = permute(c, weight(c, of._kernel), (1, 0))
    bias = optional(c, of.bias)
    y = c.op("linear", c.floating(x), kernel, *([] if bias is None else [bias]))
    return activate(c, y, of.activation)


@layer(k.Embedding)
def embedding(c: Context, of: Any, x: Node) -> Node:
    """Rows of a table."""
    index = x if x.dtype in (I32, I64) else c.cast(x, I32)
    return c.op("take", weight(c, of._embeddings), index, axis=0)


@layer(k.Activation)
def activation(c: Context, of: Any, x: Node) -> Node:
    """An activation by its function."""
    return activate(c, x, of.activation)


@layer(k.ReLU)
def relu(c: Context, of: Any, x: Node) -> Node:
    """ReLU with slope, threshold and a largest value."""
    return relu_with(c, c.floating(x), of.negative_slope, of.max_value, of.threshold)


@layer(k.LeakyReLU)
def leaky_relu(c: Context, of: Any, x: Node) -> Node:
    """ReLU with a slope."""
    return leaky(c, c.floating(x), of.negative_slope)


@layer(k.ELU)
def elu_layer(c: Context, of: Any, x: Node) -> Node:
    """Exponential linear units."""
    return elu(c, c.floating(x), of.alpha)


@layer(k.PReLU)
def prelu(c: Context, of: Any, x: Node) -> Node:
    """ReLU with slopes that are weights, one for each place that they are not shared over."""
    alpha, x = weight(c, of.alpha), c.floating(x)
    negative = pointwise(c, "mul", alpha, x)
    return pointwise(c, "where", pointwise(c, "gt", x, c.constant(0.0, F32)), x, negative)


@layer(k.Softmax)
def softmax_layer(c: Context, of: Any, x: Node, mask: Any = None) -> Node:
    """Softmax along an axis."""
    axes = of.axis if isinstance(of.axis, (list, tuple)) else [of.axis]
    if mask is not None or len(axes) != 1:
        c.refuse("a mask, or several axes")
    return softmax(c, c.floating(x), axes[0])


@layer(
    k.Dropout, k.SpatialDropout1D, k.SpatialDropout2D, k.SpatialDropout3D, k.GaussianDropout,
    k.GaussianNoise, k.AlphaDropout, k.ActivityRegularization, k.Identity,
)  # fmt: skip
def identity(c: Context, of: Any, x: Node, **_: Any) -> Node:
    """What does nothing while predicting."""
    return x
