"""The named sets of benchmarks/run.py name networks and rivals that exist."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sol.bench import rivals, zoo
from sol.cli import parser


def _script() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "run.py"
    spec = importlib.util.spec_from_file_location("benchmarks_run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks_run"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["quick", "vision", "language", "batches", "memory"])
def test_a_suite_is_a_call_of_sol_bench(name: str) -> None:
    script = _script()
    suite = script.SUITES[name]
    parsed = parser().parse_args(script.arguments_of(suite))
    assert tuple(parsed.models) == suite.networks
    assert tuple(parsed.batch) == suite.batches
    for network in suite.networks:
        zoo.require(network)
    for rival in suite.rivals:
        rivals.find(rival)
