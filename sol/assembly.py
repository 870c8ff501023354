"""Steps as one program: the table of its tensors and buffers, its C text, how many images pass at a
time, and all of that within a memory budget.

In: a plan and what was made of its clusters (sol/steps.py). Out: what backends/toolchain.py
compiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sol.backends.c import Kind, Source, Step, Table, TableBuffer, generate
from sol.core.device import CpuDevice
from sol.core.dims import Dim, coefficients, concrete, evaluate
from sol.core.errors import MemoryBudgetError
from sol.kernels.packings import Looped
from sol.libraries.base import units
from sol.options import Options
from sol.plan.batch import images
from sol.plan.budget import Demand, Way, fit
from sol.plan.planner import Planned
from sol.plan.records import Buffer, Plan
from sol.runtime import threads as thread_count
from sol.steps import Made, lower, weight_bytes

# intermediates of images that are computed together: what stays in a last-level cache
_GROUP_BYTES = 24 << 20
_MOST_IMAGES = 64


def print_program(planned: Planned, made: Sequence[Made]) -> tuple[tuple[str, ...], Source]:
    """The names of the tensors that a call passes, in order, and the C text."""
    plan, arena, own = planned.plan, planned.arena, planned.own
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
            rows.append(TableBuffer("external", external.index(name), coef, constant, stride))
            continue
        kind: Kind
        if name in own.offsets:
            kind, begin, stride = "own", own.offsets[name], 0
        else:
            kind, begin, stride = "arena", arena.offsets[name], _image_bytes(plan.buffers[name])
        rows.append(TableBuffer(kind, 0, begin[0] + coef, begin[1] + constant, stride))
    scratch = max((call.kernel.scratch for call in calls), default=0)
    table = Table(
        tuple(rows),
        len(external),
        _segments(plan, made),
        (arena.per_image, arena.constant),
        (own.per_image, own.constant),
        scratch,
        plan.splittable,
    )
    steps = [Step(call.kernel, tuple(numbers[a] for a in call.arguments)) for call in calls]
    return tuple(external), generate(steps, table, units([m.use for m in made if m.use]))


def _image_bytes(buffer: Buffer) -> int:
    """Bytes of an image in a buffer of which images are slices; 0 if it has no batch."""
    return buffer.size.coef * buffer.dtype.bytes if isinstance(buffer.size, Dim) else 0


def _segments(plan: Plan, made: Sequence[Made]) -> tuple[tuple[int, int, bool], ...]:
    """Segments in steps of the program: a cluster may be several of them."""
    first = [0]
    for m in made:
        first.append(first[-1] + len(m.calls))
    return tuple((first[s.begin], first[s.end], s.apart) for s in plan.segments)


def images_at_once(planned: Planned) -> int:
    """Images per pass over the network, 0 if a batch cannot be cut.

    As many as keep what they share in a cache, and enough that streaming the weights once per pass
    moves no more bytes than the intermediates of the pass do.
    """
    plan, per_image = planned.plan, planned.arena.per_image
    if not plan.splittable:
        return 0
    if not per_image:
        return _MOST_IMAGES
    values = [plan.buffers[name] for name in planned.arena.offsets]
    values = [b for b in values if isinstance(b.size, Dim)]
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
    need = demand(planned, made, thread_count.count(options.threads))
    sides = [made]
    if need.total([way_of(planned, m) for m in made], max(1, group)) > budget:
        sides += [lower(planned, device, options)]
        sides += [lower(planned, device, replace(options, precision="strict"))]
    layers = [[way_of(planned, m) for m in ways] for ways in zip(*sides)]
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


def demand(planned: Planned, made: Sequence[Made], threads: int) -> Demand:
    """What a call needs whatever the implementation of its layers is."""
    plan, arena = planned.plan, planned.arena
    calls = [call for m in made for call in m.calls]
    tables = 8 * sum(len(call.arguments) for call in calls)
    packed = {m.packed[0] for m in made if m.packed}  # counted with their clusters
    used = {b for call in calls for b in call.buffers if b in plan.buffers} - packed
    kept = sum(_kept(plan, b) for b in used if plan.buffers[b].kind == "prepared")
    own = planned.own.per_image + planned.own.constant
    return Demand(arena.per_image, arena.constant, own, tables, kept, threads)


def _kept(plan: Plan, name: str) -> int:
    """Bytes of a static value that Sol keeps; none for a parameter that is read as it is."""
    buffer, order = plan.buffers[name], plan.orders[name]
    node, axes = plan.graph[name], list(order)
    while node.op == "permute":  # what is read in the parameter's own order is the parameter
        axes, node = [node["axes"][k] for k in axes], plan.graph[node.inputs[0]]
    if node.op == "parameter" and axes == sorted(axes):
        return 0
    return evaluate(buffer.size, 1) * buffer.dtype.bytes


def way_of(planned: Planned, made: Made) -> Way:
    """The memory that a cluster needs as it was lowered."""
    scratch = max((call.kernel.scratch for call in made.calls), default=0)
    if made.packed is None:
        return Way(0, scratch)
    _, source, packer = made.packed
    shape = concrete(planned.plan.graph[source].shape, 1)
    if isinstance(packer, Looped):
        return Way(4 * packer.size(shape), scratch)
    return Way(packer.apply(np.broadcast_to(np.float32(0), shape)).nbytes, scratch)


def _too_little(
    planned: Planned, made: Sequence[Made], need: Demand, options: Options
) -> MemoryBudgetError:
    """The smallest possible figure, and what takes it."""
    ways = [way_of(planned, m) for m in made]
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
