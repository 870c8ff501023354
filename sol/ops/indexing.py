"""Operators whose indices come from data, and assignments to a part of a tensor.

Indices count from the end where they are negative. Out of range, generated code reads the nearest
element (never other memory), while the NumPy reference refuses.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from sol.core.dims import Size
from sol.core.dtypes import I64, promote
from sol.ir.expr import Expr, apply, at_least, cast, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.gradients import move as gradient_of
from sol.ops.maps import from_data, inside, read_broadcast, size
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import (
    broadcast,
    need,
    need_axes,
    need_axis,
    need_kind,
    need_positive,
    need_shape,
    of,
    replaced,
    sliced,
    without,
)
from sol.ops.sampling import f32, i32, i64

# ---- gather, take, index -------------------------------------------------------------------------


def _infer_gather(x: TensorType, index: TensorType, *, axis: int) -> TensorType:
    need_axis("gather", axis, x.rank)
    need_kind("gather", index, "int")
    fits = index.rank == x.rank and all(
        k == axis or at_least(s - i, 0) for k, (i, s) in enumerate(zip(index.shape, x.shape))
    )
    need(
        fits, "gather", f"an index {index} into {x}", f"sizes up to the input's on axes but {axis}"
    )
    return of(x, index.shape)


def _compute_gather(node: Node, index: Index, x: Read, where_from: Read) -> Expr:
    axis = node["axis"]
    position = from_data(where_from(*index), x.shape[axis])
    return x(*index[:axis], position, *index[axis + 1 :])


def _reference_gather(node: Node, x: Any, index: Any) -> Any:
    axis = node["axis"]
    part = tuple(slice(None) if k == axis else slice(n) for k, n in enumerate(index.shape))
    return np.take_along_axis(x[part], index, axis)


def _infer_take(x: TensorType, index: TensorType, *, axis: int) -> TensorType:
    need_axis("take", axis, x.rank)
    need_kind("take", index, "int")
    return of(x, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _compute_take(node: Node, index: Index, x: Read, where_from: Read) -> Expr:
    axis = node["axis"]
    end = axis + where_from.type.rank
    position = from_data(where_from(*index[axis:end]), x.shape[axis])
    return x(*index[:axis], position, *index[end:])


def _infer_index(x: TensorType, *indices: TensorType, axes: tuple[int, ...]) -> TensorType:
    need_axes("index", axes, x.rank)
    need(len(indices) == len(axes) > 0, "index", f"{len(indices)} indices", f"{len(axes)} or more")
    for i in indices:
        need_kind("index", i, "int")
    picked = broadcast("index", *(i.shape for i in indices))
    rest, place = without(x.shape, axes), _place(axes)
    return of(x, (*rest[:place], *picked, *rest[place:]))


def _place(axes: tuple[int, ...]) -> int:
    """Where the axes of the indices stand in the result: at the indexed axes if these are
    adjacent, else in front."""
    adjacent = all(b == a + 1 for a, b in pairwise(axes))
    return axes[0] if adjacent else 0


def _compute_index(node: Node, index: Index, x: Read, *indices: Read) -> Expr:
    axes = node["axes"]
    place, count = _place(axes), max(i.type.rank for i in indices)
    picked, rest = index[place : place + count], [*index[:place], *index[place + count :]]
    positions = {a: from_data(read_broadcast(i, picked), x.shape[a]) for a, i in zip(axes, indices)}
    kept = iter(rest)
    return x(*(positions[a] if a in positions else next(kept) for a in range(x.type.rank)))


def _reference_index(node: Node, x: Any, *indices: Any) -> Any:
    key: list[Any] = [slice(None)] * x.ndim
    for axis, index in zip(node["axes"], indices):
        key[axis] = index
    return x[tuple(key)]


register(
    OpDef(
        "gather",
        "move",
        _infer_gather,
        "`y[i, j, k] = x[i, index[i, j, k], k]` for `axis` 1, and so on.",
        samples=(
            Sample((f32(5, 7), i64(3, 7)), {"axis": 0}, -5, 5),
            Sample((f32(2, 7, 3), i64(2, 13, 1)), {"axis": 1}, 0, 7),
            Sample((f32(17), i32(24)), {"axis": 0}, 0, 17),
        ),
        compute=_compute_gather,
        reference=_reference_gather,
        gradient=gradient_of.gather,
    )
)
register(
    OpDef(
        "take",
        "move",
        _infer_take,
        "`y[…, i, …] = x[…, index[i], …]` on `axis`, for an index with any number of axes. An "
        "embedding is take on axis 0.",
        samples=(
            Sample((f32(7, 5), i64(2, 3)), {"axis": 0}, 0, 7),
            Sample((f32(3, 13, 2), i64(4)), {"axis": 1}, -13, 13),
            Sample((f32(3, 5), i64()), {"axis": 1}, 0, 5),
            Sample((i64(17), i32(2, 1, 3)), {"axis": 0}, 0, 17),
        ),
        compute=_compute_take,
        reference=lambda node, x, index: np.take(x, index, node["axis"]),
        gradient=gradient_of.take,
    )
)
register(
    OpDef(
        "index",
        "move",
        _infer_index,
        "`y = x[…, i0, i1, …]`, NumPy's advanced indexing on `axes` with integer indices that "
        "broadcast together; their axes replace the indexed ones where these are adjacent, else "
        "they come first.",
        samples=(
            Sample((f32(5, 7), i64(3), i64(3)), {"axes": (0, 1)}, 0, 5),
            Sample((f32(5, 7, 6, 2), i64(3, 1), i64(4)), {"axes": (1, 2)}, -6, 6),
            Sample((f32(5, 3, 6), i64(4), i64(2, 4)), {"axes": (0, 2)}, 0, 5),
            Sample((f32(13, 3), i64(7)), {"axes": (0,)}, 0, 13),
            Sample((f32(3, 13), i64()), {"axes": (1,)}, 0, 13),
        ),
        compute=_compute_index,
        reference=_reference_index,
        gradient=gradient_of.index,
    )
)

# ---- assignments to a part, one_hot --------------------------------------------------------------


def _infer_slice_assign(
    x: TensorType, value: TensorType, *, axis: int, start: Size, stop: Size, step: int
) -> TensorType:
    op = "slice_assign"
    need_axis(op, axis, x.rank)
    length = sliced(op, x.shape[axis], start, stop, step)
    need_shape(op, "the value", value, replaced(x.shape, axis, length))
    return of(x, x.shape, promote(x.dtype, value.dtype))


def _compute_slice_assign(node: Node, index: Index, x: Read, value: Read) -> Expr:
    axis, start, step = node["axis"], node["start"], node["step"]
    offset = index[axis] - size(start)
    assigned = inside(index[axis], start, node["stop"])
    if step > 1:
        assigned = assigned & apply("eq", offset % step, 0)
    new = value(*index[:axis], offset // step, *index[axis + 1 :])
    return cast(where(assigned, new, x(*index)), node.dtype)


def _reference_slice_assign(node: Node, x: Any, value: Any) -> Any:
    result = x.astype(node.dtype.numpy)
    cut = slice(node["start"], node["stop"], node["step"])
    result[(slice(None),) * node["axis"] + (cut,)] = value
    return result


def _infer_select_assign(x: TensorType, value: TensorType, *, axis: int, index: int) -> TensorType:
    op = "select_assign"
    need_axis(op, axis, x.rank)
    extent = x.shape[axis]
    fits = index >= 0 and (not isinstance(extent, int) or index < extent)
    need(fits, op, f"index {index} of an axis of size {extent}", f"0 <= index < {extent}")
    need_shape(op, "the value", value, without(x.shape, (axis,)))
    return of(x, x.shape, promote(x.dtype, value.dtype))


def _compute_select_assign(node: Node, index: Index, x: Read, value: Read) -> Expr:
    axis = node["axis"]
    assigned = apply("eq", index[axis], node["index"])
    return cast(where(assigned, value(*index[:axis], *index[axis + 1 :]), x(*index)), node.dtype)


def _reference_select_assign(node: Node, x: Any, value: Any) -> Any:
    result = x.astype(node.dtype.numpy)
    result[(slice(None),) * node["axis"] + (node["index"],)] = value
    return result


def _infer_one_hot(x: TensorType, *, classes: int) -> TensorType:
    need_kind("one_hot", x, "int")
    need_positive("one_hot", "classes", (classes,))
    return TensorType((*x.shape, classes), I64)


def _compute_one_hot(node: Node, index: Index, x: Read) -> Expr:
    return where(apply("eq", cast(x(*index[:-1]), I64), index[-1]), const(1), const(0))


register(
    OpDef(
        "slice_assign",
        "move",
        _infer_slice_assign,
        "x, but `y[…, start:stop:step, …] = value` on `axis`.",
        samples=(
            Sample((f32(3, 7), f32(3, 4)), {"axis": 1, "start": 2, "stop": 6, "step": 1}),
            Sample((f32(13, 2), f32(4, 2)), {"axis": 0, "start": 1, "stop": 13, "step": 3}),
            Sample((f32(5), f32(5)), {"axis": 0, "start": 0, "stop": 5, "step": 1}),
            Sample((i64(2, 5), i64(2, 0)), {"axis": 1, "start": 3, "stop": 3, "step": 1}),
        ),
        compute=_compute_slice_assign,
        reference=_reference_slice_assign,
        gradient=gradient_of.slice_assign,
    )
)
register(
    OpDef(
        "select_assign",
        "move",
        _infer_select_assign,
        "x, but `y[…, index, …] = value` on `axis`.",
        samples=(
            Sample((f32(3, 7), f32(3)), {"axis": 1, "index": 6}),
            Sample((f32(2, 3, 5), f32(3, 5)), {"axis": 0, "index": 0}),
            Sample((i64(1), i64()), {"axis": 0, "index": 0}),
        ),
        compute=_compute_select_assign,
        reference=_reference_select_assign,
        gradient=gradient_of.select_assign,
    )
)
register(
    OpDef(
        "one_hot",
        "move",
        _infer_one_hot,
        "`y[…, c] = 1 where x[…] == c, else 0`, for c < `classes`.",
        samples=(
            Sample((i64(7),), {"classes": 5}, 0, 5),
            Sample((i64(2, 3),), {"classes": 13}, 0, 13),
            Sample((i64(),), {"classes": 1}, 0, 1),
        ),
        compute=_compute_one_hot,
        why="its result is whole numbers",
    )
)
