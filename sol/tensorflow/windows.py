"""Convolutions, pooling and resizing of images with channels last or second, as operators of Sol.

What layers of Keras and operations of TensorFlow have in common: kernels are [taps…, in, out],
padding is a name or pairs of numbers, and `last` says where channels stand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from sol.ir.graph import Node
from sol.tensorflow.context import Context
from sol.tensorflow.layout import channels_first, channels_last, pad, permute, slice_axes
from sol.tensorflow.padding import Pads, paddings, transposed

Padding = str | Pads
Ints = Sequence[int]


def on_channels_first(c: Context, x: Node, last: bool, function: Callable[[Node], Node]) -> Node:
    """What a function of [N, C, spatial…] makes of x, which has its channels last or second."""
    return channels_last(c, function(channels_first(c, x))) if last else function(x)


def _pads(kind: Padding, x: Node, window: Ints, stride: Ints, dilation: Ints) -> Pads:
    if not isinstance(kind, str):
        return tuple(kind)
    return paddings(kind, x.shape[2:], window, stride, dilation)


def _sizes(c: Context, sizes: Sequence[Any], what: str) -> tuple[int, ...]:
    for size in sizes:
        if not isinstance(size, int):
            c.refuse(f"{what} is {size}, which follows the batch")
    return tuple(sizes)


# ---- convolutions --------------------------------------------------------------------------------


def conv(
    c: Context, x: Node, kernel: Node, bias: Node | None = None, *, stride: Ints,
    padding: Padding, dilation: Ints, last: bool = True,
) -> Node:  # fmt: skip
    """A convolution, in as many groups as the kernel's input channels say."""
    *taps, per_group, _ = _sizes(c, kernel.shape, "a size of the kernel")
    rank = len(taps)
    weight = permute(c, kernel, (rank + 1, rank, *range(rank)))

    def convolve(y: Node) -> Node:
        channels = y.shape[1]
        if not isinstance(channels, int) or channels % per_group:
            c.refuse(f"{channels} channels for a kernel of {per_group}")
        pads = _pads(padding, y, taps, stride, dilation)
        return c.op(
            "conv", y, weight, *_optional(bias), stride=tuple(stride), padding=pads,
            dilation=tuple(dilation), groups=channels // per_group,
        )  # fmt: skip

    return on_channels_first(c, x, last, convolve)


def depthwise(
    c: Context, x: Node, kernel: Node, bias: Node | None = None, *, stride: Ints,
    padding: Padding, dilation: Ints, last: bool = True,
) -> Node:  # fmt: skip
    """Each channel by itself, with kernels [taps…, channels, results of a channel]."""
    *taps, channels, multiple = _sizes(c, kernel.shape, "a size of the kernel")
    rank = len(taps)
    weight = permute(c, kernel, (rank, rank + 1, *range(rank)))
    weight = c.reshape(weight, (channels * multiple, 1, *taps))

    def convolve(y: Node) -> Node:
        pads = _pads(padding, y, taps, stride, dilation)
        return c.op(
            "conv", y, weight, *_optional(bias), stride=tuple(stride), padding=pads,
            dilation=tuple(dilation), groups=channels,
        )  # fmt: skip

    return on_channels_first(c, x, last, convolve)


def conv_transpose(
    c: Context, x: Node, kernel: Node, bias: Node | None, results: Ints, *, stride: Ints,
    padding: str, dilation: Ints, last: bool = True,
) -> Node:  # fmt: skip
    """The gradient of a convolution, with kernels [taps…, out, in], to `results` elements."""
    *taps, _, _ = _sizes(c, kernel.shape, "a size of the kernel")
    rank = len(taps)
    weight = permute(c, kernel, (rank + 1, rank, *range(rank)))

    def spread(y: Node) -> Node:
        sizes = _sizes(c, y.shape[2:], "a size of the image")
        rows = [
            transposed(n, o, k, s, d, padding)
            for n, o, k, s, d in zip(sizes, results, taps, stride, dilation)
        ]
        made = c.op(
            "conv_transpose", y, weight, *_optional(bias), stride=tuple(stride),
            padding=tuple(low for low, _, _ in rows),
            output_padding=tuple(more for _, more, _ in rows), dilation=tuple(dilation), groups=1,
        )  # fmt: skip
        cuts = [(2 + k, 0, o, 1) for k, (o, row) in enumerate(zip(results, rows)) if row[2]]
        return slice_axes(c, made, cuts)

    return on_channels_first(c, x, last, spread)


def _optional(bias: Node | None) -> tuple[Node, ...]:
    return () if bias is None else (bias,)


# ---- pooling -------------------------------------------------------------------------------------


def max_pool(
    c: Context, x: Node, *, window: Ints, stride: Ints, padding: Padding, last: bool = True
) -> Node:
    """The maximum of windows; padding does not count."""
    ones = (1,) * len(window)

    def pool(y: Node) -> Node:
        pads = _pads(padding, y, window, stride, ones)
        lowest = -math.inf if y.dtype.kind == "float" else None
        if any(low != high for low, high in pads) and lowest is None:
            c.refuse("integers with more padding on one side")
        common, y = _common_padding(c, y, pads, window, lowest or 0.0)
        return c.op(
            "max_pool", y, kernel=tuple(window), stride=tuple(stride), padding=common,
            dilation=ones, ceil=False,
        )  # fmt: skip

    return on_channels_first(c, x, last, pool)


def _common_padding(
    c: Context, x: Node, pads: Pads, window: Ints, value: float
) -> tuple[tuple[int, ...], Node]:
    """Padding that is the same on both sides, and x with what is left added to it."""
    common = tuple(min(low, high, k // 2) for (low, high), k in zip(pads, window))
    low = (0, 0, *(p[0] - both for p, both in zip(pads, common)))
    high = (0, 0, *(p[1] - both for p, both in zip(pads, common)))
    if any(low) or any(high):  # one operator, so that passes see where padding ends
        full = ((0, 0), (0, 0), *pads)
        x = pad(c, x, [p[0] for p in full], [p[1] for p in full], value)
        return (0,) * len(common), x
    return common, x


def avg_pool(
    c: Context, x: Node, *, window: Ints, stride: Ints, padding: Padding, last: bool = True
) -> Node:
    """The mean of the elements of windows that exist."""

    def pool(y: Node) -> Node:
        pads = _pads(padding, y, window, stride, (1,) * len(window))
        if all(low == high for low, high in pads):
            return _mean(c, y, window, stride, [low for low, _ in pads])
        # a mean of means of as many elements each: one axis after the other
        for axis, (low, high) in enumerate(pads):
            y = _mean_along(c, y, axis, window[axis], stride[axis], low, high)
        return y

    return on_channels_first(c, x, last, pool)


def _mean(
    c: Context, x: Node, window: Ints, stride: Ints, padding: Ints, ceil: bool = False
) -> Node:
    return c.op(
        "avg_pool", x, kernel=tuple(window), stride=tuple(stride), padding=tuple(padding),
        ceil=ceil, count_include_pad=False, divisor=None,
    )  # fmt: skip


def _mean_along(
    c: Context, x: Node, axis: int, window: int, stride: int, low: int, high: int
) -> Node:
    """Means of windows of one spatial axis, with maybe one more element of padding at its end."""
    rank = x.tensor.rank - 2
    windows, strides = ([1] * rank for _ in range(2))
    windows[axis], strides[axis] = window, stride
    padding = [0] * rank
    if low == high or stride > 1:  # the last window is cut off at the end
        padding[axis] = low
        return _mean(c, x, windows, strides, padding, ceil=low != high)
    padding[axis] = high  # as much at the start, and without the window that begins there
    y = _mean(c, x, windows, strides, padding)
    return slice_axes(c, y, [(2 + axis, 1, y.shape[2 + axis], 1)])


# ---- resizing ------------------------------------------------------------------------------------


def resize(
    c: Context, x: Node, size: Ints, mode: str, align_corners: bool = False, last: bool = True
) -> Node:
    """An image of another size. Modes: those of the operator `interpolate`."""
    return on_channels_first(
        c, x, last,
        lambda y: c.op(
            "interpolate", y, size=tuple(size), mode=mode, align_corners=align_corners, scales=None
        ),
    )  # fmt: skip
