"""Padding that becomes part of the convolution or pooling behind it, where it costs nothing.

Rules of the pass `simplify`; each is `before -> after` in the docstring of its function.
"""

from __future__ import annotations

import math

from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter

_Pads = tuple[tuple[int, int], ...]
_LEAST = {"relu": 0, "sigmoid": 0, "hardsigmoid": 0, "exp": 0, "softmax": 0}


def _spatial_pads(pad: Node, value: float) -> _Pads | None:
    """(low, high) per spatial axis, if nothing but these is padded, with this value."""
    if pad["mode"] != "constant" or pad["value"] != value:
        return None
    pads = tuple(zip(pad["low"], pad["high"]))
    if any(p != (0, 0) for p in pads[:2]) or any(p < 0 for pair in pads for p in pair):
        return None
    return pads[2:]


def _symmetric(pads: _Pads | None) -> tuple[int, ...] | None:
    if pads is None or any(low != high for low, high in pads):
        return None
    return tuple(low for low, _ in pads)


def _into_conv(rw: Rewriter, m: Match) -> Node | None:
    """`conv(pad(x, 0), w)` -> `conv(x, w)` with more padding"""
    pad, *parameters = rw.inputs_of(m.root)
    pads = _spatial_pads(pad, 0) if pad.op == "pad" else None
    if pads is None:
        return None
    total = tuple((a + c, b + d) for (a, b), (c, d) in zip(m.root["padding"], pads))
    attrs = {**dict(m.root.attrs), "padding": total}
    return rw.add("conv", rw.inputs_of(pad)[0], *parameters, **attrs)


def _into_max_pool(rw: Rewriter, m: Match) -> Node | None:
    """`max_pool(pad(x, v))` -> `max_pool(x)` with more padding, the same on both sides

    v is -infinity, or no element of x is smaller: zeros around the result of a relu.
    """
    value = m["p"]["value"]
    pads = _symmetric(_spatial_pads(m["p"], value))
    if pads is None or not (value == -math.inf or _counts_not(m["x"], value, m.root)):
        return None
    total = tuple(a + b for a, b in zip(m.root["padding"], pads))
    return rw.add("max_pool", m["x"], **{**dict(m.root.attrs), "padding": total})


def _counts_not(x: Node, value: float, pool: Node) -> bool:
    """Whether the maximum of a window is the same without padding of this value: x is nowhere
    smaller, and each window holds an element of x."""
    least = x["low"] if x.op == "clamp" else _LEAST.get(x.op)
    whole = not pool["ceil"] and set(pool["dilation"]) == {1} and min(pool["kernel"]) > 1
    return least is not None and value <= least and whole


def _into_avg_pool(rw: Rewriter, m: Match) -> Node | None:
    """`avg_pool(pad(x, 0))` -> `avg_pool(x, count_include_pad=True)` with more padding"""
    pads = _symmetric(_spatial_pads(m["p"], 0))
    counted = m.root["count_include_pad"] or not any(m.root["padding"])
    if pads is None or not counted or m.root["ceil"]:
        return None
    total = tuple(a + b for a, b in zip(m.root["padding"], pads))
    attrs = {**dict(m.root.attrs), "padding": total, "count_include_pad": True}
    return rw.add("avg_pool", m["x"], **attrs)


def _dead_taps(rw: Rewriter, m: Match) -> Node | None:
    """`conv(x, W)` -> `conv(x, slice(W))` without the taps that meet nothing but padding"""
    x, weight, *bias = rw.inputs_of(m.root)
    attrs, padding = dict(m.root.attrs), list(m.root["padding"])
    for k in range(len(padding)):
        axis = 2 + k
        size, results, taps = x.shape[axis], m.root.shape[axis], weight.shape[axis]
        stride, dilation, low = m.root["stride"][k], m.root["dilation"][k], padding[k][0]
        if not isinstance(size, int) or not isinstance(results, int) or not isinstance(taps, int):
            return None
        places = [range(t * dilation - low, t * dilation - low + results * stride, stride)
                  for t in range(taps)]  # fmt: skip
        used = [t for t, p in enumerate(places) if any(0 <= i < size for i in p)]
        if not used or len(used) == taps:
            continue
        first, count = used[0], used[-1] - used[0] + 1
        low -= first * dilation
        high = (results - 1) * stride + dilation * (count - 1) + 1 - size - low
        if count == taps or low < 0 or high < 0:
            continue
        padding[k] = (low, high)
        weight = rw.add("slice", weight, axis=axis, start=first, stop=first + count, step=1)
    if tuple(padding) == m.root["padding"]:
        return None
    return rw.add("conv", x, weight, *bias, **{**attrs, "padding": tuple(padding)})


RULES: tuple[Rule, ...] = (
    rule("conv(*)", _into_conv),
    rule("conv(*)", _dead_taps),
    rule("max_pool(pad:p(x))", _into_max_pool),
    rule("avg_pool(pad:p(x))", _into_avg_pool),
)
