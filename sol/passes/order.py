"""Order of the halves of a joint graph (autodiff.py), so that values live for a short time.

What the backward half computes again comes just before its first reader, not at the begin, where a
joint graph has the forward computation. What the forward half computes only to keep it comes just
behind what it reads, not at the end, where a joint graph has the backward computation.
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
            place(graph, node, placed)
    for name in graph.outputs:
        place(graph, graph[name], placed)
    return Graph(tuple(placed.values()), graph.outputs)


def early(graph: Graph, results: Collection[str]) -> Graph:
    """The same graph; nodes that none of the results needs stand right behind what they read."""
    needed = set(results)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    turn: dict[str, int] = {}
    for number, node in enumerate(graph):
        after = max((turn[i] for i in node.inputs), default=-1)  # sources come first
        turn[node.name] = number if node.name in needed and node.inputs else after
    return Graph(tuple(sorted(graph, key=lambda n: turn[n.name])), graph.outputs)


def place(graph: Graph, node: Node, placed: dict[str, Node]) -> None:
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
