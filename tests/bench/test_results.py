"""Ratios, means, JSON and tables of measurements that are written down here."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from sol.bench.results import Benchmark, Comparison, Measurement, geometric_mean
from sol.bench.table import show

MACHINE = {"processor": "abacus", "cores": 2, "system": "Linux", "python": "3.11"}


def comparison(network: str, **times: tuple[float, ...]) -> Comparison:
    rows = (
        Measurement(name, times_ms=t, error=1e-6, call_bytes=2**21, setup_cold_s=3.0)
        if t
        else Measurement(name, "it is not installed")
        for name, t in times.items()
    )
    return Comparison(network, 1, 2, 1_000_000, tuple(rows))


BENCHMARK = Benchmark(
    MACHINE,
    {"sol": "0.1.0"},
    {"rounds": 3},
    (
        comparison("first", sol=(2.0, 1.0, 4.0), eager=(4.0, 6.0), ncnn=()),
        comparison("second", sol=(3.0,), eager=(3.0,), ncnn=(6.0,)),
    ),
)


def test_ratio_is_of_the_fastest_calls() -> None:
    assert BENCHMARK.comparisons[0].ratio("eager", "sol") == 4.0
    assert BENCHMARK.comparisons[0].ratio("ncnn", "sol") is None
    assert BENCHMARK.comparisons[0].ratio("nobody", "sol") is None


def test_mean_ratio_is_geometric_and_counts() -> None:
    assert BENCHMARK.mean_ratio("eager", "sol") == (pytest.approx(2.0), 2)
    assert BENCHMARK.mean_ratio("ncnn", "sol") == (pytest.approx(2.0), 1)
    assert geometric_mean([]) is None


def test_the_baseline_is_the_first_that_ran() -> None:
    assert BENCHMARK.baseline() == "sol"
    without = Benchmark(MACHINE, {}, {}, (comparison("x", sol=(), eager=(1.0,)),))
    assert without.baseline() == "eager"
    assert Benchmark(MACHINE, {}, {}, (comparison("x", sol=()),)).baseline() == ""


def test_median() -> None:
    row = BENCHMARK.comparisons[0].of("sol")
    assert row is not None
    assert (row.min_ms, row.median_ms) == (1.0, 2.0)


def test_json_has_every_call_and_the_derived_figures() -> None:
    tree = json.loads(json.dumps(BENCHMARK.as_json()))
    row = tree["comparisons"][0]["measurements"][1]
    assert row["rival"] == "eager"
    assert row["times_ms"] == [4.0, 6.0]
    assert (row["min_ms"], row["median_ms"], row["ratio"]) == (4.0, 5.0, 4.0)
    assert tree["mean_ratio"]["ncnn"] == {"ratio": pytest.approx(2.0), "networks": 1}
    assert tree["machine"] == MACHINE


def test_json_is_standard_even_for_wrong_results() -> None:
    row = Measurement("sol", "wrong result: error nan", error=float("nan"))
    wrong = Benchmark(MACHINE, {}, {}, (Comparison("x", 1, 2, 3, (row,)),))
    tree = json.loads(json.dumps(wrong.as_json(), allow_nan=False))
    assert tree["comparisons"][0]["measurements"][0]["error"] is None


def test_tables_fit_80_columns_and_give_the_reasons() -> None:
    out = StringIO()
    show(BENCHMARK, Console(file=out, width=80))
    text = out.getvalue()
    assert "first: 1.0 million weights, batch 1, 2 threads" in text
    assert "ncnn: it is not installed" in text
    assert "all of them" in text
    assert "…" not in text
    tables = text.split("ratio   fastest")[0]
    assert max(map(len, tables.splitlines())) <= 80
