"""Rows of whole recurrent layers; their cells are decomposed by PyTorch into simpler operators."""

from __future__ import annotations

from collections.abc import Sequence

from sol.ir.graph import Node
from sol.pytorch.context import Context, Result
from sol.pytorch.rows.table import row


def _layers(
    c: Context,
    op: str,
    x: Node,
    states: Sequence[Node],
    weights: Sequence[Node],
    bias: bool,
    layers: int,
    bidirectional: bool,
    batch_first: bool,
    **attrs: str,
) -> Result:
    """A recurrent operator and its results; a sequence without the axis of the batch gets one."""
    alone = x.tensor.rank == 2
    per_direction = 4 if bias else 2
    if len(weights) != per_direction * layers * (2 if bidirectional else 1):
        c.refuse("recurrent layers with projections")
    if alone:
        x = c.reshape(x, (1, *x.shape) if batch_first else (x.shape[0], 1, x.shape[1]))
        states = [c.reshape(s, (s.shape[0], 1, s.shape[1])) for s in states]
    node = c.op(
        op, x, *states, *weights, layers=layers, bidirectional=bidirectional, bias=bias,
        batch_first=batch_first, **attrs,
    )  # fmt: skip
    results = [c.op("item", node, index=n) for n in range(1 + len(states))]
    return tuple(c.reshape(r, expected.shape) for r, expected in zip(results, c.result))


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
    _evaluating(c, dropout, train)
    return _layers(c, "lstm", x, states, weights, bias, layers, bidirectional, batch_first)


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
    _evaluating(c, dropout, train)
    return _layers(c, "gru", x, [state], weights, bias, layers, bidirectional, batch_first)


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
    _evaluating(c, dropout, train)
    kind = "tanh" if c.target.startswith("aten.rnn_tanh") else "relu"
    return _layers(
        c, "rnn", x, [state], weights, bias, layers, bidirectional, batch_first, nonlinearity=kind
    )


def _evaluating(c: Context, dropout: float, train: bool) -> None:
    if train and dropout > 0:
        c.refuse("dropout while training draws random numbers")
