"""Rows of element-wise operators: functions of one element, arithmetic, comparisons, casts."""

from __future__ import annotations

from functools import reduce
from typing import Any

import onnx

from sol.core.dtypes import BOOL, F32, F64, I8, I64, U32
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node
from sol.onnx.rows.table import put, row
from sol.onnx.types import BITS, COMPUTED
from sol.onnx.values import Call, Result, Results, Typed

_PLAIN = {
    "Abs": "abs", "Acos": "acos", "Asin": "asin", "Atan": "atan", "Ceil": "ceil", "Cos": "cos",
    "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Floor": "floor", "Log": "log", "Neg": "neg",
    "Not": "logical_not", "Reciprocal": "reciprocal", "Relu": "relu", "Round": "round",
    "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin", "Sinh": "sinh", "Softsign": "softsign",
    "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh", "IsNaN": "isnan", "BitwiseNot": "bitwise_not",
    "Mish": "mish",
}  # fmt: skip
_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "And": "logical_and", "Or": "logical_or",
    "Xor": "logical_xor", "Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt",
    "GreaterOrEqual": "ge", "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
}  # fmt: skip


def _plain(op: str) -> Any:
    return lambda c: c.add(op, c.x())


def _binary(op: str) -> Any:
    return lambda c: c.add(op, *operands(c))


def operands(c: Call) -> tuple[Node, Node]:
    """Both inputs; before opset 7 the second one stands at an `axis` of the first."""
    a, b = c.x(0), c.x(1)
    axis = c.attr("axis") if c.version < 7 else None
    if axis is None:
        return a, b
    behind = a.tensor.rank - c.axis(axis, a.tensor.rank) - b.tensor.rank
    return a, c.reshape(b, (*b.shape, *[1] * behind))


for _name, _op in _PLAIN.items():
    put(_name, _plain(_op))
for _name, _op in _BINARY.items():
    put(_name, _binary(_op))


@row("Identity")
def identity(c: Call) -> Results:
    """x."""
    return c.x()


@row("Dropout")
def dropout(c: Call) -> Results:
    """x, as it is in inference."""
    if c.has(2) and c.number(2) and (c.number(1, 0.5) != 0):
        c.refuse("it draws random numbers while training")
    x = c.x()
    return x, c.add("full", shape=x.shape, value=True, dtype=BOOL)


# ---- activations


@row("LeakyRelu")
def leaky_relu(c: Call) -> Results:
    """x, or alpha * x below 0."""
    return c.add("leaky_relu", c.x(), slope=float(c.attr("alpha", 0.01)))


def _elu(c: Call, alpha: float, scale: float = 1.0, input_scale: float = 1.0) -> Node:
    return c.add(
        "elu", c.x(), alpha=float(alpha), scale=float(scale), input_scale=float(input_scale)
    )


@row("Elu")
def elu(c: Call) -> Results:
    """x, or alpha * (e^x - 1) below 0."""
    return _elu(c, c.attr("alpha", 1.0))


@row("Selu")
def selu(c: Call) -> Results:
    """gamma * elu(x)."""
    alpha = c.attr("alpha", 1.67326319217681884765625)
    return _elu(c, alpha, c.attr("gamma", 1.05070102214813232421875))


@row("Celu")
def celu(c: Call) -> Results:
    """x, or alpha * (e^(x / alpha) - 1) below 0."""
    alpha = c.attr("alpha", 1.0)
    return _elu(c, alpha, 1.0, 1 / alpha)


@row("Gelu")
def gelu(c: Call) -> Results:
    """x * Phi(x), exact or by tanh."""
    return c.add("gelu", c.x(), approximate=c.attr("approximate", "none"))


@row("Swish")
def swish(c: Call) -> Results:
    """x * sigmoid(alpha x)."""
    alpha = c.attr("alpha", 1.0)
    x = c.x()
    if alpha == 1:
        return c.add("silu", x)
    return c.add("mul", x, c.add("sigmoid", c.scaled(x, alpha)))


@row("HardSigmoid")
def hard_sigmoid(c: Call) -> Results:
    """min(max(alpha x + beta, 0), 1)."""
    alpha, beta = c.attr("alpha", 0.2), c.attr("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return c.add("hardsigmoid", c.x())
    line = c.add("add", c.scaled(c.x(), alpha), c.constant(float(beta)))
    return c.add("clamp", line, low=0.0, high=1.0)


@row("HardSwish")
def hard_swish(c: Call) -> Results:
    """x * min(max(x + 3, 0), 6) / 6."""
    return c.add("hardswish", c.x())


@row("Softplus")
def softplus(c: Call) -> Results:
    """ln(1 + e^x)."""
    return c.add("softplus", c.x(), beta=1.0, threshold=20.0)


@row("ThresholdedRelu")
def thresholded_relu(c: Call) -> Results:
    """x above alpha, else 0."""
    return c.add("threshold", c.x(), threshold=float(c.attr("alpha", 1.0)), value=0.0)


@row("Shrink")
def shrink(c: Call) -> Results:
    """x moved towards 0 by bias outside of [-lambd, lambd], 0 inside."""
    lambd, bias, x = float(c.attr("lambd", 0.5)), float(c.attr("bias", 0.0)), c.x()
    if x.dtype.kind != "float":
        c.refuse("it is of integers")
    low = c.add("add", x, c.constant(bias))
    high = c.add("sub", x, c.constant(bias))
    zero = c.constant(0.0)
    inner = c.add("where", c.add("gt", x, c.constant(lambd)), high, zero)
    return c.add("where", c.add("lt", x, c.constant(-lambd)), low, inner)


@row("PRelu")
def prelu(c: Call) -> Results:
    """x, or slope * x below 0; slope broadcasts to x."""
    x, slope = c.x(0), c.x(1)
    if c.version < 7 and slope.tensor.rank == 1:  # one for each channel
        return c.add("prelu", x, slope if slope.shape != (1,) else c.reshape(slope, ()))
    sizes = [(axis - slope.tensor.rank, s) for axis, s in enumerate(slope.shape) if s != 1]
    if not sizes:
        return c.add("prelu", x, c.reshape(slope, ()))
    if x.tensor.rank > 1 and sizes == [(1 - x.tensor.rank, x.shape[1])]:
        return c.add("prelu", x, c.reshape(slope, (sizes[0][1],)))
    return c.add("where", c.add("gt", x, c.constant(0, x.dtype)), x, c.add("mul", x, slope))


@row("Clip")
def clip(c: Call) -> Results:
    """min(max(x, low), high)."""
    x = c.x()
    if c.version < 11:
        bounds = c.attr("min"), c.attr("max")
    elif all(not c.has(n) or c.known(n) is not None for n in (1, 2)):
        bounds = c.number(1), c.number(2)
    else:
        bounds = None, None
        x = c.add("max", x, c.x(1)) if c.has(1) else x
        return c.add("min", x, c.x(2)) if c.has(2) else x
    low, high = bounds
    if x.dtype == F64:
        low = None if low is None else float(low)
        high = None if high is None else float(high)
        return c.add("clamp", x, low=low, high=high)
    if x.dtype.kind == "float":
        low = None if low is None or low <= -3.4e38 else float(low)
        high = None if high is None or high >= 3.4e38 else float(high)
        return x if low is None and high is None else c.add("clamp", x, low=low, high=high)
    x = x if low is None else c.add("max", x, c.constant(low, x.dtype))
    return x if high is None else c.add("min", x, c.constant(high, x.dtype))


# ---- functions that are combinations


@row("Asinh")
def asinh(c: Call) -> Results:
    """sign(x) ln(|x| + √(x² + 1)), by log1p so that it is exact near 0."""
    x = c.x()
    size, one = c.add("abs", x), c.constant(1.0)
    root = c.add("sqrt", c.add("add", c.add("square", x), one))
    rest = c.add("div", c.add("square", x), c.add("add", one, root))
    return c.add("mul", c.add("sign", x), c.add("log1p", c.add("add", size, rest)))


@row("Acosh")
def acosh(c: Call) -> Results:
    """ln(x + √((x - 1) (x + 1)))."""
    x, one = c.x(), c.constant(1.0)
    product = c.add("mul", c.add("sub", x, one), c.add("add", x, one))
    return c.add("log", c.add("add", x, c.add("sqrt", product)))


@row("Atanh")
def atanh(c: Call) -> Results:
    """ln((1 + x) / (1 - x)) / 2."""
    x = c.x()
    difference = c.add("sub", c.add("log1p", x), c.add("log1p", c.add("neg", x)))
    return c.scaled(difference, 0.5)


@row("IsInf")
def is_inf(c: Call) -> Results:
    """x is +∞ or -∞, or one of them."""
    x, infinite = c.x(), c.add("isinf", c.x())
    if not c.attr("detect_negative", 1):
        infinite = c.add("logical_and", infinite, c.add("gt", x, c.constant(0.0)))
    if not c.attr("detect_positive", 1):
        infinite = c.add("logical_and", infinite, c.add("lt", x, c.constant(0.0)))
    return infinite


# ---- arithmetic


@row("Div")
def div(c: Call) -> Results:
    """a / b; of integers rounded towards 0."""
    a, b = operands(c)
    if a.dtype.kind == "float":
        return c.add("div", a, b)
    return c.add("floordiv", c.add("sub", a, c.add("fmod", a, b)), b)


@row("Mod")
def mod(c: Call) -> Results:
    """The remainder, with the sign of b, or of a with fmod=1."""
    return c.add("fmod" if c.attr("fmod", 0) else "mod", c.x(0), c.x(1))


@row("Pow")
def power(c: Call) -> Results:
    """a^b, of the type of a."""
    exponent = c.known(1)
    x = c.x(0)
    if exponent is not None and exponent.size == 1 and x.dtype == F32:
        number = float(exponent.reshape(()))
        if number == 2.0 and exponent.ndim <= x.tensor.rank:
            return c.add("square", x)
        if number == 0.5 and exponent.ndim <= x.tensor.rank:
            return c.add("pow", x, c.constant(0.5))
    a, b = operands(c)
    if a.dtype.kind == "int" and b.dtype.kind == "float":
        a, b = c.cast(a, F64), c.cast(b, F64)  # float32 does not hold all integers
    return c.add("pow", a, b)


@row("BitShift")
def bit_shift(c: Call) -> Results:
    """Bits of a moved by b places; those that leave the type are gone."""
    op = {"LEFT": "left_shift", "RIGHT": "right_shift"}.get(c.needed("direction"))
    if op is None:
        raise UnsupportedError("BitShift", f"direction={c.needed('direction')!r}")
    return c.add(op, c.x(0), c.x(1))


def _chain(op: str) -> Any:
    return lambda c: reduce(lambda a, b: c.add(op, a, b), c.all())


for _name, _op in (("Max", "max"), ("Min", "min"), ("Sum", "add")):
    put(_name, _chain(_op))


@row("Mean")
def mean(c: Call) -> Results:
    """The mean of all inputs."""
    inputs = c.all()
    total = reduce(lambda a, b: c.add("add", a, b), inputs)
    return c.scaled(total, 1 / len(inputs))


@row("Where")
def where(c: Call) -> Results:
    """yes where the condition holds, else no."""
    return c.add("where", c.x(0), c.x(1), c.x(2))


# ---- types


def converted(c: Call, x: Node, elem: int) -> Result:
    """x as another type of ONNX."""
    if elem not in COMPUTED:
        c.refuse(f"Sol does not compute with {onnx.TensorProto.DataType.Name(elem).lower()}")
    target = COMPUTED[elem]
    narrow = (target.kind == "int" and target.bytes < 4) or target == U32
    if x.dtype.kind == "float" and narrow:
        x = c.cast(x, I64)  # a float beyond a narrow type wraps around, as in NumPy
    return Typed(_wrapped(c, c.cast(x, target), elem), elem)


def _wrapped(c: Call, x: Node, elem: int) -> Node:
    """The lowest bits of x, for types of less than 8; the first of them is the sign of a signed
    one."""
    if elem not in BITS:
        return x
    x = c.add("bitwise_and", x, c.constant((1 << BITS[elem]) - 1, x.dtype))
    if x.dtype != I8:
        return x
    sign = c.constant(1 << (BITS[elem] - 1), I8)
    return c.add("sub", c.add("bitwise_xor", x, sign), sign)


@row("Cast")
def cast(c: Call) -> Results:
    """x as another type."""
    return converted(c, c.x(), c.needed("to"))


@row("CastLike")
def cast_like(c: Call) -> Results:
    """x as the type of another value."""
    return converted(c, c.x(0), c.elem(1))
