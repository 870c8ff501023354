"""What was compiled once is not planned and lowered again: not in another process, not for an equal
network; and anything that the result follows from makes it another one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sol.compiler
from sol.compiler import Compiled, Options, compile_graph
from sol.core.device import detect
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Graph, TensorType
from sol.libraries import any_found
from sol.ops.registry import builder
from sol.runtime.cache import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known at first."""
    monkeypatch.setenv("SOL_CACHE_DIR", str(tmp_path / "cache"))
    if any_found():
        monkeypatch.setenv("SOL_LIBRARIES", "none")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The networks that were planned."""
    seen: list[Graph] = []
    plan = sol.compiler.plan_layers

    def counted(graph: Graph, *rest: Any) -> Any:
        seen.append(graph)
        return plan(graph, *rest)

    monkeypatch.setattr(sol.compiler, "plan_layers", counted)
    return seen


def network(outputs: int = 7) -> Graph:
    b = builder()
    x = b.input("x", TensorType((B, 5), F32))
    w = b.parameter("w", TensorType((outputs, 5), F32))
    return b.finish([b.add("relu", b.add("linear", x, w))])


def results(compiled: Compiled) -> np.ndarray[Any, Any]:
    x = np.linspace(-1, 1, 15, dtype="f4").reshape(3, 5)
    w = np.linspace(-2, 3, 35, dtype="f4").reshape(7, 5)
    compiled.prepare({"w": w})
    y = np.empty((3, 7), "f4")
    compiled.run([x.ctypes.data], [y.ctypes.data], 3, 1)
    np.testing.assert_allclose(y, np.maximum(x @ w.T, 0), rtol=1e-5)
    return y


def test_an_equal_network_is_found(made: list[Graph]) -> None:
    first, second = compile_graph(network()), compile_graph(network())
    assert len(made) == 1
    assert second.tensors == first.tensors
    assert second.source == first.source
    assert [m.why for m in second.steps] == [m.why for m in first.steps]
    np.testing.assert_array_equal(results(first), results(second))


def test_what_differs_is_another_one(made: list[Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    compile_graph(network())
    compile_graph(network(8))
    compile_graph(network(), Options(precision="strict"))
    compile_graph(network(), Options(memory=1 << 30))
    compile_graph(network(), device=replace(detect(), l2=1 << 19))
    compile_graph(network(), keep=True)  # keeps values in memory: neither found nor kept
    monkeypatch.setenv("SOL_FUEL", "0")
    compile_graph(network())
    assert len(made) == 7
    monkeypatch.delenv("SOL_FUEL")
    results(compile_graph(network()))
    assert len(made) == 7


def test_findings_of_tuning_count(made: list[Graph]) -> None:
    compile_graph(network())
    cache.replace("0" * 40, "tuned", b"a finding")
    compile_graph(network())
    compile_graph(network())
    assert len(made) == 2


def _entry(kind: str) -> Path:
    (path,) = (e.path for e in cache.entries() if e.kind == kind)
    return path


def test_a_record_without_its_library_is_made_again(made: list[Graph]) -> None:
    compile_graph(network())
    _entry("so").unlink()
    results(compile_graph(network()))
    assert len(made) == 2


def test_a_damaged_record_is_made_again(made: list[Graph]) -> None:
    compile_graph(network())
    path = _entry("made")
    path.write_bytes(path.read_bytes()[:-3])
    results(compile_graph(network()))
    assert len(made) == 2


def test_a_record_that_cannot_be_read_is_made_again(
    made: list[Graph], caplog: pytest.LogCaptureFixture
) -> None:
    compile_graph(network())
    key = _entry("made").name.partition(".")[0]
    cache.replace(key, "made", b"something else")
    results(compile_graph(network()))
    assert len(made) == 2
    assert "made again" in caplog.text


def test_dumps_are_of_a_whole_compilation(
    made: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_graph(network())
    monkeypatch.setenv("SOL_DUMP", str(tmp_path / "dump"))
    compile_graph(network())
    assert len(made) == 2
    assert list((tmp_path / "dump").rglob("*.c"))
