"""Values that a forward program keeps: written where they are computed, in the planner's order, and
turned back by the backward graph."""

from __future__ import annotations

import numpy as np

from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.check import verify
from sol.ir.graph import Graph, TensorType
from sol.ops.reference import evaluate
from sol.ops.registry import builder, infer
from sol.passes.autodiff import differentiate
from sol.passes.partition import Halves, partition
from sol.plan.kept import keep_orders
from sol.plan.planner import make_plan
from tests.compiler.programs import Case, build_joined, compare


def network() -> Graph:
    """Two convolutions with a sigmoid between them."""
    b = builder()
    x = b.input("x", TensorType((B, 3, 9, 9), F32))
    window = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    for n, (i, o) in enumerate(((3, 8), (8, 5))):
        w = b.parameter(f"w{n}", TensorType((o, i, 3, 3), F32))
        x = b.add("sigmoid", b.add("conv", x, w, **window))
    return b.finish([x])


def halves() -> tuple[Halves, Halves]:
    """As they are cut, and with kept values in order."""
    cut = partition(differentiate(network(), ["w0", "w1"]))
    return cut, keep_orders(cut)


def test_maps_are_kept_with_channels_innermost() -> None:
    cut, kept = halves()
    assert cut.forward.outputs != kept.forward.outputs
    for graph in (kept.forward, kept.backward):
        verify(graph, infer)
    (name,) = (n for n in kept.saved if kept.forward[n].op == "kept")
    assert kept.forward[name]["axes"] == (0, 2, 3, 1)
    assert kept.backward[name].shape == (B, 9, 9, 8)


def test_a_kept_value_is_written_where_it_is_computed() -> None:
    forward = halves()[1].forward
    plan = make_plan(forward).plan
    (name,) = (n for n in forward.outputs if forward[n].op == "kept")
    (source,) = forward[name].inputs
    assert plan.places[source].buffer == name
    assert all(cluster.values != (f"{name}@0",) for cluster in plan.clusters)


def test_gradients_are_the_same() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 9, 9))
    parameters = {"w0": rng.standard_normal((8, 3, 3, 3)), "w1": rng.standard_normal((5, 8, 3, 3))}
    found = []
    for cut in halves():
        values = dict(
            zip(cut.forward.outputs, evaluate(cut.forward, {"x": x}, parameters, batch=2))
        )
        values["x"] = x
        given = {n: values[n] for n in cut.saved}
        given |= {s: np.ones_like(values[o]) for s, o in zip(cut.seeds, cut.forward.outputs) if s}
        found.append(evaluate(cut.backward, given, parameters, batch=2))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_what_lies_elsewhere_is_copied() -> None:
    """A value in an order that differs, and one that is computed nowhere else."""
    b = builder()
    x = b.input("x", TensorType((B, 3, 5, 4), F32))
    y = b.add("sigmoid", x)
    outputs = [
        b.add("kept", b.add("exp", y), axes=(0, 2, 3, 1)),
        b.add("kept", y, axes=(0, 1, 2, 3)),
        y,
    ]
    compare(build_joined([Case("kept", b.finish(outputs))], flags=("-O1",)), batch=2)
