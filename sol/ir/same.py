"""Do two graphs compute the same? Node by node, whatever the nodes are called.

Frontends ask it about a network that was read twice: for any batch and for one image.
"""

from __future__ import annotations

from typing import Any

from sol.ir.graph import Graph


def same(a: Graph, b: Graph) -> bool:
    """Whether results of two graphs are the same operators on the same inputs.

    Reshaping and broadcasting to the shape that is there already count as nothing.
    """
    numbers: dict[Any, int] = {}
    return _meaning(a, numbers) == _meaning(b, numbers)


def _meaning(graph: Graph, numbers: dict[Any, int]) -> list[int]:
    """A number for each result; equal ones are computed in the same way from the same inputs.

    `numbers` has those that are given out, for one and the other graph.
    """
    known: dict[str, int] = {}
    for node in graph:
        inputs = graph.inputs_of(node)
        if node.op in ("expand", "reshape") and node.shape == inputs[0].shape:
            known[node.name] = known[node.inputs[0]]
            continue
        name = node.name if node.op == "input" else ""
        key = (node.op, name, node.attrs, node.type, tuple(known[i] for i in node.inputs))
        known[node.name] = numbers.setdefault(key, len(numbers))
    return [known[o] for o in graph.outputs]
