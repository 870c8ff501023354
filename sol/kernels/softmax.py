"""The softmax of the attention kernel: a panel of scores is masked and becomes powers.

Queries lie along vectors, so the largest score and the sum of powers of each query need no
reduction across lanes. All vectors of a block go side by side, which hides latencies. With several
blocks of keys, sums so far decay to the new largest score (M. Milakov and N. Gimelshein, "Online
normalizer calculation for softmax", 2018). Called by attention.py.
"""

from __future__ import annotations

import math

from sol.core.dtypes import BOOL, F32
from sol.ir.expr import Expr, apply, axis, const, load, substitute, where
from sol.ir.expr import local_value as local
from sol.ir.loop import For, Let, Set, Stmt, Store, Var
from sol.kernels.heads import Block, Context, Keys


def softmax(kernel: Context, block: Block, keys: Keys) -> tuple[Stmt, ...]:
    """Scores to powers, and their sums: for all vectors of the block side by side."""
    lane = axis("lane", kernel.cut.lanes)
    vectors = range(block.vectors)
    body: list[Stmt] = [Var(f"top_{j}", const(-math.inf), kernel.cut.lanes) for j in vectors]
    body.extend(_largest(kernel, block, keys, lane))
    body.extend(s for j in vectors for s in _base(kernel, block, j, lane))
    body.extend(Var(f"sum_{j}", const(0.0), kernel.cut.lanes) for j in vectors)
    key = axis("s", kernel.cut.keys)
    powers: list[Stmt] = []
    for j in vectors:
        place = block.at(key, j, lane, kernel.cut.lanes)
        score = load("@panel", F32, place)
        power = apply("exp", score - _vector(f"base_{j}"))
        powers.append(Let(f"power_{j}", power))
        powers.append(Set(f"sum_{j}", _vector(f"sum_{j}") + _vector(f"power_{j}")))
        powers.append(Store("panel", place, _vector(f"power_{j}")))
    body.append(For(key, const(0), keys.present, tuple(powers)))
    body.extend(_total(kernel, j, lane) for j in vectors)
    return (For(lane, const(0), const(kernel.cut.lanes), tuple(body), kernel.cut.lanes),)


def _vector(name: str) -> Expr:
    return local(name, F32, True)


def _largest(kernel: Context, block: Block, keys: Keys, lane: Expr) -> tuple[Stmt, ...]:
    """Masks applied to the panel, and the largest score of each query."""
    key = axis("s", kernel.cut.keys)
    if not kernel.head.causal:
        return (For(key, const(0), keys.present, _pass(kernel, block, keys, key, lane, False)),)
    free = apply("max", const(0), apply("min", keys.present, block.first + 1 - keys.first))
    return (
        For(key, const(0), free, _pass(kernel, block, keys, key, lane, False)),
        For(key, free, keys.present, _pass(kernel, block, keys, key, lane, True)),
    )


def _pass(
    kernel: Context, block: Block, keys: Keys, key: Expr, lane: Expr, causal: bool
) -> tuple[Stmt, ...]:
    """One key: masked scores go back to the panel, and into the largest ones.

    A NaN is never the largest; it passes through its power into the sum.
    """
    stmts: list[Stmt] = []
    for j in range(block.vectors):
        place = block.at(key, j, lane, kernel.cut.lanes)
        score = load("@panel", F32, place)
        query = block.first + (j * kernel.cut.lanes) + lane
        masked = _masked(kernel, score, keys.first + key, query, causal)
        stmts.append(Let(f"score_{j}", masked))
        if masked is not score:
            stmts.append(Store("panel", place, _vector(f"score_{j}")))
        larger = _vector(f"score_{j}") > _vector(f"top_{j}")
        stmts.append(Set(f"top_{j}", where(larger, _vector(f"score_{j}"), _vector(f"top_{j}"))))
    return tuple(stmts)


def _masked(kernel: Context, score: Expr, key: Expr, query: Expr, causal: bool) -> Expr:
    here = {kernel.head.key: key, kernel.head.query: query}
    for mask in kernel.head.masks:
        value = kernel.builder.final(substitute(mask, here))
        score = where(value, score, const(-math.inf)) if mask.dtype == BOOL else score + value
    return where(key <= query, score, const(-math.inf)) if causal else score


def _base(kernel: Context, block: Block, j: int, lane: Expr) -> list[Stmt]:
    """What scores are measured from: the largest one, or 0 for a query that may attend nothing."""
    at = lane + j * kernel.cut.lanes
    top = _vector(f"top_{j}")
    stmts: list[Stmt] = []
    if kernel.blocks > 1:
        before = load("@largest", F32, at)
        stmts.append(Let(f"before_{j}", before))
        stmts.append(
            Set(f"top_{j}", where(_vector(f"before_{j}") > top, _vector(f"before_{j}"), top))
        )
        stmts.append(Store("largest", at, top))
    nothing = apply("eq", top, const(-math.inf))
    stmts.append(Let(f"base_{j}", where(nothing, const(0.0), top)))
    if kernel.blocks > 1:
        decay = apply("exp", _vector(f"before_{j}") - _vector(f"base_{j}"))
        stmts.append(Store("decay", at, decay))
    return stmts


def _total(kernel: Context, j: int, lane: Expr) -> Stmt:
    """The sum of powers, or the sum so far."""
    at, total = lane + j * kernel.cut.lanes, _vector(f"sum_{j}")
    if kernel.blocks > 1:
        total = load("@total", F32, at) * load("@decay", F32, at) + total
    return Store("total", at, total)
