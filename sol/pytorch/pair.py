"""The two programs of a step of Sol in training, and the memory that they share."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sol.core.dims import concrete
from sol.ir.graph import Graph
from sol.passes.partition import Halves
from sol.pytorch import connect
from sol.pytorch.lease import Kind, Layout, one_after_the_other
from sol.pytorch.program import Executable, Tensors, as_array
from sol.pytorch.types import TO_TORCH
from sol.runtime.arena import ArenaPool, whole_pages


@dataclass
class Ready:
    """An executable and the state of the parameters that it knows; keys of those whose weights stay
    packed as long as nobody writes them, and their state."""

    executable: Executable
    keys: tuple[str, ...]
    state: Any = None
    frozen: tuple[str, ...] = ()
    steady: Any = None

    def prepare(self, parameters: Mapping[str, torch.Tensor], other: Ready | None) -> None:
        """Take these parameters, on the memory of the packed weights of another one."""
        values = {key: as_array(parameters[key]) for key in self.keys}
        if self.frozen:
            self._keep({key: parameters[key] for key in self.frozen}, values)
        if other is None:
            connect.prepare(self.executable, values)
        else:
            other.state = None
            connect.prepare(self.executable, values, other.executable)

    def _keep(self, frozen: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Pack the weights of frozen parameters, if these are not what they were."""
        addresses = array("Q", (t.data_ptr() for t in frozen.values()))
        sizes = array("q", (values[key].nbytes for key in frozen))
        versions = tuple(t._version for t in frozen.values())
        state = (addresses.tobytes(), versions, connect.fingerprint(addresses, sizes))
        if state != self.steady:
            connect.keep_packed(self.executable, {key: values[key] for key in frozen})
            self.steady = state

    def give_memory_back(self) -> None:
        """Forget the parameters."""
        self.state = self.steady = None
        connect.forget_weights(self.executable)


@dataclass(frozen=True)
class Held:
    """Where kept values lie in a block of memory; from which byte of it on the forward half
    computes, None if it does elsewhere; whether the backward half computes in all of it."""

    layout: Layout
    forward: int | None
    backward: bool


@dataclass
class Pair:
    """A step's two executables, for one set of tensors that want gradients.

    Weights change from step to step and are packed anew in each half, so both halves pack them into
    the same memory: one runs at a time. What the forward half keeps lies in the memory that the
    backward half computes in, which takes what is not needed any more. again: how many contractions
    the backward half computes again for a memory budget, and which share of the forward half's
    operations that is.
    """

    source: Graph
    halves: Halves
    names: tuple[str, ...]  # of the tensors that the step is called with, as nodes
    forward: Ready
    backward: Ready | None
    again: int = 0
    again_share: float = 0.0
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

    def need(self, batch: int, threads: int) -> int:
        """Bytes of a step beside weights, gradients and results."""
        held = self.layout(batch, threads)
        halves = [(self.forward, held.forward is not None), (self.backward, held.backward)]
        ready = [(r.executable, inside) for r, inside in halves if r is not None]
        beside = [connect.held_places(e, batch, threads)[1] for e, inside in ready if not inside]
        packed = max(connect.reserved_weights(e) for e, _ in ready)
        return held.layout.size + max(beside, default=0) + packed

    def run(
        self, ready: Ready, inputs: Tensors, outputs: Tensors, batch: int, threads: int,
        state: Any, parameters: Mapping[str, torch.Tensor], memory: int = 0,
    ) -> None:  # fmt: skip
        """Run a half with these parameters, whose state this is."""
        addresses = ([t.data_ptr() for t in inputs], [t.data_ptr() for t in outputs])
        with self.lock:
            self._prepare(ready, state, parameters)
            ready.executable.run(*addresses, batch, threads, *([memory] if memory else []))

    def prepare(
        self, executable: Executable, state: Any, parameters: Mapping[str, torch.Tensor]
    ) -> None:
        """Hand parameters to a half, as a run of it would."""
        with self.lock:
            for ready in filter(None, (self.forward, self.backward)):
                if ready.executable is executable:
                    self._prepare(ready, state, parameters)

    def _prepare(self, ready: Ready, state: Any, parameters: Mapping[str, torch.Tensor]) -> None:
        if ready.state is None or ready.state != state:
            ready.prepare(parameters, self.backward if ready is self.forward else self.forward)
            ready.state = state

    @property
    def kept(self) -> tuple[str, ...]:
        """What the forward half keeps for the backward half, in the order of its results."""
        return self.halves.forward.outputs[self.halves.results :]

    def kept_bytes(self, batch: int) -> int:
        """Of what is kept."""
        kinds = (kind_of(self.halves.forward, name, batch) for name in self.kept)
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in kinds)

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
            return Held(one_after_the_other(kinds), None, False)
        assert all(places == known[0] for places in known), "both halves know the same places"
        begins = tuple(known[0][name] for name in self.kept)
        ends = [b + math.prod(shape) * dtype.itemsize for b, (shape, dtype) in zip(begins, kinds)]
        forward = 0 if found[0][0] else whole_pages(max(ends))  # behind what is kept
        sizes = [size for places, size in found if places]
        size = max(forward + found[0][1], *sizes, *ends)
        return Held(Layout(begins, size), forward, bool(found[-1][0]))

    def give_memory_back(self) -> None:
        """Keep no memory of finished steps."""
        with self.lock:
            self.memory.trim()
            for ready in filter(None, (self.forward, self.backward)):
                ready.give_memory_back()


def kind_of(graph: Graph, name: str, batch: int) -> Kind:
    """Shape and type of a value, for a batch."""
    type = graph[name].tensor
    return concrete(type.shape, batch), TO_TORCH[type.dtype]
