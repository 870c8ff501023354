"""Read the network out of a module: torch.export, then ATen operators at the level of Sol's rows.

Comes in: a callable module and a `Signature` (which tensors, which of their sizes is the batch).
Goes out: a `Traced`, an FX graph without side effects whose placeholders and results are explained.
The module is run on fake tensors only, so nothing is computed and no parameter is copied.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.export import _trace as export_trace
from torch.export.graph_signature import InputKind, OutputKind

from sol.core.errors import UnsupportedError
from sol.pytorch.effects import without_effects
from sol.pytorch.einsum import with_open_batch
from sol.pytorch.functional import (
    detach_what_has_no_gradient,
    make_functional,
    take_out_statistics,
)
from sol.pytorch.replica import tensors_of
from sol.pytorch.rows import ROWS
from sol.pytorch.tree import Tree, constants, flatten, unflatten

_INNER = "model"  # where `Flat` keeps the network; stripped from the names of parameters
_LOGGERS = (
    "torch.export", "torch._export", "torch.fx", "torch.fx.experimental.symbolic_shapes",
    "torch._subclasses", "torch._subclasses.fake_tensor",
)  # fmt: skip
_BATCHES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)


@dataclass(frozen=True)
class Tensor:
    """One tensor argument: its sizes, and whether the first of them is the batch."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    batched: bool


@dataclass(frozen=True)
class Signature:
    """What a network is called with: the structure of `(args, kwargs)`, and its tensors."""

    tree: Tree
    tensors: tuple[Tensor, ...]

    @property
    def symbolic(self) -> bool:
        """Whether the batch size is left open."""
        return any(t.batched for t in self.tensors)

    def fixed(self) -> Signature:
        """The same with every size fixed."""
        return Signature(self.tree, tuple(Tensor(t.shape, t.dtype, False) for t in self.tensors))

    def of_any_batch(self) -> Signature:
        """The same for every batch: what calls of different batches have in common."""
        any_batch = (
            Tensor((-1, *t.shape[1:]), t.dtype, True) if t.batched else t for t in self.tensors
        )
        return Signature(self.tree, tuple(any_batch))

    def of_one(self) -> Signature:
        """The same for a batch of exactly one."""
        one = (
            Tensor((1, *t.shape[1:]) if t.batched else t.shape, t.dtype, False)
            for t in self.tensors
        )
        return Signature(self.tree, tuple(one))


Role = Literal["input", "parameter", "constant"]


@dataclass(frozen=True)
class Source:
    """A placeholder: the n-th input, or a parameter or constant by its name in the module."""

    node: torch.fx.Node
    role: Role
    key: str = ""
    index: int = -1


@dataclass(frozen=True)
class Traced:
    """A network as ATen operators.

    `results` are FX nodes or plain values; `mutations` say which input (by number) or buffer (by
    name) gets a new value; `tree` is the structure of what the network returns. training:
    it was read for training, so `detach` counts, and so do random numbers.
    """

    graph: torch.fx.Graph
    sources: tuple[Source, ...]
    results: tuple[Any, ...]
    mutations: tuple[tuple[int | str, torch.fx.Node], ...]
    tensors: dict[str, torch.Tensor]
    tree: Tree
    training: bool = False


class Flat(nn.Module):
    """A network as a function from tensors to tensors; `report` hears the result's structure."""

    def __init__(
        self,
        model: nn.Module,
        call: Callable[..., Any],
        inputs: Tree,
        report: Callable[[Tree], None],
    ) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self._call = call
        self._inputs = inputs
        self._report = report  # torch.export undoes what a forward sets on its module

    def forward(self, *tensors: torch.Tensor) -> tuple[Any, ...]:
        """Call the network; the tensors of its result."""
        args, kwargs = unflatten(self._inputs, tensors)
        leaves, tree = flatten(self._call(*args, **kwargs), objects=True)
        self._report(tree)
        return tuple(leaves)


def trace(
    model: nn.Module, call: Callable[..., Any], signature: Signature, training: bool = False
) -> Traced:
    """The graph of `call(*args, **kwargs)`, where `model` holds its parameters.

    training: also of what matters for gradients. Raises whatever torch.export raises if it cannot
    follow the network.
    """
    trees: list[Tree] = []
    watched = with_open_batch(without_effects(model, call))
    flat = Flat(model, watched, signature.tree, trees.append)
    examples, shapes = _examples(model, signature)
    with _quiet(), torch.set_grad_enabled(training):
        program = torch.export.export(flat, examples, dynamic_shapes=(shapes,), strict=False)
        statistics: list[tuple[str, torch.fx.Node]] = []
        if training:
            detach_what_has_no_gradient(program.graph)
        if training and not _draws_elsewhere(program.graph):
            buffers = program.graph_signature.inputs_to_buffers
            statistics = take_out_statistics(program.graph, buffers)
        if not make_functional(program.graph, decompositions()):
            if statistics:  # what was taken out is not in the program's signature
                program = torch.export.export(
                    flat, examples, dynamic_shapes=(shapes,), strict=False
                )
                detach_what_has_no_gradient(program.graph)
                statistics = []
            program = program.run_decompositions(decompositions())
    if any(map(_is_symbolic, constants(trees[0]))):
        raise UnsupportedError("a number that is returned", "it depends on the batch size B")
    traced = _read(program, trees[0], {id(t): path for path, t in tensors_of(model)})
    mutations = (*traced.mutations, *((_strip(key), value) for key, value in statistics))
    return replace(traced, training=training, mutations=mutations)


def _draws_elsewhere(graph: torch.fx.Graph) -> bool:
    """Whether dropout of a kind that has no row in training has to be decomposed."""
    return any("feature_" in str(n.target) or "alpha_" in str(n.target) for n in graph.nodes)


def _is_symbolic(value: Any) -> bool:
    if isinstance(value, torch.Size):
        return any(map(_is_symbolic, value))
    return isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool))


def _examples(model: nn.Module, signature: Signature) -> tuple[tuple[torch.Tensor, ...], Any]:
    """Tensors without content, and which of their sizes are open.

    The batch of the example differs from all other sizes, so nothing is taken for it by chance.
    """
    taken = {s for t in signature.tensors for s in t.shape}
    taken.update(itertools.chain.from_iterable(p.shape for p in model.parameters()))
    batch = next((b for b in _BATCHES if b not in taken), 53)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    open_batch = Dim("B", min=2)
    examples = tuple(
        torch.empty((batch, *t.shape[1:]) if t.batched else t.shape, dtype=t.dtype, device=device)
        for t in signature.tensors
    )
    return examples, tuple({0: open_batch} if t.batched else None for t in signature.tensors)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.export warns and logs about its own ways; failures reach the user by `explain`."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        vars(export_trace)["print"] = _unprinted  # it prints the graph of a failure to stderr
        try:
            yield
        finally:
            vars(export_trace).pop("print", None)
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)


def _unprinted(*_: Any, **__: Any) -> None:
    pass


@functools.cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's own rules for every operator that has no row: `cdist -> sub, norm`, and so on."""
    table = dict(torch.export.default_decompositions().items())
    return {op: rule for op, rule in table.items() if str(op) not in ROWS}


# ---- reading the exported program


def _read(program: ExportedProgram, tree: Tree, paths: dict[int, str]) -> Traced:
    """The program's placeholders and results explained; `paths` of tensors by identity."""
    graph = program.graph
    named = {n.name: n for n in graph.nodes}
    users = program.graph_signature.user_inputs
    sources = []
    tensors: dict[str, torch.Tensor] = {}
    for spec in program.graph_signature.input_specs:
        node = named[spec.arg.name]
        match spec.kind:
            case InputKind.USER_INPUT:
                sources.append(Source(node, "input", index=users.index(node.name)))
            case InputKind.PARAMETER | InputKind.BUFFER:
                sources.append(Source(node, "parameter", _strip(spec.target)))
            case InputKind.CONSTANT_TENSOR:
                key = _strip(spec.target)
                tensor = program.constants[spec.target]
                if is_lifted(key):  # of a list on the module, or made by the network's code
                    key = paths.get(id(tensor), key)
                sources.append(Source(node, "constant", key))
                tensors[key] = tensor
            case _:
                raise UnsupportedError(str(spec.kind), "an input of a kind that Sol does not know")
    results, mutations = _results(program, named)
    return Traced(graph, tuple(sources), results, mutations, tensors, tree)


def _results(program: ExportedProgram, named: dict[str, torch.fx.Node]) -> tuple[Any, Any]:
    users = program.graph_signature.user_inputs
    values = next(n for n in program.graph.nodes if n.op == "output").args[0]
    results: list[Any] = []
    mutations: list[tuple[int | str, torch.fx.Node]] = []
    for spec, value in zip(program.graph_signature.output_specs, values):
        match spec.kind:
            case OutputKind.USER_OUTPUT:
                results.append(value)
            case OutputKind.USER_INPUT_MUTATION:
                mutations.append((users.index(spec.target), value))
            case OutputKind.BUFFER_MUTATION | OutputKind.PARAMETER_MUTATION:
                mutations.append((_strip(spec.target), value))
            case _:
                raise UnsupportedError(str(spec.kind), "a result of a kind that Sol does not know")
    return tuple(results), tuple(mutations)


def is_lifted(key: str) -> bool:
    """Whether export made up the name: a tensor that the code creates, and nobody can change."""
    return key.rpartition(".")[2].startswith("lifted_tensor")


def _strip(name: str | None) -> str:
    assert name is not None
    return name.removeprefix(_INNER + ".")


def origin(node: torch.fx.Node) -> str:
    """The layer of the user's model that a node comes from: `layer1.0.conv1`, or ""."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return _strip(paths[-1].removeprefix(_INNER)).lstrip(".") if paths else ""


def describe(signature: Signature) -> str:
    """A signature for people: `(float32[B, 3, 224, 224], …)`."""
    return f"({', '.join(map(_describe, signature.tensors))})"


def _describe(tensor: Tensor) -> str:
    sizes = ["B" if tensor.batched and n == 0 else str(s) for n, s in enumerate(tensor.shape)]
    return f"{str(tensor.dtype).removeprefix('torch.')}[{', '.join(sizes)}]"
