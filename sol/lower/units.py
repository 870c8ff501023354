"""Units of work:

outer axes as one counter that threads share out, and the buffers that a kernel is called with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sol.core.dims import Size
from sol.core.dtypes import DType
from sol.ir.expr import Expr, axis
from sol.ir.loop import BufferArg, For, Stmt
from sol.lower.ranges import extent_of, size_expr

UNIT = axis("unit", 1 << 62)


def decode(counter: Expr, axes: Sequence[Expr]) -> dict[Expr, Expr]:
    """Each axis (outer to inner) as a function of their common counter; one may have a symbolic
    extent."""
    found: dict[Expr, Expr] = {}
    below: Size = 1
    for position, a in reversed(list(enumerate(axes))):
        value = counter // size_expr(below) if below != 1 else counter
        extent = extent_of(a)
        if position > 0:
            value = value % size_expr(extent)
            below = below * extent
        found[a] = value
    return found


def with_units(
    axes: Sequence[Expr], body: tuple[Stmt, ...], counter: Expr = UNIT
) -> tuple[Stmt, ...]:
    """The body with each axis set to its value for the unit."""
    values = decode(counter, axes)
    for a in reversed(axes):
        body = (For(a, values[a], values[a] + 1, body),)
    return body


def count(axes: Sequence[Expr]) -> Size:
    """Number of units of these axes."""
    total: Size = 1
    for a in axes:
        total = total * extent_of(a)
    return total


@dataclass
class Buffers:
    """A kernel's buffers, named in order of first use, so that equal kernels get equal text."""

    names: dict[str, str] = field(default_factory=dict)
    dtypes: dict[str, DType] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)

    def read(self, buffer: str, dtype: DType) -> str:
        """The argument's name for a buffer that is read."""
        name = self.names.setdefault(buffer, f"b{len(self.names)}")
        self.dtypes[buffer] = dtype
        return name

    def write(self, buffer: str, dtype: DType) -> str:
        """The argument's name for a buffer that is written."""
        self.written.add(buffer)
        return self.read(buffer, dtype)

    def arguments(self) -> tuple[BufferArg, ...]:
        """The kernel's buffer arguments in order."""
        return tuple(
            BufferArg(name, self.dtypes[b], b in self.written) for b, name in self.names.items()
        )
