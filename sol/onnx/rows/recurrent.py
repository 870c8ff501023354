"""Rows of recurrent layers: ONNX orders gates, directions and axes in another way than Sol."""

from __future__ import annotations

import numpy as np

from sol.core.dims import Dim
from sol.core.dtypes import F32, I64
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node
from sol.onnx.rows.select import turned
from sol.onnx.rows.table import row
from sol.onnx.values import Call, Results

# where Sol's gates stand among ONNX's: LSTM has i, o, f, c, GRU has z, r, h
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_MOST_STEPS = 64  # of a layer that is written out step by step
_USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@row("LSTM", "GRU", "RNN")
def recurrent(c: Call) -> Results:
    """A layer in one or two directions, with usual activations."""
    direction = c.attr("direction", "forward")
    both = direction == "bidirectional"
    runs = 1 + both
    kind = _check(c, runs)
    x = c.x(0)
    if c.attr("layout", 0):
        x = c.permute(x, (1, 0, 2))
    time, batch, _ = x.shape
    if isinstance(time, Dim):  # sizes of the call are better than NumPy
        raise UnsupportedError(c.op, "a number of steps that depends on the batch size B")
    hidden = c.shape(2)[2]
    assert isinstance(hidden, int)
    lengths = _lengths(c, time)
    if c.op == "GRU" and not c.attr("linear_before_reset", 0):
        if lengths is not None:
            c.refuse("the reset gate before the product, and sequences of different lengths")
        return _reset_first(c, x, runs, hidden)
    if lengths is not None:
        return _of_lengths(c, x, lengths, runs, hidden, kind)
    weights = [w for run in range(runs) for w in _weights(c, run, hidden)]
    states = [_state(c, n, (runs, batch, hidden)) for n in ((5, 6) if c.op == "LSTM" else (5,))]
    x = c.add("flip", x, axes=(0,)) if direction == "reverse" else x
    extra = {"nonlinearity": kind} if c.op == "RNN" else {}
    layer = c.add(
        c.op.lower(), x, *states, *weights, layers=1, bidirectional=both, bias=c.has(3),
        batch_first=False, **extra,
    )  # fmt: skip
    y, *last = (c.add("item", layer, index=n) for n in range(1 + len(states)))
    y = c.add("flip", y, axes=(0,)) if direction == "reverse" else y
    y = c.permute(c.reshape(y, (time, batch, runs, hidden)), (0, 2, 1, 3))
    if c.attr("layout", 0):
        y = c.permute(y, (2, 0, 1, 3))
        last = [c.permute(s, (1, 0, 2)) for s in last]
    return (y, *last)


def _of_lengths(c: Call, x: Node, lengths: Node, runs: int, hidden: int, kind: str) -> Results:
    """A layer whose sequences end at different steps: outputs behind them are zero, and the last
    state is that of the last step of each. Backwards a sequence begins at its own last step."""
    time, batch, _ = x.shape
    cell = kind if c.op == "RNN" else c.op.lower()
    places = c.add("iota", shape=(time, batch, 1), axis=0, dtype=I64)
    live = c.add("lt", places, c.reshape(lengths, (1, batch, 1)))
    last = c.add("max", c.add("sub", lengths, c.constant(1, I64)), c.constant(0, I64))
    images = c.add("iota", shape=(batch,), axis=0, dtype=I64)
    started = c.reshape(c.add("gt", lengths, c.constant(0, I64)), (batch, 1))
    zero = c.constant(0.0, F32)
    states = [_state(c, n, (runs, batch, hidden)) for n in ((5, 6) if c.op == "LSTM" else (5,))]
    sequences: list[Node] = []
    ends: list[list[Node]] = [[] for _ in states]
    for run in range(runs):
        backwards = run == 1 or c.attr("direction", "forward") == "reverse"
        w_ih, w_hh, *biases = _weights(c, run, hidden)
        gates = c.add("linear", turned(c, x, lengths, 0) if backwards else x, w_ih, *biases[:1])
        starts = [c.slice(s, 0, run, run + 1) for s in states]
        scan = c.add(
            "recurrence", gates, w_hh, *starts, *biases[1:],
            cell=cell, batch_first=False, reverse=False,
        )  # fmt: skip
        of_all = [c.add("item", scan, index=n) for n in range(len(states))]
        y = c.add("where", live, of_all[0], zero)
        y = turned(c, y, lengths, 0) if backwards else y
        sequences.append(c.reshape(y, (time, 1, batch, hidden)))
        for found, start, end in zip(of_all, starts, ends):
            reached = c.add("index", found, last, images, axes=(0, 1))
            start = c.reshape(start, (batch, hidden))
            end.append(c.reshape(c.add("where", started, reached, start), (1, batch, hidden)))
    y, *lasts = (
        parts[0] if runs == 1 else c.add("concat", *parts, axis=axis)
        for parts, axis in ((sequences, 1), *((end, 0) for end in ends))
    )
    if c.attr("layout", 0):
        return (c.permute(y, (2, 0, 1, 3)), *(c.permute(s, (1, 0, 2)) for s in lasts))
    return (y, *lasts)


def _reset_first(c: Call, x: Node, runs: int, hidden: int) -> Results:
    """A GRU whose reset gate comes before the product, step by step:
    n = tanh(W_n x + R_n (r h) + b), h = (1 - z) n + z h."""
    time, batch, _ = x.shape
    assert isinstance(time, int)
    if time * runs > _MOST_STEPS:
        c.refuse(f"the reset gate before the product, in more than {_MOST_STEPS} steps")
    start, sequences, last = _state(c, 5, (runs, batch, hidden)), [], []
    for run in range(runs):
        w, r = (_row_of(c, c.x(n), run) for n in (1, 2))
        bias = []
        if c.has(3):
            both, width = _row_of(c, c.x(3), run), 3 * hidden
            bias = [c.add("add", *(c.slice(both, 0, k, k + width) for k in (0, width)))]
        gates = c.add("linear", x, w, *bias)
        h = _row_of(c, start, run)
        found: list[Node] = [h] * time
        backwards = run == 1 or c.attr("direction", "forward") == "reverse"
        for t in reversed(range(time)) if backwards else range(time):
            h = found[t] = _step(c, _row_of(c, gates, t), r, h, hidden)
        rows = [c.reshape(s, (1, 1, batch, hidden)) for s in found]
        sequences.append(rows[0] if time == 1 else c.add("concat", *rows, axis=0))
        last.append(c.reshape(h, (1, batch, hidden)))
    y, end = sequences[0], last[0]
    if runs > 1:
        y, end = c.add("concat", *sequences, axis=1), c.add("concat", *last, axis=0)
    if c.attr("layout", 0):
        y, end = c.permute(y, (2, 0, 1, 3)), c.permute(end, (1, 0, 2))
    return y, end


def _step(c: Call, gates: Node, r: Node, h: Node, hidden: int) -> Node:
    """The next state, from the input's share of the gates z, r, n."""
    both = c.add("linear", h, c.slice(r, 0, 0, 2 * hidden))
    both = c.add("sigmoid", c.add("add", c.slice(gates, 1, 0, 2 * hidden), both))
    update, reset = (c.slice(both, 1, k * hidden, (k + 1) * hidden) for k in (0, 1))
    kept = c.add("linear", c.add("mul", reset, h), c.slice(r, 0, 2 * hidden, 3 * hidden))
    n = c.add("tanh", c.add("add", c.slice(gates, 1, 2 * hidden, 3 * hidden), kept))
    return c.add("add", n, c.add("mul", update, c.add("sub", h, n)))


def _check(c: Call, runs: int) -> str:
    """Refuse what Sol's layers do not have; the nonlinearity of an RNN."""
    usual = _USUAL[c.op] * runs
    activations = [a.decode() if isinstance(a, bytes) else a for a in c.attr("activations", usual)]
    if c.attr("clip") is not None or c.attr("input_forget", 0) or c.has(7):
        c.refuse("with clipping, coupled gates or peepholes")
    if c.op == "RNN" and activations == ["Relu"] * runs:
        return "relu"
    if activations != usual:
        c.refuse(f"with the activations {', '.join(activations)}")
    return "tanh"


def _lengths(c: Call, time: int) -> Node | None:
    """How many steps each sequence has, None if these are all."""
    if not c.has(4):
        return None
    known = c.known(4)
    if known is not None and (np.asarray(known) == time).all():
        return None
    return c.cast(c.x(4), I64)


def _weights(c: Call, run: int, hidden: int) -> list[Node]:
    """w_ih, w_hh, and the two biases of a direction, with the gates in Sol's order."""
    found = [_gates(c, _row_of(c, c.x(n), run), hidden) for n in (1, 2)]
    if c.has(3):
        both = _row_of(c, c.x(3), run)
        half = len(_ORDER[c.op]) * hidden
        found += [_gates(c, c.slice(both, 0, n * half, (n + 1) * half), hidden) for n in (0, 1)]
    return found


def _row_of(c: Call, x: Node, run: int) -> Node:
    return c.reshape(c.slice(x, 0, run, run + 1), x.shape[1:])


def _gates(c: Call, x: Node, hidden: int) -> Node:
    order = _ORDER[c.op]
    if len(order) == 1:
        return x
    return c.add("concat", *(c.slice(x, 0, g * hidden, (g + 1) * hidden) for g in order), axis=0)


def _state(c: Call, place: int, shape: tuple[object, ...]) -> Node:
    if not c.has(place):
        return c.add("full", shape=shape, value=0.0, dtype=F32)
    state = c.x(place)
    return c.permute(state, (1, 0, 2)) if c.attr("layout", 0) else state
