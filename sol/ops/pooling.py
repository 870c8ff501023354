"""Pooling with 1, 2 or 3 spatial axes: windows of fixed size, or adaptive to the result's size.

Inputs are [N, C, spatial…]. A tap in the padding is a false condition, never a load.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from sol.core.dims import Size
from sol.core.dtypes import DType
from sol.ir.expr import Expr, apply, cast, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.gradients import window as gradient_of
from sol.ops.maps import all_of, axes_of, inside, over, size
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import need, need_kind, need_positive, need_rank, numbers, of
from sol.ops.sampling import f32, i64
from sol.ops.windows import need_window, taps, window_sizes, windows

Ints = tuple[int, ...]


def lowest(dtype: DType) -> float:
    """The neutral element of a maximum: -inf, or the smallest integer."""
    return float("-inf") if dtype.kind == "float" else int(np.iinfo(dtype.numpy).min)


def _check_padding(op: str, padding: Ints, kernel: Ints, dilation: Ints) -> None:
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    need(
        all(0 <= 2 * p <= span for p, span in zip(padding, spans)),
        op,
        f"padding={padding} of a window {tuple(spans)}",
        "at most half of the window, so that each window has an element",
    )


# ---- windows of fixed size -----------------------------------------------------------------------


def _infer_max_pool(
    x: TensorType, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil: bool
) -> TensorType:
    op, rank = "max_pool", len(kernel)
    need_rank(op, x, rank + 2)
    need_kind(op, x, "float", "int")
    need_window(op, rank, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    _check_padding(op, padding, kernel, dilation)
    pads = [(p, p) for p in padding]
    places = window_sizes(op, x.shape[2:], kernel, stride, pads, dilation, ceil)
    return of(x, (*x.shape[:2], *places))


def _window(node: Node, index: Index, x: Read, dilation: Ints) -> tuple[list[Expr], Expr, Expr]:
    """The axes of the window, the input's element there, and whether that exists."""
    bound = list(axes_of(node, node["kernel"]))
    position = taps(index[2:], bound, node["stride"], node["padding"], dilation)
    valid = all_of([inside(p, 0, extent) for p, extent in zip(position, x.shape[2:])])
    return bound, x(*index[:2], *position), valid


def _compute_max_pool(node: Node, index: Index, x: Read) -> Expr:
    bound, element, valid = _window(node, index, x, node["dilation"])
    return over("max", bound, where(valid, element, const(lowest(node.dtype), node.dtype)))


def _padded_windows(node: Node, x: Any, dilation: Ints, value: float) -> Any:
    """A view [N, C, places…, kernel…] of x padded by value as far as the last window reaches."""
    places = numbers(node.op, "a spatial size", node.shape[2:])
    pads = []
    for n, p, s, k, d, extent in zip(
        places, node["padding"], node["stride"], node["kernel"], dilation, x.shape[2:]
    ):
        pads.append((p, max(p, (n - 1) * s + d * (k - 1) + 1 - p - extent)))
    padded = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=value)
    return windows(padded, node["kernel"], node["stride"], dilation, places)


def _reference_max_pool(node: Node, x: Any) -> Any:
    view = _padded_windows(node, x, node["dilation"], lowest(node.dtype))
    return view.max(axis=tuple(range(-len(node["kernel"]), 0)))


def _infer_avg_pool(
    x: TensorType,
    *,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> TensorType:
    op, rank = "avg_pool", len(kernel)
    need_rank(op, x, rank + 2)
    need_kind(op, x, "float")
    need_window(op, rank, kernel=kernel, stride=stride, padding=padding)
    need(divisor != 0, op, "divisor=0", "another divisor, or None")
    _check_padding(op, padding, kernel, (1,) * rank)
    pads = [(p, p) for p in padding]
    places = window_sizes(op, x.shape[2:], kernel, stride, pads, (1,) * rank, ceil)
    return of(x, (*x.shape[:2], *places))


def _compute_avg_pool(node: Node, index: Index, x: Read) -> Expr:
    bound, element, valid = _window(node, index, x, (1,) * len(node["kernel"]))
    total = over("sum", bound, where(valid, element, const(0, node.dtype)))
    divisor: int | None = node["divisor"]
    if divisor is not None:
        return total / float(divisor)
    counts = [
        _count(place, axis, node, extent)
        for axis, (place, extent) in enumerate(zip(index[2:], x.shape[2:]))
    ]
    return _divided(total, counts, node.dtype)


def _count(place: Expr, axis: int, node: Node, extent: Size) -> Expr:
    """How many taps of the window count on one axis; those in the padding only if asked for."""
    pad: int = node["padding"][axis]
    stride: int = node["stride"][axis]
    kernel: int = node["kernel"][axis]
    start = place * stride - pad
    end = start + kernel
    if node["count_include_pad"]:
        return apply("min", end, size(extent + pad)) - start
    return apply("min", end, size(extent)) - apply("max", start, 0)


def _divided(total: Expr, counts: Sequence[Expr], dtype: DType) -> Expr:
    """total / (the product of counts), by a reciprocal that does not depend on the channel."""
    known = prod(int(c.value) for c in counts if c.op == "const")
    varying = [cast(c, dtype) for c in counts if c.op != "const"]
    if not varying:
        return total / float(known)
    count = varying[0]
    for c in varying[1:]:
        count = count * c
    return total * (1.0 / (count * float(known) if known != 1 else count))


def _reference_avg_pool(node: Node, x: Any) -> Any:
    spatial = len(node["kernel"])
    total = _padded_windows(node, x, (1,) * spatial, 0).sum(axis=tuple(range(-spatial, 0)))
    if node["divisor"] is not None:
        return total / node["divisor"]
    count = np.ones((), x.dtype)
    places = numbers(node.op, "a spatial size", node.shape[2:])
    for n, k, s, p, extent in zip(
        places, node["kernel"], node["stride"], node["padding"], x.shape[2:]
    ):
        border = p if node["count_include_pad"] else 0
        start = np.arange(n) * s - p
        length = np.minimum(start + k, extent + border) - np.maximum(start, -border)
        count = count[..., None] * length.astype(x.dtype)
    return total / count


register(
    OpDef(
        "max_pool",
        "window",
        _infer_max_pool,
        "`y[n, c, i] = max_k x[n, c, i * stride + k * dilation - padding]` over the elements that "
        "exist; NaN if one is NaN. `ceil` keeps a last window that is cut off.",
        samples=tuple(
            Sample((x,), dict(zip(("kernel", "stride", "padding", "dilation", "ceil"), attrs)))
            for x, *attrs in (
                (f32(2, 3, 13, 7), (3, 3), (2, 2), (1, 1), (1, 1), False),
                (f32(1, 5, 7, 7), (2, 2), (2, 2), (0, 0), (1, 1), True),
                (f32(2, 1, 17), (3,), (1,), (1,), (1,), False),
                (f32(1, 2, 13, 13), (3, 2), (1, 3), (1, 0), (2, 3), True),
                (f32(1, 2, 5, 6, 7), (2, 3, 2), (2, 2, 1), (1, 1, 0), (1, 1, 1), False),
                (f32(1, 24, 7, 7), (2, 2), (5, 4), (0, 0), (1, 1), False),
                (f32(1, 1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1), False),
                (i64(1, 2, 6, 5), (2, 2), (2, 2), (1, 1), (1, 1), False),
            )
        ),
        compute=_compute_max_pool,
        reference=_reference_max_pool,
        gradient=gradient_of.max_pool,
    )
)
_AVERAGE = ("kernel", "stride", "padding", "ceil", "count_include_pad", "divisor")
register(
    OpDef(
        "avg_pool",
        "window",
        _infer_avg_pool,
        "`y[n, c, i] = Σ_k x[n, c, i * stride + k - padding] / count`: the number of taps in the "
        "padded input, in the input itself without `count_include_pad`, or `divisor`.",
        samples=tuple(
            Sample((x,), dict(zip(_AVERAGE, attrs)))
            for x, *attrs in (
                (f32(2, 3, 13, 7), (3, 3), (2, 2), (1, 1), False, True, None),
                (f32(2, 3, 13, 7), (3, 3), (2, 2), (1, 1), False, False, None),
                (f32(1, 5, 7, 8), (2, 3), (2, 3), (1, 1), True, True, None),
                (f32(1, 5, 7, 8), (2, 3), (2, 3), (1, 1), True, False, None),
                (f32(2, 1, 17), (4,), (3,), (2,), False, False, None),
                (f32(1, 2, 5, 6, 7), (2, 2, 2), (2, 2, 2), (0, 0, 0), True, True, None),
                (f32(1, 24, 7, 7), (7, 7), (1, 1), (0, 0), False, True, None),
                (f32(1, 2, 6, 6), (2, 2), (3, 3), (1, 1), False, True, 3),
            )
        ),
        compute=_compute_avg_pool,
        reference=_reference_avg_pool,
        gradient=gradient_of.avg_pool,
    )
)

# ---- adaptive windows: ⌊i n / o⌋ up to ⌈(i + 1) n / o⌉ of n elements, for o results --------------


def _infer_adaptive(op: str, *kinds: str) -> Any:
    def infer(x: TensorType, *, size: Ints) -> TensorType:
        need_rank(op, x, len(size) + 2)
        need_kind(op, x, *kinds)
        need_positive(op, "size", size)
        extents = numbers(op, "a spatial size", x.shape[2:])
        need(all(n > 0 for n in extents), op, f"no elements: {x}", "at least one on each axis")
        return of(x, (*x.shape[:2], *size))

    return infer


def _span(place: Expr, extent: int, results: int) -> tuple[Expr, Expr, int]:
    """First element and length of the window at `place`, and the largest length of any window."""
    if extent % results == 0:
        length = extent // results
        return place * length, const(length), length
    start = (place * extent) // results
    end = (place * extent + (extent + results - 1)) // results
    lengths = [-(-(i + 1) * extent // results) - i * extent // results for i in range(results)]
    return start, end - start, max(lengths)


def _adaptive(node: Node, index: Index, x: Read, neutral: float) -> tuple[Any, Expr, list[Expr]]:
    """The axes of the window, its element or `neutral` beyond its end, its lengths."""
    extents = numbers(node.op, "a spatial size", x.shape[2:])
    spans = [_span(i, n, o) for i, n, o in zip(index[2:], extents, node["size"])]
    bound = axes_of(node, [longest for _, _, longest in spans])
    position = [start + k for (start, _, _), k in zip(spans, bound)]
    valid = all_of([k < length for (_, length, _), k in zip(spans, bound)])
    element = where(valid, x(*index[:2], *position), const(neutral, node.dtype))
    return bound, element, [length for _, length, _ in spans]


def _compute_adaptive_avg_pool(node: Node, index: Index, x: Read) -> Expr:
    bound, element, lengths = _adaptive(node, index, x, 0)
    return _divided(over("sum", bound, element), lengths, node.dtype)


def _compute_adaptive_max_pool(node: Node, index: Index, x: Read) -> Expr:
    bound, element, _ = _adaptive(node, index, x, lowest(node.dtype))
    return over("max", bound, element)


def _reference_adaptive(function: Any) -> Any:
    def reference(node: Node, x: Any) -> Any:
        for axis, results in enumerate(node["size"], start=2):
            n = x.shape[axis]
            parts = [
                np.take(x, range(i * n // results, -(-(i + 1) * n // results)), axis)
                for i in range(results)
            ]
            x = np.stack([function(part, axis=axis) for part in parts], axis)
        return x

    return reference


_ADAPTIVE = (
    (f32(2, 3, 7, 7), (1, 1)),
    (f32(2, 3, 12, 8), (6, 2)),
    (f32(1, 5, 13, 7), (5, 3)),
    (f32(1, 2, 3, 2), (7, 7)),
    (f32(2, 24, 17), (4,)),
    (f32(1, 2, 5, 6, 7), (2, 3, 4)),
)
register(
    OpDef(
        "adaptive_avg_pool",
        "window",
        _infer_adaptive("adaptive_avg_pool", "float"),
        "`y[i] = mean of x[⌊i n / o⌋ … ⌈(i + 1) n / o⌉ - 1]` on each spatial axis, n its size and "
        "o the result's in `size`.",
        samples=tuple(Sample((x,), {"size": o}) for x, o in _ADAPTIVE),
        compute=_compute_adaptive_avg_pool,
        reference=_reference_adaptive(np.mean),
        gradient=gradient_of.adaptive_avg_pool,
    )
)
register(
    OpDef(
        "adaptive_max_pool",
        "window",
        _infer_adaptive("adaptive_max_pool", "float", "int"),
        "`y[i] = max of x[⌊i n / o⌋ … ⌈(i + 1) n / o⌉ - 1]` on each spatial axis, n its size and "
        "o the result's in `size`.",
        samples=tuple(Sample((x,), {"size": o}) for x, o in _ADAPTIVE),
        compute=_compute_adaptive_max_pool,
        reference=_reference_adaptive(np.max),
        gradient=gradient_of.adaptive_max_pool,
    )
)
