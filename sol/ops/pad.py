"""Padding and cropping: `pad`, and `tril` and `triu`, which set a part of a matrix to zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, apply, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.gradients import move as gradient_of
from sol.ops.maps import all_of, clamp, inside
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import need, need_length, need_number, of
from sol.ops.sampling import boolean, f32, i64

_NUMPY_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _infer_pad(
    x: TensorType, *, low: tuple[int, ...], high: tuple[int, ...], mode: str, value: float
) -> TensorType:
    need_length("pad", "low", low, x.rank)
    need_length("pad", "high", high, x.rank)
    if mode != "constant" and mode not in _NUMPY_MODES:
        raise UnsupportedError("pad", f"mode={mode!r}", expected=f"constant, {[*_NUMPY_MODES]}")
    for axis, (before, after) in enumerate(zip(low, high)):
        _check_extent(x, axis, before, after, mode)
    return of(x, [s + a + b for s, a, b in zip(x.shape, low, high)])


def _check_extent(x: TensorType, axis: int, before: int, after: int, mode: str) -> None:
    extent = x.shape[axis]
    if not isinstance(extent, int):
        if mode != "constant" and (before or after):
            raise UnsupportedError("pad", f"mode {mode} on the batch axis")
        return
    need(
        extent + before + after >= 0 and min(before, after) + extent >= 0,
        "pad",
        f"crops {before} and {after} off axis {axis} of {x}",
        f"at most {extent} elements",
    )
    most = {"constant": None, "reflect": extent - 1, "replicate": None, "circular": extent}[mode]
    need(
        most is None or max(before, after) <= most,
        "pad",
        f"pads axis {axis} of {x} by {before} and {after} in mode {mode}",
        f"at most {most} elements on a side",
    )


def _compute_pad(node: Node, index: Index, x: Read) -> Expr:
    position = [i - low for i, low in zip(index, node["low"])]
    if node["mode"] == "constant":
        valid = all_of([inside(p, 0, extent) for p, extent in zip(position, x.shape)])
        return where(valid, x(*position), const(node["value"], node.dtype))
    padded = [low != 0 or high != 0 for low, high in zip(node["low"], node["high"])]
    for k in (k for k, is_padded in enumerate(padded) if is_padded):
        extent = need_number("pad", f"axis {k}", x.shape[k])
        position[k] = _folded(node["mode"], position[k], extent)
    return x(*position)


def _folded(mode: str, position: Expr, extent: int) -> Expr:
    """Where padding of this mode takes the element at a position outside of the axis from."""
    match mode:
        case "replicate":
            return clamp(position, 0, extent - 1)
        case "circular":
            return (position + extent) % extent
        case _:
            mirrored = apply("max", position, -position)
            return apply("min", mirrored, 2 * (extent - 1) - mirrored)


def _reference_pad(node: Node, x: Any) -> Any:
    widths = [(max(a, 0), max(b, 0)) for a, b in zip(node["low"], node["high"])]
    if node["mode"] == "constant":
        padded = np.pad(x, widths, constant_values=node["value"])
    else:
        padded = np.pad(x, widths, mode=_NUMPY_MODES[node["mode"]])
    crops = [
        slice(max(-a, 0), n - max(-b, 0))
        for a, b, n in zip(node["low"], node["high"], padded.shape)
    ]
    return padded[tuple(crops)]


def _pads(
    low: tuple[int, ...], high: tuple[int, ...], mode: str = "constant", value: float = 0.0
) -> dict[str, Any]:
    return {"low": low, "high": high, "mode": mode, "value": value}


register(
    OpDef(
        "pad",
        "move",
        _infer_pad,
        "`y[i] = x[i - low]` where that exists, else `value`; or the mirrored (`reflect`), the "
        "nearest (`replicate`) or the periodic (`circular`) element. Negative widths crop.",
        samples=(
            Sample((f32(3, 7),), _pads((1, 2), (0, 3))),
            Sample((f32(2, 3, 5, 7),), _pads((0, 0, 1, 1), (0, 0, 1, 2), value=-1.5)),
            Sample((f32(5, 13),), _pads((-1, 3), (2, -4), value=0.25)),
            Sample(
                (
                    f32(
                        13,
                    ),
                ),
                _pads((-3,), (-9,)),
            ),
            Sample((i64(4),), _pads((2,), (1,), value=7)),
            Sample((f32(2, 3, 5, 7),), _pads((0, 0, 2, 3), (0, 0, 4, 1), "reflect")),
            Sample((f32(2, 3, 5, 7),), _pads((0, 0, 9, 0), (0, 0, 1, 2), "replicate")),
            Sample((f32(2, 3, 5, 7),), _pads((0, 0, 5, 1), (0, 0, 0, 7), "circular")),
            Sample((f32(3, 1),), _pads((0, 2), (0, 1), "replicate")),
        ),
        compute=_compute_pad,
        reference=_reference_pad,
        gradient=gradient_of.pad,
    )
)


def _infer_triangle(x: TensorType, *, diagonal: int) -> TensorType:
    need(x.rank >= 2, "tril or triu", f"an input {x}", "at least 2 axes")
    return x


def _compute_tril(node: Node, index: Index, x: Read) -> Expr:
    kept = index[-1] <= index[-2] + node["diagonal"]
    return where(kept, x(*index), const(0, node.dtype))


def _compute_triu(node: Node, index: Index, x: Read) -> Expr:
    kept = index[-1] >= index[-2] + node["diagonal"]
    return where(kept, x(*index), const(0, node.dtype))


_TRIANGLES = (
    Sample((f32(7, 7),), {"diagonal": 0}),
    Sample((f32(2, 3, 5, 9),), {"diagonal": -1}),
    Sample((f32(13, 4),), {"diagonal": 2}),
    Sample((boolean(5, 5),), {"diagonal": 1}),
    Sample((f32(1, 3),), {"diagonal": -5}),
)
register(
    OpDef(
        "tril",
        "move",
        _infer_triangle,
        "`y[…, i, j] = x[…, i, j] where j <= i + diagonal, else 0`.",
        samples=_TRIANGLES,
        compute=_compute_tril,
        reference=lambda node, x: np.tril(x, node["diagonal"]),
        gradient=gradient_of.triangle,
    )
)
register(
    OpDef(
        "triu",
        "move",
        _infer_triangle,
        "`y[…, i, j] = x[…, i, j] where j >= i + diagonal, else 0`.",
        samples=_TRIANGLES,
        compute=_compute_triu,
        reference=lambda node, x: np.triu(x, node["diagonal"]),
        gradient=gradient_of.triangle,
    )
)
