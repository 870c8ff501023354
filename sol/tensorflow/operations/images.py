"""Rows of convolutions, pooling, normalisations and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sol.core.dims import Dim
from sol.core.dtypes import F32, I64
from sol.ir.graph import Node
from sol.ops.rules import numbers as rule_numbers
from sol.tensorflow import windows
from sol.tensorflow.context import Context, Known, Value
from sol.tensorflow.interpolation import cubic, linear, nearest
from sol.tensorflow.layout import channels_first, channels_last, permute
from sol.tensorflow.operations.table import operation

_MOST_PIXELS = 1 << 24  # of an axis
_MOST_WEIGHTS = 1 << 26  # of an axis that is resized by a matrix


def _last(c: Context) -> bool:
    return not c.attrs["data_format"].startswith("NC")


def _spatial(c: Context, values: Sequence[int]) -> tuple[int, ...]:
    """The numbers of the spatial axes of one number for each axis."""
    given = tuple(values) or (1,) * 4
    return given[1:-1] if _last(c) else given[2:]


def _padding(c: Context) -> Any:
    """SAME or VALID, or pairs of numbers."""
    kind = c.attrs["padding"]
    if kind != "EXPLICIT":
        return kind
    numbers = c.attrs["explicit_paddings"]
    return _spatial(c, tuple(zip(numbers[::2], numbers[1::2])))  # type: ignore[arg-type]


@operation("Conv2D", "Conv3D")
def conv(c: Context, x: Node, kernel: Node) -> Node:
    """A convolution, in groups if the kernel has fewer channels."""
    return windows.conv(
        c, c.node(x), c.node(kernel), stride=_spatial(c, c.attrs["strides"]), padding=_padding(c),
        dilation=_spatial(c, c.attrs["dilations"]), last=_last(c),
    )  # fmt: skip


@operation("DepthwiseConv2dNative")
def depthwise(c: Context, x: Node, kernel: Node) -> Node:
    """A convolution of each channel by itself."""
    return windows.depthwise(
        c, c.node(x), c.node(kernel), stride=_spatial(c, c.attrs["strides"]), padding=_padding(c),
        dilation=_spatial(c, c.attrs["dilations"]), last=_last(c),
    )  # fmt: skip


@operation("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def conv_transpose(c: Context, sizes: Value, kernel: Node, y: Node) -> Node:
    """A transposed convolution: the gradient of one, for its input."""
    kind = c.attrs["padding"]
    if kind == "EXPLICIT":
        c.refuse("explicit padding")
    wanted = _spatial(c, c.sizes(sizes, "the size of the result"))  # type: ignore[arg-type]
    if any(isinstance(s, Dim) for s in wanted):
        c.refuse("a size that follows the batch")
    return windows.conv_transpose(
        c, c.node(y), c.node(kernel), None, wanted, stride=_spatial(c, c.attrs["strides"]),
        padding=kind, dilation=_spatial(c, c.attrs["dilations"]), last=_last(c),
    )  # fmt: skip


@operation("MaxPool", "MaxPool3D", "AvgPool", "AvgPool3D")
def pool(c: Context, x: Node) -> Node:
    """The maximum or the mean of windows."""
    function = windows.max_pool if c.target.startswith("Max") else windows.avg_pool
    window, stride = tuple(c.attrs["ksize"]), tuple(c.attrs["strides"])
    if len(_spatial(c, window)) != len(window) - 2 or window[0] != 1 or stride[0] != 1:
        c.refuse("windows over the batch")
    if window[-1 if _last(c) else 1] != 1:
        c.refuse("windows over channels")
    return function(
        c, c.node(x), window=_spatial(c, window), stride=_spatial(c, stride), padding=_padding(c),
        last=_last(c),
    )  # fmt: skip


@operation("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(
    c: Context, x: Node, scale: Node, offset: Node, mean: Node, variance: Node
) -> tuple[Any, ...]:
    """By given statistics."""
    if c.attrs["is_training"]:
        c.refuse("statistics of the batch")
    nodes = [c.node(t) for t in (mean, variance, scale, offset)]
    eps = float(c.attrs["epsilon"])
    y = windows.on_channels_first(
        c, c.node(x), _last(c),
        lambda t: c.op("batch_norm", t, *nodes, eps=eps, affine=True),
    )  # fmt: skip
    return y, None, None, None, None, None


@operation("LRN")
def local_response_norm(c: Context, x: Node) -> Node:
    """Divided by a power of the squares of neighbouring channels."""
    size = 2 * c.attrs["depth_radius"] + 1
    return channels_last(
        c,
        c.op(
            "local_response_norm", channels_first(c, c.node(x)), size=size,
            alpha=float(c.attrs["alpha"]) * size, beta=float(c.attrs["beta"]),
            k=float(c.attrs["bias"]),
        ),
    )  # fmt: skip


@operation("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic")
def resize(c: Context, x: Node, size: Value) -> Node:
    """An image of another size."""
    x, wanted = c.node(x), c.numbers(size, "the size of the result")
    align, half = c.attrs["align_corners"], c.attrs["half_pixel_centers"]
    sizes = rule_numbers(c.target, "a size of the image", x.shape[1:3])
    if any(not 0 < m <= _MOST_PIXELS for m in wanted):
        c.refuse(f"an image of {sizes} resized to {tuple(wanted)}")
    if c.target == "ResizeNearestNeighbor":
        if not align and all(o % n == 0 for n, o in zip(sizes, wanted)):
            return windows.resize(c, x, tuple(wanted), "nearest")
        for axis, (n, m) in enumerate(zip(sizes, wanted), 1):
            if n != m:
                places = c.node(Known(nearest(n, m, align, half), I64))
                x = c.op("take", x, places, axis=axis)
        return x
    x = c.cast(x, F32)
    if c.target == "ResizeBilinear" and (align or half or sizes == tuple(wanted)):
        return windows.resize(c, x, tuple(wanted), "linear", align)
    if c.target == "ResizeBicubic" and (align or not half):
        c.refuse("bicubic resizing without half_pixel_centers")
    if any(n * m > _MOST_WEIGHTS for n, m in zip(sizes, wanted, strict=True)):
        c.refuse(f"an image of {sizes} resized to {tuple(wanted)} by matrices")
    weights = linear if c.target == "ResizeBilinear" else cubic
    for axis, (n, m) in enumerate(zip(sizes, wanted), 1):
        if n != m:
            order = [k for k in range(4) if k != axis] + [axis]
            y = c.op("linear", permute(c, x, order), c.node(Known(weights(n, m), F32)))
            x = permute(c, y, [order.index(k) for k in range(4)])
    return x
