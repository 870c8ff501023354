"""Where arrays that stay lie in memory."""

from __future__ import annotations

import numpy as np

from sol.runtime.arena import Shelf

SIZES = (1, 63, 64, 65, 100_000, 300_000, 3_000_000)


def test_arrays_on_a_shelf_are_copies_at_cache_lines_that_do_not_overlap() -> None:
    shelf = Shelf()
    given = [np.random.default_rng(n).random(n, np.float32) for n in SIZES]
    kept = [shelf.keep(array) for array in given]
    for array, copy in zip(given, kept):
        assert copy.ctypes.data % 64 == 0
        assert not np.shares_memory(array, copy)
        np.testing.assert_array_equal(array, copy)


def test_shape_and_type_are_those_of_the_array() -> None:
    array = np.arange(24, dtype=np.int64).reshape(2, 3, 4).transpose(2, 0, 1)
    kept = Shelf().keep(array)
    assert kept.flags.c_contiguous
    assert kept.dtype == array.dtype
    np.testing.assert_array_equal(kept, array)


def test_an_array_outlives_its_shelf() -> None:
    shelf = Shelf()
    kept = [shelf.keep(np.full(n, n, np.int32)) for n in SIZES]
    del shelf
    assert all((array == n).all() for array, n in zip(kept, SIZES))


def test_an_emptied_shelf_gives_the_same_places_again() -> None:
    shelf = Shelf()
    first = [shelf.keep(np.full(n, 1, np.int32)) for n in SIZES]
    again = [shelf.emptied().keep(np.full(SIZES[0], 2, np.int32))]
    again += [shelf.keep(np.full(n, 2, np.int32)) for n in SIZES[1:]]
    assert [a.ctypes.data for a in again] == [f.ctypes.data for f in first]
    assert all((f == 2).all() for f in first)
