"""The steps of a network while it is read: parts that grow, and what NumPy does between them.

A value of an earlier part, read in a later one, becomes an output of the one and an input of the
other. Known arrays become constants if they are small, else parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sol.arrays.captured import Captured, Host, Part, Step, pruned
from sol.core.dtypes import DTYPES, I32, I64
from sol.core.errors import UnsupportedError
from sol.ir.graph import Builder, Node, TensorType
from sol.onnx.model import Model
from sol.onnx.types import COMPUTED, name_of, numpy_of
from sol.onnx.values import (
    Array,
    Call,
    Tensor,
    Value,
    computed_type,
    elem_of_value,
    is_symbolic,
)
from sol.ops.registry import builder as new_builder

_SMALL = 64  # elements of a constant; more are a parameter
_PLACES = 4096  # the same of whole numbers, which passes look into


@dataclass
class Open:
    """A part that grows. inputs and outputs: names of values, with their nodes."""

    builder: Builder = field(default_factory=new_builder)
    inputs: dict[str, Node] = field(default_factory=dict)
    outputs: dict[str, Node] = field(default_factory=dict)
    known: dict[int, Node] = field(default_factory=dict)  # nodes of arrays, by identity


class Parts:
    """All steps so far; `builder` is that of the part at hand."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.parameters: dict[str, Array] = {}
        self._steps: list[int | Host] = []  # numbers of parts, and NumPy's steps
        self._parts = [Open()]
        self._keys: dict[int, str] = {id(a): name for name, a in model.weights.items()}
        self._alive: list[Array] = []  # so that no identity is used twice
        self._casts: dict[str, Tensor] = {}
        self._count = 0

    @property
    def builder(self) -> Builder:
        """The builder of the part at hand."""
        return self._parts[-1].builder

    @property
    def number(self) -> int:
        """The number of the part at hand."""
        return len(self._parts) - 1

    def fresh(self, hint: str = "v") -> str:
        """A name that no value has."""
        self._count += 1
        return f"{hint}#{self._count}"

    def close(self) -> None:
        """What comes now is after NumPy's step."""
        self._steps.append(self.number)
        self._parts.append(Open())

    # ---- values as nodes

    def node(self, value: Value, call: Call | None = None) -> Node:
        """A value as a node of the part at hand."""
        what = f"{call.op}, node {call.label}" if call else "a result"
        computed_type(elem_of_value(value), what)
        if isinstance(value, np.ndarray):
            if is_symbolic(value):
                raise UnsupportedError(
                    what, "it computes with sizes that depend on the batch size B"
                )
            return self._known(value)
        if value.part == self.number and value.node is not None:
            return value.node
        part = self._parts[-1]
        if value.name not in part.inputs:
            source = self._readable(value)
            known = part.inputs.get(source.name)
            node = known or part.builder.input(source.name, source.type)
            part.inputs[source.name] = part.inputs[value.name] = node
        return part.inputs[value.name]

    def _readable(self, value: Tensor) -> Tensor:
        """A value of an earlier step in a type that parts read."""
        if value.type.dtype == COMPUTED[value.elem]:
            self.exported(value)
            return value
        if value.name not in self._casts:
            name, dtype = self.fresh(value.name), COMPUTED[value.elem]
            kind = TensorType(value.type.shape, dtype)
            to = _to(np.dtype(dtype.numpy))
            self.host(to, (value.name,), (name,), "Cast", _why(value.elem))
            self._casts[value.name] = Tensor(name, value.elem, kind)
        return self._casts[value.name]

    def _known(self, value: Array) -> Node:
        part = self._parts[-1]
        if id(value) in part.known:
            return part.known[id(value)]
        self._alive.append(value)
        array = self._computed(value)
        dtype = next(t for t in DTYPES.values() if t.numpy == array.dtype.name)
        if array.size <= (_PLACES if dtype in (I32, I64) else _SMALL):
            node = part.builder.constant(array, dtype)
        else:
            key = self._keys.setdefault(id(value), self.fresh("constant"))
            self.parameters[key] = array
            node = part.builder.parameter(key, TensorType(array.shape, dtype))
        part.known[id(value)] = node
        return node

    def _computed(self, value: Array) -> Array:
        """A known array in the type that Sol computes with; weights are converted once."""
        dtype = np.dtype(COMPUTED[elem_of_value(value)].numpy)
        if value.dtype.newbyteorder("=") == dtype:
            return value
        key = self._keys.get(id(value), "")
        if key in self.model.converted:
            return self.model.converted[key]
        array = value.astype(dtype)
        if key in self.model.weights:
            self.model.converted[key] = array
        return array

    def stored(self, value: Array) -> Node:
        """A known array that stays one in memory, however small it is."""
        key = self.fresh("constant")
        self._alive.append(value)
        self.parameters[key] = array = self._computed(value)
        dtype = next(t for t in DTYPES.values() if t.numpy == array.dtype.name)
        return self.builder.parameter(key, TensorType(array.shape, dtype))

    # ---- values between steps

    def exported(self, value: Tensor) -> str:
        """The name of a value for steps after its part."""
        if value.part >= 0:
            assert value.node is not None
            self._parts[value.part].outputs[value.name] = value.node
        return value.name

    def host(
        self,
        function: Callable[..., tuple[Array, ...]],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        name: str,
        reason: str,
        origin: str = "",
    ) -> None:
        """Append a step of NumPy, before the part at hand."""
        self._steps.append(Host(function, inputs, outputs, name, reason, origin))

    def result(self, value: Value) -> str:
        """The name of a value as a result of the network: in the type of ONNX."""
        if isinstance(value, np.ndarray):
            if is_symbolic(value):
                raise UnsupportedError(
                    "a result", "it consists of sizes that depend on the batch size B"
                )
            key = self.fresh("result")
            self.parameters[key] = value
            return key
        name = self.exported(value)
        if not value.elem:  # its type is known when it is there
            return name
        true = numpy_of(value.elem)
        if value.type.dtype.numpy == true.name:
            return name
        key = self.fresh(name)
        self.host(_to(true), (name,), (key,), "Cast", _why(value.elem))
        return key

    def captured(self, results: tuple[Value, ...]) -> Captured:
        """All steps, with these results."""
        last = len(self._steps)
        names = tuple(self.result(v) for v in results)
        steps: list[Step] = []
        order = [*self._steps[:last], self.number, *self._steps[last:]]
        for step in order:
            made = self._part(self._parts[step]) if isinstance(step, int) else step
            if made is not None:
                steps.append(made)
        # rows refuse what is something else for one image (Squeeze without axes)
        return Captured(tuple(steps), self.parameters, names, least=1)

    def _part(self, part: Open) -> Part | None:
        if not part.outputs:
            return None
        graph = pruned(part.builder.finish(part.outputs.values()))
        names = {n.name: name for name, n in reversed(part.inputs.items())}
        return Part(graph, tuple(names[n.name] for n in graph.inputs), tuple(part.outputs))


def _to(dtype: np.dtype[Any]) -> Callable[..., tuple[Array, ...]]:
    return lambda array: (array.astype(dtype),)


def _why(elem: int) -> str:
    return f"{name_of(elem)}: Sol computes in {COMPUTED[elem].numpy}"
