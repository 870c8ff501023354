"""Index maps that operators share: broadcasting, reshaping, windows, indices that come from data.

An index map takes the index of a result's element to the index of an input's element; both are
tuples of int64 expressions (ir/expr.py), which simplify themselves while they are built.
"""

from __future__ import annotations

from collections.abc import Sequence

from sol.core.dims import Shape, Size, coefficients, product
from sol.core.dtypes import I64
from sol.ir.expr import Expr, ReduceKind, apply, axis, cast, const, from_linear, reduce, where
from sol.ir.graph import Node
from sol.ops.registry import Index, Read

TRUE = const(True)


def size(value: Size) -> Expr:
    """A size as an index expression."""
    return from_linear(value, {})


def axes_of(node: Node, extents: Sequence[Size]) -> tuple[Expr, ...]:
    """Fresh axes for a reduction inside `node`, named after it; 0 where there is only index 0."""
    return tuple(
        const(0) if extent == 1 else axis(f"{node.name}_k{n}", extent)
        for n, extent in enumerate(extents)
    )


def over(kind: ReduceKind, bound: Sequence[Expr], body: Expr) -> Expr:
    """The reduction of body over what `axes_of` gave; the body itself if that is one place."""
    axes = [a for a in bound if a.op == "axis"]
    return reduce(kind, axes, body) if axes else body


def broadcast_index(index: Index, shape: Shape) -> tuple[Expr, ...]:
    """The index into an input of `shape` that is broadcast to the result: 0 where its size is 1."""
    tail = index[len(index) - len(shape) :]
    return tuple(const(0) if s == 1 else i for i, s in zip(tail, shape))


def read_broadcast(x: Read, index: Index) -> Expr:
    """The element of x that broadcasting puts at `index`."""
    return x(*broadcast_index(index, x.shape))


def inside(position: Expr, low: Size, high: Size) -> Expr:
    """low <= position < high; constant where the bounds of the position show it."""
    return (position >= size(low)) & (position < size(high))


def all_of(conditions: Sequence[Expr]) -> Expr:
    """The conjunction of conditions."""
    total = TRUE
    for condition in conditions:
        total = total & condition
    return total


def from_data(position: Expr, extent: Size) -> Expr:
    """An index that was read from a tensor: negative counts from the end, then clamped to the axis.

    Frameworks refuse an index out of range; generated code must not read out of range either way.
    """
    position = cast(position, I64)
    wrapped = where(position < 0, position + size(extent), position)
    return clamp(wrapped, 0, extent - 1)


def clamp(position: Expr, low: Size, high: Size) -> Expr:
    """min(max(position, low), high) of an index."""
    return apply("min", apply("max", position, size(low)), size(high))


def reshape_index(index: Index, shape: Shape, source: Shape) -> tuple[Expr, ...]:
    """Index into `source` of the element at `index` of `shape`, both in row-major order.

    Axes are matched in the smallest groups of equal size, so that only axes that merge or split
    get a division: [B, 4, 9] -> [B, 2, 2, 9] leaves the first and the last axis alone.
    """
    if 0 in shape:
        return tuple(const(0) for _ in source)
    result: list[Expr] = []
    for targets, sources in groups(shape, source):
        flat = const(0)
        for t in targets:
            flat = flat * size(shape[t]) + (const(0) if shape[t] == 1 else index[t])
        result.extend(_unflatten(flat, [source[s] for s in sources]))
    return tuple(result)


def _unflatten(flat: Expr, sizes: Sequence[Size]) -> list[Expr]:
    """The index into `sizes` of element number `flat`."""
    result: list[Expr] = []
    leading = True
    for n, extent in enumerate(sizes):
        if extent == 1:
            result.append(const(0))
            continue
        step = product(sizes[n + 1 :])
        position = flat if step == 1 else flat // size(step)
        result.append(position if leading else position % size(extent))
        leading = False
    return result


Groups = list[tuple[list[int], list[int]]]


def groups(a: Shape, b: Shape) -> Groups:
    """Runs of axes of a and b with equal numbers of elements, the shortest ones: [6, 5] and
    [2, 3, 5] -> ([0], [0, 1]), ([1], [2])."""
    found: Groups = []
    i = j = 0
    while i < len(a) or j < len(b):
        left, right, i, j = _group(a, b, i, j)
        found.append((left, right))
    return found


def _group(a: Shape, b: Shape, i: int, j: int) -> tuple[list[int], list[int], int, int]:
    left: list[int] = []
    right: list[int] = []
    product_a: Size = 1
    product_b: Size = 1
    while not (left or right) or product_a != product_b:
        # sizes compare as they do for a large batch; the products only ever grow towards each other
        if i < len(a) and (j >= len(b) or coefficients(product_a) <= coefficients(product_b)):
            product_a = product_a * a[i]
            left.append(i)
            i += 1
        else:
            product_b = product_b * b[j]
            right.append(j)
            j += 1
    return left, right, i, j
