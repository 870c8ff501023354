"""Estimates of when the last core is done are those of the runtime's way of sharing out units."""

from __future__ import annotations

import re

import pytest

from sol.kernels import schedule
from sol.kernels.schedule import of_grid, of_units
from sol.runtime.native import source


def test_chunks_are_the_runtimes() -> None:
    found = re.search(r"CHUNKS_PER_SHARE = (\d+)", source("run.c"))
    assert found is not None
    assert int(found[1]) == schedule._CHUNKS


@pytest.mark.parametrize(
    ("units", "cores", "last"),
    [
        ([3.0], 2, 3.0),
        ([1.0] * 6, 2, 3.0),
        ([1.0] * 7, 2, 4.0),
        ([9, 9, 9, 5], 2, 18.0),
        ([8, 5] * 5, 2, 34.0),  # in halves 8 5 8 5 8 and 5 8 5 8 5
        ([8] * 5 + [5] * 5, 2, 33.0),  # in chunks of two: the other core takes the last one
        ([2.0, 2.0], 1, 4.0),
        ([1.0] * 4, 4, 1.0),
        ([], 2, 0.0),
    ],
)
def test_units(units: list[float], cores: int, last: float) -> None:
    assert of_units(units, cores) == last


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_a_grid_is_its_units(parts: int, cores: int) -> None:
    part, end = [3.0, 3.0, 1.0], [2.0, 2.0, 0.5]
    assert of_grid(parts, part, end, cores) == of_units(part * (parts - 1) + end, cores)


def test_no_core_is_done_before_its_part_of_the_work() -> None:
    units = [float(k % 7 + 1) for k in range(45)]
    for cores in (1, 2, 4, 16, 64):
        last = of_units(units, cores)
        assert max(sum(units) / cores, max(units)) <= last <= sum(units)
