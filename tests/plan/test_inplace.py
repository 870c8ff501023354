"""Element-wise results lie where an operand lay that nobody reads afterwards."""

from __future__ import annotations

import pytest

from sol.core.dims import B
from sol.ir.graph import Graph, lent
from sol.plan.planner import make_plan
from tests.plan.networks import Net

# how x is read besides -> where the difference lies
OTHERWISE = {"not at all": "x", "later": "dx", "shifted": "dx", "by the same cluster": "dx"}


def buffer_of_the_difference(otherwise: str, is_lent: bool = True, keep: bool = False) -> str:
    """Of dx = f(x - g(mean(x), y)), which a linear layer and a sum read."""
    net = Net()
    x, y = net.input(B, 64), net.input(B, 64, name="y")
    mean = net("mean", x, axes=(0,), keepdims=True)
    other = net("roll", x, shifts=(1,), axes=(1,)) if otherwise == "shifted" else x
    dx = net("sub", other, net("mul", net("exp", mean), net("sigmoid", y)))
    if otherwise == "by the same cluster":
        dx = net("add", dx, net("flip", x, axes=(1,)))
    dx = net("tanh", net("exp", dx), name="dx")
    results = [net.linear(dx), net("sum", dx, axes=(0,), keepdims=False)]
    if otherwise == "later":
        results.append(net.linear(x))
    graph = net.graph(*results)
    nodes = tuple(lent(n) if is_lent and n.name == "x" else n for n in graph)
    plan = make_plan(Graph(nodes, graph.outputs), keep).plan
    return plan.places[dx.name].buffer.replace(dx.name, "dx")


@pytest.mark.parametrize(("otherwise", "expected"), OTHERWISE.items())
def test_where_a_difference_lies(otherwise: str, expected: str) -> None:
    assert buffer_of_the_difference(otherwise) == expected


def test_nobody_writes_into_inputs_that_are_not_lent_or_that_are_looked_at() -> None:
    assert buffer_of_the_difference("not at all", is_lent=False) == "dx"
    assert buffer_of_the_difference("not at all", keep=True) == "dx"
