"""Lanes over loads that a condition guards: the gradient of max-pooling goes through vectors."""

from __future__ import annotations

import functools

import pytest

from sol.core.dims import B
from sol.core.dtypes import F32, U8
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.registry import builder
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

# channels, size, kernel, stride, padding, dilation
WINDOWS = {
    "overlapping": (20, 13, 3, 2, 1, 1),
    "apart": (35, 12, 2, 2, 0, 1),
    "gaps": (16, 11, 2, 3, 0, 1),
    "dilated": (18, 12, 2, 2, 1, 2),
    "dense": (17, 6, 3, 1, 1, 1),
}


def _last(b: Builder, name: str, channels: int, size: int) -> Node:
    """A map whose channels lie innermost."""
    x = b.input(name, TensorType((B, size, size, channels), F32))
    return b.add("permute", x, axes=(0, 3, 1, 2))


def _gradient(name: str) -> Graph:
    """The gradient of relu and max-pooling, and places as bytes."""
    channels, size, kernel, stride, padding, dilation = WINDOWS[name]
    two = {
        k: (v, v)
        for k, v in (
            ("kernel", kernel), ("stride", stride), ("padding", padding), ("dilation", dilation)
        )
    }  # fmt: skip
    b = builder()
    x = b.add("relu", _last(b, "x", channels, size))
    y = b.add("max_pool", x, ceil=False, **two)
    dy = _last(b, "dy", channels, int(str(y.shape[2])))
    byte = b.add("cast", b.add("max_pool_index", x, y, **two), dtype=U8)
    place = b.add("cast", byte, dtype=F32)
    dx = b.add("spread", dy, place, size=(size, size), **two)
    zero = b.constant(0.0, F32)
    dx = b.add("where", b.add("le", x, zero), zero, dx)
    return b.finish([b.add("permute", r, axes=(0, 2, 3, 1)) for r in (dx, byte)])


@functools.cache
def program() -> Joined:
    """All windows in one program."""
    return build_joined([Case(name, _gradient(name)) for name in WINDOWS])


@pytest.mark.parametrize("batch", [1, 3])
def test_gradients_agree_with_the_reference(batch: int) -> None:
    compare(program(), batch)
    assert same_bits(program().run(batch, 1), program().run(batch, 2))


def test_places_of_maxima_are_compared_in_vectors() -> None:
    alone = build_joined([Case("whole vectors", _gradient("gaps"))])
    text = "".join(alone.compiled.source.units)
    assert "== set_" in text
    assert "== ((float)" not in text
    assert "storeu_16(" in text or "storeu_8(" in text or "storeu_4(" in text
    assert "loadu_" in text
