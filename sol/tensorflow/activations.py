"""Keras' activation functions as operators of Sol, and the arithmetic that they share.

`ACTIVATIONS` is keyed by the function itself, as layers hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.tensorflow.context import Context
from sol.tensorflow.layout import along, pointwise

Activation = Callable[[Context, Node], Node]
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def scalar(c: Context, op: str, x: Node, value: float) -> Node:
    """`op(x, value)` with a number."""
    return pointwise(c, op, x, c.constant(value, x.dtype))


def clamp(c: Context, x: Node, low: float | None, high: float | None) -> Node:
    """x within bounds."""
    return pointwise(c, "clamp", x, low=low, high=high)


def leaky(c: Context, x: Node, slope: float) -> Node:
    """x where it is positive, else `slope * x`."""
    return pointwise(c, "leaky_relu", x, slope=float(slope))


def elu(c: Context, x: Node, alpha: float = 1.0, scale: float = 1.0) -> Node:
    """Exponential linear units."""
    attrs = {"alpha": float(alpha), "scale": float(scale), "input_scale": 1.0}
    return pointwise(c, "elu", x, **attrs)


def softmax(c: Context, x: Node, axis: int = -1, op: str = "softmax") -> Node:
    """softmax or log_softmax along one axis."""
    return along(c, op, x, c.axis(axis, x.tensor.rank))


def relu_with(c: Context, x: Node, slope: float, most: float | None, threshold: float) -> Node:
    """Keras' `relu` with all its arguments: slope below a threshold, and a largest value."""
    if threshold != 0:
        above = scalar(c, "gt", x, threshold)
        below = scalar(c, "mul", scalar(c, "sub", x, threshold), slope) if slope else None
        below = below or scalar(c, "mul", x, 0.0)
        y = pointwise(c, "where", above, x, below)
    else:
        y = leaky(c, x, slope) if slope else pointwise(c, "relu", x)
    return y if most is None else clamp(c, y, None, float(most))


def _plain(op: str, **attrs: Any) -> Activation:
    return lambda c, x: pointwise(c, op, x, **attrs)


def _gelu(c: Context, x: Node) -> Node:
    return pointwise(c, "gelu", x, approximate="none")


def _linear(c: Context, x: Node) -> Node:
    return x


def _selu(c: Context, x: Node) -> Node:
    return elu(c, x, _SELU_ALPHA, _SELU_SCALE)


def _squared(c: Context, x: Node) -> Node:
    """(x + √(x² + 4)) / 2"""
    root = pointwise(c, "sqrt", scalar(c, "add", pointwise(c, "square", x), 4.0))
    return scalar(c, "mul", pointwise(c, "add", x, root), 0.5)


_A = keras.activations
ACTIVATIONS: dict[Any, Activation] = {
    _A.linear: _linear,
    _A.relu: _plain("relu"),
    _A.relu6: lambda c, x: clamp(c, x, 0.0, 6.0),
    _A.sigmoid: _plain("sigmoid"),
    _A.tanh: _plain("tanh"),
    _A.silu: _plain("silu"),
    _A.gelu: _gelu,
    _A.elu: elu,
    _A.selu: _selu,
    _A.softplus: _plain("softplus", beta=1.0, threshold=20.0),
    _A.softsign: _plain("softsign"),
    _A.exponential: _plain("exp"),
    _A.hard_sigmoid: _plain("hardsigmoid"),
    _A.hard_silu: _plain("hardswish"),
    _A.hard_tanh: lambda c, x: clamp(c, x, -1.0, 1.0),
    _A.mish: _plain("mish"),
    _A.log_sigmoid: _plain("log_sigmoid"),
    _A.tanh_shrink: _plain("tanhshrink"),
    _A.soft_shrink: _plain("softshrink", lambd=0.5),
    _A.hard_shrink: _plain("hardshrink", lambd=0.5),
    _A.leaky_relu: lambda c, x: leaky(c, x, 0.2),
    _A.squareplus: _squared,
    _A.softmax: softmax,
    _A.log_softmax: lambda c, x: softmax(c, x, op="log_softmax"),
}


def activate(c: Context, x: Node, function: Any) -> Node:
    """What an activation makes of x; one that is not in the table is refused."""
    if function is None:
        return x
    known = ACTIVATIONS.get(function) if callable(getattr(function, "__hash__", None)) else None
    if known is None:
        c.refuse(f"the activation {getattr(function, '__name__', function)} has no row")
    return known(c, c.cast(x, F32))
