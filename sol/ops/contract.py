"""Contractions: convolution, transposed convolution, linear layer, matrix product.

`compute` is the definition, and what the code generator falls back to; kernels/ computes them with
register tiles. Inputs of convolutions are [N, C, spatial…] with 1, 2 or 3 spatial axes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sol.core.dims import Size
from sol.core.dtypes import promote
from sol.ir.expr import Expr, apply, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.gradients import contract as gradient_of
from sol.ops.maps import all_of, axes_of, inside, over, read_broadcast
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import (
    broadcast,
    need,
    need_kind,
    need_length,
    need_number,
    need_positive,
    need_shape,
    numbers,
    of,
)
from sol.ops.sampling import f32
from sol.ops.windows import need_window, taps, window_sizes, windows

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

# ---- conv ----------------------------------------------------------------------------------------


def _check_conv(op: str, x: TensorType, weight: TensorType, bias: tuple[TensorType, ...]) -> int:
    """Ranks and types of a convolution; the number of spatial axes."""
    need(x.rank in (3, 4, 5), op, f"an input {x}", "[N, C, spatial…] with 1 to 3 spatial axes")
    need(weight.rank == x.rank, op, f"a weight {weight} for an input {x}", f"{x.rank} axes")
    for t in (x, weight):
        need_kind(op, t, "float", "int")
    need(len(bias) <= 1, op, f"{len(bias) + 2} inputs", "input, weight and maybe a bias")
    return x.rank - 2


def _check_groups(op: str, channels: int, groups: int) -> None:
    need_positive(op, "groups", (groups,))
    need(channels % groups == 0, op, f"{channels} channels", f"a multiple of groups={groups}")


def _infer_conv(
    x: TensorType, weight: TensorType, *bias: TensorType,
    stride: Ints, padding: Pads, dilation: Ints, groups: int,
) -> TensorType:  # fmt: skip
    op = "conv"
    rank = _check_conv(op, x, weight, bias)
    need_window(op, rank, stride=stride, dilation=dilation)
    need_length(op, "padding", padding, rank)
    need(all(p >= 0 for pair in padding for p in pair), op, f"padding={padding}", "at least 0")
    channels, (results, per_group, *kernel) = x.shape[1], numbers(op, "a weight size", weight.shape)
    _check_groups(op, results, groups)
    need(
        channels == per_group * groups,
        op,
        f"{channels} channels and a weight {weight} in {groups} groups",
        f"{per_group * groups} channels",
    )
    for b in bias:
        need_shape(op, "the bias", b, (results,))
    places = window_sizes(op, x.shape[2:], kernel, stride, padding, dilation)
    return of(x, (x.shape[0], results, *places))


def _compute_conv(
    node: Node, index: Index, x: Read, weight: Read, bias: Read | None = None
) -> Expr:
    n, o, *place = index
    results, per_group, *kernel = numbers("conv", "a weight size", weight.shape)
    c, *tap = axes_of(node, (per_group, *kernel))
    low = [before for before, _ in node["padding"]]
    position = taps(place, tap, node["stride"], low, node["dilation"])
    valid = all_of([inside(p, 0, extent) for p, extent in zip(position, x.shape[2:])])
    group = o // (results // node["groups"])
    element = where(valid, x(n, group * per_group + c, *position), const(0, node.dtype))
    total = over("sum", (c, *tap), element * weight(o, c, *tap))
    return total if bias is None else total + bias(o)


def _convolved(x: Any, weight: Any, stride: Ints, dilation: Ints, places: Ints, groups: int) -> Any:
    """The convolution of a padded array: a matrix product for each group."""
    results, per_group, *kernel = weight.shape
    view = windows(x, kernel, stride, dilation, places)
    spatial = len(kernel)
    # [N, C, places…, taps…] -> [N, groups, places, C taps]
    view = view.reshape(x.shape[0], groups, per_group, *view.shape[2:])
    order = (0, 1, *range(3, 3 + spatial), 2, *range(3 + spatial, 3 + 2 * spatial))
    volumes = (math.prod(places), per_group * math.prod(kernel))
    rows = view.transpose(order).reshape(x.shape[0], groups, *volumes)
    columns = weight.reshape(groups, results // groups, -1).transpose(0, 2, 1)
    y = np.matmul(rows, columns)
    return y.transpose(0, 1, 3, 2).reshape(x.shape[0], results, *places)


def _biased(y: Any, bias: Any) -> Any:
    return y if bias is None else y + bias.reshape((-1,) + (1,) * (y.ndim - 2))


def _reference_conv(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    padded = np.pad(x, [(0, 0), (0, 0), *node["padding"]])
    places = numbers("conv", "a size", node.shape[2:])
    y = _convolved(padded, weight, node["stride"], node["dilation"], places, node["groups"])
    return _biased(y, bias)


def _conv(stride: Ints, padding: Pads, dilation: Ints, groups: int) -> dict[str, Any]:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


_SAME = ((1, 1), (1, 1))
_NONE = ((0, 0), (0, 0))

register(
    OpDef(
        "conv",
        "contract",
        _infer_conv,
        "`y[n, o, i] = Σ_{c, k} x[n, c, i * stride + k * dilation - padding] * w[o, c, k] + b[o]`, "
        "c over the channels of o's group. `padding` is a pair (low, high) for each spatial axis.",
        samples=(
            Sample((f32(2, 3, 7, 5), f32(4, 3, 3, 3), f32(4)), _conv((1, 1), _SAME, (1, 1), 1)),
            Sample((f32(1, 16, 5, 5), f32(17, 16, 1, 1)), _conv((1, 1), _NONE, (1, 1), 1)),
            Sample((f32(1, 6, 9, 7), f32(6, 1, 3, 3), f32(6)), _conv((2, 2), _SAME, (1, 1), 6)),
            Sample((f32(1, 6, 13, 9), f32(4, 3, 2, 3)), _conv((3, 2), ((0, 1), (2, 0)), (2, 2), 2)),
            Sample((f32(2, 1, 7, 7), f32(24, 1, 5, 5)), _conv((5, 5), _NONE, (1, 1), 1)),
            Sample((f32(2, 5, 17), f32(3, 5, 4), f32(3)), _conv((2,), ((1, 2),), (1,), 1)),
            Sample((f32(1, 4, 33), f32(8, 1, 7)), _conv((1,), ((6, 0),), (1,), 4)),
            Sample(
                (f32(1, 2, 5, 6, 7), f32(3, 2, 2, 3, 2), f32(3)),
                _conv((1, 2, 2), ((0, 1), (1, 1), (0, 0)), (1, 1, 1), 1),
            ),
            Sample((f32(1, 2, 3, 3), f32(2, 2, 3, 3)), _conv((4, 4), _NONE, (1, 1), 1)),
            Sample((f32(1, 1, 1, 1), f32(1, 1, 1, 1), f32(1)), _conv((1, 1), _NONE, (1, 1), 1)),
        ),
        compute=_compute_conv,
        reference=_reference_conv,
        gradient=gradient_of.conv,
    )
)

# ---- conv_transpose ------------------------------------------------------------------------------


def _infer_conv_transpose(
    x: TensorType, weight: TensorType, *bias: TensorType,
    stride: Ints, padding: Ints, output_padding: Ints, dilation: Ints, groups: int,
) -> TensorType:  # fmt: skip
    op = "conv_transpose"
    rank = _check_conv(op, x, weight, bias)
    need_window(op, rank, stride=stride, dilation=dilation)
    need_length(op, "padding", padding, rank)
    need_length(op, "output_padding", output_padding, rank)
    channels, per_group, *kernel = numbers(op, "a weight size", weight.shape)
    need(
        x.shape[1] == channels, op, f"{x.shape[1]} channels", f"{channels}, as the weight {weight}"
    )
    _check_groups(op, channels, groups)
    for b in bias:
        need_shape(op, "the bias", b, (per_group * groups,))
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + more + 1
        for n, k, s, p, more, d in zip(
            numbers(op, "a spatial size", x.shape[2:]),
            kernel, stride, padding, output_padding, dilation,
        )
    ]  # fmt: skip
    need(all(n > 0 for n in sizes), op, f"a result of the sizes {sizes}", "at least 1 on each axis")
    return of(x, (x.shape[0], per_group * groups, *sizes))


def _compute_conv_transpose(
    node: Node, index: Index, x: Read, weight: Read, bias: Read | None = None
) -> Expr:
    """Tap k of result i comes from input (i + p - k d) / s, where that is whole and exists."""
    n, o, *place = index
    channels, results, *kernel = numbers("conv_transpose", "a weight size", weight.shape)
    per_group = channels // node["groups"]
    c, *tap = axes_of(node, (per_group, *kernel))
    position, conditions = [], []
    for i, k, s, p, d, extent in zip(
        place, tap, node["stride"], node["padding"], node["dilation"], x.shape[2:]
    ):
        spread = i + p - k * d
        position.append(spread // s)
        conditions.append((spread >= 0) & (spread // s < extent))
        conditions.append(apply("eq", spread % s, 0))
    group = o // results
    channel = group * per_group + c
    element = where(all_of(conditions), x(n, channel, *position), const(0, node.dtype))
    total = over("sum", (c, *tap), element * weight(channel, o % results, *tap))
    return total if bias is None else total + bias(o)


def _reference_conv_transpose(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    """A convolution of the input spread out by zeros, with the kernel turned round."""
    channels, results, *kernel = weight.shape
    groups, stride, dilation = node["groups"], node["stride"], node["dilation"]
    spatial = tuple(range(2, x.ndim))
    spread_sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride)]
    spread = np.zeros((*x.shape[:2], *spread_sizes), x.dtype)
    spread[(slice(None), slice(None), *(slice(None, None, s) for s in stride))] = x
    places = numbers("conv_transpose", "a size", node.shape[2:])
    pads = []
    for k, p, d, size, have in zip(kernel, node["padding"], dilation, places, spread_sizes):
        low = d * (k - 1) - p
        pads.append((low, size + d * (k - 1) - have - low))
    turned = np.flip(weight, spatial).reshape(groups, channels // groups, results, *kernel)
    turned = np.swapaxes(turned, 1, 2).reshape(groups * results, channels // groups, *kernel)
    padded = _padded_or_cropped(spread, pads)
    y = _convolved(padded, turned, (1,) * len(kernel), dilation, places, groups)
    return _biased(y, bias)


def _padded_or_cropped(x: Any, pads: list[tuple[int, int]]) -> Any:
    padded = np.pad(x, [(0, 0), (0, 0)] + [(max(a, 0), max(b, 0)) for a, b in pads])
    crops = [slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(pads, padded.shape[2:])]
    return padded[(slice(None), slice(None), *crops)]


def _transposed(stride: Ints, padding: Ints, more: Ints, dilation: Ints, g: int) -> dict[str, Any]:
    return {
        "stride": stride, "padding": padding, "output_padding": more, "dilation": dilation,
        "groups": g,
    }  # fmt: skip


register(
    OpDef(
        "conv_transpose",
        "contract",
        _infer_conv_transpose,
        "`y[n, o, i * stride + k * dilation - padding] += x[n, c, i] * w[c, o, k]`, plus `b[o]`: "
        "the gradient of a convolution. `output_padding` makes the result longer at the end.",
        samples=(
            Sample(
                (f32(2, 3, 5, 4), f32(3, 4, 3, 3), f32(4)),
                _transposed((2, 2), (1, 1), (1, 1), (1, 1), 1),
            ),
            Sample(
                (f32(1, 4, 5, 5), f32(4, 3, 2, 2)), _transposed((2, 2), (0, 0), (0, 0), (1, 1), 2)
            ),
            Sample((f32(1, 3, 7), f32(3, 2, 4), f32(2)), _transposed((3,), (2,), (0,), (2,), 1)),
            Sample(
                (f32(1, 2, 3, 2, 4), f32(2, 1, 3, 2, 2)),
                _transposed((1, 2, 3), (1, 0, 0), (0, 0, 2), (1, 1, 1), 2),
            ),
            Sample(
                (f32(1, 2, 3, 3), f32(2, 5, 1, 1)), _transposed((3, 3), (0, 0), (2, 2), (1, 1), 1)
            ),
        ),
        compute=_compute_conv_transpose,
        reference=_reference_conv_transpose,
        gradient=gradient_of.conv_transpose,
    )
)

# ---- linear, matmul ------------------------------------------------------------------------------


def _infer_linear(x: TensorType, weight: TensorType, *bias: TensorType) -> TensorType:
    op = "linear"
    need(x.rank >= 1 and weight.rank == 2, op, f"an input {x}, a weight {weight}", "[…, I], [O, I]")
    need_kind(op, x, "float", "int")
    need(
        x.shape[-1] == weight.shape[1],
        op,
        f"{x.shape[-1]} features and a weight {weight}",
        f"{weight.shape[1]} features",
    )
    need(len(bias) <= 1, op, f"{len(bias) + 2} inputs", "input, weight and maybe a bias")
    for b in bias:
        need_shape(op, "the bias", b, weight.shape[:1])
    return of(x, (*x.shape[:-1], weight.shape[0]), promote(x.dtype, weight.dtype))


def _compute_linear(
    node: Node, index: Index, x: Read, weight: Read, bias: Read | None = None
) -> Expr:
    *lead, o = index
    (k,) = axes_of(node, weight.shape[1:])
    total = over("sum", [k], x(*lead, k) * weight(o, k))
    return total if bias is None else total + bias(o)


def _reference_linear(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    y = np.matmul(x, weight.T)
    return y if bias is None else y + bias


def _infer_matmul(a: TensorType, b: TensorType) -> TensorType:
    op = "matmul"
    need(a.rank >= 2 and b.rank >= 2, op, f"{a} and {b}", "at least 2 axes each")
    inner: tuple[Size, Size] = (a.shape[-1], b.shape[-2])
    need(inner[0] == inner[1], op, f"{a} and {b}", "as many columns of a as rows of b")
    need_number(op, "the common size", inner[0])
    batch = broadcast(op, a.shape[:-2], b.shape[:-2])
    return of(a, (*batch, a.shape[-2], b.shape[-1]), promote(a.dtype, b.dtype))


def _compute_matmul(node: Node, index: Index, a: Read, b: Read) -> Expr:
    *batch, i, j = index
    (k,) = axes_of(node, a.shape[-1:])
    left = read_broadcast_matrix(a, batch, i, k)
    return over("sum", [k], left * read_broadcast_matrix(b, batch, k, j))


def read_broadcast_matrix(x: Read, batch: Index, i: Expr, j: Expr) -> Expr:
    """Element i, j of the matrix that broadcasting the leading axes puts at `batch`."""
    lead = Read(TensorType(x.shape[:-2], x.dtype), lambda *at: x(*at, i, j))
    return read_broadcast(lead, batch)


register(
    OpDef(
        "linear",
        "contract",
        _infer_linear,
        "`y[…, o] = Σ_i x[…, i] * w[o, i] + b[o]`.",
        samples=(
            Sample((f32(3, 7), f32(5, 7), f32(5))),
            Sample((f32(2, 13, 24), f32(17, 24))),
            Sample((f32(33), f32(1, 33), f32(1))),
            Sample((f32(2, 1, 3, 1), f32(16, 1), f32(16))),
        ),
        compute=_compute_linear,
        reference=_reference_linear,
        gradient=gradient_of.linear,
    )
)
register(
    OpDef(
        "matmul",
        "contract",
        _infer_matmul,
        "`y[…, i, j] = Σ_k a[…, i, k] * b[…, k, j]`; leading axes broadcast.",
        samples=(
            Sample((f32(3, 7), f32(7, 5))),
            Sample((f32(2, 3, 13, 4), f32(2, 3, 4, 17))),
            Sample((f32(2, 1, 3, 5), f32(7, 5, 1))),
            Sample((f32(5, 7), f32(2, 7, 24))),
            Sample((f32(1, 1), f32(1, 1))),
        ),
        compute=_compute_matmul,
        reference=lambda node, a, b: np.matmul(a, b),
        gradient=gradient_of.matmul,
    )
)
