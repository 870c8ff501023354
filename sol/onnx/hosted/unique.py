"""The different elements, or slices, of an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sol.onnx.values import Array


def unique(attrs: Mapping[str, Any], inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """What differs, sorted or in the order of its first places; these places; for each element of
    x the number of its equal; and how often each is there."""
    (x,) = inputs
    assert x is not None
    axis = attrs.get("axis")
    found, first, inverse, counts = np.unique(
        x if axis is not None else x.reshape(-1), True, True, True, axis
    )
    order = np.arange(len(first)) if attrs.get("sorted", 1) else np.argsort(first, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    y = np.take(found, order, axis or 0)
    return y, first[order], place[inverse.reshape(-1)], counts[order]
