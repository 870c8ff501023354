"""Algebra: operations that change nothing, undo each other, or have a known result.

Rules of the pass `simplify`; each is `before -> after`, in its text or in the docstring of its
function. Only what holds for NaN and infinities too: `x * 0` and `x - x` are 0 for integers only.
"""

from __future__ import annotations

from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter


def _zero_of_integers(rw: Rewriter, m: Match) -> Node | None:
    """`sub(x, x)`, `mul(x, 0)` -> 0, of integers"""
    if m.root.dtype.kind != "int":
        return None
    return rw.add("full", shape=m.root.shape, value=0, dtype=m.root.dtype)


def _chosen(rw: Rewriter, m: Match) -> Node | None:
    """`where(True, x, y)` -> `x`, `where(False, x, y)` -> `y`"""
    return m["x"] if rw.number(m["$c"]) else m["y"]


def _whole_numbers(rw: Rewriter, m: Match) -> Node | None:
    """`floor(x)` -> `x`, of integers; so for ceil, round and trunc"""
    return m["x"] if m["x"].dtype.kind != "float" else None


_ROUND = "floor|ceil|round|trunc"
RULES: tuple[Rule, ...] = (
    rule("add(x, 0) -> x"),
    rule("sub(x, 0) -> x"),
    rule("mul(x, 1) -> x"),
    rule("div(x, 1) -> x"),
    rule("floordiv(x, 1)", _whole_numbers),
    rule("pow(x, 1) -> x"),
    rule("sub(0, x) -> neg(x)"),
    rule("sub(x, x)", _zero_of_integers),
    rule("mul(x, 0)", _zero_of_integers),
    rule("neg(neg(x)) -> x"),
    rule("bitwise_not(bitwise_not(x)) -> x"),
    rule("logical_not(logical_not(x)) -> x"),
    rule("bitwise_xor(bitwise_xor(x, y), y) -> x"),
    rule("abs(abs:a(x)) -> abs(x)"),
    rule("relu(relu(x)) -> relu(x)"),
    rule("relu(abs|square|sigmoid|exp|sqrt|hardsigmoid:a(x)) -> a"),
    rule("abs(relu|square|sigmoid|exp|sqrt|hardsigmoid:a(x)) -> a"),
    rule(f"{_ROUND}({_ROUND}:a(x)) -> a"),
    rule(f"{_ROUND}(x)", _whole_numbers),
    rule("sign(sign:a(x)) -> a"),
    rule("max|min(x, x) -> x"),
    rule("bitwise_and|bitwise_or|logical_and|logical_or(x, x) -> x"),
    rule("logical_and(x, True) -> x"),
    rule("logical_or|logical_xor(x, False) -> x"),
    rule("logical_and(x, False) -> False"),
    rule("logical_or(x, True) -> True"),
    rule("logical_xor(x, True) -> logical_not(x)"),
    rule("where($c, x, y)", _chosen),
    rule("where(c, x, x) -> x"),
    rule("where(logical_not(c), x, y) -> where(c, y, x)"),
)
