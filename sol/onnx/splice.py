"""Nodes that stand for other nodes: functions, branches, loops. Their bodies are put in place of
them, with fresh names, so that reading knows one flat list only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from sol.core.errors import InputError

_P: Any = onnx.AttributeProto


@dataclass(frozen=True, eq=False)
class Item:
    """A node to read: with the operator sets it was written for, and its name for the user.

    state: what a loop has done so far (control.py).
    """

    node: Any
    opsets: Mapping[str, int]
    label: str
    state: Any = None


def items_of(nodes: Iterable[Any], opsets: Mapping[str, int], prefix: str = "") -> list[Item]:
    """The nodes of a graph as items."""
    return [Item(n, opsets, prefix + label_of(n)) for n in nodes]


def label_of(node: Any) -> str:
    """What a user knows a node by: its name, else what it makes."""
    return node.name or next((o for o in node.output if o), "") or node.op_type


def reads(node: Any) -> set[str]:
    """Names of all values that a node reads, its bodies included."""
    found = {i for i in node.input if i}
    for attribute in node.attribute:
        for graph in _graphs(attribute):
            found |= free_names(graph)
    return found


def _graphs(attribute: Any) -> Sequence[Any]:
    if attribute.type == _P.GRAPH:
        return [attribute.g]
    return attribute.graphs if attribute.type == _P.GRAPHS else []


def bound_names(graph: Any) -> set[str]:
    """Names that a body defines."""
    found = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    return found | {o for n in graph.node for o in n.output if o}


def free_names(graph: Any) -> set[str]:
    """Names that a body reads from around it."""
    read = {name for n in graph.node for name in reads(n)} | {o.name for o in graph.output}
    return read - bound_names(graph)


def renamed(
    node: Any, names: Mapping[str, str], prefix: str, attributes: Mapping[str, Any] | None = None
) -> Any:
    """A copy of a node in another place: `names` of values change, others get the prefix.

    attributes: those of the function call around it, for references to them.
    """
    copy = type(node)()
    copy.CopyFrom(node)
    for values in (copy.input, copy.output):
        values[:] = [names.get(v, prefix + v) if v else "" for v in values]
    if attributes is not None:
        _resolve(copy, attributes)
    for attribute in copy.attribute:
        for graph in _graphs(attribute):
            _rename_body(graph, names, prefix, attributes)
    return copy


def _resolve(node: Any, attributes: Mapping[str, Any]) -> None:
    """Put the caller's attributes in place of references."""
    kept = []
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            kept.append(attribute)
        elif attribute.ref_attr_name in attributes:
            copy = type(attribute)()
            copy.CopyFrom(attributes[attribute.ref_attr_name])
            copy.name = attribute.name
            kept.append(copy)
    kept = [type(a).FromString(a.SerializeToString()) for a in kept]
    del node.attribute[:]
    node.attribute.extend(kept)


def _rename_body(
    graph: Any, names: Mapping[str, str], prefix: str, attributes: Mapping[str, Any] | None
) -> None:
    """Change what a body reads from around it; what it defines itself keeps its name."""
    own = bound_names(graph)
    inside = {name: name for name in own}
    outside = {name: names.get(name, prefix + name) for name in free_names(graph)}
    mapping = {**outside, **inside}
    for position, node in enumerate(graph.node):
        graph.node[position].CopyFrom(renamed(node, mapping, "", attributes))
    for output in graph.output:
        output.name = mapping.get(output.name, output.name)


def body(
    graph: Any, given: Sequence[str], results: Sequence[str], prefix: str, item: Item
) -> tuple[list[Item], dict[str, Any]]:
    """The nodes of a body with `given` for its inputs, which make `results`; its initialisers.

    Names that the body does not define are those around it.
    """
    if len(given) != len(graph.input) or len(results) > len(graph.output):
        raise InputError(
            f"the body of {item.node.op_type}, node {item.label}, has {len(graph.input)} inputs "
            f"and {len(graph.output)} outputs",
            expected=f"{len(given)} inputs and at least {len(results)} outputs",
        )
    own = bound_names(graph)
    names = {name: name for name in free_names(graph)}
    names |= {name: prefix + name for name in own}
    names |= dict(zip((i.name for i in graph.input), given))
    nodes = [renamed(n, names, "") for n in graph.node]
    ends = [
        onnx.helper.make_node("Identity", [names[o.name]], [r])
        for o, r in zip(graph.output, results)
        if r
    ]
    made = items_of(nodes, item.opsets, f"{item.label}/")
    made += [Item(n, item.opsets, item.label) for n in ends]
    return made, {names[t.name]: t for t in graph.initializer}


def function(
    made_of: Any,
    item: Item,
    prefix: str,
    opsets: Mapping[str, int],
    defaults: Mapping[str, Any] | None = None,
) -> list[Item]:
    """The nodes of a function for one call of it. defaults: attributes that the call may leave."""
    node = item.node
    if len(node.input) > len(made_of.input) or len(node.output) > len(made_of.output):
        raise InputError(
            f"{node.op_type}, node {item.label}: {len(node.input)} inputs and "
            f"{len(node.output)} outputs",
            expected=f"at most {len(made_of.input)} and {len(made_of.output)}",
        )
    names = dict.fromkeys(made_of.input, "")
    names |= dict(zip(made_of.input, node.input))
    names |= {formal: actual for formal, actual in zip(made_of.output, node.output) if actual}
    given = {**(defaults or {}), **{a.name: a for a in made_of.attribute_proto}}
    given |= {a.name: a for a in node.attribute}
    nodes = [renamed(n, names, prefix, given) for n in made_of.node]
    return items_of(nodes, opsets, f"{item.label}/")
