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
from sol.ir.expr import Expr, axis, const, load
from sol.ir.expr import local_value as local
from sol.ir.loop import For, Let, Set, Stmt, Store, Var
from sol.lower.ranges import size_expr


@dataclass(frozen=True, slots=True)
class Micro:
    """One tile.

    a(p, k) and w(k, j, lane) give the linear indices of A in buffer `a_name` and W in `w_name`.
    """

    rows: int
    vectors: int
    lanes: int
    a_name: str
    w_name: str
    a: Callable[[int, Expr], Expr]
    w: Callable[[Expr, int, Expr], Expr]


def micro_kernel(
    tile: Micro,
    depth: Expr | int,
    target: Callable[[int, int, Expr], Expr],
    out: str,
    resume: Expr | None = None,
) -> tuple[Stmt, ...]:
    """Statements that leave the tile in `out` at target(p, j, lane);

    where `resume` holds, accumulation goes on from what is there.
    """
    lane = axis("lane", tile.lanes)
    k = axis("k", 1 << 31)
    names = [[f"acc_{p}_{j}" for j in range(tile.vectors)] for p in range(tile.rows)]
    body: list[Stmt] = [Var(n, const(0.0), tile.lanes) for row in names for n in row]
    if resume is not None:
        body.append(_resume(tile, names, target, out, lane, resume))
    step: list[Stmt] = [
        Let(f"w_{j}", load("@" + tile.w_name, F32, tile.w(k, j, lane))) for j in range(tile.vectors)
    ]
    for p in range(tile.rows):
        a = load("@" + tile.a_name, F32, tile.a(p, k))
        step.append(Let(f"a_{p}", a))
        for j in range(tile.vectors):
            step.append(
                Set(
                    names[p][j],
                    local(names[p][j], F32, True)
                    + local(f"a_{p}", F32) * local(f"w_{j}", F32, True),
                )
            )
    end = depth if isinstance(depth, Expr) else size_expr(depth)
    body.append(For(k, const(0), end, tuple(step)))
    for p in range(tile.rows):
        for j in range(tile.vectors):
            body.append(Store(out, target(p, j, lane), local(names[p][j], F32, True)))
    return (For(lane, const(0), const(tile.lanes), tuple(body), tile.lanes),)


def _resume(
    tile: Micro,
    names: list[list[str]],
    target: Callable[[int, int, Expr], Expr],
    out: str,
    lane: Expr,
    condition: Expr,
) -> Stmt:
    from sol.ir.loop import If

    loads = [
        Set(names[p][j], load("@" + out, F32, target(p, j, lane)))
        for p in range(tile.rows)
        for j in range(tile.vectors)
    ]
    return If(condition, tuple(loads))
