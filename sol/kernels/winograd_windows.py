"""Windows of a pooling over the results of one tile of Winograd's algorithm (plan/pooled.py).

Tiles are a multiple of the windows, so that each window lies in one tile. Called by
kernels/winograd.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from sol.ir.expr import Expr, apply, const, linear, rebuild, substitute, walk
from sol.kernels.winograd_layer import Layer
from sol.lower.nest import COMBINE
from sol.lower.ranges import fixed_extent
from sol.plan.inline import Inliner, axes_for
from sol.plan.pooled import Pooled
from sol.plan.records import Plan

Position = tuple[int, ...]


class Windows:
    """The windows of a tile: `element` is the value of one of them."""

    def __init__(self, plan: Plan, pooled: Pooled, layer: Layer, channel: Mapping[Expr, Expr]):
        sink = plan.graph[pooled.sink]
        self.pooled, self.layer = pooled, layer
        self.axes = axes_for(sink)
        self._channel = dict(channel)
        self._places = [fixed_extent(a) for a in self.axes[2:]]
        self._value = _unrolled(Inliner(plan.graph, plan.stored).meaning(sink.name, self.axes))
        self._reads = {
            p: self._inside(p)
            for p in walk(self._value)
            if p.op == "load" and p.value == pooled.hidden
        }

    def _inside(self, read: Expr) -> Position:
        """Which of the results of its window a load reads."""
        steps = zip(read.args[2:], self.axes[2:], self.pooled.size)
        found = [linear(index - along * n)[0] for index, along, n in steps]
        return tuple(int(k) for k in found if isinstance(k, int))

    @property
    def positions(self) -> list[Position]:
        """Of the windows in a tile."""
        along = zip(self.layer.spatial, self.pooled.size)
        return list(itertools.product(*(range(s.transform.m // n) for s, n in along)))

    def index(self, starts: Sequence[Expr], window: Position) -> tuple[Expr, ...]:
        """Of a window's result; starts: the first result of the tile."""
        moved = self._moved(starts, window)
        return tuple(substitute(a, moved) for a in self.axes)

    def element(
        self, starts: Sequence[Expr], window: Position, result: Callable[[Position], Expr]
    ) -> Expr:
        """A window's result, given those of the tile."""
        first = [k * n for k, n in zip(window, self.pooled.size)]
        reads = {
            read: result(tuple(f + k for f, k in zip(first, inside)))
            for read, inside in self._reads.items()
        }
        return substitute(self._value, {**reads, **self._moved(starts, window)})

    def exists(self, starts: Sequence[Expr], window: Position) -> Expr:
        """Whether the map has this window of a tile: those at the end may not be whole."""
        present = const(True)
        places = [self._moved(starts, window)[a] for a in self.axes[2:]]
        for place, count, n, along in zip(
            places, self._places, self.pooled.size, self.layer.spatial
        ):
            if along.tiles * along.transform.m != count * n:
                present = present & (place < count)
        return present

    def _moved(self, starts: Sequence[Expr], window: Position) -> dict[Expr, Expr]:
        places = [s // n + k for s, n, k in zip(starts, self.pooled.size, window)]
        return {**self._channel, **dict(zip(self.axes[2:], places))}


def _unrolled(x: Expr) -> Expr:
    """x with the elements of its reductions, which are those of a window, written out."""
    memo: dict[Expr, Expr] = {}
    for part in walk(x):
        if part.op != "reduce":
            memo[part] = rebuild(part, [memo[a] for a in part.args]) if part.args else part
            continue
        body, axes = memo[part.args[0]], part.args[1:]
        elements = (
            substitute(body, {a: const(k) for a, k in zip(axes, at)})
            for at in itertools.product(*(range(fixed_extent(a)) for a in axes))
        )
        total = next(elements)
        for element in elements:
            total = apply(COMBINE[part.value], total, element)
        memo[part] = total
    return memo[x]
