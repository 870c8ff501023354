"""Cuts what was read into steps: parts that Sol compiles, and what TensorFlow runs between them.

Every value has a level: how many steps of TensorFlow stand before it, one after the other. A part
is all nodes of one level. What depends on no input (weights, numbers) belongs to each part that
uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sol.arrays.captured import Captured, Host, Part, Step
from sol.ir.graph import Graph, Node
from sol.tensorflow.context import Hosted, Reading

_FREE = -1


def cut(reading: Reading, results: Sequence[Node]) -> Captured:
    """The steps of a model. Values are called as their nodes, inputs by their origin."""
    graph = reading.builder.finish(results)
    levels = _levels(graph, reading.hosted)
    hosted = [h for h in reading.hosted if _is_needed(h, graph, reading.hosted, results)]
    wanted = {n.name for n in results} | {i for h in hosted for i in h.inputs}
    names = {n.name: n.origin for n in graph.inputs}
    names |= {o: o for h in hosted for o in h.outputs}
    names |= {n.name: n["key"] for n in graph.parameters}
    steps: list[Step] = []
    for level in range(max(levels.values(), default=0) + 1):
        for h in hosted:
            if levels[h.outputs[0]] == level:
                steps.append(_host(h, names))
        part = _part(graph, levels, level, wanted, hosted, names)
        if part is not None:
            steps.append(part)
    keys = {n["key"] for s in steps if isinstance(s, Part) for n in s.graph.parameters}
    keys |= {names[i] for h in hosted for i in h.inputs if graph[i].op == "parameter"}
    keys |= {n["key"] for n in results if n.op == "parameter"}
    used = {key: array for key, array in reading.arrays.items() if key in keys}
    return Captured(tuple(steps), used, tuple(names.get(n.name, n.name) for n in results))


def _levels(graph: Graph, hosted: Sequence[Hosted]) -> dict[str, int]:
    """For each value how many steps of TensorFlow stand before it; -1 for what is free."""
    makers = {o: h for h in hosted for o in h.outputs}
    levels: dict[str, int] = {}
    for node in graph:
        if node.op == "input":
            maker = makers.get(node.name)
            before = [levels[i] for i in maker.inputs] if maker else []
            levels[node.name] = max([0, *before]) + 1 if maker else 0
        else:
            levels[node.name] = max((levels[i] for i in node.inputs), default=_FREE)
    return levels


def _is_needed(h: Hosted, graph: Graph, hosted: Sequence[Hosted], results: Sequence[Node]) -> bool:
    """Whether a result depends on what TensorFlow makes here."""
    return bool(set(h.outputs) & _reached(graph, hosted, results))


def _reached(graph: Graph, hosted: Sequence[Hosted], results: Sequence[Node]) -> set[str]:
    makers = {o: h for h in hosted for o in h.outputs}
    found: set[str] = set()
    stack = [n.name for n in results]
    while stack:
        name = stack.pop()
        if name in found:
            continue
        found.add(name)
        stack.extend(makers[name].inputs if name in makers else graph[name].inputs)
    return found


def _host(h: Hosted, names: Mapping[str, str]) -> Host:
    function = h.function
    return Host(
        lambda *arrays: tuple(function(*arrays)), tuple(names.get(i, i) for i in h.inputs),
        h.outputs, h.operator, h.reason, h.origin, "TensorFlow",
    )  # fmt: skip


def _part(
    graph: Graph, levels: Mapping[str, int], level: int, wanted: set[str],
    hosted: Sequence[Hosted], names: Mapping[str, str],
) -> Part | None:  # fmt: skip
    """The nodes of a level, as far as something after it reads them."""
    later = {
        i for n in graph for i in n.inputs if levels[n.name] > level and levels[i] == level
    } & _reached_any(graph, hosted, wanted)
    mine = {n for n in wanted if levels[n] == level or (level == 0 and levels[n] == _FREE)}
    outputs = [
        n.name for n in graph if n.name in (later | mine) and n.op not in ("input", "parameter")
    ]
    if not outputs:
        return None
    nodes = _closure(graph, levels, level, outputs)
    inputs = tuple(names.get(n.name, n.name) for n in nodes if n.op == "input")
    return Part(Graph(tuple(nodes), tuple(outputs)), inputs, tuple(outputs))


def _reached_any(graph: Graph, hosted: Sequence[Hosted], wanted: set[str]) -> set[str]:
    return _reached(graph, hosted, [graph[n] for n in wanted])


def _closure(
    graph: Graph, levels: Mapping[str, int], level: int, outputs: Sequence[str]
) -> list[Node]:
    """The nodes that outputs of a level need; values of other levels are inputs."""
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if node.name in needed and levels[node.name] in (level, _FREE):
            needed.update(node.inputs)
    found = []
    for node in graph:
        if node.name in needed:
            inside = levels[node.name] in (level, _FREE) and node.op != "input"
            plain = node if inside else replace(node, op="input", inputs=(), attrs=())
            found.append(plain)
    return found
