"""Element-wise operators in one form: bounds are clamps, powers are products and roots.

Rules of the pass `canonical`; each is `before -> after`, in its text or in the docstring of its
function. Only what gives the same result is rewritten, NaN and infinities included; a division
becomes a multiplication only where both round alike.
"""

from __future__ import annotations

import math

from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Numeric, Rewriter

# ---- bounds -------------------------------------------------------------------


def _bounds(node: Node) -> tuple[Numeric | None, Numeric | None]:
    if node.op == "relu":
        return 0, None
    low, high = node["low"], node["high"]
    return low, high


def _clamped(rw: Rewriter, x: Node, low: Numeric | None, high: Numeric | None) -> Node:
    """x within bounds, as relu or clamp."""
    if low is None and high is None:
        return x
    if low == 0 and high is None:
        return rw.add("relu", x)
    number = float if x.dtype.kind == "float" else int
    low, high = (b if b is None else number(b) for b in (low, high))
    return rw.add("clamp", x, low=low, high=high)


def _max_to_clamp(rw: Rewriter, m: Match) -> Node | None:
    """`max(x, 0)` -> `relu(x)`; `max(x, c)` -> `clamp(x, c, None)`; `min(x, c)` so"""
    bound = rw.number(m["$c"])
    # clamp has no bound of NaN: the maximum with NaN is NaN
    if bound is None or isinstance(bound, bool) or bound != bound:
        return None
    return _clamped(rw, m["x"], *((bound, None) if m.root.op == "max" else (None, bound)))


def _no_bounds(rw: Rewriter, m: Match) -> Node | None:
    """`clamp(x, 0, None)` -> `relu(x)`; `clamp(x, None, None)`, infinite bounds -> `x`"""
    low, high = _bounds(m.root)
    kept = (None if low == -math.inf else low, None if high == math.inf else high)
    if kept == (low, high) and kept not in ((None, None), (0, None)):
        return None
    return _clamped(rw, m["x"], *kept)


def _clamp_clamp(rw: Rewriter, m: Match) -> Node | None:
    """`clamp(clamp(x, a, b), c, d)` -> `clamp(x, max(a, c), min(b, d))`, relu is clamp(0, None)

    Where the bounds of both leave nothing in between, the result is a constant but for NaN; that
    stays as it is.
    """
    (a, b), (c, d) = _bounds(m["inner"]), _bounds(m.root)
    low = max((v for v in (a, c) if v is not None), default=None)
    high = min((v for v in (b, d) if v is not None), default=None)
    ordered = low is None or high is None or low <= high
    return _clamped(rw, m["x"], low, high) if ordered else None


def _relu_by_threshold(rw: Rewriter, m: Match) -> Node | None:
    """`threshold(x, 0, 0)` -> `relu(x)`"""
    zero = m.root["threshold"] == 0 and m.root["value"] == 0
    return rw.add("relu", m["x"]) if zero else None


# ---- powers and quotients -----------------------------------------------------


def _pow(rw: Rewriter, m: Match) -> Node | None:
    """`pow(x, n)` -> products, roots and reciprocals for n in -2, -1, -½, ½, 1, 2, 3

    As PyTorch computes them; other exponents stay.
    """
    x, exponent = m["x"], rw.number(m["$n"])
    if m.root.dtype != x.dtype or x.dtype.kind != "float":
        return None
    match exponent:
        case 1:
            return x
        case 2:
            return rw.add("square", x)
        case 3:
            return rw.add("mul", rw.add("square", x), x)
        case -1:
            return rw.add("reciprocal", x)
        case -2:
            return rw.add("reciprocal", rw.add("square", x))
        case 0.5:
            return rw.add("sqrt", x)
        case -0.5:
            return rw.add("rsqrt", x)
        case _:
            return None


def _exact_quotient(rw: Rewriter, m: Match) -> Node | None:
    """`div(x, c)` -> `mul(x, 1/c)`, c a power of two

    Then 1/c is exact and both round the same number. For any other c the rounding of 1/c would come
    on top: up to 1.5 ulp instead of 0.5.
    """
    divisor = rw.number(m["$c"])
    if m.root.dtype != m["x"].dtype or not isinstance(divisor, float):
        return None
    mantissa, exponent = math.frexp(divisor)
    # far from the ends of float32, where the reciprocal would be subnormal or infinite
    if abs(mantissa) != 0.5 or abs(exponent) > 100:
        return None
    return rw.add("mul", m["x"], rw.constant(1 / divisor, m.root.dtype))


def _minus_constant(rw: Rewriter, m: Match) -> Node | None:
    """`sub(x, c)` -> `add(x, -c)`: the same sum, and one rule less for everything that follows"""
    number = rw.number(m["$c"])
    if number is None or m["$c"].dtype.name not in ("f32", "f64", "i32", "i64"):
        return None
    if isinstance(number, int) and abs(number) > 2**30:
        return None
    return rw.add("add", m["x"], rw.constant(-number, m["$c"].dtype))


def _same_sign(rw: Rewriter, m: Match) -> Node | None:
    """`mul(x, x)` -> `square(x)`, but of booleans, where it is `and`"""
    return rw.add("square", m["x"]) if m["x"].dtype.kind != "bool" else None


def _of_booleans(op: str, logical: str, operands: str) -> Rule:
    def build(rw: Rewriter, m: Match) -> Node | None:
        booleans = all(v.dtype.kind == "bool" for v in m.found.values())
        return rw.add(logical, *m.found.values()) if booleans else None

    build.__doc__ = f"`{op}({operands})` -> `{logical}({operands})`, of booleans"
    return rule(f"{op}({operands})", build)


def _integers_only(op: str, other: str) -> Rule:
    def build(rw: Rewriter, m: Match) -> Node | None:
        floats = "float" in (m["x"].dtype.kind, m["y"].dtype.kind)
        return None if floats else rw.add(other, m["x"], m["y"])

    build.__doc__ = f"`logical_not({op}(x, y))` -> `{other}(x, y)`; of floats, NaN forbids it"
    return rule(f"logical_not({op}(x, y))", build)


RULES: tuple[Rule, ...] = (
    rule("max|min(x, $c)", _max_to_clamp),
    rule("clamp(x)", _no_bounds),
    rule("clamp|relu(clamp|relu:inner(x))", _clamp_clamp),
    rule("threshold(x)", _relu_by_threshold),
    rule("pow(x, $n)", _pow),
    rule("div(x, $c)", _exact_quotient),
    rule("div(1, x) -> reciprocal(x)"),
    rule("reciprocal(sqrt(x)) -> rsqrt(x)"),
    rule("sqrt(reciprocal(x)) -> rsqrt(x)"),
    rule("reciprocal(reciprocal(x)) -> x"),
    rule("mul(x, x)", _same_sign),
    rule("sub(x, $c)", _minus_constant),
    rule("mul(x, -1) -> neg(x)"),
    rule("add(x, neg(y)) -> sub(x, y)"),
    rule("sub(x, neg(y)) -> add(x, y)"),
    rule("mul(neg(x), neg(y)) -> mul(x, y)"),
    rule("div(neg(x), neg(y)) -> div(x, y)"),
    rule("square(neg|abs(x)) -> square(x)"),
    rule("abs(neg(x)) -> abs(x)"),
    rule("logical_not(eq(x, y)) -> ne(x, y)"),
    rule("logical_not(ne(x, y)) -> eq(x, y)"),
    _of_booleans("bitwise_and|mul|min", "logical_and", "x, y"),
    _of_booleans("bitwise_or|add|max", "logical_or", "x, y"),
    _of_booleans("bitwise_xor|ne", "logical_xor", "x, y"),
    _of_booleans("bitwise_not", "logical_not", "x"),
    _integers_only("lt", "ge"),
    _integers_only("le", "gt"),
    _integers_only("gt", "le"),
    _integers_only("ge", "lt"),
)
