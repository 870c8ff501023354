"""Loops that no kernel computes: a program for one step, called once for each step.

The graph is cut around such a loop. What the loop reads is computed by one part, what reads the
loop by another, and between them NumPy hands slices of sequences to the program of a step
(`Step`). It does not depend on the number of steps, so one program serves all lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sol.arrays.captured import Array, Captured, Host, Part, pruned
from sol.arrays.captured import Step as CapturedStep
from sol.compiler import Compiled, compile_graph
from sol.core.dims import concrete
from sol.ir.graph import Graph, Node
from sol.options import Options
from sol.runtime.threads import count

Compile = Callable[[Graph, Mapping[str, Array]], Compiled]


@dataclass(frozen=True)
class Step:
    """One step of a loop as a graph: what a step makes of what it reads.

    inputs of the graph: first the values from outside, then the delayed values. sequences: which of
    the values from outside have steps. delays: for each delayed value its offset and which of the
    outputs it is. results: which outputs are used outside.
    """

    graph: Graph
    parameters: Mapping[str, Array]
    sequences: tuple[bool, ...]
    delays: tuple[tuple[int, int], ...]
    results: tuple[int, ...]
    backwards: bool


@dataclass(frozen=True)
class Cut:
    """Where the graph of a model is cut: nodes that a loop reads, nodes that stand for its results,
    and the loop."""

    step: Step
    reads: tuple[Node, ...]
    makes: tuple[Node, ...]
    name: str


def captured(
    graph: Graph,
    outputs: Mapping[str, str],
    parameters: Mapping[str, Array],
    cuts: Sequence[Cut],
    compile_step: Compile,
    threads: int | None,
) -> Captured:
    """The parts of a graph between its cuts, and the loops. outputs: names of nodes, by output."""
    steps: list[CapturedStep] = []
    known = {n.name: n.origin for n in graph.inputs}
    for cut in cuts:
        computed = {f"@{n.name}": n.name for n in cut.reads if n.name not in known}
        _append(steps, graph, known, computed)
        known |= {name: value for value, name in computed.items()}
        known |= {n.name: f"@{n.name}" for n in cut.makes}
        steps.append(
            Host(
                _Loop(cut.step, compile_step(cut.step.graph, cut.step.parameters), threads),
                tuple(known[n.name] for n in cut.reads),
                tuple(known[n.name] for n in cut.makes),
                "recurrence",
                "Sol has no kernel for it: a program for one step, called for each",
                cut.name,
                "Sol, step by step",
            )
        )
    _append(steps, graph, known, outputs)
    used = {n["key"] for s in steps if isinstance(s, Part) for n in s.graph.parameters}
    kept = {key: np.asarray(array) for key, array in parameters.items() if key in used}
    return Captured(tuple(steps), kept, tuple(outputs))


def _append(
    steps: list[CapturedStep], graph: Graph, known: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    """A part that computes nodes, by the names of values, from values that are known."""
    if not wanted:
        return
    nodes = tuple(
        replace(n, op="input", inputs=(), attrs=()) if n.name in known else n for n in graph
    )
    part = pruned(Graph(nodes, tuple(wanted.values())))
    steps.append(Part(part, tuple(known[n.name] for n in part.inputs), tuple(wanted)))


@dataclass(frozen=True)
class _Loop:
    """A loop that runs: `loop(values from outside, initial values) -> sequences`."""

    step: Step
    program: Compiled
    threads: int | None

    def __call__(self, *given: Array) -> tuple[Array, ...]:
        step, threads = self.step, count(self.threads)
        outside = given[: len(step.sequences)]
        initial = given[len(step.sequences) :]
        length = next(v.shape[1] for v, s in zip(outside, step.sequences) if s)
        images = _images(self.program.graph, (*outside, *initial))
        types = [self.program.graph[o] for o in self.program.graph.outputs]
        shapes = [(concrete(n.shape, images), n.dtype.numpy) for n in types]
        history: list[list[Array]] = []
        for number in range(length):
            place = length - 1 - number if step.backwards else number
            now = [v[:, place] if s else v for v, s in zip(outside, step.sequences)]
            for start, (offset, output) in zip(initial, step.delays):
                now.append(history[number - offset][output] if number >= offset else start)
            arrays = [np.ascontiguousarray(v).reshape(v.shape) for v in now]
            made = [np.empty(shape, dtype) for shape, dtype in shapes]
            self.program.run(
                [a.ctypes.data for a in arrays], [a.ctypes.data for a in made], images, threads
            )
            history.append(made)
        order = history[::-1] if step.backwards else history
        return tuple(np.stack([made[k] for made in order], axis=1) for k in step.results)


def _images(graph: Graph, arrays: Sequence[Array]) -> int:
    """The batch of a call: that of an input whose first size is open."""
    for node, array in zip(graph.inputs, arrays):
        if node.shape and not isinstance(node.shape[0], int):
            return int(array.shape[0])
    return 1


class Steps:
    """Programs of steps, kept for all lengths of sequences."""

    def __init__(self, options: Options) -> None:
        self._options = replace(options, memory=None, tune=None)
        self._made: dict[Graph, Compiled] = {}

    def __call__(self, graph: Graph, parameters: Mapping[str, Array]) -> Compiled:
        """The program of a step."""
        if graph not in self._made:
            compiled = compile_graph(graph, self._options)
            compiled.prepare(parameters)
            self._made[graph] = compiled
        return self._made[graph]
