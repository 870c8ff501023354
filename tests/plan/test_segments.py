"""Segments: the cheapest modes of clusters, cuts only where images are slices of what crosses them,
and what becomes of networks of which it is obvious.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from sol.core.dims import B, Dim, Size, concrete
from sol.core.dtypes import F64, I64
from sol.ir.graph import Graph, Node
from sol.ops.reference import evaluate
from sol.plan import segments
from sol.plan.planner import Planned
from sol.plan.records import Segment
from tests.plan.networks import Net, kinds, planned, random_plans

Costs = list[tuple[float, float]]
Sizes = tuple[Size, ...]

# ---- the shortest path ---------------------------------------------------------------------------


def cost_of(modes: tuple[bool, ...], costs: Costs, switch: list[float]) -> float:
    """What a sequence of modes (True: apart) costs."""
    total = sum(apart if mode else together for mode, (apart, together) in zip(modes, costs))
    return total + sum(s for (a, b), s in zip(pairwise(modes), switch[1:]) if a != b)


@pytest.mark.parametrize("seed", range(200))
def test_no_sequence_of_modes_is_cheaper(seed: int) -> None:
    rng = random.Random(seed)
    count = 1 + rng.randrange(8)
    # few different numbers, so that there are equal ones
    costs = [(float(rng.randrange(6)), float(rng.randrange(6))) for _ in range(count)]
    switch = [rng.choice((0.0, 1.0, 2.0, 5.0, math.inf)) for _ in range(count)]
    found = tuple(segments._shortest(costs, switch))
    every = itertools.product((True, False), repeat=count)
    assert len(found) == count
    assert cost_of(found, costs, switch) == min(cost_of(m, costs, switch) for m in every)
    assert math.isfinite(cost_of(found, costs, switch))


def test_equal_modes_join() -> None:
    found = segments._joined([True, True, False, True])
    assert found == (Segment(0, 2, True), Segment(2, 3, False), Segment(3, 4, True))


# ---- where cuts may be ---------------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cluster would rather run in another mode than the one before it."""
    turns = itertools.cycle([(0.0, 1e12), (1e12, 0.0)])
    monkeypatch.setattr(segments, "_costs", lambda *_: next(turns))


def cuts(plan: Planned) -> list[tuple[str, str]]:
    """The clusters between which segments end, by their first values without numbers."""
    names = [c.values[0].split("_")[0] for c in plan.plan.clusters]
    return [(names[s.begin - 1], names[s.begin]) for s in plan.plan.segments[1:]]


def _lstm(n: Net, x: Node, batch_first: bool) -> Node:
    """All its states, [B, T, 16] or with time first."""
    weights = [n.parameter(64, size) for size in (x.shape[-1], 16) if isinstance(size, int)]
    states = [n("expand", n.constant([[[0.0] * 16]]), shape=(1, B, 16)) for _ in range(2)]
    attrs = {"layers": 1, "bidirectional": False, "bias": False, "batch_first": batch_first}
    lstm = n.builder.add("lstm", x, *states, *weights, **attrs)
    return n.builder.add("item", lstm, index=0)


def _turned(n: Net, x: Node) -> Node:
    """[B, T, …] as [T, B, …] or back."""
    return n("permute", x, axes=(1, 0, *range(2, x.tensor.rank)))


def _head(n: Net, x: Node, size: int) -> Node:
    return n.linear(n("reshape", x, shape=(B, size)), 7)


def _convs(n: Net, x: Node) -> Node:
    return n("relu", n.conv(n.conv(x)))


def _frames(n: Net, in_order: bool) -> Node:
    """Images of films, in the order of films or of time, as in [B * 5, …]; a linear layer."""
    x = n.input(B, 5, 4, 6, 6)
    x = _convs(n, n("reshape", x if in_order else _turned(n, x), shape=(B * 5, 4, 6, 6)))
    x = n("reshape", x, shape=(B, 5, 144) if in_order else (5, B, 144))
    return n.linear(x if in_order else _turned(n, x))


def _repeated(n: Net) -> Node:
    x = _convs(n, n("repeat", n.images(), repeats=(2, 1, 1, 1)))
    return n.reduce("mean", n("reshape", x, shape=(2, B, 144)), 0, keepdims=False)


def _time_first(n: Net) -> Node:
    return _head(n, _turned(n, _lstm(n, _turned(n, n.input(B, 5, 8)), batch_first=False)), 80)


def _scaled(n: Net) -> Node:
    """By numbers that are the same for all images, and not there before."""
    scale = n("cumsum", n.input(4, 6, 6, name="scale"), axis=0)
    return n.conv(n.conv(n("add", n.conv(n.conv(n.images())), scale)))


CUTS: dict[str, tuple[Callable[[Net], Node], list[tuple[str, str]]]] = {
    "everywhere": (lambda n: _convs(n, _convs(n, n.images())), [
        ("conv", "relu"), ("relu", "conv"), ("conv", "relu"),
    ]),
    "states, images first": (lambda n: _head(n, _lstm(n, n.input(B, 5, 8), True), 80), [
        ("lstm", "lstm"), ("lstm", "linear"),
    ]),
    "states, time first": (_time_first, []),
    "images of films in order": (lambda n: _frames(n, True), [
        ("conv", "relu"), ("relu", "linear"),
    ]),
    "images of films by time": (lambda n: _frames(n, False), []),
    "images repeated": (_repeated, []),
    "what all images share": (_scaled, [("add", "conv"), ("conv", "conv")]),
}  # fmt: skip


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", CUTS)
def test_cuts_stand_where_images_are_slices(name: str) -> None:
    make, wanted = CUTS[name]
    net = Net()
    plan = planned(net.graph(make(net)))
    assert plan.plan.splittable
    assert cuts(plan) == wanted


def shared_by(plan: Planned) -> Iterator[Node]:
    """Values in memory that images of a pass share."""
    for name, place in plan.plan.places.items():
        if place.buffer in plan.arena.offsets:
            yield plan.plan.graph[name]


@pytest.mark.usefixtures("eager")
def test_what_segments_share_is_in_slices_of_memory() -> None:
    found = 0
    for plan in random_plans(80):
        if not any(s.apart for s in plan.plan.segments):
            continue
        ends = {s.begin for s in plan.plan.segments[1:]}
        for node in shared_by(plan):
            place = plan.plan.places[node.name]
            size = plan.plan.buffers[place.buffer].size
            if not isinstance(size, Dim) or not _crosses(plan, node.name, ends):
                continue
            assert size.const == 0
            everywhere = _positions(place.strides, place.offset, place.shape, 3)
            alone = _positions(place.strides, place.offset, place.shape, 1)
            of_each = [alone + image * size.coef for image in range(3)]
            assert sorted(everywhere) == sorted(np.concatenate(of_each))
            found += 1
    assert found > 50


def _crosses(plan: Planned, name: str, ends: set[int]) -> bool:
    """Whether a value is made before and read behind a cut."""
    touched = [
        k
        for k, c in enumerate(plan.plan.clusters)
        if {name} & {*c.values, *(i for n in c.layers for i in plan.plan.graph[n].inputs)}
    ]
    return any(touched[0] < end <= touched[-1] for end in ends) if touched else False


def _positions(strides: Sizes, offset: Size, shape: Sizes, images: int) -> NDArray[np.int64]:
    """Where the elements of a value lie in its buffer."""
    begin, extents = concrete((offset,), images)[0], concrete(shape, images)
    steps = concrete(strides, images)
    grid = np.indices(extents).reshape(len(extents), -1)
    return begin + np.asarray(steps, np.int64) @ grid


# ---- order of images -----------------------------------------------------------------------------


def of_image(graph: Graph, names: list[str], image: int) -> dict[str, NDArray[np.bool_]]:
    """Which elements of values depend on one of three images: they are NaN if it is."""
    rng = np.random.default_rng(0)
    inputs, parameters = {}, {}
    for node in (*graph.inputs, *graph.parameters):
        value = rng.uniform(0.5, 1.0, concrete(node.shape, 3))
        if node.op == "parameter":
            parameters[node["key"]] = value
            continue
        if node.dtype.kind != "float":  # there is no such number
            value = np.zeros(value.shape, node.dtype.numpy)
        elif node.shape and isinstance(node.shape[0], Dim):
            value[image * node.shape[0].coef : (image + 1) * node.shape[0].coef] = np.nan
        inputs[node.name] = value
    found = evaluate(replace(graph, outputs=tuple(names)), inputs, parameters, batch=3, dtype=F64)
    return {name: np.isnan(value) for name, value in zip(names, found, strict=True)}


def check_order(plan: Planned) -> set[str]:
    """Values of several elements per image that are said to be in order, after a look at them."""
    graph = plan.plan.graph
    in_order = segments._in_order(graph)
    names = [n.name for n in graph if n.name in in_order and _several(n)]
    for image in range(3) if names else ():
        for name, there in of_image(graph, names, image).items():
            others = np.delete(there.reshape(3, -1), image, axis=0)
            assert not others.any(), f"{name} is not in order"
    return set(names)


def _several(node: Node) -> bool:
    """A float value whose first axis counts images, several elements for each."""
    if not node.op or isinstance(node.type, tuple) or node.dtype == I64 or not node.shape:
        return False
    return isinstance(node.shape[0], Dim) and node.shape[0].coef > 1


@pytest.mark.parametrize("name", CUTS)
def test_images_are_in_order_where_it_is_said(name: str) -> None:
    net = Net()
    found = check_order(planned(net.graph(CUTS[name][0](net))))
    assert bool(found) == (name == "images of films in order")


def test_images_of_random_networks_are_in_order() -> None:
    checked = [check_order(plan) for plan in random_plans(80) if plan.plan.splittable]
    assert sum(map(len, checked)) > 10


# ---- what becomes of networks --------------------------------------------------------------------


def _classifier(n: Net, outputs: int) -> Node:
    x = n.images(channels=64, size=16)
    for _ in range(2):
        x = n("relu", n.conv(x, 64))
    x = n("reshape", n.reduce("mean", x, 2, 3), shape=(B, 64))
    return n.linear(n("relu", n.linear(x, 1024)), outputs)


def modes(plan: Planned) -> list[bool]:
    """Of each segment whether it runs apart."""
    return [s.apart for s in plan.plan.segments]


def test_a_large_linear_layer_at_the_end_runs_together() -> None:
    net = Net()
    plan = planned(net.graph(_classifier(net, 1000)))
    assert modes(plan) == [True, False]
    last = plan.plan.segments[1]
    assert [c.kind for c in plan.plan.clusters[last.begin :]] == ["contraction"] * 2
    crossing = [plan.plan.graph[n].shape for n in plan.arena.offsets]
    assert (B, 1024) in crossing  # what is between linear layers is there for all images
    assert plan.own.per_image >= 2 * 4 * 64 * 16 * 16


def test_convolutions_run_apart() -> None:
    net = Net()
    x = net.images(channels=16, size=16)
    for _ in range(6):
        x = net("relu", net.conv(x, 16))
    plan = planned(net.graph(x))
    assert kinds(plan) == ["contraction"] * 6
    assert plan.plan.segments == (Segment(0, 6, True),)
    assert plan.arena.bytes(100) == 0


def test_steps_of_recurrent_layers_run_together() -> None:
    """Their weights come by in every step, for all images at once."""
    net = Net()
    x = _convs(net, net.input(B, 4, 8, 8))
    plan = planned(net.graph(_lstm(net, net("reshape", x, shape=(B, 64, 4)), batch_first=True)))
    recurrent = kinds(plan).index("recurrent")
    (segment,) = [s for s in plan.plan.segments if s.begin <= recurrent < s.end]
    assert not segment.apart


def test_images_that_depend_on_each_other_run_together() -> None:
    net = Net()
    x = net.conv(net.images())
    plan = planned(net.graph(net.conv(net("sub", x, net.reduce("mean", x, 0)))))
    assert plan.plan.segments == (Segment(0, len(plan.plan.clusters), False),)
    assert not plan.own.offsets


def test_values_that_are_kept_are_there_for_all_images() -> None:
    net = Net()
    plan = planned(net.graph(_classifier(net, 1000)), keep=True)
    assert plan.plan.segments == (Segment(0, len(plan.plan.clusters), False),)
    assert not plan.own.offsets


def test_segments_follow_each_other_and_hold_all_clusters() -> None:
    for plan in random_plans(80):
        bounds = [0, *(s.end for s in plan.plan.segments)]
        assert [s.begin for s in plan.plan.segments] == bounds[:-1]
        assert bounds[-1] == len(plan.plan.clusters)
        assert all(a != b for a, b in pairwise(modes(plan)))


@pytest.mark.usefixtures("eager")
def test_what_is_one_images_own_stays_in_a_segment() -> None:
    for plan in random_plans(40):
        ends = {s.begin for s in plan.plan.segments[1:]}
        own = [n for n, p in plan.plan.places.items() if p.buffer in plan.own.offsets]
        assert not [n for n in own if _crosses(plan, n, ends)]
        assert not set(plan.own.offsets) & set(plan.arena.offsets)
