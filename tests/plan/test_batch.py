"""Which networks treat the images of a batch independently, so that a batch may be cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sol.core.dims import B
from sol.core.dtypes import F32, I64
from sol.ir.graph import Node
from tests.plan.networks import Net, planned


def is_splittable(*results: Node, net: Net) -> bool:
    """What the plan says of a network with these results."""
    return planned(net.graph(*results)).plan.splittable


def _attention(n: Net) -> Node:
    q = n.input(B, 2, 16, 8)
    return n("attention", q, q, q, scale=1.0, causal=True, groups=1)


def _gru(n: Net) -> Node:
    shapes = ((12, 8), (12, 4))
    weights = [n.parameter(*shape) for shape in shapes]
    state = n("expand", n.constant([[[0.0] * 4]]), shape=(1, B, 4))
    attrs = {"layers": 1, "bidirectional": False, "bias": False, "batch_first": True}
    gru = n("gru", n.input(B, 5, 8), state, *weights, **attrs)
    return n.builder.add("item", gru, index=0)


def _there_and_back(n: Net) -> Node:
    y = n("permute", n.images(), axes=(2, 3, 0, 1))
    return n("permute", n("tanh", y), axes=(2, 3, 0, 1))


def _windows(n: Net) -> Node:
    """As in a Swin transformer: the first axis is images and windows, images outermost."""
    x = n("reshape", n.input(B, 4, 5, 6), shape=(B * 4, 5, 6))
    return n("reshape", n("softmax", x, axis=1), shape=(B, 4, 5, 6))


def _embedding(n: Net) -> Node:
    table = n.parameter(10, 4)
    return n("take", table, n.input(B, 3, dtype=I64), axis=0)


def _slices(n: Net) -> Node:
    x = n("slice", n.images(), axis=2, start=1, stop=5, step=2)
    return n("concat", x, n("neg", x), axis=1)


def _of_windows(n: Net) -> Node:
    """Each window of an image has a mask of its own."""
    x = n("reshape", n.input(B, 4, 5, 6), shape=(B * 4, 5, 6))
    masks = n("reshape", n.parameter(4, 5, 6), shape=(1, 4, 5, 6))
    y = n("add", n("reshape", x, shape=(B, 4, 5, 6)), masks)
    return n("reshape", n("tril", n("reshape", y, shape=(B, 20, 6)), diagonal=1), shape=(B, 120))


INDEPENDENT: dict[str, Callable[[Net], Node]] = {
    "masks of windows": _of_windows,
    "conv": lambda n: n("relu", n.conv(n.images())),
    "pooling": lambda n: n.pool(n.images()),
    "linear": lambda n: n.linear(n("reshape", n.images(), shape=(B, 144))),
    "mean of an image": lambda n: n.reduce("mean", n.images(), 1, 2, 3),
    "softmax of an image": lambda n: n("softmax", n.images(), axis=1),
    "roll inside": lambda n: n("roll", n.images(), axes=(1, 2), shifts=(1, 1)),
    "flip inside": lambda n: n("flip", n.images(), axes=(3,)),
    "batch_norm": lambda n: n.batch_norm(n.images()),
    "parameter": lambda n: n("add", n.images(), n.parameter(4, 6, 6)),
    "attention": _attention,
    "recurrent layer": _gru,
    "there and back": _there_and_back,
    "windows": _windows,
    "embedding": _embedding,
    "slices": _slices,
    "product of an image": lambda n: n(
        "matmul", x := n.input(B, 16, 16), n("permute", x, axes=(0, 2, 1))
    ),
}


def _neighbours(n: Net) -> Node:
    """A roll over the batch, as people write it."""
    x = n.input(B, 8)
    rest = n("slice", x, axis=0, start=1, stop=B, step=1)
    return n("concat", rest, n("slice", x, axis=0, start=0, stop=1, step=1), axis=0)


def _mixed(n: Net) -> Node:
    """An element of image i lands in image (something else) of as large a batch."""
    return n("reshape", n("permute", n.input(B, 4), axes=(1, 0)), shape=(B, 4))


def _minor(n: Net) -> Node:
    return n("reshape", n("permute", n.input(B, 4), axes=(1, 0)), shape=(B * 4,))


def _less_the_mean(n: Net) -> Node:
    x = n.images()
    return n("sub", x, n.reduce("mean", x, 0))


DEPENDENT: dict[str, Callable[[Net], Node]] = {
    "mean over the batch": _less_the_mean,
    "max over the batch": lambda n: n.reduce("max_reduce", n.images(), 0),
    "roll over the batch": _neighbours,
    "flip over the batch": lambda n: n("flip", n.images(), axes=(0,)),
    "softmax over the batch": lambda n: n("softmax", n.input(B, 4), axis=0),
    "cumsum over the batch": lambda n: n("cumsum", n.input(B, 4), axis=0),
    "concat along the batch": lambda n: n("concat", x := n.images(), x, axis=0),
    "repeat of the batch": lambda n: n("repeat", n.images(), repeats=(2, 1, 1, 1)),
    "without the first image": lambda n: n("slice", n.images(), axis=0, start=1, stop=B, step=1),
    "pad of the batch": lambda n: n(
        "pad", n.input(B, 4), low=(1, 0), high=(0, 0), mode="constant", value=0.0
    ),
    "elements in another order": _mixed,
    "images innermost": _minor,
    "a transposed result": lambda n: n("permute", n.input(B, 4), axes=(1, 0)),
    "a transposed input": lambda n: n("permute", n.input(4, B), axes=(1, 0)),
    "numbers of images": lambda n: n(
        "add", n.images(), n("iota", shape=(B, 1, 1, 1), axis=0, dtype=F32)
    ),
    "a triangle over the batch": lambda n: n("tril", n.input(B, 4), diagonal=0),
    "a table by numbers of images": lambda n: n(
        "add",
        n.input(B, 4),
        n("take", n.parameter(10, 4), n("iota", shape=(B,), axis=0, dtype=I64), axis=0),
    ),
    "no batch at all": lambda n: n("relu", n.input(3, 4)),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_independent_images(name: str) -> None:
    net = Net()
    assert is_splittable(INDEPENDENT[name](net), net=net)


@pytest.mark.parametrize("name", DEPENDENT)
def test_images_that_depend_on_each_other(name: str) -> None:
    net = Net()
    assert not is_splittable(DEPENDENT[name](net), net=net)


def test_every_result_has_to_be_of_images() -> None:
    net = Net()
    x, w = net.images(), net.parameter(4, 4)
    assert is_splittable(net("relu", x), net("exp", x), net=net)
    assert not is_splittable(net("relu", x), net("softmax", w, axis=1), net=net)


def test_an_input_without_a_batch_is_the_same_for_all() -> None:
    net = Net()
    scale = net.input(4, 1, 1, name="scale")
    assert is_splittable(net("mul", net.images(), scale), net=net)
