"""Gradients of a network, as a graph: `differentiate(graph, wanted)`.

The gradient of every node stands in its operator's entry; this is the chain rule. Composite
operators without a gradient of their own are expanded first, where one is needed. What comes out is
one graph of the forward and the backward computation, which partition.py cuts in two.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sol.core.errors import SolError, UnsupportedError
from sol.ir.graph import Builder, Graph, Node, types_of
from sol.ops.registry import OPS, builder
from sol.passes.duplicates import dead, duplicates
from sol.passes.expand import expand_composites

# the gradients of values, by name, and of a node with several results by its name and their numbers
Changes = dict[str | tuple[str, int], Node]
Change = Node | tuple[Node | None, ...]


@dataclass(frozen=True)
class Joint:
    """A network and its gradients in one graph.

    Its inputs are the network's, then one for the gradient of each of its results that has one; its
    results are the network's, then the gradients. seeds: for each result the input of its gradient,
    or ""; gradients: for each wanted value the name of its gradient, or "" if no result depends on
    it.
    """

    graph: Graph
    results: tuple[str, ...]
    seeds: tuple[str, ...]
    wanted: tuple[str, ...]
    gradients: tuple[str, ...]


def differentiate(graph: Graph, wanted: Sequence[str]) -> Joint:
    """The graph of a network and of the gradients of its `wanted` inputs and parameters, for any
    gradients of its results.

    Raises UnsupportedError for an operator without a gradient between a wanted value and a result.
    """
    graph = _expanded(graph, wanted)
    needs = depending(graph, wanted)
    b = builder()
    for node in graph:
        b.append(node)
    changes: Changes = {}
    seeds = tuple(_seed(b, graph[o], changes) if o in needs else "" for o in graph.outputs)
    for node in reversed(graph.nodes):
        dy = _change(node, changes)
        if dy is not None and node.name not in wanted and node.inputs:
            _pull(b, graph, node, dy, changes, needs)
    found = [changes.get(name) for name in wanted]
    results = (*(graph[o] for o in graph.outputs), *(g for g in found if g is not None))
    # a reduction that a gradient needs as the network has it is small, and kept
    joint = dead(duplicates(b.finish(results), kinds=("reduce",)))
    names = iter(joint.outputs[len(graph.outputs) :])
    gradients = tuple("" if g is None else next(names) for g in found)
    return Joint(joint, graph.outputs, seeds, tuple(wanted), gradients)


def _may_stay(needs: frozenset[str], graph: Graph, node: Node) -> bool:
    return node.name not in needs or OPS[node.op].gradient is not None


def depending(graph: Graph, wanted: Collection[str]) -> frozenset[str]:
    """The floating-point values through which a change of a wanted one reaches others."""
    found = set(wanted)
    for node in graph:
        if _is_real(node) and node.op != "detach" and not found.isdisjoint(node.inputs):
            found.add(node.name)
    return frozenset(found)


def why_no_gradient(node: Node, inputs: Sequence[Node]) -> str:
    """Why the gradients of a node cannot be had, "" if they can, or nobody can want them."""
    ends = node.op in ("detach", "item")  # the gradient of an item is its source's affair
    if ends or not any(_is_real(n) for n in inputs) or not _is_real(node):
        return ""
    entry = OPS[node.op]
    if entry.gradient is None:
        return entry.why
    try:  # what it takes may depend on sizes
        b = builder()
        given = [
            b.append(replace(n, op="input", inputs=(), attrs=(), name=f"x{k}"))
            for k, n in enumerate(inputs)
        ]
        own = b.append(replace(node, inputs=tuple(n.name for n in given)))
        dy = tuple(b.input("dy", t) for t in types_of(own))
        entry.gradient(b, own, dy if isinstance(own.type, tuple) else dy[0], *given)
    except SolError as error:
        return getattr(error, "reason", "") or str(error)
    return ""


def _is_real(node: Node) -> bool:
    return any(t.dtype.kind == "float" for t in types_of(node))


def _expanded(graph: Graph, wanted: Collection[str]) -> Graph:
    """Without composite operators that need a gradient and have none of their own."""
    while True:
        needs = depending(graph, wanted)
        after = expand_composites(graph, partial(_may_stay, needs))
        if len(after) == len(graph):
            return after
        graph = after


def _seed(b: Builder, result: Node, changes: Changes) -> str:
    """An input for the gradient of a result; a value that is two results has two."""
    seed = b.input(f"d_{result.name}", result.tensor)
    _add(b, changes, result.name, seed)
    return seed.name


def _change(node: Node, changes: Changes) -> Change | None:
    """The gradient of a node, of each of its results if it has several; None if it has none."""
    if not isinstance(node.type, tuple):
        return changes.get(node.name)
    found = tuple(changes.get((node.name, k)) for k in range(len(node.type)))
    return None if all(f is None for f in found) else found


def _add(b: Builder, changes: Changes, name: str | tuple[str, int], change: Node) -> None:
    before = changes.get(name)
    changes[name] = change if before is None else b.add("add", before, change)


def _pull(
    b: Builder, graph: Graph, node: Node, dy: Change, changes: Changes, needs: frozenset[str]
) -> None:
    """The chain rule for one node."""
    if node.op == "item":
        assert isinstance(dy, Node)
        _add(b, changes, (node.inputs[0], node["index"]), dy)
        return
    gradient = OPS[node.op].gradient
    if gradient is None:
        where = f" ({node.origin})" if node.origin else ""
        raise UnsupportedError(
            node.op, f"no gradient{where}: {OPS[node.op].why}", do="train it in the framework"
        )
    inputs = graph.inputs_of(node)
    b.origin = node.origin
    found = gradient(b, node, dy, *inputs)
    b.origin = ""
    for source, change in zip(inputs, found, strict=True):
        if change is None or source.name not in needs:
            continue
        assert change.type == source.type, f"{node.op}: {change.type} for {source.type}"
        _add(b, changes, source.name, change)
