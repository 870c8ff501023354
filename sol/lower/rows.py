"""Sums over the rows of a map whose channels lie innermost: all channels of a few rows, then the
next rows.

    y[c] = f(sum over h and w of x[h, w, c])  ->  sums[c] = 0
                                                 for h: sums[c] += sum over w of x[h, w, c]
                                                 y[c] = f(sums[c])

A loop over channels outside of both sums would read memory in pieces of a few vectors, far from
each other, which is some times slower where the map is in no cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sol.core.dtypes import F32
from sol.ir.expr import Expr, const, load, reduce, substitute, walk
from sol.ir.loop import For, Stmt
from sol.lower.nest import NestBuilder, Output, nest, outer_reductions
from sol.lower.ranges import extent_of, size_expr
from sol.lower.vector import choose_lane

_FEWEST_ROWS = 16  # that are added up at once


@dataclass(frozen=True, slots=True)
class Rows:
    """Statements that compute such a sum in an array of scratch memory, and its size."""

    code: tuple[Stmt, ...]
    size: int


def summed_by_rows(
    builder: NestBuilder, axes: Sequence[Expr], output: Output, array: str
) -> Rows | None:
    """The nest of a lone sum along whose result lanes run; None for others."""
    reductions = outer_reductions([output.value])
    if len(axes) != 1 or len(reductions) != 1 or output.index is None:
        return None
    (total,) = reductions
    outer, inner = _split(total.args[1:])
    lane = choose_lane(tuple(axes), total.args[1:], [output.value], output.index, builder.access)
    size = extent_of(axes[0])
    if not outer or lane is not axes[0] or not isinstance(size, int) or not _plain(total):
        return None
    sums = load("@" + array, F32, lane)
    more = Output(array, lane, sums + reduce("sum", inner, total.args[0]))
    step = nest(builder, axes, (more,))
    for a in reversed(outer):
        step = (For(a, const(0), size_expr(extent_of(a)), step),)
    result = Output(output.buffer, output.index, substitute(output.value, {total: sums}))
    begin = nest(builder, axes, (Output(array, lane, const(0.0)),))
    return Rows((*begin, *step, *nest(builder, axes, (result,))), size)


def _plain(total: Expr) -> bool:
    """A sum of numbers that holds no other sum."""
    inside = any(p.op == "reduce" for p in walk(total.args[0]))
    return total.value == "sum" and total.dtype == F32 and not inside


def _split(axes: Sequence[Expr]) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
    """The inner axes that count enough rows, and those outside of them."""
    rows, first = 1, len(axes)
    while first and rows < _FEWEST_ROWS:
        first -= 1
        extent = extent_of(axes[first])
        rows *= extent if isinstance(extent, int) else _FEWEST_ROWS
    return tuple(axes[:first]), tuple(axes[first:])
