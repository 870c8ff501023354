"""A captured model that runs: compiled parts, and NumPy between them.

A `Program` is never changed once it is made, so calls need no lock: other parameters make another
program (`with_parameters`), on the same compiled code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sol.accuracy import Rounding
from sol.arrays.captured import Captured, Host, Part
from sol.compiler import Compiled, Options, compile_graph
from sol.core.device import detect
from sol.core.dims import concrete
from sol.core.errors import InputError, MemoryBudgetError
from sol.ir.graph import Graph, types_of
from sol.ops.reference import evaluate
from sol.runtime.threads import count
from sol.tune import recall, tune

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]
Change = Callable[[Compiled, Sequence[Array], Sequence[Array]], Compiled]


class Executable(Protocol):
    """A graph that runs."""

    def run(
        self, inputs: Sequence[int], outputs: Sequence[int], batch: int, threads: int
    ) -> object:
        """Compute on tensors at these addresses."""


@dataclass(frozen=True)
class Empty:
    """A graph with values that have no elements: the NumPy reference runs it, there is little to
    compute."""

    graph: Graph
    parameters: Mapping[str, Array]

    def results(self, arrays: Sequence[Array]) -> list[Array]:
        """The results for these inputs."""
        given = {n.name: a for n, a in zip(self.graph.inputs, arrays)}
        return evaluate(self.graph, given, self.parameters)


@dataclass(frozen=True)
class Program:
    """The steps of a captured model with what executes its parts, in their order.

    rounding: of these parts, where the default precision was compared with the strict one.
    """

    captured: Captured
    executables: tuple[Compiled | Empty, ...]
    options: Options
    rounding: tuple[Rounding | None, ...] = ()

    def run(self, arrays: Mapping[str, Array], batch: int) -> list[Array]:
        """The results for checked arrays."""
        values: dict[str, Array] = {**self.captured.parameters, **arrays}
        uses = self._uses()
        executables = iter(self.executables)
        for step in self.captured.steps:
            given = [values[name] for name in step.inputs]
            made = (
                run_part(next(executables), given, batch, count(self.options.threads))
                if isinstance(step, Part)
                else _computed(step, given)
            )
            values.update(zip(step.outputs, made, strict=True))
            for name in step.inputs:
                uses[name] -= 1
                if not uses[name]:
                    values.pop(name, None)
        own = {name for step in self.captured.steps for name in step.outputs}
        seen: set[str] = set()
        results = []
        for name in self.captured.results:
            fresh = name in own and name not in seen
            results.append(values[name] if fresh else values[name].copy())
            seen.add(name)
        return results

    def _uses(self) -> Counter[str]:
        uses = Counter(name for step in self.captured.steps for name in step.inputs)
        uses.update(self.captured.results)
        return uses

    def with_parameters(self, parameters: Mapping[str, Array]) -> Program:
        """The program with other values of some parameters."""
        known = dict(self.captured.parameters)
        known |= {k: np.asarray(v) for k, v in parameters.items() if k in known}
        for key, old in self.captured.parameters.items():
            if known[key].shape != old.shape or known[key].dtype != old.dtype:
                raise InputError(
                    f"parameter {key} is now {known[key].dtype}{list(known[key].shape)}",
                    expected=f"{old.dtype}{list(old.shape)}",
                )
        made = tuple(_again(e, known) for e in self.executables)
        return replace(self, captured=replace(self.captured, parameters=known), executables=made)

    def changed(self, arrays: Mapping[str, Array], batch: int, change: Change) -> Program:
        """The program with other executables, made of each on what it reads and makes in a call
        with these arrays."""
        found: list[Compiled | Empty] = []
        values: dict[str, Array] = {**self.captured.parameters, **arrays}
        executables = iter(self.executables)
        for step in self.captured.steps:
            given = [values[name] for name in step.inputs]
            if isinstance(step, Host):
                made = _computed(step, given)
            else:
                each = next(executables)
                made = run_part(each, given, batch, count(self.options.threads))
                found.append(change(each, given, made) if isinstance(each, Compiled) else each)
            values.update(zip(step.outputs, made, strict=True))
        return replace(self, executables=tuple(found))

    def tuned(
        self, arrays: Mapping[str, Array], batch: int, seconds: float, progress: Progress | None
    ) -> Program:
        """The program with methods that are faster on these arrays, found within the seconds."""
        share = seconds / max(1, sum(isinstance(e, Compiled) for e in self.executables))
        known, threads = self.captured.parameters, count(self.options.threads)

        def faster(each: Compiled, given: Sequence[Array], made: Sequence[Array]) -> Compiled:
            del made
            return tune(each, known, given, batch, share, threads=threads, progress=progress)

        return self.changed(arrays, batch, faster)


def make(captured: Captured, options: Options, progress: Progress | None = None) -> Program:
    """Compile all parts. Raises what the compiler raises, MemoryBudgetError among it."""
    executables: list[Compiled | Empty] = []
    for graph, chosen in zip(captured.graphs, _budgets(captured.graphs, options)):
        if _has_empty(graph):
            executables.append(Empty(graph, captured.parameters))
            continue
        executables.append(prepared(graph, captured.parameters, chosen, progress))
    program = Program(captured, tuple(executables), options)
    _check_budget(program)
    return program


def prepared(
    graph: Graph, parameters: Mapping[str, Array], options: Options, progress: Progress | None
) -> Compiled:
    """A compiled part that has its parameters."""
    threads = count(options.threads)
    known, device = partial(recall, threads=threads), detect().for_threads(threads)
    compiled = compile_graph(graph, options, progress, device, recall=known)
    compiled.prepare(parameters)
    return compiled


def _budgets(graphs: Sequence[Graph], options: Options) -> list[Options]:
    """Options of each part. The memory of several is checked when all are there."""
    alone = options if len(graphs) == 1 else replace(options, memory=None, precision="strict")
    return [options if options.memory is None else alone for _ in graphs]


def _check_budget(program: Program) -> None:
    """Parts run one after the other in one arena, as large as the largest needs."""
    compiled = [e for e in program.executables if isinstance(e, Compiled)]
    if program.options.budget is None or len(compiled) < 2:
        return
    packed = sum(e.packed_bytes for e in compiled)
    needed = packed + max(e.reserved[1] for e in compiled)
    if needed > program.options.budget:
        raise MemoryBudgetError(
            f"the {len(compiled)} parts of the network need {needed} bytes, "
            f"{packed} of them for packed weights",
            expected=f"memory={program.options.memory!r}",
            do="allow more memory",
        )


def _has_empty(graph: Graph) -> bool:
    return any(size == 0 for n in graph for t in types_of(n) for size in t.shape)


def _again(executable: Compiled | Empty, parameters: Mapping[str, Array]) -> Compiled | Empty:
    if isinstance(executable, Empty):
        return Empty(executable.graph, parameters)
    e = executable
    made = Compiled(e.graph, e.planned, e.steps, e.tensors, e.source, e.program, e.options)
    made.prepare(parameters)
    return made


def run_part(
    executable: Compiled | Empty, given: Sequence[Array], batch: int, threads: int
) -> list[Array]:
    """The results of a part for these values."""
    graph = executable.graph
    for node, array in zip(graph.inputs, given, strict=True):
        wanted = concrete(node.shape, batch)
        if array.shape != wanted or array.dtype.name != node.dtype.numpy:
            raise InputError(
                f"{node.name} came as {array.dtype}{list(array.shape)} between two parts",
                expected=f"{node.dtype.numpy}{list(wanted)}",
            )
    arrays = [np.ascontiguousarray(a).reshape(a.shape) for a in given]
    if isinstance(executable, Empty):
        return executable.results(arrays)
    shapes = [(concrete(graph[o].shape, batch), graph[o].dtype.numpy) for o in graph.outputs]
    outputs = [np.empty(shape, dtype) for shape, dtype in shapes]
    executable.run(
        [a.ctypes.data for a in arrays], [a.ctypes.data for a in outputs], batch, threads
    )
    return outputs


def _computed(step: Host, given: Sequence[Array]) -> list[Array]:
    with np.errstate(all="ignore"):
        return [np.asarray(a) for a in step.function(*given)]
