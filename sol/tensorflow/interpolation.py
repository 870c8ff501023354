"""How TensorFlow resizes an axis from n to m places: which places it picks, or the weights [m, n]
of places in each result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_STEPS = 1024  # TensorFlow rounds where a result lies between two places to as many steps


def nearest(n: int, m: int, align_corners: bool, half_pixels: bool) -> Array:
    """The nearest place for each result."""
    scale = np.float32((n - 1) / (m - 1) if align_corners and m > 1 else n / m)
    i = np.arange(m, dtype=np.float32)
    x = (i + np.float32(0.5)) * scale if half_pixels else i * scale
    places = np.floor(x + np.float32(0.5)) if align_corners else np.floor(x)
    found: Array = np.clip(places, 0, n - 1).astype(np.int64)
    return found


def linear(n: int, m: int) -> Array:
    """Linear, pixels as points at their corners (half_pixel_centers=False)."""
    x = np.arange(m, dtype=np.float32) * np.float32(n / m)
    low = np.floor(x).astype(np.int64)
    weights = np.zeros((m, n), np.float32)
    rows = np.arange(m)
    np.add.at(weights, (rows, np.minimum(low, n - 1)), 1 - (x - low))
    np.add.at(weights, (rows, np.minimum(low + 1, n - 1)), x - low)
    return weights


def cubic(n: int, m: int) -> Array:
    """Keys' cubic with a = -1/2; places outside of the image have no weight."""
    x = (np.arange(m, dtype=np.float32) + np.float32(0.5)) * np.float32(n / m) - np.float32(0.5)
    low = np.floor(x)
    part = np.rint((x - low) * _STEPS) / _STEPS
    places = low[:, None].astype(np.int64) + np.arange(-1, 3)
    d = np.abs(part[:, None] - np.arange(-1, 3))
    near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    values = np.where(d <= 1, near, np.where(d < 2, far, 0))
    values = np.where((places >= 0) & (places < n), values, 0)
    weights = np.zeros((m, n))
    rows = np.broadcast_to(np.arange(m)[:, None], places.shape)
    np.add.at(weights, (rows, np.clip(places, 0, n - 1)), values / values.sum(1, keepdims=True))
    return weights.astype(np.float32)
