"""Sums over the batch: image by image, shared by those who want the same, and right."""

from __future__ import annotations

import functools

import pytest

from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.registry import builder
from sol.plan.sums import image_by_image
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits


def _map(b: Builder, channels: int, size: int, last: bool) -> Node:
    """A map, row-major or with its channels innermost."""
    if not last:
        return b.input("x", TensorType((B, channels, size, size), F32))
    x = b.input("x", TensorType((B, size, size, channels), F32))
    return b.add("permute", x, axes=(0, 3, 1, 2))


def _statistics(channels: int, size: int, last: bool) -> Graph:
    """Mean and variance of a batch, and the map normalised by them."""
    b = builder()
    x = _map(b, channels, size, last)
    mean = b.add("mean", x, axes=(0, 2, 3), keepdims=False)
    var = b.add("var", x, axes=(0, 2, 3), correction=0.0, keepdims=False)
    total = b.add("sum", b.add("mul", x, x), axes=(0, 2, 3), keepdims=True)
    normal = b.add("batch_norm", x, mean, var, eps=1e-5, affine=False)
    return b.finish([mean, var, total, normal])


def _ops(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    return [(n.op, n["axes"]) for n in graph if n.op in ("mean", "sum")]


def test_two_steps_that_are_shared() -> None:
    b = builder()
    x = _map(b, 5, 9, False)
    narrow = b.add("mean", x, axes=(0, 2, 3), keepdims=False)
    wide = b.add("mean", x, axes=(0, 2, 3), keepdims=True)
    graph = image_by_image(b.finish([narrow, wide]))
    assert _ops(graph) == [("mean", (2, 3)), ("mean", (0,))]
    assert [graph[o].shape for o in graph.outputs] == [(5,), (1, 5, 1, 1)]


@pytest.mark.parametrize("axes", [(0,), (2, 3), (0, 1)])
def test_others_stay(axes: tuple[int, ...]) -> None:
    b = builder()
    x = _map(b, 5, 9, False)
    graph = b.finish([b.add("sum", x, axes=axes, keepdims=False)])
    assert _ops(image_by_image(graph)) == [("sum", axes)]  # small, or of single images


@functools.cache
def program() -> Joined:
    """Maps of both orders, of many and few channels."""
    sizes = ((3, 9), (16, 8), (35, 21), (96, 12), (150, 9))
    return build_joined(
        [
            Case(f"{c} channels, {s}, {last}", _statistics(c, s, last))
            for c, s in sizes
            for last in (False, True)
        ]
    )


@pytest.mark.parametrize("batch", [1, 5])
def test_statistics_agree_with_the_reference(batch: int) -> None:
    compare(program(), batch, threads=2)


def test_threads_change_no_bit() -> None:
    assert same_bits(program().run(3, 1), program().run(3, 2))
