"""The verifier: what must hold of every graph, whatever made it.

`verify(graph, infer)` raises VerifyError for the first node that breaks a rule and names both. The
rules: names are legal and unique, inputs stand before their users, operators exist, attributes are
of the kinds that a graph may hold, the type of every node is the one that its operator's rule
(`infer`, normally `sol.ops.registry.infer`) gives, results exist. Called after each stage with
SOL_CHECK=1, and by tests.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any, NoReturn

from sol.core.dims import Dim
from sol.core.dtypes import DType
from sol.core.errors import SolError, VerifyError
from sol.ir.graph import (
    SOURCES,
    Graph,
    Literal,
    Node,
    TensorType,
    TypeRule,
    is_lent,
    types_of,
)
from sol.ir.show import show_node

_LEGAL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# exactly these: a NumPy number or a torch.Size would print, compare and hash in other ways
_ATTR_TYPES = (type(None), bool, int, float, str, DType, Dim, Literal)
_SOURCE_ATTRS = {"input": [], "parameter": ["key"], "constant": ["value"]}


def verify(graph: Graph, infer: TypeRule) -> None:
    """Raise VerifyError unless `graph` keeps all rules; `infer` gives the type of a node."""
    known: dict[str, Node] = {}
    for node in graph.nodes:
        _verify_name(node, known)
        _verify_inputs(node, known)
        _verify_attrs(node)
        if node.op in SOURCES:
            _verify_source(node)
        else:
            _verify_type(node, known, infer)
        known[node.name] = node
    _verify_outputs(graph, known)
    _verify_keys(graph)


def _broken(node: Node, rule: str, what: str, expected: str) -> NoReturn:
    shown = show_node(node)
    raise VerifyError(
        f"node {node.name} breaks the rule `{rule}`: {what}\n"
        f"    {shown if len(shown) <= 300 else shown[:297] + '...'}",
        expected=expected,
        do="correct what made this node: a pass, or the frontend",
    )


def _verify_name(node: Node, known: dict[str, Node]) -> None:
    if not _LEGAL.fullmatch(node.name):
        _broken(
            node,
            "legal names",
            f"{node.name!r} is not a name",
            "a name of ASCII letters, digits, _",
        )
    if node.name in known:
        _broken(node, "unique names", "an earlier node has this name", "a name of its own")


def _verify_inputs(node: Node, known: dict[str, Node]) -> None:
    for name in node.inputs:
        if name not in known:
            _broken(
                node,
                "topological order",
                f"{name} is not defined before",
                "inputs that stand before it",
            )
        if isinstance(known[name].type, tuple) and node.op != "item":
            _broken(node, "one tensor", f"{name} has several results", "an `item` of it")


def _verify_attrs(node: Node) -> None:
    keys = [key for key, _ in node.attrs]
    if keys != sorted(set(keys)):
        _broken(
            node, "attributes", f"the names are {keys}", "names in alphabetical order, each once"
        )
    for key, value in node.attrs:
        if not _legal(value):
            kinds = "None, bool, int, float, str, DType, Dim, Literal, or a tuple of them"
            _broken(node, "attributes", f"{key} is a {type(value).__name__}: {value!r}", kinds)


def _legal(value: Any) -> bool:
    if type(value) is tuple:
        return all(map(_legal, value))
    return type(value) in _ATTR_TYPES


def _verify_source(node: Node) -> None:
    keys, wanted = [key for key, _ in node.attrs], _SOURCE_ATTRS[node.op]
    if node.inputs or (keys != wanted and not is_lent(node)):
        _broken(node, "sources", f"attributes {keys}", f"no inputs and the attributes {wanted}")
    if not isinstance(node.type, TensorType):
        _broken(node, "sources", "it has several results", "one result")
    if node.op == "parameter" and type(node["key"]) is not str:
        _broken(node, "sources", "its key is not a string", "the name that the framework gives it")
    if node.op == "constant":
        _verify_constant(node)


def _verify_constant(node: Node) -> None:
    literal = node["value"]
    if not isinstance(literal, Literal):
        _broken(node, "constants", f"its value is {literal!r}", "a Literal")
    if TensorType(literal.shape, literal.dtype) != node.type:
        _broken(node, "types", f"its value is {literal.dtype}{list(literal.shape)}", f"{node.type}")
    size = math.prod(literal.shape) * literal.dtype.bytes
    if len(literal.data) != size:
        _broken(node, "constants", f"it has {len(literal.data)} bytes", f"{size} bytes")


def _verify_type(node: Node, known: dict[str, Node], infer: TypeRule) -> None:
    try:
        types = tuple(known[name].type for name in node.inputs)
        inferred = infer(node.op, types, dict(node.attrs))
    except SolError as refused:
        _broken(
            node, "operators", str(refused), "an operator that takes these inputs and attributes"
        )
    # whatever else a type rule raises: an attribute is missing or is of a kind that it never has
    except Exception as wrong:
        what = f"its type rule fails: {type(wrong).__name__}: {wrong}"
        _broken(node, "operators", what, "the inputs and attributes of the operator")
    if inferred != node.type:
        shown = ", ".join(map(str, inferred if isinstance(inferred, tuple) else (inferred,)))
        _broken(node, "types", f"its type is {', '.join(map(str, types_of(node)))}", shown)


def _verify_outputs(graph: Graph, known: dict[str, Node]) -> None:
    for name in graph.outputs:
        if name not in known:
            raise VerifyError(
                f"the graph returns {name}, which no node defines",
                expected="results that are nodes of the graph",
                do="correct what made the graph: a pass, or the frontend",
            )
        if isinstance(known[name].type, tuple):
            _broken(known[name], "one tensor", "the graph returns it", "an `item` of it")


def _verify_keys(graph: Graph) -> None:
    counts = Counter(node["key"] for node in graph.parameters)
    for node in graph.parameters:
        if counts[node["key"]] > 1:
            _broken(node, "parameters", "another node has the same key", "one node per parameter")
