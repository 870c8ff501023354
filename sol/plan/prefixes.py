"""Concatenations that are the begin of a longer one, of what is given from the begin.

    concat(a, b), concat(a, b, c)  ->  slice(concat(a, b, c)), concat(a, b, c)

So in the backward half of a network each of whose layers reads the results of all before it, what
was kept is copied side by side once, not for every layer. In: a graph. Out: the same graph, the
longer concatenation in front of its first reader.
"""

from __future__ import annotations

from sol.ir.graph import Graph, Node
from sol.passes.order import place

Key = tuple[object, ...]


def share_prefixes(graph: Graph) -> Graph:
    """The graph with slices in place of such concatenations."""
    longest = _longest(graph)
    found = {
        n.name: longest[_key(n, len(n.inputs))]
        for n in graph
        if n.op == "concat" and _key(n, len(n.inputs)) in longest
    }
    if not found:
        return graph
    placed = {n.name: n for n in graph if n.op == "input"}
    for node in graph:
        whole = found.get(node.name)
        if whole is None:
            place(graph, node, placed)
            continue
        place(graph, whole, placed)
        placed[node.name] = _slice(node, whole)
    return Graph(tuple(placed.values()), graph.outputs)


def _key(node: Node, count: int) -> Key:
    return node["axis"], node.inputs[:count]


def _longest(graph: Graph) -> dict[Key, Node]:
    """The longest concatenation of given parts for each begin of one."""
    found: dict[Key, Node] = {}
    for node in graph:
        if node.op != "concat" or not all(_is_given(graph, graph[i]) for i in node.inputs):
            continue
        for count in range(2, len(node.inputs)):
            key = _key(node, count)
            if key not in found or len(found[key].inputs) < len(node.inputs):
                found[key] = node
    return found


def _is_given(graph: Graph, node: Node) -> bool:
    """Whether a value is an input, with its axes in any order."""
    return node.op == "input" or (node.op == "permute" and graph[node.inputs[0]].op == "input")


def _slice(node: Node, whole: Node) -> Node:
    """What a concatenation is of a longer one."""
    axis = node["axis"]
    attrs = {"axis": axis, "start": 0, "stop": node.shape[axis], "step": 1}
    return Node(
        node.name, "slice", (whole.name,), tuple(sorted(attrs.items())), node.type, node.origin
    )
