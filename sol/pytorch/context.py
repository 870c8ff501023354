"""What a row gets besides its arguments: a builder, the expected result, and PyTorch's promotion.

A row translates one PyTorch operator: `row(c, *args, **kwargs)` with tensors as Sol nodes and sizes
as ints or `Dim`, in the order of the operator's schema. It appends nodes through `c.op` and returns
a node, or a tuple of them where the operator has several results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from sol.core.dims import Shape
from sol.core.dtypes import BOOL, F32, I64, DType, promote
from sol.core.errors import UnsupportedError
from sol.ir.graph import Builder, Node, TensorType
from sol.pytorch.types import dtype_of

Scalar = bool | int | float
Operand = Node | Scalar


@dataclass(frozen=True)
class Missing:
    """A result of a row that Sol does not compute; who reads it runs in PyTorch."""

    reason: str


Result = Node | tuple[Node | Missing, ...]


@dataclass(frozen=True)
class Context:
    """One call of an operator; `result` is its type by PyTorch's own rules, None without one."""

    builder: Builder
    target: str
    result: Any
    name: str
    origin: str
    fx: torch.fx.Node | None = None
    chance: Callable[[Shape], Node] | None = (
        None  # random numbers of a shape; None: not in training
    )

    def op(self, op: str, *inputs: Node, **attrs: Any) -> Node:
        """Append an operator of Sol."""
        name = f"{self.name}_{op}" if self.name else op
        return self.builder.add(op, *inputs, name=name, origin=self.origin, **attrs)

    def refuse(self, reason: str) -> NoReturn:
        """Leave this call to PyTorch."""
        raise UnsupportedError(self.target, reason)

    @property
    def training(self) -> bool:
        """Whether the network is read for training: gradients matter, random numbers are drawn."""
        return self.chance is not None

    def random(self, shape: Shape) -> Node:
        """Random numbers from 0 to 1."""
        if self.chance is None:
            self.refuse("it draws random numbers")
        return self.chance(shape)

    @property
    def type(self) -> TensorType:
        """The type of the one result."""
        if not isinstance(self.result, TensorType):
            self.refuse("it has not exactly one tensor as its result")
        return self.result

    @property
    def shape(self) -> Shape:
        """The shape of the one result."""
        return self.type.shape

    # ---- constants and casts

    def constant(self, value: Any, dtype: DType) -> Node:
        """A constant array or number."""
        return self.builder.constant(value, dtype)

    def operand(self, x: Operand, dtype: DType) -> Node:
        """A tensor or Python number as a node of this element type."""
        if isinstance(x, Node):
            return self.cast(x, dtype)
        if not isinstance(x, (bool, int, float)):
            self.refuse(f"a factor or term that depends on the batch size B: {x}")
        return self.constant(x, dtype)

    def cast(self, x: Node, dtype: DType) -> Node:
        """x converted to a type; x itself if it is of that type."""
        if x.dtype == dtype:
            return x
        if dtype.kind == "float" and dtype != F32:
            self.refuse(f"Sol computes in float32, not in {dtype}")
        return self.op("cast", x, dtype=dtype)

    def floating(self, x: Node) -> Node:
        """x as float32 if it holds integers or booleans."""
        return x if x.dtype.kind == "float" else self.cast(x, F32)

    def dtype(self, dtype: torch.dtype | None, default: DType) -> DType:
        """An element type that a call names, or the default."""
        return default if dtype is None else dtype_of(dtype)

    # ---- shapes

    def reshape(self, x: Node, shape: Shape) -> Node:
        """x in another shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.op("reshape", x, shape=tuple(shape))

    def expand(self, x: Node, shape: Shape) -> Node:
        """x broadcast to a shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.op("expand", x, shape=tuple(shape))

    def permute(self, x: Node, axes: Sequence[int]) -> Node:
        """x with its axes in another order; x itself if it is this order."""
        return (
            x
            if list(axes) == list(range(x.tensor.rank))
            else self.op("permute", x, axes=tuple(axes))
        )

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        return axis + max(rank, 1) if axis < 0 else axis

    def axes(self, axes: Sequence[int] | int | None, rank: int) -> tuple[int, ...]:
        """Axes counted from the front, in order; none named means all."""
        if isinstance(axes, int):
            axes = (axes,)
        if not axes:
            return tuple(range(rank))
        return tuple(sorted(self.axis(a, rank) for a in axes)) if rank else ()


def result_dtype(*operands: Operand) -> DType:
    """PyTorch's promotion: tensors with axes count before those without, these before numbers.

    A lower class changes the type only if it is of a higher kind (bool < int < float).
    """
    classes: list[DType | None] = [None, None, None]
    for x in operands:
        rank = (0 if x.tensor.rank else 1) if isinstance(x, Node) else 2
        dtype = x.dtype if isinstance(x, Node) else _number_dtype(x)
        known = classes[rank]
        classes[rank] = dtype if known is None else promote(known, dtype)
    return _combine(classes[0], _combine(classes[1], classes[2])) or F32


def _number_dtype(x: Scalar) -> DType:
    return BOOL if isinstance(x, bool) else I64 if isinstance(x, int) else F32


def _combine(higher: DType | None, lower: DType | None) -> DType | None:
    if higher is None or lower is None:
        return lower if higher is None else higher
    if higher.kind == "float":
        return higher
    return promote(higher, lower) if higher == BOOL or lower.kind == "float" else higher


def number(value: Any, default: float) -> float:
    """A Python number as a float, or the default where it is None; infinities are kept."""
    return default if value is None else float(value) if math.isfinite(value) else value
