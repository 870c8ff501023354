"""Rows of convolutions: plain, depthwise, separable and transposed, in 1 to 3 dimensions."""

from __future__ import annotations

from typing import Any

from keras import layers as k

from sol.ir.graph import Node
from sol.tensorflow import windows
from sol.tensorflow.activations import activate
from sol.tensorflow.context import Context
from sol.tensorflow.layers.table import is_last, layer, optional, weight


@layer(k.Conv1D, k.Conv2D, k.Conv3D)
def conv(c: Context, of: Any, x: Node) -> Node:
    """A convolution with its bias and activation."""
    y = windows.conv(
        c, c.floating(x), weight(c, of._kernel), optional(c, of.bias), stride=of.strides,
        padding=of.padding, dilation=of.dilation_rate, last=is_last(of),
    )  # fmt: skip
    return activate(c, y, of.activation)


@layer(k.DepthwiseConv1D, k.DepthwiseConv2D)
def depthwise(c: Context, of: Any, x: Node) -> Node:
    """A convolution of each channel by itself."""
    y = windows.depthwise(
        c, c.floating(x), weight(c, of.kernel), optional(c, of.bias), stride=of.strides,
        padding=of.padding, dilation=of.dilation_rate, last=is_last(of),
    )  # fmt: skip
    return activate(c, y, of.activation)


@layer(k.SeparableConv1D, k.SeparableConv2D)
def separable(c: Context, of: Any, x: Node) -> Node:
    """A depthwise convolution, then one over channels."""
    last, ones = is_last(of), (1,) * of.rank
    y = windows.depthwise(
        c, c.floating(x), weight(c, of.depthwise_kernel), stride=of.strides, padding=of.padding,
        dilation=of.dilation_rate, last=last,
    )  # fmt: skip
    y = windows.conv(
        c, y, weight(c, of.pointwise_kernel), optional(c, of.bias), stride=ones, padding="valid",
        dilation=ones, last=last,
    )  # fmt: skip
    return activate(c, y, of.activation)


@layer(k.Conv1DTranspose, k.Conv2DTranspose, k.Conv3DTranspose)
def conv_transpose(c: Context, of: Any, x: Node) -> Node:
    """A transposed convolution with its bias and activation."""
    shape = (None, *x.shape[1:])
    sizes = of.compute_output_shape(shape)
    results = sizes[1:-1] if is_last(of) else sizes[2:]
    y = windows.conv_transpose(
        c, c.floating(x), weight(c, of.kernel), optional(c, of.bias), results, stride=of.strides,
        padding=of.padding, dilation=of.dilation_rate, last=is_last(of),
    )  # fmt: skip
    return activate(c, y, of.activation)
