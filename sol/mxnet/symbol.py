"""Reads `NAME-symbol.json`, the files in which MXNet keeps networks, without MXNet.

A file is a list of nodes in topological order, each an operator with a name, attributes (all of
them text) and inputs (pairs: number of a node, number of its result); operator "null" is a
variable, that is an input or a parameter. Files of all versions since 0.8 are read. Whatever is
not so raises `InputError`: what came, and what a file should have there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sol.core.errors import InputError

_KEYS = ("param", "attr", "attrs")  # by version: 0.8 had the first two, 1.0 has the last
# files before 0.9 do not name the states of these operators among the inputs
_STATES = {"BatchNorm": ("gamma", "beta", "moving_mean", "moving_var")}
Reference = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SymbolNode:
    """One operator, or a variable (op "null"), and the results of nodes that it reads."""

    op: str
    name: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class SymbolGraph:
    """A network: nodes in topological order, its results, and whether 0 is a size (in NumPy's
    interface) or stands for an unknown one."""

    nodes: tuple[SymbolNode, ...]
    heads: tuple[Reference, ...]
    numpy_shapes: bool = False

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of inputs and parameters, in order."""
        return tuple(n.name for n in self.nodes if n.op == "null")

    @property
    def outputs(self) -> tuple[str, ...]:
        """A name for each result, as MXNet gives it: name_output, name_output1, …"""
        names: list[str] = []
        for number, result in self.heads:
            node = self.nodes[number]
            name = node.name if node.op == "null" else f"{node.name}_output{result or ''}"
            twice = names.count(name)
            names.append(f"{name}_{twice}" if twice else name)
        return tuple(names)


def read_symbol(path: Path) -> SymbolGraph:
    """The network in a file. InputError names the file and what is wrong with it."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", expected="a file NAME-symbol.json"
        ) from None
    return parse_symbol(text, str(path))


def parse_symbol(text: str | bytes, where: str = "the symbol") -> SymbolGraph:
    """The network in the text of a file."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where} is no JSON: {str(error)[:120]}", expected="what Symbol.save or export wrote"
        ) from None
    nodes = _field(found, "nodes", list, where)
    heads = _field(found, "heads", list, where)
    if not nodes or not heads:
        raise InputError(f"{where} has no {'heads' if nodes else 'nodes'}", expected="a network")
    read = tuple(_node(node, number, where) for number, node in enumerate(nodes))
    results = tuple(_reference(head, len(read), f"{where}: a head") for head in heads)
    return SymbolGraph(*_with_states(read, results), _numpy_shapes(found))


def _field(value: Any, key: str, kind: type, where: str, default: Any = None) -> Any:
    found = value.get(key, default) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        came = "nothing" if found is None else f"a {type(found).__name__}"
        raise InputError(f"{where}: {came} for {key!r}", expected=f"a {kind.__name__}")
    return found


def _node(value: Any, number: int, where: str) -> SymbolNode:
    place = f"{where}: node {number}"
    op = _field(value, "op", str, place)
    name = _field(value, "name", str, place)
    inputs = _field(value, "inputs", list, place, [])
    if value.get("subgraphs"):
        op = f"{op} with a subgraph"  # control flow: no row takes it
    attrs: dict[str, str] = {}
    for key in _KEYS:
        given = _field(value, key, dict, place, {})
        if not all(isinstance(v, str) for v in given.values()):
            raise InputError(f"{place} {name!r}: an attribute is no text", expected="all are text")
        attrs.update(given)
    references = tuple(_reference(i, number, f"{place} {name!r}: an input") for i in inputs)
    return SymbolNode(op, name, attrs, references)


def _reference(value: Any, below: int, place: str) -> Reference:
    """[node, result] or [node, result, version]; nodes stand before those that read them."""
    good = isinstance(value, list) and len(value) in (2, 3) and all(type(v) is int for v in value)
    if not good or not 0 <= value[0] < below or not 0 <= value[1] < 1 << 16:
        raise InputError(
            f"{place} is {str(value)[:60]}", expected=f"[node, result] of a node below {below}"
        )
    return value[0], value[1]


def _numpy_shapes(found: dict[str, Any]) -> bool:
    attrs = found.get("attrs")
    value = attrs.get("is_np_shape") if isinstance(attrs, dict) else None
    return isinstance(value, list) and value[-1:] == [1]


def _with_states(
    nodes: tuple[SymbolNode, ...], heads: tuple[Reference, ...]
) -> tuple[tuple[SymbolNode, ...], tuple[Reference, ...]]:
    """Variables for the states that files before 0.9 do not name among the inputs."""
    made: list[SymbolNode] = []
    moved: list[int] = []
    for node in nodes:
        inputs = tuple((moved[n], result) for n, result in node.inputs)
        missing = _STATES.get(node.op, ())[len(inputs) - 1 :] if inputs else ()
        for state in missing:
            inputs = (*inputs, (len(made), 0))
            made.append(SymbolNode("null", f"{node.name}_{state}"))
        moved.append(len(made))
        made.append(SymbolNode(node.op, node.name, node.attrs, inputs))
    return tuple(made), tuple((moved[n], result) for n, result in heads)
