"""What was made of a network and why: every cluster, its layers, its implementation, the bytes it
saves and its time.

In: a `Compiled` network, and the nanoseconds of each step if it was profiled. Out: records that
print themselves (text.py). Frontends add what stayed with the framework.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from sol.compiler import Compiled, Made
from sol.core.dims import evaluate
from sol.ir.graph import Graph, types_of
from sol.report.text import ClusterReport, Explanation


def explain(compiled: Compiled, times: Sequence[int] | None = None) -> Explanation:
    """The explanation of a compiled network."""
    seconds = cluster_seconds(compiled, times) if times else [None] * len(compiled.steps)
    clusters = [
        _cluster(compiled, made, number, spent)
        for number, (made, spent) in enumerate(zip(compiled.steps, seconds))
    ]
    arena, own = compiled.planned.arena, compiled.planned.own
    notes = (
        ()
        if compiled.planned.plan.splittable
        else ("images are not independent in this network: a batch is computed as a whole",)
    )
    return Explanation(
        tuple(clusters),
        arena.per_image,
        arena.constant,
        own.per_image + own.constant,
        compiled.packed_bytes,
        compiled.program.group if compiled.program.splittable else 0,
        notes,
    )


def cluster_seconds(compiled: Compiled, times: Sequence[int]) -> list[float]:
    """Seconds of each cluster: it may be several steps of the program."""
    found = []
    first = 0
    for made in compiled.steps:
        last = first + len(made.calls)
        found.append(sum(times[first:last]) * 1e-9)
        first = last
    return found


def _layers(compiled: Compiled, made: Made, names: Sequence[str]) -> tuple[str, ...]:
    """The user's names of what nodes of the plan compute, the most expensive one first.

    With those of layers that passes merged into them: conv1 and bn1, if a convolution does both.
    Nodes without an origin have their own names, if no other has one.
    """
    graph = compiled.planned.plan.graph
    known = {n.origin for n in graph if n.name not in graph.static}
    order = [n for n in (made.cluster.root, *names) if n in graph]
    found = [o for n in order for o in (*_merged(compiled.graph, n, known), graph[n].origin)]
    return tuple(dict.fromkeys(o for o in found if o)) or tuple(names)


def _merged(read: Graph, name: str, known: Set[str]) -> list[str]:
    """Origins of nodes before one, in the graph that was read, that the plan does not know."""
    found: dict[str, None] = {}
    stack = list(read[name].inputs) if name in read else []
    while stack:
        node = read[stack.pop()]
        if node.origin and node.origin not in known and node.name not in read.static:
            found[node.origin] = None
            stack.extend(node.inputs)
    return list(reversed(found))


def _cluster(compiled: Compiled, made: Made, number: int, seconds: float | None) -> ClusterReport:
    graph = compiled.planned.plan.graph
    names = [n for n in made.cluster.layers if n in graph and n not in graph.static]
    saved = 0
    for name in names:
        if name not in made.cluster.values or name in made.cluster.private:
            for kind in types_of(graph[name]):
                elements = 1
                for extent in kind.shape:
                    elements *= evaluate(extent, 1)
                saved += 2 * elements * kind.dtype.bytes
    return ClusterReport(
        number,
        made.cluster.kind,
        _layers(compiled, made, names),
        tuple(graph[n].op for n in names),
        made.why,
        saved,
        seconds,
    )
