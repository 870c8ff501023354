"""Boxes in NumPy: which of them to keep, and the maxima of parts of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from sol.onnx.values import Array


def non_max_suppression(
    attrs: Mapping[str, Any], inputs: Sequence[Array | None]
) -> tuple[Array, ...]:
    """[K, 3]: image, class and box of each box that is kept, of each class the best score first.

    A box is dropped where it shares more than a threshold of its area with a better one.
    """
    boxes, scores, *rest = inputs
    assert boxes is not None
    assert scores is not None
    given = [None if r is None else np.asarray(r).reshape(-1)[0] for r in rest]
    most, overlap, least = [*given, None, None, None][:3]
    corners = _corners(boxes, bool(attrs.get("center_point_box", 0)))
    found = [
        (image, kind, box)
        for image, kind in np.ndindex(*scores.shape[:2])
        for box in _kept(corners[image], scores[image, kind], int(most or 0), overlap or 0.0, least)
    ]
    return (np.array(found, np.int64).reshape(-1, 3),)


def _corners(boxes: Array, by_centre: bool) -> Array:
    """[N, M, 4]: the smaller corner of each box, then the larger one."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if by_centre:
        first, second = first - second / 2, first + second / 2
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)


def _kept(boxes: Array, scores: Array, most: int, overlap: Any, least: Any) -> list[int]:
    order = np.argsort(-scores, kind="stable")
    if least is not None:
        order = order[scores[order] > least]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[_shared(boxes[best], boxes[order]) <= overlap]
    return kept


def _shared(box: Array, others: Array) -> Array:
    """What a box and each other one have in common, of what both cover; 0 if one has no area."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.maximum(sides, 0).prod(-1)
    own, areas = (np.prod(b[..., 2:] - b[..., :2], axis=-1) for b in (box, others))
    empty = (areas <= 0) | (own <= 0)
    return np.where(empty, 0, common / np.where(empty, 1, areas + own - common))


def max_roi_pool(attrs: Mapping[str, Any], inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """[R, C, h, w]: each region of an image in h x w parts, and the maximum of each (R. Girshick,
    Fast R-CNN, 2015); 0 for parts without pixels."""
    x, regions = inputs[:2]
    assert x is not None
    assert regions is not None
    counts, scale = attrs["pooled_shape"], attrs.get("spatial_scale", 1.0)
    y = np.zeros((len(regions), x.shape[1], *counts), x.dtype)
    for number, (image, *ends) in enumerate(regions):
        left, top, right, bottom = (int(np.floor(e * scale + 0.5)) for e in ends)
        rows = _parts(top, bottom, counts[0], x.shape[2])
        columns = _parts(left, right, counts[1], x.shape[3])
        for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
            part = x[int(image), :, row, column]
            if part.size:
                y[number, :, i, j] = part.max((1, 2))
    return (y,)


def _parts(first: int, last: int, count: int, size: int) -> list[slice]:
    """The pixels of a region cut into parts, which overlap where they do not come out even."""
    step = max(last - first + 1, 1) / count
    ends = [(math.floor(k * step) + first, math.ceil((k + 1) * step) + first) for k in range(count)]
    return [slice(max(begin, 0), max(min(end, size), 0)) for begin, end in ends]
