"""Rows that resize images, or sample them at points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sol.core.dims import Size
from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.mxnet.attributes import Ints
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import row


@row("UpSampling")
def upsampling(
    c: Context,
    *inputs: Node,
    scale: int,
    sample_type: str,
    num_filter: int = 0,
    multi_input_mode: str = "concat",
) -> Result:
    """Images made larger: pixels repeated, or interpolated by a given filter."""
    c.need(len(inputs) > 0 and scale > 0, f"{len(inputs)} inputs, {scale=}", "images")
    x = inputs[0]
    c.need(all(i.tensor.rank == 4 for i in inputs[:1]), f"an input {x.tensor}", "images")
    if sample_type == "bilinear":
        c.need(len(inputs) == 2, f"{len(inputs)} inputs", "images and a weight")
        return _by_filter(c, x, inputs[1], scale)
    if sample_type != "nearest":
        c.refuse(f"sample_type={sample_type!r}")
    size = (c.size(x, 2) * scale, c.size(x, 3) * scale)
    larger = [_repeated(c, i, size) for i in inputs]
    if len(larger) == 1:
        return larger[0]
    if multi_input_mode == "concat":
        return c.op("concat", *larger, axis=1)
    total = larger[0]
    for y in larger[1:]:
        c.need(y.shape == total.shape, f"{y.tensor} and {total.tensor}", "equal shapes")
        total = c.op("add", total, y)
    return total


def _repeated(c: Context, x: Node, size: tuple[int, int]) -> Node:
    fits = all(whole % c.size(x, 2 + k) == 0 for k, whole in enumerate(size))
    c.need(fits, f"{x.tensor} to {size}", "a multiple of the size")
    return c.op("interpolate", x, size=size, mode="nearest", align_corners=False, scales=None)


def _by_filter(c: Context, x: Node, weight: Node, scale: int) -> Node:
    """A transposed convolution of each channel by itself."""
    size, pad = 2 * scale - scale % 2, (scale - 1 + 1) // 2
    c.need(weight.shape[2:] == (size, size), f"a weight {weight.tensor}", f"{size} x {size}")
    return c.op(
        "conv_transpose", x, weight, stride=(scale, scale), padding=(pad, pad),
        output_padding=(0, 0), dilation=(1, 1), groups=c.size(x, 1),
    )  # fmt: skip


@row("_contrib_BilinearResize2D")
def bilinear_resize(
    c: Context,
    x: Node,
    other: Node | None = None,
    *,
    height: int = 1,
    width: int = 1,
    scale_height: float | None = None,
    scale_width: float | None = None,
    mode: str = "size",
    align_corners: bool = True,
) -> Result:
    """Images of another size, by interpolation of two neighbours on each axis."""
    c.need(x.tensor.rank == 4, f"an input {x.tensor}", "images")
    given = ((height, scale_height), (width, scale_width))
    size = tuple(
        _new_size(c, mode, c.size(x, axis), other, axis, *pair)
        for axis, pair in enumerate(given, 2)
    )
    c.need(all(0 < s < 1 << 16 for s in size), f"a new size {size}", "1 or more")
    return c.op(
        "interpolate", x, size=size, mode="linear", align_corners=align_corners, scales=None
    )


def _new_size(
    c: Context, mode: str, extent: int, other: Node | None, axis: int, wanted: int,
    scale: float | None,
) -> int:  # fmt: skip
    odd = extent % 2
    match mode:
        case "size":
            return wanted if scale is None else int(np.float32(scale) * np.float32(extent))
        case "odd_scale" if scale is not None:
            return int((extent - 1) * scale) + 1 if odd else int(extent * scale)
        case "like" if other is not None:
            return c.size(other, axis)
        case "to_even_down":
            return extent - odd
        case "to_even_up":
            return extent + odd
        case "to_odd_down":
            return extent - 1 + odd
        case "to_odd_up":
            return extent + 1 - odd
    return c.refuse(f"mode={mode!r}")


@row("_contrib_AdaptiveAvgPooling2D")
def adaptive_pooling(c: Context, x: Node, *, output_size: Ints = ()) -> Result:
    """The mean of windows that divide images into parts."""
    size = tuple(output_size) or (1,)
    c.need(len(size) in (1, 2) and x.tensor.rank == 4, f"{size} of {x.tensor}", "1 or 2 sizes")
    return c.op("adaptive_avg_pool", x, size=size * (3 - len(size)))


# ---- sampling at points --------------------------------------------------------------------------


def _sampled(c: Context, x: Node, grid: Node) -> Node:
    """x at the points of a grid [N, 2, H, W]; -1 and 1 are the outermost pixels."""
    points = c.permute(grid, (0, 2, 3, 1))
    return c.op("grid_sample", x, points, mode="bilinear", padding_mode="zeros", align_corners=True)


def _affine_grid(c: Context, theta: Node, target: Ints) -> Node:
    """Where the pixels of an image are, moved by 2 x 3 matrices: [N, 2, H, W]."""
    c.need(len(target) == 2 and min(target) > 1, f"target_shape={target}", "2 sizes above 1")
    c.need(theta.tensor.rank >= 2, f"matrices {theta.tensor}", "6 numbers for each image")
    rows, columns = target
    c.need(rows * columns < 1 << 24, f"target_shape={target}", "a smaller size")
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)]).astype(np.float32)
    matrices = c.reshape(theta, (theta.shape[0], 2, 3))
    return c.reshape(c.op("matmul", matrices, c.constant(points, F32)), _whole(theta, target))


def _whole(theta: Node, target: Sequence[int]) -> tuple[Size, ...]:
    return (theta.shape[0], 2, *target)


@row("BilinearSampler")
def bilinear_sampler(c: Context, x: Node, grid: Node) -> Result:
    """Images at the points of a grid."""
    return _sampled(c, x, grid)


@row("GridGenerator")
def grid_generator(
    c: Context, x: Node, *, transform_type: str, target_shape: Ints = (0, 0)
) -> Result:
    """A grid of points, moved by matrices (affine)."""
    if transform_type != "affine":
        c.refuse(f"transform_type={transform_type!r}")
    return _affine_grid(c, x, target_shape)


@row("SpatialTransformer")
def spatial_transformer(
    c: Context, x: Node, theta: Node, *, target_shape: Ints = (0, 0),
    transform_type: str = "affine", sampler_type: str = "bilinear",
) -> Result:  # fmt: skip
    """Images, moved by matrices."""
    if transform_type != "affine" or sampler_type != "bilinear":
        c.refuse(f"{transform_type=}, {sampler_type=}")
    return _sampled(c, x, _affine_grid(c, theta, target_shape))
