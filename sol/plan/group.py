"""Depth-first groups: stored values that can be computed patch by patch together, so that what lies
between them stays in registers or a thread's scratch memory.

A group grows backwards from a value. A producer joins if, for every patch of the outer axes, the
group reads only what the producer computes for the same patch: each outer axis is used unchanged as
one index of the producer, and the other indices do not depend on outer axes. Softmax and layer
normalisation become one loop over rows this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sol.core.dims import Dim
from sol.ir.expr import Expr, free_axes, substitute, walk
from sol.ir.graph import Graph
from sol.plan.facts import JOINS, Facts, nominal_size
from sol.plan.fuse import Choice
from sol.plan.inline import Inliner, axes_for

_FEWEST_PATCHES = 8  # patches per image below which a group would leave threads idle
_LARGEST_PATCH = 1 << 16  # elements of one value in one patch: a quarter of a typical L2 cache
_MOST_MEMBERS = 12


@dataclass(frozen=True, slots=True)
class Group:
    """Members in order (the last is the sink), each with its expression over its axes; the first
    `outer` axes of `axes` are shared.

    indices: for each member its logical index, in which shared axes stand for themselves.
    """

    members: tuple[str, ...]
    outer: tuple[Expr, ...]
    indices: Mapping[str, tuple[Expr, ...]]
    private: frozenset[str]


def grow(
    graph: Graph, facts: Facts, choice: Choice, order: Sequence[int], sink: str, taken: set[str]
) -> Group:
    """The group of a sink: itself alone, or with producers that fit patch by patch."""
    axes = axes_for(graph[sink])
    physical = [axes[k] for k in order if axes[k].op == "axis"]
    best = Group((sink,), tuple(physical[:-1]), {sink: axes}, frozenset())
    for count in range(len(physical) - 1, 0, -1):
        outer = tuple(physical[:count])
        if _patches(outer) < _FEWEST_PATCHES or _patch_size(axes, outer) > _LARGEST_PATCH:
            continue
        group = _with_outer(graph, facts, choice, sink, axes, outer, taken)
        if len(group.members) > len(best.members):
            best = group
    return best


def _patches(outer: Sequence[Expr]) -> int:
    total = 1
    for a in outer:
        extent = a.value[1]
        total *= extent.coef if isinstance(extent, Dim) else extent
    return total


def _patch_size(index: Sequence[Expr], outer: Sequence[Expr]) -> int:
    return nominal_size(tuple(a.value[1] for a in index if a.op == "axis" and a not in outer))


def _with_outer(
    graph: Graph,
    facts: Facts,
    choice: Choice,
    sink: str,
    axes: tuple[Expr, ...],
    outer: tuple[Expr, ...],
    taken: set[str],
) -> Group:
    inline = Inliner(graph, choice.stored)
    indices = {sink: axes}
    exprs = {sink: inline.meaning(sink, axes)}
    changed = True
    while changed and len(indices) < _MOST_MEMBERS:
        changed = False
        for name in _producers(exprs.values(), indices):
            if name in taken or not _may_join(
                graph, facts, choice, name, indices, facts.position[sink]
            ):
                continue
            index = _aligned(graph, name, exprs.values(), outer)
            if index is None or _patch_size(index, outer) > _LARGEST_PATCH:
                continue
            indices[name] = index
            exprs[name] = inline.meaning(name, index)
            changed = True
            break
    members = tuple(sorted(indices, key=lambda n: facts.position[n]))
    private = frozenset(
        n
        for n in members
        if n != sink and n not in graph.outputs and readers(graph, facts, choice, n) <= set(members)
    )
    return Group(members, outer, indices, private)


def _producers(values: Iterable[Expr], members: Mapping[str, object]) -> list[str]:
    found: dict[str, None] = {}
    for value in values:
        for part in walk(value):
            if part.op == "load" and part.value not in members:
                found[part.value] = None
    return list(found)


def _may_join(
    graph: Graph, facts: Facts, choice: Choice, name: str, members: Mapping[str, object], sink: int
) -> bool:
    node = graph[name]
    if (
        name not in choice.stored
        or name in choice.roots
        or node.op in (*JOINS, "item")
        or facts.contraction(node)
        or facts.whole(node)
    ):
        return False
    if name in graph.outputs and node.op == "input":
        return False
    outside = readers(graph, facts, choice, name) - set(members)
    # a reader before the sink might be on another path to it: the group would need its own result
    return all(facts.position[r] > sink for r in outside)


def readers(graph: Graph, facts: Facts, choice: Choice, name: str) -> set[str]:
    """Stored values whose computation reads `name`, looking through inlined ones."""
    found: set[str] = set()
    seen = set()
    stack = [name]
    while stack:
        for user in facts.users(stack.pop()):
            if user.name in seen:
                continue
            seen.add(user.name)
            if user.name in choice.stored or isinstance(user.type, tuple):
                found.add(user.name)
            else:
                stack.append(user.name)
    return found


def _aligned(
    graph: Graph, name: str, values: Iterable[Expr], outer: tuple[Expr, ...]
) -> tuple[Expr, ...] | None:
    """The producer's index with shared axes where all readers use them unchanged;

    None if some patch needs another patch's elements.
    """

    reads = {p.args for v in values for p in walk(v) if p.op == "load" and p.value == name}
    own = axes_for(graph[name], f"i_{name}_")
    mapping: dict[Expr, Expr] = {}
    for axis in outer:
        positions = {tuple(k for k, i in enumerate(r) if i is axis) for r in reads}
        if len(positions) != 1 or len(next(iter(positions))) != 1:
            return None
        (position,) = next(iter(positions))
        if own[position].op != "axis" or own[position].value[1] != axis.value[1]:
            return None
        mapping[own[position]] = axis
    for read in reads:
        for k, i in enumerate(read):
            if own[k] not in mapping and free_axes(i) & set(outer):
                return None
    if any(isinstance(a.value[1], Dim) for a in own if a.op == "axis" and a not in mapping):
        return None  # a patch would be as large as the batch
    return tuple(substitute(a, mapping) for a in own)
