"""Rows of Fourier transforms: products with matrices of cosines and sines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import Dim
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node
from sol.onnx.rows.table import row
from sol.onnx.values import Call, Results

_LONGEST = 4096  # of a transform as a product of matrices


def _matrix(points: int, rows: int, columns: int, inverse: bool) -> NDArray[np.complex128]:
    """e^(∓2πi jk / points), the inverse divided by points."""
    turns = np.outer(np.arange(rows), np.arange(columns)) % points
    sign = 2j if inverse else -2j
    found: NDArray[np.complex128] = np.exp(sign * np.pi * turns / points)
    return found / (points if inverse else 1)


def _transformed(c: Call, x: Node, axis: int, points: int, inverse: bool, onesided: bool) -> Node:
    """The transform of [..., parts], where parts are a real part and maybe an imaginary one."""
    extent, parts = x.shape[axis], x.shape[-1]
    if not isinstance(extent, int) or parts not in (1, 2) or not 0 < points <= _LONGEST:
        raise UnsupportedError(c.op, f"{points} points of {x.type}", expected="1 or 2 parts")
    axis, rank = axis % x.tensor.rank, x.tensor.rank
    used = min(extent, points // 2 + 1 if inverse and onesided else points)
    x = c.slice(x, axis, 0, used)
    columns = points // 2 + 1 if onesided and not inverse else points
    matrix = _matrix(points, used, columns, inverse)
    if inverse and onesided:  # the other half is the conjugate of this one
        paired = np.arange(used) > 0
        paired &= 2 * np.arange(used) != points
        matrix = matrix * np.where(paired, 2, 1)[:, None]
    # [parts, used] x [parts, columns] as one product of real numbers
    real, turned = (
        np.stack([matrix.real, matrix.imag], -1),
        np.stack([-matrix.imag, matrix.real], -1),
    )
    whole = np.stack([real, turned][: int(parts)], 1)
    results = 1 if inverse and onesided else 2
    whole = whole[..., :results].reshape(used * int(parts), columns * results)
    order = [a for a in range(rank - 1) if a != axis]
    moved = c.permute(x, (*order, axis, rank - 1))
    lead = moved.shape[:-2]
    flat = c.reshape(moved, (*lead, used * int(parts)))
    weight = c.parts.node(np.ascontiguousarray(whole.T.astype(x.dtype.numpy)))
    y = c.reshape(c.add("linear", flat, weight), (*lead, columns, results))
    back = list(range(rank - 2))
    back.insert(axis, rank - 2)
    return c.permute(y, (*back, rank - 1))


@row("DFT")
def dft(c: Call) -> Results:
    """Σ_j x[j] e^(-2πi jk / n) along an axis, and the inverse."""
    x = c.x(0)
    given = c.attr("axis", 1) if c.version < 20 else int(c.number(2, -2))
    axis = c.axis(given, x.tensor.rank)
    inverse, onesided = bool(c.attr("inverse", 0)), bool(c.attr("onesided", 0))
    extent = x.shape[axis]
    if isinstance(extent, Dim) or axis == x.tensor.rank - 1:
        raise UnsupportedError("DFT", f"along axis {axis} of {x.type}")
    points = c.number(1, 2 * (extent - 1) if inverse and onesided else extent)
    return _transformed(c, x, axis, int(points), inverse, onesided)


@row("STFT")
def stft(c: Call) -> Results:
    """Transforms of windows of a signal, which begin frame_step apart."""
    x, step = c.x(0), int(c.number(1))
    window = c.x(2) if c.has(2) else None
    signal = x.shape[1]
    width = c.number(3, c.shape(2)[0] if window is not None else signal)
    if isinstance(signal, Dim) or isinstance(width, Dim) or step < 1 or not 0 < width <= signal:
        raise UnsupportedError("STFT", f"windows of {width}, {step} apart, of {x.type}")
    count = (signal - width) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(width)
    y = c.add("take", x, c.parts.node(places.astype(np.int64)), axis=1)
    if window is not None:
        y = c.add("mul", y, c.reshape(window, (width, 1)))
    return _transformed(c, y, 2, width, inverse=False, onesided=bool(c.attr("onesided", 1)))
