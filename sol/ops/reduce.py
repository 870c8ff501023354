"""Reductions over axes: sums, extremes, statistics, norms, and running sums.

The plain ones are one `reduce` expression; the others are graphs of these (`expand`). Statistics
take two passes: the mean, then the mean of squared differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from sol.core.dims import product
from sol.core.dtypes import BOOL, I64, DType
from sol.ir.expr import Expr, ReduceKind, cast, const, where
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.gradients import reduce as gradient_of
from sol.ops.maps import axes_of, over, size
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import need, need_axes, need_axis, need_kind, of, reduced
from sol.ops.sampling import boolean, f32, i64

Axes = tuple[int, ...]
Result = Literal["same", "sum", "float", "bool"]


def result_dtype(rule: Result, dtype: DType) -> DType:
    """The type of a reduction: sums of integers and booleans are int64, means floating point."""
    match rule:
        case "bool":
            return BOOL
        case "sum":
            return dtype if dtype.kind == "float" else I64
        case _:
            return dtype


def bound_index(node: Node, index: Index, x: Read) -> tuple[tuple[Expr, ...], list[Expr]]:
    """The axes of a reduction over node["axes"], and the index of x with them filled in."""
    reduced_axes: Axes = node["axes"]
    bound = axes_of(node, [x.shape[a] for a in reduced_axes])
    by_axis = dict(zip(reduced_axes, bound))
    kept = iter(index if not node["keepdims"] else _outside(index, reduced_axes))
    return bound, [by_axis[a] if a in by_axis else next(kept) for a in range(x.type.rank)]


def _outside(index: Index, axes: Axes) -> list[Expr]:
    return [i for k, i in enumerate(index) if k not in axes]


def _reduction(kind: ReduceKind) -> Callable[..., Expr]:
    def compute(node: Node, index: Index, x: Read) -> Expr:
        bound, inner = bound_index(node, index, x)
        element = cast(x(*inner), node.dtype)
        return over(kind, bound, element)

    return compute


def _compute_mean(node: Node, index: Index, x: Read) -> Expr:
    bound, inner = bound_index(node, index, x)
    count = product(x.shape[a] for a in node["axes"])
    total = over("sum", bound, x(*inner))
    if isinstance(count, int):
        return total / (float(count) if count else float("nan"))
    return total / cast(size(count), node.dtype)


def _over(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy reduction as the reference of an operator."""

    def reference(node: Node, x: Any) -> Any:
        return function(x, axis=node["axes"], keepdims=node["keepdims"], dtype=node.dtype.numpy)

    return reference


def _test(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(node: Node, x: Any) -> Any:
        return function(x, axis=node["axes"], keepdims=node["keepdims"])

    return reference


def _infer_reduction(name: str, rule: Result, kinds: tuple[str, ...]) -> Callable[..., TensorType]:
    def infer(x: TensorType, *, axes: Axes, keepdims: bool) -> TensorType:
        need_axes(name, axes, x.rank)
        need_kind(name, x, *kinds)
        for a in axes:
            needs_elements = name in ("max_reduce", "min_reduce")
            need(x.shape[a] != 0 or not needs_elements, name, f"no elements: {x}", "at least one")
        return of(x, reduced(x.shape, axes, keepdims), result_dtype(rule, x.dtype))

    return infer


def _samples(kinds: tuple[str, ...], low: float, high: float) -> tuple[Sample, ...]:
    floats = (
        Sample((f32(3, 7),), {"axes": (1,), "keepdims": False}, low, high),
        Sample((f32(2, 3, 5, 7),), {"axes": (2, 3), "keepdims": True}, low, high),
        Sample((f32(2, 17, 3),), {"axes": (1,), "keepdims": False}, low, high),
        Sample((f32(4, 1, 5),), {"axes": (0, 2), "keepdims": True}, low, high),
        Sample((f32(33),), {"axes": (0,), "keepdims": False}, low, high),
        Sample((f32(3, 5),), {"axes": (0, 1), "keepdims": False}, low, high),
        Sample((f32(2, 3),), {"axes": (), "keepdims": False}, low, high),
    )
    others = (Sample((i64(5, 7),), {"axes": (0,), "keepdims": False}, -9, 9),)
    bools = (Sample((boolean(3, 13),), {"axes": (1,), "keepdims": True}),)
    return floats + (others if "int" in kinds else ()) + (bools if "bool" in kinds else ())


_Row = tuple[str, str, Result, tuple[str, ...], Callable[..., Expr], Callable[..., Any], Any]
_ALL = ("float", "int", "bool")

_REDUCTIONS: tuple[_Row, ...] = (
    ("sum", "y = Σ x", "sum", _ALL, _reduction("sum"), _over(np.sum),
     gradient_of.sum_),
    ("prod", "y = Π x", "sum", _ALL, _reduction("prod"), _over(np.prod),
     gradient_of.prod),
    ("mean", "y = Σ x / count", "same", ("float",), _compute_mean, _over(np.mean),
     gradient_of.mean),
    ("max_reduce", "y = the largest x; NaN if one is NaN", "same", _ALL,
     _reduction("max"), _test(np.max), gradient_of.extreme),
    ("min_reduce", "y = the smallest x; NaN if one is NaN", "same", _ALL,
     _reduction("min"), _test(np.min), gradient_of.extreme),
    ("any", "y = one x is not 0", "bool", _ALL, _reduction("any"), _test(np.any), None),
    ("all", "y = no x is 0", "bool", _ALL, _reduction("all"), _test(np.all), None),
)  # fmt: skip

for _name, _doc, _rule, _kinds, _compute, _reference, _gradient in _REDUCTIONS:
    register(
        OpDef(
            _name,
            "reduce",
            _infer_reduction(_name, _rule, _kinds),
            f"`{_doc}` over `axes`, which stay as axes of size 1 if `keepdims`.",
            samples=_samples(_kinds, -2, 2) if _name != "prod" else _samples(_kinds, 0.5, 1.5),
            compute=_compute,
            reference=_reference,
            gradient=_gradient,
            why="" if _gradient else "its result is no floating-point number",
        )
    )

# ---- running sums and places of extremes ---------------------------------------------------------


def _infer_cumsum(x: TensorType, *, axis: int) -> TensorType:
    need_axis("cumsum or cumprod", axis, x.rank)
    return of(x, x.shape, result_dtype("sum", x.dtype))


def _running(kind: ReduceKind, neutral: int) -> Callable[..., Expr]:
    def compute(node: Node, index: Index, x: Read) -> Expr:
        axis = node["axis"]
        (k,) = axes_of(node, [x.shape[axis]])
        element = cast(x(*index[:axis], k, *index[axis + 1 :]), node.dtype)
        return over(kind, [k], where(k <= index[axis], element, const(neutral, node.dtype)))

    return compute


def _running_samples(low: float, high: float) -> tuple[Sample, ...]:
    return (
        Sample((f32(3, 7),), {"axis": 1}, low, high),
        Sample((f32(13, 2, 1),), {"axis": 0}, low, high),
        Sample((i64(2, 17),), {"axis": 1}, -9, 9),
        Sample((boolean(24),), {"axis": 0}),
    )


register(
    OpDef(
        "cumsum",
        "reduce",
        _infer_cumsum,
        "`y[…, i, …] = Σ_{k ≤ i} x[…, k, …]` along `axis`.",
        samples=_running_samples(-1.0, 1.0),
        compute=_running("sum", 0),
        reference=lambda node, x: np.cumsum(x, node["axis"], node.dtype.numpy),
        gradient=gradient_of.cumsum,
    )
)
register(
    OpDef(
        "cumprod",
        "reduce",
        _infer_cumsum,
        "`y[…, i, …] = Π_{k ≤ i} x[…, k, …]` along `axis`.",
        samples=_running_samples(0.5, 1.5),
        compute=_running("prod", 1),
        reference=lambda node, x: np.cumprod(x, node["axis"], node.dtype.numpy),
        why="it would divide by elements",
    )
)


def _infer_place(x: TensorType, *, axis: int, keepdims: bool) -> TensorType:
    need_axis("argmax or argmin", axis, x.rank)
    need_kind("argmax or argmin", x, "float", "int")
    need(x.shape[axis] != 0, "argmax or argmin", f"no elements: {x}", "at least one")
    return of(x, reduced(x.shape, (axis,), keepdims), I64)


def _expand_place(extreme: str) -> Callable[..., Node]:
    """The least index where x is the extreme, or not a number: then the extreme is not either."""

    def expand(graph: Builder, node: Node, x: Node) -> Node:
        axis, keepdims = node["axis"], node["keepdims"]
        best = graph.add(extreme, x, axes=(axis,), keepdims=True)
        hit = graph.add("eq", x, best)
        if x.dtype.kind == "float":
            hit = graph.add("logical_or", hit, graph.add("isnan", x))
        place = graph.add("iota", shape=x.shape, axis=axis, dtype=I64)
        never = graph.constant(np.iinfo(np.int64).max, I64)
        places = graph.add("where", hit, place, never)
        return graph.add("min_reduce", places, axes=(axis,), keepdims=keepdims)

    return expand


def _reference_place(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, x: function(x, axis=node["axis"], keepdims=node["keepdims"])


for _name, _extreme, _function in (
    ("argmax", "max_reduce", np.argmax),
    ("argmin", "min_reduce", np.argmin),
):
    register(
        OpDef(
            _name,
            "reduce",
            _infer_place,
            f"The first index along `axis` of the {_name[3:]}imum; the first NaN, if there is one.",
            samples=(
                Sample((f32(3, 7),), {"axis": 1, "keepdims": False}),
                Sample((f32(2, 17, 3),), {"axis": 1, "keepdims": True}),
                Sample((f32(33),), {"axis": 0, "keepdims": False}),
                Sample((i64(5, 13),), {"axis": 1, "keepdims": False}, -3, 3),
            ),
            expand=_expand_place(_extreme),
            reference=_reference_place(_function),
            why="places are whole numbers",
        )
    )
