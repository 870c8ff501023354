"""The row of whole recurrent layers."""

from __future__ import annotations

from sol.core.dims import Size
from sol.ir.graph import Node
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import row

# mode -> Sol's operator, how many gates, attributes; gates are in the same order
_MODES: dict[str, tuple[str, int, dict[str, str]]] = {
    "lstm": ("lstm", 4, {}),
    "gru": ("gru", 3, {}),
    "rnn_tanh": ("rnn", 1, {"nonlinearity": "tanh"}),
    "rnn_relu": ("rnn", 1, {"nonlinearity": "relu"}),
}


@row("RNN", "_npx_rnn")
def rnn(
    c: Context,
    x: Node,
    parameters: Node,
    state: Node,
    cell: Node | None = None,
    *,
    state_size: int,
    num_layers: int,
    bidirectional: bool = False,
    mode: str,
    p: float = 0.0,
    state_outputs: bool = False,
    projection_size: int | None = None,
    lstm_state_clip_min: float | None = None,
    lstm_state_clip_max: float | None = None,
    lstm_state_clip_nan: bool = False,
    use_sequence_length: bool = False,
) -> Result:
    """LSTM, GRU or RNN layers on [time, batch, features]; the states are further results."""
    if mode not in _MODES:
        c.refuse(f"mode={mode!r}")
    if projection_size is not None:
        c.refuse(f"projection_size={projection_size}")
    if lstm_state_clip_min is not None or lstm_state_clip_max is not None:
        c.refuse("states that are clipped")
    if use_sequence_length:
        c.refuse("sequences of several lengths")
    op, gates, attrs = _MODES[mode]
    c.need(x.tensor.rank == 3, f"an input {x.tensor}", "time, batch, features")
    c.need(0 < num_layers <= 1024 and state_size > 0, f"{num_layers=}, {state_size=}", "1 or more")
    runs = num_layers * (1 + bidirectional)
    states = [_state(c, s, (runs, x.shape[1], state_size)) for s in (state, cell) if s is not None]
    c.need(
        len(states) == (2 if mode == "lstm" else 1), f"{len(states)} states", "those of the mode"
    )
    weights = _weights(
        c, parameters, c.size(x, 2), state_size, gates, num_layers, 1 + bidirectional
    )
    node = c.op(
        op, x, *states, *weights, layers=num_layers, bidirectional=bidirectional, bias=True,
        batch_first=False, **attrs,
    )  # fmt: skip
    return tuple(c.op("item", node, index=k) for k in range(1 + len(states)))


def _state(c: Context, state: Node, shape: tuple[Size, ...]) -> Node:
    """A state; the one number that stands for a whole one in any batch is known in its shape."""
    if state.op == "full" and state.shape != shape:
        return c.full(shape, state["value"], state.dtype)
    return state


def _weights(
    c: Context, packed: Node, features: int, hidden: int, gates: int, layers: int, directions: int
) -> list[Node]:
    """Sol's weights of MXNet's one vector: first all matrices, then all biases."""
    matrices: list[tuple[int, int]] = []
    for layer in range(layers):
        size = features if layer == 0 else hidden * directions
        matrices += [(gates * hidden, size), (gates * hidden, hidden)] * directions
    total = sum(a * b + a for a, b in matrices)
    c.need(
        packed.tensor.rank == 1 and packed.shape == (total,), f"parameters {packed.tensor}",
        f"{total} numbers",
    )  # fmt: skip
    place, first, second = 0, [], []
    for rows, columns in matrices:
        part = c.slice(packed, 0, place, place + rows * columns)
        first.append(c.reshape(part, (rows, columns)))
        place += rows * columns
    for rows, _ in matrices:
        second.append(c.slice(packed, 0, place, place + rows))
        place += rows
    found: list[Node] = []
    for k in range(0, len(matrices), 2):
        found += [first[k], first[k + 1], second[k], second[k + 1]]
    return found
