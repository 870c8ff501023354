"""Training in less memory: a network in segments, of which only the borders are kept.

The backward computation takes one segment after the other, the last one first, and computes again
what the forward computation had in it (T. Chen et al., "Training Deep Nets with Sublinear Memory
Cost", 2016). So only one segment's values are in memory at a time, beside the borders, and every
layer runs at most once more. In: what is kept without that (partition.py). Out: the values at
borders; all others may be computed again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from sol.core.dims import concrete
from sol.ir.graph import Graph, Node
from sol.passes.order import early
from sol.passes.partition import Halves

_BATCH = 4  # for which bytes are compared


def kept_bytes(halves: Halves, batch: int = _BATCH) -> float:
    """Of what is kept, inputs and results aside, by default for the batch that is compared."""
    forward = halves.forward
    return sum(_bytes(forward[n], batch) for n in forward.outputs[halves.results :])


def checkpoints(halves: Halves, weight: int, behind: int) -> frozenset[str]:
    """The values at borders of segments: between two operators, where values that take few bytes
    are read later.

    While the backward computation is in a segment, the borders before it and what it keeps are in
    memory, and `behind` values as large as the border behind it, or as the results. The sum of that
    over all segments, to the power of `weight`, is the least: the larger the weight, the more the
    largest segment counts.
    """
    graph = early(halves.forward, halves.forward.outputs[: halves.results])
    kept = set(graph.outputs[halves.results :])
    order = [n for n in graph if n.inputs and n.name not in graph.static]
    last = _last_uses(graph, order)
    widths = _widths(order, last)[: len(order) - 1]
    sums = list(accumulate((_bytes(n) if n.name in kept else 0.0 for n in order), initial=0.0))
    places = [*_narrow(widths), len(order)]  # in front of the node of this number
    results = sum(_bytes(graph[o]) for o in graph.outputs[: halves.results])
    found = _cut(places, [0.0, *widths, results], sums, weight, behind)
    return frozenset(n.name for p in found for n in order[:p] if last[n.name] >= p)


def _cut(
    places: Sequence[int], widths: Sequence[float], sums: Sequence[float], weight: int, behind: int
) -> list[int]:
    """The places of borders. widths: bytes that cross each position; sums: of what is kept before
    it."""
    best: dict[int, tuple[float, float, int]] = {0: (0.0, 0.0, 0)}  # sum, bytes of borders, begin

    def to(end: int, begin: int) -> tuple[float, float, int]:
        total, borders, _ = best[begin]
        need = borders + sums[end] - sums[begin] + behind * widths[end]
        return total + (need / (sums[-1] + 1)) ** weight, borders + widths[end], begin

    for end in places:
        best[end] = min(to(end, begin) for begin in best)
    borders, at = [], best[places[-1]][2]
    while at:
        borders.append(at)
        at = best[at][2]
    return borders


def _narrow(widths: Sequence[float]) -> list[int]:
    """Places where no more bytes cross than beside them."""
    inner = range(1, len(widths))
    beside = [math.inf, *widths, math.inf]
    return [
        p
        for p in inner
        if math.isfinite(widths[p - 1]) and widths[p - 1] <= min(beside[p - 1], beside[p + 1])
    ]


def _last_uses(graph: Graph, order: Sequence[Node]) -> dict[str, int]:
    """The position of the last reader of each value, its own if nobody reads it."""
    last = {n.name: k for k, n in enumerate(order)}
    for position, node in enumerate(order):
        for i in node.inputs:
            if i in last:
                last[i] = position
    return last


def _widths(order: Sequence[Node], last: dict[str, int]) -> list[float]:
    """Bytes of what is read behind each position."""
    changes = [0.0] * (len(order) + 1)
    barred = [0] * (len(order) + 1)  # by values with several results, which cannot be kept
    for position, node in enumerate(order):
        several = isinstance(node.type, tuple)
        size = 0.0 if several else _bytes(node)
        changes[position] += size
        changes[last[node.name]] -= size
        barred[position] += several
        barred[last[node.name]] -= several
    pairs = zip(accumulate(changes), accumulate(barred))
    return [math.inf if several else width for width, several in pairs]


def _bytes(node: Node, batch: int = _BATCH) -> float:
    return float(math.prod(concrete(node.shape, batch)) * node.dtype.bytes)
