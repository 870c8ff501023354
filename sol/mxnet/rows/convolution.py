"""Rows of convolutions, plain and transposed, with 1, 2 or 3 spatial axes, in any layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sol.ir.graph import Node
from sol.mxnet.attributes import Ints
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import row


def in_layout(c: Context, layout: str | None, x: Node) -> tuple[Node, tuple[int, ...] | None]:
    """x with its channels first, and the axes that bring a result back (None for none)."""
    axes = c.channels_first(layout, x.tensor.rank)
    if axes is None:
        return x, None
    return c.permute(x, axes), tuple(axes.index(k) for k in range(len(axes)))


def back(c: Context, y: Node, axes: Sequence[int] | None) -> Node:
    """A result in the layout of the input."""
    return y if axes is None else c.permute(y, axes)


@row("Convolution", "Convolution_v1", "_npx_convolution")
def convolution(
    c: Context,
    x: Node,
    weight: Node,
    bias: Node | None = None,
    *,
    kernel: Ints,
    stride: Ints = (),
    dilate: Ints = (),
    pad: Ints = (),
    num_filter: int,
    num_group: int = 1,
    no_bias: bool = False,
    layout: str | None = None,
) -> Result:
    """Convolution."""
    rank = len(kernel)
    _check(c, x, weight, kernel, weight.shape[:1], num_filter)
    x, axes = in_layout(c, layout, x)
    weight, _ = in_layout(c, layout, weight)
    attrs: dict[str, Any] = {
        "stride": c.spatial(stride, rank, 1),
        "dilation": c.spatial(dilate, rank, 1),
        "padding": tuple((p, p) for p in c.spatial(pad, rank, 0)),
    }
    c.need(weight.shape[2:] == kernel, f"kernel {kernel}, weight {weight.tensor}", "equal sizes")
    biases = [] if no_bias or bias is None else [bias]
    return back(c, c.op("conv", x, weight, *biases, **attrs, groups=num_group), axes)


def _check(
    c: Context, x: Node, weight: Node, kernel: Ints, filters: Sequence[Any], num_filter: int
) -> None:
    rank = len(kernel)
    c.need(rank in (1, 2, 3), f"kernel={kernel}", "1, 2 or 3 sizes")
    c.need(
        x.tensor.rank == weight.tensor.rank == rank + 2,
        f"{x.tensor} and a weight {weight.tensor} for a kernel {kernel}", f"{rank + 2} axes",
    )  # fmt: skip
    c.need(
        tuple(filters) == (num_filter,), f"num_filter={num_filter}, a weight {weight.tensor}",
        "as many filters as the weight has",
    )  # fmt: skip


@row("Deconvolution", "_npx_deconvolution")
def deconvolution(
    c: Context,
    x: Node,
    weight: Node,
    bias: Node | None = None,
    *,
    kernel: Ints,
    stride: Ints = (),
    dilate: Ints = (),
    pad: Ints = (),
    adj: Ints = (),
    target_shape: Ints = (),
    num_filter: int,
    num_group: int = 1,
    no_bias: bool = True,
    layout: str | None = None,
) -> Result:
    """Transposed convolution; `adj` makes the result longer at the end."""
    rank = len(kernel)
    x, axes = in_layout(c, layout, x)
    weight, _ = in_layout(c, layout, weight)
    _check(c, x, weight, kernel, (weight.shape[1] * num_group,), num_filter)
    c.need(weight.shape[2:] == kernel, f"kernel {kernel}, weight {weight.tensor}", "equal sizes")
    strides, dilations = c.spatial(stride, rank, 1), c.spatial(dilate, rank, 1)
    pads, more = c.spatial(pad, rank, 0), c.spatial(adj, rank, 0)
    if target_shape and any(target_shape):
        pads, more = _to_target(c, x, kernel, strides, dilations, target_shape)
    biases = [] if no_bias or bias is None else [bias]
    y = c.op(
        "conv_transpose", x, weight, *biases, stride=strides, padding=pads, output_padding=more,
        dilation=dilations, groups=num_group,
    )  # fmt: skip
    return back(c, y, axes)


def _to_target(
    c: Context, x: Node, kernel: Ints, strides: Ints, dilations: Ints, target: Ints
) -> tuple[Ints, Ints]:
    """Padding and adj that give the result this size."""
    c.need(len(target) == len(kernel), f"target_shape={target}", f"{len(kernel)} sizes")
    pads, more = [], []
    for k, (size, s, d) in enumerate(zip(kernel, strides, dilations)):
        full = (c.size(x, 2 + k) - 1) * s + (size - 1) * d + 1
        c.need(full >= target[k], f"target_shape={target}", f"{full} at most on axis {2 + k}")
        crop = full - target[k]
        pads.append((crop + 1) // 2)
        more.append(crop % 2)
    return tuple(pads), tuple(more)
