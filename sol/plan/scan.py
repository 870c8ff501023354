"""Recurrent layers as ordinary operators and scans, before planning.

    lstm(x, …) -> for every layer and direction: gates = linear(x, w_ih, b_ih), scan(gates,
    packed_gates(w_hh), h0, c0, b_hh)

The product with the inputs does not wait for time, so one contraction computes it for all steps.
What must run in the order of time is the operator `scan`, of one layer in one direction, which
kernels/recurrent.py executes. Layers, directions and last states are ordinary nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sol.core.dims import Size
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, const, where
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.cells import CELLS, cell_name, on_arrays
from sol.ops.registry import OPS, Index, OpDef, Read, Sample, Types, builder, register
from sol.ops.rules import need, need_kind, need_number, need_rank, need_shape, of
from sol.ops.sampling import f32

_OPS = ("lstm", "gru", "rnn")
# vectors of gates side by side, so that sums of a single row do not wait for each other
_FEWEST_CHAINS = 4


def split_recurrent(graph: Graph, lanes: int) -> Graph:
    """The graph with scans in place of recurrent layers; `lanes`: floats of a vector of the device."""
    if not any(node.op in _OPS for node in graph):
        return graph
    b = builder()
    for node in graph:
        b.reserve(node.name)
    mapped: dict[str, Node] = {}
    stacks: dict[str, _Stack] = {}
    for node in graph:
        if node.op in _OPS:
            stacks[node.name] = _stack(b, node, [mapped[i] for i in node.inputs], lanes)
        elif node.inputs and node.inputs[0] in stacks:
            mapped[node.name] = stacks[node.inputs[0]].result(b, node["index"])
        else:
            mapped[node.name] = b.append(
                replace(node, inputs=tuple(mapped[i].name for i in node.inputs))
            )
    return b.finish([mapped[o] for o in graph.outputs])


@dataclass
class _Stack:
    """What the layers of one node became:

    the scans' results, for each run (layer, direction) h of all steps and the other last states.
    """

    node: Node
    sequence: Node
    hidden: list[Node]
    last: list[list[Node]]

    def result(self, b: Builder, index: int) -> Node:
        """Result number `index` of the node: the sequence, or a last state of all runs."""
        if index == 0:
            return self.sequence
        found = (
            [self._last_hidden(b, run) for run in range(len(self.hidden))]
            if index == 1
            else [states[index - 2] for states in self.last]
        )
        return (
            found[0]
            if len(found) == 1
            else b.add(
                "concat", *found, axis=0, name=f"{self.node.name}_state", origin=self.node.origin
            )
        )

    def _last_hidden(self, b: Builder, run: int) -> Node:
        """[1, N, H]: the step that the run came to last."""
        hidden, axis = self.hidden[run], int(self.node["batch_first"])
        backwards = self.node["bidirectional"] and run % 2 == 1
        last: Size = 0 if backwards else hidden.shape[axis] - 1
        step = b.add(
            "slice",
            hidden,
            axis=axis,
            start=last,
            stop=last + 1,
            step=1,
            name=f"{hidden.name}_last",
            origin=self.node.origin,
        )
        return b.add("permute", step, axes=(1, 0, 2), origin=self.node.origin) if axis else step


def _stack(b: Builder, node: Node, inputs: Sequence[Node], lanes: int) -> _Stack:
    """All layers and directions of a node."""
    states = CELLS[cell_name(node)].states
    sequence, initial, weights = inputs[0], inputs[1 : 1 + states], inputs[1 + states :]
    directions, each = 1 + node["bidirectional"], 4 if node["bias"] else 2
    stack = _Stack(node, sequence, [], [])
    for layer in range(node["layers"]):
        for run in range(layer * directions, (layer + 1) * directions):
            own = weights[run * each : (run + 1) * each]
            results = _run(
                b,
                node,
                stack.sequence,
                [_state(b, s, run) for s in initial],
                own,
                lanes,
                run % directions == 1,
            )
            stack.hidden.append(results[0])
            stack.last.append(results[1:])
        found = stack.hidden[layer * directions :]
        stack.sequence = (
            found[0]
            if directions == 1
            else b.add("concat", *found, axis=2, name=f"{node.name}_both", origin=node.origin)
        )
    return stack


def _state(b: Builder, state: Node, run: int) -> Node:
    return (
        state
        if state.shape[0] == 1
        else b.add(
            "slice",
            state,
            axis=0,
            start=run,
            stop=run + 1,
            step=1,
            name=f"{state.name}_of_run",
            origin=state.origin,
        )
    )


def _run(
    b: Builder,
    node: Node,
    sequence: Node,
    states: Sequence[Node],
    weights: Sequence[Node],
    lanes: int,
    reverse: bool,
) -> list[Node]:
    """One layer in one direction: h of all steps, and the last of the other states."""
    w_ih, w_hh, *biases = weights
    cell = CELLS[cell_name(node)]
    where_from = {"origin": node.origin}
    gates = b.add("linear", sequence, w_ih, *biases[:1], name=f"{node.name}_gates", **where_from)
    packed = b.add(
        "packed_gates",
        w_hh,
        gates=cell.gates,
        units=_units(cell.gates, w_hh, lanes),
        name=f"{node.name}_recurrent",
        **where_from,
    )
    scan = b.add(
        "scan",
        gates,
        packed,
        *states,
        *biases[1:],
        cell=cell_name(node),
        batch_first=node["batch_first"],
        reverse=reverse,
        name=f"{node.name}_scan",
        **where_from,
    )
    return [
        b.add("item", scan, index=k, name=f"{scan.name}_{k}", **where_from)
        for k in range(cell.states)
    ]


def _units(gates: int, w_hh: Node, lanes: int) -> int:
    """Hidden units of one block of packed_gates:

    whole vectors, as many as give one row enough sums side by side.
    """
    hidden = need_number("scan", "the hidden size", w_hh.shape[1])
    return lanes * min(-(-hidden // lanes), max(1, _FEWEST_CHAINS // gates))


# ---- packed_gates --------------------------------------------------------------------------------


def _infer_packed(w: TensorType, *, gates: int, units: int) -> TensorType:
    rows, hidden = (need_number("packed_gates", "a size", s) for s in w.shape)
    need(rows == gates * hidden, "packed_gates", f"a weight {w}", f"{gates} x {hidden} rows")
    return of(w, (-(-hidden // units), hidden, gates * units))


def _compute_packed(node: Node, index: Index, w: Read) -> Expr:
    block, k, column = index
    units, (_, hidden) = node["units"], w.shape
    assert isinstance(hidden, int)
    unit = block * units + column % units
    return where(unit < hidden, w(column // units * hidden + unit, k), const(0.0, node.dtype))


def _reference_packed(node: Node, w: Any) -> Any:
    gates, units, hidden = node["gates"], node["units"], w.shape[1]
    blocks = -(-hidden // units)
    padded = np.zeros((gates, blocks * units, hidden), w.dtype)
    padded[:, :hidden] = w.reshape(gates, hidden, hidden)
    return (
        padded.reshape(gates, blocks, units, hidden)
        .transpose(1, 3, 0, 2)
        .reshape(blocks, hidden, gates * units)
    )


# ---- scan ----------------------------------------------------------------------------------------


def _infer_scan(
    gates: TensorType,
    weight: TensorType,
    *rest: TensorType,
    cell: str,
    batch_first: bool,
    reverse: bool,
) -> Types:
    if cell not in CELLS:
        raise UnsupportedError("scan", f"{cell=}", expected=f"one of {', '.join(CELLS)}")
    own = CELLS[cell]
    need_rank("scan", gates, 3)
    need_kind("scan", gates, "float")
    need_rank("scan", weight, 3)
    need(
        len(rest) in (own.states, own.states + 1),
        "scan",
        f"{len(rest)} states and biases",
        f"{own.states} states and maybe a bias",
    )
    hidden, columns = weight.shape[1], need_number("scan", "a size", gates.shape[2])
    need(
        columns == own.gates * hidden,
        "scan",
        f"gates {gates} and a weight {weight}",
        f"{own.gates} gates per hidden unit",
    )
    images = gates.shape[0 if batch_first else 1]
    for state in rest[: own.states]:
        need_shape("scan", "a state", state, (1, images, hidden))
    for bias in rest[own.states :]:
        need_shape("scan", "the bias", bias, (columns,))
    return (of(gates, (*gates.shape[:2], hidden)), *rest[1 : own.states])


def _reference_scan(node: Node, gates: Any, weight: Any, *rest: Any) -> tuple[Any, ...]:
    cell = CELLS[node["cell"]]
    hidden = weight.shape[1]
    blocks = weight.reshape(weight.shape[0], hidden, cell.gates, -1)
    matrix = (
        blocks.transpose(1, 2, 0, 3)
        .reshape(hidden, cell.gates, -1)[:, :, :hidden]
        .reshape(hidden, -1)
    )
    states = tuple(s[0] for s in rest[: cell.states])
    bias = sum(rest[cell.states :])
    steps = gates.swapaxes(0, 1) if node["batch_first"] else gates
    result = np.empty((*steps.shape[:2], hidden), gates.dtype)
    for t in range(len(steps))[:: -1 if node["reverse"] else 1]:
        own, before = (
            np.split(g, cell.gates, axis=-1)
            for g in (steps[t], np.matmul(states[0], matrix) + bias)
        )
        states = cell.step(on_arrays, own, before, states)
        result[t] = states[0]
    return (
        result.swapaxes(0, 1) if node["batch_first"] else result,
        *(s[None] for s in states[1:]),
    )


def _sample(
    cell: str, sizes: tuple[int, int, int], units: int, bias: bool, batch_first: bool, reverse: bool
) -> Sample:
    """A sample of T steps, N sequences, H hidden units."""
    T, N, H = sizes
    own = CELLS[cell]
    gates = f32(N, T, own.gates * H) if batch_first else f32(T, N, own.gates * H)
    weight = f32(-(-H // units), H, own.gates * units)
    inputs = (gates, weight, *[f32(1, N, H)] * own.states, *[f32(own.gates * H)] * bias)
    return Sample(inputs, {"cell": cell, "batch_first": batch_first, "reverse": reverse}, -0.6, 0.6)


for _entry in (
    OpDef(
        "packed_gates",
        "move",
        _infer_packed,
        "Rows of a recurrent weight, gate by gate, as columns in blocks of `units` hidden units with their gates side by side: "
        "`y[n, k, g * units + j] = w[g * H + n * units + j, k]`, zero beyond the last unit.",
        (
            Sample((f32(20, 5),), {"gates": 4, "units": 16}),
            Sample((f32(99, 33),), {"gates": 3, "units": 16}),
        ),
        compute=_compute_packed,
        reference=_reference_packed,
    ),
    OpDef(
        "scan",
        "recurrent",
        _infer_scan,
        "One recurrent layer in one direction: `h, … = cell(gates[t], weight h + bias, h, …)` for one step `t` after the other; "
        "the results are h of all steps and the last of the other states.",
        (
            _sample("lstm", (5, 2, 17), 16, True, False, False),
            _sample("gru", (3, 3, 5), 16, True, True, True),
            _sample("tanh", (4, 1, 33), 64, False, True, False),
            _sample("relu", (1, 2, 1), 16, True, False, True),
        ),
        reference=_reference_scan,
    ),
):
    if _entry.name not in OPS:
        register(_entry)
