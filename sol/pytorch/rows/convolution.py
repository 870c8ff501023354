"""Rows of convolutions, plain and transposed, in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sol.core.dims import Dim
from sol.ir.graph import Node
from sol.pytorch.context import Context, Result
from sol.pytorch.rows.table import row

Ints = Any  # a number, or a sequence of one or `rank` of them


def spread(value: Ints, rank: int) -> tuple[int, ...]:
    """One number for each spatial axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def _same_padding(weight: Node, dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Padding that keeps the size; an odd rest goes behind."""
    totals = [d * (k - 1) for d, k in zip(dilation, _spatial(weight))]
    return tuple((t // 2, t - t // 2) for t in totals)


def _spatial(weight: Node) -> tuple[int, ...]:
    sizes = weight.shape[2:]
    assert not any(isinstance(s, Dim) for s in sizes)
    return tuple(s for s in sizes if isinstance(s, int))


@row("conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def conv(
    c: Context,
    x: Node,
    weight: Node,
    bias: Node | None = None,
    stride: Ints = 1,
    padding: Any = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Result:
    """Convolution; padding as numbers, "same" or "valid"."""
    rank = weight.tensor.rank - 2
    dilations = spread(dilation, rank)
    if padding == "same":
        pads = _same_padding(weight, dilations)
    elif padding == "valid":
        pads = ((0, 0),) * rank
    else:
        pads = tuple((p, p) for p in spread(padding, rank))
    tensors = [weight] if bias is None else [weight, bias]
    attrs: dict[str, Any] = {
        "stride": spread(stride, rank),
        "padding": pads,
        "dilation": dilations,
        "groups": groups,
    }
    return c.reshape(c.op("conv", _batched(c, x, rank), *tensors, **attrs), c.shape)


def _batched(c: Context, x: Node, rank: int) -> Node:
    """PyTorch also takes one image without the axis of images."""
    return x if x.tensor.rank == rank + 2 else c.reshape(x, (1, *x.shape))


@row("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(
    c: Context,
    x: Node,
    weight: Node,
    bias: Node | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Result:
    """Transposed convolution."""
    rank = weight.tensor.rank - 2
    tensors = [weight] if bias is None else [weight, bias]
    attrs = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": dilation,
    }
    given = {name: spread(value, rank) for name, value in attrs.items()}
    y = c.op("conv_transpose", _batched(c, x, rank), *tensors, **given, groups=groups)
    return c.reshape(y, c.shape)


@row("convolution", "_convolution", "_convolution.deprecated")
def convolution(
    c: Context,
    x: Node,
    weight: Node,
    bias: Node | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
    *_: Any,
) -> Result:
    """Either kind, as kernels have it."""
    if transposed:
        return conv_transpose(c, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(c, x, weight, bias, stride, padding, dilation, groups)


@row("conv_depthwise3d", "_conv_depthwise2d")
def conv_depthwise(
    c: Context,
    x: Node,
    weight: Node,
    kernel: Ints,
    bias: Node | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
) -> Result:
    """Convolution of each channel by itself."""
    channels = x.shape[1]
    if not isinstance(channels, int):
        c.refuse("the number of channels depends on the batch size B")
    return conv(c, x, weight, bias, stride, padding, dilation, channels)
