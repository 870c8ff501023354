"""Rows of element-wise operators of two or three tensors or numbers, with PyTorch's promotion."""

from __future__ import annotations

from typing import Any

from sol.core.dtypes import BOOL, F32, DType
from sol.ir.graph import Node
from sol.pytorch.context import Context, Operand, Result, Scalar, result_dtype
from sol.pytorch.rows.table import Row, put, row


def pair(c: Context, a: Operand, b: Operand, dtype: DType | None = None) -> tuple[Node, Node]:
    """Both operands in the type that PyTorch computes in."""
    common = dtype or result_dtype(a, b)
    return c.operand(a, common), c.operand(b, common)


def binary(c: Context, op: str, a: Operand, b: Operand) -> Node:
    """op(a, b) after promotion."""
    return c.op(op, *pair(c, a, b))


# ---- plain ones: two operands, promoted

_PLAIN = {
    "maximum": "max", "minimum": "min", "max.other": "max", "min.other": "min",
    "remainder.Tensor": "mod", "remainder.Scalar": "mod", "remainder.Scalar_Tensor": "mod",
    "fmod.Tensor": "fmod", "fmod.Scalar": "fmod",
}  # fmt: skip
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_BITS = ("bitwise_and", "bitwise_or", "bitwise_xor")
_SHIFTS = {"bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift"}
_LOGIC = ("logical_and", "logical_or", "logical_xor")


def _plain(op: str) -> Row:
    def translate(c: Context, a: Operand, b: Operand) -> Result:
        return binary(c, op, a, b)

    return translate


def _logic(op: str) -> Row:
    def translate(c: Context, a: Operand, b: Operand) -> Result:
        return c.op(op, c.operand(a, BOOL), c.operand(b, BOOL))

    return translate


for _name, _op in _PLAIN.items():
    put(_name, _plain(_op))
for _op in _COMPARE:
    put(f"{_op}.Tensor", _plain(_op))
    put(f"{_op}.Scalar", _plain(_op))
for _op in _BITS:
    for _overload in ("Tensor", "Scalar", "Scalar_Tensor"):
        put(f"{_op}.{_overload}", _plain(_op))
for _name, _op in _SHIFTS.items():
    for _overload in ("Tensor", "Tensor_Scalar", "Scalar_Tensor"):
        put(f"{_name}.{_overload}", _plain(_op))
for _op, _name in (
    ("bitwise_and", "__and__"),
    ("bitwise_or", "__or__"),
    ("bitwise_xor", "__xor__"),
):
    put(f"{_name}.Tensor", _plain(_op))
    put(f"{_name}.Scalar", _plain(_op))
for _op in _LOGIC:
    put(_op, _logic(_op))


# ---- arithmetic


def scaled(c: Context, x: Operand, factor: Scalar, dtype: DType) -> Node:
    """factor * x in this type."""
    node = c.operand(x, dtype)
    return node if factor == 1 else c.op("mul", node, c.constant(factor, dtype))


@row("add.Tensor", "add.Scalar")
def add(c: Context, a: Operand, b: Operand, alpha: Scalar = 1) -> Result:
    """a + alpha * b; of two booleans `or`."""
    common = result_dtype(a, b)
    if common == BOOL:
        return c.op("logical_or", *pair(c, a, b))
    return c.op("add", c.operand(a, common), scaled(c, b, alpha, common))


@row("sub.Tensor", "sub.Scalar")
def sub(c: Context, a: Operand, b: Operand, alpha: Scalar = 1) -> Result:
    """a - alpha * b."""
    common = result_dtype(a, b)
    return c.op("sub", c.operand(a, common), scaled(c, b, alpha, common))


@row("rsub.Tensor", "rsub.Scalar")
def rsub(c: Context, a: Operand, b: Operand, alpha: Scalar = 1) -> Result:
    """b - alpha * a."""
    return sub(c, b, a, alpha)


@row("mul.Tensor", "mul.Scalar")
def mul(c: Context, a: Operand, b: Operand) -> Result:
    """a * b; of two booleans `and`."""
    common = result_dtype(a, b)
    return c.op("logical_and" if common == BOOL else "mul", *pair(c, a, b, common))


@row("div.Tensor", "div.Scalar", "true_divide.Tensor", "true_divide.Scalar")
def div(c: Context, a: Operand, b: Operand) -> Result:
    """a / b in floating point."""
    common = result_dtype(a, b)
    return c.op("div", *pair(c, a, b, common if common.kind == "float" else F32))


@row("div.Tensor_mode", "div.Scalar_mode")
def div_mode(c: Context, a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Result:
    """a / b rounded: not at all, down, or towards zero."""
    if rounding_mode is None:
        return div(c, a, b)
    if rounding_mode == "floor":
        return binary(c, "floordiv", a, b)
    if result_dtype(a, b).kind != "float":
        c.refuse("division of integers that rounds towards zero")
    return c.op("trunc", binary(c, "div", a, b))


@row("floor_divide", "floor_divide.Scalar")
def floor_divide(c: Context, a: Operand, b: Operand) -> Result:
    """floor(a / b)."""
    return binary(c, "floordiv", a, b)


@row("atan2", "arctan2")
def atan2(c: Context, a: Node, b: Node) -> Result:
    """The angle of the point (b, a)."""
    common = result_dtype(a, b)
    return c.op("atan2", *pair(c, a, b, common if common.kind == "float" else F32))


# exponents for which PyTorch does not call pow, and neither does Sol
_POWERS: dict[float, tuple[str, ...]] = {
    1.0: (), 2.0: ("square",), 0.5: ("sqrt",), -0.5: ("rsqrt",), -1.0: ("reciprocal",),
    -2.0: ("square", "reciprocal"),
}  # fmt: skip


@row("pow.Tensor_Scalar")
def pow_scalar(c: Context, x: Node, exponent: Scalar) -> Result:
    """x to a fixed power."""
    common = result_dtype(x, exponent)
    base = c.operand(x, common)
    if common.kind == "float" and float(exponent) in _POWERS:
        for op in _POWERS[float(exponent)]:
            base = c.op(op, base)
        return base
    if exponent == 3:
        return c.op("mul", c.op("square", base), base)
    return c.op("pow", base, c.constant(exponent, common))


put("pow.Tensor_Tensor", _plain("pow"))
put("pow.Scalar", _plain("pow"))


# ---- of three


@row("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(c: Context, condition: Node, yes: Operand, no: Operand) -> Result:
    """yes where the condition holds, else no."""
    return c.op("where", c.cast(condition, BOOL), *pair(c, yes, no))


@row("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(c: Context, x: Node, mask: Node, value: Operand) -> Result:
    """value where the mask holds, else x, in x's type."""
    return c.op("where", c.cast(mask, BOOL), c.operand(value, x.dtype), x)


@row("addcmul", "addcdiv")
def addcmul(c: Context, x: Node, a: Node, b: Node, *, value: Scalar = 1) -> Result:
    """x + value * a * b, or x + value * a / b."""
    common = result_dtype(x, a, b)
    op = "mul" if c.target.startswith("aten.addcmul") else "div"
    if op == "div" and common.kind != "float":
        c.refuse("integers")
    term = c.op(op, scaled(c, a, value, common), c.operand(b, common))
    return c.op("add", c.operand(x, common), term)


@row("lerp.Scalar", "lerp.Tensor")
def lerp(c: Context, start: Node, end: Node, weight: Operand) -> Result:
    """start + weight * (end - start), from the nearer end as PyTorch does it."""
    distance = c.op("sub", end, start)
    w = c.operand(weight, start.dtype)
    one = c.constant(1, start.dtype)
    low = c.op("add", start, c.op("mul", w, distance))
    high = c.op("sub", end, c.op("mul", distance, c.op("sub", one, w)))
    if isinstance(weight, (int, float)):
        return low if abs(weight) < 0.5 else high
    near = c.op("lt", c.op("abs", w), c.constant(0.5, start.dtype))
    return c.op("where", near, low, high)


# ---- bounds


@row("clamp", "clip")
def clamp(c: Context, x: Node, low: Scalar | None = None, high: Scalar | None = None) -> Result:
    """min(max(x, low), high); NaN stays."""
    given = [b for b in (low, high) if b is not None]
    common = result_dtype(x, *given)
    convert = float if common.kind == "float" else int
    bounds = {k: None if b is None else convert(b) for k, b in (("low", low), ("high", high))}
    return c.op("clamp", c.cast(x, common), **bounds)


@row("clamp_min")
def clamp_min(c: Context, x: Node, low: Scalar) -> Result:
    """max(x, low)."""
    return clamp(c, x, low)


@row("clamp_max")
def clamp_max(c: Context, x: Node, high: Scalar) -> Result:
    """min(x, high)."""
    return clamp(c, x, None, high)


@row("hardtanh")
def hardtanh(c: Context, x: Node, low: Scalar = -1, high: Scalar = 1) -> Result:
    """x between low and high."""
    return clamp(c, x, low, high)


@row("relu6")
def relu6(c: Context, x: Node) -> Result:
    """x between 0 and 6."""
    return clamp(c, x, 0, 6)


@row("clamp.Tensor", "clip.Tensor")
def clamp_tensor(c: Context, x: Node, low: Any = None, high: Any = None) -> Result:
    """Bounds that are tensors."""
    if low is not None:
        x = binary(c, "max", x, low)
    return x if high is None else binary(c, "min", x, high)


@row("clamp_min.Tensor")
def clamp_min_tensor(c: Context, x: Node, low: Node) -> Result:
    """max(x, low)."""
    return binary(c, "max", x, low)


@row("clamp_max.Tensor")
def clamp_max_tensor(c: Context, x: Node, high: Node) -> Result:
    """min(x, high)."""
    return binary(c, "min", x, high)
