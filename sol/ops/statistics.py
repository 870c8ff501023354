"""Reductions that are graphs of simpler ones: variance, norms, log-sum-exp."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from sol.core.dims import Dim, product
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.gradients import reduce as gradient_of
from sol.ops.registry import OpDef, Sample, register
from sol.ops.rules import need_axes, need_kind, need_number, of, reduced
from sol.ops.sampling import f32

Axes = tuple[int, ...]


def _infer_statistic(name: str, x: TensorType, axes: Axes, keepdims: bool) -> TensorType:
    need_axes(name, axes, x.rank)
    need_kind(name, x, "float")
    return of(x, reduced(x.shape, axes, keepdims))


# ---- var -----------------------------------------------------------------------------------------


def _infer_var(x: TensorType, *, axes: Axes, correction: float, keepdims: bool) -> TensorType:
    return _infer_statistic("var", x, axes, keepdims)


def _expand_var(graph: Builder, node: Node, x: Node) -> Node:
    axes = node["axes"]
    count = product(x.shape[a] for a in axes)
    mean = graph.add("mean", x, axes=axes, keepdims=True)
    centred = graph.add("sub", x, mean)
    total = graph.add("sum", graph.add("square", centred), axes=axes, keepdims=node["keepdims"])
    if isinstance(count, Dim) and node["correction"] in (0, 1):
        size = count - int(node["correction"])
        return graph.add("div", total, graph.add("extent", size=size, dtype=x.dtype))
    count = need_number("var", "the number of elements", count)
    # too few elements give 0/0 or x/0 as in PyTorch, which divides by max(0, count - correction)
    divisor = graph.constant(float(max(0, count - node["correction"])), x.dtype)
    return graph.add("div", total, divisor)


def _reference_var(node: Node, x: Any) -> Any:
    axes, correction = node["axes"], node["correction"]
    return np.var(x, axis=axes, ddof=correction, keepdims=node["keepdims"])


register(
    OpDef(
        "var",
        "reduce",
        _infer_var,
        "`y = Σ (x - mean x)² / (count - correction)` over `axes`, in two passes.",
        samples=(
            Sample((f32(3, 7),), {"axes": (1,), "correction": 1, "keepdims": False}),
            Sample((f32(2, 3, 5, 7),), {"axes": (2, 3), "correction": 0, "keepdims": True}),
            Sample((f32(17, 2),), {"axes": (0,), "correction": 0, "keepdims": False}),
            Sample((f32(33),), {"axes": (0,), "correction": 2, "keepdims": True}, 100, 101),
        ),
        expand=_expand_var,
        reference=_reference_var,
        gradient=gradient_of.var,
    )
)

# ---- norm ----------------------------------------------------------------------------------------


def _infer_norm(x: TensorType, *, ord: float, axes: Axes, keepdims: bool) -> TensorType:
    return _infer_statistic("norm", x, axes, keepdims)


def _expand_norm(graph: Builder, node: Node, x: Node) -> Node:
    where = {"axes": node["axes"], "keepdims": node["keepdims"]}
    order = float(node["ord"])
    if order == 2:
        return graph.add("sqrt", graph.add("sum", graph.add("square", x), **where))
    if order == 0:
        hits = graph.add("ne", x, graph.constant(0.0, x.dtype))
        return graph.add("sum", graph.add("cast", hits, dtype=x.dtype), **where)
    size = graph.add("abs", x)
    if abs(order) == inf:
        return graph.add("max_reduce" if order > 0 else "min_reduce", size, **where)
    if order == 1:
        return graph.add("sum", size, **where)
    total = graph.add("sum", graph.add("pow", size, graph.constant(order, x.dtype)), **where)
    return graph.add("pow", total, graph.constant(1 / order, x.dtype))


def _reference_norm(node: Node, x: Any) -> Any:
    order, axes, keepdims = float(node["ord"]), node["axes"], node["keepdims"]
    size = np.abs(x)
    if abs(order) == inf:
        return (np.max if order > 0 else np.min)(size, axis=axes, keepdims=keepdims)
    if order == 0:
        return np.sum(x != 0, axis=axes, keepdims=keepdims)
    return np.sum(size**order, axis=axes, keepdims=keepdims) ** (1 / order)


register(
    OpDef(
        "norm",
        "reduce",
        _infer_norm,
        "`y = (Σ |x|^ord)^(1/ord)` over `axes`; the largest |x| for ord = ∞, the smallest for -∞, "
        "the number of non-zero elements for 0.",
        samples=(
            Sample((f32(3, 7),), {"ord": 2.0, "axes": (1,), "keepdims": True}),
            Sample((f32(2, 3, 5),), {"ord": 1.0, "axes": (0, 2), "keepdims": False}),
            Sample((f32(17, 3),), {"ord": inf, "axes": (0,), "keepdims": False}),
            Sample((f32(3, 13),), {"ord": -inf, "axes": (1,), "keepdims": False}),
            Sample((f32(33),), {"ord": 3.0, "axes": (0,), "keepdims": False}),
            Sample((f32(5, 7),), {"ord": 0.0, "axes": (1,), "keepdims": True}),
        ),
        expand=_expand_norm,
        reference=_reference_norm,
        gradient=gradient_of.norm,
    )
)

# ---- logsumexp -----------------------------------------------------------------------------------


def _infer_logsumexp(x: TensorType, *, axes: Axes, keepdims: bool) -> TensorType:
    return _infer_statistic("logsumexp", x, axes, keepdims)


def _expand_logsumexp(graph: Builder, node: Node, x: Node) -> Node:
    where = {"axes": node["axes"], "keepdims": node["keepdims"]}
    top = graph.add("max_reduce", x, axes=node["axes"], keepdims=True)
    # an infinite maximum would give ∞ - ∞
    infinite = graph.add("isinf", top)
    top = graph.add("where", infinite, graph.constant(0.0, x.dtype), top)
    powers = graph.add("exp", graph.add("sub", x, top))
    total = graph.add("log", graph.add("sum", powers, **where))
    return graph.add("add", total, graph.add("reshape", top, shape=total.shape))


def _reference_logsumexp(node: Node, x: Any) -> Any:
    return np.logaddexp.reduce(x, axis=node["axes"], keepdims=node["keepdims"])


register(
    OpDef(
        "logsumexp",
        "reduce",
        _infer_logsumexp,
        "`y = ln Σ e^x` over `axes`, computed as `m + ln Σ e^(x - m)` with m the largest x.",
        samples=(
            Sample((f32(3, 7),), {"axes": (1,), "keepdims": False}, -90, 90),
            Sample((f32(2, 3, 5),), {"axes": (0, 2), "keepdims": True}),
            Sample((f32(33),), {"axes": (0,), "keepdims": False}, 500, 510),
        ),
        expand=_expand_logsumexp,
        reference=_reference_logsumexp,
        gradient=gradient_of.logsumexp,
    )
)
