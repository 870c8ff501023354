"""Whether a mask of attention may hide everything from a query.

A row of -inf makes NaN of a softmax that is written out, and 0 of attention: only masks that cannot
have such a row may go from one to the other (passes/attention.py). Constants are looked at;
parameters are taken to be finite, and so are sums and products of finite numbers; what an input of
the network holds is not known.
"""

from __future__ import annotations

import math

import numpy as np

from sol.ir.graph import Node
from sol.ir.rewriter import Rewriter

# give finite numbers for finite inputs, but for overflows
_KEEP_FINITE = frozenset(
    {"add", "sub", "mul", "neg", "abs", "square", "where", "clamp", "relu", "sigmoid", "tanh"}
    | {"cast", "reshape", "permute", "expand", "slice", "concat", "take", "gather", "index", "roll"}
    | {"flip", "tril", "triu", "repeat", "linear", "conv", "select_assign", "slice_assign", "iota"}
)
_KEEP_ROWS = frozenset({"add", "expand"})  # a row of the result has all elements of the input's row


def infinities(
    rw: Rewriter, mask: Node, rows: bool = True, seen: dict[str, int | None] | None = None
) -> int | None:
    """How many constants with some -inf, but no whole row of it, are added up in a mask.

    None if there may be such a row. `rows`: the mask's rows are rows of what is computed with it.
    """
    seen = {} if seen is None else seen
    if mask.name not in seen:
        seen[mask.name] = _infinities(rw, mask, rows, seen)
    return seen[mask.name]


def _infinities(rw: Rewriter, mask: Node, rows: bool, seen: dict[str, int | None]) -> int | None:
    number = rw.number(mask)
    if number is not None:
        return 0 if math.isfinite(number) else None
    if mask.op == "constant":
        return _of_constant(mask, rows)
    if mask.op == "parameter" or mask.dtype.kind != "float":
        return 0
    if mask.op not in _KEEP_FINITE:
        return None
    total = 0
    for operand in rw.inputs_of(mask):
        found = infinities(rw, operand, rows and mask.op in _KEEP_ROWS, seen)
        if found is None:
            return None
        total += found
    return total


def _of_constant(mask: Node, rows: bool) -> int | None:
    values = mask["value"].array
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return 0
    return 1 if rows and not hides_a_row(~np.isfinite(values)) else None


def hides_a_row(hidden: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> bool:
    """Whether all elements of a row, along the last axis, are hidden."""
    return bool(hidden.all(axis=-1).any() if hidden.ndim else hidden)
