"""The gradient of a recurrent layer in one direction: one way back through time for the gates, then
a product over all steps for the weight."""

from __future__ import annotations

from collections.abc import Sequence

from sol.ir.graph import Builder, Node
from sol.ops.cells import CELLS, direction_of
from sol.ops.gradients.move import cut
from sol.ops.gradients.parts import Gradients, permuted, summed


def recurrence(
    graph: Builder, node: Node, dy: Sequence[Node | None], gates: Node, weight: Node, *rest: Node
) -> Gradients:
    """dgates: `recurrence_gradient`; dW: `linear_weight_gradient(h before, dr)`; db: sums of dr."""
    cell = CELLS[node["cell"]]
    initial, biases = rest[: cell.states], rest[cell.states :]
    kept = [_item(graph, node, k) for k in range(cell.states + bool(cell.kept))]
    changes = dy[: cell.states]
    back = graph.add(
        "recurrence_gradient", weight, *kept, *initial, *(c for c in changes if c is not None),
        given=tuple(c is not None for c in changes), **direction_of(node),
    )  # fmt: skip
    found = [graph.add("item", back, index=k) for k in range(1 + cell.apart + cell.states)]
    dr = found[int(cell.apart)]
    dw = graph.add("linear_weight_gradient", _before(graph, node, kept[0], initial[0]), dr)
    db = [summed(graph, dr, (0, 1), False) for _ in biases]
    return found[0], dw, *found[1 + cell.apart :], *db


def _item(graph: Builder, node: Node, index: int) -> Node:
    """A result of a node: a value that is there already would else be kept twice."""
    there = (n for n in graph.since(0) if n.op == "item" and n.inputs == (node.name,))
    found = next((n for n in there if n["index"] == index), None)
    return found or graph.add("item", node, index=index)


def _before(graph: Builder, node: Node, hidden: Node, initial: Node) -> Node:
    """h before each step."""
    time = 1 if node["batch_first"] else 0
    first = permuted(graph, initial, (1, 0, 2)) if time else initial
    steps, reverse = hidden.shape[time], node["reverse"]
    if steps == 1:
        return first
    rest = cut(graph, hidden, time, int(reverse), steps if reverse else steps - 1)
    parts = (rest, first) if reverse else (first, rest)
    return graph.add("concat", *parts, axis=time)
