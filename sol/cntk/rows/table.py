"""The table of rows: which function reads which operation of CNTK.

A row gets a `Context` and its operands as `Value`s, and returns a value, or a tuple of them. Its
docstring is its line in docs/operators-cntk.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sol.cntk.codes import CODES

Row = Callable[..., Any]
ROWS: dict[int, Row] = {}
_F = TypeVar("_F", bound=Row)


def row(*names: str) -> Callable[[_F], _F]:
    """Register a function as the row of these operations."""

    def add(function: _F) -> _F:
        for name in names:
            put(name, function)
        return function

    return add


def put(name: str, function: Row) -> None:
    """Register one row."""
    code = CODES[name]
    assert code not in ROWS, f"two rows for {name}"
    ROWS[code] = function
