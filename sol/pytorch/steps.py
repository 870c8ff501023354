"""What a captured network is: steps of Sol and of PyTorch, from the inputs to the results.

A network that Sol takes whole is one `SolStep`. Otherwise runs of operators without a row are
`TorchStep`s between Sol's; views that share memory with an input or with another result are
`TorchStep`s too, so that they do share it. Values between steps have names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from sol.core.errors import UnsupportedError
from sol.ir.graph import Graph
from sol.pytorch.trace import Signature
from sol.pytorch.tree import Tree


@dataclass(frozen=True, slots=True)
class Value:
    """A reference to a value between steps."""

    name: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A reference to a parameter or buffer of the module, by its name there."""

    key: str


@dataclass(frozen=True, slots=True)
class Lifted:
    """A reference to a tensor that the network's code creates, always the same."""

    key: str


@dataclass(frozen=True, slots=True)
class Seed:
    """A whole number that is drawn anew in every call."""


@dataclass(frozen=True, slots=True)
class SolStep:
    """A graph of Sol; which values it reads and which it makes, in the order of the graph's own."""

    graph: Graph
    inputs: tuple[Value | Parameter | Lifted | Seed, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TorchStep:
    """One operator that PyTorch runs: `result = target(*args, **kwargs)`, and why PyTorch does it.

    Arguments are plain values, references, `Dim` for sizes that follow the batch, and lists.
    """

    target: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    result: str
    reason: str
    origin: str = ""
    view: bool = False
    random: bool = False


Step = SolStep | TorchStep


@dataclass(frozen=True)
class Left:
    """An operator that stayed in PyTorch: what, where in the user's model, and why."""

    op: str
    origin: str
    reason: str


@dataclass(frozen=True)
class Captured:
    """A network, read: its signature, its steps, and where inputs come from and results go to.

    `inputs[n]` names the n-th tensor argument. `mutations` are pairs of a target (number of an
    input or name of a buffer) and the value it gets. `results` are references, `tree` is the
    structure around them.
    """

    signature: Signature
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    results: tuple[Value | Parameter | Lifted, ...]
    mutations: tuple[tuple[int | str, str], ...]
    tree: Tree
    lifted: Mapping[str, torch.Tensor] = field(default_factory=dict)
    least_batch: int = 2
    computing: int = 0  # how many of the steps compute; those after them only make views
    why_fixed: str = ""  # why the batch is not open, where that was tried
    key: str = ""  # in the cache of captures; none if what it depends on is not known

    @property
    def graph(self) -> Graph:
        """The one graph of a network that Sol takes whole; UnsupportedError if it does not."""
        graphs = [s.graph for s in self.steps if isinstance(s, SolStep)]
        if self.left or len(graphs) != 1:
            left = "; ".join(f"{e.op}: {e.reason}" for e in self.left[:3])
            raise UnsupportedError("a network as one graph", left or "nothing is computed")
        return graphs[0]

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """All parts that Sol runs."""
        return tuple(s.graph for s in self.steps if isinstance(s, SolStep))

    @property
    def left(self) -> tuple[Left, ...]:
        """What stays in PyTorch; views are no computation and do not count."""
        steps = (s for s in self.steps if isinstance(s, TorchStep) and not s.view)
        return tuple(Left(s.target, s.origin, s.reason) for s in steps)

    @property
    def state(self) -> frozenset[str]:
        """Buffers that the network changes: they are read anew in every call, like inputs."""
        return frozenset(target for target, _ in self.mutations if isinstance(target, str))

    @cached_property
    def own(self) -> tuple[str, ...]:
        """Results that are tensors of their own, neither arguments nor views."""
        made = {name for step in self.steps[: self.computing] for name in makes(step)}
        names = (r.name for r in self.results if isinstance(r, Value) and r.name in made)
        return tuple(dict.fromkeys(names))

    @cached_property
    def places(self) -> tuple[int, ...]:
        """For each of `own` a place where it stands among the results."""
        names = [r.name if isinstance(r, Value) else "" for r in self.results]
        return tuple(map(names.index, self.own))

    @cached_property
    def random(self) -> bool:
        """Whether random numbers are drawn in a step: two runs differ."""
        return any(s.random if isinstance(s, TorchStep) else Seed() in s.inputs for s in self.steps)

    @cached_property
    def hidden(self) -> bool:
        """Whether a view is on memory that is neither an argument nor a result."""
        known = {*self.inputs, *self.own}
        for step in self.steps[self.computing :]:
            if not known.issuperset(reads(step)):
                return True
            known.update(makes(step))
        return False

    @property
    def keys(self) -> tuple[str, ...]:
        """The parameters and buffers that any step reads, each once."""
        found: dict[str, None] = {}
        for step in self.steps:
            if isinstance(step, SolStep):
                found.update((n["key"], None) for n in step.graph.parameters)
                references: Any = step.inputs
            else:
                references = (step.args, step.kwargs)
            found.update((r.key, None) for r in _references(references) if isinstance(r, Parameter))
        found.update((r.key, None) for r in self.results if isinstance(r, Parameter))
        return tuple(found)


def _references(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [r for v in value for r in _references(v)]
    return [value] if isinstance(value, (Value, Parameter, Lifted)) else []


def reads(step: Step) -> list[str]:
    """Names of the values that a step reads."""
    given: Any = step.inputs if isinstance(step, SolStep) else (step.args, step.kwargs)
    return [r.name for r in _references(given) if isinstance(r, Value)]


def makes(step: Step) -> tuple[str, ...]:
    """Names of the values that a step makes."""
    return step.outputs if isinstance(step, SolStep) else (step.result,)
