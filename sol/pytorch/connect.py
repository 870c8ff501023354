"""The door from the frontend to the rest of Sol: compiler, reports, runtime.

Each function imports what it needs when it is called, so that reading a network loads no compiler.
Executables are whatever `compile_with` returns.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import concrete
from sol.core.errors import MemoryBudgetError
from sol.ir.graph import Graph, Node
from sol.plan.planner import Planned
from sol.pytorch.program import Executable

Progress = Callable[[str, int, int], None]


def compile_all(
    graphs: Sequence[Graph], options: dict[str, Any], progress: Progress | None,
    plans: Sequence[Planned] = (), careful: Collection[int] = (),
) -> list[Executable]:  # fmt: skip
    """Executables of a network in parts, whose weights share a memory budget. plans: of the parts,
    if they are known. careful: numbers of parts that have to round little.

    A part gets what the others leave. Raises MemoryBudgetError if that is not enough.
    """
    each = [_careful(options) if n in careful else options for n in range(len(graphs))]
    if plans:
        return [compile_with(g, o, progress, p) for g, o, p in zip(graphs, each, plans)]
    budget = options.get("memory")
    if budget is None or len(graphs) < 2:
        return [compile_with(g, o, progress) for g, o in zip(graphs, each)]
    try:
        return _within(graphs, each, budget, progress)
    except MemoryBudgetError:  # the last ones, because the first ones took what they liked
        strict = options | {"precision": "strict"}
        return _within(graphs, [strict] * len(graphs), budget, progress)


def _careful(options: dict[str, Any]) -> dict[str, Any]:
    from sol.options import no_coarser

    return options | {"precision": no_coarser(options.get("precision", "float32"), "careful")}


def _within(
    graphs: Sequence[Graph], each: Sequence[dict[str, Any]], memory: Any, progress: Progress | None
) -> list[Executable]:
    """Parts, each with its options, run one after the other in one arena, as large as the largest
    needs."""
    from sol.options import parse_memory

    budget = parse_memory(memory)
    made: list[Any] = [compile_with(g, o, progress) for g, o in zip(graphs, each)]
    for number, (graph, options) in enumerate(zip(graphs, each)):
        others = sum(e.reserved[0] for k, e in enumerate(made) if k != number)
        if others + sum(made[number].reserved) <= budget:
            continue
        left = options | {"memory": max(1, budget - others)}
        try:
            made[number] = compile_with(graph, left, progress)
        except MemoryBudgetError as error:
            raise MemoryBudgetError(
                f"{error.what}; memory={memory!r} less {others} bytes that the packed "
                f"weights of {len(graphs) - 1} other parts of the network take",
                do="allow more memory",
            ) from None
    return made


def compile_with(
    graph: Graph, options: dict[str, Any], progress: Progress | None, planned: Planned | None = None
) -> Executable:
    """Sol's compiler; it is imported when it is first needed."""
    import torch

    from sol.compiler import Options, compile_graph
    from sol.core.device import detect
    from sol.runtime.threads import count
    from sol.tune import recall

    chosen = Options(**options)
    threads = count(chosen.threads, torch.get_num_threads)
    known, device = partial(recall, threads=threads), detect().for_threads(threads)
    return compile_graph(graph, chosen, progress, device, recall=known, planned=planned)


def tuned(
    executable: Any,
    parameters: Mapping[str, NDArray[Any]],
    inputs: Sequence[NDArray[Any]],
    batch: int,
    threads: int,
    seconds: float,
    progress: Progress | None,
) -> Executable:
    """An executable that computes the same, faster if that could be found within the seconds."""
    from sol.tune import tune

    return tune(executable, parameters, inputs, batch, seconds, threads=threads, progress=progress)


def explanation(
    executable: Any, graph: Graph, batch: int, threads: int, roofline: bool = False
) -> Any:
    """What was made of a graph; with times if threads are given: on numbers of no meaning, and
    compared with the machine's peaks, if that is asked for.
    """
    from sol.report.explain import explain

    if not threads:
        return explain(executable)
    inputs = [_numbers(n, batch) for n in graph.inputs]
    outputs = [_numbers(graph[o], batch) for o in graph.outputs]
    addresses = ([a.ctypes.data for a in inputs], [a.ctypes.data for a in outputs])
    times = executable.profile(*addresses, batch, threads)
    return (
        _with_roofline(executable, times, batch, threads)
        if roofline
        else explain(executable, times)
    )


def _with_roofline(executable: Any, times: Sequence[int], batch: int, threads: int) -> Any:
    from sol.core.device import detect
    from sol.report.machine import peaks
    from sol.report.roofline import explain_roofline

    return explain_roofline(executable, times, batch, peaks(detect(), threads))


def roofline_text(explanations: Sequence[Any], width: int) -> list[str]:
    """The lines about the rooflines of the parts of a network; none if these were not made."""
    found = [e.roofline for e in explanations if e.roofline is not None]
    if not found:
        return []
    from sol.report.roofline import joined, lines

    return list(lines(joined(found), width))


def _numbers(node: Node, batch: int) -> NDArray[Any]:
    """An array for a value: small numbers, and 0 where they may be indices."""
    shape = concrete(node.shape, batch)
    if node.dtype.kind != "float":
        return np.zeros(shape, node.dtype.numpy)
    return np.random.default_rng(0).standard_normal(shape).astype(node.dtype.numpy)


def memory_bytes(executable: Any, batch: int, threads: int) -> int:
    """Bytes of the arena of one call, and of packed weights."""
    return int(executable.memory(batch, threads))


def identity(executable: Any) -> str:
    """A name that changes with the compiled kernels: that of their library in the cache."""
    name: str = executable.identity
    return name


def give_memory_back() -> None:
    """Keep no arena of finished calls: the next call takes what it needs."""
    from sol.runtime.arena import arenas

    arenas.trim()


def prepare(executable: Any, parameters: Mapping[str, NDArray[Any]], other: Any = None) -> None:
    """Take parameters that change from run to run, so that each run packs them; on the memory of
    the weights of another executable, if there is one, which has to be prepared again before it
    runs."""
    executable.prepare_by_piece(parameters, other)


def steady_keys(executable: Any, frozen: Collection[str]) -> tuple[str, ...]:
    """Of these parameters, those of which packed weights follow that need no others."""
    keys: tuple[str, ...] = executable.steady_keys(frozen)
    return keys


def keep_packed(executable: Any, parameters: Mapping[str, NDArray[Any]]) -> None:
    """Pack the weights of these parameters once for all runs, until they are forgotten."""
    executable.keep_packed(parameters)


def forget_weights(executable: Any) -> None:
    """Give the memory of packed weights back; the executable has to be prepared again."""
    executable.forget()


def held_places(executable: Any, batch: int, threads: int) -> tuple[dict[str, int], int]:
    """Where kept results or lent inputs lie in the memory of a call, and its bytes."""
    return executable.held_places(batch), int(executable.program.arena_bytes(batch, threads))


def reserved_weights(executable: Any) -> int:
    """Bytes of weights that change from run to run, known before there are parameters."""
    return int(executable.reserved_by_piece)


def packed_bytes(executable: Any) -> int:
    """Bytes of packed weights."""
    return int(executable.packed_bytes)


def first_difference(
    graph: Graph, parameters: Mapping[str, NDArray[Any]], inputs: Sequence[NDArray[Any]], batch: int
) -> str | None:
    """The first cluster of a graph whose result is off, None if all are right."""
    from sol.compiler import compile_graph
    from sol.report.check import first_difference as first

    kept = compile_graph(graph, keep=True)
    found = first(kept, parameters, inputs, batch)
    return None if found is None else str(found)


def check_options(options: Mapping[str, Any]) -> None:
    """Raises ConfigError for values that options do not have."""
    from sol.compiler import Options

    Options(**options)


def option_names() -> frozenset[str]:
    """The options that a user may give."""
    from sol.compiler import Options

    return frozenset(Options.__dataclass_fields__)


def fingerprint(addresses: array[int], sizes: array[int]) -> int:
    """A number that changes with sampled words of these memories."""
    from sol.runtime.native import fingerprint as native

    return native(addresses, sizes)


def look(first: array[int], others: array[int], alive: object = None) -> Any:
    """Tells whether the 64-bit words at these addresses are what they are now; the others are read
    only while the first ones have not changed. alive: what keeps these readable."""
    from sol.runtime.native import look as native

    return native(first, others, alive)


def words_at(places: array[int]) -> array[int]:
    """The 64-bit words at these addresses."""
    from sol.runtime.native import words_at as native

    return native(places)
