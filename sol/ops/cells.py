"""Recurrent cells: what one hidden unit does with its gates at one step of time.

`Cell.step` is written once, over any kind of number that adds and multiplies: NumPy arrays (the
reference of ops/recurrent.py) or index expressions (the generated kernel of kernels/recurrent.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sol.ir.expr import SCALAR_OPS
from sol.ir.graph import Node

Function = Callable[[str, Any], Any]  # a scalar operation of one argument, by its name
Values = Sequence[Any]
Step = Callable[[Function, Values, Values, Values], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Cell:
    """A recurrent cell.

    gates: gates of a hidden unit; states: values that it keeps from step to step, its output first.
    step(function, x, r, states) -> new states, where x and r hold for each gate its share of the
        input, w_ih x + b_ih, and of the state before, w_hh h + b_hh.
    """

    gates: int
    states: int
    step: Step


def _lstm(f: Function, x: Values, r: Values, states: Values) -> tuple[Any, ...]:
    """`c' = σ(f) c + σ(i) tanh(g)`, `h' = σ(o) tanh(c')` (Hochreiter and Schmidhuber, 1997)."""
    i, forget, g, o = (a + b for a, b in zip(x, r))
    c = f("sigmoid", forget) * states[1] + f("sigmoid", i) * f("tanh", g)
    return f("sigmoid", o) * f("tanh", c), c


def _gru(f: Function, x: Values, r: Values, states: Values) -> tuple[Any, ...]:
    """`h' = (1 - z) n + z h` with `n = tanh(x_n + σ(r) r_n)` (K. Cho et al., 2014)."""
    reset, update = f("sigmoid", x[0] + r[0]), f("sigmoid", x[1] + r[1])
    n = f("tanh", x[2] + reset * r[2])
    return (n + update * (states[0] - n),)


def _elman(name: str) -> Step:
    """`h' = name(x + r)` (J. Elman, 1990)."""

    def step(f: Function, x: Values, r: Values, states: Values) -> tuple[Any, ...]:
        return (f(name, x[0] + r[0]),)

    return step


CELLS: dict[str, Cell] = {
    "lstm": Cell(4, 2, _lstm),
    "gru": Cell(3, 1, _gru),
    "tanh": Cell(1, 1, _elman("tanh")),
    "relu": Cell(1, 1, _elman("relu")),
}


def cell_name(node: Node) -> str:
    """The name in `CELLS` of what a node `lstm`, `gru` or `rnn` runs."""
    name: str = node["nonlinearity"] if node.op == "rnn" else node.op
    return name


def on_arrays(name: str, x: Any) -> Any:
    """The `Function` of NumPy arrays."""
    return SCALAR_OPS[name].numpy(x)
