"""Interpolation: images of another size, and samples of an image at given points.

Coordinates are computed as PyTorch does, in the type it does, so that the same elements are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sol.core.dtypes import F32, I64, DType
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, apply, cast, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.gradients import window as gradient_of
from sol.ops.maps import all_of, clamp, inside
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import (
    need,
    need_kind,
    need_length,
    need_positive,
    need_rank,
    need_shape,
    numbers,
    of,
)
from sol.ops.sampling import f32, u8

Ints = tuple[int, ...]
Weighted = list[tuple[Expr, Expr]]  # positions on one axis and their weights

# ---- interpolate ---------------------------------------------------------------------------------

_MODES = ("nearest", "nearest_exact", "linear", "cubic")


def _infer_interpolate(
    x: TensorType, *, size: Ints, mode: str, align_corners: bool,
    scales: tuple[float, ...] | None,
) -> TensorType:  # fmt: skip
    op = "interpolate"
    need_rank(op, x, len(size) + 2)
    need_positive(op, "size", size)
    need(all(n > 0 for n in numbers(op, "a spatial size", x.shape[2:])), op, f"{x}", "elements")
    if mode not in _MODES or (mode == "cubic" and len(size) != 2):
        raise UnsupportedError(
            op, f"mode={mode!r} with {len(size)} spatial axes", expected=f"{_MODES}"
        )
    if mode in ("linear", "cubic"):
        need_kind(op, x, "float")
    if scales is not None:
        need_length(op, "scales", scales, len(size))
    return of(x, (*x.shape[:2], *size))


def _compute_interpolate(node: Node, index: Index, x: Read) -> Expr:
    sizes = numbers("interpolate", "a spatial size", x.shape[2:])
    scales = node["scales"] or (None,) * len(sizes)
    mode = node["mode"]
    if mode.startswith("nearest"):
        half = 0.5 if mode == "nearest_exact" else 0.0
        position = [
            _nearest(i, n, o, s, half) for i, n, o, s in zip(index[2:], sizes, node["size"], scales)
        ]
        return x(*index[:2], *position)
    rule = _linear if mode == "linear" else _cubic
    axes = [
        rule(i, n, o, s, node["align_corners"], node.dtype)
        for i, n, o, s in zip(index[2:], sizes, node["size"], scales)
    ]
    return _weighted(lambda *at: x(*index[:2], *at), axes, node.dtype)


def _weighted(element: Any, axes: Sequence[Weighted], dtype: DType) -> Expr:
    """Σ of elements at all combinations of positions, weighted axis by axis, the last one first."""
    if not axes:
        return cast(element(), dtype)
    total: Expr | None = None
    for position, weight in axes[0]:
        part = _weighted(lambda *at, p=position: element(p, *at), axes[1:], dtype) * weight
        total = part if total is None else total + part
    assert total is not None
    return total


def _nearest(i: Expr, extent: int, results: int, scale: float | None, half: float) -> Expr:
    """⌊(i + half) * extent / results⌋ in float32, as PyTorch has it for every type."""
    if extent == results and scale in (None, 1.0):
        return i
    if results % extent == 0 and scale in (None, results / extent):
        return i // (results // extent)
    ratio = 1 / scale if scale else extent / results
    place = (cast(i, F32) + half) * ratio if half else cast(i, F32) * ratio
    return clamp(cast(apply("floor", place), I64), 0, extent - 1)


def _source(
    i: Expr, extent: int, results: int, scale: float | None, align: bool, dtype: DType
) -> Expr:
    """The coordinate in the input that result i stands for."""
    if align:
        return cast(i, dtype) * ((extent - 1) / (results - 1) if results > 1 else 0.0)
    ratio = 1 / scale if scale else extent / results
    return (cast(i, dtype) + 0.5) * ratio - 0.5


def _linear(
    i: Expr, extent: int, results: int, scale: float | None, align: bool, dtype: DType
) -> Weighted:
    if extent == results and scale in (None, 1.0):
        return [(i, const(1.0, dtype))]
    real = _source(i, extent, results, scale, align, dtype)
    if not align:
        real = apply("max", real, 0.0)
    low = apply("min", cast(real, I64), extent - 1)
    high = apply("min", low + 1, extent - 1)
    fraction = apply("min", real - cast(low, dtype), 1.0)
    return [(low, 1.0 - fraction), (high, fraction)]


def _cubic(
    i: Expr, extent: int, results: int, scale: float | None, align: bool, dtype: DType
) -> Weighted:
    real = _source(i, extent, results, scale, align, dtype)
    floor = apply("floor", real)
    first = cast(floor, I64)
    return [
        (clamp(first + n, 0, extent - 1), weight)
        for n, weight in enumerate(_cubic_weights(real - floor), start=-1)
    ]


def _cubic_weights(t: Expr) -> list[Expr]:
    """Keys' cubic convolution with a = -0.75, at distances 1 + t, t, 1 - t, 2 - t."""
    a = -0.75
    s = 1.0 - t

    def near(d: Expr) -> Expr:
        return ((a + 2) * d - (a + 3)) * d * d + 1.0

    def far(d: Expr) -> Expr:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1.0), near(t), near(s), far(s + 1.0)]


def _resized(
    size: Ints, mode: str, align: bool = False, scales: tuple[float, ...] | None = None
) -> dict[str, Any]:
    return {"size": size, "mode": mode, "align_corners": align, "scales": scales}


register(
    OpDef(
        "interpolate",
        "window",
        _infer_interpolate,
        "Resizes the spatial axes to `size`. With `r = n / o` (or 1 / scale, where `scales` are "
        "given): nearest is `x[⌊i r⌋]`, nearest_exact `x[⌊(i + 1/2) r⌋]`, linear and cubic weigh 2 "
        "and 4 neighbours on each axis around `(i + 1/2) r - 1/2`, or `i (n - 1) / (o - 1)` with "
        "`align_corners`.",
        samples=(
            Sample((f32(2, 3, 5, 7),), _resized((10, 14), "nearest")),
            Sample((f32(1, 2, 5, 7),), _resized((7, 5), "nearest")),
            Sample((f32(1, 2, 5, 7),), _resized((12, 16), "nearest", False, (2.5, 2.4))),
            Sample((f32(1, 2, 5, 7),), _resized((13, 3), "nearest_exact")),
            Sample((u8(1, 3, 4, 4),), _resized((8, 4), "nearest"), 0, 255),
            Sample((f32(1, 2, 5, 7),), _resized((10, 14), "linear")),
            Sample((f32(1, 2, 5, 7),), _resized((3, 13), "linear", True)),
            Sample((f32(1, 2, 5, 7),), _resized((12, 16), "linear", False, (2.5, 2.4))),
            Sample((f32(2, 3, 17),), _resized((33,), "linear")),
            Sample((f32(1, 2, 3, 4, 5),), _resized((6, 3, 7), "linear")),
            Sample((f32(1, 2, 5, 7),), _resized((7, 13), "cubic")),
            Sample((f32(1, 1, 6, 5),), _resized((4, 9), "cubic", True)),
            Sample((f32(1, 2, 1, 1),), _resized((3, 2), "linear")),
        ),
        compute=_compute_interpolate,
        gradient=gradient_of.interpolate,
    )
)

# ---- grid_sample ---------------------------------------------------------------------------------


def _infer_grid_sample(
    x: TensorType, grid: TensorType, *, mode: str, padding_mode: str, align_corners: bool
) -> TensorType:
    op = "grid_sample"
    need_rank(op, x, 4, 5)
    for t in (x, grid):
        need_kind(op, t, "float")
    spatial = x.rank - 2
    need(grid.rank == x.rank, op, f"a grid {grid} for an input {x}", f"{x.rank} axes")
    need_shape(op, "the grid", grid, (x.shape[0], *grid.shape[1:-1], spatial))
    modes = ("bilinear", "nearest") + (("bicubic",) if spatial == 2 else ())
    paddings = ("zeros", "border", "reflection")
    if mode not in modes or padding_mode not in paddings:
        raise UnsupportedError(op, f"{mode=}, {padding_mode=}", expected=f"{modes}, {paddings}")
    return of(x, (*x.shape[:2], *grid.shape[1:-1]))


def _compute_grid_sample(node: Node, index: Index, x: Read, grid: Read) -> Expr:
    n, c, *place = index
    sizes = numbers("grid_sample", "a spatial size", x.shape[2:])
    # the last axis of the grid holds the coordinates innermost axis first
    points = [grid(n, *place, len(sizes) - 1 - axis) for axis in range(len(sizes))]
    coordinates = [
        _unnormalised(p, extent, node["align_corners"]) for p, extent in zip(points, sizes)
    ]
    rule = {"bilinear": _linear_taps, "nearest": _nearest_tap, "bicubic": _cubic_taps}[node["mode"]]
    axes = [rule(p, extent, node) for p, extent in zip(coordinates, sizes)]

    def element(*at: Expr) -> Expr:
        exists = all_of([inside(i, 0, extent) for i, extent in zip(at, sizes)])
        return where(exists, x(n, c, *at), const(0, node.dtype))

    return _weighted(element, axes, node.dtype)


def _unnormalised(p: Expr, extent: int, align: bool) -> Expr:
    """From [-1, 1] to pixels; -1 and 1 are the centres of the border pixels, or their edges."""
    if align:
        return (p + 1.0) * ((extent - 1) / 2)
    return (p + 1.0) * (extent / 2) - 0.5


def _within(p: Expr, low: float, high: float) -> Expr:
    """p clipped to [low, high], so that it can become an integer; NaN gives low."""
    return apply("min", where(p > low, p, low), high)


def _bordered(p: Expr, extent: int, node: Node) -> Expr:
    """The coordinate after the padding mode: inside the image for border and reflection."""
    match node["padding_mode"]:
        case "zeros":
            return p
        case "reflection":
            p = _reflected(p, extent, node["align_corners"])
    return _within(p, 0.0, extent - 1.0)


def _reflected(p: Expr, extent: int, align: bool) -> Expr:
    low, span = (0.0, extent - 1.0) if align else (-0.5, float(extent))
    if span == 0:
        return const(0.0, p.dtype)
    distance = apply("abs", p - low)
    flips = apply("floor", distance / span)
    extra = distance - flips * span
    odd = flips - apply("floor", flips * 0.5) * 2.0
    return where(apply("eq", odd, 0.0), extra + low, span - extra + low)


def _nearest_tap(p: Expr, extent: int, node: Node) -> Weighted:
    position = _position(apply("round", _bordered(p, extent, node)), extent)
    return [(position, const(1.0, node.dtype))]


def _linear_taps(p: Expr, extent: int, node: Node) -> Weighted:
    real = _bordered(p, extent, node)
    floor = apply("floor", real)
    low = _position(floor, extent)
    fraction = real - floor
    return [(low, 1.0 - fraction), (low + 1, fraction)]


def _cubic_taps(p: Expr, extent: int, node: Node) -> Weighted:
    """Padding applies to each of the four taps, not to the coordinate."""
    floor = apply("floor", p)
    taps = []
    for n, weight in enumerate(_cubic_weights(p - floor), start=-1):
        taps.append((_position(_bordered(floor + float(n), extent, node), extent), weight))
    return taps


def _position(p: Expr, extent: int) -> Expr:
    """A whole coordinate as an index; what is far outside of the image stays outside of it."""
    return cast(_within(p, -3.0, extent + 2.0), I64)


def _sampled(mode: str, padding_mode: str, align: bool) -> dict[str, Any]:
    return {"mode": mode, "padding_mode": padding_mode, "align_corners": align}


register(
    OpDef(
        "grid_sample",
        "window",
        _infer_grid_sample,
        "`y[n, c, i, j]` is x[n, c] at the point `grid[n, i, j] = (column, row)`, where -1 and 1 "
        "are the borders of the image; outside are zeros, the border's or the mirrored pixels.",
        samples=tuple(
            Sample((x, grid), _sampled(mode, padding, align), -1.4, 1.4)
            for x, grid, mode, padding, align in (
                (f32(2, 3, 5, 7), f32(2, 4, 3, 2), "bilinear", "zeros", False),
                (f32(1, 2, 5, 7), f32(1, 13, 3, 2), "bilinear", "border", True),
                (f32(1, 2, 5, 7), f32(1, 13, 3, 2), "bilinear", "reflection", False),
                (f32(1, 2, 5, 7), f32(1, 7, 5, 2), "nearest", "zeros", False),
                (f32(1, 2, 5, 7), f32(1, 7, 5, 2), "nearest", "reflection", True),
                (f32(1, 2, 6, 5), f32(1, 4, 4, 2), "bicubic", "zeros", False),
                (f32(1, 2, 6, 5), f32(1, 4, 4, 2), "bicubic", "border", True),
                (f32(1, 2, 3, 4, 5), f32(1, 2, 3, 4, 3), "bilinear", "zeros", True),
                (f32(1, 2, 3, 4, 5), f32(1, 2, 3, 4, 3), "nearest", "border", False),
            )
        ),
        compute=_compute_grid_sample,
        why="the framework has a kernel for it, Sol does not yet",
    )
)
