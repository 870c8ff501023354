"""The page to read first: from a graph to a program, stage by stage.

    graph ── passes ──▶ graph ── plan ──▶ clusters, places, arena ── lower ──▶ kernels ── print ──▶ C ── toolchain ──▶ library ── runtime ──▶ program

`compile_graph` is the whole story. Frontends (sol.pytorch, …) make the graph and call it; what comes back, `Compiled`, takes the framework's parameters (`prepare`) and runs.
This is the only file that knows all stages.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sol.ops  # noqa: F401  (fills the table of operators)
from sol.backends.c import Source, Step, Table, TableBuffer, generate
from sol.backends.toolchain import build
from sol.core.device import CpuDevice, detect
from sol.core.dims import coefficients, concrete, evaluate
from sol.ir.graph import Graph
from sol.kernels.attention import lower_attention
from sol.kernels.gemm import lower_contraction
from sol.kernels.pack import Packing
from sol.lower.cluster import Lowered, lower_group, part_group
from sol.ops.reference import evaluate_nodes
from sol.passes import run as run_passes
from sol.plan.batch import images
from sol.plan.planner import Planned, make_plan
from sol.plan.memory import Arena
from sol.plan.records import Cluster, Place
from sol.runtime.cache import cache
from sol.runtime.program import Program

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]

_GROUP_BYTES = 24 << 20  # intermediates of images that are computed together: what stays in a last-level cache
_MOST_IMAGES = 16


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may ask for: threads (None: the framework's number)."""

    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """One step of a program: its cluster, how it was lowered, and the weight that must be packed for it."""

    cluster: Cluster
    lowered: Lowered
    packed: tuple[str, str, Packing] | None
    why: str


def compile_graph(graph: Graph, options: Options = Options(), progress: Progress | None = None, device: CpuDevice | None = None,
                  keep: bool = False) -> Compiled:  # fmt: skip
    """Compile a network for a device (default: this processor). keep: every intermediate value stays in memory after a run, for `Compiled.values`."""
    device = device or detect()
    optimised = run_passes(graph)
    planned = make_plan(optimised, keep)
    made = lower(planned, device)
    tensors, source = print_program(planned, made)
    library = build(source.units, device, cache, progress=progress)
    program = Program(library, group=images_at_once(planned))
    return Compiled(graph, planned, made, tensors, source, program, options)


def lower(planned: Planned, device: CpuDevice) -> tuple[Made, ...]:
    """A kernel for every cluster."""
    widths = tuple(w for w in (16, 8, 4) if w <= device.vector_lanes(4))
    return tuple(_lower_cluster(planned, cluster, device, widths) for cluster in planned.plan.clusters)


def _lower_cluster(planned: Planned, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]) -> Made:
    plan = planned.plan
    if cluster.kind == "contraction":
        result = lower_contraction(plan, cluster, device, widths)
        tile = result.tile
        why = f"tile {tile.rows}x{tile.vectors * tile.lanes}, panel {tile.panel}, A {'in place' if result.in_place else 'packed'}"
        return Made(cluster, result.lowered, result.packed, why)
    if cluster.kind == "attention":
        attention = lower_attention(plan, cluster, device, widths)
        return Made(cluster, attention.lowered, None, attention.why)
    name = cluster.values[-1]
    group = part_group(plan, name) if "@" in name else planned.groups[name]
    return Made(cluster, lower_group(plan, group, widths), None, f"{len(group.members)} nests per patch")


def print_program(planned: Planned, made: Sequence[Made]) -> tuple[tuple[str, ...], Source]:
    """The names of the tensors that a call passes, in order, and the C text."""
    plan, arena = planned.plan, planned.arena
    packed = {m.packed[0] for m in made if m.packed}
    used = dict.fromkeys(b for m in made for b in m.lowered.buffers)
    external = [n.name for n in plan.graph.inputs] + [o for o in dict.fromkeys(plan.graph.outputs) if plan.buffers[o].kind == "output"]
    external += [b for b in used if (b in packed or plan.buffers[b].kind == "prepared") and b not in external]
    per_image = images({n: plan.graph[n].shape for n in (*(i.name for i in plan.graph.inputs), *plan.graph.outputs)})
    rows = []
    numbers = {name: k for k, name in enumerate(used)}
    for name in used:
        if name in external:
            stride = per_image.get(name, 0) * (plan.buffers[name].dtype.bytes if name in plan.buffers else 4)
            rows.append(TableBuffer(external.index(name), image_stride=stride))
        else:
            rows.append(TableBuffer(-1, *arena.offsets[name]))
    scratch = max((m.lowered.kernel.scratch for m in made), default=0)
    table = Table(tuple(rows), len(external), arena.per_image, arena.constant, scratch, plan.splittable)
    steps = [Step(m.lowered.kernel, tuple(numbers[b] for b in m.lowered.buffers)) for m in made]
    return tuple(external), generate(steps, table)


def images_at_once(planned: Planned) -> int:
    """Images per pass over the network: as many as keep the arena in a cache, at least two."""
    if not planned.plan.splittable or not planned.arena.per_image:
        return 0
    return max(2, min(_MOST_IMAGES, _GROUP_BYTES // planned.arena.per_image))


class Compiled:
    """A compiled network: takes parameters with `prepare`, runs with `run`."""

    def __init__(self, graph: Graph, planned: Planned, made: tuple[Made, ...], tensors: tuple[str, ...], source: Source, program: Program, options: Options) -> None:
        self.graph = graph
        self.planned = planned
        self.steps = made
        self.tensors = tensors
        self.source = source
        self.program = program
        self.options = options
        plan = planned.plan.graph
        self._inputs = [n.name for n in plan.inputs]
        self._outputs = plan.outputs
        self._weights: list[Array] = []
        self._pointers = array("Q", bytes(8 * len(tensors)))

    def prepare(self, parameters: Mapping[str, Array]) -> None:
        """Take the parameters (arrays that share the framework's memory, by key): evaluate what depends on them only, and pack weights."""
        graph = self.planned.plan.graph
        packings = {m.packed[0]: m.packed for m in self.steps if m.packed}
        wanted = [packings[t][1] if t in packings else t for t in self.tensors[self._offset :]]
        given = {n.name: parameters[n["key"]] for n in graph.parameters}
        values = evaluate_nodes(graph, list(dict.fromkeys(wanted)), given)
        self._weights = []
        for position, (name, source) in enumerate(zip(self.tensors[self._offset :], wanted)):
            value = np.asarray(values[source])
            value = packings[name][2].apply(value) if name in packings else np.ascontiguousarray(value)
            self._weights.append(value)
            self._pointers[self._offset + position] = value.ctypes.data

    @property
    def _offset(self) -> int:
        return len(self._inputs) + len([o for o in dict.fromkeys(self._outputs) if o in self.tensors])

    def run(self, inputs: Sequence[int], outputs: Sequence[int], batch: int, threads: int) -> tuple[int, ...]:
        """Run on contiguous tensors at these addresses, of the types of the graph's inputs and outputs."""
        pointers = array("Q", self._pointers)
        pointers[: len(inputs)] = array("Q", inputs)
        pointers[len(inputs) : len(inputs) + len(outputs)] = array("Q", outputs)
        return self.program.run(pointers, batch, threads)

    def memory(self, batch: int, threads: int) -> int:
        """Bytes of the arena of one call, and of packed weights."""
        return self.program.arena_bytes(batch, threads) + sum(w.nbytes for w in self._weights if w.base is None)


    def values(self, inputs: Sequence[Array], batch: int, threads: int = 1) -> dict[str, Array]:
        """Every stored intermediate value of a run, by name, in the order of the steps. Needs a network compiled with `keep`."""
        plan, arena = self.planned.plan, self.planned.arena
        outputs = [np.empty(concrete(plan.graph[o].shape, batch), plan.graph[o].dtype.numpy) for o in self._outputs]
        memory = np.zeros(self.program.arena_bytes(batch, threads) + 4096, np.uint8)
        start = -memory.ctypes.data % 4096
        pointers = array("Q", self._pointers)
        for k, tensor in enumerate((*inputs, *outputs)):
            pointers[k] = tensor.ctypes.data
        self.program.run_in(pointers, batch, threads, memory.ctypes.data + start)
        results = dict(zip(self._outputs, outputs))
        found: dict[str, Array] = {}
        for made in self.steps:
            for name in made.cluster.values:
                if name in results:
                    found[name] = results[name]
                elif name in plan.places and plan.places[name].buffer in arena.offsets:
                    found[name] = _at(memory, start, arena, plan.places[name], batch)
                elif name in plan.places and plan.places[name].buffer in results:
                    found[name] = _view(results[plan.places[name].buffer].reshape(-1), plan.places[name], batch)
        return found


def _at(memory: Array, start: int, arena: Arena, place: Place, batch: int) -> Array:
    coef, constant = arena.offsets[place.buffer]
    return _view(memory[start + coef * batch + constant :].view(np.uint8), place, batch)


def _view(flat: Array, place: Place, batch: int) -> Array:
    """The value at a place, its buffer beginning at flat[0]."""
    size = place.dtype.bytes
    elements = flat[: flat.nbytes // size * size].view(place.dtype.numpy) if flat.dtype == np.uint8 and place.dtype.name != "u8" else flat
    strides = tuple(evaluate(s, batch) * size for s in place.strides)
    return np.lib.stride_tricks.as_strided(elements[evaluate(place.offset, batch) :], concrete(place.shape, batch), strides).copy()


def sizes_per_image(planned: Planned) -> dict[str, tuple[int, int]]:
    """(per image, constant) elements of every buffer."""
    return {name: coefficients(b.size) for name, b in planned.plan.buffers.items()}
