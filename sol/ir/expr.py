"""Expressions: what stands at one element of a tensor, as a function of index variables.

An `Expr` is a constant, an index axis, a load from a tensor, a reduction over axes, or a scalar
operation of the table `SCALAR_OPS`. Expressions are interned: equal ones are the same object, so
comparison is identity and shared parts stay shared. Integer index arithmetic is normalised while it
is
built: sums of `coefficient * atom`, with floor division and modulo simplified by the extents of the
axes. Operators (ops/) describe themselves with expressions; ops/reference.py evaluates them in
NumPy; lower/ turns them into loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union
from weakref import WeakValueDictionary

import numpy as np

from sol.core.dims import Dim, Size, coefficients, dim
from sol.core.dtypes import BOOL, F32, I64, DType, promote

Number = int | float | bool
Operand = Union["Expr", Number]


class Expr:
    """One expression:

    `op` with arguments, a payload (`value`) and a dtype. Made by the functions of this module only.
    """

    __slots__ = ("__weakref__", "args", "dtype", "op", "value")
    op: str
    args: tuple[Expr, ...]
    value: Any
    dtype: DType

    def __add__(self, other: Operand) -> Expr:
        return apply("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return apply("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return apply("div", other, self)

    def __floordiv__(self, other: Operand) -> Expr:
        return apply("floordiv", self, other)

    def __mod__(self, other: Operand) -> Expr:
        return apply("mod", self, other)

    def __neg__(self) -> Expr:
        return apply("neg", self)

    def __lt__(self, other: Operand) -> Expr:
        return apply("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return apply("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return apply("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return apply("ge", self, other)

    def __and__(self, other: Operand) -> Expr:
        return apply("and", self, other)

    def __or__(self, other: Operand) -> Expr:
        return apply("or", self, other)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_intern, (self.op, self.args, self.value, self.dtype))

    def __str__(self) -> str:
        return show(self)

    __repr__ = __str__


_interned: WeakValueDictionary[Any, Expr] = WeakValueDictionary()


def _intern(op: str, args: tuple[Expr, ...], value: Any, dtype: DType) -> Expr:
    # repr() of floats keeps -0.0 apart from 0.0 and NaN equal to itself
    payload = (
        (type(value).__name__, repr(value))
        if isinstance(value, float)
        else (type(value).__name__, value)
    )
    key = (op, tuple(map(id, args)), payload, dtype.name)
    found = _interned.get(key)
    if found is None:
        found = Expr.__new__(Expr)
        found.op, found.args, found.value, found.dtype = op, args, value, dtype
        _interned[key] = found
    return found


# ---- the table of scalar operations --------------------------------------------------------------

Result = Literal["same", "bool", "float"]


@dataclass(frozen=True, slots=True)
class ScalarOp:
    """A scalar operation: name, number of arguments, its meaning in NumPy, type of the result."""

    name: str
    arity: int
    numpy: Callable[..., Any]
    result: Result = "same"


def _sign(x: Any) -> Any:
    return np.where(x > 0, np.ones_like(x), np.where(x < 0, -np.ones_like(x), np.zeros_like(x)))


def _erf(x: Any) -> Any:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _ndtr(x: Any) -> Any:
    return np.vectorize(lambda v: math.erfc(v * -math.sqrt(0.5)) / 2, otypes=[np.float64])(x)


def _sigmoid(x: Any) -> Any:
    return np.where(
        x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))
    )


def _relu(x: Any) -> Any:
    return np.where(x < 0, np.zeros_like(x), x)


def _places(a: Any, b: Any) -> tuple[Any, Any]:
    """Shifts by a number of bits between 0 and that of the type, and where it is so."""
    bits = np.iinfo(np.result_type(a, b)).bits
    inside = (b >= 0) & (b < bits)
    return np.where(inside, b, 0).astype(np.asarray(b).dtype), inside


def _shl(a: Any, b: Any) -> Any:
    places, inside = _places(a, b)
    return np.where(inside, np.left_shift(a, places), np.zeros_like(a))


def _shr(a: Any, b: Any) -> Any:
    places, inside = _places(a, b)
    return np.where(inside, np.right_shift(a, places), np.where(a < 0, ~np.zeros_like(a), 0))


_ROWS: tuple[tuple[str, int, Callable[..., Any], Result], ...] = (
    ("add", 2, np.add, "same"),
    ("sub", 2, np.subtract, "same"),
    ("mul", 2, np.multiply, "same"),
    ("div", 2, np.true_divide, "float"),
    ("floordiv", 2, np.floor_divide, "same"),
    ("mod", 2, np.remainder, "same"),
    ("fmod", 2, np.fmod, "same"),
    ("max", 2, np.maximum, "same"),
    ("min", 2, np.minimum, "same"),
    ("pow", 2, np.power, "same"),
    ("atan2", 2, np.arctan2, "float"),
    ("eq", 2, np.equal, "bool"),
    ("ne", 2, np.not_equal, "bool"),
    ("lt", 2, np.less, "bool"),
    ("le", 2, np.less_equal, "bool"),
    ("gt", 2, np.greater, "bool"),
    ("ge", 2, np.greater_equal, "bool"),
    ("and", 2, np.bitwise_and, "same"),
    ("or", 2, np.bitwise_or, "same"),
    ("xor", 2, np.bitwise_xor, "same"),
    ("shl", 2, _shl, "same"),
    ("shr", 2, _shr, "same"),
    ("not", 1, np.invert, "same"),
    ("neg", 1, np.negative, "same"),
    ("abs", 1, np.abs, "same"),
    ("sign", 1, _sign, "same"),
    ("exp", 1, np.exp, "float"),
    ("expm1", 1, np.expm1, "float"),
    ("log", 1, np.log, "float"),
    ("log1p", 1, np.log1p, "float"),
    ("log2", 1, np.log2, "float"),
    ("log10", 1, np.log10, "float"),
    ("sqrt", 1, np.sqrt, "float"),
    ("rsqrt", 1, lambda x: 1 / np.sqrt(x), "float"),
    ("sin", 1, np.sin, "float"),
    ("cos", 1, np.cos, "float"),
    ("tan", 1, np.tan, "float"),
    ("asin", 1, np.arcsin, "float"),
    ("acos", 1, np.arccos, "float"),
    ("atan", 1, np.arctan, "float"),
    ("sinh", 1, np.sinh, "float"),
    ("cosh", 1, np.cosh, "float"),
    ("tanh", 1, np.tanh, "float"),
    ("erf", 1, _erf, "float"),
    ("ndtr", 1, _ndtr, "float"),
    ("sigmoid", 1, _sigmoid, "float"),
    ("relu", 1, _relu, "same"),
    ("floor", 1, np.floor, "same"),
    ("ceil", 1, np.ceil, "same"),
    ("round", 1, np.rint, "same"),
    ("trunc", 1, np.trunc, "same"),
    ("isnan", 1, np.isnan, "bool"),
    ("isinf", 1, np.isinf, "bool"),
    ("where", 3, np.where, "same"),
)
SCALAR_OPS = {row[0]: ScalarOp(*row) for row in _ROWS}

ReduceKind = Literal["sum", "prod", "max", "min", "any", "all"]


# ---- leaves --------------------------------------------------------------------------------------


def const(value: Number, dtype: DType | None = None) -> Expr:
    """A constant; bool, int and float give BOOL, I64 and F32 unless a dtype is named."""
    if dtype is None:
        dtype = BOOL if isinstance(value, bool) else I64 if isinstance(value, int) else F32
    convert = {"bool": bool, "int": int, "float": float}[dtype.kind]
    return _intern("const", (), convert(value), dtype)


def axis(name: str, extent: Size) -> Expr:
    """The index variable `name` with 0 <= name < extent."""
    return _intern("axis", (), (name, extent), I64)


def load(source: str, dtype: DType, *index: Operand) -> Expr:
    """Element `index` of the tensor named `source`; one index per axis of its logical shape."""
    return _intern("load", tuple(as_expr(i) for i in index), source, dtype)


def reduce(kind: ReduceKind, axes: Iterable[Expr], body: Expr) -> Expr:
    """`kind` over all values of `axes` of `body`."""
    return _intern("reduce", (body, *axes), kind, body.dtype)


def cast(x: Expr, dtype: DType) -> Expr:
    """x converted to dtype: floats to integers round towards zero, anything to bool is `x != 0`."""
    if x.dtype == dtype:
        return x
    if x.op == "const" and not (isinstance(x.value, float) and not math.isfinite(x.value)):
        return const(x.value, dtype)
    if x.op == "where" and all(branch.op == "const" for branch in x.args[1:]):
        return where(x.args[0], *(cast(branch, dtype) for branch in x.args[1:]))
    return _intern("cast", (x,), None, dtype)


def local_value(name: str, dtype: DType = F32, lanes: bool = False) -> Expr:
    """A named value that the surrounding statements define;

    `lanes` says that it is a vector within the lane loop that encloses it.
    """
    return _intern("local", (), (name, lanes), dtype)


def as_expr(x: Operand, like: DType | None = None) -> Expr:
    """A number as a constant (of dtype `like` where it fits it), an expression as it is."""
    if isinstance(x, Expr):
        return x
    fits = like is not None and (
        like.kind == "float" or (like.kind == "int" and isinstance(x, int))
    )
    return const(x, like if fits else None)


def where(condition: Expr, yes: Operand, no: Operand) -> Expr:
    """`yes` where condition, else `no`."""
    return apply("where", condition, yes, no)


def apply(name: str, *operands: Operand) -> Expr:
    """A scalar operation of the table.

    Index arithmetic (int64) is normalised, constant conditions are resolved.
    """
    like = next(
        (
            x.dtype
            for x in operands
            if isinstance(x, Expr) and not (name == "where" and x is operands[0])
        ),
        None,
    )
    args = tuple(as_expr(x, like) for x in operands)
    row = SCALAR_OPS[name]
    assert len(args) == row.arity, f"{name} takes {row.arity} arguments, got {len(args)}"
    if name == "where":
        return _where(args[0], args[1], args[2])
    dtype = args[0].dtype
    for x in args[1:]:
        dtype = promote(dtype, x.dtype)
    args = tuple(cast(x, dtype) for x in args)
    if dtype == I64:
        simpler = _index_op(name, args)
        if simpler is not None:
            return simpler
    if dtype == BOOL and name in ("and", "or"):
        simpler = _logic(name, args[0], args[1])
        if simpler is not None:
            return simpler
    result = (
        BOOL
        if row.result == "bool"
        else F32
        if row.result == "float" and dtype.kind != "float"
        else dtype
    )
    if row.result == "float" and dtype.kind != "float":
        args = tuple(cast(x, F32) for x in args)
    return _intern(name, args, None, result)


def _where(condition: Expr, yes: Expr, no: Expr) -> Expr:
    if condition.op == "const":
        return yes if condition.value else no
    dtype = promote(yes.dtype, no.dtype)
    yes, no = cast(yes, dtype), cast(no, dtype)
    return yes if yes is no else _intern("where", (condition, yes, no), None, dtype)


def _logic(name: str, a: Expr, b: Expr) -> Expr | None:
    neutral = name == "and"  # True and x = x; False or x = x
    for x, y in ((a, b), (b, a)):
        if x.op == "const":
            return y if bool(x.value) == neutral else x
    return a if a is b else None


# ---- index arithmetic: linear forms over atoms ---------------------------------------------------


def linear(x: Expr) -> tuple[Size, dict[Expr, Size]]:
    """x = constant + sum(coefficient * atom), of an int64 expression."""
    if x.op == "const":
        return x.value, {}
    if x.op == "linear":
        return x.value[0], dict(zip(x.args, x.value[1]))
    return 0, {x: 1}


def from_linear(constant: Size, terms: dict[Expr, Size]) -> Expr:
    """The inverse of `linear`."""
    constant, kept = _recombined(constant, {a: c for a, c in terms.items() if c != 0})
    if not kept and isinstance(constant, int):
        return const(constant)
    if constant == 0 and len(kept) == 1:
        ((atom, coef),) = kept.items()
        if coef == 1:
            return atom
    atoms = sorted(kept, key=_order)
    return _intern("linear", tuple(atoms), (constant, tuple(kept[a] for a in atoms)), I64)


def _recombined(constant: Size, terms: dict[Expr, Size]) -> tuple[Size, dict[Expr, Size]]:
    """c*k * (x // k) + c * (x % k) -> c * x."""
    for rest in [a for a in terms if a.op == "mod" and a.args[1].op == "const"]:
        x, k = rest.args
        coef = terms.get(rest)
        quotient = _divide("floordiv", x, k.value)
        if coef is None or quotient.op == "linear" or terms.get(quotient) != coef * k.value:
            continue
        del terms[rest], terms[quotient]
        shift, others = linear(x)
        for atom, factor in others.items():
            terms[atom] = terms.get(atom, 0) + factor * coef
        kept = {a: c for a, c in terms.items() if c != 0}
        return _recombined(constant + shift * coef, kept)
    return constant, terms


def _order(atom: Expr) -> str:
    return show(atom)


def _is_size(x: Expr) -> bool:
    return x.op == "const" or (x.op == "linear" and not x.args)


def _scaled(x: Expr, factor: Size) -> Expr:
    constant, terms = linear(x)
    return from_linear(constant * factor, {a: c * factor for a, c in terms.items()})


def _sum(a: Expr, b: Expr, sign: int) -> Expr:
    constant, terms = linear(a)
    more, others = linear(b)
    for atom, coef in others.items():
        terms[atom] = terms.get(atom, 0) + coef * sign
    return from_linear(constant + more * sign, terms)


def _index_op(name: str, args: Sequence[Expr]) -> Expr | None:
    a = args[0]
    b = args[-1]
    if name == "neg":
        return _scaled(a, -1)
    if name in ("add", "sub"):
        return _sum(a, b, 1 if name == "add" else -1)
    if name == "mul":
        if _is_size(b):
            return _scaled(a, linear(b)[0])
        return _scaled(b, linear(a)[0]) if _is_size(a) else None
    if name in ("floordiv", "mod") and _is_size(b) and at_least(linear(b)[0], 1):
        return _divide(name, a, linear(b)[0])
    if name in ("lt", "le", "gt", "ge", "eq", "ne"):
        return _compare(name, a, b)
    if name in ("max", "min"):
        larger, smaller = (a, b) if name == "max" else (b, a)
        if _compare("ge", a, b) is const(True):
            return larger
        return smaller if _compare("le", a, b) is const(True) else None
    return None


def _divide(name: str, a: Expr, k: Size) -> Expr:
    """floor(a / k) or a mod k for k > 0: terms whose coefficient is a multiple of k leave the
    division; a rest within [0, k) disappears.

    (i * 7 + j) // 7 -> i   and   (i * 7 + j) % 7 -> j   where 0 <= j < 7.
    """
    if k == 1:
        return a if name == "floordiv" else const(0)
    outside, rest = _multiples(a, k)
    low, high = size_bounds(rest)
    if isinstance(k, int):
        if isinstance(low, int) and isinstance(high, int) and low // k == high // k:
            shift = low // k
            return outside + shift if name == "floordiv" else rest - shift * k
        return _divide_by_number(name, outside, rest, k)
    if low is not None and high is not None and at_least(low, 0) and at_least(k - high, 1):
        return outside if name == "floordiv" else rest
    divided = _intern(name, (rest, from_linear(k, {})), None, I64)
    return outside + divided if name == "floordiv" else divided


def _multiples(a: Expr, k: Size) -> tuple[Expr, Expr]:
    """a = k * outside + rest, where rest has the terms that are not multiples of k."""
    constant, terms = linear(a)
    quotients = {x: _quotient(c, k) for x, c in terms.items()}
    rest = {x: c for x, c in terms.items() if quotients[x] is None}
    outside: Size = 0
    if isinstance(k, int) and coefficients(constant)[0] % k == 0:
        coef, number = coefficients(constant)
        outside, constant = dim(coef // k, number // k), number % k
    whole = from_linear(outside, {x: q for x, q in quotients.items() if q is not None})
    return whole, from_linear(constant, rest)


def _quotient(c: Size, k: Size) -> Size | None:
    """c / k where it is whole."""
    (coef, number), (by_coef, by_number) = coefficients(c), coefficients(k)
    if by_coef == 0:
        whole = coef % by_number == 0 and number % by_number == 0
        return dim(coef // by_number, number // by_number) if whole else None
    ratio = coef // by_coef
    return ratio if (ratio * by_coef, ratio * by_number) == (coef, number) else None


def _divide_by_number(name: str, whole: Expr, rest: Expr, k: int) -> Expr:
    if name == "mod":
        inner = _collapse_mod(rest, k)
        return inner if inner is not None else _split_remainder(rest, k)
    # (x // m) // k -> x // (m * k)
    if rest.op == "floordiv" and rest.args[1].op == "const":
        return whole + _divide("floordiv", rest.args[0], rest.args[1].value * k)
    return whole + _split_quotient(rest, k)


def _collapse_mod(x: Expr, k: int) -> Expr | None:
    """(y % m) % k -> y % k where k divides m."""
    if x.op == "mod" and x.args[1].op == "const" and x.args[1].value % k == 0:
        return _divide("mod", x.args[0], k)
    return None


def _split_quotient(rest: Expr, k: int) -> Expr:
    """(g * x + r) // k -> x // (k / g) where g divides k and 0 <= r < g:

    the rest r never reaches the next multiple of g.
    """
    split = _split(rest, k)
    if split is None:
        return _intern("floordiv", (rest, const(k)), None, I64)
    g, multiple, _ = split
    return _divide("floordiv", multiple, k // g)


def _split_remainder(rest: Expr, k: int) -> Expr:
    """(g * x + r) % k -> g * (x % (k / g)) + r where g divides k and 0 <= r < g."""
    split = _split(rest, k)
    if split is None:
        return _intern("mod", (rest, const(k)), None, I64)
    g, multiple, small = split
    return _divide("mod", multiple, k // g) * g + small


def _split(rest: Expr, k: int) -> tuple[int, Expr, Expr] | None:
    """rest = g * multiple + small with 1 < g, g divides k, 0 <= small < g; the largest such g."""
    constant, terms = linear(rest)
    for g in sorted(
        {abs(c) for c in terms.values() if isinstance(c, int)} & _divisors(k), reverse=True
    ):
        if g == 1:
            continue
        inside = {x: c // g for x, c in terms.items() if isinstance(c, int) and c % g == 0}
        small = from_linear(constant, {x: c for x, c in terms.items() if x not in inside})
        low, high = bounds(small)
        if low is not None and high is not None and low >= 0 and high < g:
            return g, from_linear(0, dict(inside)), small
    return None


def _divisors(k: int) -> set[int]:
    return (
        {d for d in range(1, k + 1) if k % d == 0}
        if k <= 4096
        else {d for d in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, k) if k % d == 0}
    )


def _compare(name: str, a: Expr, b: Expr) -> Expr | None:
    """a <name> b, where the bounds of a - b show it."""
    low, high = size_bounds(_sum(a, b, -1))
    above, below = low is not None and at_least(low, 1), high is not None and at_least(-high, 1)
    not_below = low is not None and at_least(low, 0)
    not_above = high is not None and at_least(-high, 0)
    known: dict[str, tuple[bool, bool]] = {
        "lt": (below, not_below),
        "le": (not_above, above),
        "gt": (above, not_above),
        "ge": (not_below, below),
        "eq": (not_below and not_above, above or below),
        "ne": (above or below, not_below and not_above),
    }
    true, false = known[name]
    return const(True) if true else const(False) if false else None


def bounds(x: Expr) -> tuple[int | None, int | None]:
    """Smallest and largest value of an index expression over its axes; None where not known or
    where it depends on the batch."""
    low, high = size_bounds(x)
    return (low if isinstance(low, int) else None), (high if isinstance(high, int) else None)


Bounds = tuple[Size | None, Size | None]


def at_least(size: Size, value: int) -> bool:
    """Whether size >= value for every batch size B >= 1."""
    coef, const = coefficients(size)
    return coef >= 0 and coef + const >= value


def size_bounds(x: Expr) -> Bounds:
    """Smallest and largest value of an index expression, which may depend on the batch size B."""
    match x.op:
        case "const":
            return x.value, x.value
        case "axis":
            return 0, x.value[1] - 1
        case "linear":
            return _linear_bounds(x)
        case "mod" if _is_size(x.args[1]) and at_least(linear(x.args[1])[0], 1):
            return 0, linear(x.args[1])[0] - 1
        case "floordiv" if x.args[1].op == "const" and x.args[1].value > 0:
            return _quotient_bounds(x)
        case "max" | "min":
            return _extreme_bounds(x)
        case "where":
            return _either_bounds(x.args[1], x.args[2])
        case "cast" if x.args[0].dtype == BOOL:
            return 0, 1
    return None, None


def _quotient_bounds(x: Expr) -> Bounds:
    (low, high), k = size_bounds(x.args[0]), x.args[1].value
    if not isinstance(low, int):  # (2 * B) // 3 is not linear in B, but it is not negative
        least: Size | None = 0 if low is not None and at_least(low, 0) else None
    else:
        least = low // k
    return least, (high // k if isinstance(high, int) else None)


def _extreme_bounds(x: Expr) -> Bounds:
    (a, b), (c, d) = size_bounds(x.args[0]), size_bounds(x.args[1])
    if x.op == "max":
        return _known(a, c, _larger(a, c)), _larger(b, d)
    return _smaller(a, c), _known(b, d, _smaller(b, d))


def _known(a: Size | None, b: Size | None, best: Size | None) -> Size | None:
    """The best of two bounds that both hold, or one of them."""
    return best if best is not None else a if a is not None else b


def _either_bounds(x: Expr, y: Expr) -> Bounds:
    (a, b), (c, d) = size_bounds(x), size_bounds(y)
    return _smaller(a, c), _larger(b, d)


def _larger(a: Size | None, b: Size | None) -> Size | None:
    """The larger one, where it is known which one that is for every batch."""
    if a is None or b is None:
        return None
    return a if at_least(a - b, 0) else b if at_least(b - a, 0) else None


def _smaller(a: Size | None, b: Size | None) -> Size | None:
    if a is None or b is None:
        return None
    return b if at_least(a - b, 0) else a if at_least(b - a, 0) else None


def _linear_bounds(x: Expr) -> Bounds:
    constant, terms = linear(x)
    low: Size | None = constant
    high: Size | None = constant
    for atom, coef in terms.items():
        small, large = size_bounds(atom)
        if not at_least(coef, 0):
            if not at_least(-coef, 0):
                return None, None
            small, large = large, small
        low, high = _plus(low, coef, small), _plus(high, coef, large)
    return low, high


def _plus(total: Size | None, coef: Size, bound: Size | None) -> Size | None:
    """total + coef * bound, None where that is not known or not linear in the batch."""
    if total is None or bound is None or (isinstance(coef, Dim) and isinstance(bound, Dim)):
        return None
    return total + coef * bound


# ---- walking -------------------------------------------------------------------------------------


def rebuild(x: Expr, args: Sequence[Expr]) -> Expr:
    """x with other arguments, simplified again."""
    if tuple(args) == x.args:
        return x
    if x.op == "linear":
        constant, coefs = x.value
        total = from_linear(constant, {})
        for part, coef in zip(args, coefs):
            total = _sum(total, _scaled(part, coef), 1)
        return total
    if x.op in SCALAR_OPS:
        return apply(x.op, *args)
    if x.op == "cast":
        return cast(args[0], x.dtype)
    return _intern(x.op, tuple(args), x.value, x.dtype)


def substitute(x: Expr, mapping: dict[Expr, Expr], memo: dict[Expr, Expr] | None = None) -> Expr:
    """x with every expression of `mapping` replaced."""
    memo = {} if memo is None else memo
    if x in mapping:
        return mapping[x]
    if not x.args:
        return x
    if x not in memo:
        memo[x] = rebuild(x, [substitute(a, mapping, memo) for a in x.args])
    return memo[x]


def walk(x: Expr) -> list[Expr]:
    """Every distinct part of x, arguments before users."""
    order: dict[Expr, None] = {}
    stack = [(x, False)]
    while stack:
        item, ready = stack.pop()
        if item in order:
            continue
        if ready:
            order[item] = None
            continue
        stack.append((item, True))
        stack.extend((a, False) for a in reversed(item.args))
    return list(order)


def free_axes(x: Expr) -> set[Expr]:
    """The axes that x depends on, without those that its reductions bind."""
    memo: dict[Expr, frozenset[Expr]] = {}
    for part in walk(x):
        if part.op == "axis":
            memo[part] = frozenset((part,))
        elif part.op == "reduce":
            memo[part] = memo[part.args[0]] - frozenset(part.args[1:])
        else:
            memo[part] = (
                frozenset().union(*(memo[a] for a in part.args)) if part.args else frozenset()
            )
    return set(memo[x])


_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "floordiv": "//",
    "mod": "%",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "and": "&",
    "or": "|",
}


def show(x: Expr) -> str:
    """x as text, for people, sorting and error messages."""
    if x.op == "const":
        return repr(x.value)
    if x.op in ("axis", "local"):
        return str(x.value[0])
    if x.op == "load":
        return f"{x.value}[{', '.join(map(show, x.args))}]"
    if x.op == "reduce":
        axes = ", ".join(f"{a.value[0]}<{a.value[1]}" for a in x.args[1:])
        return f"{x.value}({axes}: {show(x.args[0])})"
    if x.op == "linear":
        terms = [show(a) if c == 1 else f"{c}*{show(a)}" for a, c in zip(x.args, x.value[1])]
        return (
            "("
            + " + ".join(terms + ([str(x.value[0])] if x.value[0] != 0 or not terms else []))
            + ")"
        )
    if x.op == "cast":
        return f"{x.dtype}({show(x.args[0])})"
    if x.op == "lanes_reduce":
        return f"{x.value[0]} of the lanes of {x.value[1]}"
    if x.op == "lanes_pick":
        return f"lanes {list(x.value)} of {show(x.args[0])}"
    if x.op in _INFIX:
        return f"({show(x.args[0])} {_INFIX[x.op]} {show(x.args[1])})"
    return f"{x.op}({', '.join(map(show, x.args))})"
