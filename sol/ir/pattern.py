"""Patterns of nodes as text: `mul(x, sigmoid(x))`. The left and right sides of rewrite rules.

    add(x, y)            the operator with these inputs; both orders where it is commutative
    add|sub:n(x, y)      one of several operators; the node is known as `n`
    !conv(x, W)          a node that nothing else uses and that is not a result of the graph
    concat:c(*)          any inputs
    x                    any value; the same letter is the same value
    W                    a capital letter first: a value that depends on parameters only (`static`)
    $c                   a constant, all of whose elements are the same number
    0.5  True            such a constant with this value

On the right side `op:n(...)` takes the attributes of the node `n`, and a number is a constant of
the element type of the node that is replaced; alone, a tensor of it. ir/rewrite.py does both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np

from sol.ir.graph import Node

COMMUTATIVE = frozenset(
    {"add", "mul", "max", "min", "eq", "ne"}
    | {"logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"}
)
Found = dict[str, Node]


@dataclass(frozen=True, slots=True)
class Var:
    """Any value, or any static value."""

    name: str
    static: bool


@dataclass(frozen=True, slots=True)
class Scalar:
    """A constant of equal elements, known as `$name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Number:
    """A constant of equal elements of this value."""

    value: bool | int | float


@dataclass(frozen=True, slots=True)
class Call:
    """A node of one of `ops`; `args` None stands for any inputs."""

    ops: tuple[str, ...]
    label: str
    args: tuple[Term, ...] | None
    single: bool


Term = Var | Scalar | Number | Call


class View(Protocol):
    """What matching needs to know of a graph."""

    def inputs_of(self, node: Node) -> tuple[Node, ...]:
        """The nodes that a node reads."""

    def is_static(self, node: Node) -> bool:
        """Whether it depends on parameters and constants only."""

    def is_single(self, node: Node) -> bool:
        """Whether exactly one node uses it, and it is no result."""

    def number(self, node: Node) -> bool | int | float | None:
        """The value of a constant of equal elements, else None."""


# ---- matching -----------------------------------------------------------------


def match(term: Term, node: Node, view: View, found: Found) -> Iterator[Found]:
    """All ways in which `node` is an instance of `term`, as tables name -> node."""
    match term:
        case Call():
            if node.op in term.ops and (not term.single or view.is_single(node)):
                yield from _match_call(term, node, view, found)
        case Number(value=value):
            if _same_number(view.number(node), value, node):
                yield found
        case Scalar(name=name):
            if view.number(node) is not None:
                yield from _bind(name, node, found)
        case Var(name=name, static=static):
            if not static or view.is_static(node):
                yield from _bind(name, node, found)


def _bind(name: str, node: Node, found: Found) -> Iterator[Found]:
    if name not in found:
        yield {**found, name: node}
    elif found[name].name == node.name:
        yield found


def _match_call(term: Call, node: Node, view: View, found: Found) -> Iterator[Found]:
    if term.label:
        if found.get(term.label, node).name != node.name:
            return
        found = {**found, term.label: node}
    if term.args is None:
        yield found
        return
    inputs = view.inputs_of(node)
    if len(inputs) != len(term.args):
        return
    yield from _match_all(term.args, inputs, view, found)
    if node.op in COMMUTATIVE:
        yield from _match_all(term.args, inputs[::-1], view, found)


def _match_all(
    terms: tuple[Term, ...], nodes: tuple[Node, ...], view: View, found: Found
) -> Iterator[Found]:
    if not terms:
        yield found
        return
    for first in match(terms[0], nodes[0], view, found):
        yield from _match_all(terms[1:], nodes[1:], view, first)


def _same_number(value: bool | int | float | None, wanted: bool | int | float, node: Node) -> bool:
    if value is None or isinstance(value, bool) != isinstance(wanted, bool):
        return False
    # a number of the user's model has been rounded to the element type
    return value == wanted or value == np.dtype(node.dtype.numpy).type(wanted)


# ---- reading ------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(?P<call>(?P<single>!?)(?P<ops>[a-z]\w*(?:\|[a-z]\w*)*)(?::(?P<label>\w+))?\()"
    r"|(?P<scalar>\$\w+)|(?P<number>-?\d+(?:\.\d+)?|-?inf|True|False)|(?P<var>[A-Za-z]\w*)"
    r"|(?P<mark>[,)*]))"
)


def parse_rule(text: str) -> tuple[Call, Term | None]:
    """The two sides of `before -> after`, or only the first."""
    before, _, after = text.partition("->")
    pattern = parse_term(before)
    assert isinstance(pattern, Call), f"a rule starts with an operator: {text}"
    return pattern, parse_term(after) if after else None


def parse_term(text: str) -> Term:
    """The term that a text stands for; a wrong one is a bug of the rule and an AssertionError."""
    tokens = _Tokens(text)
    term = tokens.term()
    if tokens.rest():
        tokens.fail()
    return term


class _Tokens:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def rest(self) -> str:
        return self._text[self._at :].strip()

    def fail(self) -> NoReturn:
        raise AssertionError(f"not a pattern at {self.rest()!r}: {self._text!r}")

    def _next(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            self.fail()
        self._at = found.end()
        return found

    def _skip(self, mark: str) -> bool:
        if not self.rest().startswith(mark):
            return False
        self._at = self._text.index(mark, self._at) + len(mark)
        return True

    def term(self) -> Term:
        found = self._next()
        if found["call"]:
            ops = tuple(found["ops"].split("|"))
            return Call(ops, found["label"] or "", self._args(), found["single"] == "!")
        if found["scalar"]:
            return Scalar(found["scalar"])
        if found["number"]:
            return Number(_number(found["number"]))
        if not found["var"]:
            self.fail()
        return Var(found["var"], found["var"][0].isupper())

    def _args(self) -> tuple[Term, ...] | None:
        if self._skip("*"):
            return None if self._skip(")") else self.fail()
        args: list[Term] = []
        while not self._skip(")"):
            if args and not self._skip(","):
                self.fail()
            args.append(self.term())
        return tuple(args)


def _number(text: str) -> bool | int | float:
    if text in ("True", "False"):
        return text == "True"
    return float(text) if "." in text or "inf" in text else int(text)
