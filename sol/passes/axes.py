"""Arithmetic of axes and shapes that several passes need: permutations, broadcasting, regrouping.

Sizes may be symbolic (`Dim`); two sizes are known to be equal only if they are the same function of
the batch size.
"""

from __future__ import annotations

from collections.abc import Sequence

from sol.core.dims import Shape, Size, evaluate
from sol.core.errors import UnsupportedError

_LARGE = 1_000_003  # a batch size at which sizes that differ are different numbers


def compose(outer: Sequence[int], inner: Sequence[int]) -> tuple[int, ...]:
    """The permutation that is `inner` first and then `outer`."""
    return tuple(inner[a] for a in outer)


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `axes`."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def to_last(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """The permutation that moves `axes` behind all others."""
    return (*(a for a in range(rank) if a not in axes), *sorted(axes))


def swap_last(rank: int) -> tuple[int, ...]:
    """The permutation that exchanges the last two axes."""
    return (*range(rank - 2), rank - 1, rank - 2)


def aligned(shape: Shape, rank: int) -> Shape:
    """The shape with ones in front, as broadcasting sees it among values of this rank."""
    return (1,) * (rank - len(shape)) + tuple(shape)


def varies_only_along(shape: Shape, rank: int, axis: int) -> bool:
    """Whether a value of `shape`, broadcast to `rank`, is constant along all axes but one."""
    return len(shape) <= rank and all(
        s == 1 for k, s in enumerate(aligned(shape, rank)) if k != axis
    )


def product(sizes: Sequence[Size]) -> Size | None:
    """Number of elements; None if it is not linear in the batch size."""
    total: Size = 1
    for s in sizes:
        try:
            total = total * s
        except UnsupportedError:
            return None
    return total


def groups(a: Shape, b: Shape) -> list[tuple[range, range]] | None:
    """The smallest runs of axes of `a` and `b` with equal numbers of elements, in order.

    They say how a reshape from `a` to `b` splits and merges axes: (64B, 3) and (B, 64, 3) give
    [(0:1, 0:2), (1:2, 2:3)]. None if the shapes do not have the same number of elements.
    """
    found: list[tuple[range, range]] = []
    i = j = 0
    while i < len(a) or j < len(b):
        end = _smallest_group(a, b, i, j)
        if end is None:
            return None
        found.append((range(i, end[0]), range(j, end[1])))
        i, j = end
    return found


def regrouped(operand: Shape, before: Shape, after: Shape) -> Shape | None:
    """The shape that an operand of a value of shape `before` needs, if the value had shape `after`.

    Each group of axes that a reshape splits or joins must be either all of size 1 in the operand,
    or as large as in the value; else None.
    """
    found = groups(before, after)
    if found is None or len(operand) > len(before):
        return None
    own = aligned(operand, len(before))
    shape: list[Size] = []
    for old, new in found:
        sizes = own[old.start : old.stop]
        if all(s == 1 for s in sizes):
            shape.extend(1 for _ in new)
        elif sizes == before[old.start : old.stop]:
            shape.extend(after[new.start : new.stop])
        else:
            return None
    return tuple(shape)


def _smallest_group(a: Shape, b: Shape, i: int, j: int) -> tuple[int, int] | None:
    """Where the group that starts at a[i], b[j] ends. Ones are kept with what stands before."""
    first, second = i, j
    while True:
        left, right = product(a[first:i]), product(b[second:j])
        if left is None or right is None:
            return None
        grown = i > first or j > second
        if grown and left == right and not _more_ones(a, i) and not _more_ones(b, j):
            return i, j
        shorter = evaluate(left, _LARGE) <= evaluate(right, _LARGE)
        if i < len(a) and (shorter or j == len(b)):
            i += 1
        elif j < len(b):
            j += 1
        else:
            return None


def _more_ones(shape: Shape, k: int) -> bool:
    return k < len(shape) and shape[k] == 1
