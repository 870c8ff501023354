"""Constant folding: what depends on constants only is computed now, by the reference.

`add(constant, constant)` -> `constant`. Tables that are cheaper to compute than to load stay as
they are: `iota` and `full` are never stored, and neither is a result above 64 KiB that is larger
than what it is made of (the mask `iota <= iota` of a long sequence). A value whose elements are all
equal becomes `full`, also where its shape is symbolic. Parameters are not constants: what depends
on them is computed at run time, once (`Graph.static`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from sol.core.dims import Dim
from sol.core.errors import SolError
from sol.ir.graph import Graph, Literal, Node, TensorType
from sol.ir.rewrite import Fuel
from sol.ir.rewriter import uniform_number
from sol.ops.reference import Array, evaluate_node
from sol.ops.registry import OPS

_SMALL = 1 << 16  # bytes of a result that is stored however small its inputs are
_LARGEST = 1 << 24  # bytes of the largest value that is computed here at all
_SYMBOLIC = frozenset({"iota", "full", "expand"})  # computed at every use, never stored
# moves of equal elements: the result has the same elements
_MOVES = frozenset(
    {"reshape", "permute", "expand", "slice", "flip", "roll", "repeat", "concat", "channel_shuffle"}
    | {"pixel_shuffle", "pixel_unshuffle", "unfold", "slice_assign", "select_assign", "where"}
)


def fold(graph: Graph, fuel: Fuel | None = None) -> Graph:
    """`op(constant, …)` -> `constant` or `full`."""
    run = _Run(fuel or Fuel())
    nodes = tuple(run.folded(node) for node in graph.nodes)
    changed = any(a is not b for a, b in zip(nodes, graph.nodes))
    return Graph(nodes, graph.outputs) if changed else graph


@dataclass(slots=True)
class _Run:
    """What is known of the values seen so far: sizes, equal elements, ways to compute them."""

    fuel: Fuel
    sizes: dict[str, int] = field(default_factory=dict)
    elements: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Callable[[], Array]] = field(default_factory=dict)

    def folded(self, node: Node) -> Node:
        """The node, or the constant that it is; and note what is known of it."""
        if node.op in ("input", "parameter") or not isinstance(node.type, TensorType):
            return node
        self.sizes[node.name] = _bytes(node)
        element = self._element(node)
        new = self._stored(node) if element is None else _filled(node, element)
        if new is not node and not self.fuel.take(f"fold {node.name}"):
            new = node
        number = uniform_number(new)  # also of what turned out to be equal when it was computed
        if element is None and number is not None:
            element = np.asarray(number, dtype=new.dtype.numpy)
        if element is not None:
            self.elements[node.name] = element
        self._note_value(new)
        return new

    def _element(self, node: Node) -> Array | None:
        """The element of a value whose elements are all equal, as an array without axes."""
        number = uniform_number(node)
        if number is not None:
            return np.asarray(number, dtype=node.dtype.numpy)
        if not node.inputs or any(i not in self.elements for i in node.inputs):
            return None
        operands = [self.elements[i] for i in node.inputs]
        if OPS[node.op].kind == "elementwise":
            return _computed(replace(node, type=TensorType((), node.dtype)), operands)
        same = all(o.tobytes() == operands[0].tobytes() for o in operands)
        return operands[0] if same and node.op in _MOVES else None

    def _stored(self, node: Node) -> Node:
        """The node as a constant, if its value is known and worth storing."""
        if node.op == "constant" or node.op in _SYMBOLIC or not node.inputs:
            return node
        if any(i not in self.values for i in node.inputs):
            return node
        size = self.sizes[node.name]
        if size > _LARGEST or (size > _SMALL and size > sum(self.sizes[i] for i in node.inputs)):
            return node
        value = _computed(node, [self.values[i]() for i in node.inputs])
        if value is None:
            return node
        new = _constant(node, value)
        number = uniform_number(new)
        return new if number is None else _filled(node, np.asarray(number, node.dtype.numpy))

    def _note_value(self, node: Node) -> None:
        if node.op == "constant":
            array: Array = node["value"].array
            self.values[node.name] = lambda: array
            return
        known = all(i in self.values for i in node.inputs)
        if node.op in _SYMBOLIC and known and self.sizes[node.name] <= _LARGEST:
            inputs = [self.values[i] for i in node.inputs]
            self.values[node.name] = lru_cache(lambda: _certain(node, [i() for i in inputs]))


def _filled(node: Node, element: Array) -> Node:
    """A value of equal elements: `full`, without axes a constant."""
    if not node.shape:
        return node if node.op == "constant" else _constant(node, element)
    if node.op == "full":
        return node
    attrs = (("dtype", node.dtype), ("shape", node.shape), ("value", element.item()))
    return replace(node, op="full", inputs=(), attrs=attrs)


def _constant(node: Node, value: Array) -> Node:
    literal = Literal(node.dtype, value.shape, value.tobytes())
    return replace(node, op="constant", inputs=(), attrs=(("value", literal),))


def _computed(node: Node, inputs: Sequence[Array]) -> Array | None:
    try:
        return _certain(node, inputs)
    except (SolError, IndexError):
        # a take out of range: the error belongs to the call of the network, as in the framework
        return None


def _certain(node: Node, inputs: Sequence[Array]) -> Array:
    value = evaluate_node(node, *inputs)
    assert not isinstance(value, tuple), "only nodes with one result are computed"
    return value


def _bytes(node: Node) -> int:
    """Size of a value in bytes; more than any limit if it depends on the batch."""
    if any(isinstance(s, Dim) for s in node.shape):
        return 1 << 62
    return math.prod(int(s) for s in node.shape if isinstance(s, int)) * node.dtype.bytes
