"""Training: each step of Sol is a function of autograd, whose backward is a program, too.

A `TrainingProgram` is a `Program` of a network that was captured for training. A step of Sol
becomes two executables as soon as it is known which of its tensors want a gradient: forward, with
the values that are kept, and backward. Steps of PyTorch run as they are, so autograd connects all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sol.core.dims import concrete
from sol.pytorch.halves import Budget, Request, make_pair, make_pair_within
from sol.pytorch.lease import lease
from sol.pytorch.pair import Pair, Ready, kind_of
from sol.pytorch.program import Compile, Executable, Program, Tensors
from sol.pytorch.steps import Captured, Parameter, SolStep
from sol.pytorch.types import TO_TORCH

Wants = tuple[bool, ...]


class TrainingProgram(Program):
    """The steps of a network in training."""

    def __init__(
        self, captured: Captured, compile_graphs: Compile, threads: int | None,
        budget: Budget | None = None,
    ) -> None:  # fmt: skip
        self._compile, self._budget = compile_graphs, budget
        super().__init__(captured, lambda graphs, *_, **__: [_Absent()] * len(graphs), threads)
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

    def pair(self, request: Request, before: Pair | None) -> Pair:
        """The programs of a step for tensors that want gradients, in place of those before, which
        need too much memory for this batch."""
        self.pairs = [p for p in self.pairs if p is not before]
        if self._budget is None:
            made = make_pair(request, self._compile)
        else:
            others = sum(p.need(request.batch, request.threads) for p in self.pairs)
            left = max(0, self._budget.bytes - others)
            made = make_pair_within(request, self._budget, left)
        self.pairs.append(made)
        return made

    def make_ready(self, pair: Pair, executable: Executable) -> None:
        """Hand the parameters to one of a step's programs, as a call would."""
        pair.prepare(executable, self.prepared, self._tensors)

    def fits(self, pair: Pair, batch: int, threads: int) -> bool:
        """Whether a step with this batch keeps to the budget."""
        if self._budget is None:
            return True
        return sum(p.need(batch, threads) for p in self.pairs) <= self._budget.bytes


class _Absent:
    """Stands for an executable that is made when a step runs first."""

    def prepare(self, parameters: Mapping[str, Any]) -> None:
        """Nothing to prepare."""

    def run(self, *_: Any) -> object:
        """Nothing to run."""
        raise AssertionError("a step in training has executables of its own")

    def again(self, *_: Any) -> None:
        """Nothing to run again."""


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
        pair, threads = self._pairs.get(wants), program.threads()
        written = program.captured.state
        if pair is None or not program.fits(pair, batch, threads):
            request = Request(self._step.graph, wants, batch, threads)
            pair = self._pairs[wants] = program.pair(request, pair)
        call = _Call(
            pair,
            dict(zip(self._keys, parameters)),
            program.prepared,
            batch,
            threads,
            len(inputs),
            tuple(name for name, r in zip(pair.names, self._step.inputs) if _is_in(r, written)),
        )
        apply: Any = _Function.apply
        values.update(zip(self._step.outputs, apply(call, *tensors)))


def _is_in(reference: Any, keys: Collection[str]) -> bool:
    return isinstance(reference, Parameter) and reference.key in keys


@dataclass
class _Call:
    """What both directions of a call need."""

    pair: Pair
    parameters: Mapping[str, torch.Tensor]
    state: Any
    batch: int
    threads: int
    inputs: int
    written: tuple[str, ...] = ()  # inputs that the network writes into after it has run

    def forward(self, inputs: Tensors) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Run the forward half; its results, and what it keeps."""
        pair = self.pair
        graph = pair.halves.forward
        kinds = [kind_of(graph, name, self.batch) for name in graph.outputs]
        count = pair.halves.results
        results = [torch.empty(shape, dtype=dtype) for shape, dtype in kinds[:count]]
        held = pair.layout(self.batch, self.threads)
        kept = lease(pair.memory, kinds[count:], held.layout)
        memory = 0
        if held.forward is not None:
            memory = kept[0].data_ptr() - held.layout.begins[0] + held.forward
        self._run(pair.forward, inputs, [*results, *kept], memory)
        return results, kept

    def backward(
        self, ready: Ready, saved: Mapping[str, torch.Tensor], seeds: Tensors
    ) -> list[torch.Tensor]:
        """Run the backward half on what was saved and the gradients of results; gradients."""
        graph = self.pair.halves.backward
        kinds = [kind_of(graph, name, self.batch) for name in graph.outputs]
        found = [torch.empty(shape, dtype=dtype) for shape, dtype in kinds]
        memory = self._memory(saved)
        if not memory and self.pair.layout(self.batch, self.threads).backward:
            saved = self._copied(saved)  # it overwrites what it was lent
            memory = self._memory_of(saved)
        self._run(ready, [*saved.values(), *seeds], found, memory)
        return found

    def _copied(self, saved: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What was saved, kept values copied to where the backward half looks for them."""
        graph, kept = self.pair.halves.forward, self.pair.kept
        layout = self.pair.layout(self.batch, self.threads).layout
        kinds = [kind_of(graph, name, self.batch) for name in kept]
        copies = dict(zip(kept, lease(self.pair.memory, kinds, layout)))
        return {n: copies[n].copy_(t) if n in copies else t for n, t in saved.items()}

    def _memory(self, saved: Mapping[str, torch.Tensor]) -> int:
        """The address of the memory that kept values lie in, if the backward half may take it: they
        are still there, and nobody reads them afterwards."""
        held = self.pair.layout(self.batch, self.threads)
        if not held.backward or torch._C._autograd._get_current_graph_task_keep_graph():
            return 0
        return self._memory_of(saved)

    def _memory_of(self, saved: Mapping[str, torch.Tensor]) -> int:
        """The address of the memory in which kept values lie in their places, 0 if they do not."""
        held = self.pair.layout(self.batch, self.threads)
        places = dict(zip(self.pair.kept, held.layout.begins))
        bases = {t.data_ptr() - places[n] for n, t in saved.items() if n in places}
        return bases.pop() if len(bases) == 1 else 0  # hooks may have put them elsewhere

    def _run(self, ready: Ready, inputs: Tensors, outputs: Tensors, memory: int) -> None:
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
        # what the network itself writes after this is kept as it is now
        given.update((n, given[n].clone()) for n in call.written if n in halves.saved)
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
