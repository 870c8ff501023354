"""A graph while it is being rewritten: what a rule may ask, how it makes nodes, and how a node is
replaced. Users are counted all the time, and what nothing uses any more disappears at once.

Made by ir/rewrite.py, handed to the functions of rules. Types of new nodes come from the operators'
rules (`infer`). Names stay: what replaces a node takes over its name and its origin.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import Any

from sol.core.dtypes import DType
from sol.ir.graph import (
    Attr,
    Attrs,
    Builder,
    Graph,
    Known,
    Literal,
    Node,
    TensorType,
    TypeRule,
    when_known,
)

_NUMBER = re.compile(r"_\d+$")
Numeric = bool | int | float


class Rewriter:
    """A mutable graph. Rules call the methods up to `again`; the rest is for the driver."""

    def __init__(self, graph: Graph, infer: TypeRule) -> None:
        self._infer = infer
        self._nodes: dict[str, Node] = {}
        self._users: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._when: dict[str, Known] = {}
        self._numbers: dict[str, Numeric] = {}
        self._outputs = list(graph.outputs)
        self._names = Builder(infer)  # for fresh names only
        self._root: Node | None = None
        self._made: list[str] = []
        for node in graph.nodes:
            self._insert(node)

    # ---- what rules ask

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def inputs_of(self, node: Node) -> tuple[Node, ...]:
        """The nodes that a node reads."""
        return tuple(self._nodes[i] for i in node.inputs)

    def users_of(self, node: Node) -> tuple[Node, ...]:
        """The nodes that read a node, each once."""
        return tuple(self._nodes[u] for u in self._users[node.name])

    def is_output(self, node: Node) -> bool:
        """Whether the graph returns it."""
        return node.name in self._outputs

    def is_single(self, node: Node) -> bool:
        """Whether exactly one node uses it and the graph does not return it."""
        return len(self._users[node.name]) == 1 and not self.is_output(node)

    def is_static(self, node: Node) -> bool:
        """Whether it depends on parameters and constants only, as `Graph.static`."""
        return self._when[node.name] == "static"

    def number(self, node: Node) -> Numeric | None:
        """The value of a constant (or `full`) whose elements are all equal, else None."""
        return self._numbers.get(node.name)

    # ---- what rules make

    def add(self, op: str, *inputs: Node, **attrs: Attr) -> Node:
        """A new node `op(inputs, attrs)`; SolError if the operator does not take them."""
        given = tuple(sorted(attrs.items()))
        result = self._infer(op, tuple(i.type for i in inputs), attrs)
        return self._make(op, tuple(i.name for i in inputs), given, result)

    def constant(self, value: Any, dtype: DType) -> Node:
        """A new constant."""
        literal = Literal.of(value, dtype)
        result = TensorType(literal.shape, dtype)
        return self._make("constant", (), (("value", literal),), result)

    def again(self, node: Node, *inputs: Node) -> Node:
        """A new node with the operator and the attributes of `node`, and other inputs."""
        return self.add(node.op, *inputs, **dict(node.attrs))

    # ---- one rewrite: begin, add …, then replace or abandon

    def begin(self, root: Node) -> None:
        """What is made from now on is to replace `root`."""
        self._root, self._made = root, []

    def abandon(self) -> None:
        """Remove what was made since `begin` and is not used."""
        for name in reversed(self._made):
            self._remove(name)

    def replace(self, root: Node, after: Node) -> Node:
        """Put `after` where `root` was; under the name of `root` if it was made for this."""
        if after.name in self._made:
            after = self._rename(after, root)
        else:
            self._redirect(root, after)
            self._remove(root.name)
        self.abandon()
        return after

    def order(self) -> list[str]:
        """Names in topological order, otherwise in the order in which nodes were made."""
        placed: dict[str, None] = {}
        for first in self._nodes:
            waiting = [first]
            while waiting:
                name = waiting[-1]
                missing = [i for i in self._nodes[name].inputs if i not in placed]
                if missing:
                    waiting.extend(reversed(missing))
                else:
                    placed[name] = None
                    waiting.pop()
        return list(placed)

    def finish(self) -> Graph:
        """The graph as it is now."""
        return Graph(tuple(self._nodes[n] for n in self.order()), tuple(self._outputs))

    # ---- bookkeeping

    def _make(self, op: str, inputs: tuple[str, ...], attrs: Attrs, type: Any) -> Node:
        assert self._root is not None, "nodes are made between begin and replace"
        # relu_relu_relu would say no more than relu_2
        stem = _NUMBER.sub("", self._root.name)
        name = self._fresh(stem if stem.endswith(op) else f"{stem}_{op}")
        node = Node(name, op, inputs, attrs, type, self._root.origin)
        self._insert(node)
        self._made.append(name)
        return node

    def _fresh(self, hint: str) -> str:
        while True:
            name = self._names.fresh(hint)
            if name not in self._nodes:
                return name

    def _insert(self, node: Node) -> None:
        self._nodes[node.name] = node
        for i in node.inputs:
            self._users[i][node.name] = None
        number = uniform_number(node)
        if number is None:
            self._numbers.pop(node.name, None)
        else:
            self._numbers[node.name] = number
        self._learn_when(node.name)

    def _learn_when(self, name: str) -> None:
        """Note when a node is known, and then again for its users if that has changed."""
        waiting = [name]
        while waiting:
            node = self._nodes[waiting.pop()]
            when = when_known(node, self._when)
            if when != self._when.get(node.name):
                self._when[node.name] = when
                waiting.extend(self._users[node.name])

    def _remove(self, name: str) -> None:
        """Remove a node if nothing uses it, and then what only it used."""
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name not in self._nodes or self._users[name] or name in self._outputs:
                continue
            if self._nodes[name].op == "input":
                continue  # it stays: callers pass it
            node = self._nodes.pop(name)
            del self._when[name]
            self._numbers.pop(name, None)
            self._forget_uses(node)
            waiting.extend(node.inputs)

    def _forget_uses(self, node: Node) -> None:
        for i in dict.fromkeys(node.inputs):
            del self._users[i][node.name]

    def _rename(self, after: Node, root: Node) -> Node:
        assert root.name not in after.inputs, f"{root.name} would be replaced by a user of itself"
        del self._nodes[after.name]
        self._forget_uses(after)
        self._forget_uses(root)
        renamed = replace(after, name=root.name)
        self._insert(renamed)
        for i in root.inputs:
            self._remove(i)
        return renamed

    def _redirect(self, root: Node, after: Node) -> None:
        """Let everything that uses `root` use `after`."""
        users = list(self._users[root.name])
        self._users[root.name].clear()
        for user in users:
            old = self._nodes[user]
            inputs = tuple(after.name if i == root.name else i for i in old.inputs)
            self._insert(replace(old, inputs=inputs))
        self._outputs = [after.name if o == root.name else o for o in self._outputs]


def uniform_number(node: Node) -> Numeric | None:
    """The value of a constant (or `full`) whose elements are all equal, else None."""
    if node.op == "full":
        return node["value"]  # type: ignore[no-any-return]
    if node.op != "constant":
        return None
    array = node["value"].array.reshape(-1)
    if array.size == 0 or (array.size > 1 and (array != array[0]).any()):
        return None
    return array[0].item()  # type: ignore[no-any-return]
