"""Recurrent layers as ordinary operators and scans, before planning.

    lstm(x, h0, c0, …)           -> for every layer and direction
                                    scan(linear(x, w_ih, b_ih), packed_gates(w_hh), h0, c0, b_hh)
    recurrence(gates, w_hh, …)   -> scan(gates, packed_gates(w_hh), …) that keeps all states
    recurrence_gradient(w_hh, …) -> scan_gradient(packed_columns(w_hh), …)

The last two are of training (ops/recurrence.py). What must run in the order of time are the scans
(scan.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import sol.plan.prepare
import sol.plan.scan  # noqa: F401  (registers the scans)
from sol.ir.graph import Builder, Graph, Node, types_of
from sol.ops.cells import CELLS, cell_name, direction_of
from sol.ops.layers import Layers, One, stack
from sol.ops.registry import builder
from sol.ops.rules import need_number

# vectors of sums side by side, so that those of a single row do not wait for each other
_FEWEST_CHAINS = 4

Results = Callable[[int], Node]  # result number k of a node


def split_recurrent(graph: Graph, lanes: int) -> Graph:
    """The graph with scans in place of recurrent layers; lanes: floats of the device's vectors."""
    b = builder()
    makers = _Scans(b, lanes).makers
    if not any(node.op in makers for node in graph):
        return graph
    for node in graph:
        b.reserve(node.name)
    mapped: dict[str, Node] = {}
    results: dict[str, Results] = {}
    for node in graph:
        inputs = [mapped[i] for i in node.inputs if i in mapped]
        if node.op in makers:
            results[node.name] = makers[node.op](node, inputs)
        elif node.op == "item" and node.inputs[0] in results:
            mapped[node.name] = results[node.inputs[0]](node["index"])
        else:
            mapped[node.name] = b.append(replace(node, inputs=tuple(i.name for i in inputs)))
    return b.finish([mapped[o] for o in graph.outputs])


@dataclass(frozen=True, slots=True)
class _Scans:
    """What makes scans, and where they go."""

    builder: Builder
    lanes: int

    @property
    def makers(self) -> Mapping[str, Callable[[Node, Sequence[Node]], Results]]:
        """By operator."""
        return {
            **dict.fromkeys(("lstm", "gru", "rnn"), self.layers),
            "recurrence": self.recurrence,
            "recurrence_gradient": self.gradient,
        }

    def layers(self, node: Node, inputs: Sequence[Node]) -> Results:
        """A scan for each layer and direction."""
        return stack(Layers(self.builder, node), inputs, self._run).result

    def _run(self, layers: Layers, one: One) -> tuple[Node, tuple[Node, ...]]:
        """One layer in one direction: h of all steps, and the last of each other state."""
        gates, w_hh, bias = layers.gates(one)
        name = cell_name(layers.node)
        packed = self._gates(layers, w_hh, name)
        scan = layers.add(
            "scan", gates, packed, *one.starts, *bias, hint="scan", cell=name,
            batch_first=layers.node["batch_first"], reverse=one.reverse, keep=False,
        )  # fmt: skip
        h, *others = _items(layers, scan)
        return h, tuple(others)

    def recurrence(self, node: Node, inputs: Sequence[Node]) -> Results:
        """A scan that keeps all states."""
        layers = Layers(self.builder, node)
        gates, w_hh, *rest = inputs
        packed = self._gates(layers, w_hh, node["cell"])
        scan = layers.add(
            "scan", gates, packed, *rest, hint="scan", **direction_of(node), keep=True
        )
        return _items(layers, scan).__getitem__

    def gradient(self, node: Node, inputs: Sequence[Node]) -> Results:
        """The way back."""
        layers = Layers(self.builder, node)
        w_hh, *rest = inputs
        units = self._units(w_hh, 1)
        packed = layers.add("packed_columns", w_hh, block=units, hint="columns")
        more = {"hidden": w_hh.shape[1], "given": node["given"]}
        scan = layers.add("scan_gradient", packed, *rest, hint="scan", **direction_of(node), **more)
        return _items(layers, scan).__getitem__

    def _gates(self, layers: Layers, w_hh: Node, cell: str) -> Node:
        gates = CELLS[cell].gates
        units = self._units(w_hh, gates)
        return layers.add("packed_gates", w_hh, gates=gates, units=units, hint="recurrent")

    def _units(self, w_hh: Node, gates: int) -> int:
        """Hidden units of a block: enough vectors for one row to have its sums side by side."""
        hidden = need_number("scan", "the hidden size", w_hh.shape[1])
        most = -(-hidden // self.lanes)
        return self.lanes * min(most, max(1, _FEWEST_CHAINS // gates))


def _items(layers: Layers, node: Node) -> list[Node]:
    """All results, also those that nobody reads: they are stored."""
    return layers.items(node, len(types_of(node)))
