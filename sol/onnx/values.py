"""What a name of an ONNX graph stands for while it is read.

Known arrays (weights, constants, and whatever follows from them and from shapes), tensors that a
program computes, and the node being read with its inputs and attributes (`Call`), which is what
rows get.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import onnx
from numpy.typing import NDArray

from sol.core.dims import Dim, Shape, Size
from sol.core.dtypes import F32, I64, DType
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node, TensorType
from sol.onnx.types import COMPUTED, name_of

if TYPE_CHECKING:
    from sol.onnx.parts import Parts

Array = NDArray[Any]
"""A known value. Of NumPy's type object if an element is a `Dim`: a size that depends on B"""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value that is computed when the network is called.

    elem: its type in ONNX. part, node: which part of the network makes it, and how; -1 if it is an
    input or NumPy makes it. A float16 of a part is a float32 there.
    """

    name: str
    elem: int
    type: TensorType
    part: int = -1
    node: Node | None = None

    @property
    def shape(self) -> Shape:
        """Its sizes."""
        return self.type.shape


Value = Array | Tensor


class RefusedError(UnsupportedError):
    """Sol has no way to compute this node, whatever the sizes; NumPy may."""


class NeedsValueError(UnsupportedError):
    """A node can be read only if an input is known: its elements decide about sizes.

    value: the name of that value.
    """

    def __init__(self, op: str, reason: str, value: str = "") -> None:
        super().__init__(op, reason, do="make it a constant of the model")
        self.args = (op, reason, value)
        self.value = value


@dataclass(frozen=True, eq=False)
class Typed:
    """A result of a row whose ONNX type does not follow from the types of the inputs."""

    node: Node
    elem: int


Result = Node | Array | Typed
Results = Result | tuple[Result | None, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """A node of the model, as its row sees it. version: of the operator set."""

    parts: Parts
    op: str
    version: int
    inputs: tuple[Value | None, ...]
    attrs: dict[str, Any]
    label: str
    results: int = 1  # how many outputs are asked for

    # ---- graph

    def add(self, op: str, *inputs: Node, **attrs: Any) -> Node:
        """Append an operator of Sol."""
        return self.parts.builder.add(op, *inputs, name=self.label, origin=self.label, **attrs)

    def constant(self, value: Any, dtype: DType = F32) -> Node:
        """A constant array or number."""
        return self.parts.builder.constant(value, dtype)

    def refuse(self, reason: str) -> NoReturn:
        """Sol cannot compute this node."""
        raise RefusedError(f"{self.op}, node {self.label}", reason)

    # ---- inputs

    def has(self, place: int) -> bool:
        """Whether an optional input is there."""
        return place < len(self.inputs) and self.inputs[place] is not None

    def value(self, place: int) -> Value:
        """An input; a clear refusal if it is missing."""
        value = self.inputs[place] if place < len(self.inputs) else None
        if value is None:
            raise UnsupportedError(
                f"{self.op}, node {self.label}", f"input {place} is missing", do="check the model"
            )
        return value

    def x(self, place: int = 0) -> Node:
        """An input as a node."""
        return self.parts.node(self.value(place), self)

    def all(self) -> list[Node]:
        """All inputs as nodes."""
        return [self.x(n) for n in range(len(self.inputs))]

    def elem(self, place: int = 0) -> int:
        """The ONNX type of an input."""
        return elem_of_value(self.value(place))

    def shape(self, place: int = 0) -> Shape:
        """The sizes of an input."""
        return shape_of(self.value(place))

    def rank(self, place: int = 0) -> int:
        """How many axes an input has."""
        return len(self.shape(place))

    def known(self, place: int) -> Array | None:
        """An input whose elements are known numbers, else None."""
        value = self.inputs[place] if place < len(self.inputs) else None
        return value if isinstance(value, np.ndarray) and not is_symbolic(value) else None

    def decided(self, place: int) -> Array:
        """An input whose elements have to be known; it may consist of sizes with B."""
        value = self.value(place)
        if isinstance(value, Tensor):
            raise NeedsValueError(
                f"{self.op}, node {self.label}",
                f"input {place} is computed from data, and it decides about the result's size",
                value.name,
            )
        return value

    def numbers(self, place: int) -> Array:
        """An input whose elements have to be known numbers."""
        value = self.decided(place)
        if is_symbolic(value):
            raise UnsupportedError(self.op, f"input {place} depends on the batch size B")
        return value

    def sizes(self, place: int) -> tuple[Size, ...]:
        """An input that lists sizes, such as a shape."""
        value = self.decided(place)
        flat = np.asarray(value, object).reshape(-1)
        return tuple(s if isinstance(s, Dim) else int(s) for s in flat)

    def integers(self, place: int) -> tuple[int, ...]:
        """An input that lists whole numbers; UnsupportedError where one depends on B."""
        found = self.sizes(place)
        for size in found:
            if isinstance(size, Dim):
                raise UnsupportedError(self.op, f"input {place} depends on the batch size B")
        return tuple(s for s in found if isinstance(s, int))

    def number(self, place: int, default: Any = None) -> Any:
        """An input that is one known number, or the default if it is not there."""
        if not self.has(place):
            return default
        value = self.numbers(place)
        if value.size != 1:
            raise UnsupportedError(self.op, f"input {place} is not one number")
        return value.reshape(()).item()

    # ---- attributes

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attrs.get(name, default)

    def needed(self, name: str) -> Any:
        """An attribute that has to be there."""
        if name not in self.attrs:
            raise UnsupportedError(f"{self.op}, node {self.label}", f"it has no attribute {name}")
        return self.attrs[name]

    def listed(self, name: str, place: int) -> tuple[int, ...] | None:
        """Whole numbers that older versions have as an attribute, newer ones as an input."""
        if name in self.attrs:
            return tuple(self.attrs[name])
        return self.integers(place) if self.has(place) else None

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < max(rank, 1):
            raise UnsupportedError(
                f"{self.op}, node {self.label}", f"axis {axis} of a value with {rank} axes"
            )
        return int(axis) + rank if axis < 0 else int(axis)

    # ---- small steps

    def cast(self, x: Node, dtype: DType) -> Node:
        """x converted; x itself if it is of that type."""
        return x if x.dtype == dtype else self.add("cast", x, dtype=dtype)

    def reshape(self, x: Node, shape: Sequence[Size]) -> Node:
        """x in another shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.add("reshape", x, shape=tuple(shape))

    def expand(self, x: Node, shape: Sequence[Size]) -> Node:
        """x broadcast to a shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.add("expand", x, shape=tuple(shape))

    def permute(self, x: Node, axes: Sequence[int]) -> Node:
        """x with its axes in another order; x itself if it is this order."""
        same = list(axes) == list(range(x.tensor.rank))
        return x if same else self.add("permute", x, axes=tuple(axes))

    def slice(self, x: Node, axis: int, start: Size, stop: Size) -> Node:
        """x from start to stop on an axis; x itself if that is all."""
        if start == 0 and stop == x.shape[axis]:
            return x
        return self.add("slice", x, axis=axis, start=start, stop=stop, step=1)

    def scaled(self, x: Node, factor: float) -> Node:
        """x times a number; x itself if that is 1."""
        return x if factor == 1 else self.add("mul", x, self.constant(float(factor), x.dtype))

    def floating(self, x: Node) -> Node:
        """x as floating point; x itself if it is."""
        return x if x.dtype.kind == "float" else self.cast(x, F32)


def is_symbolic(value: Array) -> bool:
    """Whether an element depends on the batch."""
    return value.dtype == object


def sizes_array(sizes: Sequence[Size]) -> Array:
    """Sizes as an int64 array, or of type object if one depends on the batch."""
    if any(isinstance(s, Dim) for s in sizes):
        array = np.empty(len(sizes), object)
        array[:] = list(sizes)
        return array
    return np.array(sizes, np.int64)


def tidy(value: Array) -> Array:
    """Sizes without a Dim among them as int64."""
    if is_symbolic(value) and not any(isinstance(s, Dim) for s in value.reshape(-1)):
        return value.astype(np.int64)
    return value


def shape_of(value: Value) -> Shape:
    """The sizes of a value."""
    return value.shape


def elem_of_value(value: Value) -> int:
    """The ONNX type of a value."""
    if isinstance(value, Tensor):
        return value.elem
    if is_symbolic(value):
        return int(onnx.TensorProto.INT64)
    return int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))


def computed_type(elem: int, what: str) -> DType:
    """The type that Sol computes with for a type of ONNX; RefusedError if there is none."""
    if elem not in COMPUTED:
        raise RefusedError(what, f"Sol does not compute with {name_of(elem)}")
    return COMPUTED[elem]


def elem_of_dtype(dtype: DType) -> int:
    """The ONNX type of what Sol computes."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype.numpy)))


__all__ = ["F32", "I64", "Array", "Call", "RefusedError", "Tensor", "Typed", "Value"]
