"""A batch of no images is a batch: programs with every kind of kernel run, and give results without
elements, as the reference does.
"""

from __future__ import annotations

import functools

import pytest

from sol.core.dims import B, concrete
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Node, TensorType
from tests.compiler.programs import Case, Joined, build_joined, compare, expected, network
from tests.compiler.test_special_values import one_of_each
from tests.kernels import test_recurrent as recurrent

_LSTM = recurrent.recurrence("lstm", (B, 4, 3), 17, layers=2, bidirectional=True)


def _others(b: Builder) -> list[Node]:
    """Pooling, softmax, normalisation, a reduction, moves, element-wise operators."""
    x = b.input("x", TensorType((B, 4, 6, 6), F32))
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
    return [
        b.add("max_pool", x, ceil=False, **window),
        b.add("mean", x, axes=(2, 3), keepdims=False),
        b.add("softmax", x, axis=1),
        b.add("group_norm", x, groups=2, eps=1e-5, affine=False),
        b.add("concat", x, b.add("relu", x), axis=0),
        b.add("interpolate", x, size=(9, 5), mode="linear", align_corners=False, scales=None),
    ]


@functools.cache
def program() -> Joined:
    """A network for each kind of kernel."""
    cases = [case for case, _ in one_of_each()]
    cases += [Case("others", network(_others)), Case("lstm", _LSTM, -0.5, 0.5)]
    return build_joined(cases, flags=("-O1",))


@pytest.mark.parametrize("threads", [1, 2])
def test_results_without_elements(threads: int) -> None:
    joined = program()
    for case, found in zip(joined.cases, joined.run(0, threads), strict=True):
        shapes = [concrete(case.graph[o].shape, 0) for o in case.graph.outputs]
        assert [r.shape for r in found] == shapes, case.name
        assert all(r.size == 0 for r in found), case.name
        assert [r.shape for r in expected(case, 0)] == shapes, case.name


def test_a_batch_after_none() -> None:
    joined = program()
    joined.run(0)
    compare(joined, 2)
