"""Where the windows of convolutions and poolings lie: CNTK's rules of padding.

With automatic padding, windows are centred: what is left over after the first and last centre is
shared, less of it in front. (ConvolveGeometry.h of CNTK 2.7)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """Windows along an axis: their number, and the padding before and behind (less than 0 cuts)."""

    count: int
    low: int
    high: int


def line(
    size: int, kernel: int, stride: int, dilation: int = 1, auto: bool = False,
    low: int = 0, high: int = 0, ceil: bool = False,
) -> Line | None:  # fmt: skip
    """The windows over an axis of a size; None if there are none."""
    span = dilation * (kernel - 1)
    room = size - 1 if auto else size + low + high - span - 1
    if room < 0 or size < 1:
        return None
    count = (room + (stride - 1 if ceil else 0)) // stride + 1
    if auto:
        low = span // 2 - _half(size - 1 - (count - 1) * stride)
    return Line(count, low, (count - 1) * stride + span + 1 - size - low)


def spread(
    count: int, kernel: int, stride: int, auto: bool, low: int, high: int, wanted: int = 0
) -> Line | None:
    """The other way round: how long an axis is that has `count` windows, and its padding; what a
    transposed convolution makes. wanted: the length, if it is given."""
    size = wanted or (count - 1) * stride + (1 if auto else kernel - low - high)
    if size < 1:
        return None
    if auto:
        low = (kernel - 1) // 2 - _half(size - 1 - (count - 1) * stride)
    return Line(size, low, (count - 1) * stride + kernel - size - low)


def _half(number: int) -> int:
    """number / 2, rounded towards zero as in C++."""
    return number // 2 if number >= 0 else -(-number // 2)
