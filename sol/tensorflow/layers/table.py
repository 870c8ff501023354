"""The table of rows for Keras layers: which function says a layer in operators of Sol.

A row gets the context, the layer and the values of its call. Only layers of exactly these classes
have rows: a subclass may compute anything. Layers without one are traced as TensorFlow (models.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.tensorflow.context import Context

Row = Callable[..., Any]
LAYERS: dict[type, Row] = {}
_F = TypeVar("_F", bound=Row)


def layer(*classes: type) -> Callable[[_F], _F]:
    """Register a function as the row of these classes."""

    def add(function: _F) -> _F:
        for each in classes:
            assert each not in LAYERS, f"two rows for {each}"
            LAYERS[each] = function
        return function

    return add


def weight(c: Context, variable: Any) -> Node:
    """The node of a variable of Keras."""
    if str(variable.dtype) != F32.numpy:
        c.refuse(f"a weight of type {variable.dtype}")
    own = variable._value  # not `value`: a layer that is being called may convert that
    return c.reading.parameter(own, variable.path, tuple(variable.shape), F32)


def optional(c: Context, variable: Any) -> Node | None:
    """The node of a variable that a layer may do without."""
    return None if variable is None else weight(c, variable)


def is_last(layer: Any) -> bool:
    """Whether a layer has its channels last."""
    return str(layer.data_format) != "channels_first"
