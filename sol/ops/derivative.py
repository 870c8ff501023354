"""Derivatives of scalar expressions, and so of all element-wise operators.

`PULLS` has one row for each scalar operation: what a change g of its result is as changes of its
operands. `derivative` goes through an expression backwards, from the result to one operand
(reverse accumulation). Where the derivative follows from the result alone (exp, tanh, sigmoid,
relu), it is written in the result, which the next layer keeps anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from sol.core.dtypes import DType
from sol.ir.expr import Expr, apply, cast, const, substitute, walk, where
from sol.ir.expr import local_value as leaf
from sol.ir.graph import Attrs, Node, TensorType
from sol.ops.registry import OPS

Part = Expr | None  # None: the result does not depend on this operand, or only by steps
Pull = Callable[..., tuple[Part, ...]]  # of g, the result y, and the operands
Dtypes = tuple[DType, ...]


def _steps(g: Expr, y: Expr, *operands: Expr) -> tuple[Part, ...]:
    """Constant wherever it is differentiable."""
    return (None,) * len(operands)


def _mul(g: Expr, y: Expr, a: Expr, b: Expr) -> tuple[Part, ...]:
    return (g * (a + a), None) if a is b else (g * b, g * a)


def _div(g: Expr, y: Expr, a: Expr, b: Expr) -> tuple[Part, ...]:
    if a.op == "const" and a.value == 1:
        return None, -(g * y * y)
    return g / b, (None if b.op == "const" else -(g * y / b))


def _mod(g: Expr, y: Expr, a: Expr, b: Expr) -> tuple[Part, ...]:
    return g, -(g * apply("floor", a / b))


def _fmod(g: Expr, y: Expr, a: Expr, b: Expr) -> tuple[Part, ...]:
    return g, -(g * apply("trunc", a / b))


def _extreme(beyond: str) -> Pull:
    """max and min: all of g to the one that is the result, half to each of two equal ones.

    A bound that is a constant leaves all of g to what it bounds.
    """

    def pull(g: Expr, y: Expr, a: Expr, b: Expr) -> tuple[Part, ...]:
        for bound, other, first in ((b, a, True), (a, b, False)):
            if bound.op == "const":
                kept = where(apply(beyond, bound, other), 0.0, g)
                return (kept, None) if first else (None, kept)
        shared = where(apply("eq", a, b), g * 0.5, g)
        return where(apply(beyond, b, a), 0.0, shared), where(apply(beyond, a, b), 0.0, shared)

    return pull


def _pow(g: Expr, y: Expr, a: Expr, b: Expr) -> tuple[Part, ...]:
    """b a^(b-1), and y ln a; 0 where the power is constant, as at 0^0."""
    by_base = where(apply("eq", b, 0.0), 0.0, g * b * apply("pow", a, b - 1.0))
    if b.op == "const":
        return by_base, None
    nothing = apply("and", apply("eq", a, 0.0), apply("ge", b, 0.0))
    return by_base, where(nothing, 0.0, g * y * apply("log", a))


def _atan2(g: Expr, y: Expr, a: Expr, b: Expr) -> tuple[Part, ...]:
    square = a * a + b * b
    return g * b / square, -(g * a / square)


def _relu(g: Expr, y: Expr, x: Expr) -> tuple[Part, ...]:
    """In the result: x <= 0 where y <= 0."""
    return (where(apply("le", y, 0.0), 0.0, g),)


def _erf(g: Expr, y: Expr, x: Expr) -> tuple[Part, ...]:
    return (g * apply("exp", -(x * x)) * (2 / math.sqrt(math.pi)),)


def _of(function: Callable[[Expr, Expr], Expr]) -> Pull:
    """The row of an operation with one operand: g times function(x, y)."""
    return lambda g, y, x: (g * function(x, y),)


PULLS: dict[str, Pull] = {
    "add": lambda g, y, a, b: (g + g, None) if a is b else (g, g),
    "sub": lambda g, y, a, b: (g, -g),
    "mul": _mul,
    "div": _div,
    "mod": _mod,
    "fmod": _fmod,
    "max": _extreme("gt"),
    "min": _extreme("lt"),
    "pow": _pow,
    "atan2": _atan2,
    "neg": lambda g, y, x: (-g,),
    "abs": _of(lambda x, y: apply("sign", x)),
    "exp": _of(lambda x, y: y),
    "expm1": _of(lambda x, y: y + 1.0),
    "log": lambda g, y, x: (g / x,),
    "log1p": lambda g, y, x: (g / (x + 1.0),),
    "log2": lambda g, y, x: (g / (x * math.log(2)),),
    "log10": lambda g, y, x: (g / (x * math.log(10)),),
    "sqrt": lambda g, y, x: (g / (y + y),),
    "rsqrt": _of(lambda x, y: y * y * y * -0.5),
    "sin": _of(lambda x, y: apply("cos", x)),
    "cos": _of(lambda x, y: -apply("sin", x)),
    "tan": _of(lambda x, y: y * y + 1.0),
    "asin": _of(lambda x, y: apply("rsqrt", 1.0 - x * x)),
    "acos": _of(lambda x, y: -apply("rsqrt", 1.0 - x * x)),
    "atan": lambda g, y, x: (g / (x * x + 1.0),),
    "sinh": _of(lambda x, y: apply("cosh", x)),
    "cosh": _of(lambda x, y: apply("sinh", x)),
    "tanh": _of(lambda x, y: 1.0 - y * y),
    "erf": _erf,
    "ndtr": _of(lambda x, y: apply("exp", x * x * -0.5) * (1 / math.sqrt(2 * math.pi))),
    "sigmoid": _of(lambda x, y: y * (1.0 - y)),
    "relu": _relu,
    **dict.fromkeys(
        (
            *("floordiv", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not", "sign"),
            *("shl", "shr", "floor", "ceil", "round", "trunc", "isnan", "isinf"),
        ),
        _steps,
    ),
}


@dataclass(frozen=True, slots=True)
class Derivative:
    """What dy is as a change of one operand: an expression of `dy`, and of the leaves `operands`
    or, if `by_result`, of the leaf `result` alone."""

    value: Expr
    dy: Expr
    operands: tuple[Expr, ...]
    result: Expr
    by_result: bool


@lru_cache(maxsize=4096)
def derivative(op: str, attrs: Attrs, dtypes: Dtypes, dtype: DType, wrt: int) -> Derivative:
    """The derivative of an element-wise operator by operand number `wrt`.

    dtypes: element types of the operands; dtype: of the result.
    """
    scalar = OPS[op].scalar
    assert scalar is not None, f"{op} has no scalar meaning"
    operands = tuple(leaf(f"x{n}", t) for n, t in enumerate(dtypes))
    dy, result = leaf("dy", dtype), leaf("y", dtype)
    y = cast(scalar(Node("", op, (), attrs, TensorType((), dtype)), *operands), dtype)
    value = pulled(y, operands[wrt], dy)
    short = substitute(value, {y: result}) if y.args else value
    by_result = short is not value and not any(x in walk(short) for x in operands)
    return Derivative(short if by_result else value, dy, operands, result, by_result)


def pulled(y: Expr, x: Expr, dy: Expr) -> Expr:
    """The change of the leaf x that a change dy of the expression y stands for."""
    changes: dict[Expr, Expr] = {y: dy}
    for part in reversed(walk(y)):
        if part not in changes or part is x or not part.args:
            continue
        change = changes.pop(part)
        for operand, its in _pull(part, change, x):
            if its is not None and operand.dtype.kind == "float":
                before = changes.get(operand)
                changes[operand] = its if before is None else before + its
    return changes.get(x, const(0.0, x.dtype))


def _pull(part: Expr, g: Expr, x: Expr) -> Iterable[tuple[Expr, Part]]:
    """Operands and their changes; of a choice, x and its change, so that what is not chosen, which
    may be infinite, multiplies no zero."""
    if part.op == "cast":
        (operand,) = part.args
        return [(operand, cast(g, operand.dtype) if part.dtype.kind == "float" else None)]
    if part.op == "where":
        condition, yes, no = part.args
        return [(x, where(condition, pulled(yes, x, g), pulled(no, x, g)))]
    return zip(part.args, PULLS[part.op](g, part, *part.args))
