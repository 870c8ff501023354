"""What a backward half computes again, apart from what gradients read.

    y = f(x) for layers that are computed again and for gradients -> y = f(x), z = f(copy(x))

A value that is cheap to compute, as a ReLU behind a normalisation, would wait in memory from the
layer that is computed again to its gradient, beside the value that it follows from. So both have
one of their own, where they need it, as if what is kept without a budget had been kept. In: the
graph of a backward half (partition.py), its seeds, the gradients of results, and the names of these
values. Out: the same graph; order.py puts each value in front of its readers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sol.core.dims import Dim
from sol.ir.graph import Graph, Node
from sol.ops.registry import OPS
from sol.passes.partition import repeatable


def apart(graph: Graph, seeds: Collection[str], kept: Collection[str]) -> Graph:
    """Element-wise values that follow from no seed, once for gradients and once for the others;
    those that are kept without a budget are there for both."""
    parts = _Parts(graph, kept)
    behind = set(seeds)
    for node in graph:
        if behind.isdisjoint(node.inputs):
            parts.made.setdefault(node.name, node)
            continue
        behind.add(node.name)
        inputs = tuple(i if i in behind else parts.again(i) for i in node.inputs)
        parts.made[node.name] = replace(node, inputs=inputs)
    return Graph(tuple(parts.made.values()), graph.outputs)


class _Parts:
    """The nodes of the new graph, and which of the old ones are computed element by element."""

    def __init__(self, graph: Graph, kept: Collection[str]) -> None:
        self.made: dict[str, Node] = {}
        self._graph = graph
        self._pointwise: set[str] = set()
        for node in graph:
            large = not isinstance(node.type, tuple) and any(isinstance(s, Dim) for s in node.shape)
            computes = OPS[node.op].kind != "move" or not self._pointwise.isdisjoint(node.inputs)
            if large and node.inputs and node.name not in kept and computes and repeatable(node):
                self._pointwise.add(node.name)

    def again(self, name: str) -> str:
        """The name of a value as gradients read it."""
        return self._copied(name) if name in self._pointwise else name

    def _copied(self, name: str) -> str:
        new = f"{name}_again"
        if new in self.made or name in self._graph.static:
            return new if new in self.made else name
        node = self._graph[name]
        if name in self._pointwise:
            inputs = tuple(map(self._copied, node.inputs))
            self.made[new] = replace(node, name=new, inputs=inputs)
        elif any(isinstance(s, Dim) for s in node.shape):
            self.made[new] = Node(new, "copy", (name,), (), node.type, node.origin)
        else:
            return name
        return new
