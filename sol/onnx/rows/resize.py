"""Rows of resizing. What is not one of Sol's ways to interpolate is a matrix for each axis:
every result is a sum of elements of one line, with weights that follow from the sizes alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import Dim
from sol.core.dtypes import F32, I64
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node
from sol.onnx.rows.table import row
from sol.onnx.values import Call, Results

Array = NDArray[Any]
_MOST_WEIGHTS = 1 << 26  # of an axis that is resized by a matrix


@dataclass(frozen=True)
class Way:
    """How an axis is resized: from n to m elements, by a scale, within a region of interest."""

    mode: str
    place: str
    nearest: str
    n: int
    m: int
    scale: float
    roi: tuple[float, float]
    cubic: float
    exclude: bool
    antialias: bool
    outside: float


@row("Resize", since=10)
def resize(c: Call) -> Results:
    """Interpolation to a size or by factors, on any axes."""
    x = c.x(0)
    old = c.version < 11
    place = "asymmetric" if old else c.attr("coordinate_transformation_mode", "half_pixel")
    nearest = c.attr("nearest_mode", "round_prefer_floor")
    axes, sizes, scales = _target(c, x, old)
    roi = _roi(c, len(axes)) if place == "tf_crop_and_resize" else [(0.0, 1.0)] * len(axes)
    ways = {}
    for axis, size, scale, region in zip(axes, sizes, scales, roi):
        extent = x.shape[axis]
        if isinstance(extent, Dim):
            if scale != 1 or size is not None:
                raise UnsupportedError("Resize", "the size of the batch axis changes")
            continue
        if old:  # as the standard's tests of version 10 and ONNX Runtime have it
            nearest = "ceil" if scale < 1 else "floor"
        ways[axis] = Way(
            c.attr("mode", "nearest"), place, nearest, extent, int(size), scale, region,
            float(c.attr("cubic_coeff_a", -0.75)), bool(c.attr("exclude_outside", 0)),
            bool(c.attr("antialias", 0)), float(c.attr("extrapolation_value", 0.0)),
        )  # fmt: skip
    return _resized(c, x, ways)


@row("Upsample")
def upsample(c: Call) -> Results:
    """Interpolation by factors, from the first element on."""
    x = c.x(0)
    scales = c.needed("scales") if c.version < 9 else c.numbers(1)
    if len(scales) != x.tensor.rank:
        raise UnsupportedError("Upsample", f"{len(scales)} factors for {x.tensor.rank} axes")
    mode = {"bilinear": "linear"}.get(c.attr("mode", "nearest"), c.attr("mode", "nearest"))
    ways = {}
    for axis, scale in enumerate(map(float, scales)):
        extent = x.shape[axis]
        if isinstance(extent, Dim):
            if scale != 1:
                raise UnsupportedError("Upsample", "the size of the batch axis changes")
            continue
        m = math.floor(extent * scale)
        ways[axis] = Way(
            mode, "asymmetric", "floor", extent, m, scale, (0.0, 1.0), -0.75, False, False, 0.0
        )
    return _resized(c, x, ways)


def _target(c: Call, x: Node, old: bool) -> tuple[list[int], list[Any], list[float]]:
    """Axes, their new sizes, and the factors that coordinates are computed with."""
    rank = x.tensor.rank
    axes = [c.axis(a, rank) for a in c.attr("axes", range(rank))]
    places = (1, None) if old else (2, 3)
    if places[1] is not None and c.has(places[1]):
        return (axes, *_by_sizes(c, x, axes, list(c.sizes(3))))
    given = c.numbers(places[0])
    if given.size != len(axes):
        raise UnsupportedError("Resize", f"{given.size} factors for {len(axes)} axes")
    scales = [float(s) for s in given.reshape(-1)]
    sizes = []
    for axis, scale in zip(axes, scales):
        extent = x.shape[axis]
        if isinstance(extent, Dim):
            sizes.append(None if scale == 1 else -1)
        else:
            region = 1.0
            if c.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
                low, high = _roi(c, len(axes))[axes.index(axis)]
                region = high - low
            sizes.append(math.floor(region * scale * extent))
    return axes, sizes, scales


def _by_sizes(c: Call, x: Node, axes: list[int], sizes: list[Any]) -> tuple[list[Any], list[float]]:
    if len(sizes) != len(axes):
        raise UnsupportedError("Resize", f"{len(sizes)} sizes for {len(axes)} axes")
    policy = c.attr("keep_aspect_ratio_policy", "stretch")
    pairs = [(x.shape[a], s) for a, s in zip(axes, sizes)]
    if policy != "stretch":
        ratios = [s / n for n, s in pairs if isinstance(n, int) and isinstance(s, int)]
        factor = min(ratios) if policy == "not_larger" else max(ratios)
        scaled = [None if isinstance(n, Dim) else math.floor(n * factor + 0.5) for n, _ in pairs]
        return scaled, [factor] * len(axes)
    found: list[Any] = [None if isinstance(n, Dim) and n == s else s for n, s in pairs]
    if any(isinstance(s, Dim) for s in found):
        raise UnsupportedError("Resize", "a size that depends on the batch size B")
    return found, [1.0 if s is None else s / n for (n, _), s in zip(pairs, found)]


def _roi(c: Call, count: int) -> list[tuple[float, float]]:
    roi = c.numbers(1)
    if roi.size != 2 * count:
        raise UnsupportedError("Resize", f"a region of {roi.size} numbers for {count} axes")
    values = [float(v) for v in roi.reshape(-1)]
    return list(zip(values[:count], values[count:]))


# ---- the ways


def _resized(c: Call, x: Node, ways: dict[int, Way]) -> Node:
    for way in ways.values():
        if way.m < 1 or way.m > 1 << 24:
            raise UnsupportedError(c.op, f"a result of {way.m} elements on an axis")
        if way.mode not in ("nearest", "linear", "cubic"):
            raise UnsupportedError(c.op, f"mode={way.mode!r}")
    ways = {a: w for a, w in ways.items() if not _is_identity(w)}
    own = _own_way(x, ways)
    if own is not None:
        sizes = tuple(ways[a].m if a in ways else x.shape[a] for a in range(2, x.tensor.rank))
        scales = tuple(ways[a].scale if a in ways else 1.0 for a in range(2, x.tensor.rank))
        exact = all(w.scale == w.m / w.n for w in ways.values())
        return c.add(
            "interpolate", x, size=sizes, mode=own[0], align_corners=own[1],
            scales=None if exact or own[1] else scales,
        )  # fmt: skip
    for axis, way in ways.items():
        x = _along(c, x, axis, way)
    return x


def _is_identity(w: Way) -> bool:
    return w.n == w.m and w.scale == 1 and w.place != "tf_crop_and_resize"


def _own_way(x: Node, ways: dict[int, Way]) -> tuple[str, bool] | None:
    """The mode of Sol's `interpolate` that does the same, and whether corners are aligned."""
    if not ways or not set(ways) <= set(range(2, x.tensor.rank)):
        return None
    if any(w.antialias or w.exclude for w in ways.values()):
        return None
    (first, *_) = ways.values()
    places = {w.place for w in ways.values()}
    if first.mode == "nearest":
        if places == {"asymmetric"} and {w.nearest for w in ways.values()} == {"floor"}:
            return "nearest", False
        whole = all(w.m % w.n == 0 and w.scale == w.m / w.n for w in ways.values())
        half = places == {"half_pixel"} and first.nearest.startswith("round")
        return ("nearest", False) if whole and half else None
    if x.dtype.kind != "float" or (first.mode == "cubic" and x.tensor.rank != 4):
        return None
    if first.mode == "cubic" and first.cubic != -0.75:
        return None
    long = all(w.m > 1 for w in ways.values())
    if places == {"align_corners"} and all(w.m == w.scale * w.n > 1 for w in ways.values()):
        return first.mode, True
    if places == {"half_pixel"} or (places == {"pytorch_half_pixel"} and long):
        return first.mode, False
    return None


def _along(c: Call, x: Node, axis: int, way: Way) -> Node:
    """One axis resized by a matrix; the nearest elements are picked."""
    coordinates = _coordinates(way)
    if way.mode == "nearest" and way.place != "tf_crop_and_resize":
        index = np.clip(_rounded(coordinates, way.nearest), 0, way.n - 1).astype(np.int64)
        return c.add("take", x, c.constant(index, I64), axis=axis)
    if x.dtype.kind != "float":
        c.refuse("interpolation of integers")
    if way.m * way.n > _MOST_WEIGHTS:
        raise UnsupportedError(c.op, f"{way.n} elements resized to {way.m} by a matrix")
    matrix, constant = weights(way, coordinates)
    last = x.tensor.rank - 1
    order = [k for k in range(last + 1) if k != axis] + [axis]
    tensors = [c.constant(matrix.astype(np.float32), F32)]
    if constant.any():
        tensors.append(c.constant(constant.astype(np.float32), F32))
    y = c.add("linear", c.permute(x, order), *tensors)
    return c.permute(y, [order.index(k) for k in range(last + 1)])


def _coordinates(w: Way) -> Array:
    """Where each result lies in the input (coordinate_transformation_mode)."""
    i = np.arange(w.m, dtype=np.float64)
    match w.place:
        case "half_pixel":
            return (i + 0.5) / w.scale - 0.5
        case "pytorch_half_pixel":
            return (i + 0.5) / w.scale - 0.5 if w.m > 1 else np.zeros(1)
        case "align_corners":
            length = w.scale * w.n
            return i * ((w.n - 1) / (length - 1)) if length > 1 else np.zeros(w.m)
        case "asymmetric":
            return i / w.scale
        case "half_pixel_symmetric":
            adjusted = w.m / (w.scale * w.n)
            return w.n / 2 * (1 - adjusted) + (i + 0.5) / w.scale - 0.5
        case "tf_crop_and_resize":
            low, high = w.roi
            if w.m == 1:
                return np.full(1, 0.5 * (low + high) * (w.n - 1))
            return low * (w.n - 1) + i * (high - low) * (w.n - 1) / (w.m - 1)
        case "tf_half_pixel_for_nn":
            return (i + 0.5) / w.scale
    raise UnsupportedError("Resize", f"coordinate_transformation_mode={w.place!r}")


def _rounded(x: Array, mode: str) -> Array:
    match mode:
        case "round_prefer_floor":
            return np.ceil(x - 0.5)
        case "round_prefer_ceil":
            return np.floor(x + 0.5)
        case "floor":
            return np.floor(x)
        case "ceil":
            return np.ceil(x)
    raise UnsupportedError("Resize", f"nearest_mode={mode!r}")


def weights(w: Way, coordinates: Array) -> tuple[Array, Array]:
    """The matrix [m, n] of weights, and what is added: the value outside of a region."""
    stretch = min(1.0, w.scale) if w.antialias else 1.0
    reach = {"nearest": 1, "linear": 1, "cubic": 2}[w.mode] / stretch
    matrix = np.zeros((w.m, w.n))
    for row_, x in enumerate(coordinates):
        if w.mode == "nearest":
            taps, values = np.array([_rounded(x, w.nearest)]), np.ones(1)
        else:
            taps = np.arange(math.floor(x - reach) + 1, math.ceil(x + reach) + (reach == 0))
            values = _kernel(w, (taps - x) * stretch)
        if w.exclude:
            values = np.where((taps >= 0) & (taps < w.n), values, 0.0)
        if w.mode != "nearest":
            values = values / values.sum()
        np.add.at(matrix[row_], np.clip(taps, 0, w.n - 1).astype(np.int64), values)
    outside = np.zeros(w.m)
    if w.place == "tf_crop_and_resize":
        beyond = (coordinates < 0) | (coordinates > w.n - 1)
        matrix[beyond] = 0.0
        outside[beyond] = w.outside
    return matrix, outside


def _kernel(w: Way, distance: Array) -> Array:
    """The weight of an element at a distance (Keys, 1981, for cubic)."""
    d = np.abs(distance)
    if w.mode == "linear":
        return np.maximum(0.0, 1.0 - d)
    a = w.cubic
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


# ---- sampling


_MODES = {"linear": "bilinear", "bilinear": "bilinear", "nearest": "nearest"}
_MODES |= {"cubic": "bicubic", "bicubic": "bicubic"}


@row("GridSample")
def grid_sample(c: Call) -> Results:
    """Values of an image at given points."""
    mode, padding = c.attr("mode", "linear"), c.attr("padding_mode", "zeros")
    if c.rank(0) == 5 and _MODES.get(mode) == "bicubic":
        c.refuse("cubic sampling of volumes")
    return c.add(
        "grid_sample", c.x(0), c.x(1), mode=_MODES.get(mode, mode), padding_mode=padding,
        align_corners=bool(c.attr("align_corners", 0)),
    )  # fmt: skip
