"""Activation functions that were written out, found again: `mul(x, sigmoid(x))` is silu.

Rules of the pass `canonical`; each is `before -> after`, in its text or in the docstring of its
function. One operator instead of five is one expression for the code generator, in the form that is
stable for large arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter

_CLOSE = 5e-7  # of constants: what float32 holds; 0.7071 for √½ would be another function
_DEEPEST = 6  # products in products that are looked at

_HALF, _ROOT_HALF, _ROOT_2_PI = 0.5, math.sqrt(0.5), math.sqrt(2 / math.pi)


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a number and values, these by name and in order of their names."""

    number: float
    values: tuple[str, ...]

    def __mul__(self, other: Product) -> Product:
        return Product(self.number * other.number, tuple(sorted(self.values + other.values)))

    def scaled(self, number: float) -> Product:
        """This product times a number."""
        return Product(self.number * number, self.values)

    def equals(self, other: Product) -> bool:
        """The same values, and numbers that are equal as far as models write them out."""
        close = math.isclose(self.number, other.number, rel_tol=_CLOSE)
        return close and self.values == other.values


def product_of(rw: Rewriter, node: Node, depth: int = _DEEPEST) -> Product:
    """The factors of nested mul, square and div by a number."""
    number = rw.number(node)
    if number is not None:
        return Product(float(number), ())
    inputs = rw.inputs_of(node) if depth else ()
    match node.op, inputs:
        case "mul", (a, b):
            return product_of(rw, a, depth - 1) * product_of(rw, b, depth - 1)
        case "square", (a,):
            root = product_of(rw, a, depth - 1)
            return root * root
        case "div", (a, b):
            divisor = rw.number(b)
            if divisor:
                return product_of(rw, a, depth - 1).scaled(1 / float(divisor))
    return Product(1.0, (node.name,))


def _other(rw: Rewriter, node: Node, op: str, number: float) -> Node | None:
    """The y of `op(y, number)` in either order."""
    if node.op != op:
        return None
    for a, b in (rw.inputs_of(node), rw.inputs_of(node)[::-1]):
        value = rw.number(a)
        if value is not None and math.isclose(value, number, rel_tol=_CLOSE):
            return b
    return None


# ---- gelu ---------------------------------------------------------------------


def _gelu(rw: Rewriter, m: Match) -> Node | None:
    """`mul(mul(x, 0.5), add(erf(mul(x, √½)), 1))` -> `gelu(x)`, in any order of the factors

    And with `tanh(√(2/π) * (x + 0.044715 * x³))` for the error function -> `gelu(x, "tanh")`.
    """
    product = product_of(rw, m.root)
    for name in product.values:
        inner = _other(rw, rw[name], "add", 1)
        if inner is None or inner.op not in ("erf", "tanh"):
            continue
        (argument,) = rw.inputs_of(inner)
        x = _scaled_operand(rw, argument) if inner.op == "erf" else _cubic(rw, argument)
        if x is None:
            continue
        if product.equals(Product(_HALF, (name,)) * product_of(rw, x)):
            return rw.add("gelu", x, approximate="none" if inner.op == "erf" else "tanh")
    return None


def _scaled_operand(rw: Rewriter, argument: Node) -> Node | None:
    """The x of `x * √½` or `x / √2`."""
    product = product_of(rw, argument)
    for x in rw.inputs_of(argument):
        if rw.number(x) is None and product.equals(product_of(rw, x).scaled(_ROOT_HALF)):
            return x
    return None


def _cubic(rw: Rewriter, argument: Node) -> Node | None:
    """The x of `√(2/π) * (x + 0.044715 * x³)`."""
    total = _other(rw, argument, "mul", _ROOT_2_PI)
    if total is None or total.op != "add":
        return None
    for x, term in (rw.inputs_of(total), rw.inputs_of(total)[::-1]):
        power = product_of(rw, x)
        if product_of(rw, term).equals((power * power * power).scaled(0.044715)):
            return x
    return None


# ---- the others ---------------------------------------------------------------


def _hard(rw: Rewriter, m: Match) -> Node | None:
    """`clamp(x + 3, 0, 6) / 6` -> `hardsigmoid(x)`; times x -> `hardswish(x)`, in any order"""
    product = product_of(rw, m.root)
    for name in product.values:
        x = _six(rw, rw[name])
        if x is None:
            continue
        sixth = Product(1 / 6, (name,))
        if product.equals(sixth):
            return rw.add("hardsigmoid", x)
        if product.equals(sixth * product_of(rw, x)):
            return rw.add("hardswish", x)
    return None


def _six(rw: Rewriter, node: Node) -> Node | None:
    """The x of `clamp(x + 3, 0, 6)`."""
    if node.op != "clamp" or (node["low"], node["high"]) != (0, 6):
        return None
    return _other(rw, rw.inputs_of(node)[0], "add", 3)


def _mish(rw: Rewriter, m: Match) -> Node | None:
    """`mul(x, tanh(softplus(x)))` -> `mish(x)`"""
    plain = m["s"]["beta"] == 1 and m["s"]["threshold"] == 20
    return rw.add("mish", m["x"]) if plain else None


def _leaky(rw: Rewriter, m: Match) -> Node | None:
    """`where(x > 0, x, c*x)` -> `leaky_relu(x, c)`; so `max(x, c*x)` with 0 < c < 1"""
    slope = rw.number(m["$c"])
    if not isinstance(slope, float) or (m.root.op == "max" and not 0 < slope < 1):
        return None
    return rw.add("leaky_relu", m["x"], slope=slope)


RULES: tuple[Rule, ...] = (
    rule("mul(*)", _gelu),
    rule("mul|div(*)", _hard),
    rule("mul(x, hardsigmoid(x)) -> hardswish(x)"),
    rule("mul(x, sigmoid(x)) -> silu(x)"),
    rule("mul(x, tanh(softplus:s(x)))", _mish),
    rule("reciprocal(add(exp(neg(x)), 1)) -> sigmoid(x)"),
    rule("div(x, add(exp(neg(x)), 1)) -> silu(x)"),
    rule("div(x, add(abs(x), 1)) -> softsign(x)"),
    rule("sub(x, tanh(x)) -> tanhshrink(x)"),
    rule("where(gt|ge(x, 0), x, mul(x, $c))", _leaky),
    rule("max(x, mul(x, $c))", _leaky),
)
