"""Sums over the same rows of the same map, as one cluster that reads the map once.

    s = sum of dy, t = sum of dy * (x - mean), image by image  ->  (s, t) in one loop

So are the two sums of the gradient of a batch normalisation. In: the groups of a plan, one for each
stored value. Out: the same groups, some of them joined; lower/cluster.py makes one loop of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sol.ir.expr import walk
from sol.ir.graph import Graph, Node
from sol.plan.facts import Facts
from sol.plan.group import Group
from sol.plan.inline import Inliner
from sol.plan.sums import is_of_images


def joined(
    graph: Graph, facts: Facts, stored: frozenset[str], groups: Mapping[str, Group]
) -> dict[str, Group]:
    """Groups by their last member, pairs of sums joined."""
    found = dict(groups)
    inline = Inliner(graph, stored)
    waiting: dict[tuple[object, ...], list[str]] = {}
    alone = (n for n in graph if n.name in groups and len(groups[n.name].members) == 1)
    for node in alone:
        if not is_of_images(graph, node):
            continue
        maps = _maps(facts, inline, node, groups[node.name])
        others = [name for m in maps for name in waiting.get(_key(node, m), [])]
        first = next((o for o in others if o in found and not _follows(graph, facts, node, o)), "")
        if first:
            own = found[node.name]
            (index,) = own.indices.values()
            members = (first, node.name)
            found[node.name] = replace(own, members=members, indices=dict.fromkeys(members, index))
            del found[first]
            continue
        for m in maps:
            waiting.setdefault(_key(node, m), []).append(node.name)
    return found


def _key(node: Node, map: str) -> tuple[object, ...]:
    """Equal for sums over the same rows."""
    return map, node.shape, node["axes"], node.dtype


def _maps(facts: Facts, inline: Inliner, node: Node, group: Group) -> list[str]:
    """What a sum reads that is larger than its result."""
    value = inline.meaning(node.name, group.indices[node.name])
    names = dict.fromkeys(p.value for p in walk(value) if p.op == "load")
    return [name for name in names if facts.size(name) > facts.size(node.name)]


def _follows(graph: Graph, facts: Facts, node: Node, before: str) -> bool:
    """Whether a value follows from one before it."""
    begin = facts.position[before]
    seen: set[str] = set()
    stack = list(node.inputs)
    while stack:
        name = stack.pop()
        if name == before:
            return True
        if name not in seen and facts.position[name] > begin:
            seen.add(name)
            stack.extend(graph[name].inputs)
    return False
