"""In which order axes lie in memory, and which values lie inside others."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol.core.dims import B, evaluate
from sol.ir.graph import Graph, Node
from sol.plan.facts import Facts
from sol.plan.layout import channels_last, choose_orders, strides_of
from sol.plan.planner import Planned
from sol.plan.records import Place
from tests.plan.networks import Net, chosen, kinds, planned


def orders(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The orders of all values of a graph that lie in memory."""
    return choose_orders(graph, Facts(graph), chosen(graph))


def behind(net: Net, y: Node) -> Graph:
    """A network in which y is not the result, and lies in memory because two read it."""
    shape = {"axes": tuple(range(1, y.tensor.rank)), "keepdims": False}
    return net.graph(net("sum", y, **shape), net("max_reduce", y, **shape))


# ---- orders --------------------------------------------------------------------------------------


def _attention(n: Net) -> Node:
    q = n.input(B, 2, 16, 8)
    return n("attention", q, q, q, scale=1.0, causal=False, groups=1)


def _tokens(n: Net) -> Node:
    """Tokens of a convolution's pixels: memory is not moved for them."""
    pixels = n("reshape", n.conv(n.images(), channels=8), shape=(B, 8, 36))
    return n("exp", n("permute", pixels, axes=(0, 2, 1)))


ORDERS: dict[str, tuple[Callable[[Net], Node], tuple[int, ...]]] = {
    "conv": (lambda n: n.conv(n.images()), (0, 2, 3, 1)),
    "conv of a line": (lambda n: n.conv(n.input(B, 4, 9)), (0, 2, 1)),
    "conv and relu": (lambda n: n("relu", n.conv(n.images())), (0, 2, 3, 1)),
    "pooling of a conv": (lambda n: n.pool(n.conv(n.images())), (0, 2, 3, 1)),
    "depthwise of a conv": (
        lambda n: n.conv(n.conv(n.images(channels=4)), groups=4),
        (0, 2, 3, 1),
    ),
    "pooling of an input": (lambda n: n.pool(n.images()), (0, 1, 2, 3)),
    "linear": (lambda n: n.linear(n.input(B, 16, 8)), (0, 1, 2)),
    "exp of a turned input": (
        lambda n: n("exp", n("permute", n.images(), axes=(0, 2, 3, 1))),
        (0, 3, 1, 2),
    ),
    "tokens of pixels": (_tokens, (0, 1, 2)),
    "attention": (_attention, (0, 2, 1, 3)),
}


@pytest.mark.parametrize("name", ORDERS)
def test_orders(name: str) -> None:
    make, wanted = ORDERS[name]
    net = Net()
    y = make(net)
    assert orders(behind(net, y))[y.name] == wanted


def test_inputs_and_results_are_row_major() -> None:
    net = Net()
    x = net.images()
    y = net.conv(x)
    found = orders(net.graph(y))
    assert found[x.name] == found[y.name] == (0, 1, 2, 3)


def test_filters_of_depthwise_convolutions_lie_along_lanes() -> None:
    net = Net()
    net_result = net.conv(net.images(), groups=4)
    graph = net.graph(net_result)
    assert orders(graph)[net_result.inputs[1]] == (1, 2, 3, 0)


@pytest.mark.parametrize(("rank", "order"), [(2, (0, 1)), (3, (0, 2, 1)), (5, (0, 2, 3, 4, 1))])
def test_channels_last(rank: int, order: tuple[int, ...]) -> None:
    assert channels_last(rank) == order


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms())
def test_every_element_has_a_place_of_its_own(shape: list[int], rng: random.Random) -> None:
    order = tuple(rng.sample(range(len(shape)), len(shape)))
    strides = strides_of(tuple(shape), order)
    places = {
        sum(i * evaluate(s, 1) for i, s in zip(index, strides))
        for index in itertools.product(*map(range, shape))
    }
    assert places == set(range(math.prod(shape)))


# ---- concatenation -------------------------------------------------------------------------------


def place(plan: Planned, node: Node) -> Place:
    """Where a value lies."""
    return plan.plan.places[node.name]


def _two_convs(net: Net) -> tuple[Node, Node]:
    x = net.images()
    return net.conv(x), net.conv(x, channels=8)


def test_parts_are_written_into_their_concatenation() -> None:
    net = Net()
    parts = _two_convs(net)
    whole = net("concat", *parts, axis=1)
    plan = planned(net.graph(net.pool(whole)))
    assert [place(plan, p).buffer for p in parts] == [whole.name] * 2
    assert [place(plan, p).offset for p in parts] == [0, 4]  # channels are innermost
    assert all(place(plan, p).strides == place(plan, whole).strides for p in parts)
    assert kinds(plan) == ["contraction", "contraction", "dfp"]


def test_a_part_that_is_a_result_is_copied() -> None:
    net = Net()
    parts = _two_convs(net)
    whole = net("concat", *parts, axis=1)
    plan = planned(net.graph(net.pool(whole), parts[0]))
    assert [place(plan, p).buffer for p in parts] == [parts[0].name, whole.name]


def test_a_part_that_is_there_twice_is_copied() -> None:
    net = Net()
    y = net.conv(net.images())
    plan = planned(net.graph(net.pool(net("concat", y, y, axis=1))))
    assert place(plan, y).buffer == y.name


def test_a_part_in_another_order_is_copied() -> None:
    net = Net()
    y = net.conv(net.images())
    z = net("exp", net.input(B, 4, 6, 6, name="z"))
    whole = net("concat", y, z, axis=1)
    plan = planned(net.graph(net.pool(whole), net.reduce("sum", z, 1)))
    orders = plan.plan.orders
    alike = [p for p in (y, z) if orders[p.name] == orders[whole.name]]
    inside = [p for p in (y, z) if place(plan, p).buffer == whole.name]
    assert inside == alike != [y, z]


def test_growing_concatenations_are_views() -> None:
    """As in DenseNet: each layer reads all before it, and adds its channels behind them."""
    net = Net()
    parts = [net.conv(net.images())]
    wholes = []
    for _ in range(3):
        wholes.append(net("concat", *parts, axis=1) if len(parts) > 1 else parts[0])
        parts.append(net.conv(wholes[-1]))
    last = net("concat", *parts, axis=1)
    plan = planned(net.graph(net.pool(last)))
    assert {place(plan, n).buffer for n in (*parts, *wholes, last)} == {last.name}
    assert {place(plan, n).offset for n in (*wholes, last)} == {0}
    assert kinds(plan) == ["contraction"] * 4 + ["dfp"]


def test_a_part_lies_in_one_concatenation_only() -> None:
    net = Net()
    a, b = _two_convs(net)
    one, two = net("concat", a, b, axis=1), net("concat", b, a, axis=1)
    plan = planned(net.graph(net.pool(one), net.pool(two)))
    assert place(plan, one).buffer != place(plan, two).buffer
    assert {place(plan, a).buffer, place(plan, b).buffer} <= {one.name, two.name}


# ---- interleaved values ----------------------------------------------------------------------


def _phases(net: Net) -> tuple[Node, list[Node]]:
    x = net.images()
    parts = [net.conv(x, channels=8) for _ in range(4)]
    return net("interleave", *parts, axes=(2, 3), steps=(2, 2)), parts


def test_phases_are_written_where_they_lie_in_the_whole() -> None:
    net = Net()
    whole, parts = _phases(net)
    plan = planned(net.graph(net.pool(whole)))
    rows, columns = (place(plan, whole).strides[k] for k in (2, 3))
    assert {place(plan, p).buffer for p in parts} == {whole.name}
    assert [place(plan, p).offset for p in parts] == [0, columns, rows, rows + columns]
    for p in parts:
        assert place(plan, p).strides == (*place(plan, whole).strides[:2], 2 * rows, 2 * columns)
    assert kinds(plan) == ["contraction"] * 4 + ["dfp"]


def test_phases_of_a_result_are_written_in_its_order() -> None:
    net = Net()
    whole, parts = _phases(net)
    plan = planned(net.graph(whole))
    assert kinds(plan) == ["contraction"] * 4
    assert {plan.plan.orders[p.name] for p in parts} == {(0, 1, 2, 3)}


def test_phases_inside_a_concatenation() -> None:
    net = Net()
    whole, parts = _phases(net)
    other = net("exp", net.conv(net.images(size=12)))
    both = net("concat", other, whole, axis=1)
    plan = planned(net.graph(net.pool(both)))
    assert {place(plan, p).buffer for p in (*parts, whole, other)} == {both.name}
    assert place(plan, parts[0]).offset == 4


def test_a_phase_that_others_read_too_is_copied() -> None:
    net = Net()
    whole, parts = _phases(net)
    plan = planned(net.graph(net.pool(whole), net("exp", parts[1])))
    made = [v for c in plan.plan.clusters for v in c.values]
    assert (place(plan, parts[1]).buffer == whole.name) != (f"{whole.name}@1" in made)
