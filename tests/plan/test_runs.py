"""Runs of clusters that treat images alone, where images depend on each other: what is in them,
what waits outside, and that results are right on any number of threads."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Graph, Node
from sol.plan.planner import Planned
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits
from tests.plan.networks import Net, planned


def _normalised(net: Net, x: Node) -> Node:
    """By the statistics of the batch."""
    mean = net("mean", x, axes=(0, 2, 3), keepdims=False)
    var = net("var", x, axes=(0, 2, 3), correction=0.0, keepdims=False)
    return net("relu", net("batch_norm", x, mean, var, eps=1e-5, affine=False))


def _layers(depthwise: bool = False) -> Graph:
    """Convolutions with batch normalisation between them."""
    net = Net()
    x = _normalised(net, net.conv(net.images(channels=3, size=24), 32))
    if depthwise:
        x = _normalised(net, net.conv(x, 32, groups=32))
    return net.graph(_normalised(net, net.conv(x, 40)))


def _scaled(net: Net, size: bool) -> Node:
    """A map, scaled by the number of images or by a constant."""
    x = _normalised(net, net.conv(net.images(channels=3, size=24), 32))
    factor = net("extent", size=B, dtype=F32) if size else 3.0
    return net.conv(net("tanh", net("mul", net("tanh", x), factor)), 32)


def runs(plan: Planned) -> list[list[str]]:
    """Operators of the results of each run."""
    graph = plan.plan.graph
    return [
        [graph[c.values[-1]].op for c in plan.plan.clusters[s.begin : s.end]]
        for s in plan.plan.segments
        if s.apart
    ]


def test_sums_of_a_batch_end_runs() -> None:
    plan = planned(_layers())
    assert not plan.plan.splittable
    assert runs(plan) == [["conv", "mean", "sum"], ["relu", "conv", "mean", "sum"]]
    last = plan.plan.segments[-1]
    assert not last.apart
    assert [c.kind for c in plan.plan.clusters[last.begin : last.end]].count("contraction") == 0


def test_what_is_read_within_a_run_is_one_images_own() -> None:
    plan = planned(_layers())
    relu = next(n.name for n in plan.plan.graph if n.op == "relu")
    assert relu in plan.own.offsets
    assert 4 * 32 * 24 * 24 <= plan.own.per_image < 2 * 4 * 32 * 24 * 24


def test_what_depends_on_the_number_of_images_is_in_no_run() -> None:
    found = []
    for size in (False, True):
        net = Net()
        found.append(runs(planned(net.graph(_scaled(net, size)))))
    assert found[0] == [["conv", "mean", "sum"], ["tanh", "conv"]]
    assert found[1] == [["conv", "mean", "sum"]]


def test_many_weights_are_of_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    x = _normalised(net, net.conv(net.images(channels=3, size=24), 32))
    for _ in range(3):
        x = net("tanh", net.conv(x, 32))
    graph = net.graph(_normalised(net, x))
    before = runs(planned(graph))
    assert [ops.count("tanh") for ops in before] == [0, 3]
    monkeypatch.setattr("sol.plan.runs._WEIGHTS", 2 * 4 * 32 * 32 * 9 + 1000)
    assert [ops.count("tanh") for ops in runs(planned(graph))] == [0, 2, 1]


def test_small_maps_are_not_worth_a_run() -> None:
    net = Net()
    x = net.conv(net.images(channels=3, size=8), 4)
    plan = planned(net.graph(_normalised(net, x)))
    assert [s.apart for s in plan.plan.segments] == [False]


def test_kept_values_are_there_after_the_run() -> None:
    plan = planned(_layers(), keep=True)
    assert [s.apart for s in plan.plan.segments] == [False]


@functools.cache
def program() -> Joined:
    net = Net()
    scaled = net.graph(_scaled(net, True))
    graphs = {"layers": _layers(), "depthwise": _layers(True), "scaled": scaled}
    return build_joined([Case(name, g, tolerance=10) for name, g in graphs.items()], flags=("-O1",))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_results_agree_with_the_reference(batch: int) -> None:
    assert any(s.apart for s in program().compiled.planned.plan.segments)
    compare(program(), batch, threads=2)


def test_threads_change_no_bit() -> None:
    found = [program().run(5, threads) for threads in (1, 2, 3)]
    assert same_bits(found[0], found[1])
    assert same_bits(found[0], found[2])
    assert all(np.isfinite(y).all() for ys in found[0] for y in ys)


def test_runs_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sol.plan.runs._SHARED", 1 << 40)
    together = build_joined(program().cases, flags=("-O1",))
    assert not any(s.apart for s in together.compiled.planned.plan.segments)
    assert same_bits(program().run(5, 2), together.run(5, 2))
