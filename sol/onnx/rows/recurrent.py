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
from sol.ops.layers import reset_first

# where Sol's gates stand among ONNX's: LSTM has i, o, f, c, GRU has z, r, h
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
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
    reset_first = c.op == "GRU" and not c.attr("linear_before_reset", 0)
    if reset_first or lengths is not None:
        cell = "reset_first" if reset_first else kind if c.op == "RNN" else c.op.lower()
        return _by_run(c, x, lengths, (runs, hidden), cell)
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


def _by_run(c: Call, x: Node, lengths: Node | None, sizes: tuple[int, int], cell: str) -> Results:
    """A layer direction by direction. lengths: how many steps each sequence has, None: all. Outputs
    behind them are zero, the last state is that of the last step of each, and backwards a sequence
    begins at its own last step."""
    (runs, hidden), (time, batch, _) = sizes, x.shape
    states = [_state(c, n, (runs, batch, hidden)) for n in ((5, 6) if c.op == "LSTM" else (5,))]
    sequences: list[Node] = []
    ends: list[list[Node]] = [[] for _ in states]
    for run in range(runs):
        backwards = run == 1 or c.attr("direction", "forward") == "reverse"
        turn = backwards and lengths is not None
        given = turned(c, x, lengths, 0) if turn and lengths is not None else x
        starts = [c.slice(s, 0, run, run + 1) for s in states]
        found = _scanned(c, given, _weights(c, run, hidden), starts, cell, backwards and not turn)
        for of_all, start, end in zip(found, starts, ends):
            end.append(_last(c, of_all, start, lengths, backwards))
        y = found[0]
        if lengths is not None:
            places = c.add("iota", shape=(time, batch, 1), axis=0, dtype=I64)
            live = c.add("lt", places, c.reshape(lengths, (1, batch, 1)))
            y = c.add("where", live, y, c.constant(0.0, F32))
            y = turned(c, y, lengths, 0) if turn else y
        sequences.append(c.reshape(y, (time, 1, batch, hidden)))
    y, *lasts = (
        parts[0] if runs == 1 else c.add("concat", *parts, axis=axis)
        for parts, axis in ((sequences, 1), *((end, 0) for end in ends))
    )
    if c.attr("layout", 0):
        return (c.permute(y, (2, 0, 1, 3)), *(c.permute(s, (1, 0, 2)) for s in lasts))
    return (y, *lasts)


def _scanned(
    c: Call, x: Node, weights: list[Node], starts: list[Node], cell: str, reverse: bool
) -> list[Node]:
    """The states of all steps, [T, N, H]."""
    w_ih, w_hh, *biases = weights
    gates = c.add("linear", x, w_ih, *biases[:1])
    if cell == "reset_first":
        (start,) = starts
        return [reset_first(c.add, gates, w_hh, start, biases[1:], reverse)]
    scan = c.add(
        "recurrence", gates, w_hh, *starts, *biases[1:],
        cell=cell, batch_first=False, reverse=reverse,
    )  # fmt: skip
    return [c.add("item", scan, index=n) for n in range(len(starts))]


def _last(c: Call, states: Node, start: Node, lengths: Node | None, backwards: bool) -> Node:
    """[1, N, H]: the state after the last step of each sequence."""
    time, batch, hidden = states.shape
    if lengths is None:
        first = 0 if backwards else time - 1
        return c.slice(states, 0, first, first + 1)
    zero = c.constant(0, I64)
    place = c.add("max", c.add("sub", lengths, c.constant(1, I64)), zero)
    images = c.add("iota", shape=(batch,), axis=0, dtype=I64)
    reached = c.add("index", states, place, images, axes=(0, 1))
    started = c.reshape(c.add("gt", lengths, zero), (1, batch, 1))
    return c.add("where", started, c.reshape(reached, (1, batch, hidden)), start)


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
