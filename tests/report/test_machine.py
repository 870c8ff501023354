"""Peaks are measured once for a device and a number of threads, and kept."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sol.core.device import CpuDevice, detect
from sol.report import machine
from sol.report.machine import Memory, Peaks, buffer_sizes, decode, encode, peaks
from sol.runtime.cache import Cache

FOUND = Peaks(2, 2e11, (Memory("L2", 1 << 20, 1e11), Memory("DRAM", None, 2e10)))


def test_they_are_kept_for_device_and_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = []

    def measure(device: CpuDevice, threads: int, store: Cache) -> Peaks:
        measured.append((device.name, threads))
        return replace(FOUND, threads=threads)

    monkeypatch.setattr(machine, "measure", measure)
    store, one = Cache(tmp_path / "cache"), replace(detect(), name="one")
    assert peaks(one, 1, store) == peaks(one, 1, store) == replace(FOUND, threads=1)
    peaks(one, 2, store)
    peaks(replace(one, name="other"), 1, store)
    peaks(one, 2, Cache(tmp_path / "cache"))
    assert measured == [("one", 1), ("one", 2), ("other", 1)]


def test_they_survive_the_disk() -> None:
    assert decode(encode(FOUND)) == FOUND
    assert str(FOUND) == "2 threads: 200 GFLOP/s, L2 100 GB/s, DRAM 20 GB/s"


def test_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_SECONDS", 0.001)
    monkeypatch.setattr(machine, "buffer_sizes", lambda device, threads: (4096, 8192, 16384))
    found = machine.measure(detect(), 2)
    assert found.flops > 0
    assert [m.name for m in found.memories] == ["L2", "L3", "DRAM"]
    assert all(m.rate > 0 for m in found.memories)
    assert found.memories[-1].capacity is None


@pytest.mark.parametrize("threads", [1, 2, 64])
@pytest.mark.parametrize("l3", [0, 8 << 20, 1 << 30])
def test_buffers_come_from_the_memory_that_is_meant(l3: int, threads: int) -> None:
    device = replace(detect(), l2=1 << 20, l3=l3)
    small, middle, large = buffer_sizes(device, threads)
    assert small < device.l2 < middle < large
    assert threads * large <= max(machine._MOST_BYTES, 2 * threads * middle)


def test_calls_begin_together() -> None:
    """Two that wait for each other: one after the other would never end."""
    barrier = threading.Barrier(2, timeout=60)
    assert machine.seconds_together([barrier.wait] * 2, 0.01) > 0
