"""Sums over the rows of a map whose channels lie innermost: all channels of a few rows, then the
next rows.

    y[c] = f(sum over h and w of x[h, w, c])  ->  sums[c] = 0
                                                 for h: sums[c] += sum over w of x[h, w, c]
                                                 y[c] = f(sums[c])

A loop over channels outside of both sums would read memory in pieces of a few vectors, far from
each other, which is some times slower where the map is in no cache. Several sums over the same rows
share the loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sol.core.dtypes import F32
from sol.ir.expr import Expr, const, load, reduce, substitute, walk
from sol.ir.loop import For, Stmt
from sol.lower.nest import NestBuilder, Output, nest, outer_reductions, side_by_side
from sol.lower.ranges import extent_of, size_expr
from sol.lower.vector import choose_lane

_FEWEST_ROWS = 16  # that are added up at once


@dataclass(frozen=True, slots=True)
class Rows:
    """Statements that compute such sums in an array of scratch memory, and its size."""

    code: tuple[Stmt, ...]
    size: int


def summed_by_rows(
    builder: NestBuilder, axes: Sequence[Expr], outputs: Sequence[Output], array: str
) -> Rows | None:
    """The nest of sums along whose results lanes run, all over the same rows; None for others."""
    if len(axes) != 1 or not isinstance(extent_of(axes[0]), int):
        return None
    totals = [_total(builder, axes[0], output) for output in outputs]
    if any(total is None for total in totals):
        return None
    (lane,), size = axes, extent_of(axes[0])
    first, found = totals[0], [t for t in totals if t is not None]
    assert first is not None
    assert isinstance(size, int)
    if any(
        [extent_of(a) for a in t.args[1:]] != [extent_of(a) for a in first.args[1:]] for t in found
    ):
        return None
    outer, inner = _split(first.args[1:])
    if not outer:
        return None
    sums = [load("@" + array, F32, lane + k * size) for k in range(len(outputs))]
    steps = []
    for own, total in zip(sums, found):
        body = substitute(total.args[0], dict(zip(total.args[1:], first.args[1:])))
        steps.append(Output(array, own.args[0], own + reduce("sum", inner, body)))
    step = side_by_side(builder, lane, steps)
    for a in reversed(outer):
        step = (For(a, const(0), size_expr(extent_of(a)), step),)
    results = [
        Output(o.buffer, o.index, substitute(o.value, {total: own}))
        for o, total, own in zip(outputs, found, sums)
    ]
    begin = [Output(array, own.args[0], const(0.0)) for own in sums]
    code = (*nest(builder, axes, begin), *step, *nest(builder, axes, results))
    return Rows(code, size * len(outputs))


def _total(builder: NestBuilder, lane: Expr, output: Output) -> Expr | None:
    """The one sum that an output consists of, if lanes run along the result."""
    reductions = outer_reductions([output.value])
    if len(reductions) != 1 or output.index is None or not _plain(reductions[0]):
        return None
    (total,) = reductions
    best = choose_lane((lane,), total.args[1:], [output.value], output.index, builder.access)
    return total if best is lane else None


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
