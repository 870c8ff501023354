"""Recurrent layers as ordinary operators and scans, before planning.

    lstm(x, h0, c0, …) -> for every layer and direction
                          scan(linear(x, w_ih, b_ih), packed_gates(w_hh), h0, c0, b_hh)

The product with the inputs does not wait for time, so one contraction computes it for all steps.
What must run in the order of time is `scan` (scan.py). Several layers, two directions and the last
states are ordinary nodes: concatenations, which are written in place, and slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sol.plan.scan  # noqa: F401  (registers the operators)
from sol.core.dims import Size
from sol.ir.graph import Attr, Builder, Graph, Node
from sol.ops.cells import CELLS, cell_name
from sol.ops.registry import builder
from sol.ops.rules import need_number

_RECURRENT = ("lstm", "gru", "rnn")
# vectors of gates side by side, so that sums of a single row do not wait for each other
_FEWEST_CHAINS = 4


def split_recurrent(graph: Graph, lanes: int) -> Graph:
    """The graph with scans in place of recurrent layers; lanes: floats of the device's vectors."""
    if not any(node.op in _RECURRENT for node in graph):
        return graph
    b = builder()
    for node in graph:
        b.reserve(node.name)
    mapped: dict[str, Node] = {}
    stacks: dict[str, _Stack] = {}
    for node in graph:
        inputs = [mapped[i] for i in node.inputs if i in mapped]
        if node.op in _RECURRENT:
            stacks[node.name] = _stack(_Layers(b, node, lanes), inputs)
        elif node.op == "item" and node.inputs[0] in stacks:
            mapped[node.name] = stacks[node.inputs[0]].result(node["index"])
        else:
            mapped[node.name] = b.append(replace(node, inputs=tuple(i.name for i in inputs)))
    return b.finish([mapped[o] for o in graph.outputs])


@dataclass(frozen=True, slots=True)
class _Layers:
    """The node that is split, and where its parts go."""

    builder: Builder
    node: Node
    lanes: int

    def add(self, op: str, *inputs: Node, hint: str, **attrs: Attr) -> Node:
        """Append a part."""
        name = f"{self.node.name}_{hint}"
        return self.builder.add(op, *inputs, name=name, origin=self.node.origin, **attrs)

    def cut(self, x: Node, axis: int, start: Size, hint: str) -> Node:
        """The one slice of an axis that begins at `start`."""
        if x.shape[axis] == 1:
            return x
        return self.add("slice", x, axis=axis, start=start, stop=start + 1, step=1, hint=hint)

    def joined(self, parts: Sequence[Node], axis: int, hint: str) -> Node:
        """Several values as one."""
        return parts[0] if len(parts) == 1 else self.add("concat", *parts, axis=axis, hint=hint)


@dataclass(frozen=True, slots=True)
class _Stack:
    """What the layers of one node became.

    sequence: the last layer's h of all steps. For each run (layer, direction), hidden: its h of all
    steps; last: what its other states, such as c, are after the last one.
    """

    layers: _Layers
    sequence: Node
    hidden: tuple[Node, ...]
    last: tuple[tuple[Node, ...], ...]

    def result(self, index: int) -> Node:
        """Result number `index` of the node: the sequence, or the last of a state, for all runs."""
        if index == 0:
            return self.sequence
        if index == 1:
            parts = [self._last_hidden(run) for run in range(len(self.hidden))]
        else:
            parts = [states[index - 2] for states in self.last]
        return self.layers.joined(parts, 0, f"last_{index}")

    def _last_hidden(self, run: int) -> Node:
        """[1, N, H]: h of the step that a run came to last."""
        node, hidden = self.layers.node, self.hidden[run]
        axis = 1 if node["batch_first"] else 0
        backwards = node["bidirectional"] and run % 2 == 1
        step = self.layers.cut(hidden, axis, 0 if backwards else hidden.shape[axis] - 1, "last")
        return self.layers.add("permute", step, axes=(1, 0, 2), hint="last") if axis else step


def _stack(layers: _Layers, inputs: Sequence[Node]) -> _Stack:
    """All layers and directions of a node with these inputs."""
    node = layers.node
    states = CELLS[cell_name(node)].states
    sequence, initial, weights = inputs[0], inputs[1 : 1 + states], inputs[1 + states :]
    directions, each = 1 + node["bidirectional"], 4 if node["bias"] else 2
    hidden: list[Node] = []
    last: list[tuple[Node, ...]] = []
    for layer in range(node["layers"]):
        for direction in range(directions):
            run = layer * directions + direction
            own = weights[run * each : (run + 1) * each]
            starts = [layers.cut(s, 0, run, "start") for s in initial]
            h, *others = _run(layers, sequence, starts, own, reverse=direction == 1)
            hidden.append(h)
            last.append(tuple(others))
        sequence = layers.joined(hidden[-directions:], 2, "sequence")
    return _Stack(layers, sequence, tuple(hidden), tuple(last))


def _run(
    layers: _Layers, x: Node, starts: Sequence[Node], weights: Sequence[Node], reverse: bool
) -> list[Node]:
    """One layer in one direction: h of all steps, and the last of each other state."""
    w_ih, w_hh, *biases = weights
    name = cell_name(layers.node)
    cell = CELLS[name]
    hidden = need_number("scan", "the hidden size", w_hh.shape[1])
    units = layers.lanes * _vectors(cell.gates, -(-hidden // layers.lanes))
    gates = layers.add("linear", x, w_ih, *biases[:1], hint="gates")
    packed = layers.add("packed_gates", w_hh, gates=cell.gates, units=units, hint="recurrent")
    scan = layers.add(
        "scan", gates, packed, *starts, *biases[1:],
        hint="scan", cell=name, batch_first=layers.node["batch_first"], reverse=reverse,
    )  # fmt: skip
    return [layers.add("item", scan, index=k, hint=f"state_{k}") for k in range(cell.states)]


def _vectors(gates: int, most: int) -> int:
    """Vectors of hidden units in a block: enough for one row to have its sums side by side."""
    return min(most, max(1, _FEWEST_CHAINS // gates))
