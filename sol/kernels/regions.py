"""Convolutions some of whose taps meet nothing but padding: the map in regions of equal taps.

    3x3, dilated by 12, on a map of 14x14: 100 results have one tap, 80 two and 16 four, not nine.

Along each axis results are cut where a tap begins or ceases to meet the map. All results of a box
of such intervals have the same taps, and none of these meets padding. In: a contraction. Out: its
`Region`s, each a product of its own with a part of the same weight. Called by gemm.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sol.core.device import CpuDevice
from sol.ir.expr import Expr, axis, const, substitute
from sol.ir.graph import Graph, Node
from sol.kernels.operands import Product, grouping, spine
from sol.kernels.tiles import best_tile, tile_cycles
from sol.lower.units import decode
from sol.plan.records import Cluster, Plan

_MOST = 16  # regions: each has code of its own
_STREAMED = 16.0  # bytes a cycle of weights, which each region reads
_GAIN = 1.2  # how much less an estimate must be to be believed


@dataclass(frozen=True, slots=True)
class Interval:
    """Results [first, first + results) along an axis, all with the taps [tap, tap + taps)."""

    first: int
    results: int
    tap: int
    taps: int


Box = tuple[Interval, ...]  # one for each axis of the map


@dataclass(frozen=True)
class Region:
    """A box of results as a product: its k begins with its taps.

    place: the number among all taps of the weight that tap number `block` of the region has.
    """

    product: Product
    box: Box
    kernel: tuple[int, ...]
    order: tuple[int, ...]  # axes of taps, outer to inner

    @property
    def taps(self) -> tuple[Expr, ...]:
        """The axes of taps, outer to inner."""
        return self.product.k[: len(self.order)]

    def place(self, block: Expr) -> Expr:
        """The number among all taps of the weight of the region's tap number `block`."""
        number = const(0)
        local = decode(block, self.taps)
        for n, tap in zip(self.order, self.taps):
            number = number * self.kernel[n] + local[tap] + self.box[n].tap
        return number


def intervals(size: int, results: int, taps: int, step: tuple[int, int, int]) -> list[Interval]:
    """An axis of a map of `size`, cut where taps change; step: stride, dilation, padding before."""
    stride, dilation, padding = step
    found: list[Interval] = []
    for place in range(results):
        start = place * stride - padding
        met = [t for t in range(taps) if 0 <= start + t * dilation < size]
        first, count = (met[0], len(met)) if met else (0, 0)
        if found and (found[-1].tap, found[-1].taps) == (first, count):
            found[-1] = replace(found[-1], results=found[-1].results + 1)
        else:
            found.append(Interval(place, 1, first, count))
    return found


def _cuts(graph: Graph, root: Node) -> Iterator[list[Box]]:
    """All ways to cut a convolution's map along some of its axes; first of all, along none."""
    sizes, kernel = graph[root.inputs[0]].shape[2:], graph[root.inputs[1]].shape[2:]
    ways = []
    for n, (size, results, taps) in enumerate(zip(sizes, root.shape[2:], kernel)):
        whole = [Interval(0, _int(results), 0, _int(taps))]
        step = (root["stride"][n], root["dilation"][n], root["padding"][n][0])
        parts = intervals(_int(size), _int(results), _int(taps), step)
        ways.append([whole, parts] if parts != whole and all(i.taps for i in parts) else [whole])
    for way in itertools.product(*ways):
        if math.prod(map(len, way)) <= _MOST:
            yield list(itertools.product(*way))


def _best(plan: Plan, cluster: Cluster, device: CpuDevice) -> tuple[list[Box], float]:
    """The cut of a convolution's map that seems fastest, and how many times as fast as none."""
    root = plan.graph[cluster.root]
    if root.op != "conv":
        return [], 1.0
    _, columns = grouping(root)
    lanes = device.vector_lanes(4)
    vectors = -(-columns // lanes)

    def cycles(box: Box) -> float:
        rows, taps = math.prod(i.results for i in box), math.prod(i.taps for i in box)
        tile = best_tile(rows, vectors, device)
        return taps * max(tile_cycles(rows, vectors, tile), 4 * lanes * vectors / _STREAMED)

    costs = [(sum(map(cycles, boxes)), boxes) for boxes in _cuts(plan.graph, root)]
    least, boxes = min(costs, key=lambda c: c[0])
    gain = costs[0][0] / least
    return (boxes, gain) if gain > _GAIN else ([], 1.0)


def less_work(plan: Plan, cluster: Cluster, device: CpuDevice) -> float:
    """How many times as fast as with all taps a convolution seems to be in regions; 1 if none
    pay."""
    return _best(plan, cluster, device)[1]


def find_regions(
    plan: Plan, cluster: Cluster, product: Product, device: CpuDevice
) -> tuple[Region, ...]:
    """The regions of a contraction; none if it is better computed with all taps."""
    packing = product.packing
    boxes, _ = _best(plan, cluster, device)
    if not boxes or packing is None or packing.k_order[-1] != 0:
        return ()
    root, order = plan.graph[cluster.root], tuple(n - 1 for n in packing.k_order[:-1])
    places = spine(plan, cluster).index[2:]
    cut = [n for n in order if any(box[n] != boxes[0][n] for box in boxes)]
    if any(places[n] not in product.rows for n in cut):
        return ()
    kernel = tuple(_int(s) for s in plan.graph[root.inputs[1]].shape[2:])
    return tuple(Region(_part(product, box, places, order), box, kernel, order) for box in boxes)


def _part(product: Product, box: Box, places: Sequence[Expr], order: Sequence[int]) -> Product:
    """The product of one box."""
    moved: dict[Expr, tuple[Expr, int]] = {}
    for n, tap in zip(order, product.k):
        interval = box[n]
        moved[tap] = axis(tap.value[0], interval.taps), interval.tap
        if places[n] in product.rows:
            row = places[n]
            moved[row] = axis(row.value[0], interval.results), interval.first
    mapping = {a: local + first for a, (local, first) in moved.items()}
    return replace(
        product,
        rows=tuple(moved[a][0] if a in moved else a for a in product.rows),
        k=tuple(moved[a][0] if a in moved else a for a in product.k),
        a=substitute(product.a, mapping),
        value=substitute(product.value, mapping),
        index=tuple(substitute(i, mapping) for i in product.index),
    )


def _int(size: object) -> int:
    assert isinstance(size, int)
    return size
