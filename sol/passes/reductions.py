"""Pooling and reductions in one form: what reduces whole axes is a reduction, what has a fixed
window is a pooling, and reductions of reductions are one.

Rules of the pass `canonical`; each is `before -> after`, in its text or in the docstring of its
function.
"""

from __future__ import annotations

from sol.core.dims import Size
from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter
from sol.passes.axes import product
from sol.passes.operators import REDUCTIONS


def _spatial(node: Node) -> tuple[int, ...]:
    return tuple(range(2, node.tensor.rank))


def _reduced(rw: Rewriter, x: Node, pool: str) -> Node:
    """All pixels of x reduced to one, as the pooling does it."""
    op = "mean" if "avg" in pool else "max_reduce"
    return rw.add(op, x, axes=_spatial(x), keepdims=True)


def _adaptive(rw: Rewriter, m: Match) -> Node | None:
    """`adaptive_avg_pool(x)` to 1 -> `mean(x)`; to its own size -> `x`; to a divisor -> `avg_pool`

    And `adaptive_max_pool` to `max_reduce`, `x`, `max_pool`.
    """
    x, size = m["x"], m.root["size"]
    extents = x.shape[2:]
    if all(s == 1 for s in size):
        return _reduced(rw, x, m.root.op)
    if x.type == m.root.type:
        return x
    if not all(
        isinstance(e, int) and e > 0 and s > 0 and e % s == 0 for e, s in zip(extents, size)
    ):
        return None
    window = tuple(e // s for e, s in zip(extents, size))
    zero = (0,) * len(window)
    if m.root.op == "adaptive_max_pool":
        one = (1,) * len(window)
        return rw.add(
            "max_pool", x, kernel=window, stride=window, padding=zero, dilation=one, ceil=False
        )
    return rw.add(
        "avg_pool", x, kernel=window, stride=window, padding=zero, ceil=False,
        count_include_pad=True, divisor=None,
    )  # fmt: skip


def _whole_window(rw: Rewriter, m: Match) -> Node | None:
    """`avg_pool(x)` of all pixels -> `mean(x)`; `max_pool(x)` of all pixels -> `max_reduce(x)`

    And a window of one pixel in steps of one pixel -> `x`.
    """
    x, node = m["x"], m.root
    if any(node["padding"]) or node.get("divisor") is not None:
        return None
    if all(k == 1 for k in node["kernel"]) and all(s == 1 for s in node["stride"]):
        return x if x.type == node.type else None
    whole = node["kernel"] == x.shape[2:] and all(d == 1 for d in node.get("dilation", ()))
    return _reduced(rw, x, node.op) if whole and all(s == 1 for s in node.shape[2:]) else None


def _sum_to_mean(rw: Rewriter, m: Match) -> Node | None:
    """`div(sum(x), count)` -> `mean(x)`, count the number of elements that are added"""
    total = m["total"]
    count = product([m["x"].shape[a] for a in total["axes"]])
    if count != rw.number(m["$n"]):
        return None
    return rw.add("mean", m["x"], **dict(total.attrs))


def _kept(shape: tuple[Size, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of the input that a reduction without keepdims leaves."""
    return tuple(a for a in range(len(shape)) if a not in axes)


def _reduce_reduce(rw: Rewriter, m: Match) -> Node | None:
    """`sum(sum(x, a), b)` -> `sum(x, a and b)`, so for mean, prod, max, min, any and all"""
    inner, outer, x = m["inner"], m.root, m["x"]
    if inner.op != outer.op or not rw.is_single(inner):
        return None
    places = range(x.tensor.rank) if inner["keepdims"] else _kept(x.shape, inner["axes"])
    axes = {*inner["axes"], *(places[a] for a in outer["axes"])}
    merged = rw.add(outer.op, x, axes=tuple(sorted(axes)), keepdims=outer["keepdims"])
    # the axes of the inner one may have stayed, or have gone, unlike those of the outer one
    return merged if merged.type == outer.type else rw.add("reshape", merged, shape=outer.shape)


def _reshaped_reduction(rw: Rewriter, m: Match) -> Node | None:
    """`reshape(mean(x, keepdims=True))` -> `mean(x, keepdims=False)`, and the other way"""
    node = m["r"]
    attrs = {**dict(node.attrs), "keepdims": not node["keepdims"]}
    return rw.add(node.op, m["x"], **attrs) if rw.is_single(node) else None


def _one_element(rw: Rewriter, m: Match) -> Node | None:
    """`sum(x)` over axes of size 1 -> `reshape(x)`, so for mean, prod, max, min, any and all"""
    if not m.root["axes"] or any(m["x"].shape[a] != 1 for a in m.root["axes"]):
        return None
    return rw.add("reshape", m["x"], shape=m.root.shape)


def _one_pixel(rw: Rewriter, m: Match) -> Node | None:
    """`interpolate(x)` of a single pixel -> `expand(x)`: every pixel of the result is that one"""
    if any(s != 1 for s in m["x"].shape[2:]):
        return None
    return rw.add("expand", m["x"], shape=m.root.shape)


RULES: tuple[Rule, ...] = (
    rule("adaptive_avg_pool|adaptive_max_pool(x)", _adaptive),
    rule("avg_pool|max_pool(x)", _whole_window),
    rule("div(sum:total(x), $n)", _sum_to_mean),
    rule(f"{REDUCTIONS}({REDUCTIONS}:inner(x))", _reduce_reduce),
    rule(f"reshape({REDUCTIONS}:r(x))", _reshaped_reduction),
    rule(f"{REDUCTIONS}(x)", _one_element),
    rule("interpolate(x)", _one_pixel),
)
