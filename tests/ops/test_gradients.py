"""The gradient of every operator: against finite differences, and against PyTorch's, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import sol.ops  # noqa: F401  fills the table
from sol.core.dtypes import F64
from sol.core.errors import UnsupportedError
from sol.ir.expr import SCALAR_OPS
from sol.ir.graph import Graph, types_of
from sol.ops import PUBLIC
from sol.ops.cells import CELLS
from sol.ops.derivative import PULLS
from sol.ops.reference import evaluate, in_float64
from sol.ops.registry import OPS, OpDef, Sample
from sol.ops.sampling import f32, sample_arrays, sample_graph
from sol.passes.autodiff import Joint, differentiate
from tests.ops.test_against_torch import MEANING

ENTRIES = [OPS[name] for name in sorted(PUBLIC)]
_STEP = 1e-6


def _has_gradient(entry: OpDef, sample: Sample) -> bool:
    real = any(t.dtype.kind == "float" for t in sample.inputs)
    if not real or not (entry.gradient or (entry.expand and not entry.why)):
        return False
    if entry.name == "adaptive_max_pool" and not _even(sample):
        return False
    types = types_of(sample_graph(entry, sample)["y"])
    return types[0].dtype.kind == "float" and types[0].shape.count(0) == 0


def _even(sample: Sample) -> bool:
    return all(n % o == 0 for n, o in zip(sample.inputs[0].shape[2:], sample.attrs["size"]))


def test_a_gradient_that_does_not_exist_is_refused() -> None:
    uneven = next(s for s in OPS["adaptive_max_pool"].samples if not _even(s))
    with pytest.raises(UnsupportedError, match="windows that overlap"):
        in_double(OPS["adaptive_max_pool"], uneven)
    with pytest.raises(UnsupportedError, match=r"grid_sample .* no gradient"):
        in_double(OPS["grid_sample"], OPS["grid_sample"].samples[0])


CASES = [
    pytest.param(entry, sample, id=f"{entry.name}-{n}")
    for entry in ENTRIES
    for n, sample in enumerate(entry.samples)
    if _has_gradient(entry, sample)
]


def test_an_entry_has_a_gradient_or_says_why_it_has_none() -> None:
    for entry in ENTRIES:
        assert bool(entry.why) != bool(entry.gradient or (entry.expand and not entry.why))


def test_every_scalar_operation_has_a_derivative() -> None:
    assert set(PULLS) | {"where"} == set(SCALAR_OPS)


def in_double(entry: OpDef, sample: Sample) -> tuple[Graph, Joint, dict[str, Any]]:
    """The sample in float64, its gradients, and its inputs."""
    graph = in_float64(sample_graph(entry, sample))
    if entry.name == "recurrence":  # what the cell keeps is no state, and nothing depends on it
        graph = Graph(graph.nodes, graph.outputs[: CELLS[sample.attrs["cell"]].states])
    wanted = [n.name for n in graph.inputs if n.dtype == F64]
    arrays = {n.name: sample_arrays(sample)[n.name].astype(n.dtype.numpy) for n in graph.inputs}
    return graph, differentiate(graph, wanted), arrays


def gradients(joint: Joint, arrays: dict[str, Any], *dy: Any) -> dict[str, Any]:
    """The gradient of every wanted input, for these gradients of the results."""
    found = evaluate(joint.graph, {**arrays, **dict(zip(joint.seeds, dy))}, batch=1)
    names = [w for w, g in zip(joint.wanted, joint.gradients) if g]
    values = found[len(joint.results) :]
    return {w: np.zeros_like(arrays[w]) for w in joint.wanted} | dict(zip(names, values))


def changes(results: Any) -> list[Any]:
    """Random gradients of results."""
    rng = np.random.default_rng(1)
    return [np.asarray(rng.standard_normal(y.shape)) for y in results]


@pytest.mark.parametrize(("entry", "sample"), CASES)
def test_against_finite_differences(entry: OpDef, sample: Sample) -> None:
    graph, joint, arrays = in_double(entry, sample)
    rng = np.random.default_rng(2)
    dy = changes(evaluate(graph, arrays))
    found = gradients(joint, arrays, *dy)
    for name in joint.wanted:
        direction = np.asarray(rng.standard_normal(arrays[name].shape))
        ends = [
            evaluate(graph, arrays | {name: arrays[name] + s * _STEP * direction}) for s in (-1, 1)
        ]
        expected = sum(np.sum(d * (b - a)) for d, a, b in zip(dy, *ends)) / (2 * _STEP)
        size = np.sum(np.abs(found[name] * direction)) + 1e-3
        assert abs(np.sum(found[name] * direction) - expected) < 1e-6 * size, name


def by_torch(entry: OpDef, sample: Sample, arrays: dict[str, Any], *dy: Any) -> dict[str, Any]:
    tensors = {n: torch.from_numpy(np.array(a)) for n, a in arrays.items()}
    wanted = {n: t.requires_grad_() for n, t in tensors.items() if t.is_floating_point()}
    y = MEANING[entry.name](sample.attrs, *tensors.values())
    results = y[: len(dy)] if isinstance(y, tuple) else (y,)
    if not isinstance(results[0], torch.Tensor) or not results[0].requires_grad:
        return {n: np.zeros_like(arrays[n]) for n in wanted}
    given = [torch.from_numpy(d) for d in dy]
    found = torch.autograd.grad(results, list(wanted.values()), given, allow_unused=True)
    return {n: np.zeros_like(arrays[n]) if g is None else g.numpy() for n, g in zip(wanted, found)}


@pytest.mark.parametrize(("entry", "sample"), CASES)
def test_against_torch(entry: OpDef, sample: Sample) -> None:
    graph, joint, arrays = in_double(entry, sample)
    if entry.name in ("batch_norm", "floordiv"):
        return  # PyTorch has no gradient of statistics, nor of a step
    dy = changes(evaluate(graph, arrays))
    expected = by_torch(entry, sample, arrays, *dy)
    for name, gradient in gradients(joint, arrays, *dy).items():
        np.testing.assert_allclose(
            gradient, expected[name], rtol=1e-7, atol=1e-10
        )  # hardsigmoid: 1/6 is a float32 there


KINKS: list[tuple[str, dict[str, Any], list[float]]] = [
    ("relu", {}, [-1.0, 0.0, 1.0, float("nan")]),
    ("abs", {}, [-1.0, 0.0, 1.0]),
    ("clamp", {"low": 0.0, "high": 6.0}, [-1.0, 0.0, 3.0, 6.0, 7.0]),
    ("leaky_relu", {"slope": 0.1}, [-1.0, 0.0, 1.0]),
    ("sqrt", {}, [1.0, 4.0]),
    ("norm", {"ord": 2.0, "axes": (0,), "keepdims": False}, [0.0, 0.0]),
    ("norm", {"ord": 3.0, "axes": (0,), "keepdims": False}, [0.0, 0.0]),
    ("prod", {"axes": (0,), "keepdims": False}, [2.0, 0.0, 3.0]),
    ("prod", {"axes": (0,), "keepdims": False}, [2.0, 0.0, 0.0]),
    ("max_reduce", {"axes": (0,), "keepdims": False}, [2.0, 1.0, 2.0]),
    ("softplus", {"beta": 1.0, "threshold": 20.0}, [-100.0, 19.0, 21.0, 1000.0]),
    ("sigmoid", {}, [-1000.0, 1000.0]),
    ("gelu", {"approximate": "none"}, [-1000.0, 0.0, 1000.0]),
    ("silu", {}, [-80.0, 0.0, 80.0]),
    ("mish", {}, [-80.0, 0.0, 25.0]),
    ("log_sigmoid", {}, [-1000.0, 0.5, 1000.0]),
    ("elu", {"alpha": 1.0, "scale": 1.0, "input_scale": 1.0}, [-1000.0, 1000.0]),
]


@pytest.mark.parametrize(("name", "attrs", "values"), KINKS)
def test_at_kinks_and_far_out(name: str, attrs: dict[str, Any], values: list[float]) -> None:
    sample = Sample((f32(len(values)),), attrs)
    graph, joint, _ = in_double(OPS[name], sample)
    arrays = {"x0": np.array(values)}
    (y,) = evaluate(graph, arrays)
    dy = np.ones(y.shape)
    expected = by_torch(OPS[name], sample, arrays, dy)
    found = gradients(joint, arrays, dy)
    np.testing.assert_allclose(found["x0"], expected["x0"], rtol=1e-9, atol=1e-12)
