"""Operators that only move elements: other index maps on the same values.

The code generator inlines them, so most never become copies. `compute` gives the map from an index
of the result to an index of the input; `reference` is NumPy's function of the same name, because
set-up runs these on whole parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sol.core.dims import Shape, Size, concrete, product
from sol.core.dtypes import promote
from sol.ir.expr import Expr, cast, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.gradients import move as gradient_of
from sol.ops.maps import read_broadcast, reshape_index, size
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import (
    broadcasts_to,
    need,
    need_axes,
    need_axis,
    need_length,
    need_number,
    of,
    replaced,
    show_shape,
    sliced,
)
from sol.ops.sampling import boolean, f32, i64

# ---- reshape, permute, expand --------------------------------------------------------------------


def _infer_reshape(x: TensorType, *, shape: Shape) -> TensorType:
    have, want = product(x.shape), product(shape)
    need(
        have == want,
        "reshape",
        f"{x} has {have} elements, the shape {show_shape(shape)} has {want}",
        "equal numbers of elements",
    )
    return of(x, shape)


def _compute_reshape(node: Node, index: Index, x: Read) -> Expr:
    return x(*reshape_index(index, node.shape, x.shape))


def _infer_permute(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    need_axes("permute", axes, x.rank)
    need_length("permute", "axes", axes, x.rank)
    return of(x, [x.shape[a] for a in axes])


def _compute_permute(node: Node, index: Index, x: Read) -> Expr:
    position = dict(zip(node["axes"], index))
    return x(*(position[a] for a in range(len(index))))


def _infer_expand(x: TensorType, *, shape: Shape) -> TensorType:
    need(
        broadcasts_to(x.shape, shape),
        "expand",
        f"{x} to {show_shape(shape)}",
        "a shape that the input broadcasts to",
    )
    return of(x, shape)


def _compute_expand(node: Node, index: Index, x: Read) -> Expr:
    return read_broadcast(x, index)


register(
    OpDef(
        "reshape",
        "move",
        _infer_reshape,
        "`y` has the elements of `x` in the same row-major order, and `shape`.",
        samples=(
            Sample((f32(2, 3, 4),), {"shape": (6, 4)}),
            Sample((f32(6, 7),), {"shape": (2, 3, 7)}),
            Sample((f32(2, 3, 4),), {"shape": (4, 6)}),
            Sample((f32(1, 13, 1),), {"shape": (13,)}),
            Sample((f32(),), {"shape": (1, 1)}),
            Sample((f32(2, 3, 5, 7),), {"shape": (2, 105)}),
            Sample((i64(4, 9),), {"shape": (2, 2, 3, 3)}),
            Sample((f32(2, 5, 1, 3),), {"shape": (5, 2, 3)}),
            Sample((f32(0, 3),), {"shape": (3, 0)}),
        ),
        compute=_compute_reshape,
        reference=lambda node, x: x.reshape(concrete(node.shape, 1)),
        gradient=gradient_of.reshape,
    )
)
register(
    OpDef(
        "permute",
        "move",
        _infer_permute,
        "`y[i_axes[0], i_axes[1], …] = x[i_0, i_1, …]`: axis k of the result is `axes[k]` of x.",
        samples=(
            Sample((f32(3, 7),), {"axes": (1, 0)}),
            Sample((f32(2, 3, 5, 7),), {"axes": (0, 2, 3, 1)}),
            Sample((f32(2, 3, 1, 5, 4),), {"axes": (4, 1, 0, 2, 3)}),
            Sample((boolean(3, 1, 2),), {"axes": (0, 2, 1)}),
        ),
        compute=_compute_permute,
        reference=lambda node, x: x.transpose(node["axes"]),
        gradient=gradient_of.permute,
    )
)
register(
    OpDef(
        "kept",
        "move",
        _infer_permute,
        "`permute(x, axes)` as a result in which x is written where it is computed: x is kept for "
        "another program in the order that it has in memory.",
        samples=(
            Sample((f32(2, 3, 5, 7),), {"axes": (0, 2, 3, 1)}),
            Sample((f32(3, 7),), {"axes": (0, 1)}),
        ),
        compute=_compute_permute,
        reference=lambda node, x: x.transpose(node["axes"]),
        why="it is made when gradients are known",
    )
)
register(
    OpDef(
        "expand",
        "move",
        _infer_expand,
        "`y[i] = x[i]` with index 0 on axes of size 1, broadcast to `shape`.",
        samples=(
            Sample((f32(3, 1),), {"shape": (3, 7)}),
            Sample((f32(5),), {"shape": (2, 3, 5)}),
            Sample((f32(),), {"shape": (2, 1)}),
            Sample((i64(1, 3, 1),), {"shape": (4, 3, 1)}),
        ),
        compute=_compute_expand,
        reference=lambda node, x: np.broadcast_to(x, concrete(node.shape, 1)),
        gradient=gradient_of.expand,
    )
)

# ---- slice, concat, flip, roll, repeat -----------------------------------------------------------


def _infer_slice(x: TensorType, *, axis: int, start: Size, stop: Size, step: int) -> TensorType:
    need_axis("slice", axis, x.rank)
    return of(x, replaced(x.shape, axis, sliced("slice", x.shape[axis], start, stop, step)))


def _compute_slice(node: Node, index: Index, x: Read) -> Expr:
    axis, step = node["axis"], node["step"]
    where_from = index[axis] * step + size(node["start"])
    return x(*index[:axis], where_from, *index[axis + 1 :])


def _reference_slice(node: Node, x: Any) -> Any:
    cut = slice(node["start"], node["stop"], node["step"])
    return x[(slice(None),) * node["axis"] + (cut,)]


def _infer_concat(*types: TensorType, axis: int) -> TensorType:
    need(len(types) > 0, "concat", "no inputs", "at least one")
    first = types[0]
    need_axis("concat", axis, first.rank)
    total: Size = 0
    dtype = first.dtype
    for x in types:
        fits = x.rank == first.rank and replaced(x.shape, axis, 0) == replaced(first.shape, axis, 0)
        need(fits, "concat", f"{first} and {x}", f"equal sizes on all axes but {axis}")
        total = total + x.shape[axis]
        dtype = promote(dtype, x.dtype)
    return of(first, replaced(first.shape, axis, total), dtype)


def _compute_concat(node: Node, index: Index, *reads: Read) -> Expr:
    axis = node["axis"]
    position = index[axis]
    start = node.shape[axis]
    result: Expr | None = None
    for x in reversed(reads):
        start = start - x.shape[axis]
        if x.shape[axis] == 0:
            continue
        part = cast(x(*index[:axis], position - size(start), *index[axis + 1 :]), node.dtype)
        end = size(start + x.shape[axis])
        result = part if result is None else where(position < end, part, result)
    return const(0, node.dtype) if result is None else result


def _compute_flip(node: Node, index: Index, x: Read) -> Expr:
    axes = node["axes"]
    return x(*(size(x.shape[k] - 1) - i if k in axes else i for k, i in enumerate(index)))


def _infer_flip(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    need_axes("flip", axes, x.rank)
    return x


def _infer_roll(x: TensorType, *, axes: tuple[int, ...], shifts: tuple[int, ...]) -> TensorType:
    need_axes("roll", axes, x.rank)
    need_length("roll", "shifts", shifts, len(axes))
    for axis, shift in zip(axes, shifts):
        if shift:
            need_number("roll", f"axis {axis}", x.shape[axis])
    return x


def _compute_roll(node: Node, index: Index, x: Read) -> Expr:
    position = list(index)
    for axis, shift in zip(node["axes"], node["shifts"]):
        if shift and x.shape[axis] != 0:
            extent = need_number("roll", f"axis {axis}", x.shape[axis])
            position[axis] = (index[axis] + (-shift % extent)) % extent
    return x(*position)


def _infer_repeat(x: TensorType, *, repeats: tuple[int, ...]) -> TensorType:
    need(
        len(repeats) >= x.rank and all(r >= 0 for r in repeats),
        "repeat",
        f"repeats={tuple(repeats)} of {x}",
        f"at least {x.rank} numbers of at least 0",
    )
    shape = (1,) * (len(repeats) - x.rank) + x.shape
    return of(x, [r * s for r, s in zip(repeats, shape)])


def _compute_repeat(node: Node, index: Index, x: Read) -> Expr:
    tail = index[len(index) - x.type.rank :]
    return x(*(i % size(s) if s != 0 else i for i, s in zip(tail, x.shape)))


register(
    OpDef(
        "slice",
        "move",
        _infer_slice,
        "`y[…, i, …] = x[…, i * step + start, …]` on `axis`, up to `stop`.",
        samples=(
            Sample((f32(3, 7),), {"axis": 1, "start": 2, "stop": 7, "step": 1}),
            Sample((f32(2, 13, 3),), {"axis": 1, "start": 1, "stop": 12, "step": 3}),
            Sample((f32(17),), {"axis": 0, "start": 16, "stop": 17, "step": 1}),
            Sample((f32(5, 4),), {"axis": 0, "start": 0, "stop": 5, "step": 7}),
            Sample((i64(5, 4),), {"axis": 1, "start": 3, "stop": 3, "step": 1}),
        ),
        compute=_compute_slice,
        reference=_reference_slice,
        gradient=gradient_of.slice_,
    )
)
register(
    OpDef(
        "concat",
        "move",
        _infer_concat,
        "The inputs one after the other along `axis`.",
        samples=(
            Sample((f32(2, 3, 5), f32(2, 7, 5)), {"axis": 1}),
            Sample((f32(1, 4), f32(3, 4), f32(2, 4)), {"axis": 0}),
            Sample((f32(2, 3, 1, 17), f32(2, 3, 1, 16)), {"axis": 3}),
            Sample((i64(3), f32(4)), {"axis": 0}),
            Sample((f32(2, 0), f32(2, 13)), {"axis": 1}),
            Sample((f32(7),), {"axis": 0}),
        ),
        compute=_compute_concat,
        reference=lambda node, *arrays: np.concatenate(arrays, node["axis"]),
        gradient=gradient_of.concat,
    )
)
register(
    OpDef(
        "flip",
        "move",
        _infer_flip,
        "`y[i] = x[n - 1 - i]` on every one of `axes`.",
        samples=(
            Sample((f32(3, 7),), {"axes": (1,)}),
            Sample((f32(2, 3, 5, 4),), {"axes": (0, 3, 2)}),
            Sample((i64(13),), {"axes": (0,)}),
        ),
        compute=_compute_flip,
        reference=lambda node, x: np.flip(x, node["axes"]),
        gradient=gradient_of.flip,
    )
)
register(
    OpDef(
        "roll",
        "move",
        _infer_roll,
        "`y[i] = x[(i - shift) mod n]` on every one of `axes`.",
        samples=(
            Sample((f32(3, 7),), {"axes": (1,), "shifts": (3,)}),
            Sample((f32(2, 7, 5, 3),), {"axes": (1, 2), "shifts": (-3, -2)}),
            Sample((f32(4, 4),), {"axes": (0, 1), "shifts": (4, 9)}),
            Sample((i64(17),), {"axes": (0,), "shifts": (-30,)}),
        ),
        compute=_compute_roll,
        reference=lambda node, x: np.roll(x, node["shifts"], node["axes"]),
        gradient=gradient_of.roll,
    )
)
register(
    OpDef(
        "repeat",
        "move",
        _infer_repeat,
        "`y[i] = x[i mod n]`: x laid side by side `repeats` times; more repeats than axes put new "
        "axes in front.",
        samples=(
            Sample((f32(3, 5),), {"repeats": (2, 3)}),
            Sample((f32(5),), {"repeats": (2, 1, 3)}),
            Sample((f32(1, 7),), {"repeats": (4, 1)}),
            Sample((i64(),), {"repeats": (3,)}),
        ),
        compute=_compute_repeat,
        reference=lambda node, x: np.tile(x, node["repeats"]),
        gradient=gradient_of.repeat,
    )
)
