"""How much each cluster of a plan has to do, whatever its implementation: operations and bytes.

Operations are those of the layers as written: an addition, a multiplication or a comparison is
one, so a multiply-add is two; exp, a division and the like count as many as they take
(plan/facts.py). Winograd and other shortcuts do fewer: the count is that of the direct way. Bytes
are compulsory: what the cluster reads, each element once, and what it leaves in memory, once.
In: a `Plan` and a batch; out: `Work` of each cluster. Called by roofline.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sol.core.dims import Shape, concrete, evaluate
from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, load, size_bounds, walk
from sol.ir.graph import Graph, Node, types_of
from sol.ops.cells import CELLS
from sol.ops.registry import OPS, builder, expanded
from sol.passes.expand import expand_composites
from sol.plan.facts import SCANS, operations
from sol.plan.inline import Inliner, axes_for
from sol.plan.records import Cluster, Plan


@dataclass(frozen=True, slots=True)
class Work:
    """Operations, and bytes read, written, and read of weights, by one cluster in one call."""

    operations: int
    read: int
    written: int
    weights: int

    @property
    def bytes(self) -> int:
        """All compulsory traffic."""
        return self.read + self.written + self.weights


def work(plan: Plan, clusters: Sequence[Cluster], batch: int) -> tuple[Work, ...]:
    """The work of clusters of a plan for a batch."""
    inline = Inliner(plan.graph, plan.stored)
    alone = Inliner(plan.graph, frozenset(n.name for n in plan.graph))
    return tuple(_cluster(plan, c, inline, alone, batch) for c in clusters)


def _cluster(plan: Plan, cluster: Cluster, inline: Inliner, alone: Inliner, batch: int) -> Work:
    graph = plan.graph
    layers = [graph[n] for n in cluster.layers if n in graph and n not in graph.static]
    total = sum(node_operations(graph, n, alone, batch) for n in layers)
    read = weights = 0
    own = {v.split("@")[0] for v in cluster.values} | set(cluster.layers)
    for name, size in _reads(inline, cluster, batch).items():
        if name in graph.static:
            weights += size
        elif name not in own:
            read += size
    return Work(total, read, _written(graph, cluster, batch), weights)


# ---- operations ----------------------------------------------------------------------------------


def node_operations(graph: Graph, node: Node, alone: Inliner, batch: int) -> int:
    """Operations of one node; `alone` takes every value of the graph as stored."""
    if node.op == "scatter_add":
        return _elements(graph[node.inputs[1]].shape, batch)
    if OPS[node.op].compute is not None:
        return expression_operations(alone.meaning(node.name, axes_for(node)), batch)
    if node.op in SCANS:
        return _scan(node, batch)
    if node.op == "masked_attention":
        return _masked(graph, node, batch)
    if OPS[node.op].expand is not None:
        return _expanded(graph, node, batch)
    return 0  # inputs, and results of nodes with several


def expression_operations(x: Expr, batch: int) -> int:
    """Operations on floating-point numbers, for all elements that an expression stands for.

    A part is evaluated once for every combination of the axes that it depends on: what does not
    depend on an axis does not count for each of its places.
    """
    costs = operations(x)
    axes = _axes(x)
    total = sum(c * _places(axes[p], batch) for p, c in costs.items() if _is_float(p))
    for part in walk(x):
        if part.op == "reduce":
            total += _places(axes[part] | axes[part.args[0]] | set(part.args[1:]), batch)
    return total


def _is_float(part: Expr) -> bool:
    return any(p.dtype.kind == "float" for p in (part, *part.args))


def _axes(x: Expr) -> dict[Expr, frozenset[Expr]]:
    """The free axes of each part of an expression."""
    found: dict[Expr, frozenset[Expr]] = {}
    for part in walk(x):
        if part.op == "axis":
            found[part] = frozenset((part,))
            continue
        inner: frozenset[Expr] = frozenset().union(*(found[a] for a in part.args))
        found[part] = inner - frozenset(part.args[1:]) if part.op == "reduce" else inner
    return found


def _places(axes: Iterable[Expr], batch: int) -> int:
    return math.prod(evaluate(a.value[1], batch) for a in axes if a.op == "axis")


def _scan(node: Node, batch: int) -> int:
    """A recurrent layer: for each step and unit, sums over all units for each gate, and the cell;
    the way back is as much.

    The share of the input is a linear layer of its own (plan/recurrent.py).
    """
    cell = CELLS[node["cell"]]
    sequence = types_of(node)[0]
    names = {"x": cell.gates, "r": cell.gates, "s": cell.states, "t": cell.states, "k": cell.kept}
    x, r, s, t, k = ([load(f"{n}{i}", F32) for i in range(c)] for n, c in names.items())
    width = evaluate(sequence.shape[-1], batch)
    if node.op == "scan_gradient":
        change = cell.back(apply, k, s, t, t)
        found = [v for v in (*change.x, *change.r, *change.states) if v is not None]
        hidden, bias = width // cell.gates, 0
    else:
        found = [*cell.step(apply, x, r, s)]
        hidden, bias = width, len(node.inputs) - 2 - cell.states
    once = {part: cost for value in found for part, cost in operations(value).items()}
    each = cell.gates * (2 * hidden + bias) + sum(once.values())
    return _elements((*sequence.shape[:-1], hidden), batch) * each


def _masked(graph: Graph, node: Node, batch: int) -> int:
    """Attention without its masks, and an addition to each score for each of them."""
    q, k, *_ = graph.inputs_of(node)
    plain = replace(node, op="attention", inputs=node.inputs[:3])
    scores = _elements((*q.shape[:-1], k.shape[-2]), batch)
    return _expanded(graph, plain, batch) + scores * (len(node.inputs) - 3)


def _expanded(graph: Graph, node: Node, batch: int) -> int:
    """Operations of the graph that a composite operator stands for."""
    b = builder()
    inputs = [b.input(f"x{k}", graph[i].tensor) for k, i in enumerate(node.inputs)]
    parts = expand_composites(b.finish(expanded(b, node, inputs)), lambda *_: False)
    alone = Inliner(parts, frozenset(n.name for n in parts))
    return sum(node_operations(parts, n, alone, batch) for n in parts)


# ---- bytes ---------------------------------------------------------------------------------------


def _reads(inline: Inliner, cluster: Cluster, batch: int) -> dict[str, int]:
    """Bytes that a cluster reads of each value in memory."""
    graph = inline.graph
    found: dict[str, int] = {}
    for x in _expressions(inline, cluster):
        axes = _axes(x)
        for part in walk(x):
            if part.op == "load":
                count = _elements_read(part, axes, batch) * part.dtype.bytes
                most = _elements(graph[part.value].shape, batch) * part.dtype.bytes
                found[part.value] = min(most, found.get(part.value, 0) + count)
    return found


def _expressions(inline: Inliner, cluster: Cluster) -> list[Expr]:
    """Expressions whose loads are what a cluster reads."""
    graph = inline.graph
    if cluster.kind in ("attention", "recurrent", "scatter"):
        operands = [graph[i] for i in graph[cluster.root].inputs]
        return [inline.element(n.name, axes_for(n)) for n in operands]
    if "@" in cluster.values[0]:
        part = graph[_part(graph, cluster.values[0])]
        return [inline.element(part.name, axes_for(part))]
    return [inline.meaning(v, axes_for(graph[v])) for v in cluster.values]


def _part(graph: Graph, name: str) -> str:
    """joined@2 -> the value that is part 2 of `joined`."""
    joined, number = name.split("@")
    return graph[joined].inputs[int(number)]


def _elements_read(part: Expr, axes: dict[Expr, frozenset[Expr]], batch: int) -> int:
    """Different elements that a load reads, at most: by the axes of its indices, and by their
    ranges."""
    places = _places(frozenset().union(*(axes[i] for i in part.args)), batch)
    ranges = 1
    for index in part.args:
        low, high = size_bounds(index)
        if low is None or high is None:
            return places
        ranges *= evaluate(high, batch) - evaluate(low, batch) + 1
    return min(places, ranges)


def _written(graph: Graph, cluster: Cluster, batch: int) -> int:
    total = 0
    for value in cluster.values:
        if value in cluster.private:
            continue
        node = graph[_part(graph, value) if "@" in value else value]
        total += sum(_elements(t.shape, batch) * t.dtype.bytes for t in types_of(node))
    return total


def _elements(shape: Shape, batch: int) -> int:
    return math.prod(concrete(shape, batch))
