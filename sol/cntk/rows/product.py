"""Rows of products of matrices."""

from __future__ import annotations

from math import prod

from sol.cntk.rows.table import row
from sol.cntk.value import Context, Value
from sol.core.dtypes import I64
from sol.ir.graph import Node

_REDUCES_SEQUENCE = -2


@row("Times")
def times(c: Context, left: Value, right: Value) -> Value:
    """`y[…, o…] = Σ right[…, k…] * left[k…, o…]`, in the order that Python writes `right @ left`"""
    if c.attribute("inferInputRankToMap", int, -1) <= _REDUCES_SEQUENCE:
        c.refuse("a sum over the steps of a sequence")
    return _product(c, left, right, False)


@row("TransposeTimes")
def transpose_times(c: Context, left: Value, right: Value) -> Value:
    """`y[…, o…] = Σ right[…, k…] * left[o…, k…]`"""
    return _product(c, left, right, True)


def _product(c: Context, left: Value, right: Value, transposed: bool) -> Value:
    """Matrices of both, with all axes that are summed over as one."""
    rank = c.attribute("outputRank", int, 1)
    if transposed and left.rank == 1:  # a column, so its transpose is a row
        left = c.keep(left, c.reshape(left.node, (*left.lead, 1, *left.shape)))
    inner = left.rank - rank
    if not 0 < rank <= left.rank or inner > right.rank:
        c.refuse(f"operands with {right.rank} and {left.rank} axes, {rank} of them of the result")
    sizes, given = c.sizes_of(left), c.sizes_of(right)
    summed = sizes[rank:] if transposed else sizes[:inner]
    result = sizes[:rank] if transposed else sizes[inner:]
    rows = given[: right.rank - inner]
    if given[right.rank - inner :] != summed:
        c.refuse(f"a product of {given} and {sizes}")
    k, m = prod(summed), prod(result)
    second = (m, k) if transposed else (k, m)
    if not left.axes:
        found = _taken(c, left, right) if inner == 1 and not transposed else None
        if found is not None:
            return found
        x = c.reshape(right.node, (*right.lead, *rows, k))
        weight = c.reshape(left.node, second)
        weight = weight if transposed else c.permute(weight, (1, 0))
        lone = x.tensor.rank == 1
        y = c.op("linear", c.reshape(x, (1, k)) if lone else x, weight)
        return c.keep(right, c.reshape(y, (*right.lead, *rows, *result)))
    a = Value(c.reshape(right.node, (*right.lead, prod(rows), k)), right.axes)
    b = Value(c.reshape(left.node, (*left.lead, *second)), left.axes)
    (x, y), axes = c.aligned(a, b)
    y = _turned(c, y) if transposed else y
    return _shaped(c, c.op("matmul", x, y), axes, (*rows, *result))


def _taken(c: Context, weight: Value, right: Value) -> Value | None:
    """Rows of a weight where the other operand is one of `OneHot`: an embedding. A number that is
    no class gives 0."""
    node = right.node
    ones = c.builder[node.inputs[0]] if node.op == "cast" else node
    if ones.op != "one_hot":
        return None
    index, (classes, *_) = c.builder[ones.inputs[0]], c.sizes_of(weight)
    first, last = c.constant(0, I64), c.constant(classes - 1, I64)
    inside = c.op("min", c.op("max", index, first), last)
    rows = c.op("take", weight.node, inside, axis=0)
    there = c.op("eq", index, inside)
    ends = (1,) * (weight.rank - 1)
    there = c.reshape(there, (*index.shape, *ends))
    return c.keep(right, c.op("where", there, rows, c.constant(0.0)))


def _turned(c: Context, x: Node) -> Node:
    last = x.tensor.rank - 1
    return c.permute(x, (*range(last - 1), last, last - 1))


def _shaped(c: Context, node: Node, axes: tuple[str, ...], sizes: tuple[int, ...]) -> Value:
    lead = node.shape[: len(axes)]
    return Value(c.reshape(node, (*lead, *sizes)), axes)
