"""Cut a traced network into steps: what Sol computes, and what PyTorch has to.

Nodes get levels: even ones are Sol's, odd ones PyTorch's, and a node stands at the lowest level of
its kind that is not below what it reads. All nodes of a level make one step (of Sol) or a row of
steps (of PyTorch), so there are as few changes between the two as the network allows.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from sol.core.dims import evaluate
from sol.core.errors import SolError, UnsupportedError
from sol.ir.graph import Node
from sol.plan.facts import NOMINAL_BATCH
from sol.pytorch.aliases import SHARED, Alias, aliases
from sol.pytorch.steps import (
    Captured,
    Lifted,
    Parameter,
    Seed,
    SolStep,
    Step,
    TorchStep,
    Value,
)
from sol.pytorch.trace import Signature, Source, Traced, is_lifted, origin
from sol.pytorch.translate import Translator, is_note, symbolic

_COPY = "aten.clone.default"
_NO_COMPUTATION = "nothing to compute"
_STRIDED = ("aten.as_strided.default",)  # reads memory by strides, whatever those of a tensor are


def cut(traced: Traced, signature: Signature) -> Captured:
    """The steps of a traced network."""
    return _Cutter(traced).captured(signature)


class _Cutter:
    """The work of `cut`: a translation of everything, to learn what is left; then the steps."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.sources = {s.node: s for s in traced.sources}
        self.aliases = aliases(traced)
        self.wanted = set(self._targets())
        self.needed = _needed(traced, self.wanted)
        self.trial = Translator(traced)
        self.trial.translate(self.needed)
        self.levels = self._levels()
        self.steps: list[Step] = []
        self.made: set[fx.Node] = set()

    def _targets(self) -> list[fx.Node]:
        """Nodes that have to be computed for results and mutations."""
        bases = [a.base for a in self.aliases.values()]
        plain = [r for n, r in enumerate(self.traced.results) if n not in self.aliases]
        changed = [value for _, value in self.traced.mutations]
        return list(dict.fromkeys([*bases, *plain, *changed]))

    # ---- levels

    def _levels(self) -> dict[fx.Node, int]:
        levels: dict[fx.Node, int] = {}
        for node in self.needed:
            kind = self._kind(node)
            if kind is None:
                continue
            below = max((levels.get(n, 0) for n in node.all_input_nodes), default=0)
            levels[node] = below + (below - kind) % 2
        return levels

    def _kind(self, node: fx.Node) -> int | None:
        """0 for Sol, 1 for PyTorch, None for what is no computation."""
        if node.op != "call_function" or is_note(node):
            return None
        if node in self.trial.left:
            return 1
        value = self.trial.values.get(node)
        return 0 if isinstance(value, (Node, tuple)) else None

    # ---- steps

    def captured(self, signature: Signature) -> Captured:
        """All steps, and what goes in and out."""
        groups: dict[int, list[fx.Node]] = defaultdict(list)
        for node, level in self.levels.items():
            groups[level].append(node)
        for level in sorted(groups):
            make = self._torch_steps if level % 2 else self._sol_step
            make(groups[level])
        mutations = tuple((t, self._name(self._finished(v))) for t, v in self.traced.mutations)
        own = [r for n, r in enumerate(self.traced.results) if n not in self.aliases]
        for node in [*own, *(a.base for a in self.aliases.values())]:
            self._finished(node)
        computing = len(self.steps)
        changed = {value: target for target, value in self.traced.mutations}
        results = tuple(self._result(n, r, changed) for n, r in enumerate(self.traced.results))
        names = {s.index: s.node.name for s in self.traced.sources if s.role == "input"}
        inputs = tuple(names.get(n, "") for n in range(len(signature.tensors)))
        return Captured(
            signature, inputs, tuple(self.steps), results, mutations, self.traced.tree,
            {k: t for k, t in self.traced.tensors.items() if is_lifted(k)}, computing=computing,
        )  # fmt: skip

    def _name(self, reference: Any) -> str:
        if isinstance(reference, Value):
            return reference.name
        copy = TorchStep(
            _COPY, (reference,), (), f"{reference.key}_copy", _NO_COMPUTATION, view=True
        )
        self.steps.append(copy)
        return copy.result

    def _sol_step(self, nodes: list[fx.Node]) -> None:
        """One graph of these nodes; it returns what others read."""
        translator = Translator(self.traced)
        translator.translate(nodes)
        assert not translator.left, f"translated once, but not twice: {translator.left}"
        outputs: dict[str, fx.Node] = {}
        for node in nodes:
            value = translator.values[node]
            if self._is_read(node) and isinstance(value, Node) and not _is_source(value):
                outputs.setdefault(value.name, node)
        if outputs:
            self._append(translator, outputs)
        self._copies(translator, nodes, outputs)

    def _append(self, translator: Translator, outputs: dict[str, fx.Node]) -> None:
        graph = _pruned(translator, tuple(outputs))
        references: dict[str, Value | Parameter | Lifted | Seed] = {
            translator.values[n].name: self._reference(n) for n in translator.inputs
        }
        if translator.seed is not None:
            references[translator.seed.name] = Seed()
        names = tuple(n.name for n in outputs.values())
        inputs = tuple(references[n.name] for n in graph.inputs)
        self.steps.append(SolStep(graph, inputs, names))
        self.made.update(outputs.values())

    def _copies(
        self, translator: Translator, nodes: list[fx.Node], outputs: dict[str, fx.Node]
    ) -> None:
        """Nodes that are read but are the same value as another result, or as an input."""
        for node in nodes:
            value = translator.values[node]
            if node in self.made or not isinstance(value, Node) or not self._is_read(node):
                continue
            if value.name in outputs:
                source = Value(outputs[value.name].name)
                self.steps.append(_copy(source, node.name, origin(node)))
                self.made.add(node)
            else:
                self._torch_step(node, _NO_COMPUTATION, view=True)

    def _is_read(self, node: fx.Node) -> bool:
        level = self.levels[node]
        others = (u for u in node.users if u in self.levels and self.levels[u] != level)
        return node in self.wanted or any(True for _ in others)

    def _torch_steps(self, nodes: Iterable[fx.Node]) -> None:
        for node in nodes:
            self._torch_step(node, self.trial.left[node])

    def _torch_step(self, node: fx.Node, reason: str, view: bool = False) -> None:
        """PyTorch runs a node; what it reads and nobody has made yet, it runs as well."""
        view = view or node.target is operator.getitem
        for source in node.all_input_nodes:
            if source not in self.sources and source not in self.made and not self._size(source)[0]:
                self._torch_step(source, _NO_COMPUTATION, view=True)
        args: Any = fx.node.map_arg(node.args, self._argument)
        if target_name(node) in _STRIDED and node.args[0] not in self.sources:
            args = (self._laid_out(node.all_input_nodes[0]), *args[1:])
        kwargs = tuple((k, fx.node.map_arg(v, self._argument)) for k, v in node.kwargs.items())
        self.steps.append(
            TorchStep(
                target_name(node),
                args,
                kwargs,
                node.name,
                reason,
                origin(node),
                view,
                _is_random(node),
            )
        )
        self.made.add(node)

    def _laid_out(self, node: fx.Node) -> Value:
        """A value with the strides that it had when the network was traced: Sol's results are
        row-major."""
        tensor = node.meta["val"]
        sizes, strides = (
            [evaluate(symbolic(s), NOMINAL_BATCH) for s in of]
            for of in (tensor.shape, tensor.stride())
        )
        order = sorted(range(len(sizes)), key=lambda k: (-strides[k], -sizes[k], k))
        distance = 1
        for k in reversed(order):
            if sizes[k] != 1 and strides[k] != distance:
                raise UnsupportedError(
                    "aten.as_strided.default",
                    f"it reads the memory of {node.name}, which is a part of something else",
                    expected="the memory of a whole tensor",
                )
            distance *= sizes[k]
        if order == sorted(order):
            return Value(node.name)
        back = [order.index(k) for k in range(len(order))]
        moves: tuple[tuple[str, tuple[Any, ...]], ...]
        moves = (("permute", (order,)), ("contiguous", ()), ("permute", (back,)))
        name = node.name
        for number, (move, more) in enumerate(moves):
            result = f"{node.name}_laid_out_{number}"
            step = TorchStep(
                f"aten.{move}.default", (Value(name), *more), (), result, _NO_COMPUTATION, view=True
            )
            self.steps.append(step)
            name = result
        return Value(name)

    def _size(self, node: fx.Node) -> tuple[bool, Any]:
        """Whether a node is a number that is known from the batch, and the number."""
        value = node.meta.get("val")
        if value is None or isinstance(value, (torch.Tensor, tuple, list)):
            return False, None
        try:
            return True, symbolic(value)
        except SolError:
            return False, None

    def _argument(self, node: fx.Node) -> Any:
        known, size = self._size(node)
        return size if known else self._reference(node)

    def _reference(self, node: fx.Node) -> Value | Parameter | Lifted:
        source = self.sources.get(node)
        return Value(node.name) if source is None else _source_reference(source)

    # ---- results

    def _finished(self, node: fx.Node) -> Value | Parameter | Lifted:
        """A reference to a node that steps so far have made, or that PyTorch makes now."""
        if node not in self.sources and node not in self.made:
            self._torch_step(node, _NO_COMPUTATION, view=True)
        return self._reference(node)

    def _result(self, number: int, node: fx.Node, changed: dict[fx.Node, Any]) -> Any:
        if node in changed:  # the network returns the very tensor that it has changed
            target = changed[node]
            return Parameter(target) if isinstance(target, str) else Value(self._input(target))
        alias = self.aliases.get(number)
        if alias is not None:
            self._views(alias)
        return self._finished(node)

    def _input(self, index: int) -> str:
        return next(
            s.node.name for s in self.traced.sources if s.role == "input" and s.index == index
        )

    def _views(self, alias: Alias) -> None:
        for node in alias.chain:
            if node not in self.made:
                self._torch_step(node, SHARED, view=True)


def _copy(reference: Any, result: str, place: str = "") -> TorchStep:
    return TorchStep(_COPY, (reference,), (), result, _NO_COMPUTATION, place, view=True)


def _source_reference(source: Source) -> Value | Parameter | Lifted:
    if source.role == "input":
        return Value(source.node.name)
    return Lifted(source.key) if is_lifted(source.key) else Parameter(source.key)


def _is_source(node: Node) -> bool:
    return node.op in ("input", "parameter", "constant")


def _pruned(translator: Translator, outputs: tuple[str, ...]) -> Any:
    """The graph without nodes that no result depends on; inputs stay only if they are read."""
    builder = translator.builder
    full = builder.finish(builder[name] for name in outputs)
    needed = set(outputs)
    for node in reversed(full.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return type(full)(tuple(n for n in full.nodes if n.name in needed), full.outputs)


def _needed(traced: Traced, targets: set[fx.Node]) -> list[fx.Node]:
    """Nodes that results depend on, and those that are there for their effect, in order."""
    found = set(targets)
    order = [n for n in traced.graph.nodes if n.op == "call_function"]
    for node in reversed(order):
        if node in found or (not node.users and node.is_impure() and not is_note(node)):
            found.add(node)
            found.update(node.all_input_nodes)
    return [n for n in order if n in found]


def _is_random(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def target_name(node: fx.Node) -> str:
    """An operator's name from which `resolve` finds it again."""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target) if target.namespace == "aten" else f"{target.namespace}::{target}"
    return f"{target.__module__}:{target.__name__}"
