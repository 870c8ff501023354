"""Random networks as native code against the reference in float64: as exact as NumPy's float32.

With passes and without, for several batches by one program, with equal bits on any number of
threads and however the batch is cut into groups of images. The passes and the planner, which are
quick, see networks that hypothesis chooses and makes small.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sol.core.device import detect
from sol.core.dims import B
from sol.core.dtypes import F32, F64, I64
from sol.ir.check import verify
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.reference import evaluate
from sol.ops.registry import infer
from sol.passes.pipeline import run as run_passes
from sol.plan import runs
from sol.runtime.program import Program
from tests.compiler.programs import (
    Array,
    Case,
    Joined,
    build_joined,
    compare,
    conditioned,
    network,
    planned_steps,
    same_bits,
    wrong,
)
from tests.compiler.random_networks import random_network

_SEEDS = 110  # with these, every operator of the generator is in some network
_BATCHES = (1, 2, 5)
_QUICK = ("-O1",)  # the C compiler's time is most of what these tests take


def seeded(seed: int) -> Graph:
    """The network of a seed."""
    rng = random.Random(seed)
    return random_network(lambda n: rng.randrange(n))


@functools.cache
def networks() -> tuple[Case, ...]:
    """Networks of the first seeds, without those whose operators have all been in one before."""
    seen: set[str] = set()
    found = []
    for seed in range(_SEEDS):
        graph = seeded(seed)
        operators = {node.op for node in graph}
        if not operators <= seen:
            found.append(Case(f"seed {seed}", graph, -1.5, 1.5))
            seen |= operators
    return tuple(found)


@functools.cache
def program(optimise: bool, splittable: bool) -> Joined:
    """Those of the networks whose images are (not) independent, as one program."""
    device = detect()
    fitting = [
        case
        for case in networks()
        if planned_steps(case.graph, device, optimise)[0].plan.splittable == splittable
    ]
    with patch.object(runs, "_SHARED", 1 if optimise else runs._SHARED):  # runs of small maps, too
        return build_joined(fitting, device, optimise, flags=_QUICK, group=0)


def in_groups(joined: Joined, images: int, batch: int) -> list[list[Array]]:
    """The results when so many images pass through all steps at once."""
    whole = joined.compiled.program
    joined.compiled.program = Program(whole.path, group=images)
    try:
        return joined.run(batch, threads=2)
    finally:
        joined.compiled.program = whole


@pytest.mark.parametrize("splittable", [True, False])
@pytest.mark.parametrize("optimise", [True, False])
def test_random_networks_agree_with_the_reference(optimise: bool, splittable: bool) -> None:
    joined = program(optimise, splittable)
    assert len(joined.cases) > 2
    faults = []
    for batch in _BATCHES:
        for case, found in zip(joined.cases, joined.run(batch), strict=True):
            fault = wrong(case, found, *conditioned(case, batch))
            faults += [f"batch {batch}, {fault}"] if fault else []
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("splittable", [True, False])
@pytest.mark.parametrize("optimise", [True, False])
def test_threads_change_no_bit(optimise: bool, splittable: bool) -> None:
    joined = program(optimise, splittable)
    for batch in _BATCHES:
        alone = joined.run(batch, threads=1)
        for threads in (2, 3):
            assert same_bits(alone, joined.run(batch, threads)), (batch, threads)


@pytest.mark.parametrize("optimise", [True, False])
def test_groups_of_images_change_no_bit(optimise: bool) -> None:
    joined = program(optimise, True)
    assert joined.compiled.program.splittable
    whole = joined.run(5)
    for images in (1, 2, 3, 5, 9):
        assert same_bits(whole, in_groups(joined, images, 5)), images


def test_images_that_depend_on_each_other_are_never_cut() -> None:
    joined = program(True, False)
    assert same_bits(joined.run(5), in_groups(joined, 2, 5))


# ---- what random networks have found -------------------------------------------------------------


def _softmax_beside_the_batch(b: Builder) -> Node:
    return b.add("softmax", b.input("x", TensorType((16, 12, B), F32)), axis=1)


def _sums_beside_the_batch(b: Builder) -> Node:
    sums = b.add("cumsum", b.input("x", TensorType((16, 12, B), F32)), axis=1)
    return b.add("reshape", sums, shape=(16, B * 12))


def _taken_rows(b: Builder) -> Node:
    x = b.input("x", TensorType((B, 8, 14, 3), F32))
    rows = b.add("take", x, b.input("i", TensorType((1,), I64)), axis=1)
    return b.add("linear", rows, b.parameter("w", TensorType((4, 3), F32)))


def _one_result_per_image(b: Builder) -> Node:
    attrs = {"stride": (1,), "padding": ((1, 1),), "dilation": (1,), "groups": 1}
    x = b.input("x", TensorType((B, 6, 1), F32))
    return b.add("conv", x, b.parameter("w", TensorType((17, 6, 3), F32)), **attrs)


FOUND = (
    _softmax_beside_the_batch,
    _sums_beside_the_batch,
    _one_result_per_image,
    _taken_rows,
)


@pytest.mark.parametrize("make", FOUND, ids=lambda make: make.__name__.strip("_"))
def test_what_random_networks_have_found(make: Callable[[Builder], Node]) -> None:
    joined = build_joined([Case(make.__name__, network(make), 0, 2)], flags=_QUICK)
    for batch in _BATCHES:
        compare(joined, batch)


# ---- passes, on networks that hypothesis makes ---------------------------------------------------


@st.composite
def drawn(draw: st.DrawFn) -> Graph:
    """A network whose decisions are hypothesis's."""
    return random_network(lambda n: draw(st.integers(0, n - 1)))


@settings(max_examples=60, deadline=None)
@given(drawn())
def test_passes_keep_what_a_network_computes(graph: Graph) -> None:
    after = run_passes(graph, check=True)
    case = Case("drawn", graph, -1.5, 1.5)
    inputs = {n.name: case.array(n, 2) for n in graph.inputs}
    parameters = {n["key"]: case.array(n, 2) for n in graph.parameters}
    expected = evaluate(graph, inputs, parameters, batch=2, dtype=F64)
    found = evaluate(after, inputs, parameters, batch=2, dtype=F64)
    # both are float64; a constant that a pass computed is rounded to the type of its node
    rounded = bool(_constants(after) - _constants(graph))
    exact = replace(case, tolerance=1.0 if rounded else 1e-3)  # of float32's
    fault = wrong(exact, [np.asarray(a) for a in found], expected)
    assert not fault, fault


def _constants(graph: Graph) -> set[bytes]:
    return {n["value"].data for n in graph if n.op == "constant"}


@settings(max_examples=60, deadline=None)
@given(drawn(), st.booleans())
def test_every_network_is_planned_and_lowered(graph: Graph, optimise: bool) -> None:
    planned, made = planned_steps(graph, detect(), optimise)
    verify(planned.plan.graph, infer)
    assert len(made) == len(planned.plan.clusters)
    assert all(call.kernel.buffers for m in made for call in m.calls)
