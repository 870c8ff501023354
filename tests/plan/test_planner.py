"""Whole plans: clusters run after what they read, every value is still in memory when it is read,
and each node is executed. On random networks, and on some in which this is not obvious.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from sol.core.dims import B, coefficients, concrete, evaluate
from sol.ir.check import verify
from sol.ops.registry import infer
from sol.ops.shuffle import phases
from sol.plan.facts import JOINS
from sol.plan.planner import Planned
from sol.plan.records import Cluster, Place
from tests.plan.networks import Net, kinds, planned, random_plans

_BATCH = 3


@functools.cache
def plans() -> tuple[Planned, ...]:
    """Plans of many networks."""
    return tuple(random_plans(80))


def made_by(cluster: Cluster) -> set[str]:
    """Values that a cluster makes, also in part."""
    return {v.split("@")[0] for v in cluster.values}


def read_by(plan: Planned, cluster: Cluster) -> set[str]:
    """Values in memory that a cluster reads: inputs of its layers that are not its own."""
    graph, own = plan.plan.graph, {*cluster.layers, *cluster.values}
    found = {i for name in cluster.layers for i in graph[name].inputs} - own
    if "@" in cluster.values[0]:  # one part, not all of them
        whole, part = cluster.values[0].split("@")
        others = set(graph[whole].inputs) - {graph[whole].inputs[int(part)]}
        found -= {n for n in others if n not in _inputs_of(plan, cluster.layers, whole)}
    return {n for n in found if n in plan.plan.places}


def _inputs_of(plan: Planned, layers: tuple[str, ...], but: str) -> set[str]:
    return {i for name in layers if name != but for i in plan.plan.graph[name].inputs}


def is_there_before(plan: Planned, name: str) -> bool:
    """Inputs and what follows from parameters."""
    return name in plan.plan.graph.static or plan.plan.graph[name].op == "input"


def parts_of(plan: Planned, name: str) -> Iterator[str]:
    """A value, and what a concatenation consists of."""
    yield name
    if plan.plan.graph[name].op in JOINS:
        for part in plan.plan.graph[name].inputs:
            yield from parts_of(plan, part)


def test_clusters_run_after_what_they_read() -> None:
    for plan in plans():
        made: set[str] = set()
        for cluster in plan.plan.clusters:
            for name in read_by(plan, cluster):
                assert is_there_before(plan, name) or made & {*parts_of(plan, name)}, name
            made |= made_by(cluster)


def test_every_result_is_made() -> None:
    for plan in plans():
        made = {v for c in plan.plan.clusters for v in made_by(c)}
        for name in plan.plan.graph.outputs:
            assert plan.plan.buffers[name].kind == "output"
            assert made & {*parts_of(plan, name)}


def test_every_node_that_results_need_is_executed() -> None:
    for plan in plans():
        graph = plan.plan.graph
        verify(graph, infer)
        executed = {name for c in plan.plan.clusters for name in c.layers}
        executed |= {n.name for n in graph if n.op in JOINS}
        needed, stack = set(), list(graph.outputs)
        while stack:
            name = stack.pop()
            if name not in needed and not is_there_before(plan, name):
                needed.add(name)
                stack.extend(graph[name].inputs)
        anywhere = {n for n in needed if graph[n].op in ("full", "iota")}
        assert needed - anywhere <= executed


def test_private_values_have_no_place() -> None:
    for plan in plans():
        private = {n for c in plan.plan.clusters for n in c.private}
        assert not private & set(plan.plan.places)
        assert not private & set(plan.plan.graph.outputs)
        for cluster in plan.plan.clusters:
            for other in plan.plan.clusters:
                shared = cluster.private & {i for n in other.layers for i in _inputs(plan, n)}
                assert other is cluster or not shared


def _inputs(plan: Planned, name: str) -> tuple[str, ...]:
    return plan.plan.graph[name].inputs


# ---- memory --------------------------------------------------------------------------------------

Owners = NDArray[np.int64]


@dataclass
class Memory:
    """The arena, what one run through a segment has for itself, and the results: for each byte who
    wrote it last."""

    plan: Planned
    blocks: dict[str, Owners]

    @staticmethod
    def of(plan: Planned) -> Memory:
        """Of a pass of _BATCH images, when nobody has written anything."""
        sizes = {"": plan.arena.bytes(_BATCH)}
        for buffer in plan.plan.buffers.values():
            if buffer.kind == "output":
                sizes[buffer.name] = evaluate(buffer.size, _BATCH) * buffer.dtype.bytes
        return Memory(plan, {name: np.full(size, -1, np.int64) for name, size in sizes.items()})

    def begin(self, images: int) -> None:
        """Memory of a run through a segment, in which another one may have been before."""
        self.blocks["own"] = np.full(self.plan.own.bytes(images), -1, np.int64)

    def view(self, place: Place, run: Run) -> Owners:
        """The owners of a value's elements (of their first bytes), as steps see them in a run."""
        flat, begin = self._start(place.buffer, run)
        size = place.dtype.bytes
        begin += evaluate(place.offset, run.images) * size
        strides = tuple(evaluate(s, run.images) * size * flat.itemsize for s in place.strides)
        shape = concrete(place.shape, run.images)
        last = begin + sum((n - 1) * s // flat.itemsize for n, s in zip(shape, strides)) + size
        assert 0 <= begin < last <= len(flat)
        return np.lib.stride_tricks.as_strided(flat[begin:], shape, strides)

    def _start(self, name: str, run: Run) -> tuple[Owners, int]:
        """The block of a buffer, and where it begins for the images of a run (run.c, `resolve`)."""
        size, bytes_each = self.plan.plan.buffers[name].size, self.plan.plan.buffers[name].dtype
        image = coefficients(size)[0] * bytes_each.bytes
        if name in self.blocks:
            return self.blocks[name], image * run.first
        if name in self.plan.own.offsets:
            per_image, constant = self.plan.own.offsets[name]
            return self.blocks["own"], per_image * run.images + constant
        per_image, constant = self.plan.arena.offsets[name]
        return self.blocks[""], per_image * _BATCH + constant + image * run.first


@dataclass(frozen=True)
class Run:
    """Through a segment, with the images [first, first + images) of a pass."""

    first: int
    images: int


_ALL = Run(0, _BATCH)


def is_ours(plan: Planned, name: str) -> bool:
    """Whether a value lies in the arena or in a result."""
    place = plan.plan.places.get(name)
    return place is not None and plan.plan.buffers[place.buffer].kind in ("arena", "output")


def run(plan: Planned) -> None:
    """Run the plan on owners: whoever reads a value must find that nobody else has written it.

    In a segment that runs apart, one image is through before another begins, and the rest runs
    together: so what images share must not be used for anything else meanwhile.
    """
    memory = Memory.of(plan)
    for segment in plan.plan.segments:
        for part in (Run(0, 1), Run(1, _BATCH - 1)) if segment.apart else (_ALL,):
            memory.begin(part.images)
            for cluster in plan.plan.clusters[segment.begin : segment.end]:
                execute(memory, cluster, part)
    check(memory, _ALL, set(plan.plan.graph.outputs), "at the end")


def whole_place(plan: Planned, name: str) -> tuple[object, ...]:
    """Equal for values in the same memory, in whatever order they have their axes."""
    place = plan.plan.places[name]
    axes = zip(place.shape, (evaluate(s, _BATCH) for s in place.strides))
    return (
        place.buffer,
        place.offset,
        sorted((step, evaluate(n, _BATCH)) for n, step in axes if n != 1),
    )


def execute(memory: Memory, cluster: Cluster, run: Run) -> None:
    """Write what a cluster makes, and look at what it reads before and afterwards."""
    plan = memory.plan
    numbers = {n.name: k for k, n in enumerate(plan.plan.graph)}
    read = {n for n in read_by(plan, cluster) if is_ours(plan, n)}
    check(memory, run, read, f"before {cluster}")
    for value in cluster.values:
        name, _, part = value.partition("@")
        if is_ours(plan, name):
            target = memory.view(plan.plan.places[name], run)
            target = _part(plan, target, name, int(part), run.images) if part else target
            target[...] = numbers[name]
    # other threads may still be reading when one writes, but for what its element replaces
    written = [whole_place(plan, v) for v in cluster.values if v in plan.plan.places]
    read = {n for n in read if whole_place(plan, n) not in written}
    check(memory, run, read, f"while it is read by {cluster}")


def check(memory: Memory, run: Run, names: set[str], when: str) -> None:
    """Whether these values, or the parts that they consist of, are in their places."""
    plan = memory.plan
    numbers = {n.name: k for k, n in enumerate(plan.plan.graph)}
    for name in names:
        allowed = [numbers[n] for n in parts_of(plan, name)]
        found = memory.view(plan.plan.places[name], run)
        assert np.isin(found, allowed).all(), f"{name} is gone {when}"


def _part(plan: Planned, whole: Owners, name: str, part: int, images: int) -> Owners:
    node = plan.plan.graph[name]
    if node.op == "interleave":
        cut = [slice(None)] * whole.ndim
        for axis, step, at in zip(node["axes"], node["steps"], phases(node["steps"])[part]):
            cut[axis] = slice(at, None, step)
        return whole[tuple(cut)]
    axis = node["axis"]
    sizes = [concrete(plan.plan.graph[i].shape, images)[axis] for i in node.inputs]
    start = sum(sizes[:part])
    return whole[(slice(None),) * axis + (slice(start, start + sizes[part]),)]


def test_values_are_in_memory_as_long_as_they_are_read() -> None:
    for plan in plans():
        run(plan)


def test_kept_values_share_no_memory() -> None:
    for plan in random_plans(20, keep=True):
        run(plan)
        memory = Memory.of(plan)
        whole = [b.name for b in plan.plan.buffers.values() if b.kind == "arena"]
        for k, name in enumerate(n for n in whole if n in plan.arena.offsets):
            found = memory.view(plan.plan.places[name], _ALL)
            assert (found == -1).all(), name
            found[...] = k


def test_memory_of_a_chain_does_not_grow() -> None:
    def memory(layers: int, keep: bool = False) -> tuple[int, int]:
        """Of an image of a pass, and of one that is computed alone."""
        net = Net()
        x = net.images(channels=16)
        for _ in range(layers):
            x = net("relu", net.conv(x, channels=16))
        plan = planned(net.graph(x), keep)
        return plan.arena.bytes(1), plan.own.bytes(1)

    shared, own = memory(12)
    assert shared == 0 < own == memory(3)[1]
    assert memory(12, keep=True) == (11 * own // 2, 0)  # of eleven convolutions, not of two


# ---- what is not obvious -------------------------------------------------------------------------


def test_inputs_and_parameters_as_results_are_copied() -> None:
    net = Net()
    x, w = net.images(), net.parameter(4, 4)
    plan = planned(net.graph(x, w, net("relu", x)))
    assert kinds(plan) == ["dfp"] * 3
    run(plan)


def test_one_value_as_two_results() -> None:
    net = Net()
    y = net("exp", net.images())
    plan = planned(net.graph(y, y))
    assert len(set(plan.plan.graph.outputs)) == 2
    run(plan)


def test_a_concatenation_as_a_result_is_written_in_place() -> None:
    net = Net()
    x = net.images()
    whole = net("concat", net("exp", x), net("tanh", x), axis=1)
    plan = planned(net.graph(whole))
    assert {plan.plan.places[n].buffer for n in ("exp", "tanh")} == {whole.name}
    assert plan.arena.bytes(4) == plan.own.bytes(1) == 0
    run(plan)


def test_branches_that_meet() -> None:
    net = Net()
    x = net.conv(net.images(), channels=8)
    left, right = net.pool(net("relu", x)), net.pool(net("exp", x))
    plan = planned(net.graph(net("add", net.conv(left, 8), net.conv(right, 8))))
    assert kinds(plan).count("contraction") == 3
    run(plan)


def test_an_empty_network() -> None:
    net = Net()
    net.images()
    plan = planned(net.graph())
    assert plan.plan.clusters == ()
    assert plan.arena.bytes(2) == plan.own.bytes(1) == 0


@pytest.mark.parametrize("shape", [(B,), (2, B), (B * 3, 2)])
def test_any_axis_may_be_the_batch(shape: tuple[int, ...]) -> None:
    net = Net()
    y = net("exp", net.input(*shape))
    run(planned(net.graph(net("add", y, net("cumsum", y, axis=0)) if shape[0] == 2 else y)))
