"""Composite operators as graphs of simpler ones, where no kernel takes them whole.

    softmax(x) -> e = exp(x - max(x)); e / sum(e)        layer_norm, group_norm, rms_norm, var, norm
    …: see the entries' `expand`; the parts have the origin of the whole, or its name

Runs just before planning, so that passes and libraries see whole operators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sol.ir.graph import Graph, Node
from sol.ops.registry import OPS, builder, expanded


def expand_composites(graph: Graph, keep: Callable[[Graph, Node], bool]) -> Graph:
    """The graph without composite operators, except those that `keep` accepts."""
    while any(_expandable(graph, n, keep) for n in graph):
        graph = _once(graph, keep)
    return graph


def _expandable(graph: Graph, node: Node, keep: Callable[[Graph, Node], bool]) -> bool:
    return OPS[node.op].expand is not None and not keep(graph, node)


def _once(graph: Graph, keep: Callable[[Graph, Node], bool]) -> Graph:
    b = builder()
    # names of the old graph are taken first, so that new nodes never collide with them
    for node in graph:
        b.reserve(node.name)
    mapped: dict[str, Node] = {}
    several: dict[str, tuple[Node, ...]] = {}
    for node in graph:
        if node.op == "item" and node.inputs[0] in several:
            mapped[node.name] = several[node.inputs[0]][node["index"]]
            continue
        inputs = [mapped[i] for i in node.inputs]
        renamed = replace(node, inputs=tuple(i.name for i in inputs))
        if _expandable(graph, node, keep):
            b.origin = node.origin or node.name
            found = expanded(b, renamed, inputs)
            b.origin = ""
            if isinstance(node.type, tuple):
                several[node.name] = found
            else:
                (mapped[node.name],) = found
        else:
            mapped[node.name] = b.append(renamed)
    return b.finish([mapped[o] for o in graph.outputs])
