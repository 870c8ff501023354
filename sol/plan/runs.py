"""Runs of clusters that treat each image alone, in a program whose images depend on each other.

    convolution, sums of its result for each image        | mean and variance of the batch | …
    gradient of a map, of weights, sums for each image    | sums over the batch            | …

In training, what lies between two sums over the batch is such a run. It is a segment that runs
apart: a thread takes an image through the whole run, so each cluster reads what the one before
wrote from a cache, not from memory. What is summed over the batch is small, and waits until the run
ends. In: clusters in order. Out: their new order, and segments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sol.core.dims import Dim
from sol.ir.graph import Graph, types_of
from sol.plan.batch import by_image, counts_images, image_axis
from sol.plan.facts import is_thin
from sol.plan.records import Buffer, Cluster, Place, Segment
from sol.plan.segments import Use, image_bytes, sliced_buffers, static_bytes

_KINDS = ("dfp", "contraction", "stage", "pooled", "weight gradient", "attention")
_WAITS = 1 << 18  # bytes of an image that a sum over the batch may keep in memory meanwhile
_WEIGHTS = 2 << 20  # bytes of weights of a run: they are packed at once before it (sol/pieces.py)
_SHARED = 1 << 16  # bytes of an image that a run must read again to be worth it


@dataclass(frozen=True, slots=True)
class Runs:
    """Clusters in a new order, what each of them touches, and the segments."""

    clusters: tuple[Cluster, ...]
    uses: list[Use]
    segments: tuple[Segment, ...]


def find_runs(
    graph: Graph,
    clusters: Sequence[Cluster],
    uses: Sequence[Use],
    places: Mapping[str, Place],
    buffers: Mapping[str, Buffer],
) -> Runs:
    """The runs of a program whose images depend on each other."""
    sliced, alone = sliced_buffers(graph, places, buffers), by_image(graph)
    written = [_written(c, places) for c in clusters]
    apart, waits = [], []
    for cluster, use, results in zip(clusters, uses, written):
        many = {b for b in use.buffers if isinstance(buffers[b].size, Dim)}
        apart.append(many <= sliced and _treats_images_alone(graph, cluster, alone))
        small = not many & results and image_bytes(buffers, many) <= _WAITS
        waits.append(small and cluster.kind == "dfp")
    order = _order(uses, written, apart, waits)
    taken = [uses[k] for k in order]
    weights = [sum(static_bytes(graph, use.static)) for use in taken]
    segments = _segments([apart[k] for k in order], weights, taken, buffers)
    return Runs(tuple(clusters[k] for k in order), taken, segments)


def _written(cluster: Cluster, places: Mapping[str, Place]) -> frozenset[str]:
    """Buffers of a cluster's results."""
    names = (v.split("@")[0] for v in cluster.values)
    return frozenset(places[n].buffer for n in names if n in places)


def _treats_images_alone(graph: Graph, cluster: Cluster, alone: Collection[str]) -> bool:
    """Whether each image of a cluster's results follows from that image of what it reads."""
    if cluster.kind not in _KINDS or (cluster.root and is_thin(graph[cluster.root])):
        return False  # the weights of thin layers come by once for all images
    values = {v.split("@")[0] for v in cluster.values}
    others = set(cluster.layers) - graph.static - values
    return all(n in alone for n in values) and all(
        n in alone or _has_no_images(graph, n) for n in others
    )


def _has_no_images(graph: Graph, name: str) -> bool:
    """Whether a value is the same however many images there are, given what it is computed of."""
    shapes = [t.shape for n in (name, *graph[name].inputs) for t in types_of(graph[n])]
    return all(image_axis(s) == -1 for s in shapes) and not counts_images(graph, graph[name])


def _order(
    uses: Sequence[Use],
    written: Sequence[frozenset[str]],
    apart: Sequence[bool],
    waits: Sequence[bool],
) -> list[int]:
    """Clusters in order, but those that may wait: what follows from a run stands behind it, what
    does not in front of it."""
    order: list[int] = []
    waiting: list[int] = []
    begin = 0  # of the run, in the order
    for k in range(len(uses)):
        if waits[k] and not apart[k]:
            if _meets(k, [*order[begin:], *waiting], uses, written):
                waiting.append(k)
            else:
                order.insert(begin, k)
                begin += 1
            continue
        if not apart[k] or _meets(k, waiting, uses, written):
            order += waiting
            waiting.clear()
            begin = len(order)
        order.append(k)
        if not apart[k]:
            begin = len(order)
    return [*order, *waiting]


def _meets(
    k: int, others: Sequence[int], uses: Sequence[Use], written: Sequence[frozenset[str]]
) -> bool:
    """Whether a cluster must stay behind some before it."""
    return any(
        uses[k].buffers & written[other] or written[k] & uses[other].buffers for other in others
    )


def _segments(
    apart: Sequence[bool], weights: Sequence[int], uses: Sequence[Use],
    buffers: Mapping[str, Buffer],
) -> tuple[Segment, ...]:  # fmt: skip
    """Runs of clusters that may run apart, where that pays; the others together."""
    found: list[Segment] = []
    begin = 0
    for end in range(1, len(apart) + 1):
        if end < len(apart) and apart[end] == apart[begin]:
            before = sum(weights[begin:end])
            if not (apart[begin] and before and before + weights[end] > _WEIGHTS):
                continue
        pays = apart[begin] and _reads_again(uses[begin:end], buffers)
        if found and not pays and not found[-1].apart:
            found[-1] = Segment(found[-1].begin, end, False)
        else:
            found.append(Segment(begin, end, pays))
        begin = end
    return tuple(found)


def _reads_again(uses: Sequence[Use], buffers: Mapping[str, Buffer]) -> bool:
    """Whether clusters share buffers in which images are large."""
    met: set[str] = set()
    for use in uses:
        if image_bytes(buffers, use.buffers & met) >= _SHARED:
            return True
        met |= use.buffers
    return False
