"""The graph: one network as a flat, immutable list of nodes in topological order.

A node applies an operator to values that stand before it and names its result; a value is one
tensor of a `TensorType`. Operators with several results (LSTM) have a tuple of types, and `item`
nodes pick one. Sources are `input`, `parameter` (memory of the framework, may change between calls)
and `constant` (a `Literal`). A graph is compared by value; ir/show.py prints and parses it,
ir/check.py verifies it, `Builder` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any
from typing import Literal as Literal_

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import Dim, Shape, concrete
from sol.core.dtypes import DTYPES, DType


@dataclass(frozen=True, slots=True)
class TensorType:
    """Logical shape and element type of a value."""

    shape: Shape
    dtype: DType

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Literal:
    """The value of a constant: C-contiguous bytes of an array, compared by content."""

    dtype: DType
    shape: tuple[int, ...]
    data: bytes = field(repr=False)

    @staticmethod
    def of(value: Any, dtype: DType | None = None) -> Literal:
        """A literal of an array or number."""
        array = np.asarray(value, dtype=dtype.numpy if dtype else None)
        kept = dtype or next((t for t in DTYPES.values() if t.numpy == array.dtype.name), None)
        assert kept is not None, f"no Sol dtype for NumPy {array.dtype}"
        return Literal(kept, array.shape, array.tobytes())

    @property
    def array(self) -> NDArray[Any]:
        """The value, read only."""
        return np.frombuffer(self.data, dtype=self.dtype.numpy).reshape(self.shape)


Attr = None | bool | int | float | str | DType | Dim | Literal | tuple[Any, ...]
Attrs = tuple[tuple[str, Attr], ...]


@dataclass(frozen=True, slots=True)
class Node:
    """`name = op(inputs, attrs)` of a type; `origin` is the user's layer or line."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Attrs
    type: TensorType | tuple[TensorType, ...]
    origin: str = ""

    def __getitem__(self, attr: str) -> Any:
        for key, value in self.attrs:
            if key == attr:
                return value
        raise KeyError(f"{self.op} has no attribute {attr}")

    def get(self, attr: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        return next((value for key, value in self.attrs if key == attr), default)

    @property
    def tensor(self) -> TensorType:
        """The type of a node with one result."""
        assert isinstance(self.type, TensorType), f"{self.name} = {self.op} has several results"
        return self.type

    @property
    def shape(self) -> Shape:
        """The shape of the one result."""
        return self.tensor.shape

    @property
    def dtype(self) -> DType:
        """The element type of the one result."""
        return self.tensor.dtype


SOURCES = ("input", "parameter", "constant")
_LENT = (("lent", True),)


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, and the names of the results.

    Inputs are the nodes of op `input`, in order.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def _table(self) -> Mapping[str, Node]:
        return {n.name: n for n in self.nodes}

    def __getitem__(self, name: str) -> Node:
        return self._table[name]

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def inputs_of(self, node: Node) -> tuple[Node, ...]:
        """The nodes that a node reads."""
        return tuple(self._table[i] for i in node.inputs)

    @cached_property
    def users(self) -> Mapping[str, tuple[Node, ...]]:
        """For each value the nodes that read it, each once, in order."""
        found: dict[str, list[Node]] = {n.name: [] for n in self.nodes}
        for n in self.nodes:
            for i in dict.fromkeys(n.inputs):
                found[i].append(n)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The graph's inputs in calling order."""
        return tuple(n for n in self.nodes if n.op == "input")

    @property
    def parameters(self) -> tuple[Node, ...]:
        """The parameters and buffers of the framework."""
        return tuple(n for n in self.nodes if n.op == "parameter")

    @cached_property
    def static(self) -> frozenset[str]:
        """Names of values that depend on parameters and constants only: they are computed once,
        when parameters change.

        A `copy` is not: it hands such a value out as a result.
        """
        known: dict[str, Known] = {}
        for n in self.nodes:
            known[n.name] = when_known(n, known)
        return frozenset(name for name, when in known.items() if when == "static")

    def at_batch(self, batch: int) -> Graph:
        """The same graph with B replaced by a number."""
        return Graph(tuple(_fix(n, batch) for n in self.nodes), self.outputs)


Known = Literal_["call", "anywhere", "static"]


def lent(node: Node) -> Node:
    """The input, lent: once it has been read for the last time, the program may write other values
    into its memory. It lies in the arena, where the plan says, or it is a tensor of its own."""
    return replace(node, attrs=_LENT)


def is_lent(node: Node) -> bool:
    """Whether a node is an input whose memory the program may use."""
    return node.op == "input" and node.attrs == _LENT


def when_known(node: Node, known: Mapping[str, Known]) -> Known:
    """When a value can be computed: at each call, anywhere (`iota`, `full`: no memory, computed
    where it is used), or once, from parameters and constants.

    `known` tells so of its inputs.
    """
    if node.op in ("input", "copy") or _is_symbolic(node):
        return "call"
    if node.op in ("parameter", "constant"):
        return "static"
    inputs = {known[i] for i in node.inputs}
    if "call" in inputs:
        return "call"
    return "static" if "static" in inputs else "anywhere"


def types_of(node: Node) -> tuple[TensorType, ...]:
    """The types of all results of a node."""
    return node.type if isinstance(node.type, tuple) else (node.type,)


def _is_symbolic(node: Node) -> bool:
    return any(isinstance(s, Dim) for t in types_of(node) for s in t.shape)


def _fix(node: Node, batch: int) -> Node:
    def fix(value: Any) -> Any:
        if isinstance(value, Dim):
            return value.coef * batch + value.const
        return tuple(fix(v) for v in value) if isinstance(value, tuple) else value

    fixed = tuple(TensorType(concrete(t.shape, batch), t.dtype) for t in types_of(node))
    attrs = tuple((k, fix(v)) for k, v in node.attrs)
    return replace(node, attrs=attrs, type=fixed if isinstance(node.type, tuple) else fixed[0])


TypeRule = Callable[[str, tuple[Any, ...], dict[str, Any]], TensorType | tuple[TensorType, ...]]


class Builder:
    """Makes a graph node by node.

    Types come from the operators' rules (`ops.infer`), handed in so that the IR needs no operator.
    `origin` is that of nodes that are added without one.
    """

    def __init__(self, infer: TypeRule) -> None:
        self._infer = infer
        self._nodes: dict[str, Node] = {}
        self._counts: dict[str, int] = {}
        self._reserved: set[str] = set()
        self.origin = ""

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __len__(self) -> int:
        return len(self._nodes)

    def since(self, count: int) -> tuple[Node, ...]:
        """The nodes but the first `count`."""
        return tuple(islice(self._nodes.values(), count, None))

    def fresh(self, hint: str) -> str:
        """A name that is not taken: the hint, or the hint with a number."""
        hint = (
            "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in hint)[:60]
            or "v"
        )
        if hint[0].isdigit():
            hint = "v" + hint
        while True:
            count = self._counts.get(hint, 0)
            self._counts[hint] = count + 1
            name = hint if count == 0 else f"{hint}_{count}"
            if name not in self._nodes and name not in self._reserved:
                return name

    def reserve(self, name: str) -> None:
        """Keep a name free for a node that is appended later."""
        self._reserved.add(name)

    def add(self, op: str, *inputs: Node, name: str = "", origin: str = "", **attrs: Attr) -> Node:
        """Append `op(inputs, attrs)`; the result type is inferred."""
        given = tuple(sorted(attrs.items()))
        result = self._infer(op, tuple(i.type for i in inputs), attrs)
        names = tuple(i.name for i in inputs)
        return self.append(
            Node(self.fresh(name or op), op, names, given, result, origin or self.origin)
        )

    def append(self, node: Node) -> Node:
        """Append a finished node as it is."""
        assert node.name not in self._nodes, f"{node.name} is defined twice"
        missing = [i for i in node.inputs if i not in self._nodes]
        assert not missing, f"{node.name} reads {missing} before they are defined"
        self._nodes[node.name] = node
        return node

    def input(self, name: str, type: TensorType) -> Node:
        """Append a graph input."""
        return self.append(Node(self.fresh(name), "input", (), (), type, name))

    def parameter(self, key: str, type: TensorType) -> Node:
        """Append a parameter; `key` is the framework's name of it."""
        return self.append(Node(self.fresh(key), "parameter", (), (("key", key),), type, key))

    def constant(self, value: Any, dtype: DType | None = None, name: str = "c") -> Node:
        """Append a constant array or number."""
        literal = value if isinstance(value, Literal) else Literal.of(value, dtype)
        node = Node(
            self.fresh(name),
            "constant",
            (),
            (("value", literal),),
            TensorType(literal.shape, literal.dtype),
        )
        return self.append(node)

    def finish(self, outputs: Iterable[Node]) -> Graph:
        """The graph with these results."""
        return Graph(tuple(self._nodes.values()), tuple(o.name for o in outputs))
