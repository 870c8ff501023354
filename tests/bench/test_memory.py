"""The peak of a stretch of code, above where it began."""

from __future__ import annotations

import numpy as np
import pytest

from sol.bench import memory

MIB = 2**20


def test_a_peak_is_seen_after_it_is_gone() -> None:
    memory.settle()
    mark = memory.start_peak()
    if mark is None:
        pytest.skip("this kernel does not let a process reset its peak")
    block = np.ones(64 * MIB, np.uint8)
    del block
    peak = memory.peak_since(mark)
    assert peak is not None
    assert 60 * MIB < peak < 90 * MIB


def test_a_later_peak_does_not_contain_an_earlier_one() -> None:
    block = np.ones(64 * MIB, np.uint8)
    del block
    mark = memory.start_peak()
    peak = memory.peak_since(mark)
    assert peak is None or peak < 30 * MIB
