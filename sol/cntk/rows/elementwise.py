"""Rows of operations element by element.

CNTK bends some functions at their ends so that training goes on; these rows do the same.
"""

from __future__ import annotations

import numpy as np

from sol.cntk.rows.table import put, row
from sol.cntk.value import Context, Value
from sol.core.dtypes import F32, F64
from sol.ir.graph import Node
from sol.ops.registry import OPS

_TINY = 1e-30  # what is larger does not vanish by rounding
_SMALLEST_IN_LOG, _LOG_OF_THAT = 1e-37, -85.1


def _unary(op: str) -> object:
    def translate(c: Context, x: Value) -> Value:
        return c.keep(x, c.op(op, x.node))

    translate.__doc__ = OPS[op].doc
    return translate


for _name, _op in {
    "Negate": "neg", "Sigmoid": "sigmoid", "StableSigmoid": "sigmoid", "Tanh": "tanh",
    "ReLU": "relu", "Exp": "exp", "Floor": "floor", "Abs": "abs", "Sin": "sin", "Cos": "cos",
    "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh",
}.items():  # fmt: skip
    put(_name, _unary(_op))  # type: ignore[arg-type]


def _binary(op: str) -> object:
    def translate(c: Context, a: Value, b: Value) -> Value:
        (x, y), axes = c.aligned(a, b)
        return Value(c.floating(c.op(op, x, y)), axes)

    translate.__doc__ = OPS[op].doc
    return translate


for _name, _op in {
    "Plus": "add", "Minus": "sub", "Equal": "eq", "NotEqual": "ne", "Less": "lt",
    "LessEqual": "le", "Greater": "gt", "GreaterEqual": "ge",
}.items():  # fmt: skip
    put(_name, _binary(_op))  # type: ignore[arg-type]


@row("ElementTimes")
def element_times(c: Context, a: Value, b: Value) -> Value:
    """`a * b`; a quotient where one is the reciprocal of what is not 0"""
    for other, divisor in ((a, b), (b, a)):
        if divisor.node.op == "reciprocal":
            under = c.keep(divisor, c.builder[divisor.node.inputs[0]])
            (x, y), axes = c.aligned(other, under)
            return Value(c.op("div", x, y), axes)
    (x, y), axes = c.aligned(a, b)
    return Value(c.op("mul", x, y), axes)


@row("Reciprocal")
def reciprocal(c: Context, x: Value) -> Value:
    """`1 / x`, 0 for 0"""
    inverse = c.op("reciprocal", x.node)
    if c.least(x) > _TINY:
        return c.keep(x, inverse)
    zero = c.op("eq", x.node, c.constant(0.0))
    return c.keep(x, c.op("where", zero, c.constant(0.0), inverse))


@row("Log")
def log(c: Context, x: Value) -> Value:
    """`ln x`, -85.1 below 1e-37"""
    plain = c.op("log", x.node)
    if c.least(x) > _TINY:
        return c.keep(x, plain)
    small = c.op("lt", x.node, c.constant(_SMALLEST_IN_LOG))
    return c.keep(x, c.op("where", small, c.constant(_LOG_OF_THAT), plain))


@row("Sqrt")
def sqrt(c: Context, x: Value) -> Value:
    """`√max(x, 0)`"""
    node = x.node if c.least(x) >= 0 else c.op("max", x.node, c.constant(0.0))
    return c.keep(x, c.op("sqrt", node))


@row("Asinh")
def asinh(c: Context, x: Value) -> Value:
    """`ln(x + √(x² + 1))`, with the sign of x"""
    size = c.op("abs", x.node)
    root = c.op("sqrt", c.op("add", c.op("square", size), c.constant(1.0)))
    # √(x² + 1) - 1 without the difference of what is nearly equal
    above = c.op("div", c.op("square", size), c.op("add", root, c.constant(1.0)))
    value = c.op("log1p", c.op("add", size, above))
    return c.keep(x, c.op("mul", c.op("sign", x.node), value))


@row("Atanh")
def atanh(c: Context, x: Value) -> Value:
    """`ln((1 + x) / (1 - x)) / 2`"""
    up, down = c.op("log1p", x.node), c.op("log1p", c.op("neg", x.node))
    return c.keep(x, c.op("mul", c.op("sub", up, down), c.constant(0.5)))


@row("ELU")
def elu(c: Context, x: Value) -> Value:
    """`x where x > 0, else e^x - 1`"""
    return c.keep(x, c.op("elu", x.node, alpha=1.0, scale=1.0, input_scale=1.0))


@row("StraightThrough")
def straight_through(c: Context, x: Value) -> Value:
    """`1 where x > 0, else -1`"""
    above = c.op("gt", x.node, c.constant(0.0))
    return c.keep(x, c.op("where", above, c.constant(1.0), c.constant(-1.0)))


@row("Pow")
def power(c: Context, a: Value, b: Value) -> Value:
    """`a^b`; 0 to a negative power is 0"""
    (x, y), axes = c.aligned(a, b)
    result = c.op("pow", x, y)
    if y.op == "constant" and np.all(y["value"].array >= 0):
        return Value(result, axes)
    zero = c.constant(0.0)
    end = c.op("logical_and", c.op("eq", x, zero), c.op("lt", y, zero))
    return Value(c.op("where", end, zero, result), axes)


@row("LogPlus")
def log_plus(c: Context, a: Value, b: Value) -> Value:
    """`ln(e^a + e^b)`"""
    (x, y), axes = c.aligned(a, b)
    distance = c.op("abs", c.op("sub", x, y))
    rest = c.op("log1p", c.op("exp", c.op("neg", distance)))
    return Value(c.op("add", c.op("max", x, y), rest), axes)


@row("Clip")
def clip(c: Context, x: Value, low: Value, high: Value) -> Value:
    """`min(max(x, low), high)`"""
    (node, least, most), axes = c.aligned(x, low, high)
    return Value(c.op("min", c.op("max", node, least), most), axes)


@row("Select")
def select(c: Context, condition: Value, yes: Value, no: Value) -> Value:
    """`yes where condition is not 0, else no`"""
    truth = c.keep(condition, c.truth(condition.node))
    (choice, x, y), axes = c.aligned(truth, yes, no)
    return Value(c.op("where", choice, x, y), axes)


@row("Dropout", "StopGradient", "NoOp", "Pass")
def identity(c: Context, x: Value) -> Value:
    """`x`: it differs in training only"""
    return x


@row("Cast")
def cast(c: Context, x: Value) -> Value:
    """`x` as another type: float32"""
    if c.attribute("newDataType", int) != 1:
        c.refuse(f"Sol computes in {F32}, not in {F64} or less")
    return x


@row("CosDistance")
def cosine(c: Context, a: Value, b: Value) -> Value:
    """`a·b / (|a| |b|)`, all static axes as one"""
    (x, y), axes = c.aligned(a, b)
    over = tuple(range(len(axes), max(x.tensor.rank, y.tensor.rank)))

    def total(node: Node) -> Node:
        return c.op("sum", node, axes=over, keepdims=False)

    product = total(c.op("mul", x, y))
    lengths = (c.op("sqrt", total(c.op("square", v))) for v in (x, y))
    smallest = c.constant(1e-30)
    under = [c.op("max", length, smallest) for length in lengths]
    return Value(c.op("div", product, c.op("mul", *under)), axes)
