"""Expressions of values over the values that lie in memory: whatever is not materialised is inlined
into its consumers.

`Inliner.element(name, index)` is a load for a materialised value, and the operator's meaning
applied to its inputs' elements otherwise, so a chain of element-wise operators, views and index
maps becomes one expression.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, axis, const, load
from sol.ir.graph import Graph, Node
from sol.ops.registry import OPS, Read


class Inliner:
    """Builds expressions of a graph's values; `stored` are the names that are loads."""

    def __init__(self, graph: Graph, stored: Collection[str]) -> None:
        self.graph = graph
        self.stored = stored
        self._memo: dict[tuple[str, tuple[Expr, ...]], Expr] = {}

    def element(self, name: str, index: Sequence[Expr]) -> Expr:
        """The element of a value at an index."""
        node = self.graph[name]
        number = scalar_constant(node)
        if number is not None:
            return number
        if name in self.stored or node.op == "input" or name in self.graph.static:
            return load(name, node.dtype, *index)
        return self.meaning(name, index)

    def meaning(self, name: str, index: Sequence[Expr]) -> Expr:
        """The element of a value by its operator, even if the value is stored."""
        key = (name, tuple(index))
        if key not in self._memo:
            self._memo[key] = self._compute(self.graph[name], tuple(index))
        return self._memo[key]

    def _compute(self, node: Node, index: tuple[Expr, ...]) -> Expr:
        compute = OPS[node.op].compute
        if compute is None:
            raise UnsupportedError(
                node.op, "the operator has no meaning as an index expression and no kernel takes it"
            )
        return compute(node, index, *(self._read(i) for i in node.inputs))

    def _read(self, name: str) -> Read:
        def element(*index: Expr | int | float) -> Expr:
            return self.element(
                name, tuple(i if isinstance(i, Expr) else const(int(i)) for i in index)
            )

        return Read(self.graph[name].tensor, element)


def scalar_constant(node: Node) -> Expr | None:
    """The value of a constant with one element."""
    if node.op != "constant":
        return None
    value = node["value"].array
    if value.size != 1:
        return None
    number = value.reshape(()).item()
    return const(number, node.dtype)


def axes_for(node: Node, prefix: str = "i") -> tuple[Expr, ...]:
    """One index axis per axis of a value; axes of size 1 are the constant 0."""
    return tuple(const(0) if s == 1 else axis(f"{prefix}{n}", s) for n, s in enumerate(node.shape))
