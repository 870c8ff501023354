"""The table of rows: which function says an operator of ONNX in operators of Sol.

A row takes a `Call` and returns a node, an array where the result is known, or a tuple of them for
several results. It handles all versions from `since` on, opset 7 if nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sol.onnx.values import Call, Results

Translate = Callable[[Call], Results]
_F = TypeVar("_F", bound=Translate)


@dataclass(frozen=True)
class Row:
    """How an operator is read, and the first operator set that it is read from."""

    translate: Translate
    since: int = 1


ROWS: dict[str, Row] = {}


def row(*names: str, since: int = 1) -> Callable[[_F], _F]:
    """Register a function as the row of these operators."""

    def add(function: _F) -> _F:
        for name in names:
            put(name, function, since)
        return function

    return add


def put(name: str, function: Translate, since: int = 1) -> None:
    """Register one row."""
    assert name not in ROWS, f"two rows for {name}"
    ROWS[name] = Row(function, since)
