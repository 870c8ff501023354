"""What a forward program keeps for a backward one, in the order that it has in memory anyway.

Results of a network are row-major, but between its layers the planner chooses an order, mostly
channels innermost. A kept value becomes a result with its axes in this order, which the backward
graph turns back: neither program moves anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sol.ir.graph import Graph, Node
from sol.ops.registry import infer
from sol.passes.expand import expand_composites
from sol.passes.partition import Halves
from sol.plan.facts import Facts
from sol.plan.fuse import choose
from sol.plan.layout import Order, choose_orders


def keep_orders(halves: Halves) -> Halves:
    """The same halves, kept values in the order of the planner."""
    forward, backward = halves.forward, halves.backward
    extra = [n for n in forward.outputs[halves.results :] if n in backward]
    orders = _orders(forward, halves.results)
    turned = {n: orders.get(n, _row_major(forward[n])) for n in extra}
    names = {name: _fresh(f"{name}_kept", forward, backward) for name in turned}
    kept = {n: _kept(names[n], forward[n], order) for n, order in turned.items()}
    nodes = [m for n in forward for m in (n, kept.get(n.name)) if m is not None]  # at once
    outputs = (*forward.outputs[: halves.results], *(names[n] for n in extra))
    return replace(
        halves,
        forward=Graph(tuple(nodes), outputs),
        backward=_turned_back(backward, names, {n.name: n for n in kept.values()}),
        saved=tuple(names.get(n, n) for n in halves.saved),
    )


def _orders(graph: Graph, results: int) -> Mapping[str, Order]:
    """The orders of what the planner stores, if only the first results have to be row-major."""
    graph = expand_composites(graph, lambda graph, node: False)
    facts = Facts(graph)
    free = Graph(graph.nodes, graph.outputs[:results])
    return choose_orders(free, facts, choose(graph, facts))


def _row_major(node: Node) -> Order:
    return tuple(range(node.tensor.rank))


def _fresh(hint: str, *graphs: Graph) -> str:
    name, number = hint, 0
    while any(name in graph for graph in graphs):
        number += 1
        name = f"{hint}_{number}"
    return name


def _kept(name: str, x: Node, order: Order) -> Node:
    attrs = {"axes": order}
    return Node(name, "kept", (x.name,), tuple(attrs.items()), infer("kept", (x.type,), attrs))


def _turned_back(graph: Graph, names: Mapping[str, str], kept: Mapping[str, Node]) -> Graph:
    """The backward graph on kept values: each is an input, and turned back under its old name."""
    inputs: list[Node] = []
    moves: list[Node] = []
    rest: list[Node] = []
    for node in graph:
        if node.op != "input":
            rest.append(node)
        elif node.name not in names:
            inputs.append(node)
        else:
            source = kept[names[node.name]]
            inputs.append(replace(node, name=source.name, type=source.type))
            back = tuple(source["axes"].index(k) for k in range(len(source.shape)))
            moves.append(Node(node.name, "permute", (source.name,), (("axes", back),), node.type))
    return Graph((*inputs, *moves, *rest), graph.outputs)
