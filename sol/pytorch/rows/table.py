"""The table of rows: which function translates which ATen operator.

Names are those of PyTorch's operators without `aten.`; `relu` stands for `relu.default`. What is
neither here nor decomposed by PyTorch's own rules into operators that are here runs in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sol.pytorch.context import Context, Result

Row = Callable[..., Any]
ROWS: dict[str, Row] = {}
_F = TypeVar("_F", bound=Row)


def row(*names: str) -> Callable[[_F], _F]:
    """Register a function as the row of these operators."""

    def add(function: _F) -> _F:
        for name in names:
            put(name, function)
        return function

    return add


def put(name: str, function: Row) -> None:
    """Register one row."""
    key = "aten." + (name if "." in name else name + ".default")
    assert key not in ROWS, f"two rows for {key}"
    ROWS[key] = function


def simple(op: str, *attrs: str, floating: bool = True) -> Row:
    """A row for an operator with one tensor: further arguments are the attributes, as floats."""

    def translate(c: Context, x: Any, *values: float) -> Result:
        given = {name: float(value) for name, value in zip(attrs, values)}
        return c.op(op, c.floating(x) if floating else x, **given)

    return translate
