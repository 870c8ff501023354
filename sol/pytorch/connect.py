"""The door from the frontend to the rest of Sol: compiler, reports, runtime.

Each function imports what it needs when it is called, so that reading a network loads no compiler.
Executables are whatever `compile_with` returns.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import concrete
from sol.ir.graph import Graph, Node
from sol.pytorch.program import Executable

Progress = Callable[[str, int, int], None]


def compile_with(graph: Graph, options: dict[str, Any], progress: Progress | None) -> Executable:
    """Sol's compiler; it is imported when it is first needed."""
    from sol.compiler import Options, compile_graph

    return compile_graph(graph, Options(**options), progress)


def explanation(executable: Any, graph: Graph, batch: int, threads: int) -> Any:
    """What was made of a graph; with times if threads are given: on numbers of no meaning."""
    from sol.report.explain import explain

    if not threads:
        return explain(executable)
    inputs = [_numbers(n, batch) for n in graph.inputs]
    outputs = [_numbers(graph[o], batch) for o in graph.outputs]
    addresses = ([a.ctypes.data for a in inputs], [a.ctypes.data for a in outputs])
    return explain(executable, executable.profile(*addresses, batch, threads))


def _numbers(node: Node, batch: int) -> NDArray[Any]:
    """An array for a value: small numbers, and 0 where they may be indices."""
    shape = concrete(node.shape, batch)
    if node.dtype.kind != "float":
        return np.zeros(shape, node.dtype.numpy)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def memory_bytes(executable: Any, batch: int, threads: int) -> int:
    """Bytes of the arena of one call, and of packed weights."""
    return int(executable.memory(batch, threads))


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


def option_names() -> frozenset[str]:
    """The options that a user may give."""
    from sol.compiler import Options

    return frozenset(Options.__dataclass_fields__)


def fingerprint(addresses: array[int], sizes: array[int]) -> int:
    """A number that changes with sampled words of these memories."""
    from sol.runtime.native import fingerprint as native

    return native(addresses, sizes)
