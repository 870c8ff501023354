"""From a network of MXNet to a graph of Sol: every node through its row.

`Variables` says what is known of the variables of a network: parameters are arrays, all others are
inputs. `read` translates for given types of the inputs; a node that Sol does not have raises
`UnsupportedError` with its name and the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sol.arrays.captured import Captured, whole
from sol.core.dims import B, Dim, Size, evaluate, product
from sol.core.dtypes import DTYPES, F32, DType
from sol.core.errors import InputError, UnsupportedError
from sol.ir.graph import Builder, Node, TensorType
from sol.mxnet.context import Context, Missing
from sol.mxnet.rows import ROWS
from sol.mxnet.symbol import Reference, SymbolGraph, SymbolNode
from sol.ops.registry import builder as new_builder

Array = NDArray[Any]

# losses: what they read beyond their first input matters in training only
_LOSSES = frozenset({
    "LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput", "SVMOutput",
    "Softmax", "SoftmaxOutput",
})  # fmt: skip
_MOST_BYTES = 1 << 36  # of one value for one image: more is a mistake in a file


def needed(graph: SymbolGraph) -> tuple[int, ...]:
    """The nodes that results depend on in inference, in order."""
    found = {number for number, _ in graph.heads}
    for number in reversed(range(len(graph.nodes))):
        if number in found:
            found.update(n for n, _ in _inputs(graph.nodes[number]))
    return tuple(sorted(found))


def _inputs(node: SymbolNode) -> tuple[Reference, ...]:
    return node.inputs[:1] if node.op in _LOSSES else node.inputs


def inputs_of(graph: SymbolGraph, parameters: Mapping[str, Any]) -> tuple[SymbolNode, ...]:
    """The variables that are no parameters, in order."""
    nodes = (graph.nodes[number] for number in needed(graph))
    return tuple(n for n in nodes if n.op == "null" and n.name not in parameters)


def read(
    graph: SymbolGraph,
    types: Mapping[str, TensorType],
    parameters: Mapping[str, Array],
    open_size: Size | None = None,
) -> Captured:
    """The network for these types of its inputs. open_size: what an unknown size of a state is;
    the batch, if nothing is said. Raises UnsupportedError and InputError, by node."""
    work = _Reader(graph, types, parameters, _batch(types) if open_size is None else open_size)
    for number in needed(graph):
        work.add(number)
    outputs = {name: work.value(head) for name, head in zip(graph.outputs, graph.heads)}
    return whole(work.builder, outputs, parameters)


def _batch(types: Mapping[str, TensorType]) -> Size:
    """B, or the first size of the first input."""
    sizes = [size for t in types.values() for size in t.shape]
    if any(isinstance(size, Dim) for size in sizes):
        return B
    return next((t.shape[0] for t in types.values() if t.rank), 1)


@dataclass
class _Reader:
    """The graph being made, and the results of each node of MXNet's."""

    graph: SymbolGraph
    types: Mapping[str, TensorType]
    parameters: Mapping[str, Array]
    open_size: Size

    def __post_init__(self) -> None:
        self.builder: Builder = new_builder()
        self.results: dict[int, Sequence[Node | Missing]] = {}
        self.known: dict[str, Node] = {}  # variables by name

    def add(self, number: int) -> None:
        """Append what a node computes."""
        node = self.graph.nodes[number]
        if node.op == "null":
            self.results[number] = (self._variable(node.name),)
            return
        row = ROWS.get(node.op)
        if row is None:
            raise UnsupportedError(f"{node.op} (node {node.name})", "Sol has no row for it")
        context = Context(self.builder, node.op, node.name, self.open_size, self.graph.numpy_shapes)
        made = row(context, [self.value(i) for i in _inputs(node)], node.attrs)
        self.results[number] = made if isinstance(made, tuple) else (made,)
        for result in self.results[number]:
            if isinstance(result, Node):
                _check_bytes(result, node)

    def value(self, reference: Reference) -> Node:
        """A result of a node that has been added."""
        number, index = reference
        results, node = self.results[number], self.graph.nodes[number]
        if index >= len(results):
            raise InputError(
                f"result {index} of node {node.name}", expected=f"{len(results)} results"
            )
        found = results[index]
        if isinstance(found, Missing):
            raise UnsupportedError(
                f"{node.op} (node {node.name})", f"Sol does not compute {found.reason}"
            )
        return found

    def _variable(self, name: str) -> Node:
        if name not in self.known:
            self.known[name] = self._source(name)
        return self.known[name]

    def _source(self, name: str) -> Node:
        if name in self.types:
            kind = self.types[name]
            if kind.dtype.kind == "float" and kind.dtype != F32:
                reason = f"it is {kind.dtype}; Sol computes in float32"
                raise UnsupportedError(f"the input {name}", reason)
            return self.builder.input(name, kind)
        array = self.parameters.get(name)
        if array is None:
            raise InputError(
                f"no array for the variable {name}",
                expected="parameters and inputs for all variables",
                do=f"give its parameters, or its shape: inputs={{{name!r}: (…)}}",
            )
        return self.builder.parameter(name, TensorType(array.shape, dtype_of(name, array)))


def dtype_of(name: str, array: Array) -> DType:
    """The element type of a parameter. UnsupportedError for other floating point than float32."""
    found = next((t for t in DTYPES.values() if t.numpy == array.dtype.name), None)
    if found is None or (found.kind == "float" and found != F32):
        raise UnsupportedError(
            f"the parameter {name}", f"it is {array.dtype}; Sol computes in float32",
            do="convert the network to float32 before it is saved",
        )  # fmt: skip
    return found


def _check_bytes(result: Node, node: SymbolNode) -> None:
    for kind in result.type if isinstance(result.type, tuple) else (result.type,):
        size = evaluate(product(kind.shape), 1) * kind.dtype.bytes
        if size > _MOST_BYTES:
            raise UnsupportedError(
                f"{node.op} (node {node.name})", f"its result {kind} has {size} bytes"
            )
