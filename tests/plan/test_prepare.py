"""Convolutions of few results as products of each place with all taps, and sums of taps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sol.core.dims import B
from sol.ir.check import verify
from sol.ir.graph import Graph, Node
from sol.ops.registry import infer
from sol.plan.prepare import prepare_graph
from tests.passes.conftest import results
from tests.plan.networks import Net, kinds, planned

_LANES = 16


def _last_layer(net: Net, channels: int = 3, kernel: int = 3, **attrs: Any) -> Node:
    """As in super-resolution and segmentation: many channels come in."""
    return net.conv(net.images(channels=64, size=24), channels, kernel, **attrs)


def _ops(graph: Graph, lanes: int = _LANES) -> str:
    after = prepare_graph(graph, lanes)
    verify(after, infer)
    return " ".join(n.op for n in after if n.name not in after.static and n.op != "input")


def _compare(before: Graph, after: Graph) -> None:
    for a, b in zip(results(before), results(after), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


TAKEN: dict[str, dict[str, Any]] = {
    "3x3": {},
    "5x5": {"channels": 1, "kernel": 5},
    "no bias": {"bias": False},
    "dilated": {"dilation": (2, 1)},
    "padded on one side": {"padding": ((0, 2), (1, 0))},
}

LEFT: dict[str, dict[str, Any]] = {
    "one tap": {"kernel": 1},
    "many results": {"channels": 9},
    "strided": {"stride": (2, 2)},
    "groups": {"channels": 4, "groups": 4},
    "more columns than are kept": {"channels": 4, "kernel": 9},
    "fewer results than places": {"channels": 1, "kernel": 16, "padding": ((0, 0), (0, 0))},
}


@pytest.mark.parametrize("name", TAKEN)
def test_few_results_are_made_tap_by_tap(name: str) -> None:
    net = Net()
    graph = net.graph(net("tanh", _last_layer(net, **TAKEN[name])))
    assert _ops(graph) == "conv sum_of_taps tanh"
    _compare(graph, prepare_graph(graph, _LANES))
    assert kinds(planned(graph)) == ["contraction", "dfp"]


@pytest.mark.parametrize("name", LEFT)
def test_others_are_left(name: str) -> None:
    net = Net()
    assert _ops(net.graph(_last_layer(net, **LEFT[name]))) == "conv"


def test_few_channels_are_left() -> None:
    net = Net()
    assert _ops(net.graph(net.conv(net.images(channels=12), 1))) == "conv"


def test_narrow_vectors_are_full_without() -> None:
    net = Net()
    assert _ops(net.graph(_last_layer(net)), lanes=4) == "conv"


@pytest.mark.parametrize("shape", [(B, 32, 50), (B, 16, 6, 5, 7)])
def test_other_ranks(shape: tuple[Any, ...]) -> None:
    net = Net()
    graph = net.graph(net.conv(net.input(*shape), 2, 3))
    assert _ops(graph) == "conv sum_of_taps"
    _compare(graph, prepare_graph(graph, _LANES))


@pytest.mark.parametrize(("kernel", "innermost"), [(3, 1), (7, 3)])
def test_products_of_many_taps_lie_along_lines(kernel: int, innermost: int) -> None:
    net = Net()
    y = _last_layer(net, kernel=kernel)
    assert planned(net.graph(y)).plan.orders[f"{y.name}_products"][-1] == innermost
