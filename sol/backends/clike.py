"""The printer: a `Kernel` of loop statements as a function in C with GNU vector types.

Within a lane loop a value that depends on the lane axis is a vector of the loop's width, everything
else stays scalar and is broadcast by the language. Shared parts of an expression become
temporaries; a `where` with a scalar condition becomes an `if`, so that what it guards is never
evaluated. Called by backends/c.py, which adds the prelude that the printed calls need.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from sol.core.dims import Dim, Size
from sol.core.dtypes import BOOL, F32, F64, U8, U16, U32, U64, DType
from sol.core.errors import VerifyError
from sol.ir.expr import SCALAR_OPS, Expr, bounds, const, linear, substitute, walk
from sol.ir.loop import Array, Call, Fetch, For, If, Kernel, Let, Note, Set, Stmt, Store, Var

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_IN_LANES = {F32: "", BOOL: "b", U8: "u"}  # endings of the functions that load and store vectors
_BITS = {"and": "&", "or": "|", "xor": "^"}
_ACROSS = {
    "sum": "hsum",
    "prod": "hprod",
    "max": "hmax",
    "min": "hmin",
    "any": "hany",
    "all": "hall",
}
_EXTREMES = {"max": "larger", "min": "smaller"}
_MASK_COMPARE = {
    "eq": "(~({} ^ {}))",
    "ne": "({} ^ {})",
    "lt": "(~{} & {})",
    "le": "(~{} | {})",
    "gt": "({} & ~{})",
    "ge": "({} | ~{})",
}
_INT_CALLS = {
    "max": "max_i64",
    "min": "min_i64",
    "floordiv": "floordiv_i64",
    "mod": "mod_i64",
    "fmod": "fmod_i64",
    "abs": "abs_i64",
    "pow": "pow_i64",
    "sign": "sign_i64",
    "shl": "shl_i64",
    "shr": "shr_i64",
}
_UNSIGNED_CALLS = {
    name: call.replace("_i64", "_u64")
    for name, call in _INT_CALLS.items()
    if name not in ("abs", "sign")
}


@dataclass(frozen=True, slots=True)
class Lane:
    """The lane loop around a statement: its axis and width."""

    axis: Expr
    width: int


@dataclass
class Printer:
    """State of printing one kernel: text so far, library functions called, name counter."""

    lines: list[str] = field(default_factory=list)
    calls: set[tuple[str, int]] = field(default_factory=set)
    dtypes: dict[str, DType] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    depth: int = 1
    count: int = 0

    # ---- statements ------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Append one line at the current indentation."""
        self.lines.append("    " * self.depth + text)

    def block(self, body: tuple[Stmt, ...], lane: Lane | None) -> None:
        """Print statements one level deeper."""
        self.depth += 1
        for stmt in body:
            self.statement(stmt, lane)
        self.depth -= 1
        self.line("}")

    def statement(self, stmt: Stmt, lane: Lane | None) -> None:
        """Print one statement."""
        match stmt:
            case Note(text):
                self.line(f"// {text}")
            case For():
                self.loop(stmt, lane)
            case If(condition, body, orelse):
                self.line(f"if ({Value(self, lane).of(condition)}) {{")
                self.block(body, lane)
                if orelse:
                    self.lines[-1] += " else {"
                    self.block(orelse, lane)
            case Let(name, value):
                text = Value(self, lane).root(value)
                self.line(f"const {self.type_of(value, lane)} {name} = {text};")
            case Var(name, value, width):
                kind = (
                    scalar_type(value.dtype)
                    if width == 1
                    else f"vf{width}"
                    if value.dtype == F32
                    else f"vi{width}"
                )
                text = Value(self, None).root(value)
                self.line(f"{kind} {name} = {self.broadcast(text, value.dtype, width)};")
            case Set(name, value):
                self.line(f"{name} = {Value(self, lane).root(value)};")
            case Store(buffer, index, value):
                self.store(buffer, index, value, lane)
            case Array(name, dtype, _, offset):
                self.dtypes[name] = dtype
                kind = memory_type(dtype)
                self.line(f"{kind} *restrict {name} = ({kind} *)(scratch + {offset});")
            case Fetch(buffer, index):
                place = f"(uintptr_t){buffer} + {Value(self, None).of(index)} * sizeof *{buffer}"
                self.line(f"__builtin_prefetch((const void *)({place}), 0, 2);")
            case Call(function, number, pointers):
                places = [f"(void *)({b} + {Value(self, None).of(i)})" for b, i in pointers]
                band = Value(self, None).of(number)
                self.line(f"extern void {function}(int64_t, void *const *);")
                self.line(f"{function}({band}, (void *const[]){{{', '.join(places)}}});")

    def loop(self, stmt: For, lane: Lane | None) -> None:
        """Print a loop; one that runs once becomes a block."""
        name = self.identifier(stmt.axis)
        inner = Lane(stmt.axis, stmt.width) if stmt.width > 1 else lane
        stride = stmt.width * stmt.step
        begin, end = Value(self, None).of(stmt.begin), Value(self, None).of(stmt.end)
        if (stmt.end - stmt.begin) is const(stride):
            self.line("{")
            self.line(f"    const int64_t {name} = {begin};")
        else:
            if stmt.unroll:
                self.line(f"#pragma GCC unroll {stmt.unroll}")
            self.line(f"for (int64_t {name} = {begin}; {name} < {end}; {name} += {stride}) {{")
        self.block(stmt.body, inner)

    def store(self, buffer: str, index: Expr, value: Expr, lane: Lane | None) -> None:
        """Print `buffer[index] = value`, a vector store where the index runs with the lanes."""
        where_to = f"{buffer}[{Value(self, None).of(index)}]"
        text = Value(self, lane).root(value)
        if lane is None or not depends(index, lane):
            self.line(f"{where_to} = {text};")
            return
        dtype = self.dtypes[buffer]
        step = lane_coefficient(index, lane.axis)
        if step != 1:
            self.scatter(where_to, step, value, lane, text)
            return
        name = f"store{_IN_LANES[dtype]}"
        if not depends(value, lane):
            text = self.broadcast(text, value.dtype, lane.width)
        self.line(f"{self.call(name, lane.width)}(&{where_to}, {text});")

    def scatter(self, where_to: str, step: Size | None, value: Expr, lane: Lane, text: str) -> None:
        """Print a store whose lanes lie `step` elements apart."""
        assert step is not None, "lanes must lie at a constant distance"
        name = self.fresh()
        self.line(f"const {self.type_of(value, lane)} {name} = {text};")
        element = f"{name}[{name}l]" if depends(value, lane) else name
        target = f"(&{where_to})[{name}l * {size_text(step)}]"
        self.line(f"for (int {name}l = 0; {name}l < {lane.width}; {name}l++) {target} = {element};")

    def identifier(self, axis: Expr) -> str:
        """The C name of an axis:

        numbered in order of appearance, so that equal kernels have equal text.
        """
        return self.axes.setdefault(str(axis.value[0]), f"i{len(self.axes)}")

    def broadcast(self, text: str, dtype: DType, width: int) -> str:
        """A scalar as a vector."""
        if width == 1:
            return text
        if dtype == F32:
            return f"{self.call('set', width)}({text})"
        sign = "-" if dtype == BOOL else "+"  # true is a mask of ones
        return f"((vi{width}){{0}} {sign} (int32_t)({text}))"

    def call(self, name: str, width: int) -> str:
        """The name of a library function at a width (0: of none), remembered for the prelude."""
        self.calls.add((name, width))
        return f"{name}_{width}" if width else name

    def fresh(self) -> str:
        """A new temporary's name."""
        self.count += 1
        return f"t{self.count}"

    def type_of(self, value: Expr, lane: Lane | None) -> str:
        """The C type of a value in a lane context."""
        if lane is not None and depends(value, lane):
            return f"vf{lane.width}" if value.dtype == F32 else f"vi{lane.width}"
        return scalar_type(value.dtype)


class Value:
    """Prints one expression in one lane context; temporaries go to the printer's lines."""

    def __init__(self, printer: Printer, lane: Lane | None) -> None:
        self.printer = printer
        self.lane = lane
        self.memo: dict[Expr, str] = {}
        self.uses: Counter[Expr] = Counter()

    def root(self, x: Expr) -> str:
        """The text of x, with shared parts as temporaries before it."""
        for part in walk(x):
            if not is_index(part):
                self.uses.update(set(part.args))
        return self.of(x)

    def of(self, x: Expr) -> str:
        """The text of x; a temporary if it is used more than once."""
        if x in self.memo:
            return self.memo[x]
        text = self.text(x)
        if self.uses[x] > 1 and x.op not in ("const", "axis", "local") and not is_index(x):
            name = self.printer.fresh()
            self.printer.line(f"const {self.printer.type_of(x, self.lane)} {name} = {text};")
            text = name
        self.memo[x] = text
        return text

    def is_vector(self, x: Expr) -> bool:
        """Whether x differs between the lanes."""
        return self.lane is not None and depends(x, self.lane)

    def text(self, x: Expr) -> str:
        """x by its kind."""
        match x.op:
            case "const":
                return literal(x.value, x.dtype)
            case "axis":
                return self.printer.identifier(x)
            case "local":
                return str(x.value[0])
            case "lanes_reduce":
                kind, name, width = x.value
                return f"{self.printer.call(_ACROSS[kind], width)}({name})"
            case "lanes_pick":
                return self.pick(x)
            case "linear":
                return self.linear(x)
            case "load":
                return self.load(x)
            case "where":
                return self.where(x)
            case "cast":
                return self.cast(x)
        assert x.op in SCALAR_OPS, f"cannot print {x.op}"
        if self.is_vector(x) and (x.args[0].dtype in (F32, BOOL)):
            return self.vector_op(x)
        if self.is_vector(x):
            return self.lane_compare(x)
        return self.scalar_op(x)

    def linear(self, x: Expr) -> str:
        """Index arithmetic: sum of coefficient * atom."""
        constant, terms = linear(x)
        parts = [
            self.of(a) if c == 1 else f"{size_text(c)} * {self.of(a)}" for a, c in terms.items()
        ]
        if constant != 0 or not parts:
            parts.append(size_text(constant))
        return "(" + " + ".join(parts) + ")"

    def load(self, x: Expr) -> str:
        """A scalar, vector or gathered load."""
        if array_name(x) not in self.printer.dtypes:
            raise VerifyError(
                f"a kernel reads {x.value!r}, which is none of its buffers",
                expected="loads of buffers and of arrays in scratch memory",
                do="lower the loads in its indices as well",
            )
        (index,) = x.args
        if not self.is_vector(index):
            text = f"{array_name(x)}[{self.of(index)}]"
            return f"({text} != 0)" if x.dtype == BOOL else text
        lane = self.lane
        assert lane is not None
        scalar = Value(self.printer, None)
        step = lane_coefficient(index, lane.axis)
        name = f"load{_IN_LANES[x.dtype]}"
        if step == 1:
            return f"{self.printer.call(name, lane.width)}(&{array_name(x)}[{scalar.of(index)}])"
        assert x.dtype == F32, "only float32 is gathered"
        if step is not None:
            first = f"&{array_name(x)}[{scalar.of(index)}]"
            return f"{self.printer.call('gather', lane.width)}({first}, {size_text(step)})"
        each = [
            f"{array_name(x)}[{scalar.of(substitute(index, {lane.axis: lane.axis + i}))}]"
            for i in range(lane.width)
        ]
        self.printer.calls.add(("set", lane.width))
        return f"(vf{lane.width}){{{', '.join(each)}}}"

    def pick(self, x: Expr) -> str:
        """A vector of chosen lanes of another one: a permutation, which compilers recognise."""
        assert self.lane is not None
        kind = f"vf{self.lane.width}" if x.dtype == F32 else f"vi{self.lane.width}"
        vector = self.of(x.args[0])
        if not vector.isidentifier():
            name = self.printer.fresh()
            self.printer.line(f"const {kind} {name} = {vector};")
            vector = self.memo[x.args[0]] = name
        return f"({kind}){{{', '.join(f'{vector}[{k}]' for k in x.value)}}}"

    def where(self, x: Expr) -> str:
        """Selection:

        a blend where the condition differs between lanes, else an `if` around what it guards.
        """
        condition, yes, no = x.args
        if self.is_vector(condition):
            assert self.lane is not None
            name = "sel" if x.dtype == F32 else "seli"
            arguments = f"{self.of(condition)}, {self.as_vector(yes)}, {self.as_vector(no)}"
            return f"{self.printer.call(name, self.lane.width)}({arguments})"
        vector = self.is_vector(x)
        test = self.of(condition)
        name = self.printer.fresh()
        kind = self.printer.type_of(x, self.lane)
        self.printer.line(f"{kind} {name};")
        for opening, branch in ((f"if ({test}) {{", yes), ("} else {", no)):
            self.printer.line(opening)
            self.printer.depth += 1
            inner = Value(self.printer, self.lane)
            inner.memo, inner.uses = dict(self.memo), self.uses
            text = inner.as_vector(branch) if vector else inner.of(branch)
            self.printer.line(f"{name} = {text};")
            self.printer.depth -= 1
        self.printer.line("}")
        return name

    def as_vector(self, x: Expr) -> str:
        """x, broadcast if it is scalar."""
        assert self.lane is not None
        text = self.of(x)
        return text if self.is_vector(x) else self.printer.broadcast(text, x.dtype, self.lane.width)

    def cast(self, x: Expr) -> str:
        """Conversion between types."""
        (source,) = x.args
        text_of = self.of
        if not self.is_vector(x):
            if x.dtype == BOOL:
                return f"({text_of(source)} != 0)"
            return f"(({scalar_type(x.dtype)}){text_of(source)})"
        assert self.lane is not None
        width = self.lane.width
        if x.dtype == F32 and source.dtype == BOOL:
            return f"{self.printer.call('maskf', width)}({text_of(source)})"
        if x.dtype == BOOL and source.dtype == F32:
            return f"({text_of(source)} != 0.0f)"
        if x.dtype == U8 and source.dtype == F32:
            return f"{self.printer.call('toint', width)}({text_of(source)})"
        if x.dtype == F32 and source.dtype == U8:
            return f"{self.printer.call('tofloat', width)}({text_of(source)})"
        assert x.dtype == F32, f"no vector conversion from {source.dtype} to {x.dtype}"
        return f"{self.printer.call('tofloat', width)}({self.integers(source)})"

    def integers(self, x: Expr) -> str:
        """An index expression as a vector of int32, one per lane."""
        assert self.lane is not None
        width = self.lane.width
        if not self.is_vector(x):
            return f"((vi{width}){{0}} + (int32_t)({Value(self.printer, None).of(x)}))"
        if x is self.lane.axis:
            return f"{self.printer.call('iota', width)}((int32_t){self.printer.identifier(x)})"
        if x.op == "linear":
            constant, terms = linear(x)
            parts = [f"{self.integers(a)} * (int32_t)({size_text(c)})" for a, c in terms.items()]
            return "(" + " + ".join([*parts, f"(int32_t)({size_text(constant)})"]) + ")"
        assert x.op in ("floordiv", "mod"), f"no vector form of {x.op} on indices"
        sign = "/" if x.op == "floordiv" else "%"
        return f"({self.integers(x.args[0])} {sign} {self.integers(x.args[1])})"

    def lane_compare(self, x: Expr) -> str:
        """A comparison of indices that differs between lanes: a mask."""
        return f"({self.integers(x.args[0])} {_COMPARE[x.op]} {self.integers(x.args[1])})"

    def vector_op(self, x: Expr) -> str:
        """A float or mask operation on lanes."""
        assert self.lane is not None
        if _by_constant(x):
            return self.quotient(x)
        if self.is_silu(x):
            return f"{self.printer.call('silu', self.lane.width)}({self.as_vector(x.args[0])})"
        if x.op in _INFIX and x.dtype == F32:
            return f"({self.of(x.args[0])} {_INFIX[x.op]} {self.of(x.args[1])})"
        if x.op == "neg":
            return f"(-{self.of(x.args[0])})"
        vectors = [self.as_vector(a) for a in x.args]
        if x.op in _COMPARE and x.args[0].dtype == BOOL:
            return _MASK_COMPARE[x.op].format(*vectors)
        if x.op in _COMPARE:
            return f"({vectors[0]} {_COMPARE[x.op]} {vectors[1]})"
        if x.op in _BITS:
            return f"({vectors[0]} {_BITS[x.op]} {vectors[1]})"
        if x.op == "not":
            return f"(~{vectors[0]})"
        return self.call(x, self.lane.width, vectors)

    def is_silu(self, x: Expr) -> bool:
        """Whether it is x sigmoid(x), which has fewer operations than both."""
        if x.op != "mul" or x.dtype != F32 or x.args[1].op != "sigmoid":
            return False
        return x.args[1].args[0] is x.args[0] and self.uses[x.args[1]] <= 1

    def quotient(self, x: Expr) -> str:
        """x / c for a constant c as x * high + x * low: high + low is 1 / c to twice the digits.

        As exact as the division to within a rounding, and a fraction of its time. `high` is cut
        towards zero, so that both parts have the sign of c and infinities do not cancel.
        """
        dividend = self.of(x.args[0])
        if not dividend.isidentifier():
            name = self.printer.fresh()
            kind = self.printer.type_of(x.args[0], self.lane)
            self.printer.line(f"const {kind} {name} = {dividend};")
            dividend = self.memo[x.args[0]] = name
        exact = 1.0 / float(np.float32(x.args[1].value))
        high = np.float32(exact)
        if abs(float(high)) > abs(exact):
            high = np.nextafter(high, np.float32(0))
        low = exact - float(high)
        product = f"{dividend} * {literal(float(high), F32)}"
        return f"({product} + {dividend} * {literal(low, F32)})" if low else f"({product})"

    def scalar_op(self, x: Expr) -> str:
        """An operation on scalars of any type."""
        if _by_constant(x):
            return self.quotient(x)
        if self.is_silu(x):
            return f"{self.printer.call('silu', 1)}({self.of(x.args[0])})"
        texts = [self.of(a) for a in x.args]
        if x.op in _COMPARE:
            return f"({texts[0]} {_COMPARE[x.op]} {texts[1]})"
        if x.args[0].dtype.kind == "float":
            return self.float_op(x, texts)
        text = self.integer_op(x, texts)
        # C computes in int or int64_t: what is narrower wraps at each step
        narrow = x.dtype.kind == "int" and x.dtype.bytes < 8
        return f"(({scalar_type(x.dtype)}){text})" if narrow else text

    def float_op(self, x: Expr, texts: list[str]) -> str:
        """An operation on floating-point scalars."""
        if x.op == "neg":
            return f"(-{texts[0]})"
        if x.op in _INFIX:
            return f"({texts[0]} {_INFIX[x.op]} {texts[1]})"
        if x.args[0].dtype == F64:
            return f"{self.printer.call(f'{x.op}_f64', 0)}({', '.join(texts)})"
        return self.call(x, 1, texts)

    def call(self, x: Expr, width: int, texts: list[str]) -> str:
        """A float function at a width: for extremes by a constant, the one that lets the other
        operand pass where it is NaN.
        """
        name = _EXTREMES.get(x.op, "")
        if name and _is_number(x.args[1]):
            texts = texts[::-1]
        elif not name or not _is_number(x.args[0]):
            name = x.op
        return f"{self.printer.call(name, width)}({', '.join(texts)})"

    def integer_op(self, x: Expr, texts: list[str]) -> str:
        """An operation on integers or truth values."""
        if x.op in _BITS:
            return f"({texts[0]} {_BITS[x.op]} {texts[1]})"
        if x.op == "not":
            return f"(!{texts[0]})" if x.dtype == BOOL else f"(~{texts[0]})"
        if x.op == "neg":
            return f"(-{texts[0]})"
        if x.op in ("floordiv", "mod") and _natural(x):
            return f"({texts[0]} {'/' if x.op == 'floordiv' else '%'} {texts[1]})"
        if x.op in _INFIX:
            return f"({texts[0]} {_INFIX[x.op]} {texts[1]})"
        if x.op in ("floor", "ceil", "round", "trunc"):
            return texts[0]
        if x.op in ("isnan", "isinf"):
            return "0"
        return self.integer_call(x, texts)

    def integer_call(self, x: Expr, texts: list[str]) -> str:
        """A call of a library function of integers; unsigned ones of 64 bits have their own."""
        wide, unsigned = x.args[0].dtype == U64, x.args[0].dtype in (U8, U16, U32, U64)
        if unsigned and x.op in ("relu", "abs"):
            return texts[0]
        if wide and x.op == "sign":
            return f"({texts[0]} != 0)"
        if x.op == "relu":
            return f"{self.printer.call('max_i64', 0)}({texts[0]}, 0)"
        calls = _UNSIGNED_CALLS if wide else _INT_CALLS
        assert x.op in calls, f"no {x.op} of {x.args[0].dtype}"
        text = ", ".join(texts)
        if x.op in ("shl", "shr"):
            text += f", {8 * x.dtype.bytes}"
        return f"{self.printer.call(calls[x.op], 0)}({text})"


def _is_number(x: Expr) -> bool:
    return x.op == "const" and isinstance(x.value, (int, float)) and not math.isnan(x.value)


def _by_constant(x: Expr) -> bool:
    """Whether x divides by a constant whose reciprocal is far from the ends of float32."""
    if x.op != "div" or x.dtype != F32 or x.args[1].op != "const":
        return False
    divisor: float = abs(x.args[1].value)
    return 2.0**-100 < divisor < 2.0**100


def _natural(x: Expr) -> bool:
    low, _ = bounds(x.args[0])
    return low is not None and low >= 0 and x.args[1].op == "const" and x.args[1].value > 0


def depends(x: Expr, lane: Lane) -> bool:
    """Whether x is a vector in this lane context."""
    key = lane.axis
    memo: dict[Expr, bool] = {}
    for part in walk(x):
        memo[part] = (
            part is key or (part.op == "local" and part.value[1]) or any(memo[a] for a in part.args)
        )
    return memo[x]


def lane_coefficient(index: Expr, axis: Expr) -> Size | None:
    """The step of a linear index from lane to lane; None if it is not linear in the axis."""
    _, terms = linear(index)
    if any(atom is not axis and axis in walk(atom) for atom in terms):
        return None
    return terms.get(axis, 0)


def is_index(x: Expr) -> bool:
    """Whether x is plain index arithmetic, cheap to repeat."""
    return x.dtype.name == "i64" and x.op in ("const", "axis", "linear", "floordiv", "mod")


def array_name(x: Expr) -> str:
    """The C name of what a load reads: a buffer, or an array in scratch memory (marked by @)."""
    return str(x.value).lstrip("@")


def size_text(size: Size) -> str:
    """A size as C, B being the argument `batch`."""
    if isinstance(size, Dim):
        return f"({size.coef} * batch + {size.const})"
    return str(size)


def scalar_type(dtype: DType) -> str:
    """The C type of a scalar value."""
    return "int" if dtype == BOOL else dtype.c


def memory_type(dtype: DType) -> str:
    """The C type of an element in memory."""
    return dtype.c


def literal(value: bool | int | float, dtype: DType) -> str:
    """A constant as C."""
    if dtype.kind == "float":
        number = float(np.float32(value)) if dtype == F32 else float(value)
        if math.isnan(number):
            return '__builtin_nanf("")'
        if math.isinf(number):
            return "__builtin_inff()" if number > 0 else "(-__builtin_inff())"
        text = f"{np.float32(number)!s}" if dtype == F32 else repr(number)
        text = text if any(c in text for c in ".e") else text + ".0"
        text += "f" if dtype == F32 else ""
        return f"({text})" if number < 0 or text.startswith("-") else text
    if value == -(2**63):
        return "INT64_MIN"
    number = int(value)
    if number >= 2**63:
        return f"UINT64_C({number})"
    return (
        f"INT64_C({number})"
        if abs(number) >= 2**31
        else str(number)
        if number >= 0
        else f"({number})"
    )


def print_kernel(kernel: Kernel, name: str) -> tuple[str, set[tuple[str, int]]]:
    """The C function of a kernel, and the library calls that the prelude must define."""
    printer = Printer()
    for position, buffer in enumerate(kernel.buffers):
        kind = memory_type(buffer.dtype) if buffer.written else f"const {memory_type(buffer.dtype)}"
        printer.dtypes[buffer.name] = buffer.dtype
        printer.line(f"{kind} *restrict {buffer.name} = ({kind} *)buffers[{position}];")
    for item in (item for item in kernel.body if isinstance(item, Array)):
        printer.statement(item, None)
    printer.line("(void)batch, (void)scratch;")
    unit = printer.identifier(kernel.unit)
    printer.line(f"for (int64_t {unit} = begin; {unit} < end; {unit}++) {{")
    printer.block(tuple(s for s in kernel.body if not isinstance(s, Array)), None)
    parameters = "char *const *buffers, int64_t batch, int64_t begin, int64_t end, char *scratch"
    head = f"void {name}({parameters})\n{{"
    return "\n".join([head, *printer.lines, "}", ""]), printer.calls
