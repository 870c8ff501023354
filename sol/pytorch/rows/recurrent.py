"""Rows of whole recurrent layers; their cells are decomposed by PyTorch into simpler operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sol.ir.graph import Node
from sol.pytorch.context import Context, Result
from sol.pytorch.rows.chance import dropped
from sol.pytorch.rows.shape import cut
from sol.pytorch.rows.table import row


@dataclass(frozen=True, slots=True)
class _Layers:
    """How the layers of a call are."""

    op: str
    bias: bool
    layers: int
    dropout: float
    bidirectional: bool
    batch_first: bool
    nonlinearity: str = ""

    @property
    def directions(self) -> int:
        """Of each layer."""
        return 2 if self.bidirectional else 1

    @property
    def each(self) -> int:
        """Weights of a layer."""
        return (4 if self.bias else 2) * self.directions


def _run(
    c: Context, of: _Layers, x: Node, states: Sequence[Node], weights: Sequence[Node]
) -> Result:
    """A recurrent operator and its results; a sequence without the axis of the batch gets one."""
    alone = x.tensor.rank == 2
    if len(weights) != of.each * of.layers:
        c.refuse("recurrent layers with projections")
    if alone:
        x = c.reshape(x, (1, *x.shape) if of.batch_first else (x.shape[0], 1, x.shape[1]))
        states = [c.reshape(s, (s.shape[0], 1, s.shape[1])) for s in states]
    found = _with_dropout if of.dropout and of.layers > 1 else _together
    results = found(c, of, x, states, weights)
    return tuple(c.reshape(r, expected.shape) for r, expected in zip(results, c.result))


def _together(
    c: Context, of: _Layers, x: Node, states: Sequence[Node], weights: Sequence[Node]
) -> list[Node]:
    """All layers as one operator."""
    more = {"nonlinearity": of.nonlinearity} if of.nonlinearity else {}
    node = c.op(
        of.op, x, *states, *weights, layers=of.layers, bidirectional=of.bidirectional,
        bias=of.bias, batch_first=of.batch_first, **more,
    )  # fmt: skip
    return [c.op("item", node, index=n) for n in range(1 + len(states))]


def _with_dropout(
    c: Context, of: _Layers, x: Node, states: Sequence[Node], weights: Sequence[Node]
) -> list[Node]:
    """Layer by layer, with dropout in between."""
    last: list[list[Node]] = []
    for layer in range(of.layers):
        start = layer * of.directions
        own = [cut(c, s, 0, start, of.directions) for s in states]
        taken = weights[layer * of.each : (layer + 1) * of.each]
        x, *rest = _together(c, replace(of, layers=1), x, own, taken)
        last.append(rest)
        if layer + 1 < of.layers:
            x = dropped(c, x, of.dropout)
    return [x, *(c.op("concat", *parts, axis=0) for parts in zip(*last))]


@row("lstm.input")
def lstm(
    c: Context,
    x: Node,
    states: Sequence[Node],
    weights: Sequence[Node],
    bias: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Result:
    """LSTM layers: (output, last hidden state, last cell state)."""
    of = _Layers("lstm", bias, layers, dropout * train, bidirectional, batch_first)
    return _run(c, of, x, states, weights)


@row("gru.input")
def gru(
    c: Context,
    x: Node,
    state: Node,
    weights: Sequence[Node],
    bias: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Result:
    """GRU layers: (output, last hidden state)."""
    of = _Layers("gru", bias, layers, dropout * train, bidirectional, batch_first)
    return _run(c, of, x, [state], weights)


@row("rnn_tanh.input", "rnn_relu.input")
def rnn(
    c: Context,
    x: Node,
    state: Node,
    weights: Sequence[Node],
    bias: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Result:
    """Elman layers: (output, last hidden state)."""
    kind = "tanh" if c.target.startswith("aten.rnn_tanh") else "relu"
    of = _Layers("rnn", bias, layers, dropout * train, bidirectional, batch_first, kind)
    return _run(c, of, x, [state], weights)
