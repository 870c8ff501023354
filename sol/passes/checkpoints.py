"""Training in less memory: a network in segments, of which only the borders are kept.

The backward computation takes one segment after the other, the last one first, and computes again
what the forward computation had in it (T. Chen et al., "Training Deep Nets with Sublinear Memory
Cost", 2016). So only one segment's values are in memory at a time, beside the borders, and every
layer runs at most once more. In: what is kept without that (partition.py), and how many bytes of it
a segment may have. Out: the values at borders; all others may be computed again.
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
_EARLIEST = 0.5  # of a segment's bytes: a border that is narrow may come so early or late


def kept_bytes(halves: Halves) -> float:
    """Of what is kept, inputs and results aside, for the batch that is compared."""
    forward = halves.forward
    return sum(_bytes(forward[n]) for n in forward.outputs[halves.results :])


def checkpoints(halves: Halves, most: float) -> frozenset[str]:
    """The values at borders of segments that keep at most `most` bytes each, where a border can be
    found: between two operators, where values that take few bytes are read later."""
    graph = early(halves.forward, halves.forward.outputs[: halves.results])
    kept = set(graph.outputs[halves.results :])
    order = [n for n in graph if n.inputs and n.name not in graph.static]
    last = _last_uses(graph, order)
    widths = _widths(order, last)
    sums = list(accumulate(_bytes(n) if n.name in kept else 0.0 for n in order))
    found: set[str] = set()
    begin = 0.0
    start = 0
    for position, total in enumerate(sums):
        if position < start or total - begin <= most:
            continue
        candidates = [p for p in range(start, position) if sums[p] - begin >= _EARLIEST * most]
        alone = total - sums[position - 1] if position else total  # of what is too much
        until = total + _EARLIEST * max(most, alone)
        candidates += [p for p in range(position, len(sums)) if sums[p] <= until]
        border = min(candidates, key=lambda p: (widths[p], -p))
        if math.isfinite(widths[border]):
            found.update(n.name for n in order[: border + 1] if last[n.name] > border)
            begin, start = sums[border], border + 1
    return frozenset(found)


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


def _bytes(node: Node) -> float:
    return float(math.prod(concrete(node.shape, _BATCH)) * node.dtype.bytes)
