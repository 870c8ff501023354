"""Element-wise operators that are one operation of the scalar table, or close to it.

`_UNARY` and `_BINARY` are the operators: name, formula, meaning, what it takes and gives. The
activation functions are in activation.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sol.core.dtypes import BOOL, F32, I32, I64, DType, promote
from sol.ir.expr import Expr, apply, cast, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.gradients import elementwise as gradient_of
from sol.ops.pointwise import ANY, NUMBERS, ResultRule, Scalar, declare, pointwise
from sol.ops.registry import Sample
from sol.ops.rules import broadcast, need_kind
from sol.ops.sampling import boolean, f32, i64, u8


def _op(name: str) -> Scalar:
    """The scalar operation of this name."""
    return lambda node, *elements: apply(name, *elements)


def _for_floats(name: str) -> Scalar:
    """Rounding: integers and booleans are round already."""
    return lambda node, x: apply(name, x) if x.dtype.kind == "float" else x


def _test_float(name: str) -> Scalar:
    """isnan and isinf: never true for integers."""
    return lambda node, x: apply(name, x) if x.dtype.kind == "float" else const(False)


def _logical(name: Literal["and", "or", "xor"]) -> Scalar:
    return lambda node, a, b: apply(name, cast(a, BOOL), cast(b, BOOL))


def _logical_not(node: Node, x: Expr) -> Expr:
    return apply("not", x) if x.dtype == BOOL else apply("eq", x, 0)


def _arithmetic(name: str, of_bools: str) -> Scalar:
    """add, mul, max, min; of booleans they are or, and."""
    return lambda node, a, b: apply(of_bools if a.dtype == b.dtype == BOOL else name, a, b)


def _pow(node: Node, x: Expr, exponent: Expr) -> Expr:
    """Small constant exponents become multiplications, roots and reciprocals, as in PyTorch."""
    if exponent.op != "const" or node.dtype.kind != "float":
        return apply("pow", x, exponent)
    x = cast(x, node.dtype)
    match float(exponent.value):
        case 1.0:
            return x
        case 2.0:
            return x * x
        case 3.0:
            return x * x * x
        case -1.0:
            return 1.0 / x
        case -2.0:
            return 1.0 / (x * x)
        case 0.5:
            return apply("sqrt", x)
        case -0.5:
            return apply("rsqrt", x)
    return apply("pow", x, exponent)


_UnaryRow = tuple[str, str, Scalar, ResultRule, Sequence[str], tuple[float, float]]

_WIDE = (-3.0, 3.0)
_POSITIVE = (0.1, 4.0)
_UNIT = (-1.0, 1.0)

_UNARY: tuple[_UnaryRow, ...] = (
    ("neg", "y = -x", _op("neg"), "same", NUMBERS, _WIDE),
    ("abs", "y = |x|", _op("abs"), "same", NUMBERS, _WIDE),
    ("sign", "y = 1 where x > 0, -1 where x < 0, else 0", _op("sign"), "same", NUMBERS, _WIDE),
    ("exp", "y = e^x", _op("exp"), "float", ANY, _WIDE),
    ("expm1", "y = e^x - 1, exact near 0", _op("expm1"), "float", ANY, _WIDE),
    ("log", "y = ln x", _op("log"), "float", ANY, _POSITIVE),
    ("log1p", "y = ln(1 + x), exact near 0", _op("log1p"), "float", ANY, (-0.9, 3.0)),
    ("log2", "y = ln x / ln 2", _op("log2"), "float", ANY, _POSITIVE),
    ("log10", "y = ln x / ln 10", _op("log10"), "float", ANY, _POSITIVE),
    ("sqrt", "y = x^(1/2)", _op("sqrt"), "float", ANY, _POSITIVE),
    ("rsqrt", "y = x^(-1/2)", _op("rsqrt"), "float", ANY, _POSITIVE),
    ("reciprocal", "y = 1 / x", lambda node, x: 1.0 / x, "float", ANY, _POSITIVE),
    ("sin", "y = sin x", _op("sin"), "float", ANY, (-10.0, 10.0)),
    ("cos", "y = cos x", _op("cos"), "float", ANY, (-10.0, 10.0)),
    ("tan", "y = tan x", _op("tan"), "float", ANY, _UNIT),
    ("asin", "y = arcsin x", _op("asin"), "float", ANY, _UNIT),
    ("acos", "y = arccos x", _op("acos"), "float", ANY, _UNIT),
    ("atan", "y = arctan x", _op("atan"), "float", ANY, _WIDE),
    ("sinh", "y = (e^x - e^-x) / 2", _op("sinh"), "float", ANY, _WIDE),
    ("cosh", "y = (e^x + e^-x) / 2", _op("cosh"), "float", ANY, _WIDE),
    ("tanh", "y = (e^x - e^-x) / (e^x + e^-x)", _op("tanh"), "float", ANY, _WIDE),
    ("erf", "y = 2/√π ∫₀ˣ e^(-t²) dt", _op("erf"), "float", ANY, _WIDE),
    ("ndtr", "y = (1 + erf(x/√2)) / 2", _op("ndtr"), "float", ANY, _WIDE),
    ("sigmoid", "y = 1 / (1 + e^-x)", _op("sigmoid"), "float", ANY, (-9.0, 9.0)),
    ("relu", "y = max(x, 0); NaN stays NaN", _op("relu"), "same", NUMBERS, _WIDE),
    ("floor", "y = ⌊x⌋", _for_floats("floor"), "same", NUMBERS, _WIDE),
    ("ceil", "y = ⌈x⌉", _for_floats("ceil"), "same", NUMBERS, _WIDE),
    ("round", "y = x rounded, halves to even", _for_floats("round"), "same", NUMBERS, _WIDE),
    ("trunc", "y = x rounded towards 0", _for_floats("trunc"), "same", NUMBERS, _WIDE),
    ("square", "y = x * x", lambda node, x: x * x, "same", NUMBERS, _WIDE),
    ("logical_not", "y = (x == 0)", _logical_not, "bool", ANY, _WIDE),
    ("bitwise_not", "y = ~x, of booleans not x", _op("not"), "same", ("int", "bool"), _WIDE),
    ("isnan", "y = x is not a number", _test_float("isnan"), "bool", ANY, _WIDE),
    ("isinf", "y = x is +∞ or -∞", _test_float("isinf"), "bool", ANY, _WIDE),
)  # fmt: skip

_BinaryRow = tuple[str, str, Scalar, ResultRule, Sequence[str], tuple[float, float]]

_BINARY: tuple[_BinaryRow, ...] = (
    ("add", "y = a + b, of booleans a or b", _arithmetic("add", "or"), "same", ANY, _WIDE),
    ("sub", "y = a - b", _op("sub"), "same", NUMBERS, _WIDE),
    ("mul", "y = a * b, of booleans a and b", _arithmetic("mul", "and"), "same", ANY, _WIDE),
    ("div", "y = a / b, as floating point", _op("div"), "float", ANY, (0.5, 4.0)),
    ("floordiv", "y = ⌊a / b⌋", _op("floordiv"), "same", NUMBERS, (1.0, 9.0)),
    ("mod", "y = a - b * ⌊a / b⌋: the sign of b", _op("mod"), "same", NUMBERS, (1.0, 9.0)),
    ("fmod", "y = a - b * trunc(a / b): the sign of a", _op("fmod"), "same", NUMBERS, (1.0, 9.0)),
    ("max", "y = the larger one; NaN if one is NaN", _arithmetic("max", "or"), "same", ANY, _WIDE),
    ("min", "y = the lesser one; NaN if one is NaN", _arithmetic("min", "and"), "same", ANY, _WIDE),
    ("pow", "y = a^b", _pow, "same", NUMBERS, (0.2, 3.0)),
    ("atan2", "y = the angle of the point (b, a)", _op("atan2"), "float", ANY, _WIDE),
    ("eq", "y = (a == b)", _op("eq"), "bool", ANY, _WIDE),
    ("ne", "y = (a != b)", _op("ne"), "bool", ANY, _WIDE),
    ("lt", "y = (a < b)", _op("lt"), "bool", ANY, _WIDE),
    ("le", "y = (a <= b)", _op("le"), "bool", ANY, _WIDE),
    ("gt", "y = (a > b)", _op("gt"), "bool", ANY, _WIDE),
    ("ge", "y = (a >= b)", _op("ge"), "bool", ANY, _WIDE),
    ("logical_and", "y = (a != 0) and (b != 0)", _logical("and"), "bool", ANY, _WIDE),
    ("logical_or", "y = (a != 0) or (b != 0)", _logical("or"), "bool", ANY, _WIDE),
    ("logical_xor", "y = (a != 0) ≠ (b != 0)", _logical("xor"), "bool", ANY, _WIDE),
    ("bitwise_and", "y = a & b", _op("and"), "same", ("int", "bool"), _WIDE),
    ("bitwise_or", "y = a | b", _op("or"), "same", ("int", "bool"), _WIDE),
    ("bitwise_xor", "y = a ^ b", _op("xor"), "same", ("int", "bool"), _WIDE),
    ("left_shift", "y = a * 2^b, without the bits that leave the type; 0 for b below 0 or beyond "
     "its bits", _op("shl"), "same", ("int",), (0.0, 9.0)),
    ("right_shift", "y = ⌊a / 2^b⌋; 0 or -1 for b below 0 or beyond the bits of the type",
     _op("shr"), "same", ("int",), (0.0, 9.0)),
)  # fmt: skip


def _unary_samples(kinds: Sequence[str], low: float, high: float) -> list[Sample]:
    samples: list[Sample] = []
    if "float" in kinds:
        shapes = ((2, 3, 7), (33,), (), (1, 17, 1), (2, 3, 5, 7))
        samples += [Sample((f32(*s),), {}, low, high) for s in shapes]
    if "int" in kinds and low < high - 1:
        samples.append(Sample((i64(5, 7),), {}, max(low, 1) if low > 0 else low, high))
    if "bool" in kinds and "float" not in kinds:
        samples.append(Sample((boolean(13),)))
    return samples


def _binary_samples(kinds: Sequence[str], low: float, high: float) -> list[Sample]:
    samples: list[Sample] = []
    if "float" in kinds:
        pairs = (
            (f32(2, 3, 7), f32(2, 3, 7)),
            (f32(24, 17), f32(17)),
            (f32(2, 5, 1, 3), f32(5, 7, 1)),
            (f32(13), f32()),
            (f32(), f32(1, 1)),
        )
        samples += [Sample(pair, {}, low, high) for pair in pairs]
    if "int" in kinds:
        samples.append(Sample((i64(7, 5), i64(5)), {}, low, high))
    if kinds == ("int",):
        samples.append(Sample((i64(33), i64()), {}, low, high))
    if "float" in kinds and "int" in kinds:
        samples.append(Sample((i64(7, 5), f32(7, 1)), {}, low, high))
    if "bool" in kinds:
        samples.append(Sample((boolean(3, 13), boolean(13)), {}, low, high))
    return samples


for _row in _UNARY:
    _name, _doc, _scalar, _result, _kinds, _range = _row
    _samples = _unary_samples(_kinds, *_range)
    pointwise(_name, f"`{_doc}`", _scalar, _samples, result=_result, kinds=_kinds)

for _row in _BINARY:
    _name, _doc, _scalar, _result, _kinds, _range = _row
    _samples = _binary_samples(_kinds, *_range)
    _inputs = ("a", "b")
    pointwise(_name, f"`{_doc}`", _scalar, _samples, inputs=_inputs, result=_result, kinds=_kinds)


def _clamp(node: Node, x: Expr) -> Expr:
    low, high = node["low"], node["high"]
    if low is not None:
        x = apply("max", x, low)
    return x if high is None else apply("min", x, high)


pointwise(
    "clamp",
    "`y = min(max(x, low), high)`; a bound that is None does not bind. NaN stays NaN.",
    _clamp,
    (
        Sample((f32(3, 17),), {"low": -0.5, "high": 1.0}),
        Sample((f32(2, 3, 5, 7),), {"low": 0.0, "high": None}),
        Sample((f32(13),), {"low": None, "high": 0.25}),
        Sample((i64(24),), {"low": -1, "high": 3}, -9, 9),
    ),
    attrs=("low", "high"),
    kinds=NUMBERS,
)


def _infer_cast(x: TensorType, *, dtype: DType) -> TensorType:
    return TensorType(x.shape, dtype)


declare(
    "cast",
    "`y = dtype(x)`: floating point to integers rounds towards 0, anything to bool is `x != 0`.",
    _infer_cast,
    lambda node, x: cast(x, node.dtype),
    (
        Sample((f32(3, 17),), {"dtype": I64}, -9, 9),
        Sample((i64(5, 7),), {"dtype": F32}, -9, 9),
        Sample((boolean(2, 1, 13),), {"dtype": F32}),
        Sample((i64(33),), {"dtype": BOOL}),
        Sample((f32(),), {"dtype": I32}, -9, 9),
        Sample((u8(2, 3, 5),), {"dtype": F32}, 0, 255),
        Sample((f32(7),), {"dtype": F32}),
    ),
    gradient=gradient_of.cast,
)


def _infer_where(condition: TensorType, yes: TensorType, no: TensorType) -> TensorType:
    need_kind("where", condition, "bool")
    shape = broadcast("where", condition.shape, yes.shape, no.shape)
    return TensorType(shape, promote(yes.dtype, no.dtype))


declare(
    "where",
    "`y = yes where condition, else no`.",
    _infer_where,
    lambda node, condition, yes, no: where(condition, yes, no),
    (
        Sample((boolean(3, 7), f32(3, 7), f32(3, 7))),
        Sample((boolean(2, 1, 5), f32(), f32(2, 3, 5))),
        Sample((boolean(1, 13), f32(24, 13), f32(13))),
        Sample((boolean(17), i64(17), i64())),
        Sample((boolean(), f32(2, 3), f32(1, 3))),
    ),
)
