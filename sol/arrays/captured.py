"""What a frontend reads out of a model for one signature: steps, parameters, results.

Values between steps have names. They begin with the inputs of the model and its parameters; each
step adds its outputs. A model that Sol takes whole is one `Part`, made by `whole`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.ir.graph import Builder, Graph, Node
from sol.report.text import Outside

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A graph that Sol compiles. It reads the values `inputs`, in the order of the graph's inputs,
    and makes the values `outputs`, in the order of the graph's."""

    graph: Graph
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """Something that NumPy or the framework computes, `outputs = function(*inputs)`, and why.

    `explain` shows `name` (the operator), `origin` (where it stands in the user's model) and
    `reason`. `where` is who computes it.
    """

    function: Callable[..., tuple[Array, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str
    reason: str
    origin: str = ""
    where: str = "NumPy"

    @property
    def outside(self) -> Outside:
        """The line of `explain`."""
        return Outside(self.where, self.name, self.origin, self.reason)


Step = Part | Host


@dataclass(frozen=True)
class Captured:
    """A model, read for one signature.

    parameters: arrays by the `key` of parameter nodes; they are not copied. results: the names of
    the values that the model returns, in the order of its outputs. least: the smallest batch that
    the steps hold for, where the reader knows that; else `Network` reads the model for one image,
    too, and compares.
    """

    steps: tuple[Step, ...]
    parameters: Mapping[str, Array] = field(default_factory=dict)
    results: tuple[str, ...] = ()
    least: int | None = None

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs of the parts."""
        return tuple(s.graph for s in self.steps if isinstance(s, Part))


def whole(
    builder: Builder, outputs: Mapping[str, Node], parameters: Mapping[str, Array]
) -> Captured:
    """A model that is one graph. Its inputs are called as the `origin` of their nodes, which is
    the name that `builder.input` was given. outputs: results by their names."""
    graph = pruned(builder.finish(outputs.values()))
    part = Part(graph, tuple(n.origin for n in graph.inputs), tuple(outputs))
    used = {n["key"]: np.asarray(parameters[n["key"]]) for n in graph.parameters}
    return Captured((part,), used, tuple(outputs))


def pruned(graph: Graph) -> Graph:
    """The graph without nodes that no result depends on, unused inputs among them."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return Graph(tuple(n for n in graph.nodes if n.name in needed), graph.outputs)
