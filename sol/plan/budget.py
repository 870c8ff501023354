"""Memory as a budget: how many images at a time, and which implementation of each layer, so that a
call stays within what the user allows.

In: what a network needs (`Demand`) and for each layer the ways to compute it, the preferred first
(`Way`). Out: the preferred choice, changed as little as it takes: first fewer images at a time,
then the smallest way for the largest layers. The compiler makes both and obeys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LINE, _PAGE = 64, 4096


@dataclass(frozen=True, slots=True)
class Way:
    """Bytes of one way to compute a layer: of weights that are kept for it, and of scratch memory
    of one thread."""

    kept: int
    scratch: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What a network needs in any case, in bytes: intermediates of a pass, per image and fixed;
    those of one image that each thread may have; tables of the runtime for each thread; weights
    kept beside those of layers; and the threads."""

    per_image: int
    constant: int
    own: int
    tables: int
    kept: int
    threads: int

    def intermediates(self, images: int) -> int:
        """For this many images at a time, with tables."""
        own = min(images, self.threads) * _up(self.own, _LINE)
        tables = self.threads * _up(self.tables, _LINE)
        return _up(self.per_image * images + self.constant, _LINE) + own + tables

    def scratch(self, ways: Sequence[Way]) -> int:
        """For all threads: what the greediest layer needs."""
        return _PAGE + self.threads * _up(max((w.scratch for w in ways), default=0), _PAGE)

    def weights(self, ways: Sequence[Way]) -> int:
        """Kept all the time."""
        return self.kept + sum(w.kept for w in ways)

    def total(self, ways: Sequence[Way], images: int) -> int:
        """The peak: an arena of whole pages (run.c, `sol_arena_bytes`), and weights."""
        arena = self.intermediates(images) + self.scratch(ways)
        return _up(arena, _PAGE) + self.weights(ways)


@dataclass(frozen=True, slots=True)
class Fit:
    """What was chosen: images at a time, for each layer the number of its way; and the total."""

    images: int
    chosen: tuple[int, ...]
    total: int


def fit(demand: Demand, layers: Sequence[Sequence[Way]], images: int, budget: int) -> Fit:
    """The choice nearest to the first ways and `images` at a time that is within the budget.

    If there is none it is the smallest possible one; its total says so.
    """
    chosen = [0] * len(layers)

    def total(images: int) -> int:
        return demand.total([ways[k] for ways, k in zip(layers, chosen)], images)

    def gain(number: int) -> int:
        first, least = layers[number][0], layers[number][_least(layers[number], demand)]
        return _both(first, demand) - _both(least, demand)

    order = [k for k in sorted(range(len(layers)), key=gain, reverse=True) if gain(k) > 0]
    given_up = []
    for number in order:
        if total(1) <= budget:
            break
        chosen[number] = _least(layers[number], demand)
        given_up.append(number)
    for number in given_up if total(1) <= budget else ():  # what a larger one has made needless
        kept, chosen[number] = chosen[number], 0
        if total(1) > budget:
            chosen[number] = kept
    while images > 1 and total(images) > budget:
        images -= 1
    return Fit(images, tuple(chosen), total(images))


def _least(ways: Sequence[Way], demand: Demand) -> int:
    return min(range(len(ways)), key=lambda k: _both(ways[k], demand))


def _both(way: Way, demand: Demand) -> int:
    return way.kept + demand.threads * way.scratch


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
