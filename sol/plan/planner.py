"""From a graph to a plan: what is stored, which operators form a cluster, in which order clusters
run, where values lie.

    expand composites -> sums over the batch image by image (sums.py) -> choose what is stored
    (fuse.py) -> memory order of axes (layout.py) -> depth-first groups (group.py), sums over one
    map (twins.py), stages (stages.py) and windows behind convolutions (pooled.py) -> order clusters
    -> places and buffers (layout.py) -> may the batch be cut (batch.py) -> what runs image by image
    (segments.py, runs.py) -> results in the place of operands (inplace.py) -> memory (memory.py)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sol.ir.graph import Graph, Node, is_lent
from sol.passes.expand import expand_composites
from sol.plan.attention import takes_attention
from sol.plan.batch import is_splittable
from sol.plan.facts import JOINS, Facts
from sol.plan.fuse import Choice, chain_between, choose
from sol.plan.group import Group, grow
from sol.plan.inline import Inliner
from sol.plan.inplace import in_place
from sol.plan.layout import choose_orders, part_places, place_values
from sol.plan.memory import Arena, Lifetime, plan_arena
from sol.plan.pooled import Pooled, find_pooled
from sol.plan.prefixes import share_prefixes
from sol.plan.prepare import prepare_graph
from sol.plan.records import Buffer, Cluster, Place, Plan, Segment
from sol.plan.recurrent import split_recurrent
from sol.plan.runs import find_runs
from sol.plan.segments import Use, find_segments
from sol.plan.stages import Stage, find_stages
from sol.plan.sums import image_by_image
from sol.plan.twins import joined


@dataclass(frozen=True)
class Planned:
    """The plan with the groups of its depth-first clusters, its stages and the windows that may be
    computed by the convolution before them (by result), the arena of what images of a pass share or
    what crosses segments, and that of one image in a segment that runs apart.
    """

    plan: Plan
    groups: Mapping[str, Group]
    stages: Mapping[str, Stage]
    pooled: Mapping[str, Pooled]
    arena: Arena
    own: Arena


def whole(graph: Graph, node: Node) -> bool:
    """Composite operators that a kernel takes as they are."""
    return node.op == "attention" and takes_attention(graph, node)


def make_plan(
    graph: Graph,
    keep: bool = False,
    lanes: int = 16,
    pooled: Collection[str] = (),
    stems: Collection[str] = (),
) -> Planned:
    """Plan a network.

    keep: no memory is reused, so that all values can be looked at after a run. lanes: floats of a
    vector of the device. pooled: windows that the convolution before them computes, of those that
    a plan without any names in `Planned.pooled`. stems: first layers that read a padded copy.
    """
    graph = image_by_image(expand_composites(split_recurrent(graph, lanes), whole))
    graph = prepare_graph(share_prefixes(graph), lanes, stems)
    facts = Facts(graph)
    choice = choose(graph, facts)
    orders = choose_orders(graph, facts, choice)
    groups = _groups(graph, facts, choice, orders)
    stages = {} if keep else find_stages(graph, facts, choice, orders, groups, lanes)
    windows = {} if keep else find_pooled(graph, facts, choice, orders, groups, stages)
    taken = {sink: windows[sink] for sink in pooled}
    hidden = frozenset(s.hidden for s in stages.values())
    hidden |= {p.hidden for p in taken.values() if p.alone}
    private = frozenset(n for g in groups.values() for n in g.private) | hidden
    places, buffers, views = place_values(graph, facts, choice, orders, private)
    clusters = _ordered(
        graph, facts, choice, _clusters(graph, facts, choice, groups, stages, taken, places, views)
    )
    uses = _uses(graph, choice, clusters, places)
    splittable = is_splittable(graph, choice.stored)
    segments: tuple[Segment, ...] = (Segment(0, len(clusters), False),)
    if splittable and not keep:
        segments = find_segments(graph, clusters, uses, places, buffers)
    elif not keep:
        runs = find_runs(graph, clusters, uses, places, buffers)
        clusters, segments = runs.clusters, runs.segments
        of_one = _of_one_image(runs.uses, segments, buffers)
        places, buffers = in_place(
            graph, choice, clusters, groups, runs.uses, places, buffers, of_one
        )
        uses = _uses(graph, choice, clusters, places)
    shared, own = _lifetimes(uses, segments, buffers)
    shared += [] if splittable or keep else _held(graph, uses, segments, buffers)
    arena = plan_arena(
        [replace(item, first=0, last=len(clusters)) for item in shared] if keep else shared
    )
    plan = Plan(graph, clusters, places, orders, buffers, choice.stored, splittable, segments)
    return Planned(plan, groups, stages, windows, arena, plan_arena(own))


def _groups(
    graph: Graph, facts: Facts, choice: Choice, orders: Mapping[str, tuple[int, ...]]
) -> dict[str, Group]:
    """Depth-first groups, from the results backwards."""
    found: dict[str, Group] = {}
    taken: set[str] = set()
    for node in reversed(graph.nodes):
        name = node.name
        if (
            name not in choice.stored
            or name in taken
            or name in choice.roots
            or node.op in (*JOINS, "item")
            or facts.whole(node)
        ):
            continue
        group = grow(graph, facts, choice, orders[name], name, taken)
        taken.update(group.members)
        found[name] = group
    return joined(graph, facts, choice.stored, found)


def _clusters(
    graph: Graph,
    facts: Facts,
    choice: Choice,
    groups: Mapping[str, Group],
    stages: Mapping[str, Stage],
    pooled: Mapping[str, Pooled],
    places: Mapping[str, Place],
    views: set[str],
) -> list[Cluster]:
    clusters = []
    hidden = {s.hidden for s in stages.values()} | {p.hidden for p in pooled.values()}
    for name in sorted(choice.stored, key=lambda n: facts.position[n]):
        node = graph[name]
        if name in hidden:
            continue
        if name in stages:
            stage = stages[name]
            clusters.append(_with_windows("stage", graph, choice, stage.hidden, name, True))
        elif name in pooled:
            found = pooled[name]
            clusters.append(_with_windows("pooled", graph, choice, found.hidden, name, found.alone))
        elif name in choice.roots:
            root = choice.roots[name]
            chain = chain_between(graph, root, name)
            clusters.append(Cluster("contraction", (name,), root, layers=(*chain, name)))
        elif name in groups:
            group = groups[name]
            clusters.append(
                Cluster("dfp", group.members, private=group.private, outer=len(group.outer))
            )
        elif node.op in JOINS and name not in views:
            clusters.extend(_parts(graph, choice, node, places))
        elif node.op == "item" and node["index"] == 0:
            clusters.append(_recurrent(graph, node))
        elif facts.weight_gradient(node):
            clusters.append(Cluster("weight gradient", (name,), name, layers=(name,)))
        elif facts.scatter(node):
            clusters.append(Cluster("scatter", (name,), name, layers=(name,)))
        elif facts.whole(node):
            clusters.append(Cluster("attention", (name,), name, layers=(name,)))
    return clusters


def _with_windows(
    kind: Literal["stage", "pooled"],
    graph: Graph,
    choice: Choice,
    hidden: str,
    sink: str,
    alone: bool,
) -> Cluster:
    """A contraction and the windows over it; alone: nothing else reads what is between them."""
    root = choice.roots[hidden]
    layers = (*chain_between(graph, root, hidden), hidden, sink)
    private = frozenset((hidden,) if alone else ())
    return Cluster(kind, (hidden, sink), root, private, layers=layers)


def _recurrent(graph: Graph, first: Node) -> Cluster:
    source = first.inputs[0]
    results = tuple(u.name for u in graph.users[source] if u.op == "item")
    return Cluster("recurrent", results, source, layers=(source, *results))


def _parts(graph: Graph, choice: Choice, node: Node, places: Mapping[str, Place]) -> list[Cluster]:
    """Copies of the parts of a concatenation that are not written in place, as one cluster each:

    values `name@k`.
    """
    found = []
    for k, place in enumerate(part_places(graph, node, places[node.name])):
        part = node.inputs[k]
        # it may lie elsewhere in the same buffer, as a part of another concatenation
        if part not in choice.stored or places.get(part) != place:
            found.append(Cluster("dfp", (f"{node.name}@{k}",), layers=(node.name,)))
    return found


# ---- order ---------------------------------------------------------------------------------------


def _ordered(
    graph: Graph, facts: Facts, choice: Choice, clusters: list[Cluster]
) -> tuple[Cluster, ...]:
    """Clusters so that each runs after those it reads, otherwise in the network's order;

    with all layers named.
    """
    inline = Inliner(graph, choice.stored)
    maker: dict[str, list[int]] = {}
    for number, cluster in enumerate(clusters):
        for value in cluster.values:
            maker.setdefault(value.split("@")[0], []).append(number)
    needs: list[set[int]] = []
    for number, cluster in enumerate(clusters):
        read, layers = reads(graph, inline, choice, cluster)
        clusters[number] = replace(
            cluster,
            layers=tuple(sorted(set(cluster.layers) | layers, key=lambda n: facts.position[n])),
        )
        needs.append({m for name in read for m in _makers(graph, name, maker)} - {number})
    return tuple(clusters[k] for k in _topological(needs))


def _makers(graph: Graph, name: str, maker: Mapping[str, list[int]]) -> list[int]:
    """Clusters that must have run before `name` can be read:

    a view of a concatenation needs all its parts.
    """
    own = list(maker.get(name, []))
    if name in graph and graph[name].op in JOINS:
        for part in graph[name].inputs:
            own.extend(_makers(graph, part, maker))
    return own


def _topological(needs: list[set[int]]) -> list[int]:
    done: list[int] = []
    seen: set[int] = set()
    for start in range(len(needs)):
        stack = [(start, False)]
        while stack:
            item, ready = stack.pop()
            if item in seen:
                continue
            if ready:
                seen.add(item)
                done.append(item)
                continue
            stack.append((item, True))
            stack.extend((n, False) for n in sorted(needs[item], reverse=True) if n not in seen)
    return done


def reads(
    graph: Graph, inline: Inliner, choice: Choice, cluster: Cluster
) -> tuple[set[str], set[str]]:
    """Stored or given values that a cluster reads, and the nodes inlined into it."""
    read: set[str] = set()
    layers: set[str] = set()
    if "@" in cluster.values[0]:
        whole_name, part = cluster.values[0].split("@")
        inside = {whole_name}
        stack = [graph[whole_name].inputs[int(part)]]
    else:
        inside = {*cluster.layers, *cluster.values}
        stack = [i for name in inside for i in graph[name].inputs]
    while stack:
        name = stack.pop()
        if name in inside or name in layers:
            continue
        if name in choice.stored or name in graph.static or graph[name].op == "input":
            read.add(name)
            continue
        layers.add(name)
        stack.extend(graph[name].inputs)
    return read, inside | layers


# ---- memory --------------------------------------------------------------------------------------


def _uses(
    graph: Graph,
    choice: Choice,
    clusters: tuple[Cluster, ...],
    places: Mapping[str, Place],
) -> list[Use]:
    inline = Inliner(graph, choice.stored)
    found = []
    for cluster in clusters:
        read, _ = reads(graph, inline, choice, cluster)
        names = {*(v.split("@")[0] for v in cluster.values), *read}
        static = frozenset(names & graph.static)
        touched = frozenset(places[n].buffer for n in names - static if n in places)
        found.append(Use(touched, static))
    return found


def _lifetimes(
    uses: Sequence[Use], segments: Sequence[Segment], buffers: Mapping[str, Buffer]
) -> tuple[list[Lifetime], list[Lifetime]]:
    """Of what the images of a pass share, and of one image's own in segments that run apart.

    Images are in different places of a segment that runs apart, so what it shares with others
    lives from its first cluster to its last.
    """
    shared, own = [], []
    of_one = _of_one_image(uses, segments, buffers)
    for name, (first, last) in _lives(uses, buffers).items():
        size = buffers[name].size * buffers[name].dtype.bytes
        if name in of_one:
            own.append(Lifetime(name, size, first, last))
            continue
        first, last = _for_all_images(segments, first, last)
        shared.append(Lifetime(name, size, first, last))
    return shared, own


def _lives(uses: Sequence[Use], buffers: Mapping[str, Buffer]) -> dict[str, tuple[int, int]]:
    """The first and the last step of each buffer of the arena."""
    found: dict[str, tuple[int, int]] = {}
    for step, use in enumerate(uses):
        for name in sorted(use.buffers):
            if buffers[name].kind == "arena":
                found[name] = found.get(name, (step, step))[0], step
    return found


def _of_one_image(
    uses: Sequence[Use], segments: Sequence[Segment], buffers: Mapping[str, Buffer]
) -> frozenset[str]:
    """Buffers of one image at a time: they live within a segment that runs apart."""
    found = set()
    for name, (first, last) in _lives(uses, buffers).items():
        segment = _segment_of(segments, first)
        if segment.apart and last < segment.end:
            found.add(name)
    return frozenset(found)


def _segment_of(segments: Sequence[Segment], step: int) -> Segment:
    return next(s for s in segments if s.begin <= step < s.end)


def _for_all_images(segments: Sequence[Segment], first: int, last: int) -> tuple[int, int]:
    """When what lives from one step to another one of some image lives for any of them."""
    begin, end = _segment_of(segments, first), _segment_of(segments, last)
    return begin.begin if begin.apart else first, end.end - 1 if end.apart else last


def _held(
    graph: Graph, uses: Sequence[Use], segments: Sequence[Segment], buffers: Mapping[str, Buffer]
) -> list[Lifetime]:
    """Of what a forward program keeps, from its first writer on; in a backward program of what was
    kept, up to its last reader."""
    steps: dict[str, list[int]] = {}
    for step, use in enumerate(uses):
        for name in use.buffers:
            steps.setdefault(name, []).append(step)
    inputs = [n.name for n in graph.inputs if is_lent(n) and n.name not in graph.outputs]
    found = []
    for name in inputs:
        last = _for_all_images(segments, 0, steps[name][-1])[1] if name in steps else 0
        found.append(_whole_life(buffers[name], 0, last))
    for name in dict.fromkeys(o for o in graph.outputs if graph[o].op == "kept"):
        first = _for_all_images(segments, steps[name][0], len(uses) - 1)[0]
        found.append(_whole_life(buffers[name], first, len(uses)))
    return found


def _whole_life(buffer: Buffer, first: int, last: int) -> Lifetime:
    return Lifetime(buffer.name, buffer.size * buffer.dtype.bytes, first, last, held=True)
