"""Recurrent layers in training: all results and all gradients of the joint graph, compiled, against
float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sol.core.device import CpuDevice, detect
from sol.core.dtypes import F64
from sol.ir.graph import Graph
from sol.kernels.packings import Looped
from sol.ops.layers import reset_first
from sol.ops.reference import evaluate
from sol.ops.registry import builder
from sol.ops.sampling import f32
from sol.passes.autodiff import differentiate
from sol.passes.pipeline import run as run_passes
from tests.kernels.test_recurrent import FORMS, SHARING, B, by_key, calls, native, recurrence, run
from tests.kernels.test_recurrent import values as random_values


def check(graph: Graph, device: CpuDevice, batches: Sequence[int], results: Sequence[int]) -> Any:
    """Compile a graph with the gradients of all its inputs and parameters by these results."""
    graph = Graph(graph.nodes, tuple(graph.outputs[k] for k in results))
    wanted = [n.name for n in (*graph.inputs, *graph.parameters)]
    joint = differentiate(run_passes(graph), wanted)
    assert all(joint.gradients)
    parameters = by_key(joint.graph)
    compiled = native(joint.graph, parameters, device)
    scans = [m for m in compiled.steps if m.cluster.kind == "recurrent"]
    assert scans
    assert all(m.packed and isinstance(m.packed[2], Looped) for m in scans)  # in native code
    for batch in batches:
        given = random_values(joint.graph.inputs, batch, batch)
        expected = evaluate(joint.graph, given, parameters, batch, F64)
        for found, exact in zip(run(compiled, list(given.values()), batch), expected):
            np.testing.assert_allclose(found, exact, rtol=0, atol=2e-6 * np.abs(exact).max())
    return compiled


@FORMS
def test_two_directions(device: CpuDevice) -> None:
    """Hidden units are one and a bit of a block of columns."""
    graph = recurrence("gru", (B, 4, 3), 70, bidirectional=True)
    compiled = check(graph, device, (1, 5), range(2))
    if detect().vector_lanes(4) == 16:
        counts = [4, 4, 5, 5] if device is SHARING else [1] * 4
        assert sorted(calls(compiled)) == counts


@FORMS
@pytest.mark.parametrize("steps", [1, 3])
def test_few_steps(steps: int, device: CpuDevice) -> None:
    graph = recurrence("lstm", (steps, B, 3), 66, batch_first=False, bias=steps == 1)
    check(graph, device, (3,), range(3))


def test_two_layers() -> None:
    check(recurrence("lstm", (B, 3, 2), 5, layers=2), detect(), (2,), [0, 1])


def test_relu_cells_and_one_result() -> None:
    check(recurrence("rnn", (B, 3, 5), 20, nonlinearity="relu"), detect(), (2,), [0])


def test_only_the_last_state() -> None:
    graph = recurrence("lstm", (7, 3, 2), 18)
    check(graph, detect(), (1,), [2])


@FORMS
def test_a_reset_gate_before_the_product(device: CpuDevice) -> None:
    b = builder()
    x, start = b.input("x", f32(3, B, 4)), b.input("start", f32(1, B, 18))
    w_ih, w_hh = b.parameter("w_ih", f32(54, 4)), b.parameter("w_hh", f32(54, 18))
    biases = [b.parameter(f"bias{k}", f32(54)) for k in range(2)]
    gates = b.add("linear", x, w_ih, biases[0])
    y = reset_first(b.add, gates, w_hh, start, biases[1:], reverse=device is SHARING)
    check(b.finish([y]), device, (2,), [0])


def test_other_vector_widths() -> None:
    device = replace(SHARING, vector_bytes=16, vector_registers=16)
    graph = recurrence("rnn", (B, 3, 4), 21, nonlinearity="tanh")
    check(graph, device, (3,), [0])
