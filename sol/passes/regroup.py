"""Reshapes around permutes in one order: first axes are split, then permuted, then joined.

So permutes meet each other and become one, or vanish. Axes of size 1 are no hindrance. Rules of the
pass `canonical`; each is `before -> after` in the docstring of its function.
"""

from __future__ import annotations

from dataclasses import dataclass

from sol.core.dims import Shape
from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter
from sol.passes.axes import groups, inverse


@dataclass(frozen=True, slots=True)
class _Group:
    """Axes of a value before a reshape, and those that hold the same elements after it."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def _groups(before: Shape, after: Shape) -> list[_Group] | None:
    """The groups of a reshape; each axis of size 1 belongs to the group in front of it."""
    old, new = _large(before), _large(after)
    found = groups(tuple(before[k] for k in old), tuple(after[k] for k in new))
    if found is None:
        return None
    return [
        _Group(_with_ones(a.start, a.stop, old, before), _with_ones(b.start, b.stop, new, after))
        for a, b in found
    ]


def _large(shape: Shape) -> list[int]:
    return [k for k, s in enumerate(shape) if s != 1]


def _with_ones(start: int, stop: int, large: list[int], shape: Shape) -> tuple[int, ...]:
    """The axes large[start:stop], and the axes of size 1 up to the next large one."""
    first = 0 if start == 0 else large[start]
    last = len(shape) if stop == len(large) else large[stop]
    return tuple(range(first, last))


def _splits(found: list[_Group], before: Shape, after: Shape) -> tuple[bool, bool]:
    """Whether any axis is split, and whether any axes are joined."""
    sizes = [
        (sum(before[k] != 1 for k in g.before), sum(after[k] != 1 for k in g.after)) for g in found
    ]
    return any(new > 1 for _, new in sizes), any(old > 1 for old, _ in sizes)


def _order(found: list[_Group], middle: Shape, axes: tuple[int, ...]) -> list[_Group] | None:
    """The groups in the order that a permute gives them; None if it takes one apart."""
    place = {a: k for k, a in enumerate(a for a in axes if middle[a] != 1)}
    starts: list[tuple[int, _Group]] = []
    for group in found:
        spots = [place[a] for a in group.after if middle[a] != 1]
        if not spots or spots != list(range(spots[0], spots[0] + len(spots))):
            return None
        starts.append((spots[0], group))
    return [group for _, group in sorted(starts, key=lambda pair: pair[0])]


def _moved(rw: Rewriter, x: Node, order: list[_Group], shape: Shape) -> Node:
    """x with its groups of axes in this order, then reshaped."""
    axes = tuple(a for group in order for a in group.before)
    still = axes == tuple(range(len(axes)))
    moved = x if still else rw.add("permute", x, axes=axes)
    return rw.add("reshape", moved, shape=shape)


def _join_later(rw: Rewriter, m: Match) -> Node | None:
    """`permute(reshape(x))` -> `reshape(permute(x))`, where the reshape joins axes"""
    x, middle = m["x"], m["inner"].shape
    found = _groups(x.shape, middle)
    if found is None or _splits(found, x.shape, middle)[0]:
        return None
    order = _order(found, middle, m.root["axes"])
    return None if order is None else _moved(rw, x, order, m.root.shape)


def _split_earlier(rw: Rewriter, m: Match) -> Node | None:
    """`reshape(permute(x))` -> `permute(reshape(x))`, where the reshape splits axes"""
    x, middle, axes = m["x"], m["p"].shape, m["p"]["axes"]
    found = _groups(middle, m.root.shape)
    if found is None or _splits(found, middle, m.root.shape) != (True, False):
        return None
    by_source = sorted(found, key=lambda group: min(_sources(group, middle, axes)))
    shape = tuple(m.root.shape[k] for group in by_source for k in group.after)
    now = [k for group in by_source for k in group.after]
    return rw.add("permute", rw.add("reshape", x, shape=shape), axes=inverse(now))


def _sources(group: _Group, middle: Shape, axes: tuple[int, ...]) -> list[int]:
    """The axes of the permute's input that a group comes from."""
    return [axes[k] for k in group.before if middle[k] != 1] or [0]


def _never_apart(rw: Rewriter, m: Match) -> Node | None:
    """`reshape(permute(reshape(x)))` -> `reshape(permute(x))`, if what is split stays together"""
    x, middle = m["x"], m["inner"].shape
    found = _groups(x.shape, middle)
    if found is None:
        return None
    order = _order(found, middle, m["p"]["axes"])
    return None if order is None else _moved(rw, x, order, m.root.shape)


RULES: tuple[Rule, ...] = (
    rule("permute(reshape:inner(x))", _join_later),
    rule("reshape(permute:p(reshape:inner(x)))", _never_apart),
    rule("reshape(permute:p(x))", _split_earlier),
)
