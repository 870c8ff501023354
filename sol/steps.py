"""A kernel, or a call of a library, for every cluster of a plan.

`lower` picks for each kind of cluster what computes it; of a contraction, the method that seems
best, or the one that it is told (`lower_by`, for tuning). In: a plan and the device. Out: `Made`,
which sol/assembly.py makes a program of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from sol import libraries
from sol.core.device import CpuDevice
from sol.core.dims import concrete
from sol.ir.graph import Graph
from sol.kernels.across import find_across, lower_across
from sol.kernels.attention import lower_attention
from sol.kernels.choice import Fast, Strassen, Winograd, choose_fast, copy_pays, winograd_ways
from sol.kernels.gemm import lower_contraction
from sol.kernels.grouped import choose_grouped
from sol.kernels.grouped_kernel import lower_grouped
from sol.kernels.methods import Direct, Method, methods, name_of
from sol.kernels.recurrent import lower_scan
from sol.kernels.regions import less_work
from sol.kernels.scatter import lower_scatter
from sol.kernels.stage import lower_stage
from sol.kernels.strassen import lower_strassen
from sol.kernels.thin import lower_thin
from sol.kernels.thin_turned import ROWS, lower_thin_turned
from sol.kernels.weight_gradient import lower_weight_gradient
from sol.kernels.winograd import lower_winograd
from sol.libraries.base import Packed, Use
from sol.lower.cluster import Lowered, lower_group, part_group
from sol.options import DEFAULTS, Options
from sol.plan.facts import is_thin
from sol.plan.planner import Planned, make_plan
from sol.plan.pooled import Pooled
from sol.plan.records import Cluster, Plan
from sol.runtime import threads as thread_count

Compiling = Callable[[int, int], None]  # hears kernels compiled, and kernels in all
_FOR_WINDOWS = 1.1  # times as long as the best way: what tiles that hold windows may take
_CACHED_WEIGHTS = 0.5  # share of the last-level cache that weights may take and stay there


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


def default_steps(
    planned: Planned, device: CpuDevice, options: Options, progress: Compiling | None = None
) -> tuple[Made, ...]:
    """Every cluster in the way that seems best: a kernel, or a library that measured faster."""
    made = lower(planned, device, options)
    return use_libraries(planned, made, device, options.threads, progress)


def lower(planned: Planned, device: CpuDevice, options: Options = DEFAULTS) -> tuple[Made, ...]:
    """A kernel for every cluster."""
    widths = device.widths
    cached = _weights_stay(planned, device)
    return tuple(
        _contraction(planned.plan, cluster, device, widths, options.precision, cached)
        if cluster.kind == "contraction"
        else _lower_cluster(planned, cluster, device, widths, options.precision)
        for cluster in planned.plan.clusters
    )


def plan_layers(
    graph: Graph, device: CpuDevice, options: Options = DEFAULTS, keep: bool = False
) -> Planned:
    """The plan of a network after passes, with first layers that read a copy of their input, and
    windows that the layers before them compute.

    Both follow from the methods of layers, so that they are known after a first plan only.
    keep: as in `make_plan`.
    """
    lanes = device.vector_lanes(4)
    planned = make_plan(graph, keep, lanes)
    if options.budget is not None:
        return planned
    stems = _stems(planned, device, options)
    windows = _pooled_windows(planned, device, options)
    return make_plan(graph, keep, lanes, windows, stems) if stems or windows else planned


def _stems(planned: Planned, device: CpuDevice, options: Options) -> frozenset[str]:
    """Convolutions for which a copy of their input pays."""
    plan, cached = planned.plan, _weights_stay(planned, device)
    return frozenset(
        c.root for c in plan.clusters
        if c.kind == "contraction" and copy_pays(plan, c, device, cached, options.precision)
    )  # fmt: skip


def _pooled_windows(planned: Planned, device: CpuDevice, options: Options) -> frozenset[str]:
    """Windows of `planned.pooled` that the convolution before them may as well compute: by
    Winograd's algorithm, with tiles that hold whole windows."""
    plan, cached = planned.plan, _weights_stay(planned, device)
    clusters = {c.values[-1]: c for c in plan.clusters if c.kind == "contraction"}
    found = set()
    for sink, pooled in planned.pooled.items():
        cluster = clusters[pooled.hidden]
        if choose_grouped(plan, cluster, device) is not None:
            continue
        fast = _fast(plan, cluster, device, cached, options.precision)
        if not isinstance(fast, Winograd):
            continue
        way = _with_windows(planned, cluster, pooled, device, options.precision, fast)
        if way is not None and way.cycles <= _FOR_WINDOWS * fast.cycles:
            found.add(sink)
    return frozenset(found)


def _with_windows(
    planned: Planned,
    cluster: Cluster,
    pooled: Pooled,
    device: CpuDevice,
    precision: str,
    chosen: Fast | None,
) -> Winograd | None:
    """The best way of Winograd's algorithm with tiles that hold whole windows: the chosen one if it
    does."""
    if isinstance(chosen, Winograd) and _holds_windows(chosen, pooled):
        return chosen
    cached = _weights_stay(planned, device)
    ways = winograd_ways(planned.plan, cluster, device, cached, precision)
    return next((w for w in ways if _holds_windows(w, pooled)), None)


def _holds_windows(way: Winograd, pooled: Pooled) -> bool:
    along = zip(way.layer.spatial, pooled.size)
    return all(s.transform.m % n == 0 and s.residues == 1 for s, n in along)


def other_methods(
    planned: Planned, cluster: Cluster, device: CpuDevice, options: Options
) -> tuple[Method, ...]:
    """Methods for a contraction that are worth measuring beside the default one."""
    cached = _weights_stay(planned, device)
    return methods(planned.plan, cluster, device, cached, options.precision)


def lower_by(planned: Planned, cluster: Cluster, device: CpuDevice, method: Method) -> Made:
    """A contraction, computed by this method."""
    return _contraction_by(planned.plan, cluster, device, device.widths, method)


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
    if is_thin(plan.graph[cluster.root]):
        weight = plan.graph[cluster.root].inputs[1]
        if plan.orders[weight] != (0, 1):
            turned, tile = lower_thin_turned(plan, cluster, device, widths)
            why = f"tile {tile.rows}x{tile.columns}, {tile.width} columns of weights at a time"
            return Made(cluster, (turned,), None, f"{why}, as they are, once for {ROWS} rows")
        thin, shape = lower_thin(plan, cluster, device, widths)
        why = f"tile {shape.rows}x{shape.columns}, weights as they are, once for a batch"
        return Made(cluster, (thin,), None, why)
    grouped = choose_grouped(plan, cluster, device)
    if grouped is not None:
        call, weights = lower_grouped(plan, grouped, widths)
        return Made(cluster, (call,), weights, grouped.why)
    across = find_across(plan, cluster, device)
    if across is not None:
        return Made(cluster, (lower_across(plan, across, widths),), None, across.why)
    fast = _fast(plan, cluster, device, cached, precision)
    return _contraction_by(plan, cluster, device, widths, fast)


def _fast(
    plan: Plan, cluster: Cluster, device: CpuDevice, cached: bool, precision: str
) -> Fast | None:
    """The algorithm with fewer multiplications that seems best, None if the direct kernel does."""
    fast = choose_fast(plan, cluster, device, cached, precision)
    if fast is not None and less_work(plan, cluster, device) > fast.direct / fast.cycles:
        return None  # without the taps that meet padding there is less to do
    return fast


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
    if isinstance(method, Strassen):
        lowered, weights = lower_strassen(plan, method.layer, method.blocking, widths)
        return Made(cluster, (lowered,), weights, method.why, method=name_of(method))
    result = lower_contraction(plan, cluster, device, widths, method.tile if method else None)
    tile = result.tile
    why = f"tile {tile.rows}x{tile.vectors * tile.lanes}, panel {tile.panel}, A {result.access}"
    name = name_of(Direct(tile))
    return Made(cluster, (result.lowered,), result.packed, why, method=name)


def _lower_cluster(
    planned: Planned, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...], precision: str
) -> Made:
    plan = planned.plan
    if cluster.kind == "stage":
        return _stage(planned, cluster, device, widths)
    if cluster.kind == "pooled":
        return _pooled(planned, cluster, device, widths, precision)
    if cluster.kind == "attention":
        attention = lower_attention(plan, cluster, device, widths)
        return Made(cluster, (attention.lowered,), None, attention.why)
    if cluster.kind == "weight gradient":
        strict = precision != "float32"
        gradient = lower_weight_gradient(plan, cluster, device, widths, strict)
        return Made(cluster, (gradient.lowered,), None, gradient.why)
    if cluster.kind == "recurrent":
        recurrence = lower_scan(plan, cluster, device, widths)
        return Made(cluster, recurrence.calls, recurrence.packed, recurrence.why)
    if cluster.kind == "scatter":
        scattered = lower_scatter(plan, cluster, device, widths)
        why = f"{scattered.kernel.units} blocks of columns, each set to zero once"
        return Made(cluster, (scattered,), None, why)
    name = cluster.values[-1]
    group = part_group(plan, name) if "@" in name else planned.groups[name]
    return Made(
        cluster, (lower_group(plan, group, widths),), None, f"{len(group.members)} nests per patch"
    )


def _stage(planned: Planned, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]) -> Made:
    stage = planned.stages[cluster.values[-1]]
    made = lower_stage(planned.plan, stage, cluster.root, device, widths)
    tile = made.tile
    why = (
        f"depth-first in bands of {stage.band} lines, {stage.share} channels, "
        f"tile {tile.rows}x{tile.vectors * tile.lanes}"
    )
    return Made(cluster, (made.lowered,), made.packed, why)


def _pooled(
    planned: Planned, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...], precision: str
) -> Made:
    pooled = planned.pooled[cluster.values[-1]]
    layer = replace(cluster, kind="contraction", values=(pooled.hidden,))
    chosen = choose_fast(planned.plan, layer, device, _weights_stay(planned, device), precision)
    way = _with_windows(planned, layer, pooled, device, precision, chosen)
    assert way is not None, "pooled layers are chosen for Winograd's algorithm"
    lowered, packed = lower_winograd(planned.plan, way.layer, way.blocking, widths, pooled)
    windows = "x".join(map(str, pooled.size))
    return Made(cluster, (lowered,), packed, f"{way.why}, windows of {windows} in its tiles")


def use_libraries(
    planned: Planned,
    made: tuple[Made, ...],
    device: CpuDevice,
    threads: int | None,
    progress: Compiling | None = None,
) -> tuple[Made, ...]:
    """Calls of specialised libraries in place of the kernels that these are faster than."""
    layers = {
        number: libraries.Layer(m.cluster, m.calls[0], m.packed)
        for number, m in enumerate(made)
        if m.packed and len(m.calls) == 1 and m.cluster.kind == "contraction"
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
