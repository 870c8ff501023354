"""Rows of convolutions, poolings and unpoolings."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from sol.cntk.geometry import Line, line, spread
from sol.cntk.rows.table import row
from sol.cntk.value import Context, Value
from sol.ir.graph import Node

Sizes = tuple[int, ...]
_MOST_PLACES = 1 << 24
_MOST_SPATIAL = 3
_MAX, _AVERAGE = 0, 1


def _filled(values: Sequence[Any], rank: int, rest: Any, spread: bool = True) -> list[Any]:
    """One entry for each axis: a single one stands for all, missing ones (in front) are `rest`."""
    known = list(values)
    if len(known) == 1 and spread:
        return known * rank
    return [rest] * (rank - len(known)) + known[max(0, len(known) - rank) :]


def _flags(c: Context, name: str) -> list[bool]:
    return c.list(name, bool)[::-1]


def _strides(c: Context, rank: int, window: int) -> Sizes:
    """How far windows with that many axes are apart on each of the axes of an input."""
    return tuple(_filled(_filled(c.sizes("strides"), window, 1), rank, 1, spread=False))


def _lines(
    c: Context, sizes: Sizes, kernel: Sizes, window: int = 0, ceil: bool = False
) -> list[Line]:
    """The windows on each axis, by the attributes of the operation; a `window` with fewer axes
    than the input lies on the last ones."""
    rank = len(sizes)
    window = window or rank

    def each(values: Sequence[Any], rest: Any) -> list[Any]:
        return _filled(_filled(values, window, rest), rank, rest, spread=False)

    strides = _strides(c, rank, window)
    dilation = each(c.sizes("dilation"), 1) if c.has("dilation") else [1] * rank
    auto = each(_flags(c, "autoPadding"), False)
    low, high = (each(c.sizes(n), 0) for n in ("lowerPad", "upperPad"))
    if min((*kernel, *strides, *dilation)) < 1 or min((*low, *high)) < 0:
        c.refuse(f"windows {kernel} with the strides {strides}")
    lines = [
        line(n, k, s, d, a, lo, hi, ceil)
        for n, k, s, d, a, lo, hi in zip(sizes, kernel, strides, dilation, auto, low, high)
    ]
    if any(found is None for found in lines):
        c.refuse(f"a window {kernel} does not fit into {sizes}")
    if prod(found.count for found in lines if found is not None) > _MOST_PLACES:
        c.refuse(f"windows at more than {_MOST_PLACES} places of {sizes}")
    return [found for found in lines if found is not None]


def _padded(c: Context, x: Node, lines: Sequence[Line], value: float) -> Node:
    """Images with the padding around them; less than none cuts."""
    low, high = [f.low for f in lines], [f.high for f in lines]
    if not any(low) and not any(high):
        return x
    return c.op("pad", x, low=(0, 0, *low), high=(0, 0, *high), mode="constant", value=value)


# ---- convolution ---------------------------------------------------------------------------------


@row("Convolution")
def convolution(c: Context, weight: Value, x: Value) -> Value:
    """Convolution in one to three dimensions, plain or transposed, with groups, strides, dilation
    and any padding"""
    if weight.axes:
        c.refuse("its kernel differs from image to image")
    if not all(_flags(c, "sharing")):
        c.refuse("kernels that differ from place to place")
    if c.attribute("sequential", bool, False):
        c.refuse("a convolution over the steps of a sequence")
    if c.attribute("transpose", bool, False):
        return _transposed(c, weight, x)
    return _plain(c, weight, x)


def _plain(c: Context, weight: Value, x: Value) -> Value:
    sizes, shape = c.sizes_of(x), c.sizes_of(weight)
    kernel = tuple(_filled(c.sizes("kernelShape"), len(sizes), 1))
    groups = c.attribute("groups", int, 1)
    maps = prod(shape) // max(1, prod(kernel))
    if groups < 1 or not sizes or maps * prod(kernel) != prod(shape):
        c.refuse(f"a kernel {shape} on an input {sizes}")
    lines = _lines(c, sizes, kernel)
    strides = _strides(c, len(sizes), len(sizes))
    dilation = _filled(c.sizes("dilation") if c.has("dilation") else (1,), len(sizes), 1)
    images = c.images(x)
    whole = kernel[0] * groups == sizes[0] and lines[0] == Line(1, 0, lines[0].high)
    whole = whole or (groups > 1 and kernel[0] * groups == sizes[0])
    if not whole:  # the kernel also moves along the first axis: there are no channels
        if groups != 1:
            c.refuse(f"{groups} groups of a kernel {shape} on an input {sizes}")
        images = c.reshape(images, (images.shape[0], 1, *sizes))
        kernel, start = (1, *kernel), 0
    else:
        start = 1
    spatial = slice(start, None)
    lines, strides, dilation = lines[spatial], strides[spatial], dilation[spatial]
    if len(lines) > _MOST_SPATIAL:
        c.refuse(f"windows with {len(lines)} axes")
    w = c.reshape(weight.node, (maps, *kernel))
    if not lines:  # one place: channels only
        images, w = (c.reshape(n, (*n.shape, 1)) for n in (images, w))
        lines, strides, dilation = [Line(1, 0, 0)], (1,), [1]
    if any(f.low < 0 or f.high < 0 for f in lines):
        images = _padded(c, images, [Line(0, min(f.low, 0), min(f.high, 0)) for f in lines], 0.0)
    y = c.op(
        "conv", images, w, stride=strides, dilation=tuple(dilation), groups=groups,
        padding=tuple((max(f.low, 0), max(f.high, 0)) for f in lines),
    )  # fmt: skip
    counts = [f.count for f in lines]
    if whole:
        result: Sizes = (maps, *(counts if len(sizes) > 1 else ()))
    else:
        result = (maps * counts[0], *counts[1:])
    return c.like(x, c.reshape(y, (y.shape[0], *result)))


def _transposed(c: Context, weight: Value, x: Value) -> Value:
    """Every element of x adds its kernel to the result; then the padding is cut off."""
    sizes, shape = c.sizes_of(x), c.sizes_of(weight)
    rank = len(sizes)
    groups = c.attribute("groups", int, 1)
    if len(shape) != rank + 1 or groups != 1 or shape[0] != sizes[0] or rank - 1 > _MOST_SPATIAL:
        c.refuse(f"a transposed kernel {shape} on an input {sizes} in {groups} groups")
    strides = _strides(c, rank, rank)[1:]
    dilation = _filled(c.sizes("dilation") if c.has("dilation") else (1,), rank, 1)[1:]
    auto = _filled(_flags(c, "autoPadding"), rank, False)[1:]
    low, high = (_filled(c.sizes(n), rank, 0)[1:] for n in ("lowerPad", "upperPad"))
    wanted = c.sizes("outputShape") if c.has("outputShape") else (0,)
    targets = wanted[1:] if len(wanted) == rank else (0,) * (rank - 1)
    if min((*strides, 1)) < 1 or any(d != 1 for d in dilation) or min((0, *targets)) < 0:
        c.refuse(f"strides {strides} and dilation {dilation} of a transposed convolution")
    lines = [
        spread(n, k, s, a, lo, hi, t)
        for n, k, s, a, lo, hi, t in zip(sizes[1:], shape[2:], strides, auto, low, high, targets)
    ]
    if rank < 2 or any(found is None for found in lines):
        c.refuse(f"a transposed kernel {shape} on an input {sizes} leaves nothing")
    cut = [Line(f.count, -f.low, -f.high) for f in lines if f is not None]
    none = (0,) * (rank - 1)
    y = c.op(
        "conv_transpose", c.images(x), weight.node, stride=strides, padding=none,
        output_padding=none, dilation=(1,) * (rank - 1), groups=1,
    )  # fmt: skip
    return c.like(x, _padded(c, y, cut, 0.0))


# ---- pooling -------------------------------------------------------------------------------------


@row("Pooling")
def pooling(c: Context, x: Value) -> Value:
    """The largest or the mean of windows; `includePad` counts the padding in a mean"""
    sizes = c.sizes_of(x)
    kind = c.attribute("poolingType", int)
    if kind not in (_MAX, _AVERAGE) or not sizes:
        c.refuse(f"the kind {kind} of pooling of {sizes}")
    window = c.sizes("poolingWindowShape")
    kernel = tuple(_filled(window, len(sizes), 1, spread=False))
    lines = _lines(c, sizes, kernel, len(window), c.attribute("ceilOutDim", bool, False))
    strides = _strides(c, len(sizes), len(window))
    start = 1 if kernel[0] == 1 and lines[0] == Line(sizes[0], 0, 0) else 0
    if len(sizes) == start:
        return x
    images = c.images(x)
    if start == 0:
        images = c.reshape(images, (images.shape[0], 1, *sizes))
    if len(sizes) - start > _MOST_SPATIAL:
        c.refuse(f"windows with {len(sizes) - start} axes")
    pool = _largest if kind == _MAX else _mean
    y = pool(c, images, kernel[start:], strides[start:], lines[start:])
    return c.like(x, c.reshape(y, (y.shape[0], *(f.count for f in lines))))


def _symmetric(x: Node, kernel: Sizes, strides: Sizes, lines: Sequence[Line]) -> bool:
    """Whether Sol's poolings put the same windows there, with as much padding on both sides."""
    return all(
        0 <= 2 * f.low <= k
        and isinstance(n, int)
        and n + 2 * f.low >= k
        and (n + 2 * f.low - k) // s + 1 == f.count
        for n, k, s, f in zip(x.shape[2:], kernel, strides, lines)
    )


def _largest(c: Context, x: Node, kernel: Sizes, strides: Sizes, lines: Sequence[Line]) -> Node:
    ones = (1,) * len(kernel)
    attrs: dict[str, Any] = {"kernel": kernel, "stride": strides, "dilation": ones, "ceil": False}
    if _symmetric(x, kernel, strides, lines):
        return c.op("max_pool", x, padding=tuple(f.low for f in lines), **attrs)
    padded = _padded(c, x, lines, float("-inf"))
    return c.op("max_pool", padded, padding=(0,) * len(kernel), **attrs)


def _mean(c: Context, x: Node, kernel: Sizes, strides: Sizes, lines: Sequence[Line]) -> Node:
    included = c.attribute("includePad", bool, False)
    attrs: dict[str, Any] = {"kernel": kernel, "stride": strides, "ceil": False}
    if _symmetric(x, kernel, strides, lines):
        return c.op(
            "avg_pool", x, padding=tuple(f.low for f in lines), count_include_pad=included,
            divisor=None, **attrs,
        )  # fmt: skip
    none = (0,) * len(kernel)
    padded = _padded(c, x, lines, 0.0)
    if included:
        return c.op("avg_pool", padded, padding=none, count_include_pad=True, divisor=None, **attrs)
    sums = c.op("avg_pool", padded, padding=none, count_include_pad=True, divisor=1, **attrs)
    return c.op("mul", sums, c.constant(_shares(x, kernel, strides, lines)))


def _shares(x: Node, kernel: Sizes, strides: Sizes, lines: Sequence[Line]) -> Any:
    """1 / the number of elements of each window that exist."""
    count = np.ones((), np.float64)
    for size, k, s, f in zip(x.shape[2:], kernel, strides, lines):
        assert isinstance(size, int)
        start = np.arange(f.count) * s - f.low
        count = count[..., None] * (np.minimum(start + k, size) - np.maximum(start, 0))
    return (1 / count).astype(np.float32)


@row("Unpooling")
def unpooling(c: Context, x: Value, source: Value) -> Value:
    """Each element goes to where the largest of its window stood in another value; windows side by
    side"""
    sizes, wanted = c.sizes_of(x), c.sizes_of(source)
    rank = len(wanted)
    window = c.sizes("unpoolingWindowShape")
    kernel = tuple(_filled(window, rank, 1, spread=False))
    strides = _strides(c, rank, len(window))
    if c.attribute("poolingType", int, _MAX) != _MAX or len(sizes) != rank:
        c.refuse(f"{sizes} spread over {wanted}")
    lines = _lines(c, wanted, kernel, len(window))
    if any(f.low or f.count != n for f, n in zip(lines, sizes)):
        c.refuse(f"{sizes} spread over {wanted} with padding")
    if any(k != s and n != 1 for k, s, n in zip(kernel, strides, sizes)):
        c.refuse("windows that overlap, or with something between them")
    (node, model), axes = c.aligned(x, source)
    covered = [n * k for n, k in zip(sizes, kernel)]
    for k, n in enumerate(covered):
        model = c.slice(model, len(axes) + k, 0, n)
    lead = len(axes)
    pairs = [s for n, k in zip(sizes, kernel) for s in (n, k)]
    places = [lead + 2 * k for k in range(rank)]
    taps = [lead + 2 * k + 1 for k in range(rank)]
    windows = c.permute(
        c.reshape(model, (*model.shape[:lead], *pairs)), (*range(lead), *places, *taps)
    )
    flat = c.reshape(windows, (*model.shape[:lead], *sizes, prod(kernel)))
    place = c.op("argmax", flat, axis=lead + rank, keepdims=False)
    chosen = c.op("cast", c.op("one_hot", place, classes=prod(kernel)), dtype=node.dtype)
    spread_out = c.op("mul", chosen, c.reshape(node, (*node.shape, 1)))
    split = c.reshape(spread_out, (*spread_out.shape[:lead], *sizes, *kernel))
    order = (*range(lead), *(lead + a for k in range(rank) for a in (k, rank + k)))
    y = c.reshape(c.permute(split, order), (*split.shape[:lead], *covered))
    rest = [n - m for n, m in zip(wanted, covered)]
    if any(rest):
        none = (0,) * (lead + rank)
        y = c.op("pad", y, low=none, high=(*none[:lead], *rest), mode="constant", value=0.0)
    return Value(y, axes)
