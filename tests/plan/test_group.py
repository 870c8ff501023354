"""Depth-first groups: what becomes one loop, and what is too large or too small for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sol.core.dims import B
from sol.ir.graph import Node
from sol.plan.planner import Planned
from tests.plan.networks import Net, kinds, planned


def alone(make: Callable[[Net], Node]) -> Planned:
    """The plan of a network with this result."""
    net = Net()
    return planned(net.graph(make(net)))


def _layer_norm(n: Net) -> Node:
    attrs = {"axes_count": 1, "eps": 1e-5, "has_weight": False, "has_bias": False}
    return n("layer_norm", n.input(B, 12, 48), **attrs)


def _softmax_of_a_sum(n: Net) -> Node:
    x = n.input(B, 12, 48)
    return n("softmax", n("exp", n("mul", x, n.parameter(48))), axis=2)


ONE_LOOP: dict[str, Callable[[Net], Node]] = {
    "softmax": lambda n: n("softmax", n.input(B, 12, 48), axis=2),
    "log_softmax": lambda n: n("log_softmax", n.input(B, 12, 48), axis=2),
    "softmax along the middle": lambda n: n("softmax", n.input(B, 8, 5, 16), axis=2),
    "softmax and what is before": _softmax_of_a_sum,
    "layer_norm": _layer_norm,
}


@pytest.mark.parametrize("name", ONE_LOOP)
def test_one_loop(name: str) -> None:
    plan = alone(ONE_LOOP[name]).plan
    (cluster,) = plan.clusters
    assert cluster.private == set(cluster.values[:-1])
    assert not cluster.private & set(plan.places)
    assert cluster.outer >= 1


def test_what_others_read_is_not_private() -> None:
    net = Net()
    x = net("exp", net.input(B, 12, 48))
    y = net("softmax", x, axis=2)
    plan = planned(net.graph(y, net("permute", net("tanh", x), axes=(2, 1, 0)))).plan
    assert x.name in plan.places
    assert all(x.name not in c.private for c in plan.clusters)


def test_results_are_not_private() -> None:
    net = Net()
    x = net("exp", net.input(B, 12, 48))
    plan = planned(net.graph(net("softmax", x, axis=2), x)).plan
    assert all(x.name not in c.private for c in plan.clusters)


def test_a_patch_has_to_fit_into_the_cache() -> None:
    """Rows that are too long go through memory between one loop and the next."""
    assert len(alone(lambda n: n("softmax", n.input(B, 16, 60_000), axis=2)).plan.clusters) == 1
    assert len(alone(lambda n: n("softmax", n.input(B, 16, 70_000), axis=2)).plan.clusters) > 1


def test_too_few_patches_leave_threads_idle() -> None:
    few = alone(lambda n: n("softmax", n.input(B, 512), axis=1))
    many = alone(lambda n: n("softmax", n.input(B, 64, 512), axis=2))
    assert len(few.plan.clusters) > len(many.plan.clusters) == 1


def test_windows_that_overlap_share_rows() -> None:
    """A patch is all rows that windows read: a channel of an image, not a row of it."""
    net = Net()
    y = net("exp", net.images(channels=16, size=16))
    (cluster,) = planned(net.graph(net.pool(y))).plan.clusters
    assert cluster.private == {y.name}
    assert cluster.outer == 2


def test_contractions_stay_by_themselves() -> None:
    net = Net()
    y = net.linear(net.input(B, 16, 8), outputs=16)
    assert kinds(planned(net.graph(net("softmax", y, axis=2)))) == ["contraction", "dfp"]
