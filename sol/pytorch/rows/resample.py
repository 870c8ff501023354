"""Rows of padding, interpolation and sampling at given points."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sol.core.dims import Shape, Size
from sol.ir.graph import Node
from sol.pytorch.context import Context, Result
from sol.pytorch.rows.table import Row, put, row

# ---- padding

_PAD_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}
_PAD_NUMBERS = (
    "constant",
    "reflect",
    "replicate",
    "circular",
)  # the order of PyTorch's enumeration


def _pad(c: Context, x: Node, pads: Sequence[Size], mode: str, value: float) -> Node:
    """PyTorch lists pairs from the last axis on; Sol wants one number for each axis and side."""
    if any(not isinstance(p, int) for p in pads):
        c.refuse("padding that depends on the batch size B")
    if not any(pads):
        return x
    low, high = [0] * x.tensor.rank, [0] * x.tensor.rank
    for n in range(len(pads) // 2):
        low[-1 - n], high[-1 - n] = int(pads[2 * n]), int(pads[2 * n + 1])  # type: ignore[arg-type]
    convert: Any = {"bool": bool, "int": int, "float": float}[x.dtype.kind]
    return c.op("pad", x, low=tuple(low), high=tuple(high), mode=mode, value=convert(value))


@row("pad")
def pad(
    c: Context, x: Node, pads: Sequence[Size], mode: str = "constant", value: float | None = None
) -> Result:
    """Padding by mode."""
    return _pad(c, x, pads, _PAD_MODES[mode], value or 0)


@row("_pad_enum")
def pad_enum(
    c: Context, x: Node, pads: Sequence[Size], mode: int, value: float | None = None
) -> Result:
    """Padding by the number of a mode."""
    return _pad(c, x, pads, _PAD_NUMBERS[mode], value or 0)


@row("constant_pad_nd")
def constant_pad(c: Context, x: Node, pads: Sequence[Size], value: float = 0) -> Result:
    """Padding with a number; negative padding cuts."""
    return _pad(c, x, pads, "constant", value)


def _pad_row(mode: str) -> Row:
    def translate(c: Context, x: Node, pads: Sequence[Size]) -> Result:
        return _pad(c, x, pads, mode, 0)

    return translate


for _rank in (1, 2, 3):
    put(f"reflection_pad{_rank}d", _pad_row("reflect"))
    put(f"replication_pad{_rank}d", _pad_row("replicate"))
put("_pad_circular", _pad_row("circular"))


# ---- interpolation

_INTERPOLATIONS = {
    "upsample_nearest": "nearest", "_upsample_nearest_exact": "nearest_exact",
    "upsample_linear": "linear", "upsample_bilinear": "linear", "upsample_trilinear": "linear",
    "upsample_bicubic": "cubic",
}  # fmt: skip


def _interpolate(c: Context, x: Node, align: bool, scales: Sequence[float | None] | None) -> Node:
    found = re.match(r"aten\.(\w+?)\dd\.", c.target)
    assert found is not None
    size: Shape = c.shape[2:]
    factors = (
        None
        if not scales or any(s is None for s in scales)
        else tuple(float(s) for s in scales if s is not None)
    )
    return c.op(
        "interpolate",
        x,
        size=size,
        mode=_INTERPOLATIONS[found[1]],
        align_corners=align,
        scales=factors,
    )


def _nearest(c: Context, x: Node, size: Any, *scales: Any, **named: Any) -> Result:
    return _interpolate(c, x, False, _factors(scales, named))


def _smooth(
    c: Context, x: Node, size: Any, align_corners: bool, *scales: Any, **named: Any
) -> Result:
    return _interpolate(c, x, align_corners, _factors(scales, named))


def _factors(scales: tuple[Any, ...], named: dict[str, Any]) -> Sequence[float | None]:
    """`.vec` overloads have a list of factors, others one argument for each axis."""
    values = (*scales, *named.values())
    if len(values) == 1 and isinstance(values[0], (list, tuple)):
        return tuple(values[0])
    return values


for _name in ("upsample_nearest", "_upsample_nearest_exact"):
    for _rank in (1, 2, 3):
        put(f"{_name}{_rank}d", _nearest)
        put(f"{_name}{_rank}d.vec", _nearest)
for _name in (
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_trilinear3d",
    "upsample_bicubic2d",
):
    put(_name, _smooth)
    put(f"{_name}.vec", _smooth)


# ---- sampling

_SAMPLES = ("bilinear", "nearest", "bicubic")
_BORDERS = ("zeros", "border", "reflection")


@row("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(
    c: Context, x: Node, grid: Node, mode: int, padding: int, align_corners: bool
) -> Result:
    """Values of an image at given points."""
    return c.op(
        "grid_sample",
        x,
        grid,
        mode=_SAMPLES[mode],
        padding_mode=_BORDERS[padding],
        align_corners=align_corners,
    )
