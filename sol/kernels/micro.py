"""The register-tiled micro-kernel: a few rows of A times a few vectors of columns, accumulated over
k, as loop statements.

    acc[p][j] += A[p, k] * W[k, j]        p < rows, j < vectors, each acc a vector of `lanes`
    columns

A is read as scalars that the multiply-add broadcasts, W as vectors; all accumulators are named
variables, so they live in registers (R. A. van de Geijn and K. Goto, "Anatomy of High-Performance
Matrix Multiplication", ACM TOMS 2008, for panels and tiles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load
from sol.ir.expr import local_value as local
from sol.ir.loop import Fetch, For, If, Let, Set, Stmt, Store, Var
from sol.kernels.tiles import pieces
from sol.lower.ranges import extent_of, size_expr

# floats that weights are fetched ahead: two pages, at whose ends the processor's own hints end
AHEAD = 2048
_LONGEST_SUM = 128  # products added up in one go: rounding errors grow with the length


@dataclass(frozen=True, slots=True)
class Micro:
    """One tile.

    a(p, k) and w(k, j, lane) give the linear indices of A in buffer `a_name` and W in `w_name`.
    loops: extents that k is nested loops of, outer to inner (none: one loop). longest: products
    that are added up in one go, about. ahead: floats that W is fetched from memory before it is
    read (0: the processor sees to it).
    """

    rows: int
    vectors: int
    lanes: int
    a_name: str
    w_name: str
    a: Callable[[int, Expr], Expr]
    w: Callable[[Expr, int, Expr], Expr]
    loops: tuple[int, ...] = ()
    longest: int = _LONGEST_SUM
    ahead: int = 0


Finish = Callable[[int, int, Expr, Expr], Stmt]  # of row, vector, lane and the accumulator


def in_one_go(depth: int, longest: int = _LONGEST_SUM) -> bool:
    """Whether a sum of this length is not added up in parts."""
    return depth <= longest * 3 // 2


def micro_kernel(
    tile: Micro,
    depth: Expr | int,
    target: Callable[[int, int, Expr], Expr],
    out: str,
    resume: Expr | None = None,
    finish: Finish | None = None,
) -> tuple[Stmt, ...]:
    """Statements that leave the tile in `out` at target(p, j, lane).

    Where `resume` holds the tile is added to what is there. A long sum over k is added up in parts
    the same way. finish: what is done with an
    accumulator instead of storing it; not for long sums.
    """
    lane = axis("lane", tile.lanes)
    turns = tile.loops[0] if tile.loops else depth  # of the outermost loop
    parts = 1
    if isinstance(depth, int) and not in_one_go(depth, tile.longest):
        assert isinstance(turns, int)
        parts = min(turns, -(-depth // tile.longest))
    if parts == 1:
        end = turns if isinstance(turns, Expr) else size_expr(turns)
        body = _part(tile, lane, const(0), end, target, out, resume, finish)
    else:
        assert finish is None
        assert isinstance(turns, int)
        part, length = axis("part", parts), -(-turns // parts)
        first = part * length
        last = apply("min", first + length, const(turns))
        again = (part > 0) if resume is None else (part > 0) | resume
        part_body = _part(tile, lane, first, last, target, out, again)
        body = (For(part, const(0), const(parts), part_body),)
    return (For(lane, const(0), const(tile.lanes), body, tile.lanes),)


def over_tiles(
    rows: int, vectors: int, tile: tuple[int, int],
    make: Callable[[Expr, int, Expr, int], tuple[Stmt, ...]],
) -> tuple[Stmt, ...]:  # fmt: skip
    """Loops over rows x vectors in register tiles of (rows, vectors), whole ones and remainders;
    make(first row, rows, first vector, vectors) is the code of one."""
    code: list[Stmt] = []
    for starts, wide in pieces(vectors, tile[1]):
        across = axis("across", len(starts))
        inner: list[Stmt] = []
        for begins, high in pieces(rows, tile[0]):
            down = axis("down", len(begins))
            row, vector = down * high + begins.start, across * wide + starts.start
            body = make(row, high, vector, wide)
            inner.append(For(down, const(0), const(len(begins)), body))
        code.append(For(across, const(0), const(len(starts)), tuple(inner)))
    return tuple(code)


def _part(
    tile: Micro,
    lane: Expr,
    first: Expr,
    last: Expr,
    target: Callable[[int, int, Expr], Expr],
    out: str,
    resume: Expr | None,
    finish: Finish | None = None,
) -> tuple[Stmt, ...]:
    """One sum over [first, last) of the outermost loop: accumulators from zero, at the end to the
    tile."""
    loops = tuple(axis(f"k{n}", extent) for n, extent in enumerate(tile.loops))
    k = axis("k", 1 << 31)
    if loops:
        k = const(0)
        for a in loops:
            k = k * size_expr(extent_of(a)) + a
    names = [[f"acc_{p}_{j}" for j in range(tile.vectors)] for p in range(tile.rows)]
    body: list[Stmt] = [Var(n, const(0.0), tile.lanes) for row in names for n in row]
    step: list[Stmt] = [
        Let(f"w_{j}", load("@" + tile.w_name, F32, tile.w(k, j, lane))) for j in range(tile.vectors)
    ]
    if tile.ahead:
        ahead = (tile.w(k, j, const(0)) + tile.ahead for j in range(tile.vectors))
        step.extend(Fetch(tile.w_name, place) for place in ahead)
    for p in range(tile.rows):
        step.append(Let(f"a_{p}", load("@" + tile.a_name, F32, tile.a(p, k))))
        for j in range(tile.vectors):
            product = local(f"a_{p}", F32) * local(f"w_{j}", F32, True)
            step.append(Set(names[p][j], local(names[p][j], F32, True) + product))
    code = tuple(step)
    for a, extent in reversed(list(zip(loops, tile.loops))[1:]):
        code = (For(a, const(0), const(extent), code),)
    body.append(For(loops[0] if loops else k, first, last, code))
    places = [
        (names[p][j], target(p, j, lane)) for p in range(tile.rows) for j in range(tile.vectors)
    ]
    if resume is not None:
        sums = (Set(n, local(n, F32, True) + load("@" + out, F32, t)) for n, t in places)
        body.append(If(resume, tuple(sums)))
    if finish is None:
        body.extend(Store(out, t, local(n, F32, True)) for n, t in places)
    else:
        body.extend(
            finish(p, j, lane, local(names[p][j], F32, True))
            for p in range(tile.rows)
            for j in range(tile.vectors)
        )
    return tuple(body)
