"""Ranges of loop axes: where conditions become constant, and how an extent is covered by lanes.

`split_points` finds the values of an axis at which a border condition (padding, concatenation)
changes, so that a loop can be cut into border and interior and the simplifier drops the conditions
inside. `restrict` turns conditions on a reduction axis into bounds of its loop. `lane_pieces`
covers an extent by vectors of falling width.
"""

from __future__ import annotations

from collections.abc import Sequence

from sol.core.dims import Size
from sol.ir.expr import (
    Expr,
    apply,
    as_expr,
    bounds,
    const,
    from_linear,
    linear,
    substitute,
    walk,
    where,
)

_COMPARES = ("lt", "le", "gt", "ge", "eq", "ne")
_MOST_POINTS = 4


def extent_of(axis: Expr) -> Size:
    """The extent of an axis."""
    extent: Size = axis.value[1]
    return extent


def fixed_extent(axis: Expr) -> int:
    """The extent of an axis that does not depend on the batch."""
    extent = extent_of(axis)
    assert isinstance(extent, int), f"{axis} depends on the batch"
    return extent


def size_expr(size: Size) -> Expr:
    """A size as an index expression."""
    return from_linear(size, {})


def nonnegative_forms(compare: Expr) -> list[Expr]:
    """Linear forms L of an integer comparison, which is true exactly where all L >= 0;

    empty for `ne`.
    """
    a, b = compare.args
    match compare.op:
        case "lt":
            return [b - a - 1]
        case "le":
            return [b - a]
        case "gt":
            return [a - b - 1]
        case "ge":
            return [a - b]
        case "eq":
            return [a - b, b - a]
    return []


def is_index_compare(x: Expr) -> bool:
    """Whether x compares index expressions."""
    return x.op in _COMPARES and x.args[0].dtype.name == "i64"


def split_points(value: Expr, axis: Expr) -> list[int]:
    """Values of `axis` (constant extent) where a condition on it, and on axes reduced within,
    begins or ceases to hold throughout.
    """
    extent = extent_of(axis)
    assert isinstance(extent, int)
    found: set[int] = set()
    for part in walk(value):
        if not is_index_compare(part):
            continue
        forms = nonnegative_forms(part) or nonnegative_forms(apply("eq", *part.args))
        for form in forms:
            found.update(_threshold(form, axis))
    points = sorted(p for p in found if 0 < p < extent)
    return points if len(points) <= _MOST_POINTS else []


def _threshold(form: Expr, axis: Expr) -> list[int]:
    """The first (or one past the last) value of axis for which form >= 0 whatever the other axes
    are.
    """
    _, terms = linear(form)
    coef = terms.get(axis)
    if not isinstance(coef, int):
        return []
    rest = form - axis * coef
    if axis in walk(rest) or any(a.op != "axis" for a in linear(rest)[1]):
        return []
    low, _ = bounds(rest)
    if low is None:
        return []
    return [-(low // coef)] if coef > 0 else [low // -coef + 1]


def conjuncts(condition: Expr) -> list[Expr]:
    """The parts of a conjunction."""
    if condition.op == "and":
        return conjuncts(condition.args[0]) + conjuncts(condition.args[1])
    return [condition]


def restrict(
    axis: Expr, bodies: Sequence[Expr], neutral: Expr, inner: set[Expr]
) -> tuple[Expr, Expr, list[Expr]]:
    """Bounds [begin, end) of a reduction axis from conditions that all bodies `where(condition, x,
    neutral)` share, and the bodies without them.

    where(0 <= i + k and i + k < n, x, 0) summed over k  ->  k from max(0, -i) to min(K, n - i) of
    x. Conditions that depend on an axis of `inner` (loops further inside, lanes) stay.
    """
    begin, end = const(0), size_expr(extent_of(axis))
    if not all(b.op == "where" and b.args[2] is neutral for b in bodies):
        return begin, end, list(bodies)
    shared = [
        c
        for c in conjuncts(bodies[0].args[0])
        if all(c in conjuncts(b.args[0]) for b in bodies[1:])
    ]
    used = []
    for condition in shared:
        limits = _limits(condition, axis, inner)
        if limits is None:
            continue
        low, high = limits
        begin = apply("max", begin, low) if low is not None else begin
        end = apply("min", end, high) if high is not None else end
        used.append(condition)
    return begin, end, [_without(b, used) for b in bodies]


def _without(body: Expr, used: Sequence[Expr]) -> Expr:
    left = const(True)
    for condition in conjuncts(body.args[0]):
        if condition not in used:
            left = left & condition
    return where(left, body.args[1], body.args[2])


def _limits(
    condition: Expr, axis: Expr, inner: set[Expr]
) -> tuple[Expr | None, Expr | None] | None:
    if not is_index_compare(condition) or condition.op == "ne":
        return None
    low: Expr | None = None
    high: Expr | None = None
    for form in nonnegative_forms(condition):
        coef = linear(form)[1].get(axis)
        if not isinstance(coef, int):
            return None
        rest = form - axis * coef
        parts = set(walk(rest))
        if axis in parts or parts & inner or any(p.op == "load" for p in parts):
            return None
        if coef > 0:  # axis >= ceil(-rest / coef)
            bound = -(rest // coef)
            low = bound if low is None else apply("max", low, bound)
        else:  # axis <= floor(rest / -coef)
            bound = rest // -coef + 1
            high = bound if high is None else apply("min", high, bound)
    return low, high


def lane_pieces(extent: Size, widths: Sequence[int]) -> list[tuple[Expr, Expr, int]]:
    """(begin, end, width) that cover [0, extent):

    whole vectors first, then narrower ones, at last single elements.
    """
    if not isinstance(extent, int):
        whole = size_expr(extent) // widths[0] * widths[0]
        return [(const(0), whole, widths[0]), (whole, size_expr(extent), 1)]
    return [(const(begin), const(end), w) for begin, end, w in fixed_pieces(extent, widths)]


def fixed_pieces(extent: int, widths: Sequence[int]) -> list[tuple[int, int, int]]:
    """The same for an extent that is a number."""
    pieces = []
    begin = 0
    for width in (*widths, 1):
        end = begin + (extent - begin) // width * width
        if end > begin:
            pieces.append((begin, end, width))
        begin = end
    return pieces


def shifted(value: Expr, axis: Expr, inner: Expr, offset: Expr | int) -> Expr:
    """value with axis = inner + offset."""
    return substitute(value, {axis: inner + as_expr(offset)})
