"""Operators that gradients are made of: derivatives, gradients of weights, values that are moved
back to where they came from, and `detach`, which ends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sol.core.dims import Shape, concrete
from sol.ir.expr import Expr, apply, cast, const, substitute, where
from sol.ir.graph import Attrs, Node, TensorType
from sol.ops.derivative import derivative
from sol.ops.maps import all_of, axes_of, from_data, inside, over
from sol.ops.pointwise import computed, referenced
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import (
    broadcasts_to,
    need,
    need_axis,
    need_kind,
    need_length,
    need_number,
    need_positive,
    need_rank,
    need_shape,
    numbers,
    of,
    replaced,
)
from sol.ops.sampling import f32, i64, u8
from sol.ops.windows import need_window, taps, window_sizes, windows

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
_WHY = "it is part of a gradient; a gradient's own runs in the framework"

# ---- derivative, detach --------------------------------------------------------------------------


def _infer_derivative(
    dy: TensorType, *operands: TensorType, of: str, given: Attrs, wrt: int
) -> TensorType:
    need_kind("derivative", dy, "float")
    for x in operands:
        fits = broadcasts_to(x.shape, dy.shape)
        need(fits, "derivative", f"an operand {x} for {dy}", "one that broadcasts to it")
    return dy


def _derivative(node: Node, dy: Expr, *operands: Expr) -> Expr:
    """Of operands, or of the result alone where that is enough."""
    op, attrs, wrt = node["of"], node["given"], node["wrt"]
    dtypes = tuple(x.dtype for x in operands)
    found = derivative(op, attrs, dtypes, node.dtype, wrt)
    leaves = (found.result,) if found.by_result else found.operands
    return substitute(found.value, dict(zip((found.dy, *leaves), (dy, *operands))))


def _of(op: str, wrt: int = 0, **attrs: Any) -> dict[str, Any]:
    return {"of": op, "given": tuple(sorted(attrs.items())), "wrt": wrt}


register(
    OpDef(
        "derivative",
        "elementwise",
        _infer_derivative,
        "`y = dy * ∂of/∂x` by operand number `wrt` of an element-wise operator, of its operands, "
        "or of its result where that is enough.",
        samples=(
            Sample((f32(2, 3, 7), f32(2, 3, 7)), _of("gelu", approximate="none")),
            Sample((f32(13), f32(13)), _of("tanh")),
            Sample((f32(3, 5), f32(3, 5), f32(5)), _of("atan2", 1), 0.5, 2),
            Sample((f32(2, 17), f32(2, 17)), _of("leaky_relu", slope=0.1)),
        ),
        compute=computed(_derivative),
        reference=referenced(_derivative),
        scalar=_derivative,
        why=_WHY,
    )
)
register(
    OpDef(
        "detach",
        "elementwise",
        lambda x: x,
        "`y = x`, without a gradient.",
        samples=(Sample((f32(3, 5),)), Sample((i64(7),))),
        compute=computed(lambda node, x: x),
        reference=lambda node, x: x,
        scalar=lambda node, x: x,
        why="it has none: that is what it is for",
    )
)

# ---- gradients of weights ------------------------------------------------------------------------


def _infer_linear_weight(x: TensorType, dy: TensorType) -> TensorType:
    op = "linear_weight_gradient"
    need(x.rank == dy.rank >= 1, op, f"{x} and {dy}", "equally many axes")
    need_kind(op, x, "float")
    need(x.shape[:-1] == dy.shape[:-1], op, f"{x} and {dy}", "equal sizes but of the last axis")
    return of(x, (dy.shape[-1], x.shape[-1]))


def _compute_linear_weight(node: Node, index: Index, x: Read, dy: Read) -> Expr:
    o, i = index
    rows = axes_of(node, x.shape[:-1])
    return over("sum", rows, dy(*rows, o) * x(*rows, i))


def _reference_linear_weight(node: Node, x: Any, dy: Any) -> Any:
    return np.matmul(dy.reshape(-1, dy.shape[-1]).T, x.reshape(-1, x.shape[-1]))


register(
    OpDef(
        "linear_weight_gradient",
        "contract",
        _infer_linear_weight,
        "`dw[o, i] = Σ dy[…, o] * x[…, i]` over all places: the gradient of a linear layer's "
        "weight.",
        samples=(
            Sample((f32(3, 7), f32(3, 5))),
            Sample((f32(2, 13, 24), f32(2, 13, 17))),
            Sample((f32(33), f32(1))),
        ),
        compute=_compute_linear_weight,
        reference=_reference_linear_weight,
        why=_WHY,
    )
)


def _infer_conv_weight(
    x: TensorType, dy: TensorType,
    *, kernel: Ints, stride: Ints, padding: Pads, dilation: Ints, groups: int,
) -> TensorType:  # fmt: skip
    op = "conv_weight_gradient"
    need_rank(op, x, len(kernel) + 2)
    need_kind(op, x, "float")
    need_window(op, len(kernel), kernel=kernel, stride=stride, dilation=dilation)
    need_length(op, "padding", padding, len(kernel))
    channels, results = numbers(op, "the number of channels", (x.shape[1], dy.shape[1]))
    need_positive(op, "groups", (groups,))
    fits = channels % groups == 0 and results % groups == 0
    need(fits, op, f"{channels} and {results} channels", f"multiples of groups={groups}")
    places = window_sizes(op, x.shape[2:], kernel, stride, padding, dilation)
    need_shape(op, "the gradient", dy, (x.shape[0], results, *places))
    return of(x, (results, channels // groups, *kernel))


def _compute_conv_weight(node: Node, index: Index, x: Read, dy: Read) -> Expr:
    o, c, *tap = index
    results, per_group, *_ = numbers(node.op, "a weight size", node.shape)
    n, *place = axes_of(node, (x.shape[0], *dy.shape[2:]))
    low = [before for before, _ in node["padding"]]
    position = taps(place, tap, node["stride"], low, node["dilation"])
    valid = all_of([inside(p, 0, extent) for p, extent in zip(position, x.shape[2:])])
    channel = o // (results // node["groups"]) * per_group + c
    element = where(valid, x(n, channel, *position), const(0, node.dtype))
    return over("sum", (n, *place), dy(n, o, *place) * element)


def _reference_conv_weight(node: Node, x: Any, dy: Any) -> Any:
    padded = np.pad(x, [(0, 0), (0, 0), *node["padding"]])
    kernel, groups = node["kernel"], node["groups"]
    view = windows(padded, kernel, node["stride"], node["dilation"], dy.shape[2:])
    batch, spatial = x.shape[0], len(kernel)
    view = view.reshape(batch, groups, x.shape[1] // groups, *view.shape[2:])
    order = (1, 2, *range(3 + spatial, 3 + 2 * spatial), 0, *range(3, 3 + spatial))
    rows = batch * int(np.prod(dy.shape[2:]))
    columns = view.transpose(order).reshape(groups, -1, rows)
    apart = dy.reshape(batch, groups, dy.shape[1] // groups, -1).transpose(1, 2, 0, 3)
    product = np.matmul(apart.reshape(groups, -1, rows), columns.transpose(0, 2, 1))
    return product.reshape(concrete(node.shape, 1))


def _conv(
    kernel: Ints, stride: Ints, padding: Pads, dilation: Ints, groups: int = 1
) -> dict[str, Any]:
    return {
        "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation,
        "groups": groups,
    }  # fmt: skip


register(
    OpDef(
        "conv_weight_gradient",
        "contract",
        _infer_conv_weight,
        "`dw[o, c, k] = Σ_{n, i} dy[n, o, i] * x[n, c, i * stride + k * dilation - padding]`: the "
        "gradient of a convolution's weight.",
        samples=(
            Sample(
                (f32(2, 3, 7, 5), f32(2, 4, 7, 5)),
                _conv((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
            ),
            Sample(
                (f32(1, 16, 5, 5), f32(1, 17, 5, 5)),
                _conv((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
            ),
            Sample(
                (f32(2, 6, 9, 7), f32(2, 4, 4, 4)),
                _conv((3, 2), (2, 2), ((0, 1), (1, 0)), (1, 1), 2),
            ),
            Sample((f32(2, 4, 17), f32(2, 4, 13)), _conv((3,), (1,), ((0, 0),), (2,), 4)),
            Sample(
                (f32(1, 2, 5, 6, 7), f32(1, 3, 5, 6, 3)),
                _conv((1, 2, 3), (1, 1, 2), ((0, 0), (0, 1), (0, 0)), (1, 1, 1)),
            ),
        ),
        compute=_compute_conv_weight,
        reference=_reference_conv_weight,
        why=_WHY,
    )
)

# ---- windows back onto what they came from -------------------------------------------------------


def _infer_fold(
    x: TensorType, *, axis: int, step: int, dilation: int, low: int, extent: int
) -> TensorType:
    need_axis("fold", axis, x.rank - 1)
    need_positive("fold", "step, dilation", (step, dilation))
    return of(x, replaced(x.shape[:-1], axis, extent))


def _compute_fold(node: Node, index: Index, x: Read) -> Expr:
    axis, step = node["axis"], node["step"]
    (k,) = axes_of(node, x.shape[-1:])
    spread = index[axis] + node["low"] - k * node["dilation"]
    place = spread // step
    here = all_of([inside(place, 0, x.shape[axis]), spread >= 0])
    if step > 1:
        here = here & apply("eq", spread % step, 0)
    element = x(*index[:axis], place, *index[axis + 1 :], k)
    return over("sum", [k], where(here, element, const(0, node.dtype)))


def _fold(axis: int, step: int, dilation: int, low: int, extent: int) -> dict[str, Any]:
    return {"axis": axis, "step": step, "dilation": dilation, "low": low, "extent": extent}


register(
    OpDef(
        "fold",
        "window",
        _infer_fold,
        "`y[…, i step + k dilation - low, …] += x[…, i, …, k]` on `axis`, which gets `extent` "
        "elements: windows (the last axis) added up where they lie.",
        samples=(
            Sample((f32(3, 4, 5),), _fold(1, 3, 1, 0, 14)),
            Sample((f32(2, 7, 2, 3),), _fold(1, 1, 2, 2, 7)),
            Sample((f32(5, 4),), _fold(0, 2, 1, 1, 10)),
        ),
        compute=_compute_fold,
        why=_WHY,
    )
)


def _infer_spread(
    x: TensorType, *place: TensorType,
    size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints,
) -> TensorType:  # fmt: skip
    op = "spread"
    need_rank(op, x, len(kernel) + 2)
    need_kind(op, x, "float")
    need_length(op, "size", size, len(kernel))
    need_window(op, len(kernel), kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    need(len(place) <= 1, op, f"{len(place) + 1} inputs", "values and maybe places")
    for p in place:
        need_kind(op, p, "int", "float")
        need_shape(op, "the places", p, x.shape)
    return of(x, (*x.shape[:2], *size))


def _compute_spread(node: Node, index: Index, x: Read, place: Read | None = None) -> Expr:
    """The sum over the windows that cover an element: from the last one that begins before it
    backwards. With a dilation, over taps: tap k of the window at (i + padding - k dilation) /
    stride, where that is whole.
    """
    window = list(zip(node["kernel"], node["stride"], node["padding"], node["dilation"]))
    turns = axes_of(node, [-(-k // s) if d == 1 else k for k, s, _, d in window])
    position: list[Expr] = []
    conditions: list[Expr] = []
    number: Expr = const(0)
    for i, turn, (k, s, p, d), extent in zip(index[2:], turns, window, x.shape[2:]):
        if d == 1:
            tap, at = (i + p) % s + turn * s, (i + p) // s - turn
            conditions += [tap < k] if k % s else []
        else:
            tap, at = turn, (i + p - turn * d) // s
            conditions += [apply("eq", (i + p - turn * d) % s, 0)] if s > 1 else []
        conditions += [at >= 0, at < need_number(node.op, "a size", extent)]
        position.append(at)
        number = number * k + tap
    element, zero = x(*index[:2], *position), const(0, node.dtype)
    if place is not None:
        chosen = place(*index[:2], *position)
        element = where(apply("eq", chosen, cast(number, chosen.dtype)), element, zero)
    return over("sum", turns, where(all_of(conditions), element, zero))


def _window(kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> dict[str, Any]:
    return {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}


register(
    OpDef(
        "spread",
        "window",
        _infer_spread,
        "`y[n, c, i stride + k dilation - padding] += x[n, c, i]` for every k of the window, or, "
        "with places, only for the one whose number stands in `place[n, c, i]`.",
        samples=(
            Sample((f32(2, 3, 4, 3),), {"size": (7, 5)} | _window((3, 3), (2, 2), (1, 1), (1, 1))),
            Sample((f32(1, 5, 3),), {"size": (8,)} | _window((2,), (3,), (0,), (1,))),
            Sample(
                (f32(1, 3, 4, 4), u8(1, 3, 4, 4)),
                {"size": (8, 7)} | _window((2, 3), (2, 1), (0, 1), (1, 2)),
                0,
                6,
            ),
        ),
        compute=_compute_spread,
        why=_WHY,
    )
)


def _infer_pool_index(
    x: TensorType, y: TensorType, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> TensorType:
    op = "max_pool_index"
    need_rank(op, x, len(kernel) + 2)
    need_window(op, len(kernel), kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    need(x.shape[:2] == y.shape[:2], op, f"{x} and its maxima {y}", "equal images and channels")
    return y


def _compute_pool_index(node: Node, index: Index, x: Read, y: Read) -> Expr:
    kernel = node["kernel"]
    tap = axes_of(node, kernel)
    position = taps(index[2:], tap, node["stride"], node["padding"], node["dilation"])
    valid = all_of([inside(p, 0, extent) for p, extent in zip(position, x.shape[2:])])
    number: Expr = const(0)
    for k, count in zip(tap, kernel):
        number = number * count + k
    none = const(float(np.prod(kernel)), x.dtype)
    same = apply("eq", where(valid, x(*index[:2], *position), 0.0), y(*index))
    found = where(valid, where(same, cast(number, x.dtype), none), none)
    return over("min", tap, found)


register(
    OpDef(
        "max_pool_index",
        "window",
        _infer_pool_index,
        "The least k with `x[n, c, i * stride + k * dilation - padding] = y[n, c, i]`, the "
        "maximum of a window; the window's size where there is none. A float, as x is: vectors "
        "have numbers of one type.",
        samples=(
            Sample((f32(2, 3, 7, 5), f32(2, 3, 4, 3)), _window((3, 3), (2, 2), (1, 1), (1, 1))),
            Sample((f32(1, 2, 17), f32(1, 2, 5)), _window((5,), (3,), (0,), (1,))),
        ),
        compute=_compute_pool_index,
        why="places are whole numbers",
    )
)

# ---- indices from data ---------------------------------------------------------------------------


def _infer_scatter_add(index: TensorType, x: TensorType, *, extent: int) -> TensorType:
    op = "scatter_add"
    need_kind(op, index, "int")
    need_kind(op, x, "float")
    need_positive(op, "extent", (extent,))
    leading = x.shape[: index.rank] == index.shape
    need(leading, op, f"an index {index} of rows {x}", "its axes first")
    return of(x, (extent, *x.shape[index.rank :]))


def _compute_scatter_add(node: Node, index: Index, where_to: Read, x: Read) -> Expr:
    rows = axes_of(node, where_to.shape)
    here = apply("eq", from_data(where_to(*rows), node["extent"]), index[0])
    return over("sum", rows, where(here, x(*rows, *index[1:]), const(0, node.dtype)))


def _reference_scatter_add(node: Node, index: Any, x: Any) -> Any:
    y = np.zeros(concrete(node.shape, 1), x.dtype)
    np.add.at(y, index, x)
    return y


def _infer_gather_add(index: TensorType, x: TensorType, *, axis: int, shape: Shape) -> TensorType:
    op = "gather_add"
    need_axis(op, axis, len(shape))
    need_kind(op, index, "int")
    need_kind(op, x, "float")
    need_shape(op, "the values", x, index.shape)
    return of(x, shape)


def _compute_gather_add(node: Node, index: Index, where_to: Read, x: Read) -> Expr:
    axis = node["axis"]
    (k,) = axes_of(node, x.shape[axis : axis + 1])
    at = (*index[:axis], k, *index[axis + 1 :])
    others = [
        inside(i, 0, n) for n, i, have in zip(x.shape, at, node.shape) if i is not k and n != have
    ]
    here = apply("eq", from_data(where_to(*at), node.shape[axis]), index[axis])
    found = where(here, x(*at), const(0, node.dtype))
    return over("sum", [k], where(all_of(others), found, const(0, node.dtype)))


def _reference_gather_add(node: Node, index: Any, x: Any) -> Any:
    y = np.zeros(concrete(node.shape, 1), x.dtype)
    at: Sequence[Any] = list(np.indices(index.shape))
    at = [index if k == node["axis"] else i for k, i in enumerate(at)]
    np.add.at(y, tuple(at), x)
    return y


register(
    OpDef(
        "scatter_add",
        "move",
        _infer_scatter_add,
        "`y[index[i], …] += x[i, …]` from zeros, for an index with any number of axes, in the "
        "order of i: the gradient of take.",
        samples=(
            Sample((i64(5), f32(5, 7)), {"extent": 4}, -4, 4),
            Sample((i64(2, 3), f32(2, 3, 5, 2)), {"extent": 13}, 0, 13),
            Sample((i64(), f32(24)), {"extent": 3}, 0, 3),
        ),
        compute=_compute_scatter_add,
        reference=_reference_scatter_add,
        why=_WHY,
    )
)
register(
    OpDef(
        "gather_add",
        "move",
        _infer_gather_add,
        "`y[i, index[i, j, k], k] += x[i, j, k]` from zeros of `shape` for `axis` 1, and so on: "
        "the gradient of gather.",
        samples=(
            Sample((i64(3, 7), f32(3, 7)), {"axis": 0, "shape": (5, 7)}, -5, 5),
            Sample((i64(2, 13, 1), f32(2, 13, 1)), {"axis": 1, "shape": (2, 7, 3)}, 0, 7),
        ),
        compute=_compute_gather_add,
        reference=_reference_gather_add,
        why=_WHY,
    )
)
