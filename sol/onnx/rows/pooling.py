"""Rows of pooling: windows, and whole images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sol.core.dims import Size
from sol.core.dtypes import F32, I64
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node
from sol.onnx.rows.contraction import Ints, Pads, window
from sol.onnx.rows.shape import padded
from sol.onnx.rows.table import row
from sol.onnx.values import Call, Results
from sol.ops.pooling import lowest
from sol.ops.rules import numbers


def _places(
    c: Call, sizes: Ints, kernel: Ints, strides: Ints, dilations: Ints, pads: Pads
) -> tuple[Ints, Pads]:
    """How many windows there are, and pads after which no window reaches beyond the end."""
    counts, exact = [], []
    for n, k, s, d, (low, high) in zip(sizes, kernel, strides, dilations, pads):
        span = d * (k - 1) + 1
        rest = n + low + high - span
        count = (-(-rest // s) if c.attr("ceil_mode", 0) else rest // s) + 1
        if (count - 1) * s >= n + low and count > 1:  # it would begin in the pad at the end
            count -= 1
        if count < 1:
            raise UnsupportedError(c.op, f"a window of {span} on an axis of {n}, padded by {low}")
        counts.append(count)
        exact.append((low, max(high, (count - 1) * s + span - n - low)))
    return tuple(counts), tuple(exact)


def _even(pads: Pads, kernel: Ints, dilations: Ints) -> bool:
    """Whether Sol's pooling takes these pads."""
    spans = (d * (k - 1) + 1 for k, d in zip(kernel, dilations))
    return all(low == high and 0 <= 2 * low <= span for (low, high), span in zip(pads, spans))


def _padded(c: Call, x: Node, pads: Pads, value: float) -> Node:
    low, high = ((0, 0, *(p[side] for p in pads)) for side in (0, 1))
    return padded(c, x, low, high, "constant", value)


@row("MaxPool")
def max_pool(c: Call) -> Results:
    """The maximum of windows, and its place in the tensor."""
    x, kernel = c.x(), tuple(c.needed("kernel_shape"))
    strides, dilations, pads = window(c, x, kernel)
    if c.results > 1:
        return _with_places(c, x, kernel, strides, dilations, pads)
    sizes = numbers("MaxPool", "a spatial size", x.shape[2:])
    _, exact = _places(c, sizes, kernel, strides, dilations, pads)
    attrs = {"kernel": kernel, "stride": strides, "dilation": dilations}
    if _even(pads, kernel, dilations):
        padding = tuple(low for low, _ in pads)
        return c.add("max_pool", x, **attrs, padding=padding, ceil=bool(c.attr("ceil_mode", 0)))
    x = _padded(c, x, exact, lowest(x.dtype))
    return c.add("max_pool", x, **attrs, padding=(0,) * len(kernel), ceil=False)


def _with_places(
    c: Call, x: Node, kernel: Ints, strides: Ints, dilations: Ints, pads: Pads
) -> Results:
    """The number of a maximum in its window, and from it the place in the whole tensor."""
    sizes = numbers("MaxPool", "a spatial size", x.shape[2:])
    _, exact = _places(c, sizes, kernel, strides, dilations, pads)
    dtype, padding = x.dtype, tuple(low for low, _ in pads)
    x = x if dtype.kind == "float" else c.cast(x, F32)  # 8 bits: exact
    even = exact == pads and _even(pads, kernel, dilations)
    x = x if even else _padded(c, x, exact, lowest(x.dtype))
    attrs = {
        "kernel": kernel, "stride": strides, "dilation": dilations,
        "padding": padding if even else (0,) * len(kernel),
    }  # fmt: skip
    y = c.add("max_pool", x, **attrs, ceil=False)
    tap = c.cast(c.add("max_pool_index", x, y, **attrs), I64)
    flat = _place(c, y, 0)
    flat = _plus(c, _times(c, flat, x.shape[1]), _place(c, y, 1))
    order = range(len(kernel))
    spatial = []
    for k in order:
        inner = c.constant(math.prod(kernel[k + 1 :]), I64)
        own = c.add("mod", c.add("floordiv", tap, inner), c.constant(kernel[k], I64))
        begin = _times(c, _place(c, y, k + 2), strides[k])
        place = _plus(c, begin, _times(c, own, dilations[k]))
        spatial.append(c.add("sub", place, c.constant(padding[k], I64)))
    flat = _times(c, flat, math.prod(sizes))
    turned = reversed(order) if c.attr("storage_order", 0) else order
    inside = None
    for k in turned:
        inside = spatial[k] if inside is None else _plus(c, _times(c, inside, sizes[k]), spatial[k])
    assert inside is not None
    return c.cast(y, dtype), _plus(c, flat, inside)


def _place(c: Call, y: Node, axis: int) -> Node:
    return c.add("iota", shape=y.shape, axis=axis, dtype=I64)


def _plus(c: Call, a: Node, b: Node) -> Node:
    return c.add("add", a, b)


def _times(c: Call, a: Node, b: Size) -> Node:
    if not isinstance(b, int):
        c.refuse("places in a tensor whose channels depend on the batch size B")
    return c.add("mul", a, c.constant(b, I64))


@row("AveragePool")
def average_pool(c: Call) -> Results:
    """The mean of windows, with or without the pads."""
    x, kernel = c.x(), tuple(c.needed("kernel_shape"))
    strides, dilations, pads = window(c, x, kernel)
    with_pads = bool(c.attr("count_include_pad", 0))
    if _even(pads, kernel, dilations) and max(dilations) == 1:
        return c.add(
            "avg_pool", x, kernel=kernel, stride=strides, divisor=None,
            padding=tuple(low for low, _ in pads), ceil=bool(c.attr("ceil_mode", 0)),
            count_include_pad=with_pads,
        )  # fmt: skip
    sizes = numbers("AveragePool", "a spatial size", x.shape[2:])
    counts, exact = _places(c, sizes, kernel, strides, dilations, pads)
    total = _summed(c, _padded(c, x, exact, 0.0), kernel, strides, dilations)
    limits = [(-low, n + high) if with_pads else (0, n) for n, (low, high) in zip(sizes, pads)]
    taps = _taps(counts, kernel, strides, dilations, pads, limits)
    share = (1 / taps).astype(x.dtype.numpy)[None, None]
    return c.add("mul", total, c.constant(share, x.dtype))


def _summed(c: Call, x: Node, kernel: Ints, strides: Ints, dilations: Ints) -> Node:
    """Sums of windows of an image that is padded already."""
    rank = len(kernel)
    if max(dilations) == 1:
        return c.add(
            "avg_pool", x, kernel=kernel, stride=strides, padding=(0,) * rank, ceil=False,
            count_include_pad=True, divisor=1,
        )  # fmt: skip
    channels = x.shape[1]
    if not isinstance(channels, int):
        c.refuse("a number of channels that depends on the batch size B")
    ones = c.add("full", shape=(channels, 1, *kernel), value=1.0, dtype=x.dtype)
    return c.add(
        "conv", x, ones, stride=strides, padding=((0, 0),) * rank, dilation=dilations,
        groups=channels,
    )  # fmt: skip


def _taps(
    counts: Ints, kernel: Ints, strides: Ints, dilations: Ints, pads: Pads,
    limits: Sequence[tuple[int, int]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:  # fmt: skip
    """For each window the number of its taps within the limits of each axis."""
    found = np.ones((), np.float64)
    for count, k, s, d, (low, _), (first, end) in zip(
        counts, kernel, strides, dilations, pads, limits
    ):
        places = np.arange(count)[:, None] * s + np.arange(k) * d - low
        found = np.multiply.outer(found, ((places >= first) & (places < end)).sum(1))
    return found


@row("LpPool")
def lp_pool(c: Call) -> Results:
    """(Σ |x|^p)^(1/p) of windows."""
    x, kernel, p = c.x(), tuple(c.needed("kernel_shape")), float(c.attr("p", 2))
    strides, dilations, pads = window(c, x, kernel)
    sizes = numbers("LpPool", "a spatial size", x.shape[2:])
    _, exact = _places(c, sizes, kernel, strides, dilations, pads)
    size = c.add("abs", x)
    powers = c.add("square", x) if p == 2 else c.add("pow", size, c.constant(p))
    total = _summed(c, _padded(c, powers, exact, 0.0), kernel, strides, dilations)
    return c.add("sqrt", total) if p == 2 else c.add("pow", total, c.constant(1 / p))


# ---- whole images


def _spatial(x: Node) -> Ints:
    return tuple(range(2, x.tensor.rank))


@row("GlobalAveragePool")
def global_average_pool(c: Call) -> Results:
    """The mean of each image's channel."""
    x = c.x()
    return c.add("mean", x, axes=_spatial(x), keepdims=True)


@row("GlobalMaxPool")
def global_max_pool(c: Call) -> Results:
    """The maximum of each image's channel."""
    x = c.x()
    return c.add("max_reduce", x, axes=_spatial(x), keepdims=True)


@row("GlobalLpPool")
def global_lp_pool(c: Call) -> Results:
    """(Σ |x|^p)^(1/p) of each image's channel."""
    x, p = c.x(), float(c.attr("p", 2))
    return c.add("norm", x, ord=p, axes=_spatial(x), keepdims=True)
