"""Channels last outside, channels second inside: where axes move, and why nearly nothing does.

TensorFlow's images are [N, spatial…, C], Sol's operators take [N, C, spatial…]. Rows turn inputs
and turn results back; two turns that meet vanish at once, and every other row works *under* the
turn of its operand: `relu(turn(x))` is made as `turn(relu(x))`. So a network becomes the graph that
it would be with channels second, with one turn at its input and one at its output, which are index
maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sol.core.errors import InputError
from sol.ir.graph import Node
from sol.ops.rules import broadcast
from sol.tensorflow.context import Context

Axes = tuple[int, ...]


def first_axes(rank: int) -> Axes:
    """The order that takes channels from the end to place 1."""
    return (0, rank - 1, *range(1, rank - 1))


def last_axes(rank: int) -> Axes:
    """The order that takes channels from place 1 to the end."""
    return (0, *range(2, rank), 1)


def inverse(axes: Sequence[int]) -> Axes:
    """The order that undoes another one."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def permute(c: Context, x: Node, axes: Sequence[int]) -> Node:
    """x with its axes in another order; orders of orders become one, and none nothing."""
    order = tuple(axes)
    if x.op == "permute":
        (source,) = c.made_by(x)
        order, x = tuple(x["axes"][a] for a in order), source
    return x if order == tuple(range(len(order))) else c.op("permute", x, axes=order)


def channels_first(c: Context, x: Node) -> Node:
    """[N, spatial…, C] as [N, C, spatial…]."""
    return permute(c, x, first_axes(x.tensor.rank))


def channels_last(c: Context, x: Node) -> Node:
    """[N, C, spatial…] as [N, spatial…, C]."""
    return permute(c, x, last_axes(x.tensor.rank))


def turned(c: Context, x: Node) -> tuple[Node, Axes]:
    """What stands under the turn of x, and the turn; x itself and no turn without one."""
    if x.op == "permute":
        (source,) = c.made_by(x)
        return source, x["axes"]
    return x, tuple(range(x.tensor.rank))


def pointwise(c: Context, op: str, *inputs: Node, **attrs: Any) -> Node:
    """An element-wise operator, made under the turn that its operands have."""
    rank = max(x.tensor.rank for x in inputs)
    try:
        shape = broadcast(op, *(x.shape for x in inputs))
    except InputError as error:
        c.refuse(error.what)
    turn = next((x for x in inputs if x.op == "permute" and x.shape == shape), None)
    if turn is None:
        return c.op(op, *inputs, **attrs)
    axes: Axes = turn["axes"]
    back = inverse(axes)
    operands = [_under(c, x, rank, back) for x in inputs]
    return permute(c, c.op(op, *operands, **attrs), axes)


def _under(c: Context, x: Node, rank: int, back: Axes) -> Node:
    """An operand as it broadcasts before the turn."""
    if all(size == 1 for size in x.shape):
        return c.reshape(x, ())
    wide = c.reshape(x, (1,) * (rank - x.tensor.rank) + x.shape)
    order = wide.shape
    if x.tensor.rank < rank and sum(size != 1 for size in order) == 1:
        return c.reshape(x, tuple(order[a] for a in back))  # one axis: its place is all that counts
    return permute(c, wide, back)


def reduce(c: Context, op: str, x: Node, axes: Sequence[int], keepdims: bool) -> Node:
    """A reduction, made under the turn of x."""
    source, order = turned(c, x)
    over = tuple(sorted(order[a] for a in axes))
    if not over:
        return x
    y = c.op(op, source, axes=over, keepdims=keepdims)
    if keepdims:
        return permute(c, y, order)
    kept = [a for a in order if a not in over]
    return permute(c, y, [sorted(kept).index(a) for a in kept])


def along(c: Context, op: str, x: Node, axis: int, **attrs: Any) -> Node:
    """An operator along one axis that keeps the shape, made under the turn of x."""
    source, order = turned(c, x)
    return permute(c, c.op(op, source, axis=order[axis], **attrs), order)


def concat(c: Context, inputs: Sequence[Node], axis: int) -> Node:
    """Inputs one after the other, made under the turn that one of them has."""
    turn = next((x for x in inputs if x.op == "permute"), None)
    if turn is None:
        return c.op("concat", *inputs, axis=axis)
    order: Axes = turn["axes"]
    back = inverse(order)
    y = c.op("concat", *(permute(c, x, back) for x in inputs), axis=order[axis])
    return permute(c, y, order)


def pad(
    c: Context, x: Node, low: Sequence[int], high: Sequence[int], value: float = 0.0,
    mode: str = "constant",
) -> Node:  # fmt: skip
    """x with elements added before and after each axis, made under the turn of x."""
    if not any(low) and not any(high):
        return x
    source, order = turned(c, x)
    back = inverse(order)
    lows, highs = (tuple(int(side[a]) for a in back) for side in (low, high))
    y = c.op("pad", source, low=lows, high=highs, mode=mode, value=value)
    return permute(c, y, order)


def slice_axes(c: Context, x: Node, cuts: Sequence[tuple[int, Any, Any, int]]) -> Node:
    """(axis, start, stop, step) of x, made under the turn of x."""
    source, order = turned(c, x)
    for axis, start, stop, step in cuts:
        source = c.slice(source, order[axis], start, stop, step)
    return permute(c, source, order)
