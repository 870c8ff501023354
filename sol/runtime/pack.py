"""Weights brought into the order in which kernels read them, in native code and on all threads."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.kernels.pack import Recipe
from sol.runtime.native import runtime

Array = NDArray[Any]
_LARGEST_TRANSFORM = 64  # taps, as in pack.c


class _Packing(ctypes.Structure):
    """struct sol_packing."""

    _fields_ = (
        ("source", ctypes.c_void_p),
        ("target", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("groups", "outputs", "channels")),
        *((name, ctypes.c_int64) for name in ("group_step", "output_step", "channel_step")),
        *((name, ctypes.c_int64) for name in ("plain", "taps")),
        ("tap_steps", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("row_step", "products")),
        ("transform", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("width", "lanes", "share")),
    )


def fits(weight: Array, recipe: Recipe) -> bool:
    """Whether `pack` takes this weight."""
    return weight.dtype == np.float32 and recipe.taps.shape[1] <= _LARGEST_TRANSFORM


def pack(weight: Array, recipe: Recipe, target: Array, threads: int) -> None:
    """The packed weight, to `target`: contiguous float32, `recipe.size` elements."""
    assert target.size == recipe.size
    assert target.flags.c_contiguous
    taps = np.ascontiguousarray(recipe.taps, np.int64)
    rows = np.ascontiguousarray(recipe.rows, np.int64)
    transform = recipe.transform
    factors = None if transform is None else np.ascontiguousarray(transform, np.float64)
    packing = _Packing(
        weight.ctypes.data, target.ctypes.data,
        recipe.groups, recipe.outputs, recipe.channels,
        recipe.group_step, recipe.output_step, recipe.channel_step,
        *taps.shape, taps.ctypes.data, rows.ctypes.data, recipe.row_step,
        1 if factors is None else factors.shape[1],
        None if factors is None else factors.ctypes.data,
        recipe.width, recipe.lanes, recipe.share or recipe.columns,
    )  # fmt: skip
    status = runtime().sol_pack(ctypes.addressof(packing), threads)
    assert status == 0, "the runtime refused a packing"
