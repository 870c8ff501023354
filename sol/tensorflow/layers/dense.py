"""Rows of dense layers, embeddings, activations and what does nothing while predicting."""

from __future__ import annotations

from typing import Any

from keras import layers as k

from sol.core.dims import Shape
from sol.core.dtypes import F32, I32, I64
from sol.ir.graph import Node
from sol.tensorflow.activations import activate, elu, leaky, relu_with, scalar, softmax
from sol.tensorflow.context import Context
from sol.tensorflow.layers.table import is_last, layer, optional, weight
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


@layer(k.GaussianDropout, k.GaussianNoise, k.AlphaDropout, k.ActivityRegularization, k.Identity)
def identity(c: Context, of: Any, x: Node, **_: Any) -> Node:
    """What does nothing while predicting."""
    if c.training and type(of) is not k.Identity:
        c.refuse("noise of a kind that Sol does not draw, or a loss")
    return x


@layer(k.Dropout, k.SpatialDropout1D, k.SpatialDropout2D, k.SpatialDropout3D)
def dropout(c: Context, of: Any, x: Node, **_: Any) -> Node:
    """x / (1 - rate) or 0 in training, by chance; whole channels where dropout is spatial."""
    if not c.training or of.rate == 0:
        return x
    if of.rate >= 1:
        c.refuse("it drops everything")
    shape = _noise_shape(of, x)
    kept = c.op("ge", c.reading.random(of.seed_generator, shape), c.constant(float(of.rate), F32))
    scaled = scalar(c, "mul", x, 1 / (1 - of.rate))
    return pointwise(c, "where", kept, scaled, c.constant(0.0, F32))


def _noise_shape(of: Any, x: Node) -> Shape:
    """Sizes of what is drawn; a 1 where elements along an axis are dropped together."""
    if type(of) is not k.Dropout:
        rest = (1,) * (x.tensor.rank - 2)
        last = isinstance(of, k.SpatialDropout1D) or is_last(of)
        return (x.shape[0], *rest, x.shape[-1]) if last else (*x.shape[:2], *rest)
    given = of.noise_shape or (None,) * x.tensor.rank
    return tuple(n if s is None else s for s, n in zip(given, x.shape, strict=True))
