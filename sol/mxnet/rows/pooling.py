"""Rows of pooling: max, mean, sum and Lp, over windows or whole images, in any layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.mxnet.attributes import Ints
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.convolution import back, in_layout
from sol.mxnet.rows.table import row

_LOWEST = float(np.finfo(np.float32).min)


@row("Pooling", "Pooling_v1", "_npx_pooling")
def pooling(
    c: Context,
    x: Node,
    *,
    kernel: Ints = (),
    pool_type: str = "max",
    global_pool: bool = False,
    pooling_convention: str = "valid",
    stride: Ints = (),
    pad: Ints = (),
    p_value: int | None = None,
    count_include_pad: bool | None = None,
    layout: str | None = None,
) -> Result:
    """The maximum, mean, sum or p-norm of windows."""
    c.need(x.tensor.rank in (3, 4, 5), f"an input {x.tensor}", "1, 2 or 3 spatial axes")
    rank = x.tensor.rank - 2
    x, axes = in_layout(c, layout, x)
    if pool_type == "lp":
        if p_value not in (1, 2, 3):
            c.refuse(f"p_value={p_value}")
        x = _power(c, x, p_value)
    if global_pool:
        y = _of_images(c, x, pool_type)
    else:
        c.need(len(kernel) == rank, f"kernel={kernel} of {x.tensor}", f"{rank} sizes")
        steps, pads = c.spatial(stride, rank, 1), c.spatial(pad, rank, 0)
        windows = _Windows(c, kernel, steps, pads, pooling_convention)
        y = windows.pooled(x, pool_type, count_include_pad in (None, True))
    if pool_type == "lp" and p_value is not None:
        y = _root(c, y, p_value)
    return back(c, y, axes)


def _power(c: Context, x: Node, p: int) -> Node:
    """x^p, as it is: MXNet takes no absolute value."""
    if p == 1:
        return x
    square = c.op("square", x)
    return square if p == 2 else c.op("mul", square, x)


def _root(c: Context, x: Node, p: int) -> Node:
    if p < 3:
        return x if p == 1 else c.op("sqrt", x)
    return c.op("mul", c.op("sign", x), c.op("pow", c.op("abs", x), c.constant(1 / 3, F32)))


def _of_images(c: Context, x: Node, kind: str) -> Node:
    axes = tuple(range(2, x.tensor.rank))
    op = {"max": "max_reduce", "avg": "mean", "sum": "sum", "lp": "sum"}.get(kind)
    if op is None:
        c.refuse(f"pool_type={kind!r}")
    return c.op(op, x, axes=axes, keepdims=True)


@dataclass(frozen=True)
class _Windows:
    """Windows of a fixed size, and how many there are of them by one of MXNet's conventions."""

    c: Context
    kernel: Ints
    stride: Ints
    pad: Ints
    convention: str

    def pooled(self, x: Node, kind: str, count_include_pad: bool) -> Node:
        """The windows of x, pooled."""
        if kind not in ("max", "avg", "sum", "lp"):
            self.c.refuse(f"pool_type={kind!r}")
        extents = tuple(self.c.size(x, 2 + k) for k in range(len(self.kernel)))
        self._check(x, extents)
        places = tuple(map(self._places, extents, self.kernel, self.stride, self.pad))
        for cut_off in (False, True):
            if self._as_sol(extents, cut_off) == places:
                return self._plain(x, kind, self.pad, cut_off, count_include_pad)
        y = self._plain(self._padded(x, places, kind), kind if kind == "max" else "sum")
        if kind != "avg":
            return y
        counts = map(self._counts, places, extents, self.kernel, self.stride, self.pad,
                     [count_include_pad] * len(places))  # fmt: skip
        total = np.ones((1, 1, *places), np.float32)
        for k, count in enumerate(counts):
            total = total * count.reshape(-1, *(1,) * (len(places) - 1 - k))
        return self.c.op("div", y, self.c.constant(total.astype(np.float32), F32))

    def _check(self, x: Node, extents: Ints) -> None:
        for name, values, least in (
            ("kernel", self.kernel, 1), ("stride", self.stride, 1), ("pad", self.pad, 0),
        ):  # fmt: skip
            self.c.need(all(v >= least for v in values), f"{name}={values}", f"{least} or more")
        fits = all(k <= n + 2 * p for k, n, p in zip(self.kernel, extents, self.pad))
        self.c.need(fits, f"a kernel {self.kernel} on {x.tensor}", "a smaller kernel")

    def _places(self, extent: int, size: int, step: int, pad: int) -> int:
        """How many windows there are on an axis."""
        rest = extent + 2 * pad - size
        match self.convention:
            case "valid":
                return rest // step + 1
            case "full":
                return -(-rest // step) + 1
        return self.c.refuse(f"pooling_convention={self.convention!r}")

    def _as_sol(self, extents: Ints, cut_off: bool) -> Ints | None:
        """How many windows Sol has; None where it does not take such padding."""
        if any(2 * p > k for p, k in zip(self.pad, self.kernel)):
            return None
        spatial = zip(extents, self.kernel, self.stride, self.pad)
        if not cut_off:
            return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in spatial)
        return tuple(
            -(-(n + 2 * p - k) // s) + 1 - (-(-(n + 2 * p - k) // s) * s >= n + p)
            for n, k, s, p in spatial
        )

    def _plain(
        self, x: Node, kind: str, pad: Ints = (), cut_off: bool = False, count: bool = True
    ) -> Node:
        pad = pad or (0,) * len(self.kernel)
        attrs = {"kernel": self.kernel, "stride": self.stride, "padding": pad, "ceil": cut_off}
        if kind == "max":
            return self.c.op("max_pool", x, **attrs, dilation=(1,) * len(pad))
        divisor = None if kind == "avg" else 1
        return self.c.op("avg_pool", x, **attrs, count_include_pad=count, divisor=divisor)

    def _padded(self, x: Node, places: Ints, kind: str) -> Node:
        """x padded, or cropped, to exactly what the windows see."""
        high = tuple(
            (n - 1) * s + k - p - self.c.size(x, 2 + axis)
            for axis, (n, k, s, p) in enumerate(zip(places, self.kernel, self.stride, self.pad))
        )
        return self.c.op(
            "pad", x, low=(0, 0, *self.pad), high=(0, 0, *high), mode="constant",
            value=_LOWEST if kind == "max" else 0.0,
        )  # fmt: skip

    @staticmethod
    def _counts(
        places: int, extent: int, size: int, step: int, pad: int, include: bool
    ) -> NDArray[Any]:
        """How many elements count in each window of an axis."""
        start = np.arange(places) * step - pad
        end = np.minimum(start + size, extent + pad)
        if include:
            return end - start
        return np.minimum(end, extent) - np.maximum(start, 0)
