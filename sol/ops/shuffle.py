"""Moves with an arithmetic of their own: channels and pixels shuffled, values interleaved, windows
laid out as axes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from sol.core.dims import concrete
from sol.ir.expr import Expr, apply, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.gradients import move as gradient_of
from sol.ops.maps import all_of, inside
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import (
    need,
    need_axes,
    need_axis,
    need_length,
    need_number,
    need_positive,
    need_rank,
    need_shape,
    of,
    replaced,
)
from sol.ops.sampling import f32, i64
from sol.ops.windows import need_window, taps, window_sizes, windows

Pair = tuple[int, int]

# ---- pixel shuffle, pixel unshuffle, channel shuffle ---------------------------------------------


def _infer_pixel_shuffle(x: TensorType, *, factor: int) -> TensorType:
    need(x.rank >= 3, "pixel_shuffle", f"an input {x}", "at least 3 axes: channels, rows, columns")
    need_positive("pixel_shuffle", "factor", (factor,))
    *lead, channels, rows, columns = x.shape
    count = need_number("pixel_shuffle", "the number of channels", channels)
    fits = count % factor**2 == 0
    need(fits, "pixel_shuffle", f"{count} channels", f"a multiple of factor² = {factor**2}")
    return of(x, (*lead, count // factor**2, rows * factor, columns * factor))


def _compute_pixel_shuffle(node: Node, index: Index, x: Read) -> Expr:
    f = node["factor"]
    *lead, c, h, w = index
    return x(*lead, c * (f * f) + (h % f) * f + w % f, h // f, w // f)


def _infer_pixel_unshuffle(x: TensorType, *, factor: int) -> TensorType:
    need(
        x.rank >= 3, "pixel_unshuffle", f"an input {x}", "at least 3 axes: channels, rows, columns"
    )
    need_positive("pixel_unshuffle", "factor", (factor,))
    *lead, channels, rows, columns = x.shape
    for s in (rows, columns):
        fits = need_number("pixel_unshuffle", "an image size", s) % factor == 0
        need(fits, "pixel_unshuffle", f"an image {rows} x {columns}", f"multiples of {factor}")
    return of(x, (*lead, channels * factor**2, rows // factor, columns // factor))


def _compute_pixel_unshuffle(node: Node, index: Index, x: Read) -> Expr:
    f = node["factor"]
    *lead, c, h, w = index
    return x(*lead, c // (f * f), h * f + c % (f * f) // f, w * f + c % f)


def _infer_channel_shuffle(x: TensorType, *, groups: int) -> TensorType:
    need(x.rank >= 2, "channel_shuffle", f"an input {x}", "at least 2 axes: batch and channels")
    count = need_number("channel_shuffle", "the number of channels", x.shape[1])
    need_positive("channel_shuffle", "groups", (groups,))
    need(count % groups == 0, "channel_shuffle", f"{count} channels", f"a multiple of {groups}")
    return x


def _compute_channel_shuffle(node: Node, index: Index, x: Read) -> Expr:
    groups = node["groups"]
    per_group = need_number("channel_shuffle", "the number of channels", x.shape[1]) // groups
    n, c, *spatial = index
    return x(n, (c % groups) * per_group + c // groups, *spatial)


register(
    OpDef(
        "pixel_shuffle",
        "move",
        _infer_pixel_shuffle,
        "`y[c, h, w] = x[c f² + (h mod f) f + w mod f, ⌊h/f⌋, ⌊w/f⌋]` with f = `factor`, on the "
        "last three axes.",
        samples=(
            Sample((f32(2, 12, 3, 5),), {"factor": 2}),
            Sample((f32(9, 4, 1),), {"factor": 3}),
            Sample((f32(1, 2, 3, 5),), {"factor": 1}),
        ),
        compute=_compute_pixel_shuffle,
        gradient=gradient_of.pixel_shuffle,
    )
)
register(
    OpDef(
        "pixel_unshuffle",
        "move",
        _infer_pixel_unshuffle,
        "The inverse of pixel_shuffle: `y[c f² + a f + b, h, w] = x[c, h f + a, w f + b]`.",
        samples=(
            Sample((f32(2, 3, 6, 10),), {"factor": 2}),
            Sample((f32(1, 9, 3),), {"factor": 3}),
        ),
        compute=_compute_pixel_unshuffle,
        gradient=gradient_of.pixel_unshuffle,
    )
)
register(
    OpDef(
        "channel_shuffle",
        "move",
        _infer_channel_shuffle,
        "`y[n, c] = x[n, (c mod g) C/g + ⌊c/g⌋]` with g = `groups`, C channels.",
        samples=(
            Sample((f32(2, 6, 3, 5),), {"groups": 2}),
            Sample((f32(1, 24, 7),), {"groups": 8}),
            Sample((f32(2, 5),), {"groups": 5}),
        ),
        compute=_compute_channel_shuffle,
        gradient=gradient_of.channel_shuffle,
    )
)

# ---- interleave ----------------------------------------------------------------------------------


def phases(steps: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The first place of each part of an interleaved value on its axes, the last axis fastest."""
    return list(itertools.product(*map(range, steps)))


def _infer_interleave(
    *parts: TensorType, axes: tuple[int, ...], steps: tuple[int, ...]
) -> TensorType:
    op = "interleave"
    need_length(op, "steps", steps, len(axes))
    need_positive(op, "steps", steps)
    starts = phases(steps)
    need(len(parts) == len(starts), op, f"{len(parts)} inputs", f"{len(starts)}, one per phase")
    first = parts[0]
    need_axes(op, axes, first.rank)
    shape = first.shape
    for k, axis in enumerate(axes):
        alone = [n for n, start in enumerate(starts) if not any((*start[:k], *start[k + 1 :]))]
        sizes = [need_number(op, f"axis {axis}", parts[n].shape[axis]) for n in alone]
        shape = replaced(shape, axis, sum(sizes))
    for part, start in zip(parts, starts):
        wanted = shape
        for axis, step, at in zip(axes, steps, start):
            extent = need_number(op, f"axis {axis}", shape[axis])
            wanted = replaced(wanted, axis, -(-(extent - at) // step))
        need_shape(op, f"the part at {start}", part, wanted)
        need(part.dtype == first.dtype, op, f"{first} and {part}", "equal element types")
    return of(first, shape)


def _compute_interleave(node: Node, index: Index, *parts: Read) -> Expr:
    position = list(index)
    number: Expr = const(0)
    for axis, step in zip(node["axes"], node["steps"]):
        position[axis] = index[axis] // step
        number = number * step + index[axis] % step
    result = parts[-1](*position)
    for k in reversed(range(len(parts) - 1)):
        result = where(apply("eq", number, k), parts[k](*position), result)
    return result


def _reference_interleave(node: Node, *parts: Any) -> Any:
    y = np.empty(concrete(node.shape, 1), parts[0].dtype)
    for part, start in zip(parts, phases(node["steps"])):
        place = [slice(None)] * y.ndim
        for axis, step, at in zip(node["axes"], node["steps"], start):
            place[axis] = slice(at, None, step)
        y[tuple(place)] = part
    return y


register(
    OpDef(
        "interleave",
        "move",
        _infer_interleave,
        "`y[…, q * s + a, …] = part_a[…, q, …]`, so on every one of `axes` with its s of `steps`: "
        "one part for each place a, the last axis fastest.",
        samples=(
            Sample((f32(3, 4), f32(3, 3)), {"axes": (1,), "steps": (2,)}),
            Sample(
                (f32(2, 17, 3, 2), f32(2, 17, 3, 2), f32(2, 17, 2, 2), f32(2, 17, 2, 2)),
                {"axes": (2, 3), "steps": (2, 2)},
            ),
            Sample((i64(2, 5), i64(1, 5), i64(1, 5)), {"axes": (0,), "steps": (3,)}),
            Sample((f32(1, 5, 1), f32(1, 5, 1)), {"axes": (2, 1), "steps": (2, 1)}),
        ),
        compute=_compute_interleave,
        reference=_reference_interleave,
        gradient=gradient_of.interleave,
    )
)

# ---- windows as axes: unfold, im2col -------------------------------------------------------------


def _infer_unfold(x: TensorType, *, axis: int, size: int, step: int) -> TensorType:
    need_axis("unfold", axis, x.rank)
    need_positive("unfold", "step", (step,))
    extent = need_number("unfold", f"axis {axis}", x.shape[axis])
    need(0 <= size <= extent, "unfold", f"size={size} of an axis of {extent}", f"0 to {extent}")
    return of(x, (*replaced(x.shape, axis, (extent - size) // step + 1), size))


def _compute_unfold(node: Node, index: Index, x: Read) -> Expr:
    position = list(index[:-1])
    position[node["axis"]] = position[node["axis"]] * node["step"] + index[-1]
    return x(*position)


def _infer_im2col(
    x: TensorType,
    *,
    kernel: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: tuple[int, ...],
    stride: tuple[int, ...],
) -> TensorType:
    need_rank("im2col", x, 4)
    need_window("im2col", 2, kernel=kernel, dilation=dilation, padding=padding, stride=stride)
    pads = [(p, p) for p in padding]
    rows, columns = window_sizes("im2col", x.shape[2:], kernel, stride, pads, dilation)
    return of(x, (x.shape[0], x.shape[1] * (kernel[0] * kernel[1]), rows * columns))


def _compute_im2col(node: Node, index: Index, x: Read) -> Expr:
    n, row, place = index
    (kh, kw), stride, padding = node["kernel"], node["stride"], node["padding"]
    pads = [(p, p) for p in padding]
    sizes = window_sizes("im2col", x.shape[2:], node["kernel"], stride, pads, node["dilation"])
    width = need_number("im2col", "the width", sizes[1])
    at = (place // width, place % width)
    tap = (row // kw % kh, row % kw)
    position = taps(at, tap, stride, padding, node["dilation"])
    valid = all_of([inside(p, 0, extent) for p, extent in zip(position, x.shape[2:])])
    return where(valid, x(n, row // (kh * kw), *position), const(0, node.dtype))


def _reference_im2col(node: Node, x: Any) -> Any:
    pads = [(p, p) for p in node["padding"]]
    window = (node["kernel"], node["stride"], node["dilation"])
    places = window_sizes("im2col", x.shape[2:], *window[:2], pads, window[2])
    view = windows(np.pad(x, [(0, 0), (0, 0), *pads]), *window, places)
    return view.transpose(0, 1, 4, 5, 2, 3).reshape(concrete(node.shape, 1))


def _im2col(kernel: Pair, dilation: Pair, padding: Pair, stride: Pair) -> dict[str, Any]:
    return {"kernel": kernel, "dilation": dilation, "padding": padding, "stride": stride}


register(
    OpDef(
        "unfold",
        "move",
        _infer_unfold,
        "`y[…, i, …, k] = x[…, i * step + k, …]`: windows of `size` along `axis`, as a last axis.",
        samples=(
            Sample((f32(3, 13),), {"axis": 1, "size": 4, "step": 3}),
            Sample((f32(7, 2, 3),), {"axis": 0, "size": 2, "step": 2}),
            Sample((f32(5),), {"axis": 0, "size": 5, "step": 9}),
        ),
        compute=_compute_unfold,
        gradient=gradient_of.unfold,
    )
)
register(
    OpDef(
        "im2col",
        "move",
        _infer_im2col,
        "`y[n, (c, kh, kw), (h, w)] = x[n, c, h s + kh d - p, w s + kw d - p]`, 0 outside of x.",
        samples=(
            Sample((f32(2, 3, 7, 5),), _im2col((3, 2), (1, 1), (1, 0), (1, 1))),
            Sample((f32(1, 2, 13, 7),), _im2col((2, 3), (2, 1), (0, 2), (3, 2))),
            Sample((f32(1, 3, 8, 8),), _im2col((2, 2), (1, 1), (0, 0), (2, 2))),
        ),
        compute=_compute_im2col,
        reference=_reference_im2col,
        gradient=gradient_of.im2col,
    )
)
