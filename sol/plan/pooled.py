"""Windows that do not overlap, behind a convolution: pooling that reads each result once.

Winograd's algorithm makes results in tiles, so that whole windows of them are at hand before any is
written (kernels/winograd.py). Found here: which windows may be computed there. Whether they are
follows from the method that is chosen for the convolution (sol/steps.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sol.ir.expr import Expr, bounds, linear, walk
from sol.ir.graph import Graph
from sol.plan.facts import Facts
from sol.plan.fuse import Choice, chain_between, root_index
from sol.plan.group import Group, readers
from sol.plan.inline import Inliner, axes_for


@dataclass(frozen=True, slots=True)
class Pooled:
    """hidden, sink: the values of the convolution and of the windows.

    Place p of the sink along axis k reads places p * size[k] … p * size[k] + size[k] - 1 of the
    hidden value, as far as they are part of the window. alone: nothing else reads it.
    """

    hidden: str
    sink: str
    size: tuple[int, ...]
    alone: bool


def find_pooled(
    graph: Graph,
    facts: Facts,
    choice: Choice,
    orders: Mapping[str, tuple[int, ...]],
    groups: Mapping[str, Group],
    taken: Collection[str],
) -> dict[str, Pooled]:
    """All such windows but those that are `taken`, one at most for each convolution, by sink."""
    found = {}
    for hidden, root in choice.roots.items():
        chain, own = [*chain_between(graph, root, hidden), hidden], axes_for(graph[hidden])
        if graph[root].op != "conv" or orders[hidden][-1] != 1:
            continue
        sinks = readers(graph, facts, choice, hidden)
        for sink in sorted(sinks, key=lambda n: facts.position[n]):
            group = groups.get(sink)
            if sink in taken or group is None or group.members != (sink,) or orders[sink][-1] != 1:
                continue
            size = _windows(graph, choice, hidden, sink)
            if size is not None and root_index(graph, graph[root], chain) == own:
                alone = len(sinks) == 1 and hidden not in graph.outputs
                found[sink] = Pooled(hidden, sink, size, alone)
                break
    return found


def _windows(graph: Graph, choice: Choice, hidden: str, sink: str) -> tuple[int, ...] | None:
    """The size of the windows; None if channels or images mix, windows overlap or reach beyond the
    map."""
    node, extents = graph[sink], graph[hidden].shape[2:]
    axes = axes_for(node)
    if len(axes) != len(extents) + 2 or node.dtype.name != "f32":
        return None
    value = Inliner(graph, choice.stored).meaning(sink, axes)
    images = axes_for(graph[hidden])[:2]
    found = set()
    for part in walk(value):
        if part.op == "load" and part.value == hidden:
            if part.args[:2] != images or axes[:2] != images:
                return None
            reads = zip(part.args[2:], axes[2:], extents)
            found.add(tuple(_step(index, a, extent) for index, a, extent in reads))
    if len(found) != 1:
        return None
    (steps,) = found
    size = tuple(s for s in steps if s is not None)
    return size if len(size) == len(extents) and max(size, default=1) > 1 else None


def _step(index: Expr, along: Expr, extent: object) -> int | None:
    """n if an index is n * along + (0 … n - 1) and lies within the map."""
    step = linear(index)[1].get(along)
    if along.op != "axis" or not isinstance(step, int) or not isinstance(extent, int):
        return None
    low, high = bounds(index - along * step)
    last = bounds(index)[1]
    if low is None or high is None or last is None:
        return None
    return step if low >= 0 and high < step and last < extent else None
