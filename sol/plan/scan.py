"""Two operators that only plans contain: what a recurrent layer does in the order of time.

`scan` runs one layer in one direction, given the input's share of the gates of all steps;
`packed_gates` is W_hh in the order in which its kernel (kernels/recurrent.py) reads it.
plan/recurrent.py makes them of lstm, gru and rnn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.cells import CELLS, on_arrays
from sol.ops.registry import Index, OpDef, Read, Sample, Types, register
from sol.ops.rules import need, need_kind, need_number, need_rank, need_shape, of
from sol.ops.sampling import f32

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
    parts = padded.reshape(gates, blocks, units, hidden).transpose(1, 3, 0, 2)
    return parts.reshape(blocks, hidden, gates * units)


# ---- scan ----------------------------------------------------------------------------------------


def _infer_scan(
    gates: TensorType, weight: TensorType, *rest: TensorType,
    cell: str, batch_first: bool, reverse: bool,
) -> Types:  # fmt: skip
    """rest: states [1, N, H] and maybe a bias; gates are [T, N, gates * H] or [N, T, …]."""
    if cell not in CELLS:
        raise UnsupportedError("scan", f"{cell=}", expected=f"one of {', '.join(CELLS)}")
    own = CELLS[cell]
    need_rank("scan", gates, 3)
    need_kind("scan", gates, "float")
    need_rank("scan", weight, 3)
    states = f"{own.states} states and maybe a bias"
    need(len(rest) - own.states in (0, 1), "scan", f"{len(rest)} states and biases", states)
    hidden, columns = weight.shape[1], need_number("scan", "a size", gates.shape[2])
    given = f"gates {gates} and a weight {weight}"
    need(columns == own.gates * hidden, "scan", given, f"{own.gates} gates per hidden unit")
    images = gates.shape[0 if batch_first else 1]
    for state in rest[: own.states]:
        need_shape("scan", "a state", state, (1, images, hidden))
    for bias in rest[own.states :]:
        need_shape("scan", "the bias", bias, (columns,))
    return (of(gates, (*gates.shape[:2], hidden)), *rest[1 : own.states])


def _reference_scan(node: Node, gates: Any, weight: Any, *rest: Any) -> tuple[Any, ...]:
    cell = CELLS[node["cell"]]
    hidden = weight.shape[1]
    matrix = _unpacked(weight, cell.gates)
    states = tuple(s[0] for s in rest[: cell.states])
    bias = sum(rest[cell.states :])
    steps = gates.swapaxes(0, 1) if node["batch_first"] else gates
    result = np.empty((*steps.shape[:2], hidden), gates.dtype)
    for t in range(len(steps))[:: -1 if node["reverse"] else 1]:
        recurrent = np.matmul(states[0], matrix) + bias
        own, before = (np.split(g, cell.gates, axis=-1) for g in (steps[t], recurrent))
        states = cell.step(on_arrays, own, before, states)
        result[t] = states[0]
    sequence = result.swapaxes(0, 1) if node["batch_first"] else result
    return (sequence, *(s[None] for s in states[1:]))


def _unpacked(weight: Any, gates: int) -> Any:
    """[H, gates * H]: w_hh transposed, from its blocks."""
    blocks, hidden, columns = weight.shape
    parts = weight.reshape(blocks, hidden, gates, columns // gates).transpose(1, 2, 0, 3)
    return parts.reshape(hidden, gates, -1)[:, :, :hidden].reshape(hidden, -1)


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


register(
    OpDef(
        "packed_gates",
        "move",
        _infer_packed,
        "Rows of a recurrent weight, gate by gate, as columns in blocks of `units` hidden units "
        "with their gates side by side: `y[n, k, g * units + j] = w[g * H + n * units + j, k]`, "
        "zero beyond the last unit.",
        (
            Sample((f32(20, 5),), {"gates": 4, "units": 16}),
            Sample((f32(99, 33),), {"gates": 3, "units": 16}),
        ),
        compute=_compute_packed,
        reference=_reference_packed,
    )
)
register(
    OpDef(
        "scan",
        "recurrent",
        _infer_scan,
        "One recurrent layer in one direction: `h, … = cell(gates[t], weight h + bias, h, …)` for "
        "one step `t` after the other; the results are h of all steps and the last of the other "
        "states.",
        (
            _sample("lstm", (5, 2, 17), 16, True, False, False),
            _sample("gru", (3, 3, 5), 16, True, True, True),
            _sample("tanh", (4, 1, 33), 64, False, True, False),
            _sample("relu", (1, 2, 1), 16, True, False, True),
        ),
        reference=_reference_scan,
    )
)
