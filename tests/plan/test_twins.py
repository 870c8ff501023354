"""Sums over the same map are one cluster, and right."""

from __future__ import annotations

import pytest

from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Graph, TensorType
from sol.ops.registry import builder
from sol.plan.planner import make_plan
from tests.compiler.programs import Case, build_joined, compare, same_bits

CHANNELS = {"whole vectors": 64, "tails": 83, "few": 3}


def sums(channels: int, follows: bool = False) -> Graph:
    """Of the gradient of a batch normalisation, and one that needs the first of them, or does
    not."""
    b = builder()
    x, dy = (
        b.add("permute", b.input(n, TensorType((B, 9, 18, channels), F32)), axes=(0, 3, 1, 2))
        for n in ("x", "dy")
    )
    mean = b.input("mean", TensorType((channels, 1, 1), F32))
    axes = {"axes": (0, 2, 3), "keepdims": False}
    total = b.add("sum", dy, **axes)
    if follows:
        mean = b.add("reshape", total, shape=(channels, 1, 1))
    along = b.add("sum", b.add("mul", dy, b.add("sub", x, mean)), **axes)
    return b.finish([along, total, b.add("mean", b.add("exp", x), **axes)])


def clusters(graph: Graph) -> list[tuple[str, ...]]:
    """Of sums of images."""
    values = [c.values for c in make_plan(graph).plan.clusters]
    return [v for v in values if v[0].endswith("of_images")]


def test_sums_over_the_same_map_are_one_cluster() -> None:
    assert clusters(sums(16)) == [("sum_of_images", "sum_1_of_images"), ("mean_1_of_images",)]


def test_a_sum_that_needs_another_one_comes_after_it() -> None:
    found = clusters(sums(16, follows=True))
    assert found[0] == ("sum_of_images",)
    assert len(found) == 3 or found[1:] == [("sum_1_of_images", "mean_1_of_images")]


@pytest.mark.parametrize("follows", [False, True])
def test_they_are_right(follows: bool) -> None:
    program = build_joined([Case(n, sums(c, follows)) for n, c in CHANNELS.items()])
    compare(program, 5)
    assert same_bits(program.run(5, 1), program.run(5, 2))
