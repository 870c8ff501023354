"""What a row gets: the graph that is being made, and the helpers that rows share.

A row says what an operation of TensorFlow or a layer of Keras computes in operators of Sol. Values
are nodes of the graph, or `Known` arrays: what is known when the network is read, sizes that follow
the batch included (values.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import Dim, Shape, Size, product
from sol.core.dtypes import DTYPES, F32, I64, DType
from sol.core.errors import UnsupportedError
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.registry import builder as new_builder
from sol.tensorflow.variables import Variables

Array = NDArray[Any]
_MOST_CONSTANT = 1024  # elements that are written into the graph; larger arrays are parameters

_BY_NUMPY = {t.numpy: t for t in DTYPES.values()}


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A value that is known when the network is read: an array of numbers, or of sizes (objects:
    ints and `Dim`) that stand for numbers of this type.
    """

    array: Array
    dtype: DType

    @property
    def symbolic(self) -> bool:
        """Whether it holds sizes that follow the batch."""
        return self.array.dtype == object

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.array.shape

    @staticmethod
    def of(values: Any, dtype: DType) -> Known:
        """Numbers or sizes as a known value; sizes that are numbers become numbers."""
        array = np.array(values, dtype=object)
        if not any(isinstance(v, Dim) for v in array.flat):
            array = array.astype(dtype.numpy)
        return Known(array, dtype)


Value = Any  # Node | Known, and what else readers of graphs hand around


@dataclass(frozen=True, slots=True)
class Hosted:
    """What stays in TensorFlow: a function of arrays, the values it reads and those it makes."""

    function: Callable[..., Sequence[Array]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operator: str
    origin: str
    reason: str


@dataclass
class Reading:
    """One network while it is being read: its graph so far, parameters, what stays in TensorFlow.

    Parameters are variables or arrays, by the name that the graph has for them; `variables` gives
    the same names each time that a model is read. In training, `updates` are variables with their
    new values, and `seeds` generators of Keras with the inputs that random numbers follow from.
    """

    variables: Variables = field(default_factory=Variables)
    builder: Builder = field(default_factory=new_builder)
    parameters: dict[str, Any] = field(default_factory=dict)
    hosted: list[Hosted] = field(default_factory=list)
    training: bool = False
    updates: list[tuple[Any, Node]] = field(default_factory=list)
    seeds: list[tuple[Any, str]] = field(default_factory=list)
    _nodes: dict[str, Node] = field(default_factory=dict)

    def parameter(self, owner: Any, name: str, shape: Sequence[int], dtype: DType) -> Node:
        """The node of a variable or of a constant array; one for each of them."""
        key = self.variables.key(owner, name)
        if key not in self._nodes:
            self.parameters[key] = owner
            self._nodes[key] = self.builder.parameter(key, TensorType(tuple(shape), dtype))
        return self._nodes[key]

    def random(self, generator: Any, shape: Shape) -> Node:
        """Numbers from 0 to 1 that follow from what a generator of Keras gives at each call."""
        name = f"seed {len(self.seeds)}"
        seed = self.builder.input(name, TensorType((1,), I64))
        self.seeds.append((generator, name))
        return self.builder.add("random", seed, shape=tuple(shape), stream=0)

    @property
    def arrays(self) -> dict[str, Array]:
        """The values of the parameters, on the memory of their variables."""
        return {key: self.variables.value(key, owner) for key, owner in self.parameters.items()}


@dataclass(frozen=True)
class Context:
    """One operation or layer: its name for errors, its place in the user's model."""

    reading: Reading
    target: str
    origin: str = ""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[TensorType | None, ...] = ()  # what TensorFlow says, where it knows

    def op(self, op: str, *inputs: Node, **attrs: Any) -> Node:
        """Append an operator of Sol."""
        name = f"{self.origin}_{op}" if self.origin else op
        return self.reading.builder.add(op, *inputs, name=name, origin=self.origin, **attrs)

    @property
    def training(self) -> bool:
        """Whether the network is read in training mode."""
        return self.reading.training

    def refuse(self, reason: str) -> NoReturn:
        """Leave this to TensorFlow."""
        raise UnsupportedError(self.target, reason)

    def made_by(self, x: Node) -> tuple[Node, ...]:
        """The nodes that a node reads."""
        return tuple(self.reading.builder[i] for i in x.inputs)

    # ---- values

    def node(self, x: Value) -> Node:
        """A value as a node of the graph."""
        if isinstance(x, Node):
            return x
        if not isinstance(x, Known):
            self.refuse(f"it reads a {type(x).__name__}, not a tensor")
        if x.symbolic:
            self.refuse("it computes with numbers that depend on the batch size B")
        if x.array.size > _MOST_CONSTANT:
            return self.reading.parameter(x.array, self.origin or "constant", x.shape, x.dtype)
        return self.reading.builder.constant(x.array, x.dtype)

    def known(self, x: Value, what: str) -> Array:
        """The array of a value that is known, `what` it is for."""
        if not isinstance(x, Known):
            self.refuse(f"{what} depends on values of the input")
        return x.array

    def numbers(self, x: Value, what: str) -> list[int]:
        """A known list of numbers."""
        found = np.atleast_1d(self.known(x, what)).tolist()
        if any(isinstance(v, Dim) for v in found):
            self.refuse(f"{what} depends on the batch size B")
        return [int(v) for v in found]

    def sizes(self, x: Value, what: str) -> list[Size]:
        """A known list of sizes."""
        found = np.atleast_1d(self.known(x, what)).tolist()
        return [v if isinstance(v, Dim) else int(v) for v in found]

    def number(self, x: Value, what: str) -> Any:
        """One known number."""
        found = self.known(x, what)
        if found.size != 1 or found.dtype == object:
            self.refuse(f"{what} is {found}, not one number")
        return found.reshape(()).item()

    def constant(self, value: Any, dtype: DType = F32) -> Node:
        """A constant array or number."""
        return self.reading.builder.constant(value, dtype)

    def cast(self, x: Node, dtype: DType) -> Node:
        """x converted to a type; x itself if it is of that type."""
        if x.dtype == dtype:
            return x
        if dtype.kind == "float" and dtype != F32:
            self.refuse(f"Sol computes in float32, not in {dtype}")
        return self.op("cast", x, dtype=dtype)

    def floating(self, x: Node) -> Node:
        """x as float32."""
        return self.cast(x, F32)

    # ---- shapes

    def reshape(self, x: Node, shape: Sequence[Size]) -> Node:
        """x in another shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.op("reshape", x, shape=tuple(shape))

    def expand(self, x: Node, shape: Shape) -> Node:
        """x broadcast to a shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.op("expand", x, shape=tuple(shape))

    def filled(self, sizes: Sequence[Size], total: Size) -> tuple[Size, ...]:
        """Sizes of which one may be -1: what is left of `total` elements."""
        if -1 not in sizes:
            return tuple(sizes)
        others = product(s for s in sizes if s != -1)
        if isinstance(others, Dim) and not isinstance(total, Dim):
            self.refuse(f"{total} elements in a shape of {others}")
        rest = total // others  # type: ignore[operator]
        return tuple(rest if s == -1 else s for s in sizes)

    def slice(self, x: Node, axis: int, start: Size, stop: Size, step: int = 1) -> Node:
        """start:stop:step of an axis."""
        if (start, stop, step) == (0, x.shape[axis], 1):
            return x
        return self.op("slice", x, axis=axis, start=start, stop=stop, step=step)

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < rank:
            self.refuse(f"axis {axis} of a value with {rank} axes")
        return axis % rank

    def axes(self, axes: Any, rank: int) -> tuple[int, ...]:
        """Axes counted from the front, in order; None means all."""
        if axes is None:
            return tuple(range(rank))
        given = [axes] if isinstance(axes, (int, np.integer)) else axes
        return tuple(sorted({self.axis(int(a), rank) for a in given}))


def dtype_of(name: str, target: str) -> DType:
    """The type of a TensorFlow name ("float32"); UnsupportedError for types that Sol lacks."""
    found = _BY_NUMPY.get(name)
    if found is None:
        raise UnsupportedError(target, f"Sol has no values of type {name}")
    return found


def computable(x: TensorType, target: str) -> None:
    """Sol computes in float32."""
    if x.dtype.kind == "float" and x.dtype != F32:
        raise UnsupportedError(target, f"Sol computes in float32, not in {x.dtype.numpy}")
