"""Scales and shifts of channels disappear into convolutions and linear layers, if that is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sol.core.dims import B
from sol.ir.graph import Node
from sol.passes.batchnorm import batchnorm

Make = Callable[[Any, Node], Node]
NO_PADDING = ((0, 0), (0, 0))


def _transposed(n: Any, x: Node, groups: int, bias: bool) -> Node:
    weight = n.parameter(4, 6 // groups, 3, 2)
    rest = [n.parameter(6, name="bias")] if bias else []
    return n(
        "conv_transpose", x, weight, *rest, stride=(2, 1), padding=(1, 0), output_padding=(1, 0),
        dilation=(1, 1), groups=groups,
    )  # fmt: skip


def _rows(n: Any, x: Node) -> Node:
    return n("reshape", x, shape=(B, 24, 6))


BEHIND: dict[str, tuple[Make, str]] = {
    "conv": (lambda n, x: n.batch_norm(n.conv(x, 6)), "conv"),
    "conv without bias": (lambda n, x: n.batch_norm(n.conv(x, 6, bias=False)), "conv"),
    "conv, statistics only": (lambda n, x: n.batch_norm(n.conv(x, 6), affine=False), "conv"),
    "conv in groups, padded": (
        lambda n, x: n.batch_norm(n.conv(x, 6, groups=2, padding=((1, 1), (1, 2)))),
        "conv",
    ),
    "depthwise": (lambda n, x: n.batch_norm(n.conv(x, 4, groups=4)), "conv"),
    "conv of rows": (lambda n, x: n.batch_norm(n.conv(_rows(n, x), 6)), "reshape conv"),
    "transposed": (lambda n, x: n.batch_norm(_transposed(n, x, 1, True)), "conv_transpose"),
    "transposed in groups": (
        lambda n, x: n.batch_norm(_transposed(n, x, 2, False)),
        "conv_transpose",
    ),
    "linear": (
        lambda n, x: n.batch_norm(n.linear(n("reshape", x, shape=(B, 144)))),
        "reshape linear",
    ),
    "two in a row": (lambda n, x: n.batch_norm(n.batch_norm(n.conv(x))), "conv"),
    "layer scale": (lambda n, x: n("mul", n.parameter(5), n.linear(x)), "linear"),
    "division": (lambda n, x: n("div", n.conv(x), n.parameter(4, 1, 1, name="var")), "conv"),
    "subtraction": (lambda n, x: n("sub", n.conv(x), n.parameter(4, 1, 1)), "conv"),
    "numbers": (lambda n, x: n("add", n("mul", n.conv(x, bias=False), 0.5), 1.0), "conv"),
    "one parameter for all": (lambda n, x: n("mul", n.conv(x), n.parameter(1, 1, 1)), "conv"),
    "shift without bias": (
        lambda n, x: n("add", n.conv(x, bias=False), n.parameter(1, 4, 1, 1)),
        "conv",
    ),
    # what must stay
    "of each pixel": (lambda n, x: n("mul", n.conv(x), n.parameter(4, 4)), "conv mul"),
    "of each row": (lambda n, x: n("mul", n.conv(x), n.parameter(1, 1, 4, 1)), "conv mul"),
    "of another axis": (lambda n, x: n("mul", n.linear(x), n.parameter(6, 1)), "linear mul"),
    "not static": (lambda n, x: n("mul", n.conv(x, 4, kernel=1), x), "conv mul"),
    "batch norm of three axes": (
        lambda n, x: n.batch_norm(n.linear(_rows(n, x))),
        "reshape linear mul add",
    ),
    "divided by": (lambda n, x: n("div", n.parameter(4, 1, 1), n.conv(x)), "conv div"),
    "subtracted from": (lambda n, x: n("sub", n.parameter(4, 1, 1), n.conv(x)), "conv sub"),
    "more than it had": (
        lambda n, x: n("mul", n.linear(x), n.parameter(3, 1, 1, 1, 1)),
        "linear mul",
    ),
}

BEFORE: dict[str, tuple[Make, str]] = {
    "conv": (lambda n, x: n.conv(n.batch_norm(x), 6), "conv"),
    "conv without bias": (lambda n, x: n.conv(n.batch_norm(x), 6, bias=False), "conv"),
    "conv in groups": (lambda n, x: n.conv(n.batch_norm(x), 6, groups=2), "conv"),
    "depthwise": (lambda n, x: n.conv(n.batch_norm(x), 8, groups=4), "conv"),
    "1x1 in steps": (lambda n, x: n.conv(n.batch_norm(x), 6, 1, stride=(2, 2)), "conv"),
    "linear": (lambda n, x: n.linear(n("mul", x, n.parameter(6))), "linear"),
    "linear, shift": (lambda n, x: n.linear(n("add", n.parameter(6), x), bias=False), "linear"),
    "numbers": (lambda n, x: n.conv(n("add", n("mul", x, 0.5), 1.0)), "conv"),
    # what is padded is 0, not 0 * scale + shift
    "padded": (
        lambda n, x: n.conv(n.batch_norm(x), 6, padding=((1, 1), (1, 1))),
        "mul add conv",
    ),
    "padded, scale only": (
        lambda n, x: n.conv(n("mul", x, n.parameter(4, 1, 1)), padding=((1, 0), (0, 0))),
        "conv",
    ),
    "of each row": (lambda n, x: n.conv(n("mul", x, n.parameter(6, 1))), "mul conv"),
    "by batch norm of channels": (
        lambda n, x: n.linear(n.batch_norm(x)),
        "mul add linear",
    ),
}


@pytest.mark.parametrize("name", BEHIND)
def test_behind_a_contraction(name: str, net: Any, becomes: Any) -> None:
    make, expected = BEHIND[name]
    becomes(batchnorm, net.graph(make(net, net.images())), expected, 1e-9)


@pytest.mark.parametrize("name", BEFORE)
def test_before_a_contraction(name: str, net: Any, becomes: Any) -> None:
    make, expected = BEFORE[name]
    becomes(batchnorm, net.graph(make(net, net.images())), expected, 1e-9)


def test_alone_it_is_a_product_and_a_sum(net: Any, becomes: Any) -> None:
    becomes(batchnorm, net.graph(net.batch_norm(net.images())), "mul add", 1e-9)


def test_a_convolution_with_other_users_stays(net: Any, becomes: Any) -> None:
    y = net.conv(net.images())
    becomes(batchnorm, net.graph(net.batch_norm(y), y), "conv mul add", 1e-9)


def test_a_scaled_input_with_other_users_stays(net: Any, becomes: Any) -> None:
    y = net("mul", net.images(), net.parameter(4, 1, 1))
    becomes(batchnorm, net.graph(net.conv(y), y), "mul conv")


def test_statistics_that_are_computed_stay(net: Any, becomes: Any) -> None:
    x = net.images()
    mean = net.reduce("mean", x, 0, 2, 3, keepdims=False)
    y = net("batch_norm", x, mean, net.parameter(4, name="var"), eps=1e-3, affine=False)
    becomes(batchnorm, net.graph(y), "mean batch_norm")


def test_a_shared_weight_is_folded_for_one_and_kept_for_the_other(net: Any, becomes: Any) -> None:
    x, weight = net.images(), net.parameter(4, 4, 1, 1)
    attrs = {"stride": (1, 1), "padding": NO_PADDING, "dilation": (1, 1), "groups": 1}
    a, b = net("conv", x, weight, **attrs), net("conv", x, weight, **attrs)
    graph = net.graph(net.batch_norm(a), b)
    after = becomes(batchnorm, graph, "conv conv", 1e-9)
    assert after[after.outputs[1]].inputs == ("x", weight.name)
