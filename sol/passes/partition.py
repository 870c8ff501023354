"""Cut a network and its gradients into a forward and a backward graph.

What crosses is saved from one to the other. A minimal cut chooses it: a value costs the bytes that
it has, and what the forward computation does anyway must not be done again unless it is element-
wise or moves values only. Inputs cost little, as they are there; what follows from parameters alone
is on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from sol.core.dims import concrete
from sol.ir.graph import Graph, Known, Node, when_known
from sol.ops.registry import OPS
from sol.passes.autodiff import Joint
from sol.passes.mincut import Network

_BATCH = 4  # for which bytes are compared
_LARGE = 64  # a batch for which weights and results are compared
_INPUT = 1e-6  # cost of a byte that is there anyway
_RESULT = 1e-7  # of a byte of a result, which its reader has anyway
_AGAIN = ("elementwise", "move", "source")  # kinds that may be computed again
_ALIKE = ("batch_norm",)  # operators of other kinds that are element-wise
_AT_ONCE = ("max_pool_index",)  # later, what their windows read would have to be stored again
_ONCE = ("random", "random_numbers")  # a number costs more than the byte that says what came of it


@dataclass(frozen=True)
class Halves:
    """A network in training.

    forward: gives `results` results, and then those saved values that are neither inputs nor
    results. backward: takes the saved values, then the gradients of results, each once; gives
    gradients. saved: names in `forward`. seeds: for each result the backward graph's input for its
    gradient, or "". gradients: for each wanted value the number of its gradient, or -1.
    """

    forward: Graph
    backward: Graph
    results: int
    saved: tuple[str, ...]
    seeds: tuple[str, ...]
    wanted: tuple[str, ...]
    gradients: tuple[int, ...]


def partition(joint: Joint, borders: Collection[str] | None = None) -> Halves:
    """The two graphs of a joint one.

    borders: if there are any, all may be computed again but these, reductions, and contractions
    whose weights, which would have to be packed again, are larger than their results
    (checkpoints.py).
    """
    graph = joint.graph
    seeds = tuple(dict.fromkeys(s for s in joint.seeds if s))
    count = len(joint.results)
    results, found = graph.outputs[:count], graph.outputs[count:]
    behind = _behind(graph, seeds)
    needed = _above(graph, found)
    free = _free(graph)
    saved = _saved(graph, results, needed, behind, free, borders)
    extra = [n for n in saved if graph[n].op != "input" and n not in results]
    forward = _part(graph, (*results, *extra), (), frozenset(seeds))
    backward = _part(graph, found, saved, frozenset())
    inputs = {n.name for n in backward.inputs}
    numbers = iter(range(len(found)))
    return Halves(
        forward,
        _with_inputs(backward, graph, [*(s for s in saved if s in inputs), *seeds]),
        count,
        tuple(s for s in saved if s in inputs),
        joint.seeds,
        joint.wanted,
        tuple(next(numbers) if g else -1 for g in joint.gradients),
    )


def _behind(graph: Graph, sources: Collection[str]) -> frozenset[str]:
    """What depends on the gradients of results."""
    found = set(sources)
    for node in graph:
        if not found.isdisjoint(node.inputs):
            found.add(node.name)
    return frozenset(found)


def _above(graph: Graph, names: Collection[str]) -> frozenset[str]:
    """These values and what they depend on."""
    found = set(names)
    for node in reversed(graph.nodes):
        if node.name in found:
            found.update(node.inputs)
    return frozenset(found)


def _free(graph: Graph) -> frozenset[str]:
    """What follows from parameters and constants, or is computed anywhere."""
    known: dict[str, Known] = {}
    for node in graph:
        known[node.name] = when_known(node, known)
    return frozenset(
        n.name for n in graph if known[n.name] != "call" or n.op in ("full", "iota", "extent")
    )


def _saved(
    graph: Graph,
    results: Collection[str],
    needed: frozenset[str],
    behind: frozenset[str],
    free: frozenset[str],
    borders: Collection[str] | None,
) -> tuple[str, ...]:
    """The values of a minimal cut, in the order of the graph.

    needed: what gradients depend on; behind: what depends on
    gradients of results.
    """
    forward = _above(graph, results)
    network = Network()
    network.edge("forward", "backward", 0.0)
    readers = {n.name for n in graph if n.name in needed and n.name in behind}
    wanted = {i for name in readers for i in graph[name].inputs} | (
        set(graph.outputs) & needed - forward
    )
    for node in graph:
        name = node.name
        if name in behind or name in free or name not in needed:
            continue
        network.edge((name, "in"), (name, "out"), _cost(node, name in results))
        if (
            node.op == "input"
            or node.op in _AT_ONCE
            or (name in forward and not _may_repeat(graph, node, borders))
        ):
            network.edge("forward", (name, "in"), math.inf)
        for i in node.inputs:
            if i not in free:
                network.edge((i, "out"), (name, "in"), math.inf)
        if name in wanted:
            network.edge((name, "out"), "backward", math.inf)
    side = network.cut("forward", "backward")
    return tuple(n.name for n in graph if (n.name, "in") in side and (n.name, "out") not in side)


def _may_repeat(graph: Graph, node: Node, borders: Collection[str] | None) -> bool:
    if node.op in _ONCE:
        return False
    if borders is not None:
        heavy = OPS[node.op].kind == "reduce" or _weighs_more(graph, node)
        return node.name not in borders and not heavy
    return repeatable(node)


def repeatable(node: Node) -> bool:
    """Whether an operator costs so little that it may be computed again without a budget."""
    return node.op not in _ONCE and (OPS[node.op].kind in _AGAIN or node.op in _ALIKE)


def _weighs_more(graph: Graph, node: Node) -> bool:
    """Whether the weights of a contraction are larger than its result for a large batch."""
    if OPS[node.op].kind != "contract" or isinstance(node.type, tuple):
        return False
    weights = (n for n in graph.inputs_of(node) if n.name in graph.static)
    return sum(map(_bytes, weights)) > _bytes(node, _LARGE)


def _bytes(node: Node, batch: int = _BATCH) -> float:
    return float(math.prod(concrete(node.shape, batch)) * node.dtype.bytes)


def _cost(node: Node, is_result: bool) -> float:
    """Bytes, for the batch that is compared; values with several results cannot be saved."""
    if isinstance(node.type, tuple):
        return math.inf
    return _bytes(node) * (_INPUT if node.op == "input" else _RESULT if is_result else 1.0)


def _part(
    graph: Graph, outputs: Collection[str], given: Collection[str], without: Collection[str]
) -> Graph:
    """What computes outputs from given values; if there are none, all inputs stay but `without`."""
    found = set(outputs)
    for node in reversed(graph.nodes):
        if node.name in found and node.name not in given:
            found.update(node.inputs)
    nodes = [
        _as_input(n) if n.name in given else n
        for n in graph
        if n.name in found or (n.op == "input" and not given and n.name not in without)
    ]
    return Graph(tuple(nodes), tuple(outputs))


def _as_input(node: Node) -> Node:
    return replace(node, op="input", inputs=(), attrs=())


def _with_inputs(graph: Graph, whole: Graph, names: list[str]) -> Graph:
    """The graph with its inputs in this order, those that it does not read as well."""
    first = tuple(_as_input(whole[n]) for n in names)
    rest = tuple(n for n in graph if n.op != "input")
    return Graph((*first, *rest), graph.outputs)
