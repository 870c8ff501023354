"""Operations and bytes of clusters, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from sol.core.dims import B, concrete
from sol.core.dtypes import BOOL, F32, I64
from sol.ir.graph import Node
from sol.plan.planner import Planned
from sol.report.work import Work, work
from tests.plan.networks import Net, planned, random_plans

SIGMOID = TANH = 14  # what plan/facts.py counts for them
EXP, RECIPROCAL = 10, 1


def of(plan: Planned, batch: int = 2) -> tuple[Work, ...]:
    return work(plan.plan, plan.plan.clusters, batch)


def only(net: Net, result: Node, batch: int = 2) -> Work:
    """The work of a network of one cluster."""
    (found,) = of(planned(net.graph(result)), batch)
    return found


@pytest.mark.parametrize("groups", [1, 2, 16])
def test_a_convolution(groups: int) -> None:
    """Two operations for each weight and place, also where padding is read, and the bias."""
    net = Net()
    y = net.conv(net.input(B, 16, 10, 10), 32, 3, groups=groups)
    weights = 32 * 16 // groups * 9
    found = only(net, y)
    assert found.operations == 2 * 100 * (2 * weights + 32)
    assert (found.read, found.written) == (4 * 2 * 16 * 100, 4 * 2 * 32 * 100)
    assert found.weights == 4 * (weights + 32)


def test_a_depthwise_convolution() -> None:
    net = Net()
    found = only(net, net.conv(net.input(B, 16, 10, 10), 16, 3, groups=16, bias=False))
    assert found.operations == 2 * 100 * 16 * 9 * 2
    assert found.weights == 4 * 16 * 9


def test_steps_leave_out_what_they_skip() -> None:
    net = Net()
    x = net.input(B, 16, 8, 8)
    found = only(net, net.conv(x, 8, 1, stride=(2, 2), bias=False))
    assert found.operations == 2 * 16 * 16 * 8 * 2
    assert found.read == 4 * 2 * 16 * 16


def test_what_follows_counts_and_is_written_once() -> None:
    net = Net()
    x = net.input(B, 16, 8, 8)
    y = net("relu", net("add", net.conv(x, 16, 3, bias=False), x))
    found = only(net, y)
    elements = 2 * 16 * 64
    assert found.operations == elements * (2 * 9 * 16 + 2)
    assert (found.read, found.written) == (4 * elements, 4 * elements)


@pytest.mark.parametrize("rows", [1, 64])
def test_a_linear_layer(rows: int) -> None:
    """Thin or not."""
    net = Net()
    found = only(net, net.linear(net.input(B, rows, 40), 24))
    assert found == Work(2 * rows * 24 * 81, 4 * 2 * rows * 40, 4 * 2 * rows * 24, 4 * 24 * 41)


def test_a_product_of_two_inputs() -> None:
    net = Net()
    a, b = net.input(B, 12, 20, name="a"), net.input(B, 20, 8, name="b")
    found = of(planned(net.graph(net("matmul", a, b))))
    assert sum(w.operations for w in found) == 2 * 12 * 8 * 20 * 2


@pytest.mark.parametrize("mask", [False, True])
def test_attention(mask: bool) -> None:
    net = Net()
    q = net.input(B, 4, 16, 8, name="q")
    k, v = net.input(B, 4, 32, 8, name="k"), net.input(B, 4, 32, 8, name="v")
    masks = [net.input(B, 1, 16, 32, name="mask")] if mask else []
    y = net("attention", q, k, v, *masks, scale=0.5, causal=False, groups=1)
    plan = planned(net.graph(y))
    found = next(w for w, c in zip(of(plan), plan.plan.clusters) if c.kind == "attention")
    rows, scores = 2 * 4 * 16, 2 * 4 * 16 * 32
    products = 2 * scores * 8 * 2
    scaling = rows * 8
    softmax = scores * (1 + 1 + EXP + 1 + 1) + rows * RECIPROCAL  # max, -, exp, sum, *
    least = products + scaling + softmax + mask * scores
    assert least <= found.operations <= 1.02 * least  # the reciprocal is a division
    assert found.read >= 4 * 2 * 4 * 8 * (16 + 32 + 32)
    assert found.written == 4 * rows * 8


def test_a_recurrent_layer() -> None:
    """The share of the input is a linear layer, the rest a scan."""
    net = Net()
    steps, inputs, hidden = 5, 12, 16
    shapes = ((4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,))
    weights = [net.parameter(*shape) for shape in shapes]
    states = [net.input(1, B, hidden, name=name) for name in ("h", "c")]
    attrs: dict[str, Any] = {"layers": 1, "bidirectional": False, "bias": True}
    attrs["batch_first"] = True
    x = net.input(B, steps, inputs)
    lstm = net.builder.add("lstm", x, *states, *weights, **attrs)
    plan = planned(net.graph(net.builder.add("item", lstm, index=0)))
    found = dict(zip((c.kind for c in plan.plan.clusters), of(plan)))
    assert found["contraction"].operations == 2 * steps * 4 * hidden * (2 * inputs + 1)
    cell = 4 + 3 * SIGMOID + 2 * TANH + 3 + 1  # x + r; sigmoids; tanhs; c; h
    each = 4 * (2 * hidden + 1) + cell
    assert found["recurrent"].operations == 2 * steps * hidden * each
    assert found["recurrent"].weights == 4 * (4 * hidden * hidden + 4 * hidden)


def test_pooling() -> None:
    net = Net()
    found = only(net, net.pool(net.input(B, 8, 9, 9), 3, 2))
    assert found == Work(2 * 8 * 16 * 9, 4 * 2 * 8 * 81, 4 * 2 * 8 * 16, 0)


def test_elementwise_layers_are_one_cluster() -> None:
    net = Net()
    x = net.input(B, 10, 10)
    found = only(net, net("mul", net("sigmoid", x), x))
    assert found == Work(200 * (SIGMOID + 1), 800, 800, 0)


def test_normalisation_keeps_what_is_between_in_the_cluster() -> None:
    net = Net()
    x = net.input(B, 64, 96)
    attrs = {"axes_count": 1, "eps": 1e-5, "has_weight": False, "has_bias": False}
    found = only(net, net("layer_norm", x, **attrs))
    elements = 2 * 64 * 96
    assert (found.read, found.written) == (4 * elements, 4 * elements)
    assert 5 * elements <= found.operations <= 9 * elements


def test_what_does_not_depend_on_a_place_is_computed_once() -> None:
    net = Net()
    row = net("sigmoid", net.input(1, 10, name="row"))
    found = sum(w.operations for w in of(planned(net.graph(net("add", net.input(B, 10), row)))))
    assert found == 10 * SIGMOID + 20


def test_only_the_rows_that_are_looked_up_are_read() -> None:
    net = Net()
    table = net.parameter(1000, 16)
    x = net.input(B, 7, dtype=I64)
    found = only(net, net("take", table, x, axis=0))
    assert (found.weights, found.operations) == (4 * 2 * 7 * 16, 0)
    assert found.read == 8 * 2 * 7


def test_only_the_part_that_is_sliced_out_is_read() -> None:
    net = Net()
    x = net.input(B, 10, 10)
    part = net("slice", x, axis=2, start=0, stop=3, step=1)
    assert only(net, net("relu", part)).read == 4 * 2 * 10 * 3


def test_a_copy_has_no_operations() -> None:
    net = Net()
    found = only(net, net("permute", net.input(B, 4, 6), axes=(0, 2, 1)))
    assert found == Work(0, 192, 192, 0)


def test_types_have_their_own_bytes() -> None:
    net = Net()
    x = net.input(B, 10, dtype=BOOL)
    assert only(net, net("cast", x, dtype=F32)) == Work(0, 20, 80, 0)


def test_work_grows_with_the_batch_but_weights_do_not() -> None:
    net = Net()
    plan = planned(net.graph(net.conv(net.input(B, 8, 8, 8), 8, 3)))
    (one,), (four,) = of(plan, 1), of(plan, 4)
    assert (four.operations, four.read, four.written) == tuple(
        4 * n for n in (one.operations, one.read, one.written)
    )
    assert four.weights == one.weights
    assert four.bytes == four.read + four.written + four.weights


def test_any_network_can_be_counted() -> None:
    for plan in random_plans(60):
        for found, cluster in zip(of(plan, 3), plan.plan.clusters):
            assert min(found.operations, found.read, found.weights) >= 0
            assert found.written > 0 or 0 in concrete(
                plan.plan.graph[cluster.values[-1].split("@")[0]].shape, 3
            )
