"""Attention written out in the ways that models do it becomes one operator; what is not stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sol.core.dims import B, Dim
from sol.core.dtypes import BOOL, F64, I64
from sol.ir.graph import Graph, Node
from sol.passes.canonical import canonical
from sol.passes.duplicates import dead, duplicates
from sol.passes.fold import fold

HEADS, LENGTH, WIDTH = 2, 5, 3
LOWEST = float(np.finfo(np.float32).min)


def prepared(graph: Graph) -> Graph:
    """What canonical requires, and canonical, until nothing changes."""
    while True:
        after = canonical(duplicates(dead(fold(graph))))
        if after is graph:
            return graph
        graph = after


class Parts:
    """q, k, v and what is made of them."""

    def __init__(self, net: Any, batch: Any = B) -> None:
        self.net = net
        shape = (batch, HEADS, LENGTH, WIDTH)
        self.q, self.k, self.v = (net.input(*shape, name=n) for n in "qkv")

    def scores(self, q: Node | None = None, k: Node | None = None) -> Node:
        key = self.net("permute", k or self.k, axes=(0, 1, 3, 2))
        return self.net("matmul", q or self.q, key)

    def finish(self, scores: Node) -> Node:
        weights = self.net("softmax", scores, axis=scores.tensor.rank - 1)
        return self.net("matmul", weights, self.v)

    def triangle(self) -> Node:
        """True where a query may attend: to itself and what is before it."""
        return self.net.constant(np.tri(LENGTH, dtype=bool), BOOL)


Make = Callable[[Any, Parts], Node]


def _eager_bert(n: Any, p: Parts) -> Node:
    mask = n.input(B, 1, 1, LENGTH, dtype=I64, name="mask")
    hidden = n("mul", n("sub", 1.0, n("cast", mask, dtype=F64)), LOWEST)
    return p.finish(n("add", n("div", p.scores(), WIDTH**0.5), hidden))


def _eager_gpt2(n: Any, p: Parts) -> Node:
    scores = n("div", p.scores(), n("expand", n.constant(WIDTH**0.5), shape=(1,)))
    return p.finish(n("where", p.triangle(), scores, n.constant(LOWEST)))


def _t5(n: Any, p: Parts) -> Node:
    table = n.parameter(4, HEADS)
    bias = n("take", table, n.constant(np.arange(25).reshape(5, 5) % 4, I64), axis=0)
    bias = n("permute", n("reshape", bias, shape=(1, 5, 5, HEADS)), axes=(0, 3, 1, 2))
    return p.finish(n("add", p.scores(), bias))


def _filled_with_infinity(n: Any, p: Parts) -> Node:
    hidden = n("logical_not", p.triangle())
    return p.finish(n("where", hidden, n.constant(-np.inf), n("mul", p.scores(), 0.5)))


STRAIGHT: dict[str, tuple[Make, str]] = {
    "plain": (lambda n, p: p.finish(p.scores()), "attention"),
    "scaled": (lambda n, p: p.finish(n("mul", p.scores(), 0.3)), "attention"),
    "divided": (lambda n, p: p.finish(n("div", p.scores(), 3.0)), "attention"),
    "queries scaled": (lambda n, p: p.finish(p.scores(q=n("mul", 0.3, p.q))), "attention"),
    "both scaled": (
        lambda n, p: p.finish(p.scores(q=n("mul", p.q, 0.3), k=n("div", p.k, 3.0))),
        "attention",
    ),
    "scaled by a parameter per head": (
        lambda n, p: p.finish(n("mul", p.scores(), n.parameter(HEADS, 1, 1))),
        "mul attention",
    ),
    "mask of parameters": (
        lambda n, p: p.finish(n("add", n.parameter(HEADS, LENGTH, LENGTH), p.scores())),
        "attention",
    ),
    "mask before the scale": (
        lambda n, p: p.finish(n("mul", n("add", p.scores(), n.parameter(5, 5)), 0.3)),
        "attention",
    ),
    "mask with -inf": (
        lambda n, p: p.finish(
            n("add", p.scores(), n.constant(np.where(np.tri(5) > 0, 0.0, -np.inf)))
        ),
        "attention",
    ),
    "two masks": (
        lambda n, p: p.finish(n("add", n("add", p.scores(), n.parameter(5, 5)), n.parameter(5))),
        "attention",
    ),
    "BERT": (_eager_bert, "cast sub mul attention"),
    "GPT-2": (_eager_gpt2, "attention"),
    "T5": (_t5, "attention"),
    "filled with -inf, never a whole row": (_filled_with_infinity, "attention"),
}

# attention would give 0 where these give NaN, or is not what is computed
KEPT: dict[str, Make] = {
    "a mask that the caller passes": lambda n, p: p.finish(
        n("add", p.scores(), n.input(B, 1, 5, 5, name="mask"))
    ),
    "-inf where the caller says": lambda n, p: p.finish(
        n("where", n.input(5, 5, dtype=BOOL, name="mask"), n.constant(-np.inf), p.scores())
    ),
    "a hidden row": lambda n, p: p.finish(
        n("add", p.scores(), n.constant(np.where(np.arange(5)[:, None] == 2, -np.inf, 0.0)))
    ),
    "masks that hide a row together": lambda n, p: p.finish(
        n(
            "add",
            n("add", p.scores(), n.constant([0.0, -np.inf, 0.0, -np.inf, 0.0])),
            n.constant([-np.inf, 0.0, -np.inf, 0.0, -np.inf]),
        )
    ),
    "-inf that may have moved": lambda n, p: p.finish(
        n(
            "add",
            p.scores(),
            n(
                "gather",
                n.constant(np.where(np.tri(5) > 0, 0.0, -np.inf)),
                n.input(5, 5, dtype=I64, name="i"),
                axis=1,
            ),
        )
    ),
    "a mask under a scale per head": lambda n, p: p.finish(
        n("mul", n("add", p.scores(), n.parameter(5)), n.parameter(HEADS, 1, 1))
    ),
    "the logarithm of a mask": lambda n, p: p.finish(
        n("add", p.scores(), n("log", n("relu", n.parameter(5, 5))))
    ),
    "filled with a high number": lambda n, p: p.finish(
        n("where", p.triangle(), p.scores(), n.constant(-100.0))
    ),
    "divided the other way": lambda n, p: p.finish(n("div", 3.0, n("exp", p.scores()))),
    "softmax over queries": lambda n, p: n("matmul", n("softmax", p.scores(), axis=2), p.v),
    "a function in between": lambda n, p: p.finish(n("tanh", p.scores())),
}


@pytest.mark.parametrize("name", STRAIGHT)
def test_attention_is_found(name: str, net: Any, becomes: Any) -> None:
    make, expected = STRAIGHT[name]
    becomes(prepared, net.graph(make(net, Parts(net))), expected)


@pytest.mark.parametrize("name", KEPT)
def test_other_things_are_not_attention(name: str, net: Any, same: Any) -> None:
    before = net.graph(KEPT[name](net, Parts(net)))
    after = prepared(before)
    assert "attention" not in {n.op for n in after}
    same(before, after)


def test_weights_that_are_a_result_stay(net: Any) -> None:
    p = Parts(net)
    weights = net("softmax", p.scores(), axis=3)
    after = prepared(net.graph(net("matmul", weights, p.v), weights))
    assert "attention" not in {n.op for n in after}


WINDOWS = 4


def _swin(n: Any, mask: Node) -> Node:
    """Windows of several images as one batch; each window of an image has a mask of its own."""
    p = Parts(n, batch=Dim(WINDOWS))
    scores = n("add", p.scores(q=n("mul", p.q, 0.5)), n.parameter(1, HEADS, LENGTH, LENGTH))
    split = n("reshape", scores, shape=(B, WINDOWS, HEADS, LENGTH, LENGTH))
    masked = n("reshape", n("add", split, mask), shape=scores.shape)
    return p.finish(masked)


def test_masks_of_windows(net: Any, becomes: Any) -> None:
    values = np.where(np.random.default_rng(0).random((1, WINDOWS, 1, 5, 5)) < 0.5, -100.0, 0.0)
    graph = net.graph(_swin(net, net.constant(values)))
    after = becomes(prepared, graph, "reshape reshape reshape attention reshape")
    (node,) = (n for n in after if n.op == "attention")
    assert node.shape == (B, WINDOWS, HEADS, LENGTH, 3)
    assert node["scale"] == 0.5


def test_a_mask_that_does_not_fit_the_windows(net: Any, same: Any) -> None:
    before = net.graph(_swin(net, net.parameter(1, WINDOWS, HEADS, 5, 5)))
    same(before, prepared(before))


def test_repeated_heads(net: Any, becomes: Any) -> None:
    q = net.input(B, 6, LENGTH, WIDTH, name="q")

    def repeated(name: str) -> Node:
        x = net.input(B, 2, LENGTH, WIDTH, name=name)
        split = net("reshape", x, shape=(B, 2, 1, LENGTH, WIDTH))
        wide = net("expand", split, shape=(B, 2, 3, LENGTH, WIDTH))
        return net("reshape", wide, shape=(B, 6, LENGTH, WIDTH))

    y = net(
        "attention", q, repeated("k"), repeated("v"), net.parameter(LENGTH, LENGTH),
        scale=0.5, causal=False, groups=1,
    )  # fmt: skip
    after = becomes(prepared, net.graph(y), "attention")
    assert after[after.outputs[0]]["groups"] == 3


# ---- masks of attention that is one operator already --------------------------


def _masked(net: Any, mask: Node) -> Graph:
    p = Parts(net)
    return net.graph(net("attention", p.q, p.k, p.v, mask, scale=0.5, causal=False, groups=1))


TRIANGLE = np.tri(LENGTH, dtype=bool)
CAUSAL: dict[str, Callable[[Any], Node]] = {
    "booleans": lambda n: n.constant(TRIANGLE, BOOL),
    "booleans of more axes": lambda n: n.constant(TRIANGLE[None, None], BOOL),
    "booleans for each image": lambda n: n(
        "expand", n.constant(TRIANGLE, BOOL), shape=(B, HEADS, LENGTH, LENGTH)
    ),
    "-inf": lambda n: n.constant(np.where(TRIANGLE, 0.0, -np.inf)),
    "lowest number": lambda n: n.constant(np.where(TRIANGLE, 0.0, LOWEST)),
    "where": lambda n: n("where", n.constant(TRIANGLE, BOOL), 0.0, n.constant(LOWEST)),
    "where not": lambda n: n("where", n.constant(~TRIANGLE, BOOL), n.constant(LOWEST), 0.0),
    "positions": lambda n: n(
        "le", n.constant(np.arange(5)[None], I64), n.constant(np.arange(5)[:, None], I64)
    ),
}
OTHER: dict[str, Callable[[Any], Node]] = {
    "the other triangle": lambda n: n.constant(TRIANGLE.T, BOOL),
    "one row for all": lambda n: n.constant(TRIANGLE[:1], BOOL),
    "of each head": lambda n: n.constant(np.stack([TRIANGLE, TRIANGLE.T]), BOOL),
    "a bias too": lambda n: n.constant(np.where(TRIANGLE, 0.5, -np.inf)),
    "not low enough": lambda n: n.constant(np.where(TRIANGLE, 0.0, -9.0)),
    "strictly before": lambda n: n(
        "le", n.constant(np.arange(5)[None], I64), n.constant(np.arange(5)[:, None] + 1, I64)
    ),
    "a parameter": lambda n: n.parameter(LENGTH, LENGTH),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_the_causal_mask_is_found(name: str, net: Any, becomes: Any) -> None:
    after = becomes(canonical, _masked(net, CAUSAL[name](net)), "attention")
    node = after[after.outputs[0]]
    assert node["causal"]
    assert len(node.inputs) == 3


@pytest.mark.parametrize("name", OTHER)
def test_other_masks_stay(name: str, net: Any, becomes: Any) -> None:
    after = becomes(canonical, _masked(net, OTHER[name](net)), "attention")
    assert not after[after.outputs[0]]["causal"]
    assert len(after[after.outputs[0]].inputs) == 4


def test_a_mask_that_allows_all_goes(net: Any, becomes: Any) -> None:
    masks = (lambda n: n("full", shape=(5, 5), value=True, dtype=BOOL), lambda n: n.constant(0.0))
    for mask in masks:
        fresh = type(net)()
        after = becomes(canonical, _masked(fresh, mask(fresh)), "attention")
        assert len(after[after.outputs[0]].inputs) == 3


def test_a_mask_that_forbids_all_stays(net: Any, becomes: Any) -> None:
    mask = net("full", shape=(5, 5), value=False, dtype=BOOL)
    after = becomes(canonical, _masked(net, mask), "attention")
    assert len(after[after.outputs[0]].inputs) == 4
