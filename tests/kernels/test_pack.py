"""Weights packed in native code are those that NumPy packs, for every kind of weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sol.plan.prepare
import sol.plan.scan  # noqa: F401  (registers packed_gates)
from sol.core.dtypes import F32
from sol.ir.graph import Node, TensorType
from sol.kernels.pack import GatesPacking, Packing
from sol.kernels.strassen import StrassenPacking
from sol.kernels.transform import Transform
from sol.kernels.winograd import WinogradPacking
from sol.kernels.winograd_sum import Taps
from sol.ops.reference import by_compute
from sol.ops.registry import infer
from sol.runtime.pack import fits, pack

PLAIN = [
    (Packing("conv", 1, (1, 2, 0), 2, 16), (33, 7, 3, 5)),
    (Packing("conv", 1, (1, 0, 2), 3, 16), (100, 3, 7, 7)),
    (Packing("conv", 4, (1, 2, 0), 1, 8), (36, 5, 3, 3)),
    (Packing("conv", 1, (1, 2, 3, 0), 3, 8), (17, 4, 1, 2, 3)),
    (Packing("linear", 1, (0,), 4, 16), (130, 65)),
    (Packing("linear", 1, (0,), 1, 4), (3, 2)),
    (Packing("deconv", 1, (1, 2, 0), 2, 16), (6, 20, 2, 2)),
    (Packing("deconv", 3, (1, 2, 0), 2, 4), (6, 9, 3, 1)),
    (Packing("deconv", 1, (0,), 1, 64), (20, 70)),
    (GatesPacking(4, 16), (68, 17)),
    (GatesPacking(1, 64), (130, 130)),
]


def _winograd(
    axes: list[tuple[int, int, int]], groups: int, vectors: int, lanes: int, share: int
) -> WinogradPacking:
    """axes: (results of a tile, taps, stride); one result is no transform."""
    taps = (Taps(Transform(m, -(-n // s) if m > 1 else 1), n, s) for m, n, s in axes)
    return WinogradPacking(tuple(taps), groups, vectors, lanes, share)


WINOGRAD = [
    (_winograd([(4, 3, 1), (2, 3, 1)], 1, 2, 16, 3), (90, 5, 3, 3)),
    (_winograd([(2, 3, 1), (2, 3, 1)], 2, 3, 8, 4), (124, 4, 3, 3)),
    (_winograd([(4, 3, 1), (4, 3, 1)], 1, 2, 16, 4), (40, 9, 3, 3)),
    (_winograd([(6, 3, 1), (2, 3, 1)], 2, 1, 8, 1), (20, 5, 3, 3)),
    (_winograd([(1, 2, 1), (4, 3, 1), (2, 3, 1)], 1, 3, 16, 3), (7, 3, 2, 3, 3)),
    (_winograd([(2, 5, 1), (1, 1, 1)], 1, 1, 4, 2), (5, 6, 5, 1)),
    (_winograd([(4, 3, 2), (3, 3, 2)], 1, 2, 16, 2), (36, 5, 3, 3)),
    (_winograd([(1, 3, 2), (2, 5, 2), (5, 3, 2)], 2, 1, 16, 1), (36, 2, 3, 5, 3)),
    (_winograd([(3, 4, 2), (2, 7, 3)], 1, 2, 8, 2), (20, 3, 4, 7)),
    (_winograd([(4, 3, 1), (2, 3, 2)], 1, 1, 16, 1), (9, 4, 3, 3)),
]
STRASSEN = [
    (StrassenPacking(2, 16), (88, 34)),
    (StrassenPacking(3, 8), (64, 12)),
]


@pytest.mark.parametrize(("packing", "shape"), [*PLAIN, *WINOGRAD, *STRASSEN])
@pytest.mark.parametrize("layout", ["contiguous", "turned", "reversed"])
def test_native_packing_is_numpys(packing: Any, shape: tuple[int, ...], layout: str) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    if layout == "turned":
        weight = np.asfortranarray(weight)
    if layout == "reversed":
        weight = weight[(slice(None), slice(None), *[slice(None, None, -1)] * (weight.ndim - 2))]
    recipe = packing.recipe(weight)
    wanted = packing.apply(weight)
    assert fits(weight, recipe)
    assert recipe.size == packing.size(shape) == wanted.size
    for threads in (1, 2):
        found = np.full(recipe.size, np.nan, np.float32)
        pack(weight, recipe, found, threads)
        if isinstance(packing, Packing | GatesPacking):
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "packing", "shape", "attrs"),
    [
        ("packed_gates", GatesPacking(3, 32), (105, 35), {"gates": 3, "units": 32}),
        ("packed_columns", Packing("deconv", 1, (0,), 1, 48), (105, 35), {"block": 48}),
    ],
)
def test_recurrent_weights_are_packed_as_their_operators_say(
    op: str, packing: Any, shape: tuple[int, int], attrs: dict[str, int]
) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    given = TensorType(shape, F32)
    type = infer(op, (given,), attrs)
    node = Node("y", op, ("x",), tuple(attrs.items()), type)
    np.testing.assert_array_equal(packing.apply(weight), by_compute(node, weight).ravel())
