"""The page to read first: from a graph to a program, stage by stage.

    graph ── passes ──▶ graph ── plan ──▶ clusters, places, arena ── lower ──▶ kernels ── print ──▶
    C ── toolchain ──▶ library ── runtime ──▶ program

`compile_graph` is the whole story. Frontends (sol.pytorch, …) make the graph and call it; what
comes back, `Compiled`, takes the framework's parameters (`prepare`) and runs. This is the only file
that knows all stages.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import sol.ops  # noqa: F401  (fills the table of operators)
from sol import libraries, recorded
from sol.backends.c import Source, Step, Table, TableBuffer, generate
from sol.backends.toolchain import build
from sol.core import config
from sol.core.device import CpuDevice, detect
from sol.core.dims import Dim, coefficients, concrete, evaluate
from sol.core.errors import ConfigError, MemoryBudgetError
from sol.ir.graph import Graph
from sol.kernels.attention import lower_attention
from sol.kernels.choice import Winograd, choose_winograd
from sol.kernels.gemm import lower_contraction
from sol.kernels.grouped import choose_grouped
from sol.kernels.grouped_kernel import lower_grouped
from sol.kernels.methods import Direct, Method, methods, name_of
from sol.kernels.pack import Packing
from sol.kernels.recurrent import lower_scan
from sol.kernels.thin import is_thin, lower_thin
from sol.kernels.winograd import WinogradPacking, lower_winograd
from sol.libraries.base import Packed, Use, link_flags, open_program, units
from sol.lower.cluster import Lowered, lower_group, part_group
from sol.observe import Observer, observers
from sol.ops.reference import evaluate_nodes
from sol.passes.pipeline import run as run_passes
from sol.plan.batch import images
from sol.plan.budget import Demand, Way, fit
from sol.plan.memory import Arena
from sol.plan.planner import Planned, make_plan
from sol.plan.records import Cluster, Place, Plan
from sol.runtime import threads as thread_count
from sol.runtime.arena import whole_pages
from sol.runtime.cache import cache
from sol.runtime.program import Program

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]
Recall = Callable[
    [Planned, "tuple[Made, ...]", CpuDevice, "Options"], "tuple[Made, ...]"
]  # the steps, with other methods where these are known to be faster

# intermediates of images that are computed together: what stays in a last-level cache
_GROUP_BYTES = 24 << 20
_MOST_IMAGES = 16
_CACHED_WEIGHTS = 0.5  # share of the last-level cache that weights may take and stay there


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may ask for.

    threads: None is the framework's number. precision: "float32", or "strict", where sums are only
    added up in another order, as in the framework's own kernels (no Winograd). memory: bytes, or a
    text such as "200MB", that a call may need at most for intermediates and packed weights.
    never_slower: frontends measure against the framework, and keep its own way where that wins.
    tune: seconds that frontends may measure other ways to compute layers for (sol/tune/).
    """

    threads: int | None = None
    precision: Literal["float32", "strict"] = "float32"
    memory: int | str | None = None
    never_slower: bool = True
    tune: float | None = None

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "strict"):
            raise ConfigError(
                f"precision={self.precision!r}",
                expected='"float32" or "strict"',
                do='leave it out, or ask for precision="strict"',
            )
        if self.memory is not None:
            parse_memory(self.memory)
        if self.tune is not None:
            _check_seconds(self.tune)

    @property
    def budget(self) -> int | None:
        """`memory` in bytes."""
        return None if self.memory is None else parse_memory(self.memory)


def parse_memory(memory: int | str) -> int:
    """Bytes of an option `memory`. Raises ConfigError."""
    try:
        size = config.parse_bytes(memory) if isinstance(memory, str) else memory
    except ValueError:
        size = 0
    if type(size) is int and size > 0:
        return size
    raise ConfigError(
        f"memory={memory!r} is no number of bytes",
        expected='a number of bytes, or a text such as "200MB" or "2GiB"',
    )


def _check_seconds(tune: float) -> None:
    number = isinstance(tune, (int, float)) and not isinstance(tune, bool)
    if not number or not 0 <= tune < math.inf:
        raise ConfigError(
            f"tune={tune!r} is no number of seconds",
            expected="seconds to measure other ways to compute layers, such as 30; 0 for none",
        )


@dataclass(frozen=True, slots=True)
class Made:
    """A cluster and how it was lowered:

    the steps of the program that run it, the weight that must be packed for it, its call of a
    specialised library, and the name of the method if it is one that others can be measured beside.
    """

    cluster: Cluster
    calls: tuple[Lowered, ...]
    packed: Packed | None
    why: str
    use: Use | None = None
    method: str = ""


def compile_graph(
    graph: Graph,
    options: Options = Options(),
    progress: Progress | None = None,
    device: CpuDevice | None = None,
    keep: bool = False,
    recall: Recall | None = None,
) -> Compiled:
    """Compile a network for a device (by default this processor).

    keep: every intermediate value stays in memory after a run, for `Compiled.values`.
    recall: puts what tuning has found before in place of the default steps.
    """
    device = device or detect()
    watching = observers()
    key = "" if watching or keep else _record_key(graph, options, device, recall)
    found = recorded.find(key) if key else None
    known = _restored(graph, options, found) if found else None
    if known is not None:
        return known
    _tell(watching, "captured", graph)
    optimised = run_passes(graph, fuel=config.FUEL.get(), observe=partial(_tell, watching))
    planned = make_plan(optimised, keep, device.vector_lanes(4))
    _tell(watching, "planned", planned.plan.graph)
    made = default_steps(planned, device, options, progress)
    made = recall(planned, made, device, options) if recall else made
    compiled = assemble(graph, planned, made, device, options, progress, watching)
    if key:
        recorded.keep(key, _record(compiled))
    return compiled


def _record_key(graph: Graph, options: Options, device: CpuDevice, recall: Recall | None) -> str:
    """What the program of a network follows from; "" where a library may be chosen, which is
    measured each time."""
    if libraries.any_found():
        return ""
    threads = thread_count.count(options.threads)
    asked = recall.keywords if isinstance(recall, partial) else recall is not None
    compiler = (config.CC.get(), os.environ.get("CC", ""))
    return recorded.key_of(graph, replace(options, tune=None), device, threads, asked, compiler)


def _record(compiled: Compiled) -> tuple[Any, ...]:
    """All of a compiled network but the bodies of kernels, which are in its library."""
    steps = tuple(
        replace(m, calls=tuple(replace(c, kernel=replace(c.kernel, body=())) for c in m.calls))
        for m in compiled.steps
    )
    program = compiled.program
    library = program.path.name.partition(".")[0]
    return compiled.planned, steps, compiled.tensors, compiled.source, library, program.group


def _restored(graph: Graph, options: Options, record: tuple[Any, ...]) -> Compiled | None:
    """The compiled network of a record, None if its library is gone."""
    planned, steps, tensors, source, library, group = record
    path = cache.file(library, "so")
    if path is None:
        return None
    program = Program(path, group=group)
    return Compiled(graph, planned, steps, tensors, source, program, options)


def assemble(
    graph: Graph,
    planned: Planned,
    made: tuple[Made, ...],
    device: CpuDevice,
    options: Options = Options(),
    progress: Progress | None = None,
    watching: Sequence[Observer] = (),
) -> Compiled:
    """The program of these steps, as far as a memory budget allows them."""
    made, group = within_budget(planned, made, device, options)
    tensors, source = print_program(planned, made)
    for observer in watching:
        observer.text("program", "clusters.txt", "\n".join(str(m.cluster) for m in made))
        for number, text in enumerate(source.units):
            observer.text("program", f"{number:03d}.c", text)
    uses = [m.use for m in made if m.use]
    path = build(source.units, device, cache, progress=_compiling(progress), link=link_flags(uses))
    program = Program(path, group=group)
    open_program(path, uses)
    return Compiled(graph, planned, made, tensors, source, program, options)


def _tell(watching: Sequence[Observer], stage: str, graph: Graph) -> None:
    for observer in watching:
        observer.graph(stage, graph)


def _compiling(progress: Progress | None) -> Callable[[int, int], None] | None:
    """The toolchain's progress as the user's: with the name of the stage."""
    if progress is None:
        return None
    tell = progress
    return lambda done, total: tell("compiling kernels", done, total)


def default_steps(
    planned: Planned, device: CpuDevice, options: Options, progress: Progress | None = None
) -> tuple[Made, ...]:
    """Every cluster in the way that seems best: a kernel, or a library that measured faster."""
    made = lower(planned, device, options)
    return use_libraries(planned, made, device, options.threads, _compiling(progress))


def lower(planned: Planned, device: CpuDevice, options: Options = Options()) -> tuple[Made, ...]:
    """A kernel for every cluster."""
    widths = _widths(device)
    cached = _weights_stay(planned, device)
    return tuple(
        _contraction(planned.plan, cluster, device, widths, options.precision, cached)
        if cluster.kind == "contraction"
        else _lower_cluster(planned, cluster, device, widths)
        for cluster in planned.plan.clusters
    )


def other_methods(
    planned: Planned, cluster: Cluster, device: CpuDevice, options: Options
) -> tuple[Method, ...]:
    """Methods for a contraction that are worth measuring beside the default one."""
    strict = options.precision == "strict"
    return methods(planned.plan, cluster, device, _weights_stay(planned, device), strict)


def lower_by(planned: Planned, cluster: Cluster, device: CpuDevice, method: Method) -> Made:
    """A contraction, computed by this method."""
    return _contraction_by(planned.plan, cluster, device, _widths(device), method)


def _widths(device: CpuDevice) -> tuple[int, ...]:
    return tuple(w for w in (16, 8, 4) if w <= device.vector_lanes(4))


def _weights_stay(planned: Planned, device: CpuDevice) -> bool:
    """Whether weights stay in the last-level cache from call to call."""
    return weight_bytes(planned.plan.graph) < _CACHED_WEIGHTS * device.l3


def weight_bytes(graph: Graph) -> int:
    """Bytes of all parameters."""
    sizes = (n.tensor.dtype.bytes * math.prod(concrete(n.shape, 1)) for n in graph.parameters)
    return sum(sizes)


def _contraction(
    plan: Plan,
    cluster: Cluster,
    device: CpuDevice,
    widths: tuple[int, ...],
    precision: str,
    cached: bool,
) -> Made:
    if is_thin(plan, cluster):
        thin, shape = lower_thin(plan, cluster, device, widths)
        why = f"tile {shape.rows}x{shape.columns}, weights as they are, once for a batch"
        return Made(cluster, (thin,), None, why)
    grouped = choose_grouped(plan, cluster, device)
    if grouped is not None:
        call, weights = lower_grouped(plan, grouped, widths)
        return Made(cluster, (call,), weights, grouped.why)
    fast = choose_winograd(plan, cluster, device, cached) if precision != "strict" else None
    return _contraction_by(plan, cluster, device, widths, fast)


def _contraction_by(
    plan: Plan,
    cluster: Cluster,
    device: CpuDevice,
    widths: tuple[int, ...],
    method: Method | None,
) -> Made:
    """None is the direct kernel with the tile that seems best."""
    if isinstance(method, Winograd):
        lowered, packed = lower_winograd(plan, method.layer, method.blocking, widths)
        return Made(cluster, (lowered,), packed, method.why, method=name_of(method))
    result = lower_contraction(plan, cluster, device, widths, method.tile if method else None)
    tile = result.tile
    access = "in place" if result.in_place else "packed"
    why = f"tile {tile.rows}x{tile.vectors * tile.lanes}, panel {tile.panel}, A {access}"
    name = name_of(Direct(tile))
    return Made(cluster, (result.lowered,), result.packed, why, method=name)


def _lower_cluster(
    planned: Planned, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]
) -> Made:
    plan = planned.plan
    if cluster.kind == "attention":
        attention = lower_attention(plan, cluster, device, widths)
        return Made(cluster, (attention.lowered,), None, attention.why)
    if cluster.kind == "recurrent":
        recurrence = lower_scan(plan, cluster, device, widths)
        return Made(cluster, recurrence.calls, None, recurrence.why)
    name = cluster.values[-1]
    group = part_group(plan, name) if "@" in name else planned.groups[name]
    return Made(
        cluster, (lower_group(plan, group, widths),), None, f"{len(group.members)} nests per patch"
    )


def use_libraries(
    planned: Planned,
    made: tuple[Made, ...],
    device: CpuDevice,
    threads: int | None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Made, ...]:
    """Calls of specialised libraries in place of the kernels that these are faster than."""
    layers = {
        number: libraries.Layer(m.cluster, m.calls[0], m.packed)
        for number, m in enumerate(made)
        if m.packed and len(m.calls) == 1
    }
    threads = threads or thread_count.count()
    choices = libraries.choose(planned.plan, layers, device, threads, progress)
    return tuple(_chosen(m, choices.get(number)) for number, m in enumerate(made))


def _chosen(made: Made, choice: libraries.Choice | None) -> Made:
    if choice is None:
        return made
    if choice.use is None:
        return replace(made, why=f"{made.why}; {choice.why}")
    call = choice.use.call
    return Made(made.cluster, (call.lowered,), call.packed, choice.why, choice.use)


def print_program(planned: Planned, made: Sequence[Made]) -> tuple[tuple[str, ...], Source]:
    """The names of the tensors that a call passes, in order, and the C text."""
    plan, arena = planned.plan, planned.arena
    packed = {m.packed[0] for m in made if m.packed}
    calls = [call for m in made for call in m.calls]
    used = dict.fromkeys(b for call in calls for b in call.buffers)
    external = [n.name for n in plan.graph.inputs] + [
        o for o in dict.fromkeys(plan.graph.outputs) if plan.buffers[o].kind == "output"
    ]
    external += [
        b for b in used if (b in packed or plan.buffers[b].kind == "prepared") and b not in external
    ]
    per_image = images(
        {
            n: plan.graph[n].shape
            for n in (*(i.name for i in plan.graph.inputs), *plan.graph.outputs)
        }
    )
    rows = []
    numbers = {
        argument: k
        for k, argument in enumerate(dict.fromkeys(a for call in calls for a in call.arguments))
    }
    for name, shift in numbers:
        coef, constant = coefficients(shift)
        if name in external:
            stride = per_image.get(name, 0) * (
                plan.buffers[name].dtype.bytes if name in plan.buffers else 4
            )
            rows.append(TableBuffer(external.index(name), coef, constant, stride))
        else:
            begin = arena.offsets[name]
            rows.append(TableBuffer(-1, begin[0] + coef, begin[1] + constant))
    scratch = max((call.kernel.scratch for call in calls), default=0)
    table = Table(
        tuple(rows), len(external), arena.per_image, arena.constant, scratch, plan.splittable
    )
    steps = [Step(call.kernel, tuple(numbers[a] for a in call.arguments)) for call in calls]
    return tuple(external), generate(steps, table, units([m.use for m in made if m.use]))


def images_at_once(planned: Planned) -> int:
    """Images per pass over the network, 0 if a batch cannot be cut.

    As many as keep the arena in a cache, and enough that streaming the weights once per pass moves
    no more bytes than the intermediates of the pass do.
    """
    plan, per_image = planned.plan, planned.arena.per_image
    if not plan.splittable or not per_image:
        return 0
    values = [b for b in plan.buffers.values() if b.kind == "arena" and isinstance(b.size, Dim)]
    moved = sum(2 * evaluate(b.size, 1) * b.dtype.bytes for b in values)
    wanted = max(_GROUP_BYTES // per_image, -(-weight_bytes(plan.graph) // max(1, moved)))
    return max(2, min(_MOST_IMAGES, wanted))


def within_budget(
    planned: Planned, made: tuple[Made, ...], device: CpuDevice, options: Options
) -> tuple[tuple[Made, ...], int]:
    """The steps and how many images pass at once, changed as far as `options.memory` makes it
    necessary. Raises MemoryBudgetError if nothing is small enough.
    """
    group, budget = images_at_once(planned), options.budget
    if budget is None:
        return made, group
    need = _demand(planned, made, thread_count.count(options.threads))
    sides = [made]
    if need.total([_way(planned, m) for m in made], max(1, group)) > budget:
        sides += [lower(planned, device, options)]
        sides += [lower(planned, device, replace(options, precision="strict"))]
    layers = [[_way(planned, m) for m in ways] for ways in zip(*sides)]
    found = fit(need, layers, max(1, group), budget)
    chosen = tuple(
        _chosen_for_memory(made[k], sides[side][k]) for k, side in enumerate(found.chosen)
    )
    if found.total > budget:
        raise _too_little(planned, chosen, need, options)
    return chosen, found.images if group else 0


def _chosen_for_memory(wanted: Made, made: Made) -> Made:
    if made is wanted:
        return made
    return replace(made, why=f"{made.why}; the memory budget allows no {wanted.why.split(',')[0]}")


def _demand(planned: Planned, made: Sequence[Made], threads: int) -> Demand:
    """What a call needs whatever the implementation of its layers is."""
    plan, arena = planned.plan, planned.arena
    calls = [call for m in made for call in m.calls]
    tables = 8 * sum(len(call.arguments) for call in calls)
    used = {b for call in calls for b in call.buffers if b in plan.buffers}
    kept = sum(_kept(plan, b) for b in used if plan.buffers[b].kind == "prepared")
    return Demand(arena.per_image, arena.constant, tables, kept, threads)


def _kept(plan: Plan, name: str) -> int:
    """Bytes of a static value that Sol keeps; none for a parameter that is read as it is."""
    buffer, order = plan.buffers[name], plan.orders[name]
    if plan.graph[name].op == "parameter" and list(order) == sorted(order):
        return 0
    return evaluate(buffer.size, 1) * buffer.dtype.bytes


def _way(planned: Planned, made: Made) -> Way:
    """The memory that a cluster needs as it was lowered."""
    scratch = max((call.kernel.scratch for call in made.calls), default=0)
    if made.packed is None:
        return Way(0, scratch)
    _, source, packer = made.packed
    shape = concrete(planned.plan.graph[source].shape, 1)
    if isinstance(packer, (Packing, WinogradPacking)):
        return Way(4 * packer.size(shape), scratch)
    return Way(packer.apply(np.broadcast_to(np.float32(0), shape)).nbytes, scratch)


def _too_little(
    planned: Planned, made: Sequence[Made], need: Demand, options: Options
) -> MemoryBudgetError:
    """The smallest possible figure, and what takes it."""
    ways = [_way(planned, m) for m in made]
    least = need.total(ways, 1)
    greedy = max(range(len(made)), key=lambda k: ways[k].scratch, default=0)
    heavy = max(range(len(made)), key=lambda k: ways[k].kept, default=0)
    images = "one image" if planned.plan.splittable else "a batch of one"
    return MemoryBudgetError(
        f"memory={options.memory!r} is too little: a call needs {least} bytes at least, "
        f"{need.intermediates(1)} for intermediates of {images}, {need.scratch(ways)} of scratch "
        f"for {need.threads} threads (most: {_layer(planned, made[greedy])}), "
        f"{need.weights(ways)} for packed weights (most: {_layer(planned, made[heavy])})",
        expected=f"memory={least} or more",
        do="allow that much" + (", or fewer threads" if need.threads > 1 else ""),
    )


def _layer(planned: Planned, made: Made) -> str:
    """The user's name of what a cluster computes."""
    name = made.cluster.values[-1].split("@")[0]
    return planned.plan.graph[made.cluster.root or name].origin or name


class Compiled:
    """A compiled network: takes parameters with `prepare`, runs with `run`."""

    def __init__(
        self,
        graph: Graph,
        planned: Planned,
        made: tuple[Made, ...],
        tensors: tuple[str, ...],
        source: Source,
        program: Program,
        options: Options,
    ) -> None:
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
        self._own: dict[int, int] = {}  # bytes of memory that weights keep beside parameters
        self._budget = options.budget
        self._pointers = array("Q", bytes(8 * len(tensors)))

    def prepare(self, parameters: Mapping[str, Array]) -> None:
        """Take the parameters (arrays that share the framework's memory, by key):

        evaluate what depends on them only, and pack weights.
        """
        graph = self.planned.plan.graph
        packings = {m.packed[0]: m.packed for m in self.steps if m.packed}
        wanted = [packings[t][1] if t in packings else t for t in self.tensors[self._offset :]]
        given = {n.name: parameters[n["key"]] for n in graph.parameters}
        values = evaluate_nodes(graph, list(dict.fromkeys(wanted)), given)
        self._weights = []
        for position, (name, source) in enumerate(zip(self.tensors[self._offset :], wanted)):
            value = np.asarray(values[source])
            value = (
                packings[name][2].apply(value)
                if name in packings
                else np.ascontiguousarray(value.transpose(self.planned.plan.orders[name]))
            )
            self._weights.append(value)
            self._pointers[self._offset + position] = value.ctypes.data
        shared = {id(_root(v)) for v in given.values()}
        roots = (_root(w) for w in self._weights)
        self._own = {id(r): r.nbytes for r in roots if id(r) not in shared}

    @property
    def _offset(self) -> int:
        return len(self._inputs) + len(
            [o for o in dict.fromkeys(self._outputs) if o in self.tensors]
        )

    def run(
        self, inputs: Sequence[int], outputs: Sequence[int], batch: int, threads: int
    ) -> tuple[int, ...]:
        """Run on contiguous tensors at these addresses, of the types of the graph's inputs and
        outputs. Raises MemoryBudgetError if the batch is too large for a budget.
        """
        if self._budget is not None:
            self._check_budget(batch, threads)
        return self.program.run(self._pointers_of(inputs, outputs), batch, threads)

    def _pointers_of(self, inputs: Sequence[int], outputs: Sequence[int]) -> array[int]:
        pointers = array("Q", self._pointers)
        pointers[: len(inputs)] = array("Q", inputs)
        pointers[len(inputs) : len(inputs) + len(outputs)] = array("Q", outputs)
        return pointers

    def profile(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        batch: int,
        threads: int,
        rounds: int = 5,
    ) -> tuple[int, ...]:
        """Nanoseconds of each step: the least of some rounds."""
        pointers = self._pointers_of(inputs, outputs)
        times = [self.program.run(pointers, batch, threads, profile=True) for _ in range(rounds)]
        return tuple(min(each) for each in zip(*times))

    @property
    def packed_bytes(self) -> int:
        """Bytes of weights that Sol keeps beside the framework's: packed or computed from them."""
        return sum(self._own.values())

    @property
    def reserved(self) -> tuple[int, int]:
        """Bytes of packed weights and of the arena that calls with a budget count with, known
        before there are parameters."""
        threads = thread_count.count(self.options.threads)
        need = _demand(self.planned, self.steps, threads)
        ways = [_way(self.planned, m) for m in self.steps]
        kept = need.weights(ways)
        return kept, need.total(ways, max(1, self.program.group)) - kept

    def memory(self, batch: int, threads: int) -> int:
        """Bytes of the arena of one call, whole pages, and of packed weights."""
        return whole_pages(self.program.arena_bytes(batch, threads)) + self.packed_bytes

    def _check_budget(self, batch: int, threads: int) -> None:
        """A batch that cannot be cut, or more threads than there were, may need too much."""
        needed = self.memory(batch, threads)
        if self._budget is not None and needed > self._budget:
            raise MemoryBudgetError(
                f"a call with batch {batch} and {threads} threads needs {needed} bytes, and "
                f"memory={self.options.memory!r} allows {self._budget}",
                expected="images that are independent" if batch > 1 else "fewer threads",
                do="use a smaller batch, or allow more memory",
            )

    def values(self, inputs: Sequence[Array], batch: int, threads: int = 1) -> dict[str, Array]:
        """Every stored intermediate value of a run, by name, in the order of the steps.

        Needs a network compiled with `keep`.
        """
        plan, arena = self.planned.plan, self.planned.arena
        outputs = [
            np.empty(concrete(plan.graph[o].shape, batch), plan.graph[o].dtype.numpy)
            for o in self._outputs
        ]
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
                    found[name] = _view(
                        results[plan.places[name].buffer].reshape(-1), plan.places[name], batch
                    )
        return found


def _root(array: Array) -> Array:
    """The array whose memory this one is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _at(memory: Array, start: int, arena: Arena, place: Place, batch: int) -> Array:
    coef, constant = arena.offsets[place.buffer]
    return _view(memory[start + coef * batch + constant :].view(np.uint8), place, batch)


def _view(flat: Array, place: Place, batch: int) -> Array:
    """The value at a place, its buffer beginning at flat[0]."""
    size = place.dtype.bytes
    elements = (
        flat[: flat.nbytes // size * size].view(place.dtype.numpy)
        if flat.dtype == np.uint8 and place.dtype.name != "u8"
        else flat
    )
    strides = tuple(evaluate(s, batch) * size for s in place.strides)
    return np.lib.stride_tricks.as_strided(
        elements[evaluate(place.offset, batch) :], concrete(place.shape, batch), strides
    ).copy()
