"""Rows of recurrent layers: LSTM, GRU, SimpleRNN and RNN, one way or both ways.

Keras' kernels are [in, gates…], Sol's weights [gates…, in], and a GRU's first two gates stand the
other way round. Layers with other activations than the usual ones are traced like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers as k

from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.ops.layers import reset_first
from sol.tensorflow.activations import scalar
from sol.tensorflow.context import Context
from sol.tensorflow.layers.table import layer, weight
from sol.tensorflow.layout import concat, permute, pointwise

_A = keras.activations


@layer(k.LSTM, k.GRU, k.SimpleRNN, k.RNN)
def recurrent(
    c: Context, of: Any, x: Node, initial_state: Any = None, mask: Any = None
) -> Node | tuple[Node, ...]:
    """A sequence in, a sequence or its last state out. An RNN takes the usual cells, or a stack."""
    _check(c, of, mask)
    y = c.floating(x)
    if of.go_backwards:
        y = c.op("flip", y, axes=(1,))
    cells = of.cell.cells if type(of.cell) is k.StackedRNNCells else [of.cell]
    if len(cells) > 1 and (initial_state is not None or of.return_state):
        c.refuse("states of a stack of cells")
    last: list[Node] = []
    for cell in cells:
        y, *last = _sequence(c, cell, y, initial_state)
    result = y if of.return_sequences else last[0]
    return (result, *last) if of.return_state else result


def _sequence(c: Context, cell: Any, x: Node, initial_state: Any) -> tuple[Node, ...]:
    """All steps of a cell, and its last states."""
    if type(cell) not in _PARTS:
        c.refuse(f"a {type(cell).__name__} within it")
    batch, units = x.shape[0], cell.units
    op, weights, attrs = _PARTS[type(cell)](c, cell)
    count = 2 if op == "lstm" else 1
    given = _states(c, initial_state, count, batch, units)
    states = [c.reshape(s, (1, batch, units)) for s in given]
    if not getattr(cell, "reset_after", True):
        return _reset_before(c, x, weights, states[0])
    node = c.op(
        op, x, *states, *weights, layers=1, bidirectional=False, bias=len(weights) == 4,
        batch_first=True, **attrs,
    )  # fmt: skip
    y, *last = (c.op("item", node, index=n) for n in range(1 + count))
    return y, *(c.reshape(s, (batch, units)) for s in last)


def _reset_before(c: Context, x: Node, weights: list[Node], start: Node) -> tuple[Node, Node]:
    """A GRU whose reset gate comes before the product: its sequence, and its last state."""
    w_ih, w_hh, *bias = weights
    gates = permute(c, c.op("linear", x, w_ih, *bias), (1, 0, 2))
    y = reset_first(c.op, gates, w_hh, start, [], False)
    last = c.slice(y, 0, y.shape[0] - 1, y.shape[0])
    return permute(c, y, (1, 0, 2)), c.reshape(last, last.shape[1:])


def _check(c: Context, of: Any, mask: Any) -> None:
    if mask is not None:
        c.refuse("a mask")
    cells = getattr(of.cell, "cells", [of.cell])
    drops = (getattr(cell, name, 0) for cell in cells for name in ("dropout", "recurrent_dropout"))
    if c.training and any(drops):
        c.refuse("dropout of a recurrent layer")
    if of.stateful:
        c.refuse("a state that is kept between calls")


def _states(c: Context, given: Any, count: int, batch: Any, units: int) -> list[Node]:
    if given is None:
        return [c.op("full", shape=(batch, units), value=0.0, dtype=F32) for _ in range(count)]
    states = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(states) != count or any(not isinstance(s, Node) for s in states):
        c.refuse("initial states of another structure")
    return states


def _activations(c: Context, cell: Any, *expected: tuple[str, Any]) -> None:
    for name, function in expected:
        if getattr(cell, name) is not function:
            c.refuse(f"{name}={getattr(cell, name)}")


_Parts = tuple[str, list[Node], dict[str, Any]]


def _lstm(c: Context, cell: Any) -> _Parts:
    _activations(c, cell, ("activation", _A.tanh), ("recurrent_activation", _A.sigmoid))
    weights = [_transposed(c, cell.kernel), _transposed(c, cell.recurrent_kernel)]
    if cell.use_bias:
        weights += [weight(c, cell.bias), _zeros(c, 4 * cell.units)]
    return "lstm", weights, {}


def _gru(c: Context, cell: Any) -> _Parts:
    _activations(c, cell, ("activation", _A.tanh), ("recurrent_activation", _A.sigmoid))
    weights = [
        _reset_first(c, _transposed(c, v), cell.units) for v in (cell.kernel, cell.recurrent_kernel)
    ]
    if cell.use_bias:
        both, total = weight(c, cell.bias), 3 * cell.units
        if not cell.reset_after:
            return "gru", [*weights, _reset_first(c, both, cell.units)], {}
        rows = (c.reshape(c.slice(both, 0, n, n + 1), (total,)) for n in range(2))
        weights += [_reset_first(c, row, cell.units) for row in rows]
    return "gru", weights, {}


def _simple(c: Context, cell: Any) -> _Parts:
    names = {_A.tanh: "tanh", _A.relu: "relu"}
    if cell.activation not in names:
        c.refuse(f"activation={cell.activation}")
    weights = [_transposed(c, cell.kernel), _transposed(c, cell.recurrent_kernel)]
    if cell.use_bias:
        weights += [weight(c, cell.bias), _zeros(c, cell.units)]
    return "rnn", weights, {"nonlinearity": names[cell.activation]}


_PARTS = {k.LSTMCell: _lstm, k.GRUCell: _gru, k.SimpleRNNCell: _simple}


def _transposed(c: Context, variable: Any) -> Node:
    return permute(c, weight(c, variable), (1, 0))


def _zeros(c: Context, size: int) -> Node:
    return c.op("full", shape=(size,), value=0.0, dtype=F32)


def _reset_first(c: Context, x: Node, units: int) -> Node:
    """Gates z, r, h as r, z, h."""
    z, r, h = (c.slice(x, 0, n * units, (n + 1) * units) for n in range(3))
    return c.op("concat", r, z, h, axis=0)


_LAYERS = (k.LSTM, k.GRU, k.SimpleRNN, k.RNN)


@layer(k.Bidirectional)
def bidirectional(
    c: Context, of: Any, x: Node, initial_state: Any = None, mask: Any = None
) -> Node | tuple[Node, ...]:
    """The same sequence forwards and backwards."""
    both = (of.forward_layer, of.backward_layer)
    if any(type(each) not in _LAYERS for each in both):
        c.refuse(f"a {type(of.forward_layer).__name__} within it")
    if mask is not None or initial_state is not None:
        c.refuse("a mask, or initial states")
    results = [recurrent(c, each, x) for each in both]
    parts = [r if isinstance(r, tuple) else (r,) for r in results]
    there, back = parts[0][0], parts[1][0]
    if of.return_sequences:
        back = c.op("flip", back, axes=(1,))
    merged = _merged(c, of.merge_mode, there, back)
    states = (*parts[0][1:], *parts[1][1:]) if of.return_state else ()
    return (*merged, *states) if len(merged) + len(states) > 1 else merged[0]


def _merged(c: Context, mode: Any, there: Node, back: Node) -> Sequence[Node]:
    match mode:
        case None:
            return there, back
        case "concat":
            return (concat(c, [there, back], there.tensor.rank - 1),)
        case "sum":
            return (pointwise(c, "add", there, back),)
        case "ave":
            return (scalar(c, "mul", pointwise(c, "add", there, back), 0.5),)
        case "mul":
            return (pointwise(c, "mul", there, back),)
    return c.refuse(f"merge_mode={mode!r}")
