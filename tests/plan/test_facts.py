"""What the planner knows of a node: who computes it, what an element costs, how many there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sol.core.dims import B, Dim
from sol.core.dtypes import F64
from sol.ir.graph import Node
from sol.plan.facts import NOMINAL_BATCH, Facts, is_depthwise, is_scalar, rows_per_image
from tests.plan.networks import Net


def _moving(net: Net) -> Node:
    weight = net("tanh", net.input(8, 4, 3, 3, name="weight"))
    attrs = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
    return net("conv", net.images(), weight, **attrs)


def _of_doubles(net: Net) -> Node:
    x = net.input(B, 16, 8, dtype=F64)
    return net("linear", x, net.parameter(5, 8, dtype=F64))


CONTRACTIONS: dict[str, tuple[bool, Callable[[Net], Node]]] = {
    "conv": (True, lambda n: n.conv(n.images())),
    "1x1 conv": (True, lambda n: n.conv(n.images(), kernel=1)),
    "grouped conv": (True, lambda n: n.conv(n.images(), channels=8, groups=2)),
    "depthwise conv": (False, lambda n: n.conv(n.images(), groups=4)),
    "conv by what the network computes": (False, _moving),
    "linear of many rows": (True, lambda n: n.linear(n.input(B, 16, 8))),
    "linear of one row per image": (True, lambda n: n.linear(n.input(B, 8))),
    "linear of float64": (False, _of_doubles),
    "element-wise": (False, lambda n: n("relu", n.images())),
}


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_what_a_contraction_kernel_takes(name: str) -> None:
    wanted, make = CONTRACTIONS[name]
    net = Net()
    node = make(net)
    assert Facts(net.graph(node)).contraction(node) is wanted


def test_depthwise() -> None:
    net = Net()
    x = net.images()
    convs = [net.conv(x, channels=c, groups=g) for c, g in ((4, 4), (8, 4), (4, 2), (4, 1))]
    graph = net.graph(*convs)
    assert [is_depthwise(graph, c) for c in convs] == [True, True, False, False]


def test_sizes_are_those_of_some_images() -> None:
    net = Net()
    x = net.images(channels=4, size=6)
    facts = Facts(net.graph(net.reduce("mean", x, 0)))
    assert facts.size(x.name) == NOMINAL_BATCH * 4 * 36
    assert facts.size("mean") == 4 * 36


def test_an_element_costs_arithmetic_and_no_moves() -> None:
    net = Net()
    x = net.images()
    moved = net("permute", net("reshape", x, shape=(B, 4, 36)), axes=(0, 2, 1))
    ends = [net("roll", moved, axes=(1,), shifts=(3,)), net("add", x, 1.0), net("exp", x)]
    facts = Facts(net.graph(moved, *ends))
    assert [facts.cost(n) for n in ("reshape", "permute", "roll", "add")] == [0, 0, 0, 1]
    assert facts.cost("exp") > 5


def test_reductions_are_known() -> None:
    net = Net()
    x = net.images()
    facts = Facts(net.graph(net.pool(x), net.reduce("sum", x, 1), net("relu", x)))
    assert [facts.reduces(n) for n in ("max_pool", "sum", "relu")] == [True, True, False]


def test_what_follows_from_parameters_is_there_before() -> None:
    net = Net()
    x, w = net.images(), net.parameter(4, 1, 1)
    scale = net("exp", w)
    graph = net.graph(net("mul", x, scale))
    facts = Facts(graph)
    assert [n.name for n in graph if facts.is_source(n.name)] == [x.name, w.name, scale.name]
    assert [u.name for u in facts.users(w.name)] == []


def test_numbers_are_literals() -> None:
    net = Net()
    x = net.images()
    graph = net.graph(net("add", net("mul", x, 2.0), net.constant([1.0] * 6)))
    constants = [n.name for n in graph if n.op == "constant"]
    assert [is_scalar(graph, n) for n in constants] == [True, False]


@pytest.mark.parametrize(
    ("leading", "rows"), [((B,), 1), ((B, 7), 7), ((Dim(3), 2), 6), ((5, 2), 10), ((), 1)]
)
def test_rows_per_image(leading: tuple[int | Dim, ...], rows: int) -> None:
    assert rows_per_image(leading) == rows
