"""Recurrent cells: what one hidden unit does with its gates at one step of time, and back.

`Cell.step` and its kind are written once, over any kind of number that adds and multiplies: NumPy
arrays (the references of ops/recurrent.py and recurrence.py) or index expressions (the generated
kernels of kernels/recurrent.py and recurrent_gradient.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sol.ir.expr import SCALAR_OPS, Expr, const, where
from sol.ir.graph import Node

Function = Callable[[str, Any], Any]  # a scalar operation of one argument, by its name
Values = Sequence[Any]
Step = Callable[[Function, Values, Values, Values], tuple[Any, ...]]
Keep = Callable[[Function, Values, Values, Values], tuple[tuple[Any, ...], tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Change:
    """Gradients of what a step reads.

    x, r: of the gates' shares of the input and of the state before; states: of the states before,
    beside what reaches them through r (None: nothing).
    """

    x: Values
    r: Values
    states: Values


@dataclass(frozen=True, slots=True)
class Cell:
    """A recurrent cell.

    gates: gates of a hidden unit; states: values that it keeps from step to step, its output first.
    step(function, x, r, states) -> new states, where x and r hold for each gate its share of the
        input, w_ih x + b_ih, and of the state before, w_hh h + b_hh.
    keep(function, x, r, states) -> new states, and `kept` numbers for the way back.
    back(function, kept, before, after, changes) -> Change: before, after: the states of a step;
        changes: gradients of those after it. apart: whether gradients of x and r differ; direct:
        whether h before reaches h after also beside r.
    """

    gates: int
    states: int
    step: Step
    kept: int
    keep: Keep
    back: Callable[[Function, Values, Values, Values, Values], Change]
    apart: bool = False
    direct: bool = False


def _lstm_keep(f: Function, x: Values, r: Values, states: Values) -> Any:
    """`c' = σ(f) c + σ(i) tanh(g)`, `h' = σ(o) tanh(c')` (Hochreiter and Schmidhuber, 1997)."""
    a, b, g, o = (p + q for p, q in zip(x, r))
    i, forget, g, o = f("sigmoid", a), f("sigmoid", b), f("tanh", g), f("sigmoid", o)
    c = forget * states[1] + i * g
    return (o * f("tanh", c), c), (i, forget, g, o)


def _lstm_back(f: Function, kept: Values, before: Values, after: Values, dy: Values) -> Change:
    i, forget, g, o = kept
    dh, tanh = dy[0], f("tanh", after[1])
    dc = dy[1] + dh * o * (1.0 - tanh * tanh)
    gates = (
        dc * g * (i * (1.0 - i)),
        dc * before[1] * (forget * (1.0 - forget)),
        dc * i * (1.0 - g * g),
        dh * tanh * (o * (1.0 - o)),
    )
    return Change(gates, gates, (None, dc * forget))


def _gru_keep(f: Function, x: Values, r: Values, states: Values) -> Any:
    """`h' = (1 - z) n + z h` with `n = tanh(x_n + σ(r) r_n)` (K. Cho et al., 2014)."""
    reset, update = f("sigmoid", x[0] + r[0]), f("sigmoid", x[1] + r[1])
    n = f("tanh", x[2] + reset * r[2])
    return (n + update * (states[0] - n),), (reset, update, n, r[2])


def _gru_back(f: Function, kept: Values, before: Values, after: Values, dy: Values) -> Change:
    reset, update, n, product = kept
    dh = dy[0]
    dn = dh * (1.0 - update) * (1.0 - n * n)
    dz = dh * (before[0] - n) * (update * (1.0 - update))
    dr = dn * product * (reset * (1.0 - reset))
    return Change((dr, dz, dn), (dr, dz, dn * reset), (dh * update,))


def _reset_first_keep(f: Function, x: Values, r: Values, states: Values) -> Any:
    """A GRU whose reset gate comes before the product: `h' = (1 - z) n + z h` with
    `n = tanh(x_n + W (σ(r) h))` (K. Cho et al., 2014, as first published).

    That are two products, one after the other, so a step of time is two steps of the cell. The
    first makes s = σ(r) h and z of h, the second h' of s. States: what the next product is taken
    of, h, z, and which of both steps comes: 0 or 1.
    """
    _, h, z, second = states
    reset, update = f("sigmoid", x[0] + r[0]), f("sigmoid", x[1] + r[1])
    n = f("tanh", x[2] + r[2])
    new = n + z * (h - n)
    after = (reset * h, h, update), (new, new, z)
    states = tuple(_chosen(second, a, b) for a, b in zip(*after))
    return (*states, 1.0 - second), (_chosen(second, reset, n), states[2])


def _reset_first_back(
    f: Function, kept: Values, before: Values, after: Values, dy: Values
) -> Change:
    (gate, z), (_, h, _, second), (ds, dh, dz, dstep) = kept, before, dy
    dnew = ds + dh
    nothing = 0.0 * gate
    gates = (
        _chosen(second, ds * h * (gate * (1.0 - gate)), nothing),
        _chosen(second, dz * (z * (1.0 - z)), nothing),
        _chosen(second, nothing, dnew * (1.0 - z) * (1.0 - gate * gate)),
    )
    dh = _chosen(second, dh + ds * gate, dnew * z)
    dz = _chosen(second, nothing, dz + dnew * (h - gate))
    return Change(gates, gates, (None, dh, dz, -1.0 * dstep))


def _chosen(second: Any, a: Any, b: Any) -> Any:
    """a in the first step, b in the second."""
    if isinstance(second, Expr):
        return where(second <= 0.5, a, b)
    return np.where(second <= 0.5, a, b).astype(a.dtype)


def _elman(name: str, slope: Callable[[Any], Any]) -> Cell:
    """`h' = name(x + r)` (J. Elman, 1990); slope: its derivative, by its result."""

    def keep(f: Function, x: Values, r: Values, states: Values) -> Any:
        return (f(name, x[0] + r[0]),), ()

    def back(f: Function, kept: Values, before: Values, after: Values, dy: Values) -> Change:
        gates = (dy[0] * slope(after[0]),)
        return Change(gates, gates, (None,))

    return Cell(1, 1, _states_of(keep), 0, keep, back)


def _states_of(keep: Keep) -> Step:
    return lambda f, x, r, states: keep(f, x, r, states)[0]


def _positive(y: Any) -> Any:
    """0 where y <= 0, else 1."""
    if isinstance(y, Expr):
        return where(y <= 0.0, const(0.0, y.dtype), const(1.0, y.dtype))
    return np.where(y <= 0, 0, 1).astype(y.dtype)


CELLS: dict[str, Cell] = {
    "lstm": Cell(4, 2, _states_of(_lstm_keep), 4, _lstm_keep, _lstm_back),
    "gru": Cell(3, 1, _states_of(_gru_keep), 4, _gru_keep, _gru_back, apart=True, direct=True),
    "reset_first": Cell(
        3, 4, _states_of(_reset_first_keep), 2, _reset_first_keep, _reset_first_back
    ),
    "tanh": _elman("tanh", lambda y: 1.0 - y * y),
    "relu": _elman("relu", _positive),
}


def cell_name(node: Node) -> str:
    """The name in `CELLS` of what a node `lstm`, `gru` or `rnn` runs."""
    name: str = node["nonlinearity"] if node.op == "rnn" else node.op
    return name


def direction_of(node: Node) -> dict[str, Any]:
    """What the operators of one layer in one direction are all told: its cell and its order."""
    return {k: node[k] for k in ("cell", "batch_first", "reverse")}


def on_arrays(name: str, x: Any) -> Any:
    """The `Function` of NumPy arrays."""
    return SCALAR_OPS[name].numpy(x)
