"""Values while a model is read, and what a row gets besides its operands.

A value has dynamic axes first, the batch and maybe steps, then its static axes in NumPy's order.
CNTK aligns static axes at the last one (of NumPy), dynamic ones by themselves: `Context.aligned`
makes nodes of them that broadcast. A value that no input decides has one image: it stands for any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from sol.arrays.captured import pruned
from sol.cntk.bounds import least
from sol.cntk.codes import name_of
from sol.cntk.dictionary import Axis, Shape
from sol.cntk.model import Operation
from sol.core.dims import Size, product
from sol.core.dtypes import BOOL, F32, I64, DType
from sol.core.errors import UnsupportedError
from sol.ir.graph import Builder, Node
from sol.ops.reference import evaluate_nodes

Array = NDArray[Any]
_MOST_KNOWN = 1 << 24  # elements of a value that is computed while reading


@dataclass(frozen=True, slots=True)
class Value:
    """A node, and which of its axes are dynamic: the first ones, as many as there are `axes`.

    whole: lengths of sequences that are as long as they can be.
    """

    node: Node
    axes: tuple[str, ...] = ()
    whole: bool = False

    @property
    def lead(self) -> tuple[Size, ...]:
        """Sizes of the dynamic axes."""
        return self.node.shape[: len(self.axes)]

    @property
    def shape(self) -> tuple[Size, ...]:
        """Sizes of the static axes."""
        return self.node.shape[len(self.axes) :]

    @property
    def rank(self) -> int:
        """Number of static axes."""
        return self.node.tensor.rank - len(self.axes)


Result = Value | tuple[Value, ...]


@dataclass(frozen=True)
class Context:
    """One operation; a row appends nodes through it and returns values.

    arrays: values of parameters, by the key of their nodes. longest: steps of the longest sequence
    of a call, where that shows.
    """

    builder: Builder
    operation: Operation
    arrays: Mapping[str, Array] = field(default_factory=dict)
    longest: int = 0

    # ---- nodes

    def op(self, op: str, *inputs: Node, **attrs: Any) -> Node:
        """Append an operator of Sol."""
        name = f"{self.operation.name or self.operation.uid}_{op}"
        return self.builder.add(op, *inputs, name=name, origin=self.origin, **attrs)

    def constant(self, value: Any, dtype: DType = F32) -> Node:
        """A constant array or number."""
        return self.builder.constant(value, dtype)

    def floating(self, x: Node) -> Node:
        """Truth and indices are numbers in CNTK."""
        return x if x.dtype == F32 else self.op("cast", x, dtype=F32)

    def truth(self, x: Node) -> Node:
        """x != 0, from the comparison itself where x is one."""
        if x.op == "cast" and self.builder[x.inputs[0]].dtype == BOOL:
            return self.builder[x.inputs[0]]
        return self.op("ne", x, self.constant(0.0))

    def integers(self, x: Node) -> Node:
        """x as indices."""
        return self.op("cast", x, dtype=I64)

    def reshape(self, x: Node, shape: Sequence[Size]) -> Node:
        """x in another shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.op("reshape", x, shape=tuple(shape))

    def expand(self, x: Node, shape: Sequence[Size]) -> Node:
        """x broadcast to a shape; x itself if it has it."""
        return x if x.shape == tuple(shape) else self.op("expand", x, shape=tuple(shape))

    def permute(self, x: Node, axes: Sequence[int]) -> Node:
        """x with its axes in another order; x itself if it is this order."""
        same = list(axes) == list(range(x.tensor.rank))
        return x if same else self.op("permute", x, axes=tuple(axes))

    def slice(self, x: Node, axis: int, start: int, stop: int, step: int = 1) -> Node:
        """x[start:stop:step] on an axis; x itself if that is all of it."""
        if (start, stop, step) == (0, x.shape[axis], 1):
            return x
        return self.op("slice", x, axis=axis, start=start, stop=stop, step=step)

    # ---- values

    def aligned(self, *values: Value) -> tuple[tuple[Node, ...], tuple[str, ...]]:
        """Nodes that broadcast, and the dynamic axes of what is made of them."""
        axes = max((v.axes for v in values), key=len)
        steps = {v.lead[1] for v in values if len(v.axes) == 2}
        if len(steps) > 1:
            self.refuse(f"sequences of {' and '.join(map(str, steps))} steps meet")
        rank = max(v.rank for v in values)
        return tuple(self._aligned(v, len(axes), rank) for v in values), axes

    def _aligned(self, v: Value, lead: int, rank: int) -> Node:
        if not v.axes:
            return v.node
        missing = (1,) * (lead - len(v.axes)), (1,) * (rank - v.rank)
        return self.reshape(v.node, (*v.lead, *missing[0], *missing[1], *v.shape))

    def images(self, v: Value) -> Node:
        """v with one axis in place of its dynamic ones."""
        return self.reshape(v.node, (product(v.lead), *v.shape))

    def like(self, v: Value, node: Node) -> Value:
        """What was made of `images(v)` with the dynamic axes of v."""
        return Value(self.reshape(node, (*v.lead, *node.shape[1:])), v.axes)

    def keep(self, v: Value, node: Node) -> Value:
        """A node with the dynamic axes of v."""
        return replace(v, node=node, whole=False)

    def sizes_of(self, v: Value) -> tuple[int, ...]:
        """The static sizes, which do not depend on the batch."""
        if not all(isinstance(s, int) for s in v.shape):
            self.refuse("a static size depends on the batch")
        return tuple(s for s in v.shape if isinstance(s, int))

    def least(self, v: Value) -> float:
        """A number that no element of a value is less than."""
        return least(self.builder, v.node, self.arrays)

    def known(self, v: Value) -> Array:
        """The number that a value is whatever the inputs are, without its axis of images."""
        graph = pruned(self.builder.finish([v.node]))
        if any(n.op in ("input", "parameter") for n in graph) or (v.axes and v.lead[0] != 1):
            self.refuse("which steps it takes depends on data")
        if any(product(n.shape) > _MOST_KNOWN for n in graph):  # type: ignore[operator]
            self.refuse("it is too large to be computed while the model is read")
        found = evaluate_nodes(graph, [v.node.name], {})[v.node.name]
        return np.asarray(found)[0] if v.axes else np.asarray(found)

    # ---- attributes

    def attribute(self, name: str, kind: type, default: Any = None) -> Any:
        """An attribute of the operation of a kind."""
        value = self.operation.attributes.get(name, default)
        if type(value) is not kind:
            self.refuse(f"its attribute {name} is {str(value)[:40]!r}")
        return value

    def list(self, name: str, kind: type) -> list[Any]:
        """An attribute that is a list of things of a kind."""
        values = self.attribute(name, list)
        if not all(type(v) is kind for v in values):
            self.refuse(f"its attribute {name} is not a list of {kind.__name__}")
        return list(values)

    def sizes(self, name: str) -> tuple[int, ...]:
        """A shape, in NumPy's order."""
        shape: Shape = self.attribute(name, Shape)
        return shape.sizes[::-1]

    def axis(self, axis: Axis, rank: int) -> int:
        """A static axis in NumPy's order, -1 for a new one before the first."""
        place = rank - 1 - axis.index if axis.index >= 0 else -1 - axis.index
        if not -1 <= place < rank:
            self.refuse(f"it names the axis {axis.index} of a value with {rank} axes")
        return place

    def has(self, name: str) -> bool:
        """Whether the operation has an attribute."""
        return name in self.operation.attributes

    # ---- names

    @property
    def origin(self) -> str:
        """What `explain` and errors call the operation."""
        kind = name_of(self.operation.code)
        name = self.operation.name or self.operation.uid
        return name if name.startswith(kind) else f"{kind} {name}"

    def refuse(self, reason: str) -> NoReturn:
        """Sol cannot take this operation."""
        raise UnsupportedError(self.origin, reason)
