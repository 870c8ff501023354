"""What is stored, and which element-wise operators a contraction computes in its epilogue."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sol.core.dims import B
from sol.ir.graph import Graph, Node
from tests.plan.networks import Net, chosen, stored

# ---- what is stored ------------------------------------------------------------------------------


def _chain(net: Net) -> Graph:
    return net.graph(net("tanh", net("exp", net("mul", net.images(), 2.0))))


def _costly_for_two(net: Net) -> Graph:
    y = net("exp", net.images())
    return net.graph(net("relu", y), net("neg", y))


def _cheap_for_two(net: Net) -> Graph:
    y = net("neg", net.images())
    return net.graph(net("relu", y), net("exp", y))


def _result_that_is_read(net: Net) -> Graph:
    y = net("neg", net.images())
    return net.graph(y, net("exp", y))


def _reduction_and_more(net: Net) -> Graph:
    return net.graph(net("sigmoid", net.reduce("mean", net.images(), 2, 3)))


def _reduction_for_many(net: Net) -> Graph:
    x = net.images()
    return net.graph(net("mul", x, net.reduce("mean", x, 2, 3)))


def _before_windows(net: Net) -> Graph:
    return net.graph(net.pool(net("exp", net.images())))


def _cheap_before_windows(net: Net) -> Graph:
    return net.graph(net.pool(net("relu", net.images())))


def _before_taps(net: Net) -> Graph:
    return net.graph(net.conv(net("relu", net.images())))


def _before_one_tap(net: Net) -> Graph:
    return net.graph(net.conv(net("relu", net.images()), kernel=1))


def _before_a_product(net: Net) -> Graph:
    x = net.input(B, 3, 4)
    turned = net("permute", net("exp", x), axes=(0, 2, 1))
    return net.graph(net("matmul", x, turned))


def _views(net: Net) -> Graph:
    x = net("permute", net.images(), axes=(0, 2, 3, 1))
    x = net("slice", net("reshape", x, shape=(B, 36, 4)), axis=1, start=2, stop=30, step=2)
    return net.graph(net("neg", x))


def _joined(net: Net) -> Graph:
    """A concatenation is stored, and so is a costly part, which lies inside it."""
    x = net.images()
    y = net("concat", net("exp", x), net("relu", x), axis=1)
    return net.graph(net("neg", y))


def _shuffled(net: Net, kernel: int) -> Graph:
    x = net("pixel_shuffle", net.images(channels=16), factor=2)
    return net.graph(net.conv(x, kernel=kernel))


def _shuffled_before_taps(net: Net) -> Graph:
    """A window would gather the channels of each pixel from four places."""
    return _shuffled(net, 3)


def _shuffled_before_one_tap(net: Net) -> Graph:
    return _shuffled(net, 1)


def _cut_before_taps(net: Net) -> Graph:
    """Channels are side by side, wherever they begin."""
    x = net("slice", net.images(channels=9), axis=1, start=3, stop=7, step=1)
    return net.graph(net.conv(net("permute", x, axes=(0, 1, 3, 2))))


def _every_second_before_taps(net: Net) -> Graph:
    x = net("slice", net.images(channels=9), axis=1, start=0, stop=7, step=2)
    return net.graph(net.conv(x))


def _parts_of_windows_that_overlap(net: Net) -> Graph:
    """The gradient of a pooling, which the parts of a concatenation share."""
    attrs = {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
    x = net("spread", net.images(channels=8), size=(13, 13), **attrs)
    parts = ((0, 4), (4, 8))
    return net.graph(
        *(
            net("relu", net("slice", x, axis=1, start=start, stop=stop, step=1))
            for start, stop in parts
        )
    )


def _windows_that_overlap_for_two(net: Net) -> Graph:
    attrs = {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
    x = net("spread", net.images(), size=(13, 13), **attrs)
    return net.graph(net("relu", x), net("neg", x))


STORED: dict[Callable[[Net], Graph], set[str]] = {
    _chain: {"tanh"},
    _costly_for_two: {"exp", "relu", "neg"},
    _cheap_for_two: {"relu", "exp"},
    _result_that_is_read: {"neg", "exp"},
    _reduction_and_more: {"sigmoid"},
    _reduction_for_many: {"mean", "mul"},
    _before_windows: {"exp", "max_pool"},
    _cheap_before_windows: {"max_pool"},
    _before_taps: {"relu", "conv"},
    _before_one_tap: {"conv"},
    _shuffled_before_taps: {"pixel_shuffle", "conv"},
    _shuffled_before_one_tap: {"conv"},
    _cut_before_taps: {"conv"},
    _every_second_before_taps: {"slice", "conv"},
    _before_a_product: {"permute", "matmul"},
    _views: {"neg"},
    _joined: {"exp", "concat", "neg"},
    _parts_of_windows_that_overlap: {"relu", "relu_1"},
    _windows_that_overlap_for_two: {"spread", "relu", "neg"},
}


@pytest.mark.parametrize("make", STORED, ids=lambda make: make.__name__.strip("_"))
def test_what_is_stored(make: Callable[[Net], Graph]) -> None:
    assert stored(make(Net())) == STORED[make]


# ---- epilogues -----------------------------------------------------------------------------------


def _none(net: Net, y: Node) -> Node:
    return net.pool(y)


def _elementwise(net: Net, y: Node) -> Node:
    return net("mul", net("relu", y), 2.0)


def _with_another_value(net: Net, y: Node) -> Node:
    return net("add", y, net.input(*y.shape, name="other"))


def _by_channel(net: Net, y: Node) -> Node:
    return net("mul", y, net.parameter(4, 1, 1))


def _through_moves(net: Net, y: Node) -> Node:
    y = net("permute", net("reshape", y, shape=(B, 4, 36)), axes=(0, 2, 1))
    return net("relu", y)


def _channels_last_at_the_end(net: Net, y: Node) -> Node:
    return net("permute", net("relu", y), axes=(0, 2, 3, 1))


def _other_moves_at_the_end(net: Net, y: Node) -> Node:
    return net("permute", net("relu", y), axes=(0, 2, 1, 3))


def _until_channels_are_mixed(net: Net, y: Node) -> Node:
    y = net("reshape", net("relu", y), shape=(B, 144))
    return net("exp", y)


def _until_a_reduction(net: Net, y: Node) -> Node:
    return net.reduce("mean", net("relu", y), 2, 3)


def _until_it_grows(net: Net, y: Node) -> Node:
    return net("add", net("expand", net("relu", y), shape=(3, *y.shape)), 1.0)


def _until_two_read_it(net: Net, y: Node) -> Node:
    z = net("relu", y)
    return net("add", net("exp", z), net("neg", z))


EPILOGUES: dict[Callable[[Net, Node], Node], str] = {
    _none: "conv",
    _elementwise: "mul",
    _with_another_value: "add",
    _by_channel: "mul",
    _through_moves: "relu",
    _channels_last_at_the_end: "permute",
    _other_moves_at_the_end: "relu",
    _until_channels_are_mixed: "relu",
    _until_a_reduction: "relu",
    _until_it_grows: "relu",
    _until_two_read_it: "relu",
}


@pytest.mark.parametrize("make", EPILOGUES, ids=lambda make: make.__name__.strip("_"))
def test_where_an_epilogue_ends(make: Callable[[Net, Node], Node]) -> None:
    net = Net()
    graph = net.graph(make(net, net.conv(net.images())))
    choice = chosen(graph)
    assert choice.roots == {EPILOGUES[make]: "conv"}
    assert EPILOGUES[make] in choice.stored
    assert "conv" not in choice.stored or EPILOGUES[make] == "conv"


def test_a_result_ends_an_epilogue() -> None:
    net = Net()
    y = net.conv(net.images())
    assert chosen(net.graph(y, net("relu", y))).roots == {"conv": "conv"}


def test_a_sum_of_two_contractions_belongs_to_one() -> None:
    net = Net()
    x = net.images()
    graph = net.graph(net("relu", net("add", net.conv(x), net.conv(x))))
    choice = chosen(graph)
    assert set(choice.roots.values()) == {"conv", "conv_1"}
    (other,) = set(choice.roots) - {"relu"}
    assert choice.roots[other] == other
    assert choice.stored == {"relu", other}


def test_no_value_is_in_two_epilogues() -> None:
    net = Net()
    x = net.images()
    for _ in range(4):
        x = net("relu", net("add", net.conv(x), x))
    roots = chosen(net.graph(x)).roots
    assert roots == {f"relu{n}": f"conv{n}" for n in ("", "_1", "_2", "_3")}


def test_epilogues_of_linear_layers() -> None:
    net = Net()
    y = net("gelu", net.linear(net.input(B, 16, 8)), approximate="none")
    assert set(chosen(net.graph(y)).roots.values()) == {"linear"}
