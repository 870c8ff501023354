"""A network in training: a forward program, a backward program, and what is kept in between.

A `Pair` is made of a graph and of what wants gradients. It is called with arrays; frontends connect
it with what their framework has for gradients. Who runs the backward program holds what was kept,
a `Step`, so that it lives as long as gradients may be asked for.

    pair = Pair.of(graph, wanted, options)
    results, kept = pair.forward(inputs, parameters, batch, threads)
    gradients = pair.backward([*inputs, *results, *kept], [dy], parameters, batch, threads)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.compiler import Compiled, Options, Progress, Recall, compile_graph
from sol.core.dims import concrete
from sol.ir.graph import Graph, Node
from sol.options import no_coarser
from sol.passes.autodiff import differentiate
from sol.passes.partition import Halves, partition
from sol.passes.pipeline import run as run_passes
from sol.plan.kept import keep_orders
from sol.runtime.arena import ArenaPool

Array = NDArray[Any]
_LINE = 64  # bytes; each array begins at a cache line


def halves_of(graph: Graph, wanted: Collection[str]) -> Halves:
    """The forward and the backward graph for gradients of the wanted inputs and parameters, what is
    kept in the planner's order. Raises UnsupportedError for an operator without a gradient."""
    return keep_orders(partition(differentiate(run_passes(graph), tuple(wanted))))


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a program knows of parameters that stay as they are: where they lie, their arrays, and
    what was computed of them alone. It keeps what was packed of them, too."""

    places: tuple[int, ...]
    arrays: Mapping[str, Array]
    values: Mapping[str, Array]


@dataclass
class Pair:
    """The two programs of a graph, for one set of inputs and parameters that want gradients.

    Weights change from step to step, so each program takes them when it runs. held: keys of those
    that do not: nobody writes into their arrays as long as these are held, so arrays at the same
    places are the same numbers.
    """

    graph: Graph
    halves: Halves
    first: Compiled
    second: Compiled | None
    held: frozenset[str] = frozenset()
    memory: Mapping[str, ArenaPool] = field(default_factory=lambda: defaultdict(ArenaPool))
    fixed: dict[int, Fixed] = field(default_factory=dict)  # of each program
    lock: Lock = field(default_factory=Lock)  # of a program with its parameters

    @staticmethod
    def of(
        graph: Graph,
        wanted: Collection[str],
        options: Options,
        progress: Progress | None = None,
        recall: Recall | None = None,
        held: Collection[str] = (),
    ) -> Pair:
        """Differentiate, cut and compile. wanted: names of inputs and parameters. Raises
        UnsupportedError for an operator without a gradient, and what the compiler raises.

        The forward program rounds little: a value that rounds to the other side of 0 changes a
        ReLU's gradient by far more than rounding does (docs/training.md)."""
        halves = halves_of(graph, wanted)
        make = partial(compile_graph, progress=progress, recall=recall)
        careful = replace(options, precision=no_coarser(options.precision, "careful"))
        second = make(halves.backward, options) if halves.backward.outputs else None
        return Pair(graph, halves, make(halves.forward, careful), second, frozenset(held))

    @property
    def programs(self) -> tuple[Compiled, ...]:
        """Forward, and backward if somebody wants gradients."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def kept(self) -> list[Node]:
        """The values that the forward program gives for the backward program."""
        graph = self.halves.forward
        return [graph[o] for o in graph.outputs[self.halves.results :]]

    def forward(
        self, inputs: Sequence[Array], parameters: Mapping[str, Array], batch: int, threads: int
    ) -> tuple[list[Array], list[Array]]:
        """The results for inputs in the order of the graph, and what is kept; parameters by key."""
        graph = self.halves.forward
        nodes = [graph[o] for o in graph.outputs[: self.halves.results]]
        results = self._rooms("results", nodes, batch)
        kept = self._rooms("kept", self.kept, batch)
        self._run(self.first, inputs, [*results, *kept], parameters, batch, threads)
        return results, kept

    def backward(
        self,
        known: Sequence[Array],
        gradients: Sequence[Array | None],
        parameters: Mapping[str, Array],
        batch: int,
        threads: int,
    ) -> dict[str, Array]:
        """Gradients of what wants them, as far as results depend on it, by name. known: inputs,
        results and what was kept; gradients: of each result, None for zeros."""
        halves, second = self.halves, self.second
        if second is None:
            return {}
        graph = halves.backward
        names = (*(n.name for n in self.graph.inputs), *halves.forward.outputs)
        values = dict(zip(names, known, strict=True))
        seeds = {
            seed: _dense(given, graph[seed], batch)
            for given, seed in zip(gradients, halves.seeds, strict=True)
            if seed
        }
        given = [*(values[name] for name in halves.saved), *seeds.values()]
        found = self._rooms("gradients", [graph[o] for o in graph.outputs], batch)
        self._run(second, given, found, parameters, batch, threads)
        return {name: found[n] for name, n in zip(halves.wanted, halves.gradients) if n >= 0}

    def _run(
        self, program: Compiled, inputs: Sequence[Array], outputs: Sequence[Array],
        parameters: Mapping[str, Array], batch: int, threads: int,
    ) -> None:  # fmt: skip
        mine = {n["key"]: parameters[n["key"]] for n in program.graph.parameters}
        given, made = ([a.ctypes.data for a in arrays] for arrays in (inputs, outputs))
        with self.lock:
            self._prepare(program, mine)
            program.run(given, made, batch, threads)

    def _prepare(self, program: Compiled, parameters: Mapping[str, Array]) -> None:
        """Hand a program its parameters; what follows from held ones alone is computed once."""
        held = {key: array for key, array in parameters.items() if key in self.held}
        places = tuple(a.ctypes.data for a in held.values())
        fixed = self.fixed.get(id(program))
        if fixed is None or fixed.places != places:
            whole = len(held) == len(parameters)
            fixed = Fixed(places, held, {} if whole else program.static_values(held))
            self.fixed[id(program)] = fixed
            if whole:
                program.prepare(parameters)
            else:
                program.keep_packed(held)
        if len(held) < len(parameters):
            program.prepare_by_piece(parameters, known=fixed.values)

    def _rooms(self, use: str, nodes: Sequence[Node], batch: int) -> list[Array]:
        """Memory for values, arbitrary numbers in it; what lives equally long lies together."""
        return leased(self.memory[use], [(concrete(n.shape, batch), n.dtype.numpy) for n in nodes])


def _dense(gradient: Array | None, node: Node, batch: int) -> Array:
    """A gradient in row-major memory, zeros where there is none."""
    shape = concrete(node.shape, batch)
    if gradient is None:
        return np.zeros(shape, node.dtype.numpy)
    return np.ascontiguousarray(gradient, node.dtype.numpy).reshape(shape)


def leased(pool: ArenaPool, kinds: Sequence[tuple[tuple[int, ...], str]]) -> list[Array]:
    """Arrays of these shapes and types on one piece of the pool's memory, each from a cache line
    on. The memory goes back to the pool when none of them is alive: new memory for each step would
    be cleared by the system, page by page, which takes as long as some layers do."""
    begins, size = [], 0
    for shape, dtype in kinds:
        begins.append(size)
        size += -(-math.prod(shape) * np.dtype(dtype).itemsize // _LINE) * _LINE
    if not size:
        return [np.empty(shape, dtype) for shape, dtype in kinds]
    memory = pool.lease(size)
    return [
        memory[begin : begin + math.prod(shape) * np.dtype(dtype).itemsize]
        .view(dtype)
        .reshape(shape)
        for begin, (shape, dtype) in zip(begins, kinds)
    ]
