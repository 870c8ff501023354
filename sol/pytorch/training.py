"""Training: each step of Sol is a function of autograd, whose backward is a program, too.

A `TrainingProgram` is a `Program` of a network that was captured for training. A step of Sol
becomes two executables as soon as it is known which of its tensors want a gradient: forward, with
the values that are kept, and backward. Steps of PyTorch run as they are, so autograd connects all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sol.core.dims import concrete
from sol.ir.graph import Graph
from sol.passes.autodiff import differentiate
from sol.passes.partition import Halves, partition
from sol.passes.pipeline import run as run_passes
from sol.plan.kept import keep_orders
from sol.pytorch.lease import lease
from sol.pytorch.program import Compile, Executable, Program, Tensors, as_array
from sol.pytorch.steps import Captured, Parameter, SolStep
from sol.pytorch.types import TO_TORCH
from sol.runtime.arena import ArenaPool

Wants = tuple[bool, ...]


class TrainingProgram(Program):
    """The steps of a network in training."""

    def __init__(self, captured: Captured, compile_graphs: Compile, threads: int | None) -> None:
        self._compile = compile_graphs
        super().__init__(captured, lambda graphs: [_Absent()] * len(graphs), threads)
        self.pairs: list[Pair] = []

    def _runner(self, step: SolStep, executable: Executable) -> Callable[..., None]:
        return _TrainingRunner(step, self)

    def prepare(self, tensors: Mapping[str, torch.Tensor], state: Any) -> None:
        """Take the parameters; each executable reads them when it runs next."""
        self._tensors = tensors
        self.prepared = state

    def exchange_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Read parameters of the same values from other tensors; those before."""
        before, self._tensors = self._tensors, tensors
        return before

    def pair(self, graph: Graph, wants: Wants) -> Pair:
        """The executables of a step for tensors that want gradients."""
        made = Pair.of(graph, wants, self._compile)
        self.pairs.append(made)
        return made


class _Absent:
    """Stands for an executable that is made when a step runs first."""

    def prepare(self, parameters: Mapping[str, Any]) -> None:
        """Nothing to prepare."""

    def run(self, *_: Any) -> object:
        """Nothing to run."""
        raise AssertionError("a step in training has executables of its own")


@dataclass
class _Ready:
    """An executable and the state of the parameters that it knows."""

    executable: Executable
    keys: tuple[str, ...]
    state: Any = None

    def run(
        self, inputs: Tensors, outputs: Tensors, batch: int, threads: int, state: Any,
        parameters: Mapping[str, torch.Tensor],
    ) -> None:  # fmt: skip
        """Run with these parameters, whose state this is."""
        if self.state is None or self.state != state:
            self.executable.prepare({key: as_array(parameters[key]) for key in self.keys})
            self.state = state
        addresses = ([t.data_ptr() for t in inputs], [t.data_ptr() for t in outputs])
        self.executable.run(*addresses, batch, threads)


@dataclass
class Pair:
    """A step's two executables, for one set of tensors that want gradients."""

    source: Graph
    halves: Halves
    names: tuple[str, ...]  # of the tensors that the step is called with, as nodes
    forward: _Ready
    backward: _Ready | None
    memory: ArenaPool = field(default_factory=ArenaPool)  # of what is kept

    @property
    def parts(self) -> list[tuple[Executable, Graph]]:
        """Those that were made, with their graphs."""
        found = [(self.forward.executable, self.halves.forward)]
        if self.backward is not None:
            found.append((self.backward.executable, self.halves.backward))
        return found

    @staticmethod
    def of(graph: Graph, wants: Wants, compile_graphs: Compile) -> Pair:
        """Differentiate, cut and compile. wants: for each input, then each parameter."""
        names = [n.name for n in (*graph.inputs, *graph.parameters)]
        wanted = [name for name, want in zip(names, wants, strict=True) if want]
        halves = keep_orders(partition(differentiate(run_passes(graph), wanted)))
        graphs = [halves.forward, *([halves.backward] if wanted else [])]
        made = [
            _Ready(e, tuple(n["key"] for n in g.parameters))
            for g, e in zip(graphs, compile_graphs(graphs))
        ]
        return Pair(graph, halves, tuple(names), made[0], made[1] if wanted else None)


class _TrainingRunner:
    """One step of Sol: a function of autograd, if any of its tensors wants a gradient."""

    def __init__(self, step: SolStep, program: TrainingProgram) -> None:
        self._step, self._program = step, program
        self._keys = [n["key"] for n in step.graph.parameters]
        self._pairs: dict[Wants, Pair] = {}

    def __call__(self, values: dict[str, Any], batch: int) -> None:
        program = self._program
        inputs = [program.tensor(r, values).contiguous() for r in self._step.inputs]
        parameters = [program.tensor(Parameter(key), values) for key in self._keys]
        tensors = [*inputs, *parameters]
        wants = tuple(torch.is_grad_enabled() and t.requires_grad for t in tensors)
        pair = self._pairs.get(wants)
        if pair is None:
            pair = self._pairs[wants] = program.pair(self._step.graph, wants)
        call = _Call(
            pair,
            dict(zip(self._keys, parameters)),
            program.prepared,
            batch,
            program.threads(),
            len(inputs),
        )
        apply: Any = _Function.apply
        values.update(zip(self._step.outputs, apply(call, *tensors)))


@dataclass
class _Call:
    """What both directions of a call need."""

    pair: Pair
    parameters: Mapping[str, torch.Tensor]
    state: Any
    batch: int
    threads: int
    inputs: int

    def run(self, ready: _Ready, graph: Graph, tensors: Tensors) -> list[torch.Tensor]:
        """Run one half; its results."""
        types = [graph[o].tensor for o in graph.outputs]
        kinds = [(concrete(t.shape, self.batch), TO_TORCH[t.dtype]) for t in types]
        own = self.pair.halves.results if ready is self.pair.forward else len(kinds)
        outputs = [torch.empty(shape, dtype=dtype) for shape, dtype in kinds[:own]]
        outputs += lease(self.pair.memory, kinds[own:])
        ready.run(tensors, outputs, self.batch, self.threads, self.state, self.parameters)
        return outputs


class _Function(torch.autograd.Function):
    """forward: the forward program. backward: the backward program, on what was kept."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: torch.Tensor) -> Any:
        halves = call.pair.halves
        outputs = call.run(call.pair.forward, halves.forward, tensors[: call.inputs])
        results = outputs[: halves.results]
        made = dict(zip(halves.forward.outputs, outputs))
        given = dict(zip(call.pair.names, tensors))
        saved = [made[n] if n in made else given[n] for n in halves.saved]
        ctx.call = call
        # parameters too: PyTorch tells if one is changed before its gradient is computed
        ctx.save_for_backward(*saved, *tensors[call.inputs :])
        ctx.mark_non_differentiable(*(r for r, s in zip(results, halves.seeds) if not s))
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        call: _Call = ctx.call
        halves, backward = call.pair.halves, call.pair.backward
        kept = ctx.saved_tensors  # an error of PyTorch if they were changed or are gone
        count = 1 + call.inputs + len(call.parameters)
        if backward is None or all(g is None for g in gradients):
            return (None,) * count
        saved = kept[: len(halves.saved)]
        seeds = [
            _dense(g, halves.backward[s].tensor, call.batch)
            for g, s in zip(gradients, halves.seeds)
            if s
        ]
        found = call.run(backward, halves.backward, [*saved, *seeds])
        by_name = {
            name: found[n] if n >= 0 else None for name, n in zip(halves.wanted, halves.gradients)
        }
        return (None, *map(by_name.get, call.pair.names))


def _dense(gradient: torch.Tensor | None, type: Any, batch: int) -> torch.Tensor:
    """A gradient in row-major memory, zeros where there is none."""
    if gradient is None:
        return torch.zeros(concrete(type.shape, batch), dtype=TO_TORCH[type.dtype])
    return gradient.detach().resolve_neg().contiguous()
