"""The table of rows for operations of TensorFlow's graphs, by the name of the operation.

A row gets the context and the inputs: nodes, or `Known` values. Attributes are `c.attrs[name]`. It
returns a value, or a tuple where the operation has several results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Row = Callable[..., Any]
OPERATIONS: dict[str, Row] = {}
_F = TypeVar("_F", bound=Row)


def operation(*names: str) -> Callable[[_F], _F]:
    """Register a function as the row of these operations."""

    def add(function: _F) -> _F:
        for name in names:
            assert name not in OPERATIONS, f"two rows for {name}"
            OPERATIONS[name] = function
        return function

    return add
