"""Strassen's algorithm: the sums are those of a product of halves, and the kernel is right for
every kind of layer and blocking, whatever the estimates would choose.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sol.steps
from sol.compiler import Options, compile_graph, lower
from sol.core.device import CpuDevice, detect
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.kernels import strassen
from sol.kernels.blocks import Blocking
from sol.kernels.choice import Strassen
from sol.kernels.strassen import halves_of
from sol.ops.registry import builder
from sol.plan.planner import make_plan
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

End = Callable[[Builder, Node], Node]


def test_seven_products_are_a_product() -> None:
    """In whole numbers."""
    rng = np.random.default_rng(0)
    a, w = rng.integers(-9, 9, (2, 2, 2))
    left, right = (np.array(m) for m in (strassen._LEFT, strassen._RIGHT))
    products = (left @ a.ravel()) * (right @ w.ravel())
    np.testing.assert_array_equal(np.array(strassen._RESULT) @ products, (a @ w).ravel())


# ---- layers --------------------------------------------------------------------------------------


def _relu(b: Builder, y: Node) -> Node:
    return b.add("relu", y)


def _residual(b: Builder, y: Node) -> Node:
    return b.add("add", b.input("residual", y.tensor), b.add("silu", y))


def _scaled(b: Builder, y: Node) -> Node:
    scale = b.parameter("scale", TensorType((1, y.shape[1], 1, 1), F32))
    return b.add("mul", b.add("silu", y), scale)


def tokens(
    name: str,
    rows: int,
    depth: int,
    columns: int,
    end: End = _relu,
    bias: bool = True,
    alike: bool = False,
) -> Case:
    """A linear layer of each of some tokens, all numbers of a token alike or not."""
    b = builder()
    x = b.input("x", TensorType((B, rows, 1 if alike else depth), F32))
    x = b.add("expand", x, shape=(B, rows, depth)) if alike else x
    w = b.parameter("weight", TensorType((columns, depth), F32))
    more = [b.parameter("bias", TensorType((columns,), F32))] if bias else []
    y = b.add("linear", b.add("relu", x), w, *more)
    return Case(name, b.finish([end(b, y)]), -1, 1, tolerance=3.0)


def pointwise(
    name: str, size: tuple[int, int], depth: int, columns: int, stride: int = 1, end: End = _relu
) -> Case:
    """A 1x1 convolution between two layers that keep channels innermost."""
    b = builder()
    x = b.input("x", TensorType((B, 3, *size), F32))
    before = b.parameter("before", TensorType((depth, 3, 1, 1), F32))
    more = {"padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    x = b.add("relu", b.add("conv", x, before, stride=(1, 1), **more))
    w = b.parameter("weight", TensorType((columns, depth, 1, 1), F32))
    y = end(b, b.add("conv", x, w, stride=(stride, stride), **more))
    after = b.parameter("after", TensorType((7, columns, 1, 1), F32))
    y = b.add("conv", y, after, stride=(1, 1), **more)
    return Case(name, b.finish([y]), -1, 1, tolerance=3.0)


LAYERS = (
    tokens("even", 40, 64, 96),
    tokens("an odd row", 41, 34, 64, end=_residual),
    tokens("columns of no vector", 36, 32, 42, bias=False),
    tokens("many columns", 34, 16, 640),
    tokens("long sum", 33, 1700, 32),
    tokens("numbers alike", 32, 48, 32, alike=True),
    pointwise("map", (9, 7), 36, 64, end=_scaled),
    pointwise("stride", (12, 13), 32, 80, stride=2),
)


def _forced(rows: int, tiles: int, vectors: int, share: int) -> Callable[..., Strassen | None]:
    """A choice that takes the algorithm wherever it can."""

    def choose(plan: Any, cluster: Any, device: CpuDevice, *_: Any) -> Strassen | None:
        lanes = device.vector_lanes(4)
        layer = halves_of(plan, cluster, lanes)
        if layer is None:
            return None
        wide = -(-layer.sizes.columns // lanes)
        v, r = min(vectors, wide), min(rows, layer.sizes.pairs)
        cut = Blocking(r, v, lanes, -(-tiles // r) * r, min(share * v, -(-wide // v) * v))
        return Strassen(layer, cut, 1.0, 2.0)

    return choose


BLOCKINGS = {"one block": _forced(4, 1000, 2, 1000), "small blocks": _forced(5, 6, 3, 1)}


@functools.cache
def program(blocking: str, isa: str) -> Joined:
    """All layers as one program, by the algorithm wherever it can be used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sol.steps, "choose_fast", BLOCKINGS[blocking])
        return build_joined(LAYERS, detect(isa), flags=("-O1",))


@pytest.mark.parametrize("blocking", BLOCKINGS)
def test_every_layer(blocking: str) -> None:
    joined = program(blocking, detect().isa)
    used = sum("Strassen" in m.why for m in joined.compiled.steps)
    assert used == len(LAYERS)
    for batch in (1, 3):
        compare(joined, batch)
    assert same_bits(joined.run(2, threads=1), joined.run(2, threads=2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("blocking", BLOCKINGS)
def test_infinities_stay_in_their_row(blocking: str, value: float) -> None:
    """The other row of a pair, whose sums meet them, is computed without."""
    joined, number = program(blocking, detect().isa), 4  # a sum in several chunks
    case, rows = LAYERS[number], 33
    x = case.array(case.graph["x"], 1)

    def results(given: Any) -> Any:
        cases = list(LAYERS)
        cases[number] = replace(case, given={"x": given})
        return replace(joined, cases=tuple(cases)).run(1)[number][0]

    planted = x.copy()
    planted[0, 3, 5] = value
    clean, found = results(x), results(planted)
    others = [k for k in range(rows) if k != 3]
    np.testing.assert_allclose(found[0, others], clean[0, others], atol=1e-4)
    assert not np.isfinite(found[0, 3]).all()


# ---- the choice ----------------------------------------------------------------------------------


def _whys(graph: Graph, precision: Any = "float32") -> list[str]:
    device = replace(detect("avx512"), cores=2) if detect().isa == "avx512" else detect()
    planned = make_plan(graph, False, device.vector_lanes(4))
    return [m.why for m in lower(planned, device, Options(precision=precision)) if m.packed]


def test_large_layers_are_worth_it() -> None:
    large = tokens("large", 197, 768, 3072).graph
    assert "Strassen" in _whys(large)[0]
    assert "Strassen" not in _whys(tokens("narrow", 197, 64, 256).graph)[0]
    assert "Strassen" not in _whys(tokens("few rows", 20, 768, 3072).graph)[0]


@pytest.mark.parametrize("precision", ["careful", "strict"])
def test_not_where_nothing_may_be_lost(precision: str) -> None:
    assert "Strassen" not in _whys(tokens("large", 197, 768, 3072).graph, precision)[0]


def test_rounding_errors_are_small() -> None:
    """Beside those of a plain sum: far below 1e-4 of the largest result."""
    b = builder()
    x = b.input("x", TensorType((B, 96, 512), F32))
    w = b.parameter("w", TensorType((512, 512), F32))
    graph = b.finish([b.add("linear", x, w)])
    compiled = compile_graph(graph)
    assert "Strassen" in compiled.steps[0].why
    assert compiled.rounds_more
    rng = np.random.default_rng(0)
    weight, rows = (rng.standard_normal(s).astype("f4") for s in ((512, 512), (1, 96, 512)))
    compiled.prepare({"w": weight})
    found = np.empty((1, 96, 512), "f4")
    compiled.run([rows.ctypes.data], [found.ctypes.data], 1, 1)
    exact = rows.astype("f8") @ weight.astype("f8").T
    assert np.max(np.abs(found - exact)) < 2e-6 * np.max(np.abs(exact))
