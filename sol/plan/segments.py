"""Segments of a program: clusters that each thread runs alone, image by image (*apart*), and
clusters that all threads run on all images of a pass (*together*).

Apart, what a cluster leaves for the next one is one image's, in the cache of the core that wrote
it, and threads never wait for each other. But weights come by once per image, where a kernel that
has all images at hand reads them once: linear layers at a network's end, recurrent layers.

The cuts are the shortest path through the clusters by an estimate of the bytes that come from
beyond a core's own cache, at a nominal batch. What crosses a cut lies there for all images, so it
can only be where images are slices of all that crosses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sol.core.dims import Dim, evaluate
from sol.ir.graph import Graph, Node, types_of
from sol.plan.facts import is_thin
from sol.plan.records import Buffer, Cluster, Place, Segment

_IMAGES = 16  # of a pass
_OWN_CACHE = 512 << 10  # bytes that stay in a core's cache from cluster to cluster
_LAST_CACHE = 16 << 20  # and in the one that cores share
_FROM_OWN, _FROM_LAST, _FROM_MEMORY = 0.2, 1.0, 2.5  # what a byte costs
_BARRIER = 4000.0  # bytes that could be read meanwhile


@dataclass(frozen=True, slots=True)
class Use:
    """What a cluster touches: buffers, and static values that it reads, by name."""

    buffers: frozenset[str]
    static: frozenset[str]


def find_segments(
    graph: Graph,
    clusters: Sequence[Cluster],
    uses: Sequence[Use],
    places: Mapping[str, Place],
    buffers: Mapping[str, Buffer],
) -> tuple[Segment, ...]:
    """The segments of a program whose images are independent."""
    if not clusters:
        return ()
    sliced = sliced_buffers(graph, places, buffers)
    crossing = _crossing(uses, buffers)
    heavy = sum(static_bytes(graph, {n.name for n in graph.parameters})) > _LAST_CACHE // 2
    weight = _FROM_MEMORY if heavy else _FROM_LAST
    costs = [_costs(graph, c, u, buffers, weight) for c, u in zip(clusters, uses)]
    switch = [
        2 * _moved(image_bytes(buffers, names)) + _BARRIER if names <= sliced else float("inf")
        for names in crossing
    ]
    return _joined(_shortest(costs, switch))


def sliced_buffers(
    graph: Graph, places: Mapping[str, Place], buffers: Mapping[str, Buffer]
) -> frozenset[str]:
    """Buffers of which images are slices, one after the other."""
    values: dict[str, list[Place]] = {}
    unordered = set()
    in_order = _in_order(graph)
    for name, place in places.items():
        values.setdefault(place.buffer, []).append(place)
        if name not in in_order:
            unordered.add(place.buffer)
    found = {b for b, held in values.items() if _in_slices(buffers[b], held)}
    return frozenset(found - unordered)


def _in_order(graph: Graph) -> set[str]:
    """Values with their images one after the other: element i of the axis that counts them, of c
    elements per image, is of image i // c.

    So are [B, T, C] -> [B * T, C] and what is computed from it, but neither [T, B, C] -> [T * B, C]
    nor a repetition [B, C] -> [2 * B, C], of which element i is of image i % B.
    """
    found: set[str] = set()
    for node in graph:
        shapes = [t.shape for t in types_of(node)]
        alone = all(s.coef == 1 for shape in shapes for s in shape if isinstance(s, Dim))
        first = all(shape and isinstance(shape[0], Dim) for shape in shapes)
        if alone or (first and all(_keeps_order(node, graph[i], found) for i in node.inputs)):
            found.add(node.name)
    return found


def _keeps_order(node: Node, source: Node, in_order: set[str]) -> bool:
    """Whether images that stand in order in an operand, if there are any, do so in the result."""
    shapes = [t.shape for t in types_of(source)]
    if not any(isinstance(s, Dim) for shape in shapes for s in shape):
        return True
    if source.name not in in_order or not all(s and isinstance(s[0], Dim) for s in shapes):
        return False
    return node.op == "reshape" or shapes[0][0] == types_of(node)[0].shape[0]


def _in_slices(buffer: Buffer, places: Sequence[Place]) -> bool:
    """Whether each image's part of a buffer is one slice, laid out alike for every batch, if images
    are in order.
    """
    if not isinstance(buffer.size, Dim) or buffer.size.const < 0:
        return False
    for place in places:
        batch = [k for k, s in enumerate(place.shape) if isinstance(s, Dim)]
        if len(batch) != 1 or not isinstance(place.offset, int):
            return False
        extent = place.shape[batch[0]]
        assert isinstance(extent, Dim)
        if any(isinstance(s, Dim) for s in place.strides) or extent.const:
            return False
        if place.strides[batch[0]] * extent.coef != buffer.size.coef:
            return False
    return True


def _crossing(uses: Sequence[Use], buffers: Mapping[str, Buffer]) -> list[frozenset[str]]:
    """For each cluster the buffers of the arena that lie there from a cluster before it to it or
    one after it."""
    last = {b: k for k, use in enumerate(uses) for b in use.buffers}
    alive: set[str] = set()
    found = []
    for k, use in enumerate(uses):
        alive = {b for b in alive if last[b] >= k}
        found.append(frozenset(alive))
        alive |= {b for b in use.buffers if buffers[b].kind == "arena"}
    return found


def _costs(
    graph: Graph, cluster: Cluster, use: Use, buffers: Mapping[str, Buffer], weight: float
) -> tuple[float, float]:
    """Of a cluster, per image: (apart, together)."""
    activations = image_bytes(buffers, use.buffers)
    weights = sum(static_bytes(graph, use.static)) * weight
    share = weights
    if cluster.kind == "recurrent":  # the weights come by in every step
        scan = graph[cluster.root]
        steps = evaluate(types_of(scan)[0].shape[1 if scan["batch_first"] else 0], 1)
        weights, share = weights * steps, weights * steps / _IMAGES
    elif cluster.kind == "contraction" and is_thin(graph[cluster.root]):
        share = weights / _IMAGES
    apart = activations * (_FROM_OWN if activations <= _OWN_CACHE else _FROM_LAST)
    return apart + weights, _moved(activations) + _BARRIER + share


def _moved(activations: int) -> float:
    """Cost of one image's part of what lies there for all images of a pass."""
    everything = activations * _IMAGES
    if everything <= _OWN_CACHE:
        return activations * _FROM_OWN
    return activations * (_FROM_LAST if everything <= _LAST_CACHE else _FROM_MEMORY)


def image_bytes(buffers: Mapping[str, Buffer], names: Collection[str]) -> int:
    """Bytes of one image in these buffers."""
    found = [buffers[n] for n in names if isinstance(buffers[n].size, Dim)]
    return sum(evaluate(b.size, 1) * b.dtype.bytes for b in found)


def static_bytes(graph: Graph, names: Collection[str]) -> list[int]:
    """Bytes of each of these values."""
    sizes = []
    for name in names:
        count = graph[name].dtype.bytes
        for s in graph[name].shape:
            count *= evaluate(s, 1)
        sizes.append(count)
    return sizes


def _shortest(costs: Sequence[tuple[float, float]], switch: Sequence[float]) -> list[bool]:
    """For each cluster whether it runs apart: the cheapest sequence."""
    stays: list[tuple[bool, bool]] = []  # whether (apart, together) comes from the same mode
    totals = costs[0]
    for cost, change in zip(costs[1:], switch[1:]):
        apart, together = totals
        stays.append((apart <= together + change, together <= apart + change))
        apart, together = min(apart, together + change), min(together, apart + change)
        totals = (apart + cost[0], together + cost[1])
    mode = 0 if totals[0] <= totals[1] else 1
    modes = [mode]
    for stay in reversed(stays):
        mode = mode if stay[mode] else 1 - mode
        modes.append(mode)
    return [m == 0 for m in reversed(modes)]


def _joined(apart: Sequence[bool]) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for k, mode in enumerate(apart):
        if segments and segments[-1].apart == mode:
            segments[-1] = Segment(segments[-1].begin, k + 1, mode)
        else:
            segments.append(Segment(k, k + 1, mode))
    return tuple(segments)
