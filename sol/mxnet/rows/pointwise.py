"""Rows of element-wise operators: of one tensor, of two, and of a tensor and a number."""

from __future__ import annotations

from functools import cache
from math import pi

from sol.core.dtypes import BOOL, F32, I64, DType
from sol.ir.graph import Node
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import Function, put, row

# ---- one tensor ----------------------------------------------------------------------------------

# MXNet's name (in NumPy's interface: _npi_…) -> Sol's; the result is floating point
_FLOATING = {
    "exp": "exp", "expm1": "expm1", "log": "log", "log10": "log10", "log1p": "log1p",
    "log2": "log2", "sqrt": "sqrt", "rsqrt": "rsqrt", "reciprocal": "reciprocal", "sin": "sin",
    "cos": "cos", "tan": "tan", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
    "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
}  # fmt: skip
_SAME = {
    "abs": "abs", "sign": "sign", "negative": "neg", "floor": "floor", "ceil": "ceil",
    "trunc": "trunc", "fix": "trunc", "square": "square",
}  # fmt: skip
_OTHER = {
    "_npi_absolute": "abs", "relu": "relu", "_npx_relu": "relu", "sigmoid": "sigmoid",
    "_npx_sigmoid": "sigmoid", "erf": "erf", "_npx_erf": "erf", "softsign": "softsign",
    "_npi_isnan": "isnan", "_npi_isinf": "isinf", "_npi_logical_not": "logical_not",
    "_npi_bitwise_not": "bitwise_not",
}  # fmt: skip


@cache
def _floating(op: str) -> Function:
    def translate(c: Context, x: Node) -> Result:
        return c.op(op, c.floating(x))

    translate.__doc__ = f"Sol's {op}, in floating point."
    return translate


@cache
def _same(op: str) -> Function:
    def translate(c: Context, x: Node) -> Result:
        if op in ("floor", "ceil", "trunc", "round") and x.dtype.kind != "float":
            return x
        return c.op(op, x)

    translate.__doc__ = f"Sol's {op}."
    return translate


for _name, _op in _FLOATING.items():
    put(_name, _floating(_op))
    if _name != "rsqrt":
        put(f"_npi_{_name}", _floating(_op))
for _name, _op in _SAME.items():
    put(_name, _same(_op))
    put(f"_npi_{_name}", _same(_op))
for _name, _op in _OTHER.items():
    put(_name, _same(_op))


@row("logical_not")
def logical_not(c: Context, x: Node) -> Result:
    """x == 0, as a number."""
    return c.cast(c.op("logical_not", x), x.dtype)


@row("rint", "_npi_rint")
def rint(c: Context, x: Node) -> Result:
    """x rounded, halves down."""
    low, high = c.op("floor", x), c.op("ceil", x)
    return c.op("where", c.op("le", c.op("sub", x, low), c.op("sub", high, x)), low, high)


@row("round")
def round_away(c: Context, x: Node) -> Result:
    """x rounded, halves away from 0."""
    away = c.op("floor", c.op("add", c.op("abs", x), c.constant(0.5, F32)))
    return c.op("mul", c.op("sign", x), away)


@row("_npi_around")
def around(c: Context, x: Node, *, decimals: int = 0) -> Result:
    """x rounded, halves to even."""
    if decimals:
        c.refuse(f"{decimals} decimals")
    return c.op("round", x) if x.dtype.kind == "float" else x


@row("cbrt", "_npi_cbrt")
def cbrt(c: Context, x: Node) -> Result:
    """The cube root, of negative numbers too."""
    x = c.floating(x)
    root = c.op("pow", c.op("abs", x), c.constant(1 / 3, F32))
    return c.op("mul", c.op("sign", x), root)


@row("rcbrt")
def rcbrt(c: Context, x: Node) -> Result:
    """1 / the cube root."""
    root = cbrt(c, x)
    assert isinstance(root, Node)
    return c.op("reciprocal", root)


@row("arcsinh", "_npi_arcsinh")
def arcsinh(c: Context, x: Node) -> Result:
    """ln(|x| + √(x² + 1)) with the sign of x, exact near 0."""
    x = c.floating(x)
    size = c.op("abs", x)
    square, one = c.op("square", x), c.constant(1, F32)
    root = c.op("sqrt", c.op("add", square, one))
    more = c.op("div", square, c.op("add", root, one))
    return c.op("mul", c.op("sign", x), c.op("log1p", c.op("add", size, more)))


@row("arccosh", "_npi_arccosh")
def arccosh(c: Context, x: Node) -> Result:
    """ln(x + √(x² - 1)), written so that it is exact near 1."""
    less = c.op("sub", c.floating(x), c.constant(1, F32))
    root = c.op("sqrt", c.op("mul", less, c.op("add", less, c.constant(2, F32))))
    return c.op("log1p", c.op("add", less, root))


@row("arctanh", "_npi_arctanh")
def arctanh(c: Context, x: Node) -> Result:
    """(ln(1 + x) - ln(1 - x)) / 2."""
    x = c.floating(x)
    both = c.op("sub", c.op("log1p", x), c.op("log1p", c.op("neg", x)))
    return c.op("mul", both, c.constant(0.5, F32))


@cache
def _scaled(factor: float) -> Function:
    def translate(c: Context, x: Node) -> Result:
        return c.op("mul", c.floating(x), c.constant(factor, F32))

    translate.__doc__ = f"{factor:.6g} x."
    return translate


for _name, _factor in (("degrees", 180 / pi), ("radians", pi / 180)):
    put(_name, _scaled(_factor))
    put(f"_npi_{_name}", _scaled(_factor))


@row("_copy", "identity", "_np_copy", "BlockGrad", "stop_gradient", "make_loss", "MakeLoss",
     "_identity_with_attr_like_rhs", "LinearRegressionOutput", "MAERegressionOutput",
     "_npi_share_memory", "_CrossDeviceCopy")  # fmt: skip
def identity(c: Context, x: Node, other: Node | None = None) -> Result:
    """x: what these do matters in training only."""
    return x


@row("Dropout", "_npx_dropout")
def dropout(
    c: Context, x: Node, *, p: float = 0.5, mode: str = "training", axes: tuple[int, ...] = ()
) -> Result:
    """x: inference drops nothing."""
    if mode != "training":
        c.refuse(f"mode={mode!r} draws random numbers in inference too")
    return x


@row("LogisticRegressionOutput")
def logistic_output(c: Context, x: Node, label: Node | None = None) -> Result:
    """The sigmoid; the label matters in training only."""
    return c.op("sigmoid", x)


@row("Cast", "cast", "amp_cast", "_npi_cast", "_npx_cast")
def cast(c: Context, x: Node, *, dtype: DType) -> Result:
    """x as another element type."""
    return c.cast(x, dtype)


@row("clip", "_npi_clip")
def clip(c: Context, x: Node, *, a_min: float, a_max: float) -> Result:
    """min(max(x, a_min), a_max)."""
    if x.dtype.kind != "float":
        return c.op("clamp", x, low=int(a_min), high=int(a_max))
    return c.op("clamp", x, low=a_min, high=a_max)


@row("smooth_l1", "_npx_smooth_l1")
def smooth_l1(c: Context, x: Node, *, scalar: float) -> Result:
    """(scalar x)² / 2 where |x| < 1 / scalar², else |x| - 1/2 / scalar²."""
    square = scalar * scalar
    size = c.op("abs", x)
    inner = c.op("mul", c.op("square", x), c.constant(0.5 * square, F32))
    outer = c.op("sub", size, c.constant(0.5 / square, F32))
    return c.op("where", c.op("lt", size, c.constant(1 / square, F32)), inner, outer)


@row("_contrib_div_sqrt_dim")
def div_sqrt_dim(c: Context, x: Node) -> Result:
    """x / √(size of the last axis)."""
    return c.op("mul", x, c.constant(c.size(x, -1) ** -0.5, F32))


@row("_npi_nan_to_num")
def nan_to_num(
    c: Context, x: Node, *, nan: float = 0.0, posinf: float | None = None,
    neginf: float | None = None,
) -> Result:  # fmt: skip
    """x with numbers in place of NaN and infinities."""
    largest = 3.4028234663852886e38
    x = c.op("where", c.op("isnan", x), c.constant(nan, F32), x)
    x = _replaced(c, x, "eq", float("inf"), largest if posinf is None else posinf)
    return _replaced(c, x, "eq", float("-inf"), -largest if neginf is None else neginf)


def _replaced(c: Context, x: Node, test: str, value: float, by: float) -> Node:
    return c.op("where", c.op(test, x, c.constant(value, F32)), c.constant(by, F32), x)


# ---- two tensors ---------------------------------------------------------------------------------

# name -> (Sol's operator, whether the result is a truth value)
_BINARY = {
    "add": ("add", False), "sub": ("sub", False), "mul": ("mul", False), "div": ("div", False),
    "mod": ("mod", False), "power": ("pow", False), "maximum": ("max", False),
    "minimum": ("min", False), "equal": ("eq", True), "not_equal": ("ne", True),
    "greater": ("gt", True), "greater_equal": ("ge", True), "lesser": ("lt", True),
    "lesser_equal": ("le", True), "logical_and": ("logical_and", True),
    "logical_or": ("logical_or", True), "logical_xor": ("logical_xor", True),
}  # fmt: skip
_NUMPY_BINARY = {
    "add": "add", "subtract": "sub", "multiply": "mul", "true_divide": "div", "mod": "mod",
    "power": "pow", "maximum": "max", "minimum": "min", "arctan2": "atan2", "equal": "eq",
    "not_equal": "ne", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
    "bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or", "bitwise_xor": "bitwise_xor",
}  # fmt: skip


def _equal_shapes(c: Context, a: Node, b: Node) -> None:
    c.need(a.shape == b.shape, f"shapes {a.tensor} and {b.tensor}", "equal shapes")


def _binary(c: Context, op: str, a: Node, b: Node, truth: bool) -> Node:
    """Of tensors of one type; truth values are numbers of that type."""
    c.need(a.dtype == b.dtype, f"types {a.tensor} and {b.tensor}", "equal element types")
    if op == "div" and a.dtype.kind != "float":
        c.refuse(f"a quotient of {a.dtype}")
    result = c.op(op, a, b)
    return c.cast(result, a.dtype) if truth else result


@cache
def _elementwise(op: str, truth: bool) -> Function:
    def translate(c: Context, a: Node, b: Node) -> Result:
        _equal_shapes(c, a, b)
        return _binary(c, op, a, b, truth)

    translate.__doc__ = f"Sol's {op} of tensors of equal shapes."
    return translate


@cache
def _broadcast(op: str, truth: bool) -> Function:
    def translate(c: Context, a: Node, b: Node) -> Result:
        return _binary(c, op, a, b, truth)

    translate.__doc__ = f"Sol's {op}; sizes of 1 broadcast."
    return translate


@cache
def _numpy(op: str) -> Function:
    def translate(c: Context, a: Node, b: Node) -> Result:
        if op == "div" and "float" not in (a.dtype.kind, b.dtype.kind):
            a, b = c.floating(a), c.floating(b)
        return c.op(op, *c.promoted(a, b))

    translate.__doc__ = f"Sol's {op}; shapes broadcast as in NumPy."
    return translate


for _name, (_op, _truth) in _BINARY.items():
    put(f"broadcast_{_name}", _broadcast(_op, _truth))
    put(f"_{_name}", _elementwise(_op, _truth))
    if _name in ("add", "sub", "mul", "div"):
        put(f"elemwise_{_name}", _elementwise(_op, _truth))
for _name, _op in _NUMPY_BINARY.items():
    put(f"_npi_{_name}", _numpy(_op))
for _alias, _name in (("_plus", "add"), ("_minus", "sub"), ("_grad_add", "add"),
                      ("_scatter_elemwise_div", "div"), ("_Plus", "add"), ("_Minus", "sub"),
                      ("_Mul", "mul"), ("_Div", "div"), ("_Power", "power"),
                      ("_Maximum", "maximum"), ("_Minimum", "minimum")):  # fmt: skip
    put(_alias, _elementwise(*_BINARY[_name]))
put("broadcast_plus", _broadcast("add", False))
put("broadcast_minus", _broadcast("sub", False))


def _hypot(c: Context, a: Node, b: Node) -> Node:
    """√(a² + b²) without overflow in between."""
    a, b = c.op("abs", a), c.op("abs", b)
    large, small = c.op("max", a, b), c.op("min", a, b)
    some = c.op("where", c.op("eq", large, c.constant(0, F32)), c.constant(1, F32), large)
    ratio = c.op("square", c.op("div", small, some))
    return c.op("mul", large, c.op("sqrt", c.op("add", ratio, c.constant(1, F32))))


@row("broadcast_hypot", "_hypot", "_npi_hypot")
def hypot(c: Context, a: Node, b: Node) -> Result:
    """√(a² + b²)."""
    return _hypot(c, c.floating(a), c.floating(b))


@row("add_n", "ElementWiseSum")
def add_n(c: Context, *terms: Node) -> Result:
    """The sum of tensors of equal shapes."""
    c.need(len(terms) > 0, "no terms", "one at least")
    total = terms[0]
    for term in terms[1:]:
        _equal_shapes(c, total, term)
        total = _binary(c, "add", total, term, False)
    return total


@row("where", "_npi_where")
def where(c: Context, condition: Node, yes: Node, no: Node) -> Result:
    """yes where the condition is not 0, else no."""
    if not c.target.startswith("_npi"):
        _equal_shapes(c, yes, no)
        if condition.shape != yes.shape:  # a condition for each element of the first axis
            c.need(condition.shape == yes.shape[:1], f"a condition {condition.tensor}",
                   f"the shape of {yes.tensor}, or its first size")  # fmt: skip
            condition = c.reshape(condition, (*yes.shape[:1], *(1,) * (yes.tensor.rank - 1)))
    return c.op("where", c.condition(condition), *c.promoted(yes, no))


@row("_npi_where_lscalar", "_npi_where_rscalar")
def where_scalar(c: Context, condition: Node, x: Node, *, scalar: float = 0.0) -> Result:
    """The number where the condition is not 0 (lscalar), or where it is 0 (rscalar)."""
    test, number = c.condition(condition), c.constant(scalar, x.dtype)
    pair = (number, x) if c.target.endswith("lscalar") else (x, number)
    return c.op("where", test, *pair)


# ---- a tensor and a number -----------------------------------------------------------------------

# name -> (Sol's operator, whether the number stands in front, whether the result is a truth value)
_SCALAR = {
    "plus": ("add", False, False), "minus": ("sub", False, False), "rminus": ("sub", True, False),
    "mul": ("mul", False, False), "div": ("div", False, False), "rdiv": ("div", True, False),
    "mod": ("mod", False, False), "rmod": ("mod", True, False), "power": ("pow", False, False),
    "rpower": ("pow", True, False), "maximum": ("max", False, False),
    "minimum": ("min", False, False), "equal": ("eq", False, True),
    "not_equal": ("ne", False, True), "greater": ("gt", False, True),
    "greater_equal": ("ge", False, True), "lesser": ("lt", False, True),
    "lesser_equal": ("le", False, True), "logical_and": ("logical_and", False, True),
    "logical_or": ("logical_or", False, True), "logical_xor": ("logical_xor", False, True),
}  # fmt: skip
_NUMPY_SCALAR = {
    "add": "plus", "subtract": "minus", "rsubtract": "rminus", "multiply": "mul",
    "true_divide": "div", "rtrue_divide": "rdiv", "mod": "mod", "rmod": "rmod",
    "power": "power", "rpower": "rpower", "maximum": "maximum", "minimum": "minimum",
    "equal": "equal", "not_equal": "not_equal", "greater": "greater",
    "greater_equal": "greater_equal", "less": "lesser", "less_equal": "lesser_equal",
}  # fmt: skip


def _number(c: Context, x: Node, scalar: float, whole: bool) -> tuple[Node, Node]:
    """x and a number of its type."""
    if x.dtype.kind == "float":
        return x, c.constant(scalar, x.dtype)
    if not whole or scalar != int(scalar):
        c.refuse("whole numbers and a fraction: the result is float64")
    x = c.cast(x, I64) if x.dtype == BOOL else x
    return x, c.constant(int(scalar), x.dtype)


@cache
def _with_scalar(op: str, front: bool, truth: bool) -> Function:
    def translate(c: Context, x: Node, *, scalar: float = 1.0, is_int: bool = True) -> Result:
        a, b = _number(c, x, scalar, is_int)
        if op == "div" and a.dtype.kind != "float":
            c.refuse(f"a quotient of {a.dtype}")
        result = c.op(op, b, a) if front else c.op(op, a, b)
        return c.cast(result, x.dtype) if truth else result

    translate.__doc__ = f"Sol's {op} of {'the number and x' if front else 'x and the number'}."
    return translate


@cache
def _numpy_scalar(op: str, front: bool, truth: bool) -> Function:
    def translate(c: Context, x: Node, *, scalar: float = 1.0, is_int: bool = True) -> Result:
        a, b = _number(c, x, scalar, is_int)
        if op == "div":
            a, b = c.floating(a), c.floating(b)
        return c.op(op, b, a) if front else c.op(op, a, b)

    translate.__doc__ = f"Sol's {op} of {'the number and x' if front else 'x and the number'}."
    return translate


for _name, _meaning in _SCALAR.items():
    put(f"_{_name}_scalar", _with_scalar(*_meaning))
for _name, _known in _NUMPY_SCALAR.items():
    put(f"_npi_{_name}_scalar", _numpy_scalar(*_SCALAR[_known]))
for _alias, _name in (("_PlusScalar", "plus"), ("_MinusScalar", "minus"),
                      ("_RMinusScalar", "rminus"), ("_MulScalar", "mul"), ("_DivScalar", "div"),
                      ("_RDivScalar", "rdiv"), ("_PowerScalar", "power"),
                      ("_RPowerScalar", "rpower"), ("_MaximumScalar", "maximum"),
                      ("_MinimumScalar", "minimum"), ("_scatter_plus_scalar", "plus"),
                      ("_scatter_minus_scalar", "minus")):  # fmt: skip
    put(_alias, _with_scalar(*_SCALAR[_name]))


@row("_hypot_scalar", "_npi_hypot_scalar")
def hypot_scalar(c: Context, x: Node, *, scalar: float = 1.0, is_int: bool = True) -> Result:
    """√(x² + scalar²)."""
    return _hypot(c, c.floating(x), c.constant(scalar, F32))


@row("_npi_arctan2_scalar", "_npi_rarctan2_scalar")
def arctan2_scalar(c: Context, x: Node, *, scalar: float = 1.0, is_int: bool = True) -> Result:
    """The angle of the point (scalar, x), or (x, scalar)."""
    pair = (c.floating(x), c.constant(scalar, F32))
    return c.op("atan2", *(pair[::-1] if "rarctan2" in c.target else pair))
