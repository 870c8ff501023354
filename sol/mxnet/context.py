"""What a row gets besides its inputs and attributes: a builder, and what MXNet's operators share.

A row translates one operator of MXNet: `row(c, *inputs, **attributes)` with inputs as Sol nodes and
attributes as values. It appends nodes through `c.op` and returns a node, or a tuple of them where
the operator has several results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sol.core.dims import Dim, Shape, Size
from sol.core.dtypes import BOOL, F32, I64, DType, promote
from sol.core.errors import InputError, UnsupportedError
from sol.ir.graph import Builder, Node


@dataclass(frozen=True)
class Missing:
    """A result of a row that Sol does not compute."""

    reason: str


Result = Node | tuple[Node | Missing, ...]


@dataclass(frozen=True)
class Context:
    """One node of a network of MXNet.

    open: the size that stands for one that the network leaves open (a 0 in the shape of a state).
    numpy_shapes: 0 is a size, as in MXNet's NumPy interface.
    """

    builder: Builder
    target: str
    name: str
    open: Size = 1
    numpy_shapes: bool = False

    def op(self, op: str, *inputs: Node, **attrs: Any) -> Node:
        """Append an operator of Sol."""
        return self.builder.add(op, *inputs, name=self.name, origin=self.name, **attrs)

    def refuse(self, reason: str) -> NoReturn:
        """Sol cannot take this node."""
        raise UnsupportedError(self.target, reason)

    def need(self, condition: bool, what: str, expected: str) -> None:
        """The network is wrong unless the condition holds."""
        if not condition:
            raise InputError(f"{self.target}: {what}", expected=expected)

    # ---- constants and types

    def constant(self, value: Any, dtype: DType) -> Node:
        """A constant array or number."""
        return self.builder.constant(value, dtype)

    def full(self, shape: Shape, value: float, dtype: DType) -> Node:
        """The same number everywhere."""
        self.computable(dtype)
        return self.op("full", shape=tuple(shape), value=value, dtype=dtype)

    def computable(self, dtype: DType) -> None:
        """Refuse what would be computed in another floating-point type than float32."""
        if dtype.kind == "float" and dtype != F32:
            self.refuse(f"Sol computes in float32, not in {dtype}")

    def cast(self, x: Node, dtype: DType) -> Node:
        """x converted to a type; x itself if it is of that type."""
        if x.dtype == dtype:
            return x
        self.computable(dtype)
        return self.op("cast", x, dtype=dtype)

    def floating(self, x: Node) -> Node:
        """x as float32 if it holds integers or booleans."""
        return x if x.dtype.kind == "float" else self.cast(x, F32)

    def promoted(self, a: Node, b: Node) -> tuple[Node, Node]:
        """Both of the type that holds both, as in MXNet's NumPy interface."""
        dtype = promote(a.dtype, b.dtype)
        return self.cast(a, dtype), self.cast(b, dtype)

    def condition(self, x: Node) -> Node:
        """x != 0."""
        return x if x.dtype == BOOL else self.op("ne", x, self.constant(0, x.dtype))

    def indices(self, x: Node, count: int, mode: str = "clip") -> Node:
        """Whole numbers below `count` of indices that MXNet keeps as any type."""
        x = self.cast(x, I64) if x.dtype.kind != "int" else x
        if mode == "wrap":
            return self.op("mod", x, self.constant(count, x.dtype))
        return self.op("clamp", x, low=0, high=count - 1)

    # ---- shapes

    def size(self, x: Node, axis: int) -> int:
        """The size of an axis as a number."""
        size = x.shape[axis]
        if isinstance(size, Dim):
            self.refuse(f"axis {axis} follows the batch size B")
        return size

    def reshape(self, x: Node, shape: Sequence[Size]) -> Node:
        """x in another shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.op("reshape", x, shape=tuple(shape))

    def expand(self, x: Node, shape: Sequence[Size]) -> Node:
        """x broadcast to a shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.op("expand", x, shape=tuple(shape))

    def permute(self, x: Node, axes: Sequence[int]) -> Node:
        """x with its axes in another order; x itself if it is this order."""
        if list(axes) == list(range(x.tensor.rank)):
            return x
        return self.op("permute", x, axes=tuple(axes))

    def swap(self, x: Node, a: int, b: int) -> Node:
        """x with two axes exchanged."""
        axes = list(range(x.tensor.rank))
        axes[a], axes[b] = axes[b], axes[a]
        return self.permute(x, axes)

    def slice(self, x: Node, axis: int, start: Size, stop: Size, step: int = 1) -> Node:
        """A part of x on one axis; x itself if it is all of it."""
        if start == 0 and stop == x.shape[axis] and step == 1:
            return x
        return self.op("slice", x, axis=axis, start=start, stop=stop, step=step)

    def split(self, x: Node, axis: int, parts: int) -> tuple[Node, ...]:
        """x cut into equal parts on one axis."""
        size = self.size(x, axis)
        self.need(
            parts > 0 and size % parts == 0, f"cuts {size} elements into {parts}", "equal parts"
        )
        each = size // parts
        return tuple(self.slice(x, axis, n * each, (n + 1) * each) for n in range(parts))

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        self.need(-rank <= axis < rank, f"axis {axis} of {rank} axes", f"-{rank} <= axis < {rank}")
        return axis % rank

    def axes(self, axes: Sequence[int] | None, rank: int, exclude: bool = False) -> tuple[int, ...]:
        """Axes counted from the front, in order; none named means all; or all but these."""
        named = range(rank) if axes is None or len(axes) == 0 else axes
        found = tuple(sorted({self.axis(a, rank) for a in named}))
        self.need(len(found) == len(named), f"axes {tuple(named)}", "each axis at most once")
        if exclude and axes:
            return tuple(k for k in range(rank) if k not in found)
        return found

    def spatial(self, values: Sequence[int], rank: int, default: int) -> tuple[int, ...]:
        """One number for each spatial axis; an empty attribute is the default."""
        given = tuple(values) or (default,) * rank
        self.need(len(given) == rank, f"{given} for {rank} spatial axes", f"{rank} numbers")
        return given

    def channels_first(self, layout: str | None, rank: int) -> tuple[int, ...] | None:
        """How axes of this layout are put into N, C, spatial…; None if they are so."""
        plain = "NC" + "DHW"[-(rank - 2) :] if rank < 6 else ""
        if rank == 3:
            plain = "NCW"
        if layout in (None, "None", plain):
            return None
        self.need(sorted(layout or "") == sorted(plain), f"layout {layout} of {rank} axes", plain)
        return tuple((layout or "").index(letter) for letter in plain)
