"""Order of a backward graph: what is computed again comes just before its first reader.

A joint graph (autodiff.py) has the forward computation first. If all of it that is computed again
came at the begin of the backward program, it would lie in memory until its layer's turn comes.
"""

from __future__ import annotations

from collections.abc import Collection

from sol.ir.graph import Graph, Node


def late(graph: Graph, seeds: Collection[str]) -> Graph:
    """The same graph; nodes that depend on no seed, an input, stand where they are needed first."""
    behind = set(seeds)
    for node in graph:
        if not behind.isdisjoint(node.inputs):
            behind.add(node.name)
    placed: dict[str, Node] = {n.name: n for n in graph if n.op == "input"}
    for node in graph:
        if node.name in behind:
            _place(graph, node, placed)
    for name in graph.outputs:
        _place(graph, graph[name], placed)
    return Graph(tuple(placed.values()), graph.outputs)


def _place(graph: Graph, node: Node, placed: dict[str, Node]) -> None:
    """Put a node behind those that it reads."""
    stack = [(node, False)]
    while stack:
        node, ready = stack.pop()
        if node.name in placed:
            continue
        if ready:
            placed[node.name] = node
            continue
        stack.append((node, True))
        stack.extend((graph[i], False) for i in reversed(node.inputs))
