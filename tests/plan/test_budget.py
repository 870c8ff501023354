"""Choices within a memory budget: what is given up, in which order, and the smallest figure."""

from __future__ import annotations

import pytest

from sol.plan.budget import Demand, Fit, Way, fit

PAGE = 4096
DEMAND = Demand(per_image=10 * PAGE, constant=0, own=0, tables=0, kept=PAGE, threads=2)
# the preferred way of a layer keeps four times as much as the plain one
LARGE = (Way(40 * PAGE, 4 * PAGE), Way(10 * PAGE, PAGE))
SMALL = (Way(8 * PAGE, PAGE), Way(2 * PAGE, PAGE))
LAYERS = (SMALL, LARGE)


def pages(budget: float) -> Fit:
    return fit(DEMAND, LAYERS, 4, int(budget * PAGE))


def test_the_total_is_arena_and_weights() -> None:
    ways = (SMALL[0], LARGE[0])
    assert DEMAND.total(ways, 4) == PAGE * (4 * 10 + 1 + 2 * 4 + 1 + 48)
    assert DEMAND.total((), 1) == PAGE * (10 + 1 + 1)


def test_each_thread_has_memory_for_an_image_alone_if_there_is_one_for_it() -> None:
    demand = Demand(per_image=64, constant=0, own=PAGE, tables=0, kept=0, threads=3)
    own = [demand.intermediates(images) - 64 * images for images in (1, 2, 3, 4, 100)]
    assert own == [PAGE, 2 * PAGE, 3 * PAGE, 3 * PAGE, 3 * PAGE]


def test_what_threads_have_for_themselves_begins_at_lines_of_the_cache() -> None:
    demand = Demand(per_image=1, constant=2, own=65, tables=8, kept=0, threads=2)
    assert demand.intermediates(1) == 64 + 128 + 2 * 64
    assert demand.intermediates(5) == 64 + 2 * 128 + 2 * 64


def test_nothing_changes_within_the_budget() -> None:
    assert pages(98) == Fit(4, (0, 0), 98 * PAGE)


@pytest.mark.parametrize(("budget", "images"), [(97.9, 3), (88, 3), (87, 2), (68, 1)])
def test_first_fewer_images_at_a_time(budget: float, images: int) -> None:
    found = pages(budget)
    assert (found.images, found.chosen) == (images, (0, 0))
    assert found.total <= budget * PAGE


def test_then_the_largest_layer() -> None:
    assert pages(67) == Fit(4, (0, 1), 62 * PAGE)  # and images come back


def test_then_the_others() -> None:
    found = pages(31)
    assert (found.images, found.chosen) == (1, (1, 1))
    assert found.total == pages(0).total == 26 * PAGE


def test_the_smallest_figure_if_there_is_no_way() -> None:
    assert pages(1).total == pages(25.9).total == 26 * PAGE


def test_layers_with_one_way_are_left_alone() -> None:
    layers = ((Way(5 * PAGE, 0),), LARGE)
    assert fit(DEMAND, layers, 1, 0).chosen == (0, 1)


def test_a_layer_given_up_in_vain_is_taken_back() -> None:
    """The scratch of the second layer stays the largest until it is given up, too."""
    demand = Demand(0, 0, 0, 0, 0, 1)
    layers = ((Way(0, 10 * PAGE), Way(0, PAGE)), (Way(8 * PAGE, PAGE), Way(0, PAGE)))
    assert fit(demand, layers, 1, 3 * PAGE).chosen == (1, 1)
    greedy = ((Way(4 * PAGE, 0), Way(PAGE, 0)), (Way(9 * PAGE, 0), Way(PAGE, 0)))
    assert fit(demand, greedy, 1, 6 * PAGE).chosen == (0, 1)
