"""Every entry of the table: complete, and its definitions agree with each other."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import sol.ops  # noqa: F401  fills the table
from sol.core.dims import concrete
from sol.core.dtypes import F64
from sol.ir.graph import Graph, types_of
from sol.ops import PUBLIC
from sol.ops.reference import by_compute, by_expansion, evaluate, in_float64
from sol.ops.registry import OPS, OpDef, Sample, attribute_names
from sol.ops.sampling import sample_arrays, sample_graph


def samples_of(entries: Iterable[OpDef]) -> list[Any]:
    return [
        pytest.param(entry, sample, id=f"{entry.name}-{n}")
        for entry in entries
        for n, sample in enumerate(entry.samples)
    ]


# not those that only plans contain: they are there if the planner was imported before
ENTRIES = {name: entry for name, entry in OPS.items() if name in PUBLIC}
EACH = samples_of(ENTRIES.values())
WITH_BOTH = samples_of(
    e for e in ENTRIES.values() if e.compute and e.reference and e.kind != "source"
)
WITH_GRAPH = samples_of(e for e in ENTRIES.values() if e.expand)


def in_double(graph: Graph, sample: Sample, seed: int = 0) -> tuple[Graph, dict[str, Any]]:
    """The graph in float64, and its inputs."""
    graph = in_float64(graph)
    arrays = sample_arrays(sample, seed)
    return graph, {n.name: arrays[n.name].astype(n.dtype.numpy) for n in graph.inputs}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_is_complete(entry: OpDef) -> None:
    assert entry.doc.endswith((".", "`")), "the documentation is one or more sentences"
    if entry.name in ("input", "parameter", "item"):
        return
    assert len(entry.samples) >= 2
    assert "`" in entry.doc or entry.name in ("concat", "constant", "argmax", "argmin")
    assert entry.compute or entry.expand or entry.reference, "an operator means something"
    if entry.kind == "elementwise" and entry.name != "prelu":
        assert entry.scalar is not None


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_attributes_are_named_and_have_no_defaults(entry: OpDef) -> None:
    parameters = inspect.signature(entry.infer).parameters.values()
    named = [p for p in parameters if p.kind == inspect.Parameter.KEYWORD_ONLY]
    assert all(p.default is inspect.Parameter.empty for p in named)
    for sample in entry.samples:
        assert sorted(sample.attrs) == sorted(attribute_names(entry))


@pytest.mark.parametrize(("entry", "sample"), EACH)
def test_a_sample_has_the_inferred_type(entry: OpDef, sample: Sample) -> None:
    graph = sample_graph(entry, sample)
    results = evaluate(graph, sample_arrays(sample))
    types = types_of(graph["y"])
    assert [r.shape for r in results] == [concrete(t.shape, 1) for t in types]
    assert [r.dtype.name for r in results] == [t.dtype.numpy for t in types]
    assert sum(r.size for r in results) <= 5000, "samples run on every backend: keep them small"


@pytest.mark.parametrize(("entry", "sample"), WITH_BOTH)
def test_the_expression_agrees_with_the_reference(entry: OpDef, sample: Sample) -> None:
    graph, arrays = in_double(sample_graph(entry, sample), sample)
    (expected,) = evaluate(graph, arrays)
    found = by_compute(graph["y"], *arrays.values())
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize(("entry", "sample"), WITH_GRAPH)
def test_the_graph_agrees_with_the_reference(entry: OpDef, sample: Sample) -> None:
    graph, arrays = in_double(sample_graph(entry, sample), sample)
    results = by_expansion(graph["y"], *arrays.values())
    for found, expected in zip(
        results if isinstance(results, tuple) else (results,), evaluate(graph, arrays), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize(("entry", "sample"), EACH)
def test_float32_is_near_float64(entry: OpDef, sample: Sample) -> None:
    """Formulas are stable: float32 loses a few digits, not all of them."""
    graph, arrays = sample_graph(entry, sample), sample_arrays(sample)
    for single, double in zip(evaluate(graph, arrays), evaluate(graph, arrays, dtype=F64)):
        if single.dtype == np.float32:
            np.testing.assert_allclose(single, double, rtol=2e-5, atol=1e-4)
