"""Each rule of `phases`: transposed convolutions as ordinary ones, and what is behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sol.core.dims import B
from sol.ir.graph import Graph, Node
from sol.passes.phases import phases
from sol.passes.pipeline import run
from tests.passes.conftest import Net

Make = Callable[[Any, Node], Node]
_FOUR = "conv conv conv conv interleave"
_ONE = "conv reshape permute reshape"


def _transposed(n: Any, x: Node, kernel: int = 4, channels: int = 6, **attrs: Any) -> Node:
    """A transposed convolution of stride 2; an attribute is a number for all axes, or a tuple."""
    rank = x.tensor.rank - 2
    groups, bias = attrs.pop("groups", 1), attrs.pop("bias", True)
    weight = attrs.pop("weight", None) or n.parameter(
        x.shape[1], channels // groups, *(kernel,) * rank
    )
    rest = [n.parameter(channels, name="bias")] if bias else []
    given = {"stride": 2, "padding": 0, "output_padding": 0, "dilation": 1, **attrs}
    tuples = {k: v if isinstance(v, tuple) else (v,) * rank for k, v in given.items()}
    return n("conv_transpose", x, weight, *rest, **tuples, groups=groups)


CASES: dict[str, tuple[Make, str]] = {
    "stride 1": (lambda n, x: _transposed(n, x, stride=1), "conv"),
    "stride 1, dilated": (lambda n, x: _transposed(n, x, stride=1, dilation=2), "conv"),
    "stride 1, cropped": (
        lambda n, x: _transposed(n, x, kernel=2, stride=1, padding=2),
        "slice slice conv",
    ),
    "as in a generator": (lambda n, x: _transposed(n, x, padding=1), _FOUR),
    "as in a U-Net": (lambda n, x: _transposed(n, x, kernel=2), _FOUR),
    "odd": (lambda n, x: _transposed(n, x, 3, padding=1, output_padding=1), _FOUR),
    "an odd result": (lambda n, x: _transposed(n, x, 3), _FOUR),
    "groups": (lambda n, x: _transposed(n, x, groups=2), _FOUR),
    "depthwise": (lambda n, x: _transposed(n, x, channels=4, groups=4), _FOUR),
    "no bias": (lambda n, x: _transposed(n, x, bias=False), _FOUR),
    "one axis": (lambda n, x: _transposed(n, x, stride=(1, 3)), "conv conv conv interleave"),
    "one axis, the other dilated": (
        lambda n, x: _transposed(n, x, stride=(2, 1), dilation=(1, 2)),
        "conv conv interleave",
    ),
    "strided and dilated": (lambda n, x: _transposed(n, x, dilation=2), "conv_transpose"),
    "a kernel shorter than the stride": (
        lambda n, x: _transposed(n, x, 1, stride=(1, 2)),
        "conv expand interleave",
    ),
    "so without a bias": (
        lambda n, x: _transposed(n, x, 1, stride=(1, 2), bias=False),
        "conv interleave",
    ),
    "many phases": (lambda n, x: _transposed(n, x, 16, stride=8, padding=4), _ONE),
    "many phases, no overlap": (lambda n, x: _transposed(n, x, 5, stride=5, bias=False), _ONE),
    "many phases, an odd result": (
        lambda n, x: _transposed(n, x, 7, stride=(5, 4), padding=(0, 3), output_padding=(2, 1)),
        f"{_ONE} slice slice",
    ),
    "many phases, short kernel": (
        lambda n, x: _transposed(n, x, 3, stride=6, padding=1),
        f"{_ONE} slice slice",
    ),
    "many phases, cropped": (
        lambda n, x: _transposed(n, x, 5, stride=5, padding=6),
        f"slice slice {_ONE} slice slice",
    ),
    "many phases in groups": (
        lambda n, x: _transposed(n, x, 8, stride=8, groups=2),
        "conv_transpose",
    ),
    "a weight that is computed": (
        lambda n, x: _transposed(n, x, weight=n("reshape", _alone(n, x), shape=(4, 6, 1, 6))),
        "slice reshape conv_transpose",
    ),
    "an operator behind": (
        lambda n, x: n("relu", _transposed(n, x, kernel=2)),
        "conv relu conv relu conv relu conv relu interleave",
    ),
    "a scale of channels behind": (
        lambda n, x: n("mul", n.parameter(6, 1, 1), _transposed(n, x, 2, stride=(1, 2))),
        "conv mul conv mul interleave",
    ),
    "a scale of places behind": (
        lambda n, x: n("mul", n.parameter(6, 1, 12), _transposed(n, x, 2, stride=(1, 2))),
        "conv conv interleave mul",
    ),
    "a sum of two": (
        lambda n, x: n("add", *(_transposed(n, x, 2, stride=(1, 2)) for _ in range(2))),
        "conv conv add conv conv add interleave",
    ),
    "a residual": (
        lambda n, x: n(
            "add", _transposed(n, x, 3, 4, stride=(1, 2)), n.input(B, 4, 8, 13, name="r")
        ),
        "conv conv interleave add",
    ),
}


def _alone(n: Any, x: Node) -> Node:
    return n("slice", x, axis=0, start=0, stop=1, step=1)


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str, net: Net, becomes: Any) -> None:
    make, expected = CASES[name]
    after = becomes(phases, net.graph(make(net, net.images())), expected)
    assert after.outputs


def test_two_users_keep_the_whole(net: Net, becomes: Any) -> None:
    y = _transposed(net, net.images(), 2, stride=(1, 2))
    becomes(phases, net.graph(net("relu", y), net("exp", y)), "conv conv interleave relu exp")


@pytest.mark.parametrize("shape", [(B, 4, 7), (B, 4, 3, 4, 2)])
def test_other_ranks(shape: tuple[Any, ...], net: Net, becomes: Any) -> None:
    y = _transposed(net, net.input(*shape), 3, padding=1, output_padding=1)
    parts = 2 ** (len(shape) - 2)
    becomes(phases, net.graph(y), " ".join(["conv"] * parts + ["interleave"]))


def test_a_batch_norm_goes_into_the_weights_first(net: Net, ops: Callable[[Graph], str]) -> None:
    y = net("relu", net.batch_norm(_transposed(net, net.images(), kernel=2)))
    assert ops(run(net.graph(y))).replace("relu ", "") == _FOUR
