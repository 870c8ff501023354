"""Training: each step of Sol is a function of autograd, whose backward is a program, too.

A `TrainingProgram` is a `Program` of a network that was captured for training. A step of Sol
becomes two executables as soon as it is known which of its tensors want a gradient: forward, with
the values that are kept, and backward. Steps of PyTorch run as they are, so autograd connects all.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from sol.core.dims import concrete
from sol.ir.graph import Graph, lent
from sol.passes.autodiff import differentiate
from sol.passes.late import late
from sol.passes.partition import Halves, partition
from sol.passes.pipeline import run as run_passes
from sol.plan.kept import keep_orders
from sol.pytorch import connect
from sol.pytorch.lease import Kind, Layout, lease, one_after_the_other
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

    def prepare(self, parameters: Mapping[str, torch.Tensor], other: _Ready | None) -> None:
        """Take these parameters, on the memory of the packed weights of another one."""
        values = {key: as_array(parameters[key]) for key in self.keys}
        if other is None:
            connect.prepare(self.executable, values)
        else:
            other.state = None
            connect.prepare(self.executable, values, other.executable)

    def give_memory_back(self) -> None:
        """Forget the parameters."""
        self.state = None
        connect.forget_weights(self.executable)


@dataclass(frozen=True)
class Held:
    """Where kept values lie in a block of memory, and which halves compute in this block, too."""

    layout: Layout
    forward: bool
    backward: bool


@dataclass
class Pair:
    """A step's two executables, for one set of tensors that want gradients.

    Weights change from step to step and are packed anew in each half, so both halves pack them into
    the same memory: one runs at a time. What the forward half keeps lies in the memory that the
    backward half computes in, which takes what is not needed any more.
    """

    source: Graph
    halves: Halves
    names: tuple[str, ...]  # of the tensors that the step is called with, as nodes
    forward: _Ready
    backward: _Ready | None
    memory: ArenaPool = field(default_factory=ArenaPool)  # of what is kept
    lock: threading.Lock = field(default_factory=threading.Lock)  # of a half that runs
    layouts: dict[tuple[int, int], Held] = field(default_factory=dict)

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
        halves = _lending(keep_orders(partition(differentiate(run_passes(graph), wanted))))
        graphs = [halves.forward, *([halves.backward] if wanted else [])]
        made = [
            _Ready(e, tuple(n["key"] for n in g.parameters))
            for g, e in zip(graphs, compile_graphs(graphs))
        ]
        return Pair(graph, halves, tuple(names), made[0], made[1] if wanted else None)

    def run(
        self, ready: _Ready, inputs: Tensors, outputs: Tensors, batch: int, threads: int,
        state: Any, parameters: Mapping[str, torch.Tensor], memory: int = 0,
    ) -> None:  # fmt: skip
        """Run a half with these parameters, whose state this is."""
        addresses = ([t.data_ptr() for t in inputs], [t.data_ptr() for t in outputs])
        with self.lock:
            if ready.state is None or ready.state != state:
                ready.prepare(parameters, self.backward if ready is self.forward else self.forward)
                ready.state = state
            ready.executable.run(*addresses, batch, threads, *([memory] if memory else []))

    @property
    def kept(self) -> tuple[str, ...]:
        """What the forward half keeps for the backward half, in the order of its results."""
        return self.halves.forward.outputs[self.halves.results :]

    def layout(self, batch: int, threads: int) -> Held:
        """Where kept values lie, for calls like this."""
        found = self.layouts.get((batch, threads))
        if found is None:
            found = self.layouts[batch, threads] = self._layout(batch, threads)
        return found

    def _layout(self, batch: int, threads: int) -> Held:
        kinds = [kind_of(self.halves.forward, name, batch) for name in self.kept]
        ready = [r for r in (self.forward, self.backward) if r is not None]
        found = [connect.held_places(r.executable, batch, threads) for r in ready]
        known = [places for places, _ in found if places]
        if not known or not kinds:
            return Held(one_after_the_other(kinds), False, False)
        assert all(places == known[0] for places in known), "both halves know the same places"
        begins = tuple(known[0][name] for name in self.kept)
        ends = [b + math.prod(shape) * dtype.itemsize for b, (shape, dtype) in zip(begins, kinds)]
        sizes = [size for places, size in found if places]
        inside = [bool(places) for places, _ in found]
        return Held(Layout(begins, max(*sizes, *ends)), inside[0], inside[-1])

    def give_memory_back(self) -> None:
        """Keep no memory of finished steps."""
        with self.lock:
            self.memory.trim()
            for ready in filter(None, (self.forward, self.backward)):
                ready.give_memory_back()


def _lending(halves: Halves) -> Halves:
    """The same halves; what is kept lends its memory to the backward one."""
    kept = halves.forward.outputs[halves.results :]
    nodes = tuple(
        lent(n) if n.op == "input" and n.name in kept else n for n in halves.backward.nodes
    )
    backward = late(Graph(nodes, halves.backward.outputs), [s for s in halves.seeds if s])
    return replace(halves, backward=backward)


def kind_of(graph: Graph, name: str, batch: int) -> Kind:
    """Shape and type of a value, for a batch."""
    type = graph[name].tensor
    return concrete(type.shape, batch), TO_TORCH[type.dtype]


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

    def forward(self, inputs: Tensors) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Run the forward half; its results, and what it keeps."""
        pair = self.pair
        graph = pair.halves.forward
        kinds = [kind_of(graph, name, self.batch) for name in graph.outputs]
        count = pair.halves.results
        results = [torch.empty(shape, dtype=dtype) for shape, dtype in kinds[:count]]
        held = pair.layout(self.batch, self.threads)
        kept = lease(pair.memory, kinds[count:], held.layout)
        memory = kept[0].data_ptr() - held.layout.begins[0] if held.forward else 0
        self._run(pair.forward, inputs, [*results, *kept], memory)
        return results, kept

    def backward(
        self, ready: _Ready, saved: Mapping[str, torch.Tensor], seeds: Tensors
    ) -> list[torch.Tensor]:
        """Run the backward half on what was saved and the gradients of results; gradients."""
        graph = self.pair.halves.backward
        kinds = [kind_of(graph, name, self.batch) for name in graph.outputs]
        found = [torch.empty(shape, dtype=dtype) for shape, dtype in kinds]
        self._run(ready, [*saved.values(), *seeds], found, self._memory(saved))
        return found

    def _memory(self, saved: Mapping[str, torch.Tensor]) -> int:
        """The address of the memory that kept values lie in, if the backward half may take it: they
        are still there, and nobody reads them afterwards."""
        held = self.pair.layout(self.batch, self.threads)
        if not held.backward or torch._C._autograd._get_current_graph_task_keep_graph():
            return 0
        places = dict(zip(self.pair.kept, held.layout.begins))
        bases = {t.data_ptr() - places[n] for n, t in saved.items() if n in places}
        return bases.pop() if len(bases) == 1 else 0  # hooks may have put them elsewhere

    def _run(self, ready: _Ready, inputs: Tensors, outputs: Tensors, memory: int) -> None:
        self.pair.run(
            ready, inputs, outputs, self.batch, self.threads, self.state, self.parameters, memory
        )


class _Function(torch.autograd.Function):
    """forward: the forward program. backward: the backward program, on what was kept."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: torch.Tensor) -> Any:
        halves = call.pair.halves
        results, kept = call.forward(tensors[: call.inputs])
        made = dict(zip(halves.forward.outputs, [*results, *kept]))
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
        saved = dict(zip(halves.saved, kept))
        seeds = [
            _dense(g, halves.backward[s].tensor, call.batch)
            for g, s in zip(gradients, halves.seeds)
            if s
        ]
        found = call.backward(backward, saved, seeds)
        by_name = {
            name: found[n] if n >= 0 else None for name, n in zip(halves.wanted, halves.gradients)
        }
        return (None, *map(by_name.get, call.pair.names))


def _dense(gradient: torch.Tensor | None, type: Any, batch: int) -> torch.Tensor:
    """A gradient in row-major memory, zeros where there is none."""
    if gradient is None:
        return torch.zeros(concrete(type.shape, batch), dtype=TO_TORCH[type.dtype])
    return gradient.detach().resolve_neg().contiguous()
