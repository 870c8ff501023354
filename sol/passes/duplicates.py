"""Common subexpressions and dead nodes.

Both look at the whole graph and not at a pattern: they are loops over the topological order.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import replace

from sol.ir.graph import Attr, Graph, Node
from sol.ir.pattern import COMMUTATIVE
from sol.ir.rewrite import Fuel
from sol.ops.registry import OPS


def duplicates(
    graph: Graph, fuel: Fuel | None = None, kinds: Collection[str] | None = None
) -> Graph:
    """`a = f(x); b = f(x)` -> `a = f(x)`, and `a` wherever `b` was; the first one stays. kinds: of
    operators, if not all may be merged."""
    fuel = fuel or Fuel()
    first: dict[Hashable, str] = {}
    names: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(names.get(i, i) for i in node.inputs)
        new = replace(node, inputs=inputs) if inputs != node.inputs else node
        key = _key(new)
        merges = kinds is None or OPS[node.op].kind in kinds
        same = first.get(key) if merges else None
        if same is not None and fuel.take(f"merge {node.name} with {same}"):
            names[node.name] = same
        else:
            first.setdefault(key, node.name)
            kept.append(new)
    if not names:
        return graph
    return Graph(tuple(kept), tuple(names.get(o, o) for o in graph.outputs))


def dead(graph: Graph, fuel: Fuel | None = None) -> Graph:
    """`y = f(x)` that nothing uses -> nothing. Inputs of the network stay: callers pass them."""
    used = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in used:
            used.update(node.inputs)
    kept = tuple(n for n in graph.nodes if n.name in used or n.op == "input")
    return graph if len(kept) == len(graph) else Graph(kept, graph.outputs)


def _key(node: Node) -> Hashable:
    """Equal for nodes that compute the same value."""
    if node.op == "input":
        return node.name
    inputs = tuple(sorted(node.inputs)) if node.op in COMMUTATIVE else node.inputs
    return node.op, inputs, tuple((k, _exact(v)) for k, v in node.attrs), node.type


def _exact(value: Attr) -> Hashable:
    """Unlike equality, this keeps 0.0 from -0.0, 1 from 1.0 and True, and takes NaN for NaN."""
    match value:
        case tuple():
            return tuple(map(_exact, value))
        case float():
            return "float", value.hex()
        case bool() | int():
            return type(value).__name__, value
        case _:
            return value
