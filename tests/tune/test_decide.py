"""Which method is the fastest, on times that are made up."""

from __future__ import annotations

import numpy as np
import pytest

from sol.tune.decide import gain, winner


def test_the_fastest_wins() -> None:
    times = {0: [100, 101, 102], 1: [80, 82, 81], 2: [70, 71, 72], 3: [120, 120, 120]}
    method, times_faster = winner(times)
    assert method == 2
    assert times_faster == pytest.approx(101 / 71)


def test_a_small_difference_is_none() -> None:
    assert winner({0: [100, 100, 100], 1: [98, 98, 98]}) == (0, 1.0)


def test_one_lucky_run_is_no_victory() -> None:
    assert winner({0: [100, 101, 102, 103], 1: [50, 101, 103, 102]}) == (0, 1.0)


def test_a_disturbed_default_is_no_victory() -> None:
    """The median of the default is bad, its least time is as good as the other's."""
    assert winner({0: [100, 190, 200, 210], 1: [100, 101, 102, 103]}) == (0, 1.0)


def test_a_victory_takes_some_times() -> None:
    assert winner({0: [100, 100], 1: [10, 10]}) == (0, 1.0)
    assert gain([100, 100, 100], [10, 10]) == 0.0


def test_without_others_the_default_stays() -> None:
    assert winner({0: [1, 2, 3]}) == (0, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_noise_flips_nothing(seed: int) -> None:
    """Six equal methods on a busy machine: times with a long tail."""
    rng = np.random.default_rng(seed)
    times = {m: list(1000 + rng.exponential(100, 20)) for m in range(6)}
    assert winner(times) == (0, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_noise_hides_no_clear_winner(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = {m: list((700 if m == 4 else 1000) + rng.exponential(100, 20)) for m in range(6)}
    assert winner(times)[0] == 4
