"""Real workers on a small network: rows, reasons, sleep, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sol.bench import rivals, session
from sol.bench.client import Worker
from sol.bench.protocol import Command, Failed, Job, Ready, Round
from sol.bench.rivals import Rival
from sol.bench.run import benchmark
from sol.bench.session import Plan, compare
from sol.core.errors import InputError

TOYS = """
import torch
from torch import nn

def small(batch):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (torch.rand(batch, 3, 16, 16),)

def broken(batch):
    return nn.Linear(3, 3), (torch.zeros(batch, 4),)
"""


@pytest.fixture(autouse=True)
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks that are built in no time, in the current directory, where workers begin, too."""
    (tmp_path / "toynets.py").write_text(TOYS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("toynets", None)


def silent(text: str, done: int, steps: int) -> None:
    del text, done, steps


def job(folder: Path, rival: str = "eager", spec: str = "toynets:small") -> Job:
    return Job(spec, 1, rival, 1, 0, str(folder))


def children() -> set[int]:
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def state(pid: int) -> str:
    """One letter of the kernel: S sleeps, T is stopped, R runs."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_two_ways_of_pytorch() -> None:
    before = children()
    steps: list[tuple[str, int, int]] = []
    plan = Plan(("eager", "channels_last"), threads=1, rounds=3, seconds=0.01)
    found = compare("toynets:small", 2, plan, lambda *step: steps.append(step))
    assert [m.rival for m in found.measurements] == ["eager", "channels_last"]
    for m in found.measurements:
        assert m.reason == ""
        assert len(m.times_ms) >= 3
        assert m.error is not None
        assert 0 < m.error < 1e-5
        assert m.setup_cold_s is not None
        assert m.call_bytes is None or m.call_bytes < 50 * 2**20
    assert steps[-1] == ("done", 6, 6)
    assert [done for _, done, _ in steps] == [0, 1, 2, 3, 4, 5, 6]
    assert children() == before


def test_steps_of_training() -> None:
    plan = Plan(("eager", "openvino"), threads=1, rounds=1, seconds=0.01, train=True)
    found = compare("toynets:small", 2, plan, silent)
    eager, openvino = found.measurements
    assert found.train
    assert eager.reason == ""
    assert eager.error is not None
    assert 0 < eager.error < 1e-5
    assert eager.times_ms
    assert "openvino trains no networks" in openvino.reason or "not installed" in openvino.reason


def test_a_rival_that_is_missing_or_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (
        Rival("absent", "", rivals.RIVALS[1].prepare, packages=("no_such_package",)),
        Rival("unknown-to-workers", "", rivals.RIVALS[1].prepare),
    )
    monkeypatch.setattr(rivals, "RIVALS", (*rivals.RIVALS, *table))
    plan = Plan(("absent", "unknown-to-workers"), threads=1, rounds=1, seconds=0.01)
    absent, unknown = compare("toynets:small", 1, plan, silent).measurements
    assert absent.reason == "no_such_package is not installed"
    assert "no rival is named 'unknown-to-workers'" in unknown.reason
    assert absent.times_ms == unknown.times_ms == ()


def test_a_network_that_does_not_run_fails_alone() -> None:
    plan = Plan(("eager",), threads=1, rounds=1, seconds=0.01)
    result = benchmark(["toynets:broken", "toynets:small"], [1], plan, silent)
    broken, fine = (c.measurements[0] for c in result.comparisons)
    assert "does not run in PyTorch in float64" in broken.reason
    assert fine.reason == ""


def test_unknown_names_are_told_before_any_work() -> None:
    plan = Plan(("eager",), threads=1)
    with pytest.raises(InputError, match="has no function 'smal'"):
        benchmark(["toynets:small", "toynets:smal"], [1], plan, silent)
    with pytest.raises(InputError, match="no rival is named"):
        benchmark(["toynets:small"], [1], Plan(("eagre",), threads=1), silent)


def test_a_wrong_result_has_no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_error", lambda found, expected: float("nan"))
    plan = Plan(("eager",), threads=1, rounds=1, seconds=0.01)
    (row,) = compare("toynets:small", 1, plan, silent).measurements
    assert row.reason == "wrong result: error nan"
    assert row.times_ms == ()


def test_a_worker_that_sleeps_is_stopped(tmp_path: Path) -> None:
    before = children()
    with Worker(job(tmp_path), {}) as worker:
        (pid,) = children() - before
        assert isinstance(worker.answer(120), Ready)
        worker.sleep()
        _wait_for(pid, "T")
        worker.wake()
        assert isinstance(worker.ask(Command("round", 0.01), 60), Round)
    assert pid not in children()


def test_workers_die_with_their_session_even_asleep(tmp_path: Path) -> None:
    """Kill a session that has a sleeping worker; nothing is left."""
    code = (
        "import os, sys\nfrom sol.bench.client import Worker\nfrom sol.bench.protocol import Job\n"
        f"worker = Worker(Job('toynets:small', 1, 'eager', 1, 0, {str(tmp_path)!r}), {{}})\n"
        "worker.answer(120)\nworker.sleep()\n"
        "print(worker._process.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    end = time.monotonic() + 10
    while Path(f"/proc/{int(done.stdout)}").exists() and state(int(done.stdout)) != "Z":
        assert time.monotonic() < end, "the worker is still there"
        time.sleep(0.01)


def test_a_worker_that_is_late_or_dies_says_so(tmp_path: Path) -> None:
    with Worker(job(tmp_path), {}) as worker:
        assert worker.answer(0.01) == Failed("no answer within 0 s")
    before = children()
    with Worker(job(tmp_path), {}) as worker:
        (pid,) = children() - before
        os.kill(pid, 9)
        answer = worker.answer(60)
        assert isinstance(answer, Failed)
        assert "its process ended with SIGKILL" in answer.reason


def _wait_for(pid: int, letter: str) -> None:
    end = time.monotonic() + 10
    while state(pid) != letter:
        assert time.monotonic() < end, f"{pid} is {state(pid)}, not {letter}"
        time.sleep(0.01)


def test_error_is_of_the_worst_output() -> None:
    a, b = np.array([1.0, 2.0]), np.array([[10.0]])
    assert session._error([a, b], [a, b]) == 0.0
    assert session._error([a, b + 0.5], [a, b]) == pytest.approx(0.05)
    assert session._error([a], [a, b]) == float("inf")
    assert np.isnan(session._error([a * np.nan], [a]))
    assert session._error([b.reshape(1)], [b]) == 0.0


def test_everybody_begins_once() -> None:
    assert [session._rotated("abc", k)[0] for k in range(4)] == ["a", "b", "c", "a"]
    assert session._rotated([], 3) == []
