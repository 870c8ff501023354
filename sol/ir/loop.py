"""Loop nests: the kernel form between a cluster of the plan and the text of a language. The whole
grammar stands on this page.

    Kernel  = name, buffers it is called with, statements for one unit of work, number of units,
    scratch bytes
    Stmt    = For | Let | Var | Set | Store | If | Array | Call | Fetch | Note
    value   = Expr (ir/expr.py), with loads of one linear index, and locals

Every statement means what it says for one element. A `For` of width w > 1 runs w consecutive values
of its axis at once: within it the axis is the lane axis, a load whose index has coefficient 1 in it
is a vector load, coefficient 0 a scalar, anything else a gather. So lowering chooses axes and
widths, and the printer (backends/clike.py) spells vectors in its language.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sol.core.dims import Size
from sol.core.dtypes import DType
from sol.ir.expr import Expr, _intern, const


@dataclass(frozen=True, slots=True)
class BufferArg:
    """A buffer that a kernel is called with."""

    name: str
    dtype: DType
    written: bool = False


@dataclass(frozen=True, slots=True)
class For:
    """`for (axis = begin;

    axis < end; axis += width * step)`, `width` lanes at once; a lane loop whose extent is its width
    runs once.
    """

    axis: Expr
    begin: Expr
    end: Expr
    body: tuple[Stmt, ...]
    width: int = 1
    step: int = 1
    unroll: int = 0


@dataclass(frozen=True, slots=True)
class Let:
    """A named value, not changed later."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Var:
    """A local variable of `width` lanes (1: a scalar) with its first value."""

    name: str
    value: Expr
    width: int = 1


@dataclass(frozen=True, slots=True)
class Set:
    """A new value for a `Var`."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Store:
    """`buffer[index] = value`."""

    buffer: str
    index: Expr
    value: Expr


@dataclass(frozen=True, slots=True)
class If:
    """The body where the condition holds, else `orelse`."""

    condition: Expr
    body: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()


@dataclass(frozen=True, slots=True)
class Array:
    """An array of `count` elements in the thread's scratch memory at a byte offset."""

    name: str
    dtype: DType
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Call:
    """`function(number, {pointers})`: a function of a specialised library's adapter.

    pointers: addresses of elements, as (buffer or array, linear index).
    """

    function: str
    number: Expr
    pointers: tuple[tuple[str, Expr], ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """A hint that `buffer[index]` will be read soon; it need not exist."""

    buffer: str
    index: Expr


@dataclass(frozen=True, slots=True)
class Note:
    """A comment in the generated text."""

    text: str


Stmt = For | Let | Var | Set | Store | If | Array | Call | Fetch | Note


@dataclass(frozen=True, slots=True)
class Kernel:
    """One function:

    runs units [begin, end) of `units`; `unit` is the axis that counts them, and the body handles
    one.
    """

    buffers: tuple[BufferArg, ...]
    unit: Expr
    units: Size
    body: tuple[Stmt, ...]
    scratch: int = 0
    grain: int = 1
    notes: tuple[str, ...] = field(default=(), compare=False)


def lanes_reduce(kind: str, name: str, dtype: DType, width: int) -> Expr:
    """All lanes of the vector variable `name` combined to one scalar."""
    return _intern("lanes_reduce", (), (kind, name, width), dtype)


def lanes_pick(vector: Expr, lanes: tuple[int, ...]) -> Expr:
    """The lanes of a vector in another order: lane k of the result is number lanes[k] of it."""
    return _intern("lanes_pick", (vector,), lanes, vector.dtype)


def number(value: int) -> Expr:
    """An index constant."""
    return const(value)


def scratch_layout(sizes: list[tuple[str, DType, int]]) -> tuple[tuple[Array, ...], int]:
    """Arrays one after the other at 64-byte boundaries, and the bytes they take together."""
    offset = 0
    arrays = []
    for name, dtype, count in sizes:
        arrays.append(Array(name, dtype, count, offset))
        offset += (count * dtype.bytes + 63) // 64 * 64
    return tuple(arrays), offset


def when(condition: Expr, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The body, under a condition that is not known to hold."""
    if condition.op == "const":
        return body if condition.value else ()
    return (If(condition, body),)
