"""What is known of a mask of attention: whether it may hide everything from a query, and whether it
is the causal one.

A row of -inf makes NaN of a softmax that is written out, and 0 of attention: only masks that cannot
have such a row may go from one to the other (passes/attention.py). Constants are looked at;
parameters are taken to be finite, and so are sums and products of finite numbers; what an input of
the network holds is not known.
"""

from __future__ import annotations

import math

import numpy as np

from sol.core.dims import Shape
from sol.ir.graph import Node
from sol.ir.rewriter import Rewriter
from sol.ops.reference import Array, evaluate_node
from sol.passes.axes import aligned

LOWEST_SUM = -1e30  # what is this low stays the same number when a score is added to it
_LARGEST = 1 << 24  # elements of a mask that is looked at

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


# ---- the causal mask ----------------------------------------------------------


def is_causal(rw: Rewriter, mask: Node, scores: Shape) -> bool:
    """Whether a mask lets query i attend to the keys 0 … i, as `causal` does, and says no more.

    `scores` are the numbers of queries and keys.
    """
    queries, keys = scores
    *lead, rows, columns = aligned(mask.shape, max(mask.tensor.rank, 2))
    if (rows, columns) != (queries, keys) or any(s != 1 for s in lead):
        return False
    allowed = _allowed(rw, mask)
    if allowed is None or not isinstance(queries, int) or not isinstance(keys, int):
        return False
    return bool(np.array_equal(allowed.reshape(queries, keys), np.tri(queries, keys)))


def _allowed(rw: Rewriter, mask: Node) -> Array | None:
    """Where a mask lets attend, as booleans, if it is known and does nothing else."""
    inputs = rw.inputs_of(mask)
    match mask.op:
        case "constant":
            return _of_values(mask["value"].array)
        case "le" | "lt" | "ge" | "gt" if all(i.op == "constant" for i in inputs):
            if math.prod(s for s in mask.shape if isinstance(s, int)) > _LARGEST:
                return None
            value = evaluate_node(mask, *(i["value"].array for i in inputs))
            assert not isinstance(value, tuple), "a comparison has one result"
            return value
        case "where":
            zero, low = (rw.number(i) for i in inputs[1:])
            condition = _allowed(rw, inputs[0]) if inputs[0].dtype.kind == "bool" else None
            if condition is None or zero is None or low is None:
                return None
            if inputs[0].shape != mask.shape:
                return None
            if zero == 0 and low <= LOWEST_SUM:
                return condition
            return ~condition if low == 0 and zero <= LOWEST_SUM else None
        case _:
            return None


def _of_values(values: Array) -> Array | None:
    if values.dtype.kind == "b":
        return values
    if values.dtype.kind != "f" or not ((values == 0) | (values <= LOWEST_SUM)).all():
        return None
    allowed: Array = values == 0
    return allowed
