"""Operators that only plans contain: what a recurrent layer does in the order of time.

`scan` runs one layer in one direction, given the input's share of the gates of all steps, and
`scan_gradient` is the way back; `packed_gates` is W_hh in the order in which the kernel of a scan
(kernels/recurrent.py) reads it. plan/recurrent.py makes them of lstm, gru, rnn and of what training
makes of these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sol.ir.expr import Expr, const, where
from sol.ir.graph import Node, TensorType
from sol.ops.cells import CELLS
from sol.ops.recurrence import (
    back_sample,
    cell_of,
    forward_sample,
    gradient_types,
    kept_types,
    run_back,
    run_forward,
)
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
    cell: str, batch_first: bool, reverse: bool, keep: bool,
) -> Types:  # fmt: skip
    """rest: states [1, N, H] and maybe a bias; gates are [T, N, gates * H] or [N, T, …]."""
    own = cell_of("scan", cell)
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
    if keep:
        return kept_types(gates, need_number("scan", "the hidden size", hidden), own)
    return (of(gates, (*gates.shape[:2], hidden)), *rest[1 : own.states])


def _reference_scan(node: Node, gates: Any, weight: Any, *rest: Any) -> tuple[Any, ...]:
    cell = CELLS[node["cell"]]
    results = run_forward(node, gates, _unpacked(weight, cell.gates), rest)
    if node["keep"]:
        return results
    last = 0 if node["reverse"] else -1
    at = (slice(None), last) if node["batch_first"] else (last,)
    return (results[0], *(s[at][None] for s in results[1 : cell.states]))


def _unpacked(weight: Any, gates: int) -> Any:
    """[H, gates * H]: w_hh transposed, from its blocks."""
    blocks, hidden, columns = weight.shape
    parts = weight.reshape(blocks, hidden, gates, columns // gates).transpose(1, 2, 0, 3)
    return parts.reshape(hidden, gates, -1)[:, :, :hidden].reshape(hidden, -1)


# ---- scan_gradient -------------------------------------------------------------------------------


def _infer_gradient(
    weight: TensorType, *rest: TensorType,
    cell: str, batch_first: bool, reverse: bool, hidden: int, given: tuple[bool, ...],
) -> Types:  # fmt: skip
    """weight: packed_columns of W_hh [gates * H, H]; rest as of recurrence_gradient."""
    op = "scan_gradient"
    own = cell_of(op, cell)
    need_rank(op, weight, 3)
    blocks, depth, block = weight.shape
    fits = depth == own.gates * hidden and blocks == -(-hidden // need_number(op, "a size", block))
    need(fits, op, f"a weight {weight}", f"{own.gates} gates of {hidden} units in columns")
    return gradient_types(op, own, hidden, rest, batch_first, given)


def _reference_gradient(node: Node, weight: Any, *rest: Any) -> tuple[Any, ...]:
    columns = weight.swapaxes(0, 1).reshape(weight.shape[1], -1)
    return run_back(node, columns[:, : node["hidden"]], rest)


# ---- entries -------------------------------------------------------------------------------------


def _sample(
    cell: str, sizes: tuple[int, int, int], units: int, bias: bool, batch_first: bool,
    reverse: bool, keep: bool = False,
) -> Sample:  # fmt: skip
    """A sample of T steps, N sequences, H hidden units."""
    hidden = sizes[2]
    weight = f32(-(-hidden // units), hidden, CELLS[cell].gates * units)
    sample = forward_sample(cell, sizes, bias, batch_first, reverse, weight)
    return replace(sample, attrs={**sample.attrs, "keep": keep})


def _back(
    cell: str, sizes: tuple[int, int, int], units: int, given: tuple[bool, ...],
    batch_first: bool, reverse: bool,
) -> Sample:  # fmt: skip
    hidden = sizes[2]
    weight = f32(-(-hidden // units), CELLS[cell].gates * hidden, units)
    sample = back_sample(cell, sizes, given, batch_first, reverse, weight)
    return replace(sample, attrs={**sample.attrs, "hidden": hidden})


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
        "states, or, with `keep`, those of recurrence.",
        (
            _sample("lstm", (5, 2, 17), 16, True, False, False),
            _sample("gru", (3, 3, 5), 16, True, True, True),
            _sample("tanh", (4, 1, 33), 64, False, True, False),
            _sample("relu", (1, 2, 1), 16, True, False, True),
            _sample("lstm", (5, 2, 17), 16, True, False, True, keep=True),
            _sample("gru", (3, 3, 5), 16, True, True, False, keep=True),
        ),
        reference=_reference_scan,
    )
)
register(
    OpDef(
        "scan_gradient",
        "recurrent",
        _infer_gradient,
        "The way back through a scan, as recurrence_gradient, on packed columns of the weight.",
        (
            _back("lstm", (5, 2, 17), 16, (True, False), False, False),
            _back("gru", (3, 3, 5), 16, (True,), True, True),
            _back("tanh", (4, 1, 33), 32, (True,), True, False),
        ),
        reference=_reference_gradient,
    )
)
