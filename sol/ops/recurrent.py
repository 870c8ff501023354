"""Recurrent layers: LSTM, GRU and RNN with any number of layers, in one or two directions.

Weights stand in PyTorch's order: for each layer and direction w_ih, w_hh and, with `bias`, b_ih and
b_hh. The sequence is [T, N, I], or [N, T, I] with `batch_first`; states are [layers * directions,
N, H]. They are run in the order of time, so there is no index expression, only a NumPy loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sol.core.errors import UnsupportedError
from sol.ir.graph import Node, TensorType
from sol.ops.cells import CELLS, Cell, cell_name, on_arrays
from sol.ops.layers import expand
from sol.ops.registry import OpDef, Sample, Types, register
from sol.ops.rules import need, need_kind, need_positive, need_rank, need_shape, of
from sol.ops.sampling import f32


def _check(
    op: str, gates: int, x: TensorType, states: Sequence[TensorType], weights: Sequence[TensorType],
    layers: int, bidirectional: bool, bias: bool, batch_first: bool,
) -> tuple[TensorType, ...]:  # fmt: skip
    """The types of a recurrent layer's results: the sequence and the last states."""
    need_rank(op, x, 3)
    need_kind(op, x, "float")
    need_positive(op, "layers", (layers,))
    directions, each = 1 + bidirectional, 4 if bias else 2
    runs = layers * directions
    need(len(weights) == runs * each, op, f"{len(weights)} weights", f"{runs * each}")
    time, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
    need_rank(op, states[0], 3)
    hidden = states[0].shape[2]
    for state in states:
        need_shape(op, "a state", state, (runs, batch, hidden))
    for run in range(runs):
        size = x.shape[2] if run < directions else hidden * directions
        w_ih, w_hh, *biases = weights[run * each : (run + 1) * each]
        need_shape(op, f"w_ih of run {run}", w_ih, (gates * hidden, size))
        need_shape(op, f"w_hh of run {run}", w_hh, (gates * hidden, hidden))
        for b in biases:
            need_shape(op, f"a bias of run {run}", b, (gates * hidden,))
    lead = (batch, time) if batch_first else (time, batch)
    return (of(x, (*lead, hidden * directions)), *states)


def _infer_lstm(
    x: TensorType, h0: TensorType, c0: TensorType, *weights: TensorType,
    layers: int, bidirectional: bool, bias: bool, batch_first: bool,
) -> Types:  # fmt: skip
    return _check("lstm", 4, x, (h0, c0), weights, layers, bidirectional, bias, batch_first)


def _infer_gru(
    x: TensorType, h0: TensorType, *weights: TensorType,
    layers: int, bidirectional: bool, bias: bool, batch_first: bool,
) -> Types:  # fmt: skip
    return _check("gru", 3, x, (h0,), weights, layers, bidirectional, bias, batch_first)


def _infer_rnn(
    x: TensorType, h0: TensorType, *weights: TensorType,
    layers: int, bidirectional: bool, bias: bool, batch_first: bool, nonlinearity: str,
) -> Types:  # fmt: skip
    if nonlinearity not in ("tanh", "relu"):
        raise UnsupportedError("rnn", f"{nonlinearity=}", expected="tanh or relu")
    return _check("rnn", 1, x, (h0,), weights, layers, bidirectional, bias, batch_first)


# ---- all steps of all layers ---------------------------------------------------------------------


def _reference(node: Node, x: Any, *rest: Any) -> tuple[Any, ...]:
    cell = CELLS[cell_name(node)]
    initial, weights = rest[: cell.states], rest[cell.states :]
    directions, each = 1 + node["bidirectional"], 4 if node["bias"] else 2
    sequence = x.swapaxes(0, 1) if node["batch_first"] else x
    last: list[tuple[Any, ...]] = []
    for layer in range(node["layers"]):
        results = []
        for direction in range(directions):
            run = layer * directions + direction
            start = tuple(s[run] for s in initial)
            own = weights[run * each : (run + 1) * each]
            result, end = _run(cell, sequence[:: 1 - 2 * direction], start, own)
            results.append(result[:: 1 - 2 * direction])
            last.append(end)
        sequence = np.concatenate(results, axis=-1)
    out = sequence.swapaxes(0, 1) if node["batch_first"] else sequence
    return (out, *(np.stack(s) for s in zip(*last)))


def _run(
    cell: Cell, sequence: Any, states: tuple[Any, ...], weights: Sequence[Any]
) -> tuple[Any, tuple[Any, ...]]:
    """One layer in one direction: the hidden states of all steps, and the last states."""
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (0, 0)
    gates = np.matmul(sequence, w_ih.T) + b_ih
    steps = np.empty((*sequence.shape[:2], w_hh.shape[1]), sequence.dtype)
    for t in range(len(sequence)):
        recurrent = np.matmul(states[0], w_hh.T) + b_hh
        own, before = (np.split(g, cell.gates, axis=-1) for g in (gates[t], recurrent))
        states = cell.step(on_arrays, own, before, states)
        steps[t] = states[0]
    return steps, states


# ---- entries -------------------------------------------------------------------------------------


def _sample(
    gates: int, states: int, sizes: tuple[int, int, int, int], layers: int, bidirectional: bool,
    bias: bool, batch_first: bool, **more: Any,
) -> Sample:  # fmt: skip
    """A sample of T steps, N sequences, I inputs, H hidden values."""
    T, N, I, H = sizes  # noqa: E741
    directions = 1 + bidirectional
    weights: list[TensorType] = []
    for run in range(layers * directions):
        size = I if run < directions else H * directions
        weights += [f32(gates * H, size), f32(gates * H, H)] + [f32(gates * H)] * 2 * bias
    x = f32(N, T, I) if batch_first else f32(T, N, I)
    attrs = {
        "layers": layers, "bidirectional": bidirectional, "bias": bias, "batch_first": batch_first,
    }  # fmt: skip
    inputs = (x, *[f32(layers * directions, N, H)] * states, *weights)
    return Sample(inputs, attrs | more, -0.6, 0.6)


def _samples(gates: int, states: int, **more: Any) -> tuple[Sample, ...]:
    return (
        _sample(gates, states, (5, 2, 3, 4), 1, False, True, False, **more),
        _sample(gates, states, (3, 1, 5, 7), 2, False, True, True, **more),
        _sample(gates, states, (7, 3, 4, 5), 2, True, True, True, **more),
        _sample(gates, states, (1, 2, 1, 17), 1, True, False, False, **more),
    )


register(
    OpDef(
        "lstm",
        "recurrent",
        _infer_lstm,
        "`i, f, g, o = split(w_ih x_t + b_ih + w_hh h + b_hh)`, `c = σ(f) c + σ(i) tanh(g)`, "
        "`h = σ(o) tanh(c)`; the results are the sequence of h, the last h and the last c.",
        samples=_samples(4, 2),
        reference=_reference,
        expand=expand,
    )
)
register(
    OpDef(
        "gru",
        "recurrent",
        _infer_gru,
        "`r, z = σ(w_ih x_t + b_ih + w_hh h + b_hh)`, `n = tanh(w_in x_t + b_in + r (w_hn h + "
        "b_hn))`, `h = (1 - z) n + z h`; the results are the sequence of h and the last h.",
        samples=_samples(3, 1),
        reference=_reference,
        expand=expand,
    )
)
register(
    OpDef(
        "rnn",
        "recurrent",
        _infer_rnn,
        "`h = tanh(w_ih x_t + b_ih + w_hh h + b_hh)`, or max(…, 0) for `nonlinearity` relu; the "
        "results are the sequence of h and the last h.",
        samples=(
            *_samples(1, 1, nonlinearity="tanh"),
            *_samples(1, 1, nonlinearity="relu")[2:],
        ),
        reference=_reference,
        expand=expand,
    )
)


def _infer_item(x: Types, *, index: int) -> Types:
    results = x if isinstance(x, tuple) else (x,)
    need(0 <= index < len(results), "item", f"result {index}", f"0 to {len(results) - 1}")
    return results[index]


register(
    OpDef(
        "item",
        "move",
        _infer_item,
        "Result number `index` of a node with several results.",
        reference=lambda node, x: x[node["index"]],
        why="it is a part of that of the operator, which has several results",
    )
)
