"""Whole plans: clusters run after what they read, every value is still in memory when it is read,
and each node is executed. On random networks, and on some in which this is not obvious.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from sol.core.dims import B, concrete, evaluate
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

Owners = dict[str, NDArray[np.int64]]


def memory(plan: Planned) -> Owners:
    """The arena and the results, byte for byte: who wrote it last."""
    found = {"arena": np.full(plan.arena.bytes(_BATCH), -1, np.int64)}
    for buffer in plan.plan.buffers.values():
        if buffer.kind == "output":
            size = evaluate(buffer.size, _BATCH) * buffer.dtype.bytes
            found[buffer.name] = np.full(size, -1, np.int64)
    return found


def bytes_of(plan: Planned, owners: Owners, place: Place) -> NDArray[np.int64]:
    """A view of the owners of a value's elements (of their first bytes)."""
    size, begin = place.dtype.bytes, evaluate(place.offset, _BATCH) * place.dtype.bytes
    flat = owners.get(place.buffer, owners["arena"])
    if place.buffer not in owners:
        per_image, constant = plan.arena.offsets[place.buffer]
        begin += per_image * _BATCH + constant
    strides = tuple(evaluate(s, _BATCH) * size * flat.itemsize for s in place.strides)
    shape = concrete(place.shape, _BATCH)
    last = begin + sum((n - 1) * s // flat.itemsize for n, s in zip(shape, strides)) + size
    assert 0 <= begin < last <= len(flat)
    return np.lib.stride_tricks.as_strided(flat[begin:], shape, strides)


def is_ours(plan: Planned, name: str) -> bool:
    """Whether a value lies in the arena or in a result."""
    place = plan.plan.places.get(name)
    return place is not None and plan.plan.buffers[place.buffer].kind in ("arena", "output")


def run(plan: Planned) -> None:
    """Run the plan on owners: whoever reads a value must find that nobody else has written it."""
    owners, numbers = memory(plan), {n.name: k for k, n in enumerate(plan.plan.graph)}
    for cluster in plan.plan.clusters:
        read = {n for n in read_by(plan, cluster) if is_ours(plan, n)}
        check(plan, owners, read, f"before {cluster}")
        for value in cluster.values:
            name, _, part = value.partition("@")
            if is_ours(plan, name):
                target = bytes_of(plan, owners, plan.plan.places[name])
                target = _part(plan, target, name, int(part)) if part else target
                target[...] = numbers[name]
        # other threads may still be reading when one writes
        check(plan, owners, read, f"while it is read by {cluster}")
    check(plan, owners, set(plan.plan.graph.outputs), "at the end")


def check(plan: Planned, owners: Owners, names: set[str], when: str) -> None:
    """Whether these values, or the parts that they consist of, are in their places."""
    numbers = {n.name: k for k, n in enumerate(plan.plan.graph)}
    for name in names:
        allowed = [numbers[n] for n in parts_of(plan, name)]
        found = bytes_of(plan, owners, plan.plan.places[name])
        assert np.isin(found, allowed).all(), f"{name} is gone {when}"


def _part(plan: Planned, whole: NDArray[np.int64], name: str, part: int) -> NDArray[np.int64]:
    node = plan.plan.graph[name]
    if node.op == "interleave":
        cut = [slice(None)] * whole.ndim
        for axis, step, at in zip(node["axes"], node["steps"], phases(node["steps"])[part]):
            cut[axis] = slice(at, None, step)
        return whole[tuple(cut)]
    axis = node["axis"]
    sizes = [concrete(plan.plan.graph[i].shape, _BATCH)[axis] for i in node.inputs]
    start = sum(sizes[:part])
    return whole[(slice(None),) * axis + (slice(start, start + sizes[part]),)]


def test_values_are_in_memory_as_long_as_they_are_read() -> None:
    for plan in plans():
        run(plan)


def test_kept_values_share_no_memory() -> None:
    for plan in random_plans(20, keep=True):
        run(plan)
        owners = memory(plan)
        whole = [b.name for b in plan.plan.buffers.values() if b.kind == "arena"]
        for k, name in enumerate(n for n in whole if n in plan.arena.offsets):
            found = bytes_of(plan, owners, plan.plan.places[name])
            assert (found == -1).all(), name
            found[...] = k


def test_memory_of_a_chain_does_not_grow() -> None:
    def arena(layers: int) -> int:
        net = Net()
        x = net.images(channels=16)
        for _ in range(layers):
            x = net("relu", net.conv(x, channels=16))
        return planned(net.graph(x)).arena.bytes(1)

    assert 0 < arena(3) == arena(12)


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
    assert plan.arena.bytes(4) == 0
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
    assert plan.arena.bytes(2) == 0


@pytest.mark.parametrize("shape", [(B,), (2, B), (B * 3, 2)])
def test_any_axis_may_be_the_batch(shape: tuple[int, ...]) -> None:
    net = Net()
    y = net("exp", net.input(*shape))
    run(planned(net.graph(net("add", y, net("cumsum", y, axis=0)) if shape[0] == 2 else y)))
