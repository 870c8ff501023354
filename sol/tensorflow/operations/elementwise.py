"""Rows of element-wise operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sol.core.dtypes import BOOL, F32, DType
from sol.ir.graph import Node
from sol.tensorflow.activations import clamp, elu, leaky
from sol.tensorflow.context import Context, Value, dtype_of
from sol.tensorflow.layout import pointwise
from sol.tensorflow.operations.table import OPERATIONS, operation

# operations of TensorFlow that are one operator of Sol
_PLAIN = {
    "Abs": "abs", "Acos": "acos", "Add": "add", "AddV2": "add", "Asin": "asin", "Atan": "atan",
    "Atan2": "atan2", "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh", "Div": "div", "Equal": "eq",
    "Erf": "erf", "Exp": "exp", "Expm1": "expm1", "Floor": "floor", "FloorDiv": "floordiv",
    "FloorMod": "mod", "Greater": "gt", "GreaterEqual": "ge", "IsInf": "isinf", "IsNan": "isnan",
    "Less": "lt", "LessEqual": "le", "Log": "log", "Log1p": "log1p", "LogicalAnd": "logical_and",
    "LogicalNot": "logical_not", "LogicalOr": "logical_or", "Maximum": "max", "Minimum": "min",
    "Mod": "fmod", "Mul": "mul", "Neg": "neg", "NotEqual": "ne", "Pow": "pow", "RealDiv": "div",
    "Reciprocal": "reciprocal", "Inv": "reciprocal", "Relu": "relu", "Rint": "round",
    "Round": "round", "Rsqrt": "rsqrt", "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin",
    "Sinh": "sinh", "Softsign": "softsign", "Sqrt": "sqrt", "Square": "square", "Sub": "sub",
    "Tan": "tan", "Tanh": "tanh", "TruncateMod": "fmod",
    "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor",
    "Invert": "bitwise_not",
}  # fmt: skip
_FLOATS_ONLY = ("Div",)  # of integers they round towards 0


def _plain(name: str, op: str) -> Callable[..., Node]:
    def translate(c: Context, *inputs: Value) -> Node:
        nodes = [c.node(x) for x in inputs]
        if name in _FLOATS_ONLY and any(x.dtype.kind != "float" for x in nodes):
            c.refuse("integers, which it divides towards 0")
        return pointwise(c, op, *nodes)

    return translate


for _name, _op in _PLAIN.items():
    OPERATIONS[_name] = _plain(_name, _op)


@operation("Relu6")
def relu6(c: Context, x: Node) -> Node:
    """min(max(x, 0), 6)"""
    return clamp(c, c.node(x), 0.0, 6.0)


@operation("LeakyRelu")
def leaky_relu(c: Context, x: Node) -> Node:
    """x where it is positive, else alpha x."""
    return leaky(c, c.node(x), c.attrs["alpha"])


@operation("Elu")
def elu_row(c: Context, x: Node) -> Node:
    """Exponential linear units."""
    return elu(c, c.node(x))


@operation("Selu")
def selu(c: Context, x: Node) -> Node:
    """Scaled exponential linear units."""
    return elu(c, c.node(x), 1.6732632423543772, 1.0507009873554805)


@operation("Softplus")
def softplus(c: Context, x: Node) -> Node:
    """ln(1 + e^x)"""
    return pointwise(c, "softplus", c.node(x), beta=1.0, threshold=20.0)


@operation("Erfc")
def erfc(c: Context, x: Node) -> Node:
    """1 - erf x"""
    x = c.node(x)
    return pointwise(c, "sub", c.constant(1.0, x.dtype), pointwise(c, "erf", x))


@operation("SquaredDifference")
def squared_difference(c: Context, a: Node, b: Node) -> Node:
    """(a - b)²"""
    return pointwise(c, "square", pointwise(c, "sub", c.node(a), c.node(b)))


@operation("AddN")
def add_n(c: Context, *inputs: Node) -> Node:
    """The sum of all."""
    first, *rest = (c.node(x) for x in inputs)
    for x in rest:
        first = pointwise(c, "add", first, x)
    return first


@operation("DivNoNan")
def div_no_nan(c: Context, a: Node, b: Node) -> Node:
    """a / b, and 0 where b is 0."""
    a, b = c.node(a), c.node(b)
    zero = c.constant(0.0, a.dtype)
    return pointwise(c, "where", pointwise(c, "eq", b, zero), zero, pointwise(c, "div", a, b))


@operation("Xlogy")
def xlogy(c: Context, a: Node, b: Node) -> Node:
    """a ln b, and 0 where a is 0."""
    a, b = c.node(a), c.node(b)
    zero = c.constant(0.0, a.dtype)
    product = pointwise(c, "mul", a, pointwise(c, "log", b))
    return pointwise(c, "where", pointwise(c, "eq", a, zero), zero, product)


@operation("Asinh", "Acosh", "Atanh")
def inverse_hyperbolic(c: Context, x: Node) -> Node:
    """Refused: logarithms of sums would lose digits."""
    return c.refuse("Sol has no inverse hyperbolic functions")


@operation("ClipByValue")
def clip(c: Context, x: Node, low: Node, high: Node) -> Node:
    """min(max(x, low), high)"""
    return pointwise(c, "min", pointwise(c, "max", c.node(x), c.node(low)), c.node(high))


@operation("IsFinite")
def is_finite(c: Context, x: Node) -> Node:
    """Neither infinite nor no number."""
    x = c.node(x)
    odd = pointwise(c, "logical_or", pointwise(c, "isnan", x), pointwise(c, "isinf", x))
    return pointwise(c, "logical_not", odd)


@operation("Select", "SelectV2")
def select(c: Context, condition: Node, yes: Node, no: Node) -> Node:
    """yes where the condition holds, else no."""
    condition, yes, no = c.node(condition), c.node(yes), c.node(no)
    if c.target == "Select" and condition.tensor.rank == 1 and yes.tensor.rank > 1:
        condition = c.reshape(condition, (condition.shape[0], *(1,) * (yes.tensor.rank - 1)))
    return pointwise(c, "where", condition, yes, no)


@operation("Cast")
def cast(c: Context, x: Node) -> Node:
    """Another type of element."""
    wanted: DType = dtype_of(c.attrs["DstT"].name, c.target)
    return x if x.dtype == wanted else _cast(c, c.node(x), wanted)


def _cast(c: Context, x: Node, wanted: DType) -> Node:
    if wanted.kind == "float" and wanted != F32:
        c.refuse(f"Sol computes in float32, not in {wanted}")
    return pointwise(c, "cast", x, dtype=wanted)


@operation(
    "Identity", "StopGradient", "PreventGradient", "CheckNumerics", "Snapshot", "EnsureShape",
    "PlaceholderWithDefault",
)  # fmt: skip
def identity(c: Context, x: Value, *_: Any) -> Value:
    """The same value."""
    if c.target == "CheckNumerics":
        c.refuse("an error for values that are no numbers")
    if c.training and isinstance(x, Node) and c.target in ("StopGradient", "PreventGradient"):
        return c.op("detach", x)
    return x


@operation("IdentityN")
def identity_n(c: Context, *inputs: Value) -> tuple[Value, ...]:
    """The same values."""
    if c.training:
        c.refuse("it may have a gradient of its own")
    return inputs


@operation("BiasAdd", "BiasAddV1")
def bias_add(c: Context, x: Node, bias: Node) -> Node:
    """A number for each channel."""
    x, bias = c.node(x), c.node(bias)
    if c.target == "BiasAdd" and c.attrs["data_format"] == "NCHW":
        bias = c.reshape(bias, (bias.shape[0], *(1,) * (x.tensor.rank - 2)))
    return pointwise(c, "add", x, bias)


@operation("ZerosLike", "OnesLike")
def filled_like(c: Context, x: Node) -> Node:
    """Zeros or ones in the shape of x."""
    x = c.node(x)
    value = 0 if c.target == "ZerosLike" else 1
    return c.op("full", shape=x.shape, value=value, dtype=x.dtype)


@operation("LogicalXor")
def logical_xor(c: Context, a: Node, b: Node) -> Node:
    """One, but not both."""
    return pointwise(c, "logical_xor", c.cast(c.node(a), BOOL), c.cast(c.node(b), BOOL))
