"""Element-wise results in the place of an operand that nobody reads afterwards.

    y = f(x, …), x[i] only for y[i], x read for the last time   ->   y lies where x lies

So the gradient of a batch normalisation takes the memory of the gradient that comes in, or of what
the forward program kept, which a backward program may overwrite (`ir/graph.py`, lent).
In: clusters in order and where their values lie. Out: new places, and the buffers that are left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sol.ir.expr import Expr, walk
from sol.ir.graph import Graph, is_lent
from sol.plan.fuse import Choice
from sol.plan.group import Group
from sol.plan.inline import Inliner
from sol.plan.records import Buffer, Cluster, Place
from sol.plan.segments import Use


def in_place(
    graph: Graph,
    choice: Choice,
    clusters: Sequence[Cluster],
    groups: Mapping[str, Group],
    uses: Sequence[Use],
    places: Mapping[str, Place],
    buffers: Mapping[str, Buffer],
    of_one_image: Collection[str] = (),
) -> tuple[dict[str, Place], dict[str, Buffer]]:
    """Places and buffers of a plan that computes the whole batch at once. of_one_image: buffers
    that stay as they are, small and in a cache."""
    moved, left = dict(places), dict(buffers)
    last = {b: step for step, use in enumerate(uses) for b in use.buffers}
    alone = _alone(places)
    inline = Inliner(graph, choice.stored)
    for step, cluster in enumerate(clusters):
        group = groups.get(cluster.values[-1])
        if cluster.kind != "dfp" or group is None:
            continue
        values = {m: inline.meaning(m, group.indices[m]) for m in group.members}
        for name in group.members:
            own = moved.get(name)
            if own is None or own.buffer not in alone or left[own.buffer].kind != "arena":
                continue
            if own.buffer in of_one_image:
                continue
            reads = _reads(values, name, group, moved)
            taken = [b for b in reads if last.get(b) == step and _fits(graph, left, own, b)]
            if taken:
                target = max(taken, key=lambda b: (left[b].kind == "input", b))
                moved[name] = replace(own, buffer=target)
                last[target] = last[own.buffer]
                del left[own.buffer]
    return moved, left


def _alone(places: Mapping[str, Place]) -> frozenset[str]:
    """Buffers that hold one value, from their begin on."""
    held: dict[str, list[Place]] = {}
    for place in places.values():
        held.setdefault(place.buffer, []).append(place)
    return frozenset(b for b, found in held.items() if len(found) == 1 and found[0].offset == 0)


def _reads(
    values: Mapping[str, Expr], name: str, group: Group, places: Mapping[str, Place]
) -> list[str]:
    """Buffers that a cluster reads for this value only, each element once for the one at its
    place."""
    place = places[name].flat(group.indices[name])
    found: dict[str, bool] = {}
    for member, value in values.items():
        reduced = {p for r in walk(value) if r.op == "reduce" for p in walk(r)}
        for part in walk(value):
            if part.op == "load" and part.value in places:
                other = places[part.value]
                alone = member == name and part not in reduced
                alike = alone and other.offset == 0 and other.flat(part.args) is place
                found[other.buffer] = found.get(other.buffer, True) and alike
    written = {places[m].buffer for m in values if m in places}
    return [b for b, alike in found.items() if alike and b not in written]


def _fits(graph: Graph, buffers: Mapping[str, Buffer], own: Place, name: str) -> bool:
    """Whether a buffer may be overwritten, and has the size of a value's own."""
    buffer = buffers[name]
    lent = buffer.kind == "input" and is_lent(graph[name]) and name not in graph.outputs
    alike = (buffer.size, buffer.dtype) == (buffers[own.buffer].size, own.dtype)
    return alike and (buffer.kind == "arena" or lent)
