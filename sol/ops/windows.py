"""The arithmetic of sliding windows, shared by pooling, convolution and im2col."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sol.core.dims import Size
from sol.ir.expr import Expr
from sol.ops.rules import need, need_length, need_number, need_positive

Pads = Sequence[tuple[int, int]]


def need_window(op: str, rank: int, **attrs: Sequence[int]) -> None:
    """Attributes of a window: one number per spatial axis; all but paddings at least 1."""
    for name, values in attrs.items():
        need_length(op, name, values, rank)
        if name != "padding":
            need_positive(op, name, values)


def window_sizes(
    op: str,
    sizes: Sequence[Size],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Pads,
    dilation: Sequence[int],
    ceil: bool = False,
) -> tuple[int, ...]:
    """How many windows fit on each axis: ⌊(size + pads - dilation (kernel - 1) - 1) / stride⌋ + 1.

    With `ceil` a window may reach beyond the padded end, unless it begins there (as in PyTorch).
    """
    result = []
    for size, k, s, (low, high), d in zip(sizes, kernel, stride, pads, dilation):
        extent = need_number(op, "a spatial size", size)
        span = extent + low + high - d * (k - 1) - 1
        need(
            span >= 0 or (ceil and span + s > 0),
            op,
            f"a window of {d * (k - 1) + 1} on an axis of {extent}, padded by {low} and {high}",
            "a window that fits",
        )
        count = (span + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= extent + low:
            count -= 1
        result.append(count)
    return tuple(result)


def taps(
    place: Sequence[Expr],
    tap: Sequence[Expr],
    stride: Sequence[int],
    low: Sequence[int],
    dilation: Sequence[int],
) -> list[Expr]:
    """The input position that a tap of the window at `place` reads, on each axis."""
    return [i * s + t * d - before for i, t, s, before, d in zip(place, tap, stride, low, dilation)]


def windows(
    x: NDArray[np.generic],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    places: Sequence[int],
) -> NDArray[np.generic]:
    """A view of the padded array x [N, C, spatial…] as [N, C, places…, kernel…]."""
    spatial = len(kernel)
    axes = tuple(range(2, 2 + spatial))
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
    view = sliding_window_view(x, spans, axis=axes)
    chosen = [slice(0, (p - 1) * s + 1, s) for p, s in zip(places, stride)]
    strided = [slice(None, None, d) for d in dilation]
    return view[(slice(None), slice(None), *chosen, *strided)]
